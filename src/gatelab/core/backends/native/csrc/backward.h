/* Back through time: one part's steps, for both variants of the cell.
 *
 * With D the gradient of a step's new state h', h the state that entered it, and d g the gradient of gate g's
 * pre-activation:
 *
 *   reset_after=1                               reset_after=0
 *   d ni = D (1 - z) (1 - n^2)                  d n = D z (1 - n^2)
 *   d z  = D (h - n) z (1 - z)                  d z = D (n - h) z (1 - z)
 *   d r  = d ni nh r (1 - r)                    dq  = W_hn' d n
 *   d nh = d ni r                               d r = dq h r (1 - r)
 *   dh   = D z + W_h' (d nh, d r, d z)          dh  = D (1 - z) + dq r + W_h' (d r, d z)
 *
 * With zoneout D is (1 - p) times what arrives, and p times it goes to dh as well.
 *
 * The gradients replace the gates. Those of the weights are products over all rows, left to the caller; the
 * biases' are summed here, where the numbers are at hand.
 */
#ifndef GATELAB_BACKWARD_H
#define GATELAB_BACKWARD_H

#include "matrix.h"
#include "walk.h"

/* The caller's `work`: dh [B][P], dq [B][P], and sums for the biases [threads][4][P], with P = padded(H). */
typedef struct {
    float *dh, *dq, *bias;
} workspace;

INLINE workspace workspace_of(const gru_call *c, int id) {
    idx across = padded(c->hidden), table = c->batch * across;
    return (workspace){c->work, c->work + table, c->work + 2 * table + id * 4 * across};
}

typedef struct {
    const gru_call *c;
    const part *p;
    const moment *m;
    packed_weights w;
    workspace to;
    idx inner, entering, rows; /* first rows of the step in N and in `states`; how many rows the part has */
} backward_step;

/* One row of the step, at unit u: every pointer that its pointwise part needs. */
typedef struct {
    float *gates, *dh, *dq;
    const float *h, *dy;
    int cut; /* the gradient that comes from the step after this one ends at its reset */
} backward_row;

INLINE backward_row backward_row_of(const backward_step *b, idx row) {
    const gru_call *c = b->c;
    idx place = b->p->first + row * b->p->step, across = padded(c->hidden);
    return (backward_row){
        c->gates + (b->inner + place) * c->gates_stride,
        b->to.dh + place * across,
        b->to.dq + place * across,
        c->states + (b->entering + place) * c->states_stride,
        c->dy ? c->dy + outer_row(c, b->m->s, place) * c->hidden : NULL,
        resets_at(c, b->m->s + 1, place),
    };
}

INLINE vec arriving(const backward_row *r, idx u, lanes inside) {
    vec d = r->cut ? (vec){0} : load(r->dh + u);
    return r->dy ? d + load_part(r->dy + u, inside) : d;
}

INLINE void add_bias(const backward_step *b, int block, idx u, vec sum) {
    float *bias = b->to.bias + block * padded(b->c->hidden) + u;
    store(bias, load(bias) + sum);
}

static void gates_after(const backward_step *b, idx u) {
    idx hidden = b->c->hidden;
    lanes inside = lanes_of(hidden - u);
    vec sum_nh = {0}, sum_r = {0}, sum_z = {0}, sum_n = {0};
    for (idx row = 0; row < b->rows; row++) {
        backward_row at = backward_row_of(b, row);
        float *g = at.gates + u;
        vec whole = arriving(&at, u, inside), d = whole * (1.0f - b->c->zoneout);
        vec nh = load_part(g, inside), r = load_part(g + hidden, inside);
        vec z = load_part(g + 2 * hidden, inside), n = load_part(g + 3 * hidden, inside);
        vec dn = d * (1.0f - z) * (1.0f - n * n);
        vec dz = d * (load_part(at.h + u, inside) - n) * (z * (1.0f - z));
        vec dr = dn * nh * (r * (1.0f - r));
        vec dnh = dn * r;
        store_part(g, inside, dnh);
        store_part(g + hidden, inside, dr);
        store_part(g + 2 * hidden, inside, dz);
        store_part(g + 3 * hidden, inside, dn);
        store(at.dh + u, d * z + (whole - d));
        sum_nh += dnh;
        sum_r += dr;
        sum_z += dz;
        sum_n += dn;
    }
    add_bias(b, 0, u, sum_nh);
    add_bias(b, 1, u, sum_r);
    add_bias(b, 2, u, sum_z);
    add_bias(b, 3, u, sum_n);
}

