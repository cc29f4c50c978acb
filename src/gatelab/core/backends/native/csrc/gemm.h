/* The matrix product of the recurrence: rows of states times packed weights, C[r] (+)= A[r] P.
 *
 * It is built for few rows (a batch) and weights that stay in a core's cache. The weights are packed into panels
 * of COLS columns: [k][COLS], so the inner loop reads them front to back. A tile of up to TALL rows keeps its sums
 * in registers. Each sum runs over k in order, in stretches of DEPTH that start from zero (one long chain would
 * round ten times worse), so a row's result does not depend on the rows beside it, on the number of threads or on
 * which of the tiles took it.
 *
 * In BF16 the factors are rounded, the sums are floats all the same, and two k at a time lie in a lane: panels are
 * [k/2][COLS] pairs, half as large.
 */
#ifndef GATELAB_GEMM_H
#define GATELAB_GEMM_H

#include "vector.h"

#define COLS (2 * W)
#if W == 16
#define TALL 12 /* 12 * 2 sums, 2 of weights, the rest for the rows' elements: of 32 registers */
#define WIDE 4  /* at most this many rows leave registers for three panels at once */
#else
#define TALL 6 /* of 16 registers */
#define WIDE 2
#endif
#define DEPTH 128 /* k at a time: that part of a panel stays in the first-level cache for the next tile */

/* A product: `panels` panels, each `panel_stride` floats on, make COLS more columns each, `c_stride` floats on. */
typedef struct {
    const float *weights;
    idx depth, panels, panel_stride;
    idx add_from; /* panels from this one on are added to C, those before it replace it */
    idx bf16;     /* whether the panels are pairs; of an odd depth the last one's second is 0 */
} product;

/* The floats that a panel takes. */
INLINE idx panel_size(idx depth, idx bf16) { return (bf16 ? (depth + 1) / 2 : depth) * COLS; }

/* The element of A, or the pair, for row r and step k is a[r * a_row + k * a_step]. */
INLINE void tile(const int rows, const int panels, const int bf16, const float *a, idx a_row, idx a_step, idx depth,
                 const product *p, const float *w, float *c, idx row_stride, idx c_stride, const int *adds) {
    vec sum[TALL][2 * 3];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int q = 0; q < panels; q++)
            UNROLL
            for (int v = 0; v < 2; v++)
                sum[r][2 * q + v] = (vec){0};
    for (idx k = 0; k < depth; k++) {
        vec weight[2 * 3];
        UNROLL
        for (int q = 0; q < panels; q++)
            UNROLL
            for (int v = 0; v < 2; v++)
                weight[2 * q + v] = load(w + q * p->panel_stride + v * W);
        w += COLS;
        UNROLL
        for (int r = 0; r < rows; r++) {
            const float *at = a + r * a_row + k * a_step;
            vec element = bf16 ? all_pairs(at) : all(*at);
            UNROLL
            for (int v = 0; v < 2 * panels; v++)
                sum[r][v] = bf16 ? add_pairs(sum[r][v], weight[v], element) : sum[r][v] + weight[v] * element;
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int q = 0; q < panels; q++)
            UNROLL
            for (int v = 0; v < 2; v++) {
                float *to = c + r * row_stride + q * c_stride + v * W;
                store(to, adds[q] ? load(to) + sum[r][2 * q + v] : sum[r][2 * q + v]);
            }
}

typedef void tile_function(const float *a, idx a_stride, idx depth, const product *p, const float *w, float *c,
                           idx row_stride, idx c_stride, const int *adds);

#define TILE_OF(NAME, R, P, BF16)                                                                                    \
    static __attribute__((noinline)) void NAME##_##R##_##P(const float *a, idx a_stride, idx depth, const product *p, \
                                                           const float *w, float *c, idx row_stride, idx c_stride,  \
                                                           const int *adds) {                                       \
        tile(R, P, BF16, a, a_stride, 1, depth, p, w, c, row_stride, c_stride, adds);                                 \
    }
