/* What a histogram adds to its window, all interleavings: the slices that a full cell turns, and the extremes. */
#include "explored.h"

/* A reader that meets a turn gives up after so many looks: which is told apart by its fences. */
#define FS_READS_MOST 3
static void fenced(void);
#undef fs_fence_acquire
#define fs_fence_acquire() fenced()
#include "../../csrc/histogram.c"
#include "../../csrc/window.c"

#include "small_arena.h"

#define START UINT64_C(500000)
#define THERE UINT64_C(1000)

typedef enum { END = 0, FULL, COUNT, EVER, LOW, HIGH } action;

static fs_histogram *under;
static const action (*script)[4];
static struct {
    uint32_t began, counted;
    uint64_t low, high;
    uint8_t looks;
} past;

static uint32_t looked; /* by all, ever */

static void fenced(void) {
    looked++;
    if (ex_me) past.looks++;
    if (!ex_now) return;
    ex_fence(EX_ACQUIRE);
}

static void reach(uint64_t ns) {
    fs_histogram_new_extreme(under, ns);
    if (ns < past.low) past.low = ns;
    if (ns > past.high) past.high = ns;
}

static void act(int thread, action what) {
    fs_totals totals = {0};
    uint32_t least = ex_now->weak ? 0 : past.counted;
    switch (what) {
    case FULL:
        fs_histogram_cell_full(under);
        return;
    case COUNT:
        past.began++;
        fs_tally_add(&under->slices.live.calls, 1);
        past.counted++;
        return;
    case EVER:
        past.looks = 0;
        fs_slices_ever(&under->slices, &totals);
        bool whole = past.looks < FS_READS_MOST;
        past.looks = 0;
        if (whole) EX_CHECK(totals.calls >= THERE + least && totals.calls <= THERE + past.began);
        return;
    case LOW:
        reach(90 - 10 * (uint64_t)thread);
        return;
    case HIGH:
        reach(110 + 10 * (uint64_t)thread);
        return;
    case END:
        return;
    }
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(thread, what);
}

static void ended(void) {
    EX_CHECK(under->low == past.low && under->high == past.high);
    fs_totals totals = {0};
    fs_slices_ever(&under->slices, &totals);
    EX_CHECK(totals.calls == THERE + past.counted && under->slices.turn % 2 == 0);
}

typedef struct {
    const char *name;
    action script[EXPLORER_THREADS][4];
} plan;

static const plan plans[] = {
    {"a full cell turns under a reader", {{FULL}, {EVER}}},
    {"two full cells, calls go on", {{FULL}, {FULL, COUNT}}},
    {"extremes", {{LOW, HIGH}, {HIGH, LOW}}},
    {"three extremes", {{HIGH}, {HIGH}, {HIGH}}},
};

/* Where nobody turns one look will do, between two at the turns; where one died in a turn all looks are made, and told. */
static void one_look_will_do_at_rest(fs_arena *arena) {
    static uint64_t cells[FS_OCTAVES * FS_CELLS];
    static const double half = 0.5;
    static const uint64_t bound = FS_VALUE_MOST;
    fs_series *series = fs_series_take(arena, FS_SLICES * FS_NS_PER_SECOND, START);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    if (!histogram) exit(2);
    fs_clock_fake_set(START);
    fs_histogram_record(histogram, 1000, fs_stamp());
    for (uint32_t dead = 0; dead < 2; dead++)
        for (int span = FS_EVER; span <= FS_RECENT; span++) {
            uint64_t found, below;
            fs_totals totals;
            histogram->slices.turn = dead;
            looked = 0;
            CHECK_EQ(fs_series_quantiles(series, (fs_span_of_time)span, &half, 1, &found), 1);
            CHECK_EQ(looked, dead ? READS_MOST : 2);
            looked = 0;
            CHECK_EQ(fs_series_cells(series, (fs_span_of_time)span, cells), 1);
            CHECK_EQ(looked, dead ? READS_MOST : 2);
            looked = 0;
            CHECK_EQ(fs_series_counts_below(series, (fs_span_of_time)span, &bound, 1, &below, &totals), 1);
            CHECK(below == 1 && totals.calls == 1);
            if (dead) CHECK(looked > READS_MOST);
            else CHECK_EQ(looked, 3); /* the totals are a look of their own */
        }
    fs_series_free(series);
}

int main(void) {
    ex_sums sums = {0};
    fs_clock_fake(true);
    fs_arena *arena = small_arena(1 << 8);
    if (!arena) return 2;
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            under = fs_histogram_take(arena, FS_SLICES * FS_NS_PER_SECOND, START);
            if (!under) return 2;
            fs_histogram_new_extreme(under, 100);
            under->slices.live.calls = THERE;
            memset(&past, 0, sizeof past);
            past.low = past.high = 100;
            script = plans[i].script;
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .finally = ended, .shared = &under->slices,
                .shared_bytes = offsetof(fs_histogram, column) - offsetof(fs_histogram, slices), /* there are no columns */
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_search_and_tell(&search, &sums);
            fs_histogram_free(under);
        }
    one_look_will_do_at_rest(arena);
    ex_score("all interleavings of the histogram", &sums);
    free(arena);
    return check_report();
}
