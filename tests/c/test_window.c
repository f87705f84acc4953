/* The time window against a plain list of what happened when, and the count window against a plain ring. */
#include "failsoft/window.h"

#include <string.h>

#include "failsoft/rng.h"

#include "check.h"

#define SLICE UINT64_C(1000)
#define LENGTH (FS_SLICES * SLICE)
#define START UINT64_C(500123)
#define STEPS 20000

/* A call recorded at `now`, as the histogram does it: turn if the slice is over, then count. */
static void record(fs_slices *window, fs_ns now, uint64_t ns, bool failed, bool slow) {
    if (fs_slices_due(window, now)) fs_slices_turn(window, now, now);
    window->live.calls++;
    window->live.sum += ns;
    window->live.failures += failed;
    window->live.slow += slow;
}

static fs_totals recent(const fs_slices *window, fs_ns now) {
    fs_totals totals = {0};
    fs_slices_recent(window, now, &totals);
    return totals;
}

static fs_totals ever(const fs_slices *window) {
    fs_totals totals = {0};
    fs_slices_ever(window, &totals);
    return totals;
}

static fs_totals of(uint64_t calls, uint64_t sum, uint64_t failures, uint64_t slow) {
    return (fs_totals){.calls = calls, .sum = sum, .failures = failures, .slow = slow};
}

static void check_totals(fs_totals is, fs_totals wanted) {
    CHECK_EQ(is.calls, wanted.calls);
    CHECK_EQ(is.sum, wanted.sum);
    CHECK_EQ(is.failures, wanted.failures);
    CHECK_EQ(is.slow, wanted.slow);
}

static void begins_empty_and_due(void) {
    fs_slices window;
    fs_slices_init(&window, LENGTH, START);
    CHECK(fs_slices_due(&window, 0) && fs_slices_due(&window, UINT64_MAX));
    check_totals(recent(&window, START), (fs_totals){0});
    check_totals(ever(&window), (fs_totals){0});
    CHECK_EQ(fs_slices_begin_turn(&window, START, START), 0); /* the first look only sets the stamps */
    CHECK(!fs_slices_due(&window, START));
    CHECK(!fs_slices_due(&window, START + SLICE - 1));
    CHECK(fs_slices_due(&window, START + SLICE));
    CHECK(fs_slices_due(&window, START - 1)); /* a stamp that went backwards */
}

static void slices_expire_one_by_one(void) {
    fs_slices window;
    fs_slices_init(&window, LENGTH, START);
    for (uint64_t i = 0; i < FS_SLICES; i++) record(&window, START + i * SLICE, 1 << i, false, false);
    CHECK_EQ(recent(&window, START + LENGTH - 1).sum, 63);
    /* Each slice boundary drops the oldest, whether or not anybody turns. */
    for (uint64_t i = 0; i <= FS_SLICES; i++) {
        CHECK_EQ(recent(&window, START + LENGTH - 1 + i * SLICE).sum, (63u >> i) << i);
        CHECK_EQ(recent(&window, START + LENGTH - 1 + i * SLICE).calls, FS_SLICES - i);
    }
    for (uint64_t i = 1; i <= FS_SLICES; i++) {
        fs_ns now = START + LENGTH - 1 + i * SLICE;
        fs_slices_turn(&window, now, now);
        CHECK_EQ(recent(&window, now).sum, (63u >> i) << i);
        CHECK_EQ(ever(&window).sum, 63);
    }
}

static void idle_longer_than_the_window(void) {
    static const uint64_t idle[] = {5, 6, 7, 11, 12, 1000, UINT64_C(1) << 40};
    for (int i = 0; i < 7; i++) {
        fs_slices window;
        fs_slices_init(&window, LENGTH, START);
        for (uint64_t s = 0; s < 4; s++) record(&window, START + s * SLICE, 7, true, true);
        fs_ns now = START + (3 + idle[i]) * SLICE;
        uint64_t left = idle[i] == 5; /* the last slice alone is still within the window */
        check_totals(recent(&window, now), of(left, 7 * left, left, left));
        record(&window, now, 100, false, false);
        check_totals(recent(&window, now), of(left + 1, 7 * left + 100, left, left));
        check_totals(ever(&window), of(5, 128, 4, 4));
    }
}

