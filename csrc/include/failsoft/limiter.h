/* limiter.h - so many calls a second, with a burst.
 *
 * What:    a token bucket in one word (GCRA). The word, `full`, is the time at which the bucket will be full again. A
 *          token taken moves it on by `interval`, the time one token needs to come back, and never further ahead of
 *          now than `depth`, the time an empty bucket needs to fill:
 *
 *              now                    full                  now + depth
 *               |----- taken ----------|------ left ----------|
 *
 *          No refill, no timer, and "when would n fit" is a subtraction.
 * States:  full <= now: the bucket is full. An interval of 0: no limit. `full` further ahead than depth means that the
 *          clock has been changed for another (a test's, one after a suspend), and the bucket is full.
 * Units:   FS_LIMITER_UNIT parts of a tick of fs_stamp(), so that a call reads no clock for it; they wrap around, and
 *          only differences are used. `scale` says by which ticks the interval was made: fs_limiter_refresh follows.
 * Threads: one compare-and-swap decides; where a counter has one writer at a time (FS_MANY_WRITERS 0) a store will do.
 * Errors:  fs_limiter_set answers FS_INVALID outside the domain; nothing else can fail.
 */
#ifndef FAILSOFT_LIMITER_H
#define FAILSOFT_LIMITER_H

#include "failsoft/clock.h"
#include "failsoft/status.h"

#define FS_LIMITER_UNIT 8             /* bits of a tick */
#define FS_LIMITER_DEEPEST 1e6        /* seconds: what an empty bucket may need to fill */

typedef struct {
    uint64_t full;
    uint64_t interval;   /* 0: no limit */
    uint64_t depth;
    uint64_t scale;      /* ticks_per_ns when interval and depth were made */
    double rate;         /* tokens a second */
    uint64_t burst;
} fs_limiter;

static inline uint64_t fs_limiter_time(fs_ticks stamp) { return stamp << FS_LIMITER_UNIT; }

/* Tokens a second; 0.0: any number. */
static inline double fs_limiter_rate(const fs_limiter *limiter) {
    double rate;
    fs_load_relaxed_to(&limiter->rate, &rate);
    return rate;
}

/* How far ahead of now the bucket will be full; 0: it is. */
static inline uint64_t fs_limiter_ahead(uint64_t full, uint64_t now) {
    int64_t ahead = (int64_t)(full - now);
    return ahead > 0 ? (uint64_t)ahead : 0;
}

/* Take n tokens, at most `burst`. False: they are not there, or the clock has changed; see fs_limiter_take_slow. */
static inline bool fs_limiter_take(fs_limiter *limiter, fs_ticks stamp, uint64_t n) {
    uint64_t now = fs_limiter_time(stamp), full = fs_load_relaxed(&limiter->full);
    for (;;) {
        uint64_t after = fs_limiter_ahead(full, now) + n * fs_load_relaxed(&limiter->interval);
        if (FS_UNLIKELY(after > fs_load_relaxed(&limiter->depth))) return false;
#if FS_MANY_WRITERS
        if (fs_cas(&limiter->full, &full, now + after)) return true;
#else
        fs_store_relaxed(&limiter->full, now + after);
        return true;
#endif
    }
}

/* rate 0.0: no limit. Tokens that have been taken stay taken. FS_INVALID, and nothing has changed:
 * rate or burst is no positive number, or the bucket would take more than FS_LIMITER_DEEPEST to fill. */
fs_status fs_limiter_set(fs_limiter *limiter, double rate, uint64_t burst, fs_ticks stamp);

/* Go by the clock as it is now. */
void fs_limiter_refresh(fs_limiter *limiter, fs_ticks stamp);

/* The same as fs_limiter_take, by the clock as it is now. */
bool fs_limiter_take_slow(fs_limiter *limiter, fs_ticks stamp, uint64_t n);

/* Give n tokens back that were not used. */
void fs_limiter_give_back(fs_limiter *limiter, uint64_t n);

/* Until n tokens will have come, if nobody else takes any; 0: they are there. More than `burst` come one after another. */
fs_ns fs_limiter_when(const fs_limiter *limiter, fs_ticks stamp, uint64_t n);

/* Tokens there now, whole and parts. */
double fs_limiter_tokens(const fs_limiter *limiter, fs_ticks stamp);

#endif
