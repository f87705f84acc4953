/* backoff.h - how long to wait before the next attempt.
 *
 * What:    exponential delays with a jitter kind (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015):
 *            ceiling(n) = min(maximum, initial * multiplier^n),  n = 0 before the first retry
 *            NONE          ceiling
 *            FULL          uniform in [0, ceiling)
 *            EQUAL         ceiling/2 + uniform in [0, ceiling/2)
 *            DECORRELATED  min(maximum, uniform in [initial, 3 * previous)), previous = initial at first
 * States:  none between calls: the caller hands the previous delay back where the kind wants it.
 * Units:   fs_ns in and out. Delays saturate at maximum, for any n, and are never negative.
 * Threads: fs_backoff is read-only after init; the fs_rng has one user at a time.
 * Errors:  fs_backoff_init answers FS_INVALID outside its domain; nothing else can fail.
 */
#ifndef FAILSOFT_BACKOFF_H
#define FAILSOFT_BACKOFF_H

#include "failsoft/clock.h"
#include "failsoft/rng.h"
#include "failsoft/status.h"

typedef enum { FS_JITTER_NONE = 0, FS_JITTER_FULL, FS_JITTER_EQUAL, FS_JITTER_DECORRELATED } fs_jitter;

/* Ceilings kept ready: with the usual multipliers all later ones equal the maximum. */
#define FS_BACKOFF_TABLE 32

typedef struct {
    fs_ns initial;
    fs_ns maximum;
    double multiplier;
    fs_jitter jitter;
    fs_ns ceilings[FS_BACKOFF_TABLE];
} fs_backoff;

/* Domain: initial <= maximum, multiplier >= 1 and finite. */
fs_status fs_backoff_init(fs_backoff *backoff, fs_ns initial, fs_ns maximum, double multiplier, fs_jitter jitter);

/* The ceiling of an attempt past the table. */
fs_ns fs_backoff_ceiling_far(const fs_backoff *backoff, uint64_t attempt);

static inline fs_ns fs_backoff_ceiling(const fs_backoff *backoff, uint64_t attempt) {
    if (FS_LIKELY(attempt < FS_BACKOFF_TABLE)) return backoff->ceilings[attempt];
    return fs_backoff_ceiling_far(backoff, attempt);
}

static inline fs_ns fs_backoff_delay(const fs_backoff *backoff, uint64_t attempt, fs_ns previous, fs_rng *rng) {
    fs_ns ceiling = fs_backoff_ceiling(backoff, attempt);
    switch (backoff->jitter) {
    case FS_JITTER_NONE:
        return ceiling;
    case FS_JITTER_FULL:
        return (fs_ns)((double)ceiling * fs_rng_unit(rng));
    case FS_JITTER_EQUAL:
        return ceiling - ceiling / 2 + (fs_ns)((double)(ceiling / 2) * fs_rng_unit(rng));
    case FS_JITTER_DECORRELATED: {
        double low = (double)backoff->initial;
        double high = 3.0 * (double)(previous > backoff->initial ? previous : backoff->initial);
        double drawn = low + (high - low) * fs_rng_unit(rng);
        return drawn < (double)backoff->maximum ? (fs_ns)drawn : backoff->maximum;
    }
    }
    return ceiling;
}

#endif
