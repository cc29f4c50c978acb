/* A fuzz of the kernel on its own, for the sanitizers: exact buffers from malloc, poisoned, random calls.
 *
 * Each call's outputs are compared with a plain double-precision loop, and the gradients with a central difference
 * of that loop along one random direction. Built and run by test_sanitizers.py (or by hand: cc -fsanitize=address,
 * undefined -fopenmp driver.c -lm); it prints how many calls it made and exits with 1 at the first that differs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../../src/gatelab/core/backends/native/csrc/gru.c"

static uint64_t seed = 1;
static uint64_t next_number(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
static idx pick(idx low, idx high) { return low + (idx)(next_number() % (uint64_t)(high - low + 1)); }
static double uniform(void) { return (double)(next_number() >> 11) / 4503599627370496.0 - 1.0; }

static float *numbers(idx count, double scale) {
    float *p = malloc((size_t)count * sizeof(float));
    for (idx i = 0; i < count; i++)
        p[i] = (float)(scale * uniform());
    return p;
}

static float *poisoned(idx count) {
    float *p = malloc((size_t)count * sizeof(float));
    for (idx i = 0; i < count; i++)
        p[i] = NAN;
    return p;
}

static double *as_doubles(const float *from, idx count) {
    double *to = malloc((size_t)count * sizeof(double));
    for (idx i = 0; i < count; i++)
        to[i] = from[i];
    return to;
}

typedef struct {
    idx T, B, D, H, N;
    int reset_after, reverse;
    idx *lengths, *rows; /* by place; lengths may be NULL */
    uint8_t *resets;
    float *x, *w_ih, *w_hh, *b_ih, *b_hh, *h0, *dy, *dh_n; /* x is [T, B, D] by batch row here */
} problem;

static double squash(double a) { return 1 / (1 + exp(-a)); }

/* One row through one step, in double precision. */
static void reference_step(const problem *p, const double *x, const double *w_ih, const double *w_hh, double *h) {
    idx D = p->D, H = p->H;
    double *gates = calloc((size_t)(7 * H), sizeof(double)), *q = gates + 6 * H;
    for (idx i = 0; i < 3 * H; i++) {
        gates[i] = p->b_ih[i];
        for (idx k = 0; k < D; k++)
            gates[i] += w_ih[i * D + k] * x[k];
        gates[3 * H + i] = p->reset_after ? p->b_hh[i] : 0;
        for (idx k = 0; k < H; k++)
            gates[3 * H + i] += w_hh[i * H + k] * h[k];
    }
    for (idx u = 0; u < H; u++) {
        gates[u] = squash(gates[u] + gates[3 * H + u]);
        gates[H + u] = squash(gates[H + u] + gates[4 * H + u]);
        q[u] = gates[u] * h[u];
    }
    for (idx u = 0; u < H; u++) {
        double recurrent = gates[u] * gates[5 * H + u];
        if (!p->reset_after) {
            recurrent = 0;
            for (idx k = 0; k < H; k++)
                recurrent += w_hh[(2 * H + u) * H + k] * q[k];
        }
        double n = tanh(gates[2 * H + u] + recurrent), z = gates[H + u];
        h[u] = p->reset_after ? n + z * (h[u] - n) : h[u] + z * (n - h[u]);
    }
    free(gates);
}

/* Runs the loop; returns sum(y dy) + sum(h_n dh_n) and fills y [T,B,H] and h_n [B,H]. */
static double reference(const problem *p, const double *h0, double *y, double *h_n) {
    idx T = p->T, B = p->B, D = p->D, H = p->H;
    double *x = as_doubles(p->x, T * B * D), *w_ih = as_doubles(p->w_ih, 3 * H * D);
    double *w_hh = as_doubles(p->w_hh, 3 * H * H), *h = malloc((size_t)H * sizeof(double)), loss = 0;
    for (idx i = 0; i < B; i++) {
        idx b = p->rows ? p->rows[i] : i, length = p->lengths ? p->lengths[i] : T;
        memcpy(h, h0 + b * H, (size_t)H * sizeof(double));
        for (idx s = 0; s < length; s++) {
            idx row = (p->reverse ? length - 1 - s : s) * B + b;
            for (idx u = 0; u < H; u++)
                h[u] = p->resets && p->resets[row] ? 0 : h[u];
            reference_step(p, x + row * D, w_ih, w_hh, h);
            for (idx u = 0; u < H; u++) {
                y[row * H + u] = h[u];
                loss += h[u] * p->dy[row * H + u];
            }
        }
        for (idx u = 0; u < H; u++) {
            h_n[b * H + u] = h[u];
            loss += h[u] * p->dh_n[b * H + u];
        }
    }
    free(x), free(w_ih), free(w_hh), free(h);
    return loss;
}