/* reset_after=0, before dq is known: d n, d z. */
static void gates_before(const backward_step *b, idx u) {
    idx hidden = b->c->hidden;
    lanes inside = lanes_of(hidden - u);
    vec sum_z = {0}, sum_n = {0};
    for (idx row = 0; row < b->rows; row++) {
        backward_row at = backward_row_of(b, row);
        float *g = at.gates + u;
        vec whole = arriving(&at, u, inside), d = whole * (1.0f - b->c->zoneout);
        vec z = load_part(g + 2 * hidden, inside), n = load_part(g + 3 * hidden, inside);
        vec dn = d * z * (1.0f - n * n);
        vec dz = d * (n - load_part(at.h + u, inside)) * (z * (1.0f - z));
        store_part(g + 2 * hidden, inside, dz);
        store_part(g + 3 * hidden, inside, dn);
        store(at.dh + u, d * (1.0f - z) + (whole - d));
        sum_z += dz;
        sum_n += dn;
    }
    add_bias(b, 2, u, sum_z);
    add_bias(b, 3, u, sum_n);
}

/* reset_after=0, once dq is known: d r, and dq's share of dh. */
static void gates_reset(const backward_step *b, idx u) {
    idx hidden = b->c->hidden;
    lanes inside = lanes_of(hidden - u);
    vec sum_r = {0};
    for (idx row = 0; row < b->rows; row++) {
        backward_row at = backward_row_of(b, row);
        vec r = load_part(at.gates + hidden + u, inside), dq = load(at.dq + u);
        vec dr = dq * load_part(at.h + u, inside) * (r * (1.0f - r));
        store_part(at.gates + hidden + u, inside, dr);
        store(at.dh + u, load(at.dh + u) + dq * r);
        sum_r += dr;
    }
    add_bias(b, 1, u, sum_r);
}

INLINE void pointwise(const backward_step *b, void (*gates)(const backward_step *, idx)) {
    idx end = min_idx(b->p->panel1 * COLS, b->c->hidden);
    for (idx u = b->p->panel0 * COLS; u < end; u += W)
        gates(b, u);
}

/* to (+)= the gates' gradients, from block `block` on, times `depth` rows of the packed W_hh from row `from` on. */
static void multiply_back(const backward_step *b, idx block, idx from, idx depth, float *to, int add) {
    const gru_call *c = b->c;
    idx bf16 = c->bf16, across = padded(c->hidden), size = panel_size(3 * c->hidden, bf16), panel0 = b->p->panel0;
    idx panels = b->p->panel1 - panel0, place = b->p->first, step = b->p->step;
    product p = {b->w.back + panel0 * size + panel_size(from, bf16), depth, panels, size, add ? 0 : panels, bf16};
    const float *gradients = c->gates + (b->inner + place) * c->gates_stride + block * c->hidden;
    multiply(p, gradients, b->rows, step * c->gates_stride, to + place * across + panel0 * COLS, step * across, COLS);
}

static void backward_one(const backward_step *b) {
    idx hidden = b->c->hidden;
    if (b->c->reset_after) {
        pointwise(b, gates_after);
        wait_for_all(b->p);
        multiply_back(b, 0, 0, 3 * hidden, b->to.dh, 1);
        return;
    }
    pointwise(b, gates_before);
    wait_for_all(b->p);
    multiply_back(b, 3, 0, hidden, b->to.dq, 0);
    pointwise(b, gates_reset);
    wait_for_all(b->p);
    multiply_back(b, 1, hidden, 2 * hidden, b->to.dh, 1);
}

static void backward_part(const gru_call *c, const part *p) {
    moment m = last_moment(c);
    idx across = padded(c->hidden), hidden = c->hidden;
    backward_step b = {c, p, &m, unpack(c->packed, c->inputs, hidden), workspace_of(c, p->id), 0, 0, 0};
    idx u0 = p->panel0 * COLS, u1 = p->panel1 * COLS;
    memset(b.to.bias, 0, (size_t)(4 * across) * sizeof(float));
    for (idx place = p->first; place < p->last; place += p->step) {
        const float *from = c->dh_n ? c->dh_n + batch_row(c, place) * hidden : NULL;
        for (idx u = u0; u < u1; u++)
            b.to.dh[place * across + u] = from && u < hidden ? from[u] : 0.0f;
    }
    for (; m.s >= 0; step_back(c, &m)) {
        b.inner = inner_row(c, &m);
        b.entering = state_row(c, &m, 0);
        b.rows = places_below(p, m.active);
        backward_one(&b);
    }
    for (idx place = p->first; place < p->last; place += p->step) {
        float *to = c->dh0 + batch_row(c, place) * hidden;
        int cut = resets_at(c, 0, place);
        for (idx u = u0; u < min_idx(u1, hidden); u++)
            to[u] = cut ? 0.0f : b.to.dh[place * across + u];
    }
}

