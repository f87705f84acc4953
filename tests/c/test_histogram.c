/* Buckets at every edge, quantiles against exact order statistics, what a turn moves, batches, memory. */
#include "histogram_rig.h"

#include <string.h>

#include "failsoft/rng.h"

#define VALUES 20011 /* a prime: no share of it that is asked for is a whole number of values */
#define ERROR_MOST 0.0079

static bool within(uint64_t is, uint64_t exact) {
    return exact < 2 * FS_CELLS ? is == exact : fabs((double)is - (double)exact) <= ERROR_MOST * (double)exact;
}

/* A value spread evenly over the orders of magnitude below 2^bits. */
static uint64_t any_value(fs_rng *rng, uint32_t bits) {
    return fs_rng_next(rng) >> (64 - bits) >> fs_rng_next(rng) % bits;
}

/* Every cell, at both its ends and beyond. */
static void cells_tile_the_range(void) {
    uint64_t lowest = 0;
    for (uint32_t index = 0; index < ALL_CELLS; index++) {
        uint32_t octave = fs_histogram_octave(index);
        uint64_t width = octave > 1 ? UINT64_C(1) << (octave - 1) : 1;
        uint64_t highest = lowest + width - 1, middle = fs_histogram_middle(index);
        CHECK_EQ(octave * FS_CELLS + fs_histogram_cell(index), index);
        CHECK_EQ(fs_histogram_index(lowest), index);
        CHECK_EQ(fs_histogram_index(highest), index);
        CHECK_EQ(fs_histogram_index(middle), index);
        CHECK(within(middle, lowest) && within(middle, highest));
        lowest = highest + 1;
    }
    CHECK_EQ(lowest, FS_VALUE_MOST + 1);
    for (uint32_t bit = 0; bit < FS_VALUE_BITS; bit++)
        for (uint64_t off = 0; off < 3; off++) { /* around each power of two: one below, itself, one above */
            uint64_t ns = (UINT64_C(1) << bit) + off - 1;
            CHECK(fs_histogram_index(ns) < ALL_CELLS);
            CHECK(within(fs_histogram_middle(fs_histogram_index(ns)), ns));
        }
}

typedef uint64_t (*distribution)(fs_rng *rng);

static double normal(fs_rng *rng) {
    return sqrt(-2 * log(1 - fs_rng_unit(rng))) * cos(6.283185307179586 * fs_rng_unit(rng));
}

static uint64_t constant(fs_rng *rng) { return (void)rng, 123457; }
static uint64_t tiny(fs_rng *rng) { return fs_rng_next(rng) % 130; }
static uint64_t uniform(fs_rng *rng) { return 1000000 + fs_rng_next(rng) % 1000000; }
static uint64_t exponential(fs_rng *rng) { return (uint64_t)(-250000 * log(1 - fs_rng_unit(rng))); }
static uint64_t lognormal(fs_rng *rng) { return (uint64_t)exp(13 + 1.5 * normal(rng)); }
static uint64_t pareto(fs_rng *rng) {
    return (uint64_t)fmin(50000 * pow(1 - fs_rng_unit(rng), -1 / 1.1), (double)FS_VALUE_MOST);
}
static uint64_t bimodal(fs_rng *rng) { return (fs_rng_next(rng) % 10 ? 20000 : 5000000) + fs_rng_next(rng) % 3000; }
static uint64_t everywhere(fs_rng *rng) { return any_value(rng, FS_VALUE_BITS); }

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void quantiles_match_order_statistics(distribution draw) {
    static uint64_t values[VALUES];
    static const double shares[] = {0, 1e-4, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1};
    enum { SHARES = sizeof shares / sizeof *shares };
    uint64_t out[SHARES];
    fs_series *series = fresh_series();
    fs_rng rng;
    fs_rng_seed(&rng, 17);
    for (int i = 0; i < VALUES; i++) record(series, values[i] = draw(&rng));
    qsort(values, VALUES, sizeof *values, ascending);
    for (int span = FS_EVER; span <= FS_RECENT; span++) {
        CHECK_EQ(fs_series_quantiles(series, (fs_span_of_time)span, shares, SHARES, out), VALUES);
        for (int i = 0; i < SHARES; i++) {
            uint64_t rank = (uint64_t)ceil(shares[i] * VALUES);
            CHECK(within(out[i], values[rank ? rank - 1 : 0]));
            CHECK_EQ(out[i], quantile(series, (fs_span_of_time)span, shares[i])); /* asked alone or together */
        }
    }
    uint64_t low, high;
    fs_series_extremes(series, &low, &high);
    CHECK_EQ(low, values[0]);
    CHECK_EQ(high, values[VALUES - 1]);
    fs_series_free(series);
}