#define TILE(R, P) TILE_OF(floats, R, P, 0) TILE_OF(pairs, R, P, 1)
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
TILE(1, 2) TILE(2, 2)
TILE(1, 3) TILE(2, 3)
#if W == 16
TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1)
TILE(3, 2) TILE(4, 2)
TILE(3, 3) TILE(4, 3)
#define TILES_OF(NAME)                                                                                               \
    {{0},                                                                                                            \
     {0, NAME##_1_1, NAME##_2_1, NAME##_3_1, NAME##_4_1, NAME##_5_1, NAME##_6_1, NAME##_7_1, NAME##_8_1, NAME##_9_1, \
      NAME##_10_1, NAME##_11_1, NAME##_12_1},                                                                        \
     {0, NAME##_1_2, NAME##_2_2, NAME##_3_2, NAME##_4_2},                                                            \
     {0, NAME##_1_3, NAME##_2_3, NAME##_3_3, NAME##_4_3}}
#else
#define TILES_OF(NAME)                                                                                               \
    {{0},                                                                                                            \
     {0, NAME##_1_1, NAME##_2_1, NAME##_3_1, NAME##_4_1, NAME##_5_1, NAME##_6_1},                                    \
     {0, NAME##_1_2, NAME##_2_2},                                                                                    \
     {0, NAME##_1_3, NAME##_2_3}}
#endif

static tile_function *const TILES[2][4][TALL + 1] = {TILES_OF(floats), TILES_OF(pairs)}; /* [bf16][panels][rows] */

/* The next tile's height when `left` rows remain: tiles of nearly the same height, none of them tiny. */
INLINE idx tile_height(idx left) {
    idx tiles = (left + TALL - 1) / TALL;
    return (left + tiles - 1) / tiles;
}

/* Panels [q, q + panels) of a product over `depth` steps from step k on; here `a` and the steps are of floats or of
 * pairs. */
INLINE void multiply_panels(const product *p, idx q, idx panels, idx k, idx depth, const float *a, idx rows,
                            idx a_stride, float *c, idx row_stride, idx c_stride) {
    int adds[3];
    for (int i = 0; i < 3; i++)
        adds[i] = k > 0 || q + i >= p->add_from;
    const float *w = p->weights + q * p->panel_stride + k * COLS;
    for (idx r = 0, height; r < rows; r += height) {
        height = tile_height(rows - r);
        TILES[p->bf16][panels][height](a + r * a_stride, a_stride, depth, p, w, c + r * row_stride + q * c_stride,
                                       row_stride, c_stride, adds);
    }
}

#define PAIR_ROWS (6 * TALL) /* rows at a time in BF16: they are rounded once for all panels */

static void multiply(product p, const float *a, idx rows, idx a_stride, float *c, idx row_stride, idx c_stride) {
    idx group = rows > WIDE ? 1 : 3;
    if (!p.bf16) {
        for (idx q = 0; q < p.panels; q += group)
            for (idx k = 0; k < p.depth; k += DEPTH)
                multiply_panels(&p, q, min_idx(group, p.panels - q), k, min_idx(DEPTH, p.depth - k), a + k, rows,
                                a_stride, c, row_stride, c_stride);
        return;
    }
    float pairs[PAIR_ROWS * DEPTH] __attribute__((aligned(64)));
    for (idx r0 = 0; r0 < rows; r0 += PAIR_ROWS) {
        idx height = min_idx(PAIR_ROWS, rows - r0);
        for (idx k = 0; 2 * k < p.depth; k += DEPTH) {
            idx floats = min_idx(2 * DEPTH, p.depth - 2 * k), depth = (floats + 1) / 2;
            for (idx r = 0; r < height; r++)
                to_pairs(a + (r0 + r) * a_stride + 2 * k, floats, pairs + r * DEPTH);
            for (idx q = 0; q < p.panels; q += group)
                multiply_panels(&p, q, min_idx(group, p.panels - q), k, depth, pairs, height, DEPTH,
                                c + r0 * row_stride, row_stride, c_stride);
        }
    }
}

/* The packed form of a layer's weights: biases, and panels in the orders that the steps read them.
 *
 * Layout in floats, with P = padded(H) and X = P/COLS panels across the hidden units:
 *   bias      [4][P]             nh, r, z, ni; for reset_after=0 all of the bias is in the last three, nh is 0
 *   recurrent [n r z][X][H][COLS]   W_hh, so that its three products fall into a step's blocks (nh, r, z)
 *   input     [r z n][X][D][COLS]   W_ih, whose products fall into the blocks (r, z, ni)
 *   back      [X][n r z][H][COLS]   W_hh transposed, so that gradients (d nh, d r, d z) times it give dh
 *   input_back [Y][3H][COLS]        W_ih by columns, so that gradients (d r, d z, d ni) times it give dx; Y = panels of D
 * In BF16 the panels are pairs, one after another from where each of the four begins.
 */
INLINE idx panels_of(idx hidden) { return (hidden + COLS - 1) / COLS; }
INLINE idx padded(idx hidden) { return panels_of(hidden) * COLS; }

typedef struct {
    const float *bias, *recurrent, *input, *back, *input_back;
} packed_weights;

INLINE packed_weights unpack(const float *packed, idx inputs, idx hidden) {
    idx across = padded(hidden);
    packed_weights p;
    p.bias = packed;
    p.recurrent = p.bias + 4 * across;
    p.input = p.recurrent + 3 * across * hidden;
    p.back = p.input + 3 * across * inputs;
    p.input_back = p.back + 3 * across * hidden;
    return p;
}

/* Pairs of two rows, `stride` floats apart; of one and zeros if `second` is 0. */
INLINE void pair_rows(const float *w, idx units, idx stride, int second, float *to) {
    for (idx u = 0; u < units; u += W) {
        lanes inside = lanes_of(units - u);
        vec below = second ? load_part(w + stride + u, inside) : (vec){0};
        store_part(to + u, inside, pair_of(load_part(w + u, inside), below));
    }
}

/* panel[k][c] = w[c][k] for `units` <= COLS rows of w; the missing ones are zero. */
static void pack_rows(const float *w, idx units, idx depth, idx bf16, float *panel) {
    float square[W * COLS]; /* a square at a time: both sides stay in few cache lines */
    for (idx k0 = 0; k0 < depth; k0 += W) {
        idx steps = min_idx(W, depth - k0);
        float *to = bf16 ? square : panel + k0 * COLS;
        for (idx c = 0; c < COLS; c++)
            for (idx k = 0; k < steps; k++)
                to[k * COLS + c] = c < units ? w[c * depth + k0 + k] : 0.0f;
        for (idx k = 0; bf16 && k < steps; k += 2)
            pair_rows(square + k * COLS, COLS, COLS, k + 1 < steps, panel + (k0 + k) / 2 * COLS);
    }
}

/* panel[k][c] = w[k][c] for `units` <= COLS columns of w, whose rows are `stride` long. In BF16 a missing last row
 * counts as zeros. */
static void pack_columns(const float *w, idx units, idx depth, idx stride, idx bf16, float *panel) {
    idx rows = bf16 ? 2 : 1;
    for (idx k = 0; k < depth; k += rows, panel += COLS) {
        if (bf16)
            pair_rows(w + k * stride, units, stride, k + 1 < depth, panel);
        else
            memcpy(panel, w + k * stride, (size_t)units * sizeof(float));
        memset(panel + units, 0, (size_t)(COLS - units) * sizeof(float));
    }
}

/* The biases (nh, r, z, ni) of unit u. */
INLINE void bias_of(const float *b_ih, const float *b_hh, idx hidden, int reset_after, idx u, float bias[4]) {
    float in[3], rec[3];
    for (int g = 0; g < 3; g++) {
        in[g] = b_ih ? b_ih[g * hidden + u] : 0.0f;
        rec[g] = b_hh ? b_hh[g * hidden + u] : 0.0f;
    }
    bias[0] = reset_after ? rec[2] : 0.0f;
    bias[1] = in[0] + rec[0];
    bias[2] = in[1] + rec[1];
    bias[3] = reset_after ? in[2] : in[2] + rec[2];
}

static void pack_bias(const float *b_ih, const float *b_hh, idx hidden, int reset_after, float *packed) {
    idx across = padded(hidden);
    memset(packed, 0, (size_t)(4 * across) * sizeof(float));
    for (idx u = 0; u < hidden; u++) {
        float bias[4];
        bias_of(b_ih, b_hh, hidden, reset_after, u, bias);
        for (int block = 0; block < 4; block++)
            packed[block * across + u] = bias[block];
    }
}

static void pack_panel(const float *w_ih, const float *w_hh, idx inputs, idx hidden, int backward, idx bf16,
                       idx panel, packed_weights to) {
    static const int recurrent_order[3] = {2, 0, 1};
    idx across = panels_of(hidden), units = min_idx(COLS, hidden - panel * COLS);
    for (int i = 0; i < 3; i++) {
        idx gate = recurrent_order[i];
        if (backward != ONLY_BACKWARD) {
            pack_rows(w_hh + (gate * hidden + panel * COLS) * hidden, units, hidden, bf16,
                      (float *)to.recurrent + (i * across + panel) * panel_size(hidden, bf16));
            pack_rows(w_ih + (i * hidden + panel * COLS) * inputs, units, inputs, bf16,
                      (float *)to.input + (i * across + panel) * panel_size(inputs, bf16));
        }
        if (backward)
            pack_columns(w_hh + gate * hidden * hidden + panel * COLS, units, hidden, hidden, bf16,
                         (float *)to.back + (panel * 3 + i) * panel_size(hidden, bf16));
    }
}

static void pack_input_back(const float *w_ih, idx inputs, idx hidden, idx bf16, packed_weights to) {
    for (idx panel = 0; panel < panels_of(inputs); panel++)
        pack_columns(w_ih + panel * COLS, min_idx(COLS, inputs - panel * COLS), 3 * hidden, inputs, bf16,
                     (float *)to.input_back + panel * panel_size(3 * hidden, bf16));
}

/* 64-bit lanes, and the product of their halves. */
typedef uint64_t words __attribute__((vector_size(4 * W)));
typedef uint64_t loose_words __attribute__((vector_size(4 * W), aligned(4), may_alias));
INLINE words halves_product(words v) {
#if defined(__AVX512F__)
    return (words)_mm512_mul_epu32((__m512i)v, (__m512i)(v >> 32));
#elif defined(__AVX2__)
    return (words)_mm256_mul_epu32((__m256i)v, (__m256i)(v >> 32));
#else
    return (v & 0xFFFFFFFFu) * (v >> 32);
#endif
}

/* A checksum of every byte of `count` floats, as fast as they can be read: each lane adds its words and the products
 * of their halves under a key that moves on (as in XXH3). A change of one float alone is never missed. */
#define SUMS_AT_ONCE 4
static uint64_t checksum(const float *w, idx count, uint64_t seed) {
    words sums[SUMS_AT_ONCE] = {{0}}, key = seed * 0x9E3779B97F4A7C15u + (words){0};
    for (int j = 0; j < W / 2; j++)
        key[j] += (uint64_t)j * 0xC2B2AE3D27D4EB4Fu;
    idx whole = count - count % (SUMS_AT_ONCE * W);
    for (idx i = 0; i < whole; i += SUMS_AT_ONCE * W, key += 0x165667B19E3779F9u)
        UNROLL for (int j = 0; j < SUMS_AT_ONCE; j++) {
            words v = *(const loose_words *)(w + i + j * W);
            sums[j] += v + halves_product(v ^ key);
        }
    float rest[SUMS_AT_ONCE * W] = {0};
    memcpy(rest, w + whole, (size_t)(count - whole) * sizeof(float));
    uint64_t all = seed ^ (uint64_t)count;
    for (int j = 0; j < SUMS_AT_ONCE; j++) {
        words v = *(const loose_words *)(rest + j * W);
        sums[j] += v + halves_product(v ^ key);
        for (int k = 0; k < W / 2; k++) {
            all = (all ^ sums[j][k]) * 0x9E3779B97F4A7C15u;
            all ^= all >> 29;
        }
    }
    return all;
}

#endif