/* dbias [4][H] from the threads' sums, in the threads' order: the same bits every time. */
static void reduce_bias(const gru_call *c, int members) {
    idx across = padded(c->hidden);
    for (int block = 0; block < 4; block++)
        for (idx u = 0; u < c->hidden; u++) {
            float sum = 0.0f;
            for (int id = 0; id < members; id++)
                sum += workspace_of(c, id).bias[block * across + u];
            c->dbias[block * c->hidden + u] = sum;
        }
}

/* The gradients of the weights and of the inputs: products over all rows of all steps, for one part of the threads.
 *
 * With G the gradients of the pre-activations [N, 3H], X the inputs [N, D] and S the states that entered the steps:
 *
 *   dW_ih = G' X        dW_hh = G' S  (for reset_after=0 its last block is d n' q, with q = r * h)        dX = G W_ih
 *
 * N is long and the rest is narrow, which is where a general library's product is far from its best. Threads
 * share the rows of dW and those of dX, so no sum depends on how many there are.
 */
#define DX_ROWS (8 * TALL) /* rows a time for dX */

/* dX for rows [n0, n1). */
static void input_gradient(const gru_call *c, packed_weights w, float *table, idx n0, idx n1) {
    idx inputs = c->inputs, panels = panels_of(inputs), across = padded(inputs), depth = 3 * c->hidden;
    for (idx n = n0; n < n1; n += DX_ROWS) {
        idx rows = min_idx(DX_ROWS, n1 - n);
        product p = {w.input_back, depth, panels, panel_size(depth, c->bf16), panels, c->bf16};
        multiply(p, c->gates + n * c->gates_stride + c->hidden, rows, c->gates_stride, table, across, COLS);
        for (idx r = 0; r < rows; r++)
            memcpy(c->dx + (n + r) * inputs, table + r * across, (size_t)inputs * sizeof(float));
    }
}

static void gradients_part(const gru_call *c, const part *p) {
    idx hidden = c->hidden, count = c->lengths ? 0 : c->steps * c->batch;
    for (idx place = 0; c->lengths && place < c->batch; place++)
        count += c->lengths[place];
    idx bf16 = c->bf16, f0 = share(3 * hidden, p->id, p->members), f1 = share(3 * hidden, p->id + 1, p->members);
    rows_of gates = {c->gates, c->gates_stride}, inner = {c->gates + hidden, c->gates_stride};
    if (c->dw_ih)
        product_over_rows(inner, f0, f1, (rows_of){c->x, c->inputs}, c->inputs, count, bf16, 0, c->dw_ih);
    if (c->dw_hh) {
        idx before = c->reverse && !c->lengths ? c->batch : 0; /* slot 0 is the state after the last step then */
        rows_of states = {c->states + before * c->states_stride, c->states_stride};
        idx border = 2 * hidden, lower0 = f0 > border ? f0 : border, lower1 = f1 > border ? f1 : border;
        product_over_rows(inner, min_idx(f0, border), min_idx(f1, border), states, hidden, count, bf16, 0, c->dw_hh);
        /* the rows of n: d nh stands in the first block, or d n in the last */
        rows_of of_n = {c->reset_after ? c->gates - border : c->gates + hidden, c->gates_stride};
        product_over_rows(of_n, lower0, lower1, c->reset_after ? states : gates, hidden, count, bf16, 0, c->dw_hh);
    }
    if (c->dx) {
        float *table = c->work + padded(hidden) * (2 * c->batch + 4 * c->threads) + p->id * DX_ROWS * padded(c->inputs);
        input_gradient(c, unpack(c->packed, c->inputs, hidden), table, share(count, p->id, p->members),
                       share(count, p->id + 1, p->members));
    }
}

#endif