static void few_values(void) {
    fs_series *series = fresh_series();
    double q = 0.5;
    uint64_t out = 77, low, high;
    CHECK_EQ(fs_series_quantiles(series, FS_EVER, &q, 1, &out), 0);
    CHECK_EQ(out, 77);
    fs_series_extremes(series, &low, &high);
    CHECK(low == UINT64_MAX && high == 0);
    record(series, 1000003); /* alone, it is both extremes, and so exact */
    CHECK_EQ(quantile(series, FS_EVER, 0), 1000003);
    CHECK_EQ(quantile(series, FS_RECENT, 0.5), 1000003);
    CHECK_EQ(quantile(series, FS_EVER, 1), 1000003);
    record(series, 0);
    CHECK_EQ(quantile(series, FS_EVER, 0.5), 0);
    CHECK_EQ(quantile(series, FS_EVER, nextafter(0.5, 1)), 1000003);
    fs_series_free(series);
}

static void calls_without_a_duration(void) {
    fs_series *series = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    record(series, 5000);
    fs_histogram_outcome(histogram, true, false);
    fs_histogram_note(histogram, fs_stamp(), false, true);
    fs_histogram_note(histogram, fs_stamp(), true, true);
    fs_series_note(series, FS_RETRIES, 3);
    fs_series_note(series, FS_RETRIES, 2);
    CHECK_EQ(series->events[FS_RETRIES], 5);
    fs_totals totals = ever(series);
    CHECK_EQ(totals.calls, 3);
    CHECK_EQ(totals.sum, 5000);
    CHECK_EQ(totals.failures, 2);
    CHECK_EQ(totals.slow, 2);
    CHECK_EQ(count(series, FS_EVER), 1);
    fs_series_free(series);
}

/* A value left for the next to come is there for whoever asks, in the slice it came in. */
static void deferred_values_are_seen(void) {
    fs_series *series = fresh_series(), *other = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    fs_histogram_turn(histogram, START, fs_stamp());
    fs_histogram_defer(histogram, 5000);
    CHECK_EQ(ever(series).calls, 1);
    fs_histogram_defer(histogram, 6000);
    CHECK_EQ(recent(series).sum, 11000);
    fs_histogram_defer(histogram, 7000);
    CHECK_EQ(count(series, FS_RECENT), 3);
    uint64_t low, high;
    fs_histogram_defer(histogram, 9);
    fs_series_extremes(series, &low, &high);
    CHECK(low == 9 && high == 7000);
    fs_histogram_defer(histogram, 0);
    fs_histogram_defer(histogram, FS_VALUE_MOST); /* overlapping calls: the one before is counted first */
    fs_histogram_flush(histogram);
    fs_histogram_flush(histogram);
    CHECK_EQ(ever(series).calls, 6);
    CHECK_EQ(fs_series_clipped(series), 0);
    at(START + WINDOW - 1);
    fs_histogram_defer(histogram, 1); /* unusual: the call path turns first */
    CHECK_EQ(ever(series).calls, 7);

    fs_histogram_defer(histogram, 2);
    CHECK_EQ(fs_series_merge(other, series), FS_OK);
    CHECK_EQ(ever(other).calls, 8);
    CHECK_EQ(count(other, FS_EVER), 8);

    fs_series *late = fresh_series();
    histogram = fs_series_stripe(late, 0);
    fs_histogram_turn(histogram, START, fs_stamp());
    fs_histogram_defer(histogram, 1000);
    at(START + SLICE);
    record(late, 2000);
    at(START + WINDOW); /* the slice in which the first came is over, that of the second is not */
    CHECK_EQ(count(late, FS_RECENT), 1);
    CHECK_EQ(recent(late).sum, 2000);
    fs_series_free(series);
    fs_series_free(other);
    fs_series_free(late);
}

typedef struct {
    uint64_t slice;
    uint32_t index;
} happening;

