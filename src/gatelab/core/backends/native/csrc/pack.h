/* The packed form of a layer's weights: biases, and panels (see gemm.h) in the orders that the steps read them.
 *
 * Layout in floats, with P = padded(H) and X = P/COLS panels across the hidden units:
 *   bias      [4][P]             nh, r, z, ni; for reset_after=0 all of the bias is in the last three, nh is 0
 *   recurrent [n r z][X][H][COLS]   W_hh, so that its three products fall into a step's blocks (nh, r, z)
 *   input     [r z n][X][D][COLS]   W_ih, whose products fall into the blocks (r, z, ni)
 *   back      [X][n r z][H][COLS]   W_hh transposed, so that gradients (d nh, d r, d z) times it give dh
 *   input_back [Y][3H][COLS]        W_ih by columns, so that gradients (d r, d z, d ni) times it give dx; Y = panels of D
 */
#ifndef GATELAB_PACK_H
#define GATELAB_PACK_H

#include "vector.h"
#include "gemm.h"

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

/* panel[k][c] = w[c][k] for `units` <= COLS rows of w; the missing ones are zero. */
static void pack_rows(const float *w, idx units, idx depth, float *panel) {
    for (idx k0 = 0; k0 < depth; k0 += W) { /* a square at a time: both sides stay in few cache lines */
        idx k1 = min_idx(depth, k0 + W);
        for (idx c = 0; c < COLS; c++)
            for (idx k = k0; k < k1; k++)
                panel[k * COLS + c] = c < units ? w[c * depth + k] : 0.0f;
    }
}

/* panel[k][c] = w[k][c] for `units` <= COLS columns of w, whose rows are `stride` long. */
static void pack_columns(const float *w, idx units, idx depth, idx stride, float *panel) {
    for (idx k = 0; k < depth; k++) {
        memcpy(panel + k * COLS, w + k * stride, (size_t)units * sizeof(float));
        memset(panel + k * COLS + units, 0, (size_t)(COLS - units) * sizeof(float));
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

static void pack_panel(const float *w_ih, const float *w_hh, idx inputs, idx hidden, int backward, idx panel,
                       packed_weights to) {
    static const int recurrent_order[3] = {2, 0, 1};
    idx across = panels_of(hidden), units = min_idx(COLS, hidden - panel * COLS);
    for (int i = 0; i < 3; i++) {
        idx gate = recurrent_order[i];
        pack_rows(w_hh + (gate * hidden + panel * COLS) * hidden, units, hidden,
                  (float *)to.recurrent + (i * across + panel) * hidden * COLS);
        pack_rows(w_ih + (i * hidden + panel * COLS) * inputs, units, inputs,
                  (float *)to.input + (i * across + panel) * inputs * COLS);
        if (backward)
            pack_columns(w_hh + gate * hidden * hidden + panel * COLS, units, hidden, hidden,
                         (float *)to.back + (panel * 3 + i) * hidden * COLS);
    }
}

static void pack_input_back(const float *w_ih, idx inputs, idx hidden, packed_weights to) {
    for (idx panel = 0; panel < panels_of(inputs); panel++)
        pack_columns(w_ih + panel * COLS, min_idx(COLS, inputs - panel * COLS), 3 * hidden, inputs,
                     (float *)to.input_back + panel * 3 * hidden * COLS);
}

/* A checksum of every byte of `count` floats: lanes side by side, each in the rounds of xxHash32, so that it takes no
 * longer than reading them. */
#define LANES 64
INLINE uint32_t mixed(uint32_t lane, uint32_t word) {
    lane += word * 0x85EBCA77u;
    return (lane << 13 | lane >> 19) * 0x9E3779B1u;
}

static uint64_t checksum(const float *w, idx count, uint64_t seed) {
    uint32_t lanes[LANES], words[LANES];
    for (int j = 0; j < LANES; j++)
        lanes[j] = (uint32_t)(seed >> 32) ^ (uint32_t)seed * (uint32_t)(2 * j + 1);
    for (idx i = 0; i < count; i += LANES) {
        idx here = min_idx(LANES, count - i);
        memset(words, 0, here < LANES ? sizeof words : 0);
        memcpy(words, w + i, (size_t)here * sizeof(float));
        for (int j = 0; j < LANES; j++)
            lanes[j] = mixed(lanes[j], words[j]);
    }
    uint64_t all = seed ^ (uint64_t)count;
    for (int j = 0; j < LANES; j++) {
        all = (all ^ lanes[j]) * 0x9E3779B97F4A7C15u;
        all ^= all >> 29;
    }
    return all;
}

#endif