static void turns_exclude_each_other(void) {
    fs_slices window;
    fs_slices_init(&window, LENGTH, START);
    record(&window, START, 5, false, false);
    fs_ns now = START + SLICE;
    CHECK_EQ(fs_slices_begin_turn(&window, now, now), 1);
    CHECK(window.turn & 1);
    CHECK_EQ(fs_slices_begin_turn(&window, now + 3 * SLICE, now + 3 * SLICE), 0); /* somebody else turns */
    fs_slices_turn(&window, now + 3 * SLICE, now + 3 * SLICE);
    CHECK(window.turn & 1);
    record(&window, now, 6, false, false); /* others record on */
    fs_slices_end_turn(&window, 1);
    CHECK_EQ(window.turn & 1, 0);
    CHECK_EQ(ever(&window).sum, 11);
    CHECK_EQ(recent(&window, now).sum, 11);
    CHECK_EQ(fs_slices_begin_turn(&window, now + 100 * SLICE, 0), FS_SLICES); /* at most the whole window */
    fs_slices_end_turn(&window, FS_SLICES);
    CHECK_EQ(recent(&window, now + 100 * SLICE).calls, 0);
}

static void a_clock_that_went_back_drops_nothing(void) {
    fs_slices window;
    fs_slices_init(&window, LENGTH, START);
    record(&window, START + 2 * SLICE, 5, false, false);
    record(&window, START, 6, false, false);
    CHECK_EQ(recent(&window, START).sum, 11);
    CHECK_EQ(recent(&window, START + 2 * SLICE).sum, 11);
}

static void shorter_than_its_slices(void) {
    fs_slices window;
    fs_slices_init(&window, 3, START); /* half a nanosecond a slice: rounded to one */
    CHECK_EQ(window.slice, 1);
    record(&window, START, 5, false, false);
    CHECK_EQ(recent(&window, START + 5).calls, 1);
    CHECK_EQ(recent(&window, START + 6).calls, 0);
}

typedef struct {
    uint64_t slice; /* counted from START */
    fs_totals what;
} happening;

static void random_walks_agree_with_a_list(uint64_t seed) {
    static happening all[STEPS];
    fs_slices window;
    fs_slices_init(&window, LENGTH, START);
    fs_rng rng;
    fs_rng_seed(&rng, seed);
    fs_totals since_start = {0};
    fs_ns now = START;
    for (int step = 0, count = 0; step < STEPS; step++) {
        uint64_t draw = fs_rng_next(&rng);
        /* Mostly within a slice, sometimes over a few, rarely over the whole window. */
        now += draw % 64 == 0 ? draw / 64 % (2 * LENGTH) : draw % 8 == 0 ? draw / 64 % (2 * SLICE) : draw / 64 % 50;
        bool failed = draw >> 60 & 1, slow = draw >> 61 & 1;
        if (draw >> 62) {
            uint64_t ns = draw >> 40 & 0xffff;
            record(&window, now, ns, failed, slow);
            all[count++] = (happening){(now - START) / SLICE, of(1, ns, failed, slow)};
            since_start.calls++;
            since_start.sum += ns;
            since_start.failures += failed;
            since_start.slow += slow;
        } else if (draw >> 61 & 1) {
            fs_slices_turn(&window, now, now);
        }
        fs_totals wanted = {0};
        uint64_t slice = (now - START) / SLICE;
        for (int i = count - 1; i >= 0 && all[i].slice + FS_SLICES > slice; i--) {
            wanted.calls += all[i].what.calls;
            wanted.sum += all[i].what.sum;
            wanted.failures += all[i].what.failures;
            wanted.slow += all[i].what.slow;
        }
        check_totals(recent(&window, now), wanted);
        check_totals(ever(&window), since_start);
    }
}

static uint64_t *number(fs_totals *of_them, int which) { return (uint64_t *)of_them + which; }

static fs_totals ever_dead(const fs_slices *window) {
    fs_totals totals = of(1, 2, 3, 4); /* what is there already is added to */
    fs_slices_ever_dead(window, &totals);
    return of(totals.calls - 1, totals.sum - 2, totals.failures - 3, totals.slow - 4);
}

/* A writer killed anywhere within a turn: so many of the four numbers are moved, and one may be half-way. Others may have
 * recorded on meanwhile. */