/* Cells of window and start against a plain list, over random steps of time. */
static void turns_keep_and_expire_cells(uint64_t seed) {
    static happening all[8000];
    static uint64_t cells[ALL_CELLS], wanted_recent[ALL_CELLS], wanted_ever[ALL_CELLS];
    fs_series *series = fresh_series();
    fs_rng rng;
    fs_rng_seed(&rng, seed);
    memset(wanted_ever, 0, sizeof wanted_ever);
    fs_ns now = START;
    int seen = 0;
    for (int step = 0; step < 8000; step++) {
        uint64_t draw = fs_rng_next(&rng);
        uint64_t most = draw % 256 == 0 ? 2 * WINDOW : draw % 16 == 0 ? 3 * SLICE : SLICE / 50;
        now += draw / 256 % most;
        at(now);
        uint64_t ns = any_value(&rng, 20);
        uint32_t index = fs_histogram_index(ns);
        record(series, ns);
        all[seen++] = (happening){(now - START) / SLICE, index};
        wanted_ever[index]++;
        if (step % 40) continue;
        if (draw >> 63) at(now += draw >> 32 & (2 * SLICE - 1)); /* read some time after the last call */
        memset(wanted_recent, 0, sizeof wanted_recent);
        uint64_t held = 0;
        uint64_t slice = (now - START) / SLICE;
        for (int i = seen - 1; i >= 0 && all[i].slice + FS_SLICES > slice; i--, held++) wanted_recent[all[i].index]++;
        CHECK_EQ(recent(series).calls, held);
        CHECK_EQ(fs_series_cells(series, FS_RECENT, cells), held);
        CHECK(memcmp(cells, wanted_recent, sizeof cells) == 0);
        CHECK_EQ(count(series, FS_RECENT), held);
        CHECK_EQ(fs_series_cells(series, FS_EVER, cells), (uint64_t)seen);
        CHECK(memcmp(cells, wanted_ever, sizeof cells) == 0);
        CHECK_EQ(count(series, FS_EVER), (uint64_t)seen);
        CHECK_EQ(ever(series).calls, (uint64_t)seen);
    }
    fs_series_free(series);
}

static void recent_forgets_and_ever_does_not(void) {
    fs_series *series = fresh_series();
    for (int i = 0; i < 90; i++) record(series, 1000);
    at(START + 3 * SLICE);
    for (int i = 0; i < 10; i++) record(series, 1000000);
    CHECK(within(quantile(series, FS_RECENT, 0.5), 1000));
    at(START + WINDOW); /* the first ninety are over */
    CHECK(within(quantile(series, FS_RECENT, 0.0), 1000000));
    CHECK(within(quantile(series, FS_EVER, 0.5), 1000));
    CHECK_EQ(count(series, FS_RECENT), 10);
    at(START + 2 * WINDOW);
    CHECK_EQ(count(series, FS_RECENT), 0);
    CHECK_EQ(count(series, FS_EVER), 100);
    fs_series_free(series);
}

static fs_column *column_at(fs_series *series, uint64_t ns) {
    fs_histogram *histogram = fs_series_stripe(series, 0);
    return fs_arena_follow(histogram, histogram->column[fs_histogram_octave(fs_histogram_index(ns))]);
}

/* As many counts in one live cell as fit before it is full, without waiting for them. */
static void almost_fill(fs_series *series, uint64_t ns) {
    fs_histogram *histogram = fs_series_stripe(series, 0);
    uint32_t *cell = &column_at(series, ns)->live[fs_histogram_cell(fs_histogram_index(ns))];
    fs_tally_add(&histogram->slices.live.calls, FS_CELL_FULL - 1 - *cell);
    *cell = FS_CELL_FULL - 1;
}

static void a_full_cell_closes_its_slice(void) {
    fs_series *series = fresh_series();
    const uint64_t full = FS_CELL_FULL;
    record(series, 2000);
    for (uint64_t round = 1; round <= 2 * FS_SLICES; round++) {
        record(series, 1000);
        almost_fill(series, 1000);
        record(series, 1000);
        CHECK(column_at(series, 1000)->live[fs_histogram_cell(fs_histogram_index(1000))] == 0);
        CHECK_EQ(count(series, FS_EVER), round * full + 1);
        CHECK_EQ(ever(series).calls, round * full + 1);
        uint64_t kept = round < FS_CLOSED ? round : FS_CLOSED;
        CHECK_EQ(count(series, FS_RECENT), kept * full + (round <= FS_CLOSED));
        CHECK(within(quantile(series, FS_RECENT, 0.5), 1000));
    }
    at(START + 3 * WINDOW);
    CHECK_EQ(count(series, FS_RECENT), 0);
    CHECK_EQ(count(series, FS_EVER), 2 * FS_SLICES * full + 1);
    fs_series_free(series);
}

