/* breaker_rig.h - what the breaker's tests share: a plain configuration, and calls that keep the last change.
 *
 * Everything happens at stated times on the fake clock, in an arena of the test's own.
 */
#ifndef FAILSOFT_BREAKER_RIG_H
#define FAILSOFT_BREAKER_RIG_H

#include "failsoft/breaker.h"

#include "check.h"
#include "small_arena.h"

#define MS UINT64_C(1000000)
#define SECOND FS_NS_PER_SECOND
#define START (UINT64_C(1000) * SECOND)
#define WAIT (10 * SECOND)
#define LEASE (2 * SECOND)
#define NO_RATE 2.0
#define LEASE_UNIT UINT64_C(10000)

static fs_arena *arena;
static fs_change change; /* what the last call below brought about */

static inline fs_breaker_config plain(void) {
    return (fs_breaker_config){
        .reset_timeout = WAIT, .reset_most = FS_FOREVER, .lease = LEASE, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = NO_RATE, .slow_rate = NO_RATE, .failure_threshold = 3, .success_threshold = 2,
        .half_open_most = 3, .minimum_calls = 10,
    };
}

static inline fs_breaker *made(fs_breaker_config config) {
    CHECK_EQ(fs_breaker_check(&config), FS_OK);
    fs_breaker *breaker = fs_breaker_take(arena, &config, START);
    if (!breaker) exit(2);
    return breaker;
}

static inline fs_permit acquire(fs_breaker *breaker, fs_ns now) {
    change = (fs_change){0};
    return fs_breaker_acquire(breaker, now, &change);
}

static inline void success(fs_breaker *breaker, fs_permit permit, fs_ns now) {
    change = (fs_change){0};
    fs_breaker_success(breaker, permit, 0, now, &change);
}

static inline void failure(fs_breaker *breaker, fs_permit permit, fs_ns now) {
    change = (fs_change){0};
    fs_breaker_failure(breaker, permit, 0, now, &change);
}

static inline void force(fs_breaker *breaker, fs_state state, fs_ns now) {
    change = (fs_change){0};
    fs_breaker_force(breaker, state, now, &change);
}

static inline uint64_t gate(const fs_breaker *breaker) { return fs_breaker_gate(breaker); }
static inline fs_state state(const fs_breaker *breaker) { return fs_gate_state(gate(breaker)); }
static inline uint32_t tally(const fs_breaker *breaker) { return fs_gate_count(gate(breaker)); }
static inline uint32_t generation(const fs_breaker *breaker) { return fs_gate_generation(gate(breaker)); }

static inline fs_breaker_status status(const fs_breaker *breaker, fs_ns now) {
    fs_breaker_status told;
    fs_breaker_read(breaker, now, &told);
    return told;
}

static inline void fail_times(fs_breaker *breaker, uint32_t times, fs_ns now) {
    while (times--) failure(breaker, acquire(breaker, now), now);
}

static inline void check_change(fs_state from, fs_state to, fs_because because, uint32_t of_generation,
                                uint32_t failures) {
    CHECK_EQ(change.from, from);
    CHECK_EQ(change.to, to);
    CHECK_EQ(change.because, because);
    CHECK_EQ(change.generation, of_generation);
    CHECK_EQ(change.failures, failures);
}

/* A breaker brought into a state the way it usually gets there, at START (HALF_OPEN: at START + WAIT). */
static inline fs_breaker *in_state(fs_breaker_config config, fs_state wanted) {
    fs_breaker *breaker = made(config);
    if (wanted == FS_OPEN || wanted == FS_HALF_OPEN) fail_times(breaker, config.failure_threshold, START);
    if (wanted == FS_HALF_OPEN) fs_breaker_ignore(breaker, acquire(breaker, START + WAIT));
    if (wanted > FS_HALF_OPEN) force(breaker, wanted, START);
    CHECK_EQ(state(breaker), wanted);
    return breaker;
}

/* A call of `took` as the call path does it: counted in the series, then told to the breaker. */
static inline void call(fs_breaker *breaker, fs_series *series, fs_ns now, bool failed, fs_ns took) {
    fs_clock_fake_set(now);
    fs_permit permit = acquire(breaker, now);
    if (!CHECK(permit != 0)) return;
    fs_histogram *histogram = fs_series_stripe(series, 0);
    fs_histogram_record(histogram, took, fs_stamp());
    fs_histogram_outcome(histogram, failed, took >= breaker->config.slow);
    change = (fs_change){0};
    if (failed) fs_breaker_failure(breaker, permit, took, now, &change);
    else fs_breaker_success(breaker, permit, took, now, &change);
}

static inline fs_series *adopted(fs_breaker *breaker, fs_ns window) {
    fs_clock_fake_set(START);
    fs_series *series = fs_series_take(arena, window, START);
    if (!series) exit(2);
    fs_breaker_adopt(breaker, series);
    return series;
}

static inline fs_breaker_config by_rate(void) {
    fs_breaker_config config = plain();
    config.failure_threshold = 0;
    config.failure_rate = 0.5;
    return config;
}

typedef enum { SUCCEEDED, FAILED, IGNORED } ending;

static inline void rig_setup(void) {
    fs_clock_fake(true);
    arena = small_arena(1 << 14);
    if (!arena) exit(2);
}

static inline int rig_report(void) {
    free(arena);
    return check_report();
}

#endif
