/* histogram_rig.h - what the histogram's tests share: series on the fake clock, in an arena of the test's own. */
#ifndef FAILSOFT_HISTOGRAM_RIG_H
#define FAILSOFT_HISTOGRAM_RIG_H

#include "failsoft/histogram.h"

#include "check.h"
#include "small_arena.h"

#define SLICE (UINT64_C(100) * 1000000)
#define WINDOW (FS_SLICES * SLICE)
#define START (UINT64_C(1000) * FS_NS_PER_SECOND)
#define ALL_CELLS (FS_OCTAVES * FS_CELLS)

static fs_arena *arena;

static inline void at(fs_ns now) { fs_clock_fake_set(now); }

static inline fs_series *fresh_series(void) {
    at(START);
    fs_series *series = fs_series_take(arena, WINDOW, START);
    if (!series) exit(2);
    return series;
}

static inline void record(fs_series *series, uint64_t ns) {
    fs_histogram_record(fs_series_stripe(series, 0), ns, fs_stamp());
}

static inline uint64_t quantile(fs_series *series, fs_span_of_time span, double q) {
    uint64_t answer = 0;
    fs_series_quantiles(series, span, &q, 1, &answer);
    return answer;
}

static inline uint64_t count(fs_series *series, fs_span_of_time span) {
    static const double half = 0.5;
    uint64_t unused;
    return fs_series_quantiles(series, span, &half, 1, &unused);
}

static inline fs_totals ever(fs_series *series) {
    fs_totals totals = {0};
    fs_series_ever(series, &totals);
    return totals;
}

static inline fs_totals recent(fs_series *series) {
    fs_totals totals = {0};
    fs_series_recent(series, fs_now(), &totals);
    return totals;
}

static inline void rig_setup(void) {
    fs_clock_setup();
    fs_clock_fake(true);
    arena = small_arena(1 << 14);
    if (!arena) exit(2);
}

static inline int rig_report(void) {
    free(arena);
    return check_report();
}

#endif