/* Not while somebody else turns: he takes the counts along. However the values come, the cell is seen to. */
static void a_full_cell_waits_for_who_turns(void) {
    fs_series *series = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    record(series, 1000);
    uint32_t *cell = &column_at(series, 1000)->live[fs_histogram_cell(fs_histogram_index(1000))];
    almost_fill(series, 1000);
    histogram->slices.turn++;
    uint32_t turn = histogram->slices.turn;
    fs_histogram_cell_full(histogram);
    CHECK_EQ(histogram->slices.turn, turn);
    CHECK_EQ(*cell, FS_CELL_FULL - 1);
    histogram->slices.turn++;
    fs_histogram_repeat(histogram, 1000, 1);
    CHECK_EQ(*cell, 0);
    almost_fill(series, 1000);
    static int64_t many[300];
    for (int i = 0; i < 300; i++) many[i] = 1000;
    CHECK(fs_histogram_record_many(histogram, many, 300, fs_stamp()));
    CHECK_EQ(*cell, 0);
    CHECK_EQ(count(series, FS_EVER), ever(series).calls);
    fs_series_free(series);
}

/* What is left for the next to come is in range, and of this slice. */
static void what_cannot_wait_is_counted_at_once(void) {
    fs_series *series = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    record(series, 1000);
    fs_histogram_record_soon(histogram, FS_VALUE_MOST + 1, fs_stamp());
    CHECK_EQ(fs_series_clipped(series), 1);
    CHECK_EQ(ever(series).sum, 1000 + FS_VALUE_MOST);
    at(START + SLICE);
    fs_histogram_record_soon(histogram, 1000, fs_stamp());
    CHECK_EQ(histogram->slices.opened, START + SLICE);
    CHECK_EQ(ever(series).calls, 3);
    fs_series_free(series);
}

/* Slices begin where the series did, in whatever stripe and however late that is taken, so that all turn together. */
static void stripes_turn_together(void) {
    at(START + 7);
    fs_series *series = fs_series_take(arena, WINDOW, START + 7);
    for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++) {
        at(START + 7 + SLICE / 2 * stripe);
        fs_histogram *histogram = fs_series_stripe(series, stripe);
        fs_histogram_record(histogram, 1000, fs_stamp());
        CHECK_EQ((histogram->slices.opened - START) % SLICE, 7);
    }
    fs_series_free(series);
}

/* Cells are written as many as there are, and none beyond. */
static void cells_end_where_they_end(void) {
    static uint64_t cells[ALL_CELLS + 1];
    fs_series *series = fresh_series();
    record(series, 1000);
    for (int i = 0; i <= ALL_CELLS; i++) cells[i] = 7;
    CHECK_EQ(fs_series_cells(series, FS_EVER, cells), 1);
    CHECK_EQ(cells[ALL_CELLS], 7);
    CHECK_EQ(cells[ALL_CELLS - 1], 0);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    size_t end = offsetof(fs_histogram, column) + sizeof histogram->column;
    memset((char *)histogram + end, 0x11, histogram->block.lines * (size_t)FS_LINE - end); /* nobody reads there */
    at(START + SLICE);
    record(series, 1000);
    CHECK_EQ(count(series, FS_EVER), 2);
    CHECK_EQ(fs_series_bytes(series) % FS_LINE, 0);
    fs_series_free(series);
}

/* In a turn of one moment all goes as ever; who records what is beyond the range turns the slices too. */
static void what_is_beyond_the_range_turns_slices(void) {
    fs_series *series = fresh_series();
    record(series, FS_VALUE_MOST + 1);
    for (int i = 1; i <= FS_SLICES; i++) {
        CHECK_EQ(recent(series).calls, i);
        at(START + (fs_ns)i * SLICE);
        record(series, FS_VALUE_MOST + 1);
    }
    CHECK_EQ(fs_series_stripe(series, 0)->slices.turn % 2, 0);
    CHECK_EQ(recent(series).calls, FS_SLICES);
    CHECK_EQ(ever(series).calls, FS_SLICES + 1);
    CHECK_EQ(fs_series_clipped(series), FS_SLICES + 1);
    fs_series_free(series);
}

/* Five slices of one full cell fit in 32 bits; a column has 64 cells. */
static void many_busy_cells_in_one_column(void) {
    fs_series *series = fresh_series();
    uint64_t wanted = 0;
    record(series, 128);
    record(series, 255);
    for (uint64_t ns = 128; ns < 256; ns += 2, wanted += FS_CELL_FULL - 1) almost_fill(series, ns);
    CHECK_EQ(count(series, FS_RECENT), wanted);
    at(START + SLICE);
    CHECK_EQ(count(series, FS_EVER), wanted);
    CHECK_EQ(count(series, FS_RECENT), wanted);
    CHECK(within(quantile(series, FS_RECENT, 0.5), 191));
    at(START + 2 * WINDOW);
    CHECK_EQ(count(series, FS_RECENT), 0);
    fs_series_free(series);
}

