/* atomics.h - every atomic access of the core, with its memory order in its name.
 *
 * What:    thin names over the compiler's __atomic builtins. They work on plain words, so a struct laid over a mapped
 *          file needs no _Atomic members and C++ consumers can include these headers.
 * States:  none.   Units: none.
 * Threads: "relaxed" is enough for counters, which are only summed; "acquire"/"release" order the words that publish
 *          others (a gate word publishes the wait stored before it).
 *          FS_MANY_WRITERS is 1 where several threads may write one counter at the same instant (builds without the
 *          GIL). Otherwise a counter has one writer at a time and needs no locked instruction: fs_tally_add is a load
 *          and a store, which other processes may still read without tearing.
 * Errors:  none.
 */
#ifndef FAILSOFT_ATOMICS_H
#define FAILSOFT_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#ifndef FS_MANY_WRITERS
#ifdef Py_GIL_DISABLED /* modules that stand on an installed failsoft must see the layout it was built with */
#define FS_MANY_WRITERS 1
#else
#define FS_MANY_WRITERS 0
#endif
#endif

#define FS_LIKELY(x) __builtin_expect(!!(x), 1)
#define FS_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define fs_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define fs_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fs_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fs_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define fs_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define fs_swap_relaxed(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELAXED)
#define fs_or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define fs_or_release(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELEASE)
#define fs_or_acq_rel(p, v) __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
#define fs_and_relaxed(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)

/* Before the second look at a word that says whether what was read in between is whole, and after its first mark. */
#define fs_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define fs_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)

/* Compare and swap, acquire-release on success; on failure *expected holds what was found. */
#define fs_cas(p, expected, desired) \
    __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Where one stores here and then looks there, and another there and then here: one of them sees the other. */
#define fs_load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define fs_fence_seq_cst() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define fs_cas_seq_cst(p, expected, desired) \
    __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)

/* The same for doubles, which go to and come from a variable. */
#define fs_load_relaxed_to(p, to) __atomic_load((p), (to), __ATOMIC_RELAXED)
#define fs_store_relaxed_from(p, from) __atomic_store((p), (from), __ATOMIC_RELAXED)
#define fs_cas_relaxed_from(p, expected, from) \
    __atomic_compare_exchange((p), (expected), (from), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)

/* Counters: locked, or atomic at all, only where several threads of this process may touch one at once. fs_tally_get
 * is for scans of many counters, which the compiler may then do several at a time. */
#if FS_MANY_WRITERS
#define fs_tally_get(p) fs_load_relaxed(p)
#define fs_tally_set(p, v) fs_store_relaxed((p), (v))
#define fs_tally_bump(p) (fs_add_relaxed((p), 1) + 1)
#define fs_tally_add(p, v) ((void)fs_add_relaxed((p), (v)))
#else
#define fs_tally_get(p) (*(p))
#define fs_tally_set(p, v) ((void)(*(p) = (v)))
#define fs_tally_bump(p) __extension__({ __typeof__(*(p)) fs_up_ = fs_load_relaxed(p) + 1; fs_store_relaxed((p), fs_up_); fs_up_; })
#define fs_tally_add(p, v) fs_store_relaxed((p), fs_load_relaxed(p) + (v))
#endif

#endif
