/* The C interface of the native GRU kernel: what Python calls, and nothing of how it is computed.
 *
 * One call is one layer in one direction over a whole sequence, float32. Plain pointers, no PyTorch headers:
 * the same object serves every PyTorch. Nothing is allocated and nothing is kept between calls, so any number
 * of threads may call at once. Shapes are checked by the caller (`kernel.py`), never here.
 *
 * Dimensions: T steps, B batch, D inputs, H hidden. A "place" is a row's position in the batch as the kernel
 * walks it: rows sorted by length, longest first, so that the active rows of a step are the first ones. Buffers
 * over [places of all steps] have N = sum of lengths rows, step by step (N = T*B when no lengths are given; then
 * they are in the order of time, also when the kernel walks backward).
 */
#ifndef GATELAB_GRU_H
#define GATELAB_GRU_H

#include <stdint.h>

typedef struct {
    /* sizes and choices */
    int64_t steps, batch, hidden;
    int64_t inputs;       /* D if W_ih x is to be computed here from `x`; 0 if it lies in `projected` */
    int64_t reset_after;  /* 1: nn.GRU's variant, 0: the reset gate before the product */
    int64_t reverse;      /* 1: walk each row from its last step to its first */
    int64_t training;     /* 1: keep in `gates` and `states` what backward needs */
    int64_t threads;      /* how many OpenMP threads to use */
    int64_t split_units;  /* 1: threads share the hidden units (a barrier a step), 0: the rows (no barrier) */
    int64_t bf16;         /* 1: round the factors of the products from step to step to BF16; as `packed` was made */

    /* what describes the batch; each may be NULL */
    const int64_t *lengths;  /* [B] by place, longest first; NULL: all T */
    const int64_t *rows;     /* [B] the batch row of each place; NULL: the same */
    const uint8_t *resets;   /* [T, B] by time and batch row: not 0 where the state entering the step is zero */

    /* read by forward */
    const float *packed;     /* made by gru_pack */
    const float *x;          /* [N, D], read if inputs > 0 */
    const float *projected;  /* [N, 3H] W_ih x in the order (r, z, n), row stride projected_stride */
    const float *h0;         /* [B, H] by batch row */

    /* written by forward; gates and states are what backward reads */
    float *y;                /* [T, B, H] by time and batch row; zero past a length */
    float *h_n;              /* [B, H] by batch row */
    float *states;           /* the state entering each step, see below */
    float *gates;            /* [N, 4H] when training, else [B, 4H] of scratch (reset_after=0) or NULL */
    int64_t projected_stride, states_stride, gates_stride; /* in floats, from row to row */

    /* backward only. It turns `gates` into the gradients of the pre-activations. */
    const float *dy;         /* [T, B, H] or NULL */
    const float *dh_n;       /* [B, H] or NULL */
    float *dh0;              /* [B, H] */
    float *dbias;            /* [4, H]: the sums of the gradients over all rows, in the order of `gates` */
    float *dw_hh;            /* [3H, H] or NULL: left to the caller */
    float *dw_ih;            /* [3H, D] or NULL; needs inputs > 0 and `x` as forward had it */
    float *dx;               /* [N, D] or NULL; needs inputs > 0 */
    float *work;             /* gru_work_size floats */

    /* both passes: h'' = zoneout * h + (1 - zoneout) * h', the expectation; 0 for none. A drawn mask does not come
     * here: the caller adds infinity to `projected`, so that the update gate is 0 or 1. */
    float zoneout;
} gru_call;

/* `gates` holds, per row, four blocks of H:
 *   reset_after=1   forward (nh, r, z, n), nh = W_hn h + b_hn;  backward (d nh, d r, d z, d ni)
 *   reset_after=0   forward (q, r, z, n),  q = r * h;           backward (q, d r, d z, d n)
 * so the last three are the gradient of W_ih x. When training with inputs=0, `projected` must be gates + H.
 *
 * `states` holds the state that enters each step, after resets:
 *   training, no lengths   [T+1, B, H] in the order of time; the walk starts at slot 0, or at slot T in reverse.
 *                          `y` may be this very buffer, one step on (if there are no resets and the strides fit)
 *   training with lengths  [N, H]
 *   otherwise              [2, B, H], used in turn
 */

#ifdef __cplusplus
extern "C" {
#endif

const char *gru_source(void);   /* sha256 of the source that it was compiled from */
int64_t gru_call_size(void);    /* sizeof(gru_call) */
const char *gru_isa(void);      /* "avx512_bf16", "avx512", "avx2" or "portable" */

int64_t gru_processor(void);    /* the best of those that this processor can run, from 3 down to 0 */

/* Floats in the packed form of the weights; `backward` adds what gru_backward needs. `inputs` is a call's. */
int64_t gru_packed_size(int64_t inputs, int64_t hidden, int64_t backward);
#define ONLY_BACKWARD 2 /* of gru_pack's `backward`: 0 what gru_forward needs, 1 that and gru_backward's, 2 only the latter */
/* w_ih [3H, D] (not read if inputs is 0), w_hh [3H, H], b_ih and b_hh [3H] or NULL, all in the order (r, z, n). With
 * bf16, H and D are even. */
void gru_pack(const float *w_ih, const float *w_hh, const float *b_ih, const float *b_hh, int64_t inputs,
              int64_t hidden, int64_t reset_after, int64_t backward, int64_t bf16, int64_t threads, float *packed);

/* A checksum of every byte that gru_pack reads. */
uint64_t gru_checksum(const float *w_ih, const float *w_hh, const float *b_ih, const float *b_hh, int64_t inputs,
                      int64_t hidden);

int64_t gru_work_size(int64_t inputs, int64_t batch, int64_t hidden, int64_t threads);
void gru_forward(const gru_call *call);
void gru_backward(const gru_call *call);

/* A language model's head between its products (head.h): logits z [rows, V], without the bias [V] or NULL, become the
 * gradient of the cross-entropy's sum, with `smoothing` as its label smoothing; targets [rows] in 0 ... V-1.
 * found [rows, 3] gets m - z[target], the sum of exp(z - m) and m - mean(z), where m is the row's largest logit.
 * totals [threads, V]: each thread adds its rows' probabilities to its own. */
void gru_head(float *z, int64_t z_stride, const float *bias, const int64_t *targets, int64_t rows, int64_t vocabulary,
              float smoothing, int64_t threads, float *found, float *totals);

/* Products of matrices whose factors are rounded to BF16 (matrix.h); strides are floats from row to row. */
int64_t gru_padded(int64_t columns); /* how far apart a product's rows have to be; what it writes past `columns` is 0 */
/* B [depth, columns], or `transposed` its transpose [columns, depth], to padded columns * ((depth + 1) / 2) floats. */
void gru_pack_matrix(const float *b, int64_t depth, int64_t columns, int64_t transposed, int64_t threads,
                     float *packed);
/* c [rows, padded columns] = a [rows, depth] B */
void gru_multiply(const float *a, int64_t a_stride, int64_t rows, const float *packed, int64_t depth, int64_t columns,
                  int64_t threads, float *c, int64_t c_stride);
/* c [a_columns, b_columns] = a' b for a [rows, a_columns] and b [rows, b_columns]; with `adds` it is added to c. */
void gru_multiply_over_rows(const float *a, int64_t a_stride, int64_t a_columns, const float *b, int64_t b_columns,
                            int64_t rows, int64_t adds, int64_t threads, float *c);

#ifdef __cplusplus
}
#endif
#endif
