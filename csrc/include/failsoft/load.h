/* load.h - load control of one integration: throttle, rate limiter and bulkhead, in this order.
 *
 * What:    the block that a guard passes after the breaker has let its call go. fs_load_enter is the whole of it for a
 *          call that has nothing to fear: `look` is zero, there is a place, there is a token. Everything else goes to
 *          fs_load_admit, which says what refused. Who entered leaves once (fs_load_leave).
 *
 *          A call that one of the three refuses has taken nothing from the others.
 * States:  `look` is not zero while calls may not pass unseen: QUEUED, somebody waits and nobody may go before him;
 *          THROTTLING, the throttle lets only a share go.
 * Units:   fs_ticks for stamps, fs_ns for CLOCK_MONOTONIC.
 * Threads: as of the three. Who queues stores QUEUED before his last look at the place, who leaves looks for QUEUED after
 *          he has left: one of them sees the other.
 * Errors:  NULL where there is no room; nothing else can fail.
 */
#ifndef FAILSOFT_LOAD_H
#define FAILSOFT_LOAD_H

#include "failsoft/breaker.h"
#include "failsoft/bulkhead.h"
#include "failsoft/limiter.h"
#include "failsoft/throttle.h"

/* A permit that is not granted says so by what refused: see FS_NO_ROOM in breaker.h. */
#define FS_RATE_LIMITED UINT64_C(4)
#define FS_BULKHEAD_FULL UINT64_C(6)
#define FS_THROTTLED UINT64_C(8)

#define FS_LOOK_QUEUED UINT32_C(1)
#define FS_LOOK_THROTTLING UINT32_C(2)

/* What refused n at once, as a permit; and back: the code (0: not load control) and n. */
static inline fs_permit fs_load_refused(uint64_t code, uint64_t n) { return code | (n == 1 ? 0 : n << 8); }

static inline uint64_t fs_load_code(fs_permit permit) {
    uint64_t code = permit & 0xff;
    return fs_permit_granted(permit) || code < FS_RATE_LIMITED || code > FS_THROTTLED ? 0 : code;
}

static inline uint64_t fs_load_wanted(fs_permit permit) { return permit >> 8 ? permit >> 8 : 1; }

typedef struct {
    fs_block block;
    uint32_t look;
    uint32_t queued;     /* calls waiting, batches with all they hold */
    fs_bulkhead bulkhead;
    fs_limiter limiter;
    fs_ns rate_wait;     /* how long a call may wait for a token, and for a place */
    fs_ns place_wait;
    fs_throttle throttle;
} fs_load;

/* A call may go, and is in. False: see fs_load_admit. */
static inline bool fs_load_enter(fs_load *load, fs_ticks stamp) {
    if (FS_UNLIKELY(fs_load_relaxed(&load->look) != 0)) return false;
    /* The place last: who takes one and gives it back would have to tell whoever has found none meanwhile. */
    if (FS_UNLIKELY(!fs_limiter_take(&load->limiter, stamp, 1))) return false;
    if (FS_LIKELY(fs_bulkhead_enter(&load->bulkhead))) return true;
    fs_limiter_give_back(&load->limiter, 1);
    return false;
}

/* The call is over. True: somebody waits for its place. */
static inline bool fs_load_leave(fs_load *load) {
    fs_bulkhead_leave(&load->bulkhead);
#if FS_MANY_WRITERS
    return FS_UNLIKELY(fs_load_seq_cst(&load->look) & FS_LOOK_QUEUED);
#else
    return FS_UNLIKELY(fs_load_relaxed(&load->look) & FS_LOOK_QUEUED);
#endif
}

/* A block without limits. NULL: no room. */
fs_load *fs_load_take(fs_arena *arena, fs_ticks stamp);

/* Is any of the three there? */
bool fs_load_armed(const fs_load *load);

/* Ask all three for n tokens and one place. 0: it is in, and leaves by fs_load_leave; else the code of what refused.
 * `probe`: the throttle is not asked. `queue`: it is first in the queue; others do not go while somebody waits, and are
 * told what the first would be. */
uint64_t fs_load_admit(fs_load *load, fs_breaker *breaker, uint64_t n, bool probe, bool queue, fs_ns now, fs_ticks stamp);

/* How long a call refused by this code may wait; 0: not at all. */
static inline fs_ns fs_load_patience(const fs_load *load, uint64_t code) {
    return code == FS_RATE_LIMITED ? fs_load_relaxed(&load->rate_wait)
           : code == FS_BULKHEAD_FULL ? fs_load_relaxed(&load->place_wait) : 0;
}

/* Tokens that whoever was refused by this permit needs, with all who wait before him. */
static inline uint64_t fs_load_ahead(const fs_load *load, fs_permit permit) {
    return fs_load_relaxed(&load->queued) + fs_load_wanted(permit);
}

/* Until as many tokens will have come, as it was at `now`. */
fs_ns fs_load_retry_after(const fs_load *load, fs_permit permit, fs_ns now);

/* What a limit allows now: calls a second, calls at a time, share of the calls. */
double fs_load_number(const fs_load *load, uint64_t code);

/* What was entered was not used: give the tokens back, and leave. True: as of fs_load_leave. */
bool fs_load_withdraw(fs_load *load, uint64_t n);

/* So many wait now. */
void fs_load_queue(fs_load *load, uint32_t waiting);

/* A failure has been settled: does the throttle have to do something? */
void fs_load_failed(fs_load *load, fs_breaker *breaker, fs_ns now);

#endif
