/* The real load control, all interleavings: never more calls under way than allowed, no token made or lost, no mark of the
 * control word taken away by another, and whoever goes to sleep in the queue is woken when a place is left. */
#include "explored.h"

#include "../../csrc/limiter.c"
#include "../../csrc/load.c"
#include "../../csrc/throttle.c"

#include "breaker_rig.h"

#define FAILURES 100 /* in the breaker's window, where the throttle shall have something to do */

typedef enum { END = 0, CALL, WAIT_FOR, MARK, DIAL, REFUSE, DOUBT } action;

static fs_load *under;
static fs_breaker *watched;
static const action (*script)[4];
static uint32_t places;
static struct {
    uint32_t inside, done;
    uint8_t asleep, woken;
    uint8_t queued, marked;
    uint8_t refused, doubted;
} past;

static void leave(void) {
    past.inside--;
    if (fs_load_leave(under)) past.woken = 1;
}

static void enter(void) {
    past.inside++;
    past.done++;
    EX_CHECK(past.inside <= places);
}

static void act(action what) {
    fs_ticks stamp = START;
    switch (what) {
    case CALL:
        if (!fs_load_enter(under, stamp) && fs_load_admit(under, watched, 1, false, false, START, stamp) != 0) return;
        enter();
        leave();
        return;
    case WAIT_FOR: /* as the queue does it: a mark, a last look, and only then to sleep */
        past.queued = 1;
        fs_load_queue(under, 1);
        if (fs_load_admit(under, watched, 1, false, true, START, stamp) != 0) {
            past.asleep = 1;
            return;
        }
        enter();
        fs_load_queue(under, 0);
        past.queued = 0;
        leave();
        return;
    case MARK:
        fs_load_failed(under, watched, START);
        past.marked = 1;
        return;
    case DIAL: /* let go, and not used */
        fs_dial_admits(&under->throttle.dial, FS_ALL / 3);
        fs_dial_take_back(&under->throttle.dial, FS_ALL / 3);
        return;
    case REFUSE:
        if (!fs_throttle_admits(&under->throttle, START)) past.refused++;
        return;
    case DOUBT:
        fs_throttle_unaccepted(&under->throttle, under->throttle.generation, START);
        past.doubted++;
        return;
    case END:
        return;
    }
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(what);
}

static bool throttles;

static void always(void) {
    EX_CHECK(under->bulkhead.in_flight <= places);
    EX_CHECK(under->limiter.interval == 0 || under->limiter.full <= fs_limiter_time(START) + under->limiter.depth);
}

static void ended(void) {
    EX_CHECK(under->bulkhead.in_flight == 0);
    EX_CHECK(!past.asleep || past.woken);
    uint32_t wanted = (past.queued ? FS_LOOK_QUEUED : 0) | (throttles && past.marked ? FS_LOOK_THROTTLING : 0);
    EX_CHECK(under->look == wanted);
    fs_ns place = START / under->throttle.slice % FS_THROTTLE_SLICES;
    EX_CHECK(under->throttle.refused[place] == past.refused && under->throttle.unaccepted[place] == past.doubted);
    if (!past.refused) EX_CHECK(under->throttle.dial == FS_DIAL_START);
    if (under->limiter.interval) EX_CHECK(under->limiter.full - fs_limiter_time(START) == past.done * under->limiter.interval);
}

static const char *named(const void *address) {
    static char name[32];
    if (address == &under->look) return "look";
    if (address == &under->bulkhead.in_flight) return "in_flight";
    if (address == &under->limiter.full) return "full";
    snprintf(name, sizeof name, "+%td", (const char *)address - (const char *)under);
    return name;
}

typedef struct {
    const char *name;
    uint32_t places;
    uint32_t tokens; /* 0: no limit */
    action script[EXPLORER_THREADS][4];
    enum { FAIR, THROTTLED } mood;
    bool weak_is_deep;
} plan;

static const plan plans[] = {
    {"three calls, two places", 2, 0, {{CALL}, {CALL}, {CALL}}, FAIR, true},
    {"calls and tokens", 3, 2, {{CALL}, {CALL}, {CALL}}, FAIR, true},
    {"a token given back, for there is no place", 1, 2, {{CALL}, {CALL, CALL}}, FAIR, false},
    {"one place, one waits for it", 1, 0, {{CALL}, {WAIT_FOR}}, FAIR, false},
    {"one waits, others call", 1, 0, {{CALL}, {WAIT_FOR}, {CALL}}, FAIR, true},
    {"shares given back", 1, 0, {{DIAL}, {DIAL}, {DIAL}}, FAIR, false},
    {"refusals and doubts", 1, 0, {{REFUSE}, {REFUSE, DOUBT}, {DOUBT}}, FAIR, false},
    {"marks of a queue and of a throttle", 1, 0, {{WAIT_FOR, WAIT_FOR}, {MARK}}, THROTTLED, true},
    {"marks of a queue and of a throttle that lets go", 1, 0, {{WAIT_FOR, WAIT_FOR}, {MARK}}, FAIR, true},
};

static void prepare(const plan *of) {
    fs_clock_fake_set(START);
    under = fs_load_take(arena, START);
    if (!under) exit(2);
    places = under->bulkhead.limit = of->places;
    if (of->tokens) CHECK_EQ(fs_limiter_set(&under->limiter, 1.0, of->tokens, START), FS_OK);
    fs_breaker_config config = plain();
    config.failure_threshold = 0;
    watched = made(config);
    fs_series *series = adopted(watched, 60 * SECOND);
    throttles = of->mood == THROTTLED;
    for (int i = 0; i < FAILURES; i++) call(watched, series, START, throttles, MS);
    for (int t = 0; t < EXPLORER_THREADS; t++)
        for (int i = 0; i < 4; i++)
            if (of->script[t][i] >= MARK) fs_throttle_set(&under->throttle, 2.0, 0.9, 10, 60 * SECOND);
    for (int t = 0; t < EXPLORER_THREADS; t++)
        if (of->script[t][0] == REFUSE) under->throttle.share = 0;
    under->throttle.when[START / under->throttle.slice % FS_THROTTLE_SLICES] = START / under->throttle.slice;
    memset(&past, 0, sizeof past);
    script = of->script;
}

int main(int arguments, char **argument) {
    (void)argument;
    ex_sums sums = {0};
    rig_setup();
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            if (weak && plans[i].weak_is_deep && arguments < 2) continue;
            prepare(&plans[i]);
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .always = always, .finally = ended,
                .place_name = named, .shared = under, .shared_bytes = sizeof *under,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_search_and_tell(&search, &sums);
            fs_breaker_free(watched);
            fs_arena_free(&under->block);
        }
    ex_score("all interleavings of load control", &sums);
    return rig_report();
}
