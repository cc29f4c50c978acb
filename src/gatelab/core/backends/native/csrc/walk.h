/* Where things lie: the walk over the steps of a batch, the rows that a step and a place refer to, and where each
 * computed row of a ragged batch lies in a padded [T, B] one. */
#ifndef GATELAB_WALK_H
#define GATELAB_WALK_H

#include "team.h"

/* Step number `s` of the walk (not the time, when in reverse) with its active places and their offset in N. */
typedef struct {
    idx s, active, next_active, offset;
} moment;

INLINE idx active_at(const gru_call *c, idx s, idx from) {
    if (c->lengths)
        while (from > 0 && c->lengths[from - 1] <= s)
            from--;
    return from;
}

INLINE moment first_moment(const gru_call *c) {
    moment m = {0, active_at(c, 0, c->batch), 0, 0};
    m.next_active = active_at(c, 1, m.active);
    return m;
}

INLINE void step_on(const gru_call *c, moment *m) {
    m->offset += m->active;
    m->active = m->next_active;
    m->s++;
    m->next_active = active_at(c, m->s + 1, m->active);
}

/* The last step in which any row is active; `s` is -1 if there is none. */
INLINE moment last_moment(const gru_call *c) {
    moment m = first_moment(c), before = {-1, 0, 0, 0};
    while (m.s < c->steps && m.active > 0) {
        before = m;
        step_on(c, &m);
    }
    return before;
}

INLINE void step_back(const gru_call *c, moment *m) {
    m->s--;
    m->next_active = m->active;
    if (c->lengths)
        while (m->active < c->batch && c->lengths[m->active] > m->s)
            m->active++;
    m->offset -= m->active;
}

INLINE idx length_of(const gru_call *c, idx place) { return c->lengths ? c->lengths[place] : c->steps; }
INLINE idx batch_row(const gru_call *c, idx place) { return c->rows ? c->rows[place] : place; }

/* The row of `y`, `dy` and `resets`. */
INLINE idx outer_row(const gru_call *c, idx s, idx place) {
    idx time = c->reverse ? length_of(c, place) - 1 - s : s;
    return time * c->batch + batch_row(c, place);
}

/* The row in N that the step's first place has: in `x`, `projected` and, when training, `gates`. */
INLINE idx inner_row(const gru_call *c, const moment *m) {
    if (c->lengths)
        return m->offset;
    return (c->reverse ? c->steps - 1 - m->s : m->s) * c->batch;
}

/* The row of `states` that the step's first place has; of the step after it, if `ahead` is 1. */
INLINE idx state_row(const gru_call *c, const moment *m, idx ahead) {
    idx s = m->s + ahead;
    if (!c->training)
        return (s & 1) * c->batch;
    if (c->lengths)
        return m->offset + ahead * m->active;
    return (c->reverse ? c->steps - s : s) * c->batch;
}

/* Whether the state that enters step s is zero whatever came before. Past the row's end nothing enters. */
INLINE int resets_at(const gru_call *c, idx s, idx place) {
    return c->resets && s < length_of(c, place) && c->resets[outer_row(c, s, place)];
}

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
