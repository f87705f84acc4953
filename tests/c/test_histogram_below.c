/* Counting what lies below bounds: against the cells themselves, whatever the values and the bounds. */
#include "histogram_rig.h"

#include "failsoft/rng.h"

#define VALUES 2000
#define BOUNDS 40

static fs_rng rng;

/* A value of any size, as often small as large. */
static uint64_t any_value(void) {
    uint64_t draw = fs_rng_next(&rng);
    return (draw >> 22) >> (fs_rng_next(&rng) % 42);
}

static int ascending(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void agrees(fs_series *series, fs_span_of_time span) {
    uint64_t cells[ALL_CELLS], bounds[BOUNDS], below[BOUNDS];
    for (size_t i = 0; i < BOUNDS; i++) bounds[i] = any_value();
    bounds[0] = 0;
    bounds[1] = UINT64_MAX; /* beyond the range: all of them */
    qsort(bounds, BOUNDS, sizeof *bounds, ascending);
    fs_totals totals = {.calls = 99, .sum = 99, .failures = 99, .slow = 99};
    uint64_t n = fs_series_counts_below(series, span, bounds, BOUNDS, below, &totals);
    CHECK_EQ(n, fs_series_cells(series, span, cells));
    for (size_t i = 0; i < BOUNDS; i++) {
        uint64_t last = fs_histogram_index(bounds[i] < FS_VALUE_MOST ? bounds[i] : FS_VALUE_MOST), sum = 0;
        for (uint64_t cell = 0; cell <= last; cell++) sum += cells[cell];
        CHECK_EQ(below[i], sum);
    }
    CHECK_EQ(below[BOUNDS - 1], n);
    fs_totals expected = span == FS_EVER ? ever(series) : recent(series);
    CHECK_EQ(totals.calls, expected.calls);
    CHECK_EQ(totals.sum, expected.sum);
    CHECK_EQ(totals.failures, expected.failures);
}

static void counts_match_the_cells(uint64_t seed) {
    fs_rng_seed(&rng, seed);
    fs_series *series = fresh_series();
    agrees(series, FS_EVER); /* idle */
    for (int turn = 0; turn < 10; turn++) {
        at(START + (fs_ns)turn * SLICE);
        for (int i = 0; i < VALUES / 10; i++) {
            record(series, any_value());
            fs_histogram_outcome(fs_series_stripe(series, 0), i % 7 == 0, false);
        }
        agrees(series, FS_EVER);
        agrees(series, FS_RECENT);
    }
    CHECK_EQ(count(series, FS_EVER), VALUES);
    fs_series_free(series);
}

static void a_value_on_the_bound_is_below_it(void) {
    fs_series *series = fresh_series();
    static const uint64_t bounds[] = {99, 100, 999999, 1000000};
    record(series, 100);
    record(series, 1000000);
    uint64_t below[4];
    fs_totals totals;
    CHECK_EQ(fs_series_counts_below(series, FS_EVER, bounds, 4, below, &totals), 2);
    CHECK_EQ(below[0], 0);
    CHECK_EQ(below[1], 1);
    CHECK_EQ(below[3], 2);
    CHECK_EQ(totals.sum, 1000100);
    CHECK_EQ(fs_series_counts_below(series, FS_EVER, bounds, 0, below, &totals), 2); /* no bounds */
    fs_series_free(series);
}

static void what_is_pending_is_counted(void) {
    fs_series *series = fresh_series();
    uint64_t bound = 5000, below = 0;
    fs_totals totals;
    fs_histogram *histogram = fs_series_stripe(series, 0);
    fs_histogram_turn(histogram, fs_now(), fs_stamp());
    fs_histogram_record_soon(histogram, 5000, fs_stamp());
    CHECK_EQ(fs_series_counts_below(series, FS_EVER, &bound, 1, &below, &totals), 1);
    CHECK_EQ(below, 1);
    CHECK_EQ(totals.sum, 5000);
    fs_series_free(series);
}

int main(void) {
    rig_setup();
    for (uint64_t seed = 1; seed <= 5; seed++) counts_match_the_cells(seed);
    a_value_on_the_bound_is_below_it();
    what_is_pending_is_counted();
    return rig_report();
}