static problem make_problem(void) {
    static const idx sizes[] = {1, 2, 3, 7, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65};
    problem p = {.T = pick(1, 6), .B = sizes[pick(0, 11)], .D = sizes[pick(0, 7)], .H = sizes[pick(0, 14)]};
    p.reset_after = (int)pick(0, 1);
    p.reverse = (int)pick(0, 1);
    p.N = p.T * p.B;
    if (pick(0, 1)) {
        p.lengths = malloc((size_t)p.B * sizeof(idx));
        p.rows = malloc((size_t)p.B * sizeof(idx));
        idx longest = p.T, turn = pick(0, p.B - 1);
        p.N = 0;
        for (idx i = 0; i < p.B; i++) {
            longest = pick(longest > 1 ? longest - 2 : 0, longest);
            p.lengths[i] = longest;
            p.rows[i] = (i + turn) % p.B;
            p.N += longest;
        }
    }
    if (pick(0, 1)) {
        p.resets = malloc((size_t)(p.T * p.B));
        for (idx i = 0; i < p.T * p.B; i++)
            p.resets[i] = pick(0, 3) == 0;
    }
    idx all_rows = p.T * p.B;
    p.x = numbers(all_rows * p.D, 1), p.w_ih = numbers(3 * p.H * p.D, 0.5), p.b_ih = numbers(3 * p.H, 0.5);
    p.w_hh = numbers(3 * p.H * p.H, 1.5 / sqrt((double)p.H)), p.b_hh = numbers(3 * p.H, 0.5);
    p.h0 = numbers(p.B * p.H, 1), p.dy = numbers(all_rows * p.H, 1), p.dh_n = numbers(p.B * p.H, 1);
    return p;
}

static void free_problem(problem *p) {
    free(p->lengths), free(p->rows), free(p->resets), free(p->x), free(p->w_ih), free(p->w_hh), free(p->b_ih);
    free(p->b_hh), free(p->h0), free(p->dy), free(p->dh_n);
}

/* The rows of x in the kernel's order; returns [N, D]. */
static float *inner_rows(const problem *p) {
    float *to = malloc((size_t)(p->N * p->D) * sizeof(float));
    idx n = 0;
    for (idx s = 0; s < p->T; s++)
        for (idx i = 0; i < p->B; i++) {
            idx length = p->lengths ? p->lengths[i] : p->T;
            idx time = p->reverse && p->lengths ? length - 1 - s : s, b = p->rows ? p->rows[i] : i;
            if (s < length)
                memcpy(to + n++ * p->D, p->x + (time * p->B + b) * p->D, (size_t)p->D * sizeof(float));
        }
    return to;
}

static int differ(const char *what, double a, double b, double tolerance) {
    if (fabs(a - b) <= tolerance * (1 + fabs(b)))
        return 0;
    printf("%s: %.9g is not %.9g\n", what, a, b);
    return 1;
}

/* The products over all rows against plain loops, from the gradients that the kernel left in `gates`. */
static int wrong_products(const problem *p, const gru_call *c, double close) {
    idx H = p->H, D = p->D, before = p->reverse && !p->lengths ? p->B : 0;
    int bad = 0;
    for (idx f = 0; f < 3 * H; f++) {
        idx of_n = f < 2 * H ? 0 : f - 2 * H, column = f < 2 * H ? H + f : (p->reset_after ? of_n : 3 * H + of_n);
        for (idx k = 0; c->dw_hh && k < H; k++) {
            double sum = 0;
            for (idx n = 0; n < p->N; n++)
                sum += (double)c->gates[n * c->gates_stride + column] *
                       (f >= 2 * H && !p->reset_after ? c->gates[n * c->gates_stride + k]
                                                      : c->states[(n + before) * c->states_stride + k]);
            bad |= differ("dW_hh", c->dw_hh[f * H + k], sum, close);
        }
        for (idx k = 0; c->dw_ih && k < D; k++) {
            double sum = 0;
            for (idx n = 0; n < p->N; n++)
                sum += (double)c->gates[n * c->gates_stride + H + f] * c->x[n * D + k];
            bad |= differ("dW_ih", c->dw_ih[f * D + k], sum, close);
        }
    }
    for (idx n = 0; c->dx && n < p->N; n++)
        for (idx k = 0; k < D; k++) {
            double sum = 0;
            for (idx f = 0; f < 3 * H; f++)
                sum += (double)c->gates[n * c->gates_stride + H + f] * p->w_ih[f * D + k];
            bad |= differ("dX", c->dx[n * D + k], sum, close);
        }
    return bad;
}

