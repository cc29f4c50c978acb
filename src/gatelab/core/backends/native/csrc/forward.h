/* The forward pass: one part's steps, for both variants of the cell.
 *
 *   reset_after=1                               reset_after=0
 *   r  = sigmoid(W_ir x + W_hr h + b_r)         r  = sigmoid(W_ir x + W_hr h + b_r)
 *   z  = sigmoid(W_iz x + W_hz h + b_z)         z  = sigmoid(W_iz x + W_hz h + b_z)
 *   nh = W_hn h + b_nh                          q  = r * h
 *   n  = tanh(W_in x + b_ni + r * nh)           n  = tanh(W_in x + b_n + W_hn q)
 *   h' = n + z (h - n)                          h' = (1 - z) h + z n
 *
 * A few rows and one panel of units at a time: the products go to a small table (`sums`, blocks in the order
 * nh, r, z, ni) that never leaves the first-level cache, and the gates are computed from there.
 */
#ifndef GATELAB_FORWARD_H
#define GATELAB_FORWARD_H

#include "walk.h"

#define ROWS (2 * TALL) /* rows at a time: they share what a panel's pass brought into the cache */
#define SUMS (4 * COLS)

/* What one step of one part works on. Rows are counted from the part's first place. */
typedef struct {
    const gru_call *c;
    const part *p;
    const moment *m;
    packed_weights w;
    idx inner, entering, next; /* first rows of the step in N, in `states`, and in `states` for the next step */
    idx gates;                 /* first row in `gates` */
} forward_step;

INLINE idx place_of(const part *p, idx row) { return p->first + row * p->step; }

INLINE float *entering_state(const forward_step *f, idx place) {
    return f->c->states + (f->entering + place) * f->c->states_stride;
}

INLINE float *gates_of(const forward_step *f, idx place) { return f->c->gates + (f->gates + place) * f->c->gates_stride; }

/* Where a row's new state goes: to y, and to the next step's entering states, there perhaps as zero. */
typedef struct {
    float *y, *next;
    int reset;
} destination;

INLINE destination destination_of(const forward_step *f, idx place) {
    const gru_call *c = f->c;
    destination d;
    int followed = !(c->training && c->lengths) || place < f->m->next_active;
    d.y = c->y + outer_row(c, f->m->s, place) * c->hidden;
    d.next = followed ? c->states + (f->next + place) * c->states_stride : d.y;
    d.reset = followed && resets_at(c, f->m->s + 1, place);
    return d;
}

INLINE void put(destination d, idx u, lanes n, vec h) {
    store_part(d.y + u, n, h);
    if (d.next != d.y)
        store_part(d.next + u, n, d.reset ? (vec){0} : h);
}

/* Zoneout's expectation of a new state. */
INLINE vec average(const gru_call *c, vec next, vec h) {
    float p = c->zoneout;
    return p > 0.0f ? p * h + (1.0f - p) * next : next; /* 0 times an infinite state is NaN */
}

/* sums of r, z (and n, for reset_after=1): the recurrent products, and those of the inputs if they are fused. */
static void sum_gates(const forward_step *f, idx row, idx rows, idx panel, float *sums) {
    const gru_call *c = f->c;
    idx place = place_of(f->p, row), across = panels_of(c->hidden);
    idx skip = c->reset_after ? 0 : 1, bf16 = c->bf16; /* skip W_hn h */
    if (c->inputs) {
        idx size = panel_size(c->inputs, bf16);
        product in = {f->w.input + panel * size, c->inputs, 3, across * size, 3, bf16};
        multiply(in, c->x + (f->inner + place) * c->inputs, rows, f->p->step * c->inputs, sums + COLS, SUMS, COLS);
    }
    idx size = panel_size(c->hidden, bf16);
    product recurrent = {f->w.recurrent + (skip * across + panel) * size, c->hidden, 3 - skip, across * size,
                         c->inputs ? 1 - skip : 3, bf16};
    multiply(recurrent, entering_state(f, place), rows, f->p->step * c->states_stride, sums + skip * COLS, SUMS, COLS);
}

/* What W_ih x gives gate `g` (0 r, 1 z, 2 n) of a row: from the sums, where it is in already for r and z, or from
 * `projected`. */
INLINE vec input_part(const forward_step *f, const float *projected, const float *sums, int g, idx u, lanes n) {
    if (f->c->inputs)
        return g < 2 ? (vec){0} : load(sums + 3 * COLS);
    return load_part(projected + g * f->c->hidden + u, n);
}

INLINE const float *projected_row(const forward_step *f, idx place) {
    return f->c->inputs ? NULL : f->c->projected + (f->inner + place) * f->c->projected_stride;
}

