/* Products of matrices that are many rows high: what the gradients of a layer's weights and a model's head need.
 *
 * They are long and the rest is narrow, which is where a general library's product is far from its best. Rows are taken
 * a stretch at a time: the stretch of B is packed into panels, that of A stays in the second-level cache. No sum depends
 * on how many threads share the work.
 */
#ifndef GATELAB_MATRIX_H
#define GATELAB_MATRIX_H

#include "gemm.h"

#define STRETCH 256        /* rows a time */
#define PAIRED (16 * TALL) /* columns of A a time in BF16 */

/* The tiles of A' B: row r of the product is column r of A, whose rows are `a_step` apart. */
typedef void column_tile(const float *a, idx a_step, idx depth, const float *w, float *c, idx row_stride, int add);
#define COLUMN_TILE_OF(NAME, R, BF16)                                                                                \
    static __attribute__((noinline)) void NAME##_##R(const float *a, idx a_step, idx depth, const float *w, float *c, \
                                                     idx row_stride, int add) {                                     \
        product one = {w, depth, 1, 0, 0, BF16};                                                                     \
        tile(R, 1, BF16, a, 1, a_step, depth, &one, w, c, row_stride, 0, &add);                                      \
    }
#define COLUMN_TILE(R) COLUMN_TILE_OF(columns, R, 0) COLUMN_TILE_OF(column_pairs, R, 1)
COLUMN_TILE(1) COLUMN_TILE(2) COLUMN_TILE(3) COLUMN_TILE(4) COLUMN_TILE(5) COLUMN_TILE(6)
#if W == 16
COLUMN_TILE(7) COLUMN_TILE(8) COLUMN_TILE(9) COLUMN_TILE(10) COLUMN_TILE(11) COLUMN_TILE(12)
#define COLUMN_TILES_OF(NAME)                                                                                        \
    {0, NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5, NAME##_6, NAME##_7, NAME##_8, NAME##_9, NAME##_10,         \
     NAME##_11, NAME##_12}
#else
#define COLUMN_TILES_OF(NAME) {0, NAME##_1, NAME##_2, NAME##_3, NAME##_4, NAME##_5, NAME##_6}
#endif

static column_tile *const COLUMN_TILES[2][TALL + 1] = {COLUMN_TILES_OF(columns), COLUMN_TILES_OF(column_pairs)};

/* A matrix whose rows are `stride` floats apart. */
typedef struct {
    const float *at;
    idx stride;
} rows_of;

/* to [., width], at rows [f0, f1), gets A' B, or is added it, over `depth` rows, or pairs of rows, of A,
 * whose column f0 is at `a.at`, and a panel of B: columns [u, u + units). */
INLINE void add_stretch(rows_of a, idx f0, idx f1, idx depth, const float *panel, idx u, idx units, idx width, idx adds,
                        idx bf16, float *to) {
    float edge[TALL * COLS] __attribute__((aligned(64)));
    for (idx f = f0, height; f < f1; f += height) {
        const float *from = a.at + f - f0;
        height = tile_height(f1 - f);
        if (units == COLS) {
            COLUMN_TILES[bf16][height](from, a.stride, depth, panel, to + f * width + u, width, adds != 0);
            continue;
        }
        COLUMN_TILES[bf16][height](from, a.stride, depth, panel, edge, COLS, 0);
        for (idx r = 0; r < height; r++)
            for (idx i = 0; i < units; i++) {
                float *sum = to + (f + r) * width + u + i;
                *sum = (adds ? *sum : 0.0f) + edge[r * COLS + i];
            }
    }
}

/* to [., width] gets rows [f0, f1) of A' B, for A [count, >= f1] and B [count, width]; with `adds` it is added. */
static void product_over_rows(rows_of a, idx f0, idx f1, rows_of b, idx width, idx count, idx bf16, idx adds,
                              float *to) {
    float panel[STRETCH * COLS] __attribute__((aligned(64)));
    float pairs[STRETCH / 2 * PAIRED] __attribute__((aligned(64)));
    idx block = bf16 ? PAIRED : f1 - f0; /* columns of A at a time: in BF16 they are rounded once for all of B */
    for (idx f = f0; f < f1; f += block)
        for (idx n = 0; n < count || n == 0; n += STRETCH) {
            idx rows = min_idx(STRETCH, count - n), end = min_idx(f1, f + block), depth = bf16 ? (rows + 1) / 2 : rows;
            rows_of part = {a.at + n * a.stride + f, a.stride};
            if (bf16) {
                for (idx k = 0; k < depth; k++)
                    pair_rows(part.at + 2 * k * a.stride, end - f, a.stride, 2 * k + 1 < rows, pairs + k * PAIRED);
                part = (rows_of){pairs, PAIRED};
            }
            for (idx u = 0; u < width; u += COLS) {
                idx units = min_idx(COLS, width - u);
                pack_columns(b.at + n * b.stride + u, units, rows, b.stride, bf16, panel);
                add_stretch(part, f, end, depth, panel, u, units, width, adds || n > 0, bf16, to);
            }
        }
}

/* A matrix B [depth, columns] that many rows are multiplied by, in BF16, as the caller has it: row by row, or
 * `transposed`, column by column. */
typedef struct {
    const float *at;
    idx depth, columns, transposed;
    float *packed; /* [padded(columns) / COLS] panels */
} matrix;

static void pack_matrix(const matrix *m, idx panel) {
    idx units = min_idx(COLS, m->columns - panel * COLS);
    float *to = m->packed + panel * panel_size(m->depth, 1);
    if (m->transposed)
        pack_rows(m->at + panel * COLS * m->depth, units, m->depth, 1, to);
    else
        pack_columns(m->at + panel * COLS, units, m->depth, m->columns, 1, to);
}

#endif
