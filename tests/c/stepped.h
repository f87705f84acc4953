/* stepped.h - the core, built so that a process can be killed before any of its atomic stores.
 *
 * Included before every source of the core (-include). Each store counts, and the one whose turn it is kills the process
 * in place of being made.
 */
#ifndef FAILSOFT_STEPPED_H
#define FAILSOFT_STEPPED_H

#include "failsoft/atomics.h"

extern uint64_t step_count, step_kills_at;
void step_die(void);

static inline void step(void) {
    if (++step_count == step_kills_at) step_die();
}

#undef fs_store_relaxed
#undef fs_store_release
#undef fs_add_relaxed
#undef fs_swap_relaxed
#undef fs_or_relaxed
#undef fs_or_release
#undef fs_or_acq_rel
#undef fs_and_relaxed
#undef fs_cas
#undef fs_cas_seq_cst
#undef fs_store_relaxed_from
#undef fs_cas_relaxed_from
#undef fs_tally_set
#define fs_store_relaxed(p, v) (step(), __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define fs_store_release(p, v) (step(), __atomic_store_n((p), (v), __ATOMIC_RELEASE))
#define fs_add_relaxed(p, v) (step(), __atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
#define fs_swap_relaxed(p, v) (step(), __atomic_exchange_n((p), (v), __ATOMIC_RELAXED))
#define fs_or_relaxed(p, v) (step(), __atomic_fetch_or((p), (v), __ATOMIC_RELAXED))
#define fs_or_release(p, v) (step(), __atomic_fetch_or((p), (v), __ATOMIC_RELEASE))
#define fs_or_acq_rel(p, v) (step(), __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL))
#define fs_and_relaxed(p, v) (step(), __atomic_fetch_and((p), (v), __ATOMIC_RELAXED))
#define fs_cas(p, expected, desired) \
    (step(), __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
#define fs_cas_seq_cst(p, expected, desired) \
    (step(), __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
#define fs_store_relaxed_from(p, from) (step(), __atomic_store((p), (from), __ATOMIC_RELAXED))
#define fs_cas_relaxed_from(p, expected, from) \
    (step(), __atomic_compare_exchange((p), (expected), (from), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
#define fs_tally_set(p, v) (step(), (void)(*(p) = (v)))

#endif
