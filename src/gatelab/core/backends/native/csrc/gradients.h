/* The gradients of the weights and of the inputs: products over all rows of all steps, for one part of the threads.
 *
 * With G the gradients of the pre-activations [N, 3H], X the inputs [N, D] and S the states that entered the steps:
 *
 *   dW_ih = G' X        dW_hh = G' S  (for reset_after=0 its last block is d n' q, with q = r * h)        dX = G W_ih
 *
 * N is long and the rest is narrow, which is where a general library's product is far from its best. Rows are taken
 * a stretch at a time: its part of X or S is packed into panels, its part of G stays in the second-level cache.
 * Threads share the rows of dW and those of dX, so no sum depends on how many there are.
 */
#ifndef GATELAB_GRADIENTS_H
#define GATELAB_GRADIENTS_H

#include "backward.h"

#define STRETCH 256        /* rows a time for dW */
#define DX_ROWS (8 * TALL) /* rows a time for dX */

/* The tiles of A' B: row r of the product is column r of A, whose rows are `a_step` apart. */
typedef void column_tile(const float *a, idx a_step, idx depth, const float *w, float *c, idx row_stride, int add);
#define COLUMN_TILE(R)                                                                                              \
    static __attribute__((noinline)) void columns_##R(const float *a, idx a_step, idx depth, const float *w, float *c, \
                                                      idx row_stride, int add) {                                    \
        product one = {w, depth, 1, 0, 0};                                                                           \
        tile(R, 1, a, 1, a_step, depth, &one, w, c, row_stride, 0, &add);                                            \
    }
COLUMN_TILE(1) COLUMN_TILE(2) COLUMN_TILE(3) COLUMN_TILE(4) COLUMN_TILE(5) COLUMN_TILE(6)
#if W == 16
COLUMN_TILE(7) COLUMN_TILE(8) COLUMN_TILE(9) COLUMN_TILE(10) COLUMN_TILE(11) COLUMN_TILE(12)
#endif

static column_tile *const COLUMN_TILES[TALL + 1] = {
    0, columns_1, columns_2, columns_3, columns_4, columns_5, columns_6,
#if W == 16
    columns_7, columns_8, columns_9, columns_10, columns_11, columns_12,
#endif
};

/* A matrix whose rows are `stride` floats apart. */
typedef struct {
    const float *at;
    idx stride;
} rows_of;

/* to [., width] gets rows [f0, f1) of A' B, for A [count, >= f1] and B [count, width]. */
static void product_over_rows(rows_of a, idx f0, idx f1, rows_of b, idx width, idx count, float *to) {
    float panel[STRETCH * COLS] __attribute__((aligned(64))), edge[TALL * COLS] __attribute__((aligned(64)));
    for (idx n = 0; n < count || n == 0; n += STRETCH)
        for (idx u = 0; u < width; u += COLS) {
            idx rows = min_idx(STRETCH, count - n), units = min_idx(COLS, width - u);
            pack_columns(b.at + n * b.stride + u, units, rows, b.stride, panel);
            for (idx f = f0, height; f < f1; f += height) {
                const float *from = a.at + n * a.stride + f;
                height = tile_height(f1 - f);
                if (units == COLS) {
                    COLUMN_TILES[height](from, a.stride, rows, panel, to + f * width + u, width, n > 0);
                    continue;
                }
                COLUMN_TILES[height](from, a.stride, rows, panel, edge, COLS, 0);
                for (idx r = 0; r < height; r++)
                    for (idx i = 0; i < units; i++) {
                        float *sum = to + (f + r) * width + u + i;
                        *sum = (n > 0 ? *sum : 0.0f) + edge[r * COLS + i];
                    }
            }
        }
}

/* dX for rows [n0, n1). */
static void input_gradient(const gru_call *c, packed_weights w, float *table, idx n0, idx n1) {
    idx inputs = c->inputs, panels = panels_of(inputs), across = padded(inputs), depth = 3 * c->hidden;
    for (idx n = n0; n < n1; n += DX_ROWS) {
        idx rows = min_idx(DX_ROWS, n1 - n);
        product p = {w.input_back, depth, panels, depth * COLS, panels};
        multiply(p, c->gates + n * c->gates_stride + c->hidden, rows, c->gates_stride, table, across, COLS);
        for (idx r = 0; r < rows; r++)
            memcpy(c->dx + (n + r) * inputs, table + r * across, (size_t)inputs * sizeof(float));
    }
}

/* Thread `id` of `members` gets [first, last) of `count`. */
INLINE idx share(idx count, idx id, int members) { return count * id / members; }

static void gradients_part(const gru_call *c, const part *p) {
    idx hidden = c->hidden, count = c->lengths ? 0 : c->steps * c->batch;
    for (idx place = 0; c->lengths && place < c->batch; place++)
        count += c->lengths[place];
    idx f0 = share(3 * hidden, p->id, p->members), f1 = share(3 * hidden, p->id + 1, p->members);
    rows_of gates = {c->gates, c->gates_stride}, inner = {c->gates + hidden, c->gates_stride};
    if (c->dw_ih)
        product_over_rows(inner, f0, f1, (rows_of){c->x, c->inputs}, c->inputs, count, c->dw_ih);
    if (c->dw_hh) {
        idx before = c->reverse && !c->lengths ? c->batch : 0; /* slot 0 is the state after the last step then */
        rows_of states = {c->states + before * c->states_stride, c->states_stride};
        idx border = 2 * hidden, lower0 = f0 > border ? f0 : border, lower1 = f1 > border ? f1 : border;
        product_over_rows(inner, min_idx(f0, border), min_idx(f1, border), states, hidden, count, c->dw_hh);
        /* the rows of n: d nh stands in the first block, or d n in the last */
        rows_of of_n = {c->reset_after ? c->gates - border : c->gates + hidden, c->gates_stride};
        product_over_rows(of_n, lower0, lower1, c->reset_after ? states : gates, hidden, count, c->dw_hh);
    }
    if (c->dx) {
        float *table = c->work + padded(hidden) * (2 * c->batch + 4 * c->threads) + p->id * DX_ROWS * padded(c->inputs);
        input_gradient(c, unpack(c->packed, c->inputs, hidden), table, share(count, p->id, p->members),
                       share(count, p->id + 1, p->members));
    }
}

#endif