static int one_call(int training) {
    problem p = make_problem();
    idx H = p.H, D = p.D, states = training ? (p.lengths ? p.N : (p.T + 1) * p.B) : 2 * p.B;
    idx apart = pick(0, 1) * 16, bad = 0, fused = pick(0, 1) ? D : 0;
    idx gates = training ? p.N : (p.reset_after ? 0 : p.B);
    int bf16 = H % 2 == 0 && D % 2 == 0 && pick(0, 1);
    double close = bf16 ? 3e-2 : 2e-5; /* BF16 has 8 bits */
    gru_call c = {.steps = p.T, .batch = p.B, .hidden = H, .inputs = fused, .reset_after = p.reset_after, .bf16 = bf16};
    c.reverse = p.reverse, c.training = training, c.threads = pick(1, 3), c.split_units = pick(0, 1);
    c.lengths = p.lengths, c.rows = p.rows, c.resets = p.resets, c.h0 = p.h0;
    float *packed = poisoned(gru_packed_size(fused, H, training)), *x = inner_rows(&p);
    gru_pack(p.w_ih, p.w_hh, p.b_ih, p.reset_after ? p.b_hh : NULL, fused, H, p.reset_after, training, bf16, 2, packed);
    c.packed = packed, c.x = x, c.states_stride = H + apart, c.gates_stride = 4 * H + apart;
    c.states = poisoned(states * c.states_stride), c.gates = poisoned(gates * c.gates_stride);
    float *projected = training ? c.gates + H : poisoned(p.N * 3 * H);
    c.projected = projected, c.projected_stride = training ? c.gates_stride : 3 * H;
    for (idx n = 0; !fused && n < p.N; n++)
        for (idx i = 0; i < 3 * H; i++) {
            double sum = 0;
            for (idx k = 0; k < D; k++)
                sum += (double)p.w_ih[i * D + k] * x[n * D + k];
            projected[n * c.projected_stride + i] = (float)sum;
        }
    c.y = poisoned(p.T * p.B * H), c.h_n = poisoned(p.B * H);
    gru_forward(&c);

    double *h0 = as_doubles(p.h0, p.B * H), *y = calloc((size_t)(p.T * p.B * H), 8), *h_n = calloc((size_t)(p.B * H), 8);
    reference(&p, h0, y, h_n);
    for (idx i = 0; i < p.B; i++)
        for (idx s = 0; s < (p.lengths ? p.lengths[i] : p.T); s++)
            for (idx u = 0; u < H; u++) {
                idx at = (s * p.B + (p.rows ? p.rows[i] : i)) * H + u;
                bad |= differ("y", c.y[at], y[at], close);
            }
    for (idx i = 0; i < p.B * H; i++)
        bad |= differ("h_n", c.h_n[i], h_n[i], close);
    if (training) {
        c.dy = p.dy, c.dh_n = p.dh_n, c.dh0 = poisoned(p.B * H), c.dbias = poisoned(4 * H);
        c.work = poisoned(gru_work_size(fused, p.B, H, c.threads));
        c.dw_hh = pick(0, 2) ? poisoned(3 * H * H) : NULL;
        c.dw_ih = fused && pick(0, 2) ? poisoned(3 * H * D) : NULL;
        c.dx = fused && pick(0, 2) ? poisoned(p.N * D) : NULL;
        gru_backward(&c);
        double along = 0, step = 1e-5, *moved = as_doubles(p.h0, p.B * H), loss[2];
        for (idx i = 0; i < p.B * H; i++)
            along += c.dh0[i] * (h0[i] = uniform());
        for (int side = 0; side < 2; side++) {
            for (idx i = 0; i < p.B * H; i++)
                moved[i] = p.h0[i] + (side ? step : -step) * h0[i];
            loss[side] = reference(&p, moved, y, h_n);
        }
        bad |= differ("dh0 along a direction", along, (loss[1] - loss[0]) / (2 * step), bf16 ? close : 1e-4);
        for (idx i = 0; i < 4 * H; i++)
            bad |= !isfinite(c.dbias[i]);
        bad |= wrong_products(&p, &c, close);
        free(c.dw_hh), free(c.dw_ih), free(c.dx), free(moved), free(c.dh0), free(c.dbias), free(c.work);
    }
    if (bad)
        printf("T %d B %d D %d H %d reset_after %d reverse %d lengths %d resets %d training %d inputs %d threads %d bf16 %d\n",
               (int)p.T, (int)p.B, (int)D, (int)H, p.reset_after, p.reverse, !!p.lengths, !!p.resets, training,
               (int)fused, (int)c.threads, bf16);
    if (!training)
        free(projected);
    free(packed), free(x), free(c.states), free(c.gates), free(c.y), free(c.h_n), free(h0), free(y), free(h_n);
    free_problem(&p);
    return (int)bad;
}

