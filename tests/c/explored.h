/* explored.h - what the tests by explorer share: scripts of threads, and what is told of a search.
 *
 * What:    a script is what each thread does, one action after another, up to an END of 0; a body walks through it. A search
 *          prints a line, and the sums of all of them make the score of the test.
 * States:  none of its own.   Units: none.   Threads: one.   Errors: none; see explorer.h.
 */
#ifndef FAILSOFT_EXPLORED_H
#define FAILSOFT_EXPLORED_H

#include "explorer.h"

/* How many threads a script is for. */
#define EX_THREADS_IN(script) __extension__({ \
    int ex_in_ = 0; \
    while (ex_in_ < EXPLORER_THREADS && (script)[ex_in_][0] != END) ex_in_++; \
    ex_in_; \
})

/* For each action of a row: an operation begins, what was read before no longer matters. */
#define EX_EACH(what, row, most) \
    for (int ex_at_ = 0; ex_at_ < (most) && ((what) = (row)[ex_at_]) != END && ex_next(ex_at_); ex_at_++)

static inline bool ex_next(int at) {
    if (at) ex_begin((uint64_t)at);
    return true;
}

typedef struct {
    uint64_t states;
    uint32_t deepest, searches;
} ex_sums;

static inline ex_found ex_search_and_tell(const ex_plan *plan, ex_sums *sums) {
    ex_found found = ex_explore(plan);
    printf("%-48s %-6s %9" PRIu64 " states %8" PRIu64 " ends %9.3g schedules %4u deep\n", plan->name,
           plan->weak ? "weak" : "strict", found.states, found.ends, found.schedules, found.deepest);
    sums->states += found.states;
    sums->searches++;
    if (found.deepest > sums->deepest) sums->deepest = found.deepest;
    return found;
}

static inline void ex_score(const char *sentence, const ex_sums *sums) {
    printf("score: %s | states | %" PRIu64 " | %u searches, depth %u\n", sentence, sums->states, sums->searches, sums->deepest);
}

#endif
