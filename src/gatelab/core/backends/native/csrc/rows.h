/* The rows of a ragged batch: where each computed row lies in a padded [T, B] one, and the way back.
 *
 * Index work and copies only; nothing here knows the cell.
 */
#ifndef GATELAB_ROWS_H
#define GATELAB_ROWS_H

#include "vector.h"

/* The rows of [T*B] in the order of the walk, then those past the lengths; returns how many the former are. */
static idx list_rows(const idx *lengths, const idx *rows, idx steps, idx batch, int reverse, idx *order) {
    idx count = 0, active = batch;
    for (idx s = 0; s < steps; s++) {
        while (active > 0 && lengths[active - 1] <= s)
            active--;
        for (idx place = 0; place < active; place++)
            order[count++] = (reverse ? lengths[place] - 1 - s : s) * batch + rows[place];
    }
    idx at = count;
    for (idx place = 0; place < batch; place++)
        for (idx time = lengths[place]; time < steps; time++)
            order[at++] = time * batch + rows[place];
    return count;
}

/* One row of `to`, given by its number in `order`: a copied one, or zeros. */
INLINE void spread_row(const float *from, const idx *order, idx count, idx width, idx i, float *to) {
    if (i < count)
        memcpy(to + order[i] * width, from + i * width, (size_t)width * sizeof(float));
    else
        memset(to + order[i] * width, 0, (size_t)width * sizeof(float));
}

#endif
