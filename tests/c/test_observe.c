/* Reading what somebody else has counted: all of it, as he himself reads it, whatever he was in the middle of, and nothing
 * that does not lie where it may. */
#include "histogram_rig.h"

static fs_stranger all_of(fs_arena *arena_of, bool dead) {
    return (fs_stranger){(const char *)arena_of, (size_t)arena_of->capacity * FS_LINE, dead};
}

static fs_totals totals_of(const fs_series *from, bool dead, fs_ns now, fs_totals *lately) {
    fs_stranger stranger = all_of(arena, dead);
    fs_totals all = {0}, unasked = {0};
    fs_series_totals_of(from, &stranger, now, lately ? lately : &unasked, &all);
    return all;
}

static fs_series *seen_of(const fs_series *from, bool dead, bool lately) {
    fs_stranger stranger = all_of(arena, dead);
    fs_series *into = fs_series_take(arena, WINDOW, fs_now());
    if (!into) exit(2);
    CHECK_EQ(fs_series_observe(into, from, &stranger, lately, fs_now()), FS_OK);
    return into;
}

static void check_same(fs_totals is, fs_totals wanted) {
    CHECK_EQ(is.calls, wanted.calls);
    CHECK_EQ(is.sum, wanted.sum);
    CHECK_EQ(is.failures, wanted.failures);
    CHECK_EQ(is.slow, wanted.slow);
}

static void check_cells(fs_series *is, fs_series *wanted, fs_span_of_time span) {
    static uint64_t here[ALL_CELLS], there[ALL_CELLS];
    CHECK_EQ(fs_series_cells(is, span, here), fs_series_cells(wanted, span, there));
    for (int i = 0; i < ALL_CELLS; i++) CHECK_EQ(here[i], there[i]);
}

/* Calls in each slice of the window and before it, of every kind, in several columns. */
static fs_series *busy(void) {
    fs_series *series = fresh_series();
    for (uint32_t slice = 0; slice < FS_SLICES + 3; slice++) {
        at(START + slice * SLICE + 1);
        for (uint32_t i = 0; i <= slice; i++) {
            record(series, (UINT64_C(100) << slice) + i);
            fs_histogram_outcome(fs_series_stripe(series, 0), i % 2 == 0, i % 3 == 0);
        }
    }
    record(series, FS_VALUE_MOST + 1);
    for (int event = 0; event < FS_EVENTS; event++) fs_series_note(series, (fs_event_kind)event, (uint32_t)event + 1);
    return series;
}

static void as_he_does(void) {
    fs_series *series = busy();
    for (uint32_t later = 0; later <= FS_SLICES + 1; later++) { /* while he rests, his slices are over all the same */
        fs_totals lately = {0};
        at(START + (FS_SLICES + 2 + later) * SLICE + 2);
        check_same(totals_of(series, false, fs_now(), &lately), ever(series));
        check_same(lately, recent(series));
        check_same(totals_of(series, true, fs_now(), NULL), ever(series));
        fs_series *into = seen_of(series, false, true);
        check_same(ever(into), ever(series));
        check_same(recent(into), recent(series));
        CHECK_EQ(fs_series_clipped(into), fs_series_clipped(series));
        for (int event = 0; event < FS_EVENTS; event++) CHECK_EQ(into->events[event], event + 1);
        uint64_t low, high;
        fs_series_extremes(into, &low, &high);
        CHECK_EQ(low, 100);
        CHECK_EQ(high, FS_VALUE_MOST);
        CHECK_EQ(into->began, START); /* the earlier of the two */
        fs_series_free(into);
    }
    /* By cells last: it turns his slices, too. */
    at(START + (FS_SLICES + 2) * SLICE + 2);
    series = busy();
    fs_series *into = seen_of(series, false, true);
    check_cells(into, series, FS_EVER);
    check_cells(into, series, FS_RECENT);
    fs_series_free(into);
    at(START + (FS_SLICES + 4) * SLICE); /* three slices are over, and nobody has turned them */
    series = busy();
    at(START + (FS_SLICES + 4) * SLICE);
    into = seen_of(series, false, true);
    check_cells(into, series, FS_RECENT);
    check_cells(into, series, FS_EVER);
    fs_series_free(into);
    into = seen_of(series, false, true); /* as one slice, the last that closed: it goes when that goes */
    uint64_t lately = recent(into).calls, late_cells = count(into, FS_RECENT);
    CHECK(lately > 0 && late_cells > 0);
    at(fs_now() + 4 * SLICE);
    CHECK_EQ(recent(into).calls, lately);
    CHECK_EQ(count(into, FS_RECENT), late_cells);
    at(fs_now() + 2 * SLICE);
    CHECK_EQ(recent(into).calls, 0);
    CHECK_EQ(count(into, FS_RECENT), 0);
    fs_series_free(into);
    at(START + (FS_SLICES + 4) * SLICE);
    fs_series *unrecent = seen_of(series, false, false);
    check_cells(unrecent, series, FS_EVER);
    CHECK_EQ(recent(unrecent).calls, 0);
    CHECK_EQ(count(unrecent, FS_RECENT), 0);
    fs_series_free(unrecent);
    /* From two, one after the other: what comes second adds. And of who began later, nothing is earlier for it. */
    fs_series *other = fs_series_take(arena, WINDOW, START + SLICE);
    record(other, 50);
    record(other, 7000);
    fs_stranger stranger = all_of(arena, false);
    into = seen_of(series, false, true);
    uint64_t alone = ever(into).calls;
    CHECK_EQ(fs_series_observe(into, other, &stranger, true, fs_now()), FS_OK);
    CHECK_EQ(ever(into).calls, alone + 2);
    CHECK_EQ(quantile(into, FS_EVER, 0.0), 50);
    CHECK_EQ(into->began, START);
    CHECK_EQ(into->events[FS_EVENTS - 1], FS_EVENTS);
}