static void beyond_the_range(void) {
    fs_series *series = fresh_series();
    record(series, FS_VALUE_MOST);
    CHECK_EQ(fs_series_clipped(series), 0);
    record(series, FS_VALUE_MOST + 1);
    record(series, UINT64_MAX);
    CHECK_EQ(fs_series_clipped(series), 2);
    CHECK_EQ(count(series, FS_EVER), 3);
    CHECK_EQ(quantile(series, FS_EVER, 1), FS_VALUE_MOST);
    CHECK_EQ(ever(series).calls, 3);
    fs_series_free(series);
}

static size_t lines_of(size_t bytes) { return (bytes + FS_LINE - 1) / FS_LINE; }

static void without_room_for_a_column(void) {
    size_t lines = lines_of(sizeof(fs_series)) + lines_of(sizeof(fs_histogram)) + lines_of(sizeof(fs_column));
    fs_arena *tight = small_arena(lines);
    at(START);
    fs_series *series = fs_series_take(tight, WINDOW, START), *other = fresh_series();
    record(series, 1000);
    record(series, 1001);
    CHECK_EQ(fs_series_clipped(series), 0);
    record(series, 1000000);
    record(series, 5000000);
    CHECK_EQ(fs_series_clipped(series), 2);
    const int64_t many[] = {1002, 2000000, 1003};
    CHECK(fs_histogram_record_many(fs_series_stripe(series, 0), many, 3, fs_stamp()));
    CHECK_EQ(fs_series_clipped(series), 3);
    CHECK_EQ(ever(series).calls, 7); /* the calls are counted all the same */
    CHECK_EQ(ever(series).sum, 1000 + 1001 + 1000000 + 5000000 + 1002 + 2000000 + 1003);
    CHECK_EQ(count(series, FS_EVER), 4);
    static int64_t batch[400];
    for (int i = 0; i < 400; i++) batch[i] = 2000000;
    CHECK(fs_histogram_record_many(fs_series_stripe(series, 0), batch, 400, fs_stamp()));
    CHECK_EQ(fs_series_clipped(series), 403);
    CHECK_EQ(ever(series).calls, 407);
    at(START + SLICE);
    CHECK_EQ(count(series, FS_RECENT), 4);
    record(other, 1000000);
    CHECK_EQ(fs_series_merge(series, other), FS_NO_MEMORY);
    CHECK_EQ(fs_series_bytes(series), lines * FS_LINE);
    CHECK(fs_series_take(tight, WINDOW, START) == NULL);
    fs_series_free(series);
    fs_series_free(other);
    free(tight);

    tight = small_arena(lines_of(sizeof(fs_series)));
    series = fs_series_take(tight, WINDOW, START);
    CHECK(fs_series_stripe(series, 0) == NULL);
    CHECK_EQ(count(series, FS_EVER), 0);
    fs_series_free(series);
    free(tight);
}

static void merging_adds_what_was_ever_seen(void) {
    static uint64_t wanted[ALL_CELLS], cells[ALL_CELLS], more[ALL_CELLS];
    fs_series *into = fresh_series(), *from = fresh_series();
    fs_rng rng;
    fs_rng_seed(&rng, 4);
    for (int i = 0; i < 3000; i++) {
        at(START + (fs_ns)i * SLICE / 250); /* over twelve slices: some of it live, some closed, some expired */
        record(into, any_value(&rng, 20));
        fs_histogram *stripe = fs_series_stripe(from, (uint32_t)i % FS_STRIPES);
        fs_histogram_record(stripe, any_value(&rng, 30), fs_stamp());
        fs_histogram_outcome(stripe, i % 3 == 0, i % 5 == 0);
    }
    record(from, FS_VALUE_MOST + 1);
    fs_totals a = ever(into), b = ever(from);
    uint64_t still = count(into, FS_RECENT), low[2], high[2];
    fs_series_extremes(into, &low[0], &high[0]);
    fs_series_extremes(from, &low[1], &high[1]);
    fs_series_cells(into, FS_EVER, wanted);
    fs_series_cells(from, FS_EVER, more);
    for (int i = 0; i < ALL_CELLS; i++) wanted[i] += more[i];

    CHECK_EQ(fs_series_merge(into, from), FS_OK);
    CHECK_EQ(fs_series_cells(into, FS_EVER, cells), a.calls + b.calls);
    CHECK(memcmp(cells, wanted, sizeof cells) == 0);
    CHECK_EQ(count(into, FS_EVER), a.calls + b.calls);
    CHECK_EQ(count(into, FS_RECENT), still); /* the past is not news */
    fs_totals sum = ever(into);
    CHECK_EQ(sum.calls, a.calls + b.calls);
    CHECK_EQ(sum.sum, a.sum + b.sum);
    CHECK_EQ(sum.failures, a.failures + b.failures);
    CHECK_EQ(sum.slow, a.slow + b.slow);
    CHECK_EQ(fs_series_clipped(into), 1);
    uint64_t least, most;
    fs_series_extremes(into, &least, &most);
    CHECK_EQ(least, low[0] < low[1] ? low[0] : low[1]);
    CHECK_EQ(most, high[0] > high[1] ? high[0] : high[1]);
    CHECK_EQ(ever(from).calls, b.calls);
    fs_series_free(into);
    fs_series_free(from);
}