/* reset_after=1: the gates and the new state. reset_after=0: the first half, q, r, z and W_in x into `gates`. */
INLINE void finish_gates(const forward_step *f, idx row, idx rows, idx panel, const float *sums, const int after) {
    const gru_call *c = f->c;
    idx across = padded(c->hidden), hidden = c->hidden;
    for (idx i = 0; i < rows; i++) {
        idx place = place_of(f->p, row + i);
        const float *projected = projected_row(f, place), *old = entering_state(f, place);
        float *gates = c->training || !after ? gates_of(f, place) : NULL;
        destination to = after ? destination_of(f, place) : (destination){0};
        for (idx u = panel * COLS, v = 0; v < 2; v++, u += W) {
            const float *sum = sums + i * SUMS + v * W, *bias = f->w.bias + u;
            lanes inside = lanes_of(hidden - u);
            vec r = load(sum + COLS) + load(bias + across) + input_part(f, projected, sum, 0, u, inside);
            vec z = load(sum + 2 * COLS) + load(bias + 2 * across) + input_part(f, projected, sum, 1, u, inside);
            vec n = load(bias + 3 * across) + input_part(f, projected, sum, 2, u, inside);
            vec h = load_part(old + u, inside), first;
            r = sigmoid(r);
            z = sigmoid(z);
            if (after) {
                first = load(sum) + load(bias);
                n = tanh_of(r * first + n);
                put(to, u, inside, average(c, z * (h - n) + n, h));
            } else {
                first = r * h;
            }
            if (gates) {
                store_part(gates + u, inside, first);
                store_part(gates + hidden + u, inside, r);
                store_part(gates + 2 * hidden + u, inside, z);
                store_part(gates + 3 * hidden + u, inside, n);
            }
        }
    }
}

/* The second half of reset_after=0: n and the new state from the product with q, in the sums' first block. */
static void finish_before(const forward_step *f, idx row, idx rows, idx panel, const float *sums) {
    const gru_call *c = f->c;
    idx hidden = c->hidden;
    for (idx i = 0; i < rows; i++) {
        idx place = place_of(f->p, row + i);
        const float *old = entering_state(f, place);
        float *gates = gates_of(f, place);
        destination to = destination_of(f, place);
        for (idx u = panel * COLS, v = 0; v < 2; v++, u += W) {
            lanes inside = lanes_of(hidden - u);
            vec h = load_part(old + u, inside), z = load_part(gates + 2 * hidden + u, inside);
            vec n = tanh_of(load(sums + i * SUMS + v * W) + load_part(gates + 3 * hidden + u, inside));
            store_part(gates + 3 * hidden + u, inside, n);
            put(to, u, inside, average(c, (1.0f - z) * h + z * n, h));
        }
    }
}

static void forward_one(const forward_step *f) {
    const gru_call *c = f->c;
    const part *p = f->p;
    float sums[ROWS * SUMS] __attribute__((aligned(64)));
    idx count = places_below(p, f->m->active), size = panel_size(c->hidden, c->bf16);
    for (idx panel = p->panel0; panel < p->panel1; panel++)
        for (idx row = 0; row < count; row += ROWS) {
            idx rows = min_idx(ROWS, count - row);
            sum_gates(f, row, rows, panel, sums);
            if (c->reset_after)
                finish_gates(f, row, rows, panel, sums, 1);
            else
                finish_gates(f, row, rows, panel, sums, 0);
        }
    wait_for_all(p);
    if (c->reset_after)
        return;
    for (idx panel = p->panel0; panel < p->panel1; panel++)
        for (idx row = 0; row < count; row += ROWS) {
            idx rows = min_idx(ROWS, count - row);
            product of_q = {f->w.recurrent + panel * size, c->hidden, 1, 0, 1, c->bf16};
            multiply(of_q, gates_of(f, place_of(p, row)), rows, p->step * c->gates_stride, sums, SUMS, COLS);
            finish_before(f, row, rows, panel, sums);
        }
    wait_for_all(p);
}

/* The part's units of one row. */
INLINE void copy_units(const part *p, idx hidden, float *to, const float *from) {
    idx u0 = p->panel0 * COLS, u1 = min_idx(hidden, p->panel1 * COLS);
    if (u1 > u0)
        memcpy(to + u0, from + u0, (size_t)(u1 - u0) * sizeof(float));
}

INLINE void zero_units(const part *p, idx hidden, float *to) {
    idx u0 = p->panel0 * COLS, u1 = min_idx(hidden, p->panel1 * COLS);
    if (u1 > u0)
        memset(to + u0, 0, (size_t)(u1 - u0) * sizeof(float));
}

static void forward_part(const gru_call *c, const part *p) {
    moment m = first_moment(c);
    forward_step f = {c, p, &m, unpack(c->packed, c->inputs, c->hidden), 0, 0, 0, 0};
    idx start = state_row(c, &m, 0), hidden = c->hidden;
    for (idx place = p->first; place < m.active && place < p->last; place += p->step) {
        float *state = c->states + (start + place) * c->states_stride;
        copy_units(p, hidden, state, c->h0 + batch_row(c, place) * hidden);
        if (resets_at(c, 0, place))
            zero_units(p, hidden, state);
    }
    wait_for_all(p);
    for (; m.s < c->steps && m.active > 0; step_on(c, &m)) {
        f.inner = inner_row(c, &m);
        f.entering = state_row(c, &m, 0);
        f.next = state_row(c, &m, 1);
        f.gates = c->training ? f.inner : 0;
        forward_one(&f);
    }
    for (idx place = p->first; place < p->last; place += p->step) {
        idx b = batch_row(c, place), length = length_of(c, place);
        const float *last = length ? c->y + outer_row(c, length - 1, place) * hidden : c->h0 + b * hidden;
        copy_units(p, hidden, c->h_n + b * hidden, last);
        for (idx time = length; time < c->steps; time++)
            zero_units(p, hidden, c->y + (time * c->batch + b) * hidden);
    }
}

#endif