/* The products of whole matrices (matrix.h) against plain loops. */
static int one_product(void) {
    static const idx sizes[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 130, 257, 300};
    idx rows = sizes[pick(0, 13)], depth = sizes[pick(0, 13)], columns = sizes[pick(0, 13)], threads = pick(1, 3);
    idx transposed = pick(0, 1), adds = pick(0, 1), a_stride = depth + pick(0, 3), bad = 0;
    idx c_stride = gru_padded(columns) + pick(0, 1) * 16;
    float *a = numbers(rows * a_stride, 1), *b = numbers(depth * columns, 1), *d = numbers(rows * columns, 1);
    float *packed = poisoned(gru_padded(columns) * ((depth + 1) / 2)), *c = poisoned(rows * c_stride);
    float *e = adds ? numbers(depth * columns, 1) : poisoned(depth * columns), *before = numbers(depth * columns, 0);
    memcpy(before, e, (size_t)(depth * columns) * sizeof(float));
    gru_pack_matrix(b, depth, columns, transposed, threads, packed);
    gru_multiply(a, a_stride, rows, packed, depth, columns, threads, c, c_stride);
    gru_multiply_over_rows(a, a_stride, depth, d, columns, rows, adds, threads, e);
    double close = 4e-3 * sqrt((double)(rows > depth ? rows : depth)); /* a factor is off by 2^-9 of it at most */
    for (idx r = 0; r < rows; r++)
        for (idx i = 0; i < gru_padded(columns); i++) {
            double sum = 0;
            for (idx k = 0; i < columns && k < depth; k++)
                sum += (double)a[r * a_stride + k] * b[transposed ? i * depth + k : k * columns + i];
            bad |= differ("a product", c[r * c_stride + i], sum, close);
        }
    for (idx f = 0; f < depth; f++)
        for (idx i = 0; i < columns; i++) {
            double sum = adds ? before[f * columns + i] : 0;
            for (idx r = 0; r < rows; r++)
                sum += (double)a[r * a_stride + f] * d[r * columns + i];
            bad |= differ("a product over rows", e[f * columns + i], sum, close);
        }
    if (bad)
        printf("rows %d depth %d columns %d transposed %d adds %d threads %d\n", (int)rows, (int)depth, (int)columns,
               (int)transposed, (int)adds, (int)threads);
    free(a), free(b), free(c), free(d), free(e), free(before), free(packed);
    return (int)bad;
}

int main(int count, char **arguments) {
    int calls = count > 1 ? atoi(arguments[1]) : 200;
    seed = count > 2 ? (uint64_t)atoll(arguments[2]) : 1;
    for (int i = 0; i < calls; i++)
        if (one_call(i & 1) || one_product())
            return 1;
    printf("%d calls of the %s kernel and as many products, none differed\n", calls, gru_isa());
    return 0;
}
