/* The real time window, all interleavings: calls are counted, slices turn and sums are read at once, and nothing is counted
 * twice, lost or kept too long; and the count window, where writers meet. */
#define EXPLORER_PLACES 80
#include "explored.h"

/* A reader that meets a turn tries again, and gives up after so many times: which is told apart by its fences. */
#define FS_READS_MOST 3
static void fenced(void);
#undef fs_fence_acquire
#define fs_fence_acquire() fenced()
#include "../../csrc/window.c"

#define SLICE UINT64_C(1000)
#define START UINT64_C(500000)
#define ONE UINT64_C(1000000) /* what each call adds, beside what is there: one digit a slice */
#define THERE UINT64_C(111111)
#define KEPT UINT64_C(111110) /* when the oldest slice has expired */
#define YOUNGEST UINT64_C(100000) /* when all others have */

typedef enum { END = 0, COUNT, TURN, RECENT, LATE, EVER, LAST } action;

static struct {
    fs_slices slices;
    fs_last last;
} shared;
#define under shared.slices
#define row shared.last
static const action (*script)[4];
static struct {
    uint32_t began, counted;
    uint8_t looks[EXPLORER_THREADS];
} past;

static uint32_t looked; /* by all, ever */

static void fenced(void) {
    looked++;
    if (ex_me) past.looks[ex_me - ex_threads]++;
    ex_fence(EX_ACQUIRE);
}

static void check_sum(uint64_t is, uint64_t there, uint32_t least) {
    EX_CHECK(is % ONE == there && is / ONE >= least && is / ONE <= past.began);
}

static void act(int thread, action what) {
    fs_totals totals = {0};
    uint32_t least = ex_now->weak ? 0 : past.counted;
    switch (what) {
    case COUNT:
        past.began++;
        fs_tally_add(&under.live.calls, ONE);
        fs_tally_add(&under.live.sum, ONE);
        past.counted++;
        return;
    case TURN:
        fs_slices_turn(&under, START + SLICE, START + SLICE);
        return;
    case RECENT:
    case LATE:
    case EVER:
        past.looks[thread] = 0;
        if (what == RECENT || what == LATE) fs_slices_recent(&under, START + (what == LATE ? FS_CLOSED : 1) * SLICE, &totals);
        else fs_slices_ever(&under, &totals);
        bool whole = past.looks[thread] < FS_READS_MOST;
        past.looks[thread] = 0;
        if (!whole) return;
        uint64_t there = what == RECENT ? KEPT : what == LATE ? YOUNGEST : THERE;
        check_sum(totals.calls, there, least);
        check_sum(totals.sum, there, least);
        return;
    case LAST:
        past.began++;
        fs_last_record(&row, 2, true, false);
        past.counted++;
        return;
    case END:
        return;
    }
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(thread, what);
}

static bool turned, counts_last;

static void ended(void) {
    fs_totals recent = {0}, ever = {0}, seen = {0};
    if (turned) {
        fs_slices_turn(&under, START + SLICE, START + SLICE); /* if all who might have were outrun */
        looked = 0;
        fs_slices_recent(&under, START + SLICE, &recent);
        fs_slices_ever(&under, &ever);
        EX_CHECK(looked == 2); /* where nobody turns, one look each will do */
        EX_CHECK(under.turn % 2 == 0 && under.opened == START + SLICE);
        EX_CHECK(recent.calls == KEPT + past.counted * ONE && recent.sum == recent.calls);
        EX_CHECK(ever.calls == THERE + past.counted * ONE && ever.sum == ever.calls);
    }
    if (!counts_last) return;
    fs_last_totals(&row, 2, &seen);
    uint32_t held = past.counted < 2 ? past.counted : 2;
    EX_CHECK(seen.calls == held && seen.failures == held && seen.slow == 0);
}

typedef struct {
    const char *name;
    action script[EXPLORER_THREADS][4];
    enum { SHALLOW, WEAK_IS_DEEP, STRICT } how; /* what is more than can be searched in the weak memory, or in a second */
} plan;

static const plan plans[] = {
    {"a turn between calls", {{COUNT}, {TURN}, {COUNT}}, SHALLOW},
    {"a turn under a reader of the window", {{TURN}, {RECENT}}, STRICT},
    {"a turn under a late reader of the window", {{TURN}, {LATE}}, WEAK_IS_DEEP},
    {"a turn under a reader of all", {{TURN}, {EVER}}, SHALLOW},
    {"two turn, calls go on", {{TURN}, {TURN}, {COUNT, COUNT}}, SHALLOW},
    {"calls, a turn and a reader", {{COUNT}, {TURN}, {EVER}}, STRICT},
    {"outcomes in one line", {{LAST}, {LAST}, {LAST}}, SHALLOW},
};

static void prepare(const plan *of) {
    turned = counts_last = false;
    for (int t = 0; t < EXPLORER_THREADS; t++)
        for (int i = 0; i < 4; i++) {
            turned |= of->script[t][i] == TURN;
            counts_last |= of->script[t][i] == LAST;
        }
    memset(&past, 0, sizeof past);
    memset(&row, 0, sizeof row);
    fs_slices_init(&under, FS_SLICES * SLICE, START);
    uint64_t digit = 1;
    for (int i = 0; i < FS_CLOSED; i++, digit *= 10) under.closed[i].calls = under.closed[i].sum = digit;
    under.live.calls = under.live.sum = digit;
    under.total.calls = under.total.sum = THERE - digit;
    script = of->script;
}

static const char *named(const void *address) {
    static char name[32];
    snprintf(name, sizeof name, "+%td", (const char *)address - (const char *)&under);
    return name;
}

int main(int arguments, char **argument) {
    (void)argument;
    ex_sums sums = {0};
    fs_clock_fake(true);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            if (weak && plans[i].how > (arguments > 1 ? WEAK_IS_DEEP : SHALLOW)) continue;
            prepare(&plans[i]);
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .finally = ended, .place_name = named,
                .shared = &shared, .shared_bytes = sizeof shared,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_search_and_tell(&search, &sums);
        }
    ex_score("all interleavings of the windows", &sums);
    return check_report();
}
