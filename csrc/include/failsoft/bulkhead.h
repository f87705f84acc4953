/* bulkhead.h - at most so many calls at a time.
 *
 * What:    a count of the calls under way, and a limit. Who enters leaves once, whatever happened in between. A forked
 *          child counts from 0 again, and calls that forked leave there too: so the count stays at 0 then.
 * States:  none but the count. It may be above the limit after that was lowered: then nobody enters until enough have
 *          left. A limit of FS_UNBOUNDED: everybody enters, and is counted.
 * Units:   calls.
 * Threads: one compare-and-swap to enter, so the count is never above the limit even for an instant; where a counter has
 *          one writer at a time (FS_MANY_WRITERS 0) stores will do. Leaving is ordered before the look at who waits.
 * Errors:  none.
 */
#ifndef FAILSOFT_BULKHEAD_H
#define FAILSOFT_BULKHEAD_H

#include "failsoft/atomics.h"

#define FS_UNBOUNDED UINT32_MAX

typedef struct {
    uint32_t in_flight;
    uint32_t limit;
} fs_bulkhead;

/* False: it is full. */
static inline bool fs_bulkhead_enter(fs_bulkhead *bulkhead) {
    uint32_t in_flight = fs_load_relaxed(&bulkhead->in_flight);
    for (;;) {
        if (FS_UNLIKELY(in_flight >= fs_load_relaxed(&bulkhead->limit))) return false;
#if FS_MANY_WRITERS
        if (fs_cas(&bulkhead->in_flight, &in_flight, in_flight + 1)) return true;
#else
        fs_store_relaxed(&bulkhead->in_flight, in_flight + 1);
        return true;
#endif
    }
}

static inline void fs_bulkhead_leave(fs_bulkhead *bulkhead) {
    uint32_t in_flight = fs_load_relaxed(&bulkhead->in_flight);
#if FS_MANY_WRITERS
    while (in_flight && !fs_cas_seq_cst(&bulkhead->in_flight, &in_flight, in_flight - 1)) {}
#else
    fs_store_relaxed(&bulkhead->in_flight, in_flight - (in_flight != 0));
#endif
}

#endif