/* What the next call would have counted is counted for it. */
static void left_pending(void) {
    fs_series *series = fresh_series();
    record(series, 1000);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    for (int i = 0; i < 3; i++) {
        uint64_t left = i == 0 ? 10 : i == 1 ? 90000 : 1000;
        fs_totals lately = {0};
        histogram->pending = left + 1;
        fs_totals all = totals_of(series, false, fs_now(), &lately);
        CHECK_EQ(all.calls, 2);
        CHECK_EQ(all.sum, 1000 + left);
        check_same(lately, all);
        fs_series *into = seen_of(series, false, true);
        CHECK_EQ(count(into, FS_EVER), 2);
        CHECK_EQ(count(into, FS_RECENT), 2);
        uint64_t low, high;
        fs_series_extremes(into, &low, &high);
        CHECK_EQ(low, left < 1000 ? left : 1000);
        CHECK_EQ(high, left > 1000 ? left : 1000);
        CHECK_EQ(ever(into).sum, 1000 + left);
        fs_series_free(into);
    }
    histogram->pending = 0; /* nothing is none, not a call of nothing */
    CHECK_EQ(totals_of(series, false, fs_now(), NULL).calls, 1);
    fs_series *into = seen_of(series, false, true);
    uint64_t low, high;
    fs_series_extremes(into, &low, &high);
    CHECK_EQ(low, 1000);
    CHECK_EQ(high, 1000);
    histogram->pending = 1; /* a call of nothing is one */
    CHECK_EQ(totals_of(series, false, fs_now(), NULL).calls, 2);
    histogram->pending = FS_VALUE_MOST + 1; /* the most there may be, and a word that is none */
    CHECK_EQ(count(seen_of(series, false, true), FS_EVER), 2);
    histogram->pending = FS_VALUE_MOST + 2;
    CHECK_EQ(count(seen_of(series, false, true), FS_EVER), 1);
    histogram->pending = 0;
}

/* Calls of unknown duration alone have no extremes. */
static void without_durations(void) {
    fs_series *series = fresh_series();
    fs_histogram_note(fs_series_stripe(series, 0), fs_stamp(), true, true);
    fs_series *into = seen_of(series, false, true);
    uint64_t low, high;
    fs_series_extremes(into, &low, &high);
    CHECK_EQ(low, UINT64_MAX);
    CHECK_EQ(high, 0);
    CHECK_EQ(ever(into).calls, 1);
    CHECK_EQ(ever(into).failures, 1);
    CHECK_EQ(count(into, FS_EVER), 0);
}