static void what_a_dead_writer_left_is_counted_once(void) {
    for (int moved = 0; moved <= 4; moved++)
        for (int half = 0; half < 2; half++)
            for (uint64_t later = 0; later < 2; later++) {
                fs_slices window;
                fs_slices_init(&window, LENGTH, START);
                window.total = of(1000, 2000, 30, 40);
                window.live = of(10, 500, 7, 8);
                window.turn = 5;
                window.moving = 5;
                window.undo = window.total;
                for (int i = 0; i < 4; i++) {
                    uint64_t *live = number(&window.live, i);
                    if (i < moved + half) *number(&window.total, i) += *live;
                    if (i < moved) *live = 0;
                    *live += later;
                }
                check_totals(ever_dead(&window), of(1010 + later, 2500 + later, 37 + later, 48 + later));
            }
}

/* Of a turn that moved nothing yet, or of one that is over, what there was to undo says nothing. */
static void what_is_to_be_undone_is_of_one_turn(void) {
    static const uint32_t turns[][2] = {{4, 0}, {4, 3}, {4, 4}, {5, 3}, {5, 0}, {5, 4}};
    for (int i = 0; i < 6; i++) {
        fs_slices window;
        fs_slices_init(&window, LENGTH, START);
        window.total = of(1000, 2000, 30, 40);
        window.undo = of(995, 1900, 29, 38);
        window.live = of(10, 500, 7, 8);
        window.turn = turns[i][0];
        window.moving = turns[i][1];
        check_totals(ever_dead(&window), of(1010, 2500, 37, 48));
    }
    CHECK_EQ(fs_slices_left(9, 20, 10), 9); /* fewer than were moved: they came after */
    CHECK_EQ(fs_slices_left(10, 20, 10), 0);
    CHECK_EQ(fs_slices_left(11, 20, 10), 1);
    CHECK_EQ(fs_slices_left(11, 10, 10), 11);
}

static void last_agrees_with_a_ring(uint32_t size) {
    static bool failed[FS_LAST_MOST], slow[FS_LAST_MOST];
    static fs_last window;
    memset(&window, 0, sizeof window);
    fs_rng rng;
    fs_rng_seed(&rng, size);
    uint64_t count = 0;
    for (uint32_t step = 0; step < 5 * size + 300; step++) {
        uint64_t draw = fs_rng_next(&rng);
        if (step == 3 * size + 17) {
            fs_last_restart(&window);
            count = 0;
        }
        bool now_failed = draw & 1, now_slow = draw & 2;
        fs_last_record(&window, size, now_failed, now_slow);
        failed[count % size] = now_failed;
        slow[count % size] = now_slow;
        count++;
        uint64_t held = count < size ? count : size;
        fs_totals wanted = {.calls = held}, is = {0};
        for (uint64_t i = 0; i < held; i++) {
            wanted.failures += failed[i];
            wanted.slow += slow[i];
        }
        fs_last_totals(&window, size, &is);
        check_totals(is, wanted);
    }
    fs_last_restart(&window);
    fs_totals none = {0};
    fs_last_totals(&window, size, &none);
    check_totals(none, (fs_totals){0});
}

static void all_failed_fills_every_place(uint32_t size) {
    static fs_last window;
    memset(&window, 0, sizeof window);
    for (uint32_t i = 0; i < 3 * size; i++) fs_last_record(&window, size, true, true);
    fs_totals totals = {0};
    fs_last_totals(&window, size, &totals);
    check_totals(totals, of(size, 0, size, size));
    for (uint32_t i = 0; i < size; i++) fs_last_record(&window, size, false, false);
    totals = (fs_totals){0};
    fs_last_totals(&window, size, &totals);
    check_totals(totals, of(size, 0, 0, 0));
}

int main(void) {
    begins_empty_and_due();
    slices_expire_one_by_one();
    idle_longer_than_the_window();
    turns_exclude_each_other();
    a_clock_that_went_back_drops_nothing();
    shorter_than_its_slices();
    what_a_dead_writer_left_is_counted_once();
    what_is_to_be_undone_is_of_one_turn();
    for (uint64_t seed = 0; seed < 5; seed++) random_walks_agree_with_a_list(seed);
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 100, 127, 128, 129, 1023, FS_LAST_MOST};
    for (int i = 0; i < 11; i++) {
        last_agrees_with_a_ring(sizes[i]);
        all_failed_fills_every_place(sizes[i]);
    }
    return check_report();
}
