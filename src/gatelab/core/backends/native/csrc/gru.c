/* The native GRU kernel's entry points: they start the threads and say what each of them does.
 *
 * gru.h is the interface. The rest is in headers, so that one compilation per instruction set sees everything:
 * vector.h (vectors and exp), gemm.h (products and the weights' packed form), matrix.h (products of many rows), walk.h
 * (threads, and where rows lie), forward.h and backward.h (the two passes), head.h (a language model's head).
 */
#include "gru.h"

#include "backward.h"
#include "forward.h"
#include "head.h"

#ifndef GRU_SOURCE
#define GRU_SOURCE "unknown"
#endif
const char *gru_source(void) { return GRU_SOURCE; }
int64_t gru_call_size(void) { return (int64_t)sizeof(gru_call); }
const char *gru_isa(void) { return ISA_NAME; }

int64_t gru_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    idx bf16 = __builtin_cpu_supports("avx512bf16");
    return avx2 ? (avx512 ? (bf16 ? 3 : 2) : 1) : 0;
#else
    return 0;
#endif
}

int64_t gru_packed_size(int64_t inputs, int64_t hidden, int64_t backward) {
    idx both = padded(hidden) * (4 + 3 * hidden + 3 * inputs);
    return backward ? both + padded(hidden) * 3 * hidden + padded(inputs) * 3 * hidden : both;
}

int64_t gru_work_size(int64_t inputs, int64_t batch, int64_t hidden, int64_t threads) {
    return padded(hidden) * (2 * batch + 4 * threads) + threads * DX_ROWS * padded(inputs);
}

typedef void pass(const gru_call *, const part *);

/* Run `of` on every thread of the call, `most` of them at the most; returns how many there were (OpenMP may give
 * fewer than asked for). */
static int run_parts(const gru_call *c, pass *of, idx most) {
    int wanted = (int)min_idx(c->threads, most), members = 1;
    barrier meeting = {0};
    if (wanted > 1) {
#ifdef _OPENMP
#pragma omp parallel num_threads(wanted)
        {
            int all_here = omp_get_num_threads(), id = omp_get_thread_num();
            part p = part_of(c, id, all_here, &meeting);
            of(c, &p);
            if (id == 0)
                members = all_here;
        }
        return members;
#endif
    }
    part p = part_of(c, 0, 1, &meeting); /* without OpenMP's runtime: safe in a forked child as well */
    of(c, &p);
    return members;
}

/* How many threads can share a pass through time. */
static idx most_parts(const gru_call *c) { return c->split_units ? panels_of(c->hidden) : c->batch; }

/* What a thread does with [first, last) of something that can be shared out. */
typedef void shared(const void *task, idx id, idx first, idx last);

static void share_out(shared *of, const void *task, idx count, idx threads) {
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads((int)threads)
        {
            int id = omp_get_thread_num(), members = omp_get_num_threads();
            of(task, id, share(count, id, members), share(count, id + 1, members));
        }
        return;
    }
#endif
    of(task, 0, 0, count);
    (void)threads;
}

typedef struct {
    const float *w_ih, *w_hh;
    idx inputs, hidden, backward, bf16;
    packed_weights to;
} packing;

static void pack_share(const void *task, idx id, idx first, idx last) {
    const packing *p = task;
    for (idx panel = first; panel < last; panel++)
        pack_panel(p->w_ih, p->w_hh, p->inputs, p->hidden, (int)p->backward, p->bf16, panel, p->to);
    (void)id;
}

void gru_pack(const float *w_ih, const float *w_hh, const float *b_ih, const float *b_hh, int64_t inputs,
              int64_t hidden, int64_t reset_after, int64_t backward, int64_t bf16, int64_t threads, float *packed) {
    packing p = {w_ih, w_hh, inputs, hidden, backward, bf16, unpack(packed, inputs, hidden)};
    if (backward != ONLY_BACKWARD)
        pack_bias(b_ih, b_hh, hidden, (int)reset_after, packed);
    if (backward)
        pack_input_back(w_ih, inputs, hidden, bf16, p.to);
    share_out(pack_share, &p, panels_of(hidden), threads);
}

