/* The walk over a batch: how the threads share its work, the barrier between steps, and which rows a step and a place
 * refer to. No state outlives a call. Compiled without OpenMP, every call runs on its own thread alone.
 */
#ifndef GATELAB_WALK_H
#define GATELAB_WALK_H

#include <sched.h>
#include <stdatomic.h>

#include "gemm.h"
#include "gru.h"

#ifdef _OPENMP
#include <omp.h>
#endif

typedef struct {
    _Atomic int arrived;
    char apart[60]; /* the waiting threads read `round` only: it has a cache line of its own */
    _Atomic int round;
    char apart_too[60];
} barrier;

/* Wait until all `members` are here. Spins, because a step takes microseconds; yields if others need the core. */
INLINE void meet(barrier *b, int members) {
    if (members == 1)
        return;
    int round = atomic_load_explicit(&b->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == members - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; spins++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
        if (spins > 10000) {
            sched_yield();
            spins = 0;
        }
    }
}

/* Thread `id` of `members` gets [first, last) of `count`. */
INLINE idx share(idx count, idx id, int members) { return count * id / members; }

/* One thread's part: the places first, first+step, ... below `last`, and panels [panel0, panel1) of units. */
typedef struct {
    int id, members;
    idx first, step, last;
    idx panel0, panel1;
    barrier *meeting; /* NULL when the threads never have to wait for each other */
} part;

INLINE part part_of(const gru_call *c, int id, int members, barrier *meeting) {
    idx panels = panels_of(c->hidden);
    part p = {id, members, 0, 1, c->batch, 0, panels, NULL};
    if (c->split_units) {
        p.panel0 = share(panels, id, members);
        p.panel1 = share(panels, id + 1, members);
        p.meeting = meeting;
    } else if (c->lengths) { /* rows by turns: every thread gets long and short ones */
        p.first = id;
        p.step = members;
    } else {
        p.first = share(c->batch, id, members);
        p.last = share(c->batch, id + 1, members);
    }
    return p;
}

INLINE void wait_for_all(const part *p) {
    if (p->meeting)
        meet(p->meeting, p->members);
}

/* How many of the part's places are below `end`. */
INLINE idx places_below(const part *p, idx end) {
    end = min_idx(end, p->last);
    return end <= p->first ? 0 : (end - p->first + p->step - 1) / p->step;
}

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

#endif