/* Each of the two extremes moves by itself, or not at all, in whatever stripe it was seen. */
static void merging_takes_the_extremes(void) {
    static const uint64_t cases[][4] = { /* low and high of one, low and high of the other */
        {1000, 2000, 500, 3000}, {1000, 2000, 500, 1500}, {1000, 2000, 1500, 3000}, {1000, 2000, 1200, 1800},
        {1000, 2000, 1000, 2000}, {1000, 2000, 300, 400}, {1000, 2000, 3000, 4000}, {1000, 1000, 999, 999},
        {1000, 1000, 1001, 1001}, {1000, 2000, 0, 0}, {0, 0, 5, 7}, {1000, 2000, FS_VALUE_MOST, FS_VALUE_MOST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++)
            for (int empty = 0; empty < 2; empty++) {
                const uint64_t *c = cases[i];
                fs_series *into = fresh_series(), *from = fresh_series();
                for (int k = 0; k < 2 && !empty; k++) record(into, c[k]);
                for (int k = 2; k < 4; k++) fs_histogram_record(fs_series_stripe(from, stripe), c[k], fs_stamp());
                CHECK_EQ(fs_series_merge(into, from), FS_OK);
                uint64_t low, high;
                fs_series_extremes(into, &low, &high);
                CHECK_EQ(low, !empty && c[0] < c[2] ? c[0] : c[2]);
                CHECK_EQ(high, !empty && c[1] > c[3] ? c[1] : c[3]);
                fs_series_free(into);
                fs_series_free(from);
            }
}

/* A value counted many times is seen as when it comes one by one. */
static void repeated_equals_one_by_one(void) {
    static const uint64_t values[] = {5000, 3000, 9000, 6000, 0, FS_VALUE_MOST};
    fs_series *one = fresh_series(), *many = fresh_series();
    for (uint32_t i = 0; i < 6; i++)
        for (uint32_t times = 0; times < 3; times++) {
            for (uint32_t k = 0; k < times; k++) record(one, values[i]);
            fs_histogram_repeat(fs_series_stripe(many, 0), values[i], times);
            uint64_t low[2], high[2];
            fs_series_extremes(one, &low[0], &high[0]);
            fs_series_extremes(many, &low[1], &high[1]);
            CHECK_EQ(low[0], low[1]);
            CHECK_EQ(high[0], high[1]);
            CHECK_EQ(ever(one).calls, ever(many).calls);
            CHECK_EQ(ever(one).sum, ever(many).sum);
            CHECK_EQ(count(one, FS_EVER), count(many, FS_EVER));
            CHECK_EQ(quantile(one, FS_EVER, 0.5), quantile(many, FS_EVER, 0.5));
        }
    CHECK_EQ(fs_series_clipped(many), 0);
    fs_series_free(one);
    fs_series_free(many);
}

/* Between turns no cell is said to move: whoever reads after its writer has died counts each as it lies there. */
static void nothing_moves_between_turns(void) {
    fs_series *series = fresh_series();
    static const uint64_t values[] = {128, 128, 200, 255}; /* cells of one column, the first and the last of it too */
    for (int turn = 0; turn < 3 * FS_SLICES; turn++) {
        at(START + (fs_ns)turn * SLICE);
        for (int i = 0; i < 4; i++) record(series, values[i]);
        CHECK_EQ(column_at(series, 128)->moving, 0);
        fs_stranger stranger = {(const char *)arena, (size_t)arena->capacity * FS_LINE, true};
        fs_series *seen = fs_series_take(arena, WINDOW, fs_now());
        CHECK_EQ(fs_series_observe(seen, series, &stranger, false, fs_now()), FS_OK);
        CHECK_EQ(count(seen, FS_EVER), 4 * (uint64_t)(turn + 1));
        fs_series_free(seen);
    }
    fs_series_free(series);
}

/* As if it had just been taken, but for the room it holds. */
static void cleared_it_has_seen_nothing(void) {
    fs_series *series = fresh_series();
    for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++) {
        fs_histogram *histogram = fs_series_stripe(series, stripe);
        for (int i = 0; i < 2 * FS_SLICES; i++) {
            at(START + (fs_ns)i * SLICE);
            fs_histogram_record(histogram, 1000, fs_stamp());
            fs_histogram_record(histogram, FS_VALUE_MOST + 1, fs_stamp());
            fs_histogram_outcome(histogram, true, true);
        }
        fs_histogram_record_soon(histogram, 5000, fs_stamp());
    }
    for (int event = 0; event < FS_EVENTS; event++) fs_series_note(series, (fs_event_kind)event, 3);
    series->since = 7;
    size_t bytes = fs_series_bytes(series);
    fs_ns now = START + 2 * WINDOW;
    at(now);
    fs_series_clear(series, now);
    for (int round = 0; round < 2; round++) {
        fs_totals all = ever(series), late = recent(series);
        CHECK_EQ(all.calls + all.sum + all.failures + all.slow, 0);
        CHECK_EQ(late.calls + late.sum + late.failures + late.slow, 0);
        CHECK_EQ(count(series, FS_EVER) + count(series, FS_RECENT), 0);
        CHECK_EQ(fs_series_clipped(series), 0);
        uint64_t low, high;
        fs_series_extremes(series, &low, &high);
        CHECK(low == UINT64_MAX && high == 0);
        at(now + SLICE); /* nor does a turn bring anything back */
    }
    for (int event = 0; event < FS_EVENTS; event++) CHECK_EQ(series->events[event], 0);
    CHECK(series->since == 0 && series->began == now);
    CHECK_EQ(fs_series_bytes(series), bytes);
    record(series, 2000);
    CHECK(within(quantile(series, FS_RECENT, 0.5), 2000));
    CHECK_EQ(ever(series).calls, 1);
    fs_series_free(series);
}