uint64_t gru_checksum(const float *w_ih, const float *w_hh, const float *b_ih, const float *b_hh, int64_t inputs,
                      int64_t hidden) {
    const float *tensors[4] = {w_hh, w_ih, b_ih, b_hh};
    idx counts[4] = {3 * hidden * hidden, 3 * hidden * inputs, b_ih ? 3 * hidden : 0, b_hh ? 3 * hidden : 0};
    uint64_t all = (uint64_t)hidden;
    for (int i = 0; i < 4; i++)
        if (counts[i])
            all = (all ^ checksum(tensors[i], counts[i], (uint64_t)(i + 1) << 40)) * 0x9E3779B97F4A7C15u;
    return all;
}

void gru_forward(const gru_call *call) { run_parts(call, forward_part, most_parts(call)); }

void gru_backward(const gru_call *call) {
    reduce_bias(call, run_parts(call, backward_part, most_parts(call)));
    if (call->dw_hh || call->dw_ih || call->dx)
        run_parts(call, gradients_part, call->threads);
}

typedef struct {
    float *z;
    const float *bias;
    const idx *targets;
    idx stride, vocabulary;
    float smoothing, *found, *totals;
} head;

static void head_share(const void *task, idx id, idx first, idx last) {
    const head *h = task;
    for (idx r = first; r < last; r++)
        head_row(h->z + r * h->stride, h->bias, h->vocabulary, h->targets[r], h->smoothing, h->found + 3 * r,
                 h->totals + id * h->vocabulary);
}

void gru_head(float *z, int64_t z_stride, const float *bias, const int64_t *targets, int64_t rows, int64_t vocabulary,
              float smoothing, int64_t threads, float *found, float *totals) {
    head h = {z, bias, targets, z_stride, vocabulary, smoothing, found, totals};
    share_out(head_share, &h, rows, threads);
}

int64_t gru_padded(int64_t columns) { return padded(columns); }

static void pack_matrix_share(const void *task, idx id, idx first, idx last) {
    for (idx panel = first; panel < last; panel++)
        pack_matrix(task, panel);
    (void)id;
}

void gru_pack_matrix(const float *b, int64_t depth, int64_t columns, int64_t transposed, int64_t threads,
                     float *packed) {
    matrix m = {b, depth, columns, transposed, packed};
    share_out(pack_matrix_share, &m, panels_of(columns), threads);
}

typedef struct {
    product by;
    rows_of a;
    float *c;
    idx c_stride;
} multiplication;

static void multiply_share(const void *task, idx id, idx first, idx last) {
    const multiplication *m = task;
    multiply(m->by, m->a.at + first * m->a.stride, last - first, m->a.stride, m->c + first * m->c_stride, m->c_stride,
             COLS);
    (void)id;
}

void gru_multiply(const float *a, int64_t a_stride, int64_t rows, const float *packed, int64_t depth, int64_t columns,
                  int64_t threads, float *c, int64_t c_stride) {
    idx panels = panels_of(columns);
    multiplication m = {{packed, depth, panels, panel_size(depth, 1), panels, 1}, {a, a_stride}, c, c_stride};
    share_out(multiply_share, &m, rows, threads);
}

typedef struct {
    rows_of a, b;
    idx width, count, adds;
    float *c;
} crossing;

static void cross_share(const void *task, idx id, idx first, idx last) {
    const crossing *c = task;
    product_over_rows(c->a, first, last, c->b, c->width, c->count, 1, c->adds, c->c);
    (void)id;
}

void gru_multiply_over_rows(const float *a, int64_t a_stride, int64_t a_columns, const float *b, int64_t b_columns,
                            int64_t rows, int64_t adds, int64_t threads, float *c) {
    crossing task = {{a, a_stride}, {b, b_columns}, b_columns, rows, adds, c};
    share_out(cross_share, &task, a_columns, threads);
}
