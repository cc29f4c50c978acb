/* Threads: how a call's work is shared out, and the barrier between steps. No state outlives a call.
 *
 * Compiled without OpenMP, every call runs on its own thread alone.
 */
#ifndef GATELAB_TEAM_H
#define GATELAB_TEAM_H

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
        p.panel0 = panels * id / members;
        p.panel1 = panels * (id + 1) / members;
        p.meeting = meeting;
    } else if (c->lengths) { /* rows by turns: every thread gets long and short ones */
        p.first = id;
        p.step = members;
    } else {
        p.first = c->batch * id / members;
        p.last = c->batch * (id + 1) / members;
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

#endif
