/* clock.h - the only reader of time.
 *
 * What:    two clocks. fs_now() is CLOCK_MONOTONIC in nanoseconds: every expiry that is kept is in this unit, and it
 *          means the same in every process of the host. fs_stamp() is the cheap one for durations inside this process:
 *          the invariant TSC (CNTVCT on ARM) where the kernel itself keeps time with it, CLOCK_MONOTONIC otherwise.
 *          A kernel clock read costs about 25 ns and a counter read a few, and an honest guard needs two a call.
 *          Wall time is never read.
 * States:  source MONOTONIC, COUNTER or FAKE. COUNTER is chosen once, at fs_clock_setup(), only if the kernel's current
 *          clocksource is that counter, the processor says it is invariant, and FAILSOFT_CLOCK is not "monotonic". It
 *          is left for good on the first anomaly fs_clock_check() finds: counter and CLOCK_MONOTONIC disagreeing by
 *          more than FS_CLOCK_TOLERANCE_PPM, as after a suspend, a migration, or on unsynchronised cores. Stamps
 *          keep their scale when that happens: later ones are CLOCK_MONOTONIC converted to the counter's unit, so
 *          durations that straddle the change stay sane. FAKE is for tests (failsoft.testing.FakeClock).
 * Units:   fs_ns nanoseconds; fs_ticks counter ticks, converted by fs_ticks_to_ns() and fs_ns_to_ticks().
 * Threads: all functions may be called from any thread. The scale is one word, replaced whole.
 * Errors:  none. A duration that came out negative is huge as an unsigned number; callers range-check it once.
 */
#ifndef FAILSOFT_CLOCK_H
#define FAILSOFT_CLOCK_H

#include "failsoft/atomics.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

typedef uint64_t fs_ns;
typedef uint64_t fs_ticks;
__extension__ typedef unsigned __int128 fs_wide;

#define FS_NS_PER_SECOND UINT64_C(1000000000)
#define FS_FOREVER UINT64_MAX

/* Two clocks of one machine drift apart by at most 500 ppm (NTP's slew limit) plus the error of a short calibration. */
#define FS_CLOCK_TOLERANCE_PPM 1000

typedef enum { FS_CLOCK_MONOTONIC = 0, FS_CLOCK_COUNTER, FS_CLOCK_FAKE } fs_clock_source;

typedef struct {
    uint32_t source;        /* fs_clock_source */
    uint32_t anomalies;     /* disagreements found, and durations that came out negative */
    uint64_t ns_per_tick;   /* 32.32 fixed point */
    uint64_t ticks_per_ns;  /* 32.32 fixed point */
} fs_clock_state;

extern fs_clock_state fs_clock;

/* Choose the source and calibrate it; about a millisecond. Call once, before anything else. */
void fs_clock_setup(void);

/* The same in two steps, with something else to do between them: what is left of the millisecond is waited for in the
 * second. Nobody may take a stamp before that. Settled a second time (a package is imported anew), nothing happens. */
void fs_clock_begin(void);
void fs_clock_settle(void);

/* CLOCK_MONOTONIC, or the fake clock. */
fs_ns fs_now(void);

/* A stamp by the sources that are not the counter. */
fs_ticks fs_stamp_slow(void);

/* Compare counter and kernel clock, refine the scale, abandon the counter if they disagree. Cheap to call often. */
void fs_clock_check(void);

/* Test hooks: run on a fake clock (true) or the real one (false); set its time; pretend the counter has jumped. */
void fs_clock_fake(bool on);
void fs_clock_fake_set(fs_ns now);
void fs_clock_skew(int64_t ticks);

static inline uint64_t fs_clock_scale(uint64_t value, uint64_t fixed) {
    return (uint64_t)(((fs_wide)value * fixed) >> 32);
}

static inline fs_ns fs_ticks_to_ns(fs_ticks ticks) {
    return fs_clock_scale(ticks, fs_load_relaxed(&fs_clock.ns_per_tick));
}

static inline fs_ticks fs_ns_to_ticks(fs_ns ns) {
    return fs_clock_scale(ns, fs_load_relaxed(&fs_clock.ticks_per_ns));
}

static inline fs_ticks fs_counter(void) {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

static inline fs_ticks fs_stamp(void) {
    if (FS_LIKELY(fs_load_relaxed(&fs_clock.source) == FS_CLOCK_COUNTER)) return fs_counter();
    return fs_stamp_slow();
}

/* ns + more, saturating at FS_FOREVER. */
static inline fs_ns fs_ns_add(fs_ns ns, fs_ns more) {
    fs_ns sum = ns + more;
    return sum < ns ? FS_FOREVER : sum;
}

#endif
