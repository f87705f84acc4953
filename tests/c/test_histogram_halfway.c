/* A turn stopped wherever the order of its stores matters: whoever reads what a writer who died there has left finds every
 * call once, in the totals and in each cell. The histogram's own source, with a look at every fence. */
#include "failsoft/histogram.h"

static void halfway(void);
#undef fs_fence_release
#define fs_fence_release() halfway()
#include "../../csrc/histogram.c"
#include "../../csrc/window.c"

#include "histogram_rig.h"

static fs_series *turning;   /* NULL: nobody looks */
static uint64_t wanted[ALL_CELLS];
static fs_totals all;
static uint32_t looks, within_a_cell, within_the_totals;

static void halfway(void) {
    fs_series *series = turning;
    if (!series) return;
    turning = NULL;
    looks++;
    fs_stranger stranger = {(const char *)arena, (size_t)arena->capacity * FS_LINE, true};
    fs_totals lately = {0}, ever_told = {0};
    fs_series_totals_of(series, &stranger, fs_now(), &lately, &ever_told);
    CHECK(memcmp(&ever_told, &all, sizeof all) == 0);
    fs_series *seen = fs_series_take(arena, WINDOW, fs_now());
    CHECK_EQ(fs_series_observe(seen, series, &stranger, false, fs_now()), FS_OK);
    static uint64_t cells[ALL_CELLS];
    fs_series_cells(seen, FS_EVER, cells);
    CHECK(memcmp(cells, wanted, sizeof cells) == 0);
    fs_series_free(seen);
    const fs_histogram *histogram = fs_series_have(series, 0);
    within_the_totals += histogram->slices.moving == histogram->slices.turn;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        const fs_column *column = column_of(histogram, octave);
        within_a_cell += column && column->moving;
    }
    turning = series;
}

static void call(fs_series *series, uint64_t ns) {
    record(series, ns);
    fs_histogram_outcome(fs_series_stripe(series, 0), ns % 2, ns % 3 == 0);
    wanted[fs_histogram_index(ns)]++;
    all.calls++;
    all.sum += ns;
    all.failures += ns % 2;
    all.slow += ns % 3 == 0;
}

/* Cells of one column and of several, the first and the last of a column too, and in each slice others. */
static void every_call_is_found_once(bool full) {
    static const uint64_t values[] = {0, 1, 63, 64, 127, 128, 129, 200, 255, 1000, 1000000, FS_VALUE_MOST};
    fs_series *series = fresh_series();
    memset(wanted, 0, sizeof wanted);
    all = (fs_totals){0};
    looks = within_a_cell = within_the_totals = 0;
    for (uint32_t slice = 0; slice < 2 * FS_SLICES + 1; slice++) {
        at(START + slice * SLICE);
        for (uint32_t i = 0; i < 12; i++)
            for (uint32_t times = (i + slice) % 4; times; times--) call(series, values[i]);
        if (!full) at(START + (slice + 1) * SLICE);
        turning = series;
        if (full) fs_histogram_cell_full(fs_series_stripe(series, 0));
        else fs_histogram_turn(fs_series_stripe(series, 0), fs_now(), fs_stamp());
        turning = NULL;
    }
    CHECK(looks > 100 && within_a_cell > 100 && within_the_totals >= 4 * (2 * FS_SLICES + 1));
    fs_series_free(series);
}

int main(void) {
    rig_setup();
    every_call_is_found_once(false);
    every_call_is_found_once(true);
    return rig_report();
}