/* The sums of columns may run ahead of their cells while slices turn: then the last cell is the answer. */
static void sums_that_run_ahead_end_in_the_last_cell(void) {
    fs_series *series = fresh_series();
    record(series, 130);
    record(series, 250);
    column_at(series, 130)->total_sum += 10;
    CHECK_EQ(count(series, FS_EVER), 12);
    CHECK_EQ(quantile(series, FS_EVER, 1), 250); /* and no more than was seen */
    CHECK(within(quantile(series, FS_EVER, 0.01), 130));
    record(series, 300000);
    CHECK_EQ(quantile(series, FS_EVER, 0.9), fs_histogram_middle(fs_histogram_index(255))); /* not in the next column */
    fs_series_free(series);
}

static void merging_calls_without_durations(void) {
    fs_series *into = fresh_series(), *from = fresh_series();
    record(into, 1000);
    fs_histogram_note(fs_series_stripe(from, 0), fs_stamp(), true, false);
    CHECK_EQ(fs_series_merge(into, from), FS_OK);
    uint64_t low, high;
    fs_series_extremes(into, &low, &high);
    CHECK_EQ(low, 1000);
    CHECK_EQ(high, 1000);
    CHECK_EQ(ever(into).calls, 2);
    CHECK_EQ(ever(into).failures, 1);
    fs_series *idle = fresh_series();
    CHECK_EQ(fs_series_merge(into, idle), FS_OK);
    CHECK_EQ(ever(into).calls, 2);
    fs_series_free(into);
    fs_series_free(from);
    fs_series_free(idle);
}

