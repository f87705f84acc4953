/* The rules over rates, all interleavings: two who end at once around the threshold. It opens only on failures that have
 * happened, and of those that come last one sees all of them, or, where each could miss the other's, the very next does. */
#define EXPLORER_PLACES 56
#include "explored.h"

#include "failsoft/breaker.h"

#define fs_recorder_note(recorder, owner, decision) ((void)(decision))
#define acquire acquire_within /* the rig has its own */
#include "../../csrc/breaker.c"
#undef acquire
#undef fs_recorder_note
#include "../../csrc/window.c"

#include "breaker_rig.h"

typedef enum { END = 0, SUCCEED, FAIL, SLOW, CLOSE } action;

static fs_breaker *under;
static fs_series *counts; /* NULL: the count window */
static const action (*script)[4];
static fs_breaker_config settings;

static struct {
    uint32_t calls, failures, slow;      /* recorded, each before it is told */
    uint32_t opened, closed;
} past;

static void wrote(int thread, void *address, uint64_t before, uint64_t after) {
    (void)thread;
    if (address != &under->gate || fs_gate_generation(before) == fs_gate_generation(after)) return;
    if (fs_gate_state(after) != FS_OPEN) return;
    past.opened++;
    EX_CHECK(past.opened <= 1 + past.closed);
    /* No phantom: the most that speaks for it is all that has happened over the least number of calls. */
    double least_calls = (double)settings.minimum_calls;
    EX_CHECK(past.calls >= settings.minimum_calls);
    EX_CHECK((double)past.failures / least_calls >= settings.failure_rate || (double)past.slow / least_calls >= settings.slow_rate);
}

static void settle(action how) {
    fs_change told = {0};
    fs_permit permit = fs_breaker_acquire(under, START, &told);
    ex_begin(permit << 8 ^ (uint64_t)how);
    if (!fs_permit_granted(permit)) return;
    past.calls++;
    past.failures += how == FAIL;
    past.slow += how == SLOW;
    fs_histogram *histogram = counts ? fs_series_have(counts, 0) : NULL;
    if (histogram) { /* as the call path does: counted, then told */
        fs_tally_add(&histogram->slices.live.calls, 1);
        fs_histogram_outcome(histogram, how == FAIL, how == SLOW);
    }
    told.generation = 0;
    fs_ns took = how == SLOW ? settings.slow : 0;
    if (how == FAIL) fs_breaker_failure(under, permit, took, START, &told);
    else fs_breaker_success(under, permit, took, START, &told);
}

static void act(action what) {
    fs_change told = {0};
    if (what != CLOSE) {
        settle(what);
        return;
    }
    past.closed++;
    fs_breaker_force(under, FS_CLOSED_STATE, START, &told);
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(what);
}

typedef struct {
    const char *name;
    double failure_rate, slow_rate;
    uint32_t minimum;
    enum { OPENS, STAYS, EITHER } then; /* in one memory */
    bool times;                         /* a window of time, not of calls */
    enum { SHALLOW, WEAK_IS_DEEP, DEEP } deep; /* what is searched only where there is time */
    action script[EXPLORER_THREADS][4];
} plan;

static const plan *of_now;

static void ended(void) {
    bool open = fs_gate_state(fs_breaker_gate(under)) == FS_OPEN;
    if (!ex_now->weak && of_now->then == OPENS) EX_CHECK(open);
    if (of_now->then == STAYS) EX_CHECK(!open);
    if (open || of_now->then == STAYS || past.closed) return;
    /* Whoever of them saw too little: one more sees all. */
    fs_change told = {0};
    action last = settings.slow_rate > 1.0 ? FAIL : SLOW;
    fs_permit permit = fs_breaker_acquire(under, START, &told);
    fs_histogram *histogram = counts ? fs_series_have(counts, 0) : NULL;
    if (histogram) {
        histogram->slices.live.calls++;
        histogram->slices.live.failures += last == FAIL;
        histogram->slices.live.slow += last == SLOW;
    }
    if (last == FAIL) fs_breaker_failure(under, permit, 0, START, &told);
    else fs_breaker_success(under, permit, settings.slow, START, &told);
    EX_CHECK(fs_gate_state(fs_breaker_gate(under)) == FS_OPEN);
    if (histogram) {
        histogram->slices.live.calls--;
        histogram->slices.live.failures -= last == FAIL;
        histogram->slices.live.slow -= last == SLOW;
    }
}

static const char *named(const void *address) {
    static char name[32];
    if (address == &under->gate) return "gate";
    if (address == &under->last.ticket) return "ticket";
    if (address == &under->last.failed[0]) return "failed";
    snprintf(name, sizeof name, "+%td", (const char *)address - (const char *)under);
    return name;
}

static const plan plans[] = {
    {"both fail: one of them sees two", 1.0, NO_RATE, 2, OPENS, false, SHALLOW, {{FAIL}, {FAIL}}},
    {"one short of the minimum", 1.0, NO_RATE, 3, EITHER, false, SHALLOW, {{FAIL}, {FAIL}}},
    {"a failure and a success at one half", 0.5, NO_RATE, 2, EITHER, false, SHALLOW, {{FAIL}, {SUCCEED}}},
    {"just below the threshold", 0.75, NO_RATE, 2, EITHER, false, SHALLOW, {{FAIL}, {SUCCEED, FAIL}}},
    {"successes alone", 0.5, NO_RATE, 1, STAYS, false, SHALLOW, {{SUCCEED}, {SUCCEED}}},
    {"both are slow", NO_RATE, 1.0, 2, OPENS, false, SHALLOW, {{SLOW}, {SLOW}}},
    {"closed by an operator between two failures", 1.0, NO_RATE, 2, EITHER, false, DEEP, {{FAIL}, {FAIL}, {CLOSE}}},
    {"both fail, over time", 1.0, NO_RATE, 2, OPENS, true, WEAK_IS_DEEP, {{FAIL}, {FAIL}}},
    {"a failure and a success, over time", 0.5, NO_RATE, 2, EITHER, true, WEAK_IS_DEEP, {{FAIL}, {SUCCEED}}},
};

static void prepare(const plan *of) {
    settings = plain();
    settings.failure_threshold = 0;
    settings.failure_rate = of->failure_rate;
    settings.slow_rate = of->slow_rate;
    settings.minimum_calls = of->minimum;
    settings.slow = of->slow_rate > 1.0 ? FS_FOREVER : SECOND;
    settings.last = of->times ? 0 : 8;
    memset(&past, 0, sizeof past);
    under = made(settings);
    counts = of->times ? adopted(under, 60 * SECOND) : NULL;
    if (counts && !fs_series_stripe(counts, 0)) exit(2);
    script = of->script;
    of_now = of;
}

int main(int arguments, char **argument) {
    (void)argument;
    bool deep = arguments > 1;
    ex_sums sums = {0};
    rig_setup();
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            if (!deep && (plans[i].deep == DEEP || (weak && plans[i].deep))) continue;
            if (weak && plans[i].deep == DEEP) continue; /* more than can be searched */
            prepare(&plans[i]);
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .finally = ended, .place_name = named,
                .shared = arena, .shared_bytes = ((size_t)1 << 14) * FS_LINE,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_wrote = wrote;
            ex_search_and_tell(&search, &sums);
            ex_wrote = NULL;
            fs_breaker_free(under);
        }
    ex_score("all interleavings of the breaker, its rates", &sums);
    return rig_report();
}