/* He died while he moved a cell, and the slices: what he had counted there already is not counted twice. */
static void died_in_a_turn(void) {
    fs_series *series = fresh_series();
    for (int i = 0; i < 5; i++) record(series, 1000);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    uint32_t index = fs_histogram_index(1000), cell = fs_histogram_cell(index);
    fs_column *column = fs_histogram_column(histogram, fs_histogram_octave(index));
    column->undo = column->total[cell];
    column->moving = cell + 1;
    column->total[cell] += 5; /* and not taken from the live ones */
    histogram->slices.undo = histogram->slices.total;
    histogram->slices.turn |= 1;
    histogram->slices.moving = histogram->slices.turn;
    histogram->slices.total.calls += 5;
    histogram->slices.total.sum += 5000;
    CHECK_EQ(totals_of(series, true, fs_now(), NULL).calls, 5);
    CHECK_EQ(totals_of(series, true, fs_now(), NULL).sum, 5000);
    fs_series *into = seen_of(series, true, false);
    CHECK_EQ(count(into, FS_EVER), 5);
    CHECK_EQ(ever(into).calls, 5);
    column->moving = cell; /* another one's */
    CHECK_EQ(count(seen_of(series, true, false), FS_EVER), 10);
    column->moving = 0;
    CHECK_EQ(count(seen_of(series, true, false), FS_EVER), 10);
    /* Of who lives the turn will be over; who asks does not wait for it. */
    column->moving = cell + 1;
    CHECK_EQ(count(seen_of(series, false, false), FS_EVER), 10);
    histogram->slices.turn++;
}

/* What does not lie within is left out, to the byte. */
static void lies_within(void) {
    fs_stranger stranger = {(const char *)arena, 4 * FS_LINE, false};
    const char *base = (const char *)arena;
    CHECK(fs_stranger_follow(&stranger, base, 0, 8) == NULL);
    CHECK(fs_stranger_follow(&stranger, base, 1, 8) == base + FS_LINE);
    CHECK(fs_stranger_follow(&stranger, base, 3, FS_LINE) == base + (size_t)3 * FS_LINE);
    CHECK(fs_stranger_follow(&stranger, base, 3, FS_LINE + 1) == NULL);
    CHECK(fs_stranger_follow(&stranger, base, 4, 0) == base + (size_t)4 * FS_LINE);
    CHECK(fs_stranger_follow(&stranger, base, 5, 0) == NULL);
    CHECK(fs_stranger_follow(&stranger, base, -1, 0) == NULL);
    CHECK(fs_stranger_follow(&stranger, base + FS_LINE, -1, 8) == base);
    CHECK(fs_stranger_follow(&stranger, base, INT32_MAX, 8) == NULL);
    CHECK(fs_stranger_follow(&stranger, base, INT32_MIN, 8) == NULL);

    fs_series *series = fresh_series();
    record(series, 1000);
    series->stripe[0] = INT32_MAX / 2;
    CHECK_EQ(totals_of(series, false, fs_now(), NULL).calls, 0);
    CHECK_EQ(ever(seen_of(series, false, true)).calls, 0);
    series = fresh_series();
    record(series, 1000);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    histogram->column[fs_histogram_octave(fs_histogram_index(1000))] = INT32_MAX / 2;
    fs_series *into = seen_of(series, false, true);
    CHECK_EQ(ever(into).calls, 1);
    CHECK_EQ(count(into, FS_EVER), 0);
}

/* Several writers have a stripe each; and where there is no room, that is said. */
static void stripes_and_room(void) {
    fs_series *series = fresh_series();
    for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++)
        for (uint32_t i = 0; i <= stripe; i++) fs_histogram_record(fs_series_stripe(series, stripe), 1000, fs_stamp());
    CHECK_EQ(totals_of(series, false, fs_now(), NULL).calls, FS_STRIPES * (FS_STRIPES + 1) / 2);
    CHECK_EQ(count(seen_of(series, false, true), FS_RECENT), FS_STRIPES * (FS_STRIPES + 1) / 2);

    size_t room = (sizeof(fs_series) + FS_LINE - 1) / FS_LINE, first = (sizeof(fs_histogram) + FS_LINE - 1) / FS_LINE;
    fs_stranger stranger = all_of(arena, false);
    for (int i = 0; i < 2; i++) { /* for no histogram, for no column */
        fs_arena *narrow = small_arena(room + (i ? first : 0));
        fs_series *into = narrow ? fs_series_take(narrow, WINDOW, fs_now()) : NULL;
        if (!into) exit(2);
        CHECK_EQ(fs_series_observe(into, series, &stranger, true, fs_now()), FS_NO_MEMORY);
        free(narrow);
    }
}

int main(void) {
    rig_setup();
    as_he_does();
    left_pending();
    without_durations();
    died_in_a_turn();
    lies_within();
    stripes_and_room();
    return rig_report();
}