static void many_equal_one_by_one(void) {
    static int64_t values[5000];
    static uint64_t a[ALL_CELLS], b[ALL_CELLS];
    fs_series *one = fresh_series(), *many = fresh_series();
    fs_rng rng;
    fs_rng_seed(&rng, 8);
    fs_histogram *histogram = fs_series_stripe(many, 0);
    for (int batch = 0; batch < 12; batch++) {
        at(START + (fs_ns)batch * SLICE * 2 / 3);
        static const size_t sizes[] = {5000, 0, 1, 255, 256, 257};
        size_t size = sizes[batch % 6];
        for (size_t i = 0; i < size; i++) {
            uint64_t kind = fs_rng_next(&rng) % 500;
            values[i] = kind == 0 ? INT64_MAX : (int64_t)any_value(&rng, kind == 1 ? 63 : 30);
            record(one, (uint64_t)values[i]);
        }
        CHECK(fs_histogram_record_many(histogram, values, size, fs_stamp()));
        for (int span = FS_EVER; span <= FS_RECENT; span++) {
            CHECK_EQ(fs_series_cells(many, (fs_span_of_time)span, a), fs_series_cells(one, (fs_span_of_time)span, b));
            CHECK(memcmp(a, b, sizeof a) == 0);
        }
        fs_totals x = ever(many), y = ever(one), s = recent(many), t = recent(one);
        CHECK(memcmp(&x, &y, sizeof x) == 0);
        CHECK(memcmp(&s, &t, sizeof s) == 0);
        CHECK_EQ(fs_series_clipped(many), fs_series_clipped(one));
        uint64_t low[2], high[2];
        fs_series_extremes(many, &low[0], &high[0]);
        fs_series_extremes(one, &low[1], &high[1]);
        CHECK_EQ(low[0], low[1]);
        CHECK_EQ(high[0], high[1]);
    }
    fs_series_free(one);
    fs_series_free(many);
}

static void one_negative_refuses_all(void) {
    static int64_t values[1000];
    fs_series *series = fresh_series();
    fs_histogram *histogram = fs_series_stripe(series, 0);
    static const size_t sizes[] = {1, 2, 255, 256, 257, 1000};
    for (int i = 0; i < 6; i++)
        for (int last = 0; last < 2; last++) {
            int64_t *bad = &values[last ? sizes[i] - 1 : 0];
            *bad = last ? -1 : INT64_MIN;
            CHECK(!fs_histogram_record_many(histogram, values, sizes[i], fs_stamp()));
            *bad = 0;
        }
    uint64_t low, high;
    fs_series_extremes(series, &low, &high);
    CHECK(low == UINT64_MAX && high == 0);
    CHECK_EQ(ever(series).calls, 0);
    CHECK_EQ(count(series, FS_EVER), 0);
    CHECK_EQ(fs_series_clipped(series), 0);
    fs_series_free(series);
}

static void memory_stays_in_its_budget(void) {
    fs_arena *own = small_arena(1000);
    uint32_t before = own->used;
    at(START);
    fs_series *series = fs_series_take(own, WINDOW, START);
    CHECK(fs_series_bytes(series) <= 512);
    CHECK_EQ(fs_series_bytes(series), (size_t)(own->used - before) * FS_LINE);
    for (int octave = 0; octave < 8; octave++)
        for (uint64_t i = 0; i < 100; i++) record(series, (UINT64_C(20000) << octave) + i); /* 20 us to 3 ms */
    CHECK(fs_series_bytes(series) <= 24 * 1024);
    CHECK_EQ(fs_series_bytes(series), (size_t)(own->used - before) * FS_LINE);
    CHECK_EQ(count(series, FS_EVER), 800);
    for (int i = 0; i < 20; i++) { /* time costs nothing */
        at(START + (fs_ns)i * SLICE);
        record(series, 20000);
    }
    CHECK(fs_series_bytes(series) <= 24 * 1024);
    fs_series_free(series);
    CHECK_EQ(own->free_lines, own->used - before);
    free(own);
}

int main(void) {
    rig_setup();
    cells_tile_the_range();
    static const distribution all[] = {constant, tiny, uniform, exponential, lognormal, pareto, bimodal, everywhere};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) quantiles_match_order_statistics(all[i]);
    few_values();
    calls_without_a_duration();
    deferred_values_are_seen();
    for (uint64_t seed = 0; seed < 3; seed++) turns_keep_and_expire_cells(seed);
    recent_forgets_and_ever_does_not();
    a_full_cell_closes_its_slice();
    a_full_cell_waits_for_who_turns();
    cells_end_where_they_end();
    stripes_turn_together();
    what_cannot_wait_is_counted_at_once();
    what_is_beyond_the_range_turns_slices();
    many_busy_cells_in_one_column();
    beyond_the_range();
    without_room_for_a_column();
    merging_adds_what_was_ever_seen();
    merging_takes_the_extremes();
    cleared_it_has_seen_nothing();
    sums_that_run_ahead_end_in_the_last_cell();
    repeated_equals_one_by_one();
    nothing_moves_between_turns();
    merging_calls_without_durations();
    many_equal_one_by_one();
    one_negative_refuses_all();
    memory_stays_in_its_budget();
    return rig_report();
}
