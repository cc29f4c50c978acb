/* The native GRU kernel's entry points: they start the threads and say what each of them does.
 *
 * gru.h is the interface. The rest is in headers, so that one compilation per instruction set sees everything:
 * vector.h (vectors and exp), gemm.h (products and the weights' packed form), walk.h (threads, and where
 * rows lie), forward.h and backward.h (the two passes), head.h (a language model's head).
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

void gru_pack(const float *w_ih, const float *w_hh, const float *b_ih, const float *b_hh, int64_t inputs,
              int64_t hidden, int64_t reset_after, int64_t backward, int64_t bf16, int64_t threads, float *packed) {
    packed_weights to = unpack(packed, inputs, hidden);
    idx panels = panels_of(hidden);
    if (backward != ONLY_BACKWARD)
        pack_bias(b_ih, b_hh, hidden, (int)reset_after, packed);
    if (backward)
        pack_input_back(w_ih, inputs, hidden, bf16, to);
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
        for (idx panel = 0; panel < panels; panel++)
            pack_panel(w_ih, w_hh, inputs, hidden, (int)backward, bf16, panel, to);
        return;
    }
#endif
    for (idx panel = 0; panel < panels; panel++)
        pack_panel(w_ih, w_hh, inputs, hidden, (int)backward, bf16, panel, to);
    (void)threads;
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

void gru_head(float *z, const float *bias, const int64_t *targets, int64_t rows, int64_t vocabulary, float smoothing,
              int64_t threads, float *found, float *totals) {
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads((int)threads)
        {
            idx id = omp_get_thread_num(), members = omp_get_num_threads();
            for (idx r = rows * id / members; r < rows * (id + 1) / members; r++)
                head_row(z + r * vocabulary, bias, vocabulary, targets[r], smoothing, found + 3 * r,
                         totals + id * vocabulary);
        }
        return;
    }
#endif
    for (idx r = 0; r < rows; r++)
        head_row(z + r * vocabulary, bias, vocabulary, targets[r], smoothing, found + 3 * r, totals);
    (void)threads;
}
