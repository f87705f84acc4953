/* Batches that are counted in several parts: the histogram's own source, with cells that are full after a few values. */
#include "failsoft/histogram.h"

#undef FS_CELL_FULL
#define FS_CELL_FULL UINT32_C(2048)
#include "../../csrc/histogram.c"

#include "failsoft/rng.h"

#include "histogram_rig.h"

#define MOST 6000

static const size_t sizes[] = {255, 256, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, MOST};
#define SIZES (sizeof sizes / sizeof *sizes)

static int64_t values[MOST];

/* Two streams of one value each would fill a cell; these spread over many. */
static void parts_equal_one_by_one(void) {
    static uint64_t a[ALL_CELLS], b[ALL_CELLS];
    fs_rng rng;
    fs_rng_seed(&rng, 5);
    for (size_t i = 0; i < SIZES; i++) {
        fs_series *one = fresh_series(), *many = fresh_series();
        fs_totals wanted = {0};
        for (size_t k = 0; k < sizes[i]; k++) {
            values[k] = (int64_t)(fs_rng_next(&rng) >> (24 + fs_rng_next(&rng) % 40));
            record(one, (uint64_t)values[k]);
            wanted.calls++;
            wanted.sum += (uint64_t)values[k];
        }
        CHECK(fs_histogram_record_many(fs_series_stripe(many, 0), values, sizes[i], fs_stamp()));
        for (int span = FS_EVER; span <= FS_RECENT; span++) {
            CHECK_EQ(fs_series_cells(many, (fs_span_of_time)span, a), fs_series_cells(one, (fs_span_of_time)span, b));
            CHECK(memcmp(a, b, sizeof a) == 0);
        }
        CHECK_EQ(ever(many).calls, wanted.calls);
        CHECK_EQ(ever(many).sum, wanted.sum);
        uint64_t low[2], high[2];
        fs_series_extremes(one, &low[0], &high[0]);
        fs_series_extremes(many, &low[1], &high[1]);
        CHECK_EQ(low[0], low[1]);
        CHECK_EQ(high[0], high[1]);
        fs_series_free(one);
        fs_series_free(many);
    }
}

/* Wherever it is, in whatever part: none has been counted. */
static void one_negative_refuses_all_parts(void) {
    fs_series *series = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    memset(values, 0, sizeof values);
    for (size_t i = 0; i < SIZES; i++)
        for (size_t part = 0; part < sizes[i]; part += 1023) {
            size_t bad = part < sizes[i] - 1023 ? part : sizes[i] - 1;
            values[bad] = bad % 2 ? -1 : INT64_MIN;
            CHECK(!fs_histogram_record_many(histogram, values, sizes[i], fs_stamp()));
            values[bad] = 0;
        }
    CHECK_EQ(ever(series).calls, 0);
    CHECK_EQ(count(series, FS_EVER), 0);
    fs_series_free(series);
}

/* A cell that a part fills closes its slice before the next part comes: none holds more than 32 bits can. */
static void a_cell_that_a_part_fills_is_emptied(void) {
    fs_series *series = fresh_series();
    for (size_t k = 0; k < MOST; k++) values[k] = 1000;
    CHECK(fs_histogram_record_many(fs_series_stripe(series, 0), values, MOST, fs_stamp()));
    uint32_t index = fs_histogram_index(1000);
    fs_column *column = fs_histogram_column(fs_series_stripe(series, 0), fs_histogram_octave(index));
    CHECK_EQ(column->live[fs_histogram_cell(index)], MOST % 2048);
    CHECK_EQ(count(series, FS_EVER), MOST);
    CHECK_EQ(ever(series).sum, MOST * UINT64_C(1000));
    fs_series_free(series);
}

int main(void) {
    rig_setup();
    parts_equal_one_by_one();
    one_negative_refuses_all_parts();
    a_cell_that_a_part_fills_is_emptied();
    return rig_report();
}
