/* A great many simulated calls, by one thread and by four: every change is a row of the state table and is told once, every
 * lease comes back, and whatever has happened, calls that succeed close the breaker. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "breaker_rig.h"

#include <pthread.h>

#include "failsoft/rng.h"

#include "breaker_table.h"

#define THREADS 4
#define OUT 8
#define EPISODE 20000 /* calls a thread */
#define GENERATIONS (1 << 18)

static struct { uint64_t calls, leaked, stuck, wrong, changes; } sum;

static fs_breaker *shared;
static fs_breaker_config settings;
static fs_ns clock_now;
static uint8_t told[GENERATIONS];

static void wrong(bool is) { if (is) fs_add_relaxed(&sum.wrong, 1); }

/* Is a change what the table says of the operation that brought it about? */
static void hear(const fs_change *heard, table_event event) {
    if (!heard->generation) return;
    fs_add_relaxed(&sum.changes, 1);
    if (heard->because == FS_BECAUSE_RAMPED) {
        wrong(heard->from != heard->to || event != ON_ACQUIRE);
        return;
    }
    wrong(heard->generation >= GENERATIONS || fs_add_relaxed(&told[heard->generation % GENERATIONS], 1) != 0);
    if (event == ON_OPERATOR) {
        wrong(heard->because != FS_BECAUSE_OPERATOR);
        return;
    }
    const table_row *row = table_row_to(heard->from, event, heard->to);
    bool by_rate = row && row->to == FS_OPEN && heard->from == FS_CLOSED_STATE && heard->because == FS_BECAUSE_FAILURE_RATE;
    wrong(!row || row->because == FS_BECAUSE_NOTHING || (row->because != heard->because && !by_rate));
    wrong(row && row->because == FS_BECAUSE_CONSECUTIVE_FAILURES && !by_rate &&
          heard->failures < settings.failure_threshold);
}

static fs_permit enter(fs_ns now) {
    fs_change mine = {0};
    fs_permit permit = fs_breaker_acquire(shared, now, &mine);
    hear(&mine, ON_ACQUIRE);
    wrong(fs_permit_granted(permit) && fs_permit_slot(permit) > settings.half_open_most);
    return fs_permit_granted(permit) ? permit : 0;
}

static void leave(fs_permit permit, ending how, fs_ns now) {
    fs_change mine = {0};
    if (how == SUCCEEDED) fs_breaker_success(shared, permit, 0, now, &mine);
    else if (how == FAILED) fs_breaker_failure(shared, permit, 0, now, &mine);
    else fs_breaker_ignore(shared, permit);
    hear(&mine, how == FAILED ? ON_FAILURE : ON_SUCCESS);
    wrong(mine.generation && fs_permit_generation(permit) + 1 != mine.generation);
}

static void say(uint64_t draw, fs_ns now) {
    static const fs_state states[] = {
        FS_CLOSED_STATE, FS_CLOSED_STATE, FS_CLOSED_STATE, FS_FORCED_OPEN, FS_DISABLED, FS_METRICS_ONLY,
    };
    fs_change mine = {0};
    if (draw & 1) {
        fs_breaker_limit(shared, draw & 2 ? FS_ALL : draw & FS_DIAL_START);
        return;
    }
    fs_breaker_force(shared, states[(draw >> 1) % 6], now, &mine);
    hear(&mine, ON_OPERATOR);
}

static void make_calls(fs_rng *rng, uint32_t calls) {
    fs_permit out[OUT] = {0};
    uint32_t failing = 0; /* of 8 calls */
    for (uint32_t i = 0; i < calls; i++) {
        uint64_t draw = fs_rng_next(rng);
        fs_ns now = draw >> 60 ? fs_load_relaxed(&clock_now) : fs_add_relaxed(&clock_now, draw >> 8 & 0xffffff);
        if ((draw >> 50 & 0x3ff) == 0) failing = draw >> 40 & 7;
        if ((draw >> 44 & 0x3fff) == 1) say(draw >> 8, now);
        fs_permit *place = &out[draw % OUT];
        if (*place) leave(*place, draw >> 32 & 31 ? ((draw >> 37 & 7) < failing ? FAILED : SUCCEEDED) : IGNORED, now);
        *place = enter(now);
    }
    for (int i = 0; i < OUT; i++)
        if (out[i]) leave(out[i], IGNORED, fs_load_relaxed(&clock_now));
    fs_add_relaxed(&sum.calls, calls);
}

static void begin_episode(fs_rng *rng) {
    settings = plain();
    settings.failure_threshold = 1 + (uint32_t)(fs_rng_next(rng) % 4);
    settings.success_threshold = 1 + (uint32_t)(fs_rng_next(rng) % 4);
    settings.half_open_most = 1 + (uint32_t)(fs_rng_next(rng) % 4);
    settings.reset_timeout = fs_rng_next(rng) % 4 ? fs_rng_next(rng) % (100 * MS) : 0;
    settings.reset_most = settings.reset_timeout + SECOND;
    settings.reset_growth = fs_rng_next(rng) % 2 ? 1.0 : 1.5;
    settings.lease = 1 + fs_rng_next(rng) % (200 * MS);
    settings.ramp = fs_rng_next(rng) % 2 ? fs_rng_next(rng) % SECOND : 0;
    settings.ramp_from = fs_rng_next(rng) >> 33;
    settings.last = fs_rng_next(rng) % 2 ? 20 : 0;
    settings.failure_rate = settings.last ? 0.5 : NO_RATE;
    clock_now = START;
    memset(told, 0, sizeof told);
    shared = made(settings);
}

static void end_episode(void) {
    uint32_t last = generation(shared);
    for (uint32_t g = 2; g <= last && g < GENERATIONS; g++) wrong(told[g] != 1);
    for (uint32_t slot = 0; slot < FS_PROBES_MOST; slot++) sum.leaked += shared->lease[slot] != 0;
    fs_breaker_limit(shared, FS_ALL);
    if (state(shared) >= FS_FORCED_OPEN) force(shared, FS_CLOSED_STATE, clock_now);
    clock_now += settings.reset_most + settings.lease + SECOND;
    for (uint32_t i = 0; i < settings.success_threshold && state(shared) != FS_CLOSED_STATE; i++) {
        fs_permit permit = acquire(shared, clock_now);
        if (fs_permit_granted(permit)) success(shared, permit, clock_now);
    }
    clock_now += settings.ramp + SECOND;
    bool goes = fs_permit_granted(acquire(shared, clock_now)) && fs_breaker_share(shared, clock_now) == FS_ALL;
    sum.stuck += !goes || state(shared) != FS_CLOSED_STATE;
    fs_breaker_free(shared);
}

static void by_one_thread(uint64_t calls) {
    fs_rng rng;
    fs_rng_seed(&rng, 1);
    for (sum.calls = 0; sum.calls < calls;) {
        begin_episode(&rng);
        make_calls(&rng, EPISODE);
        end_episode();
    }
}

static pthread_barrier_t barrier;
static uint64_t wanted;

static void *calling(void *argument) {
    uint64_t seed = *(uint64_t *)argument;
    fs_rng rng;
    fs_rng_seed(&rng, seed);
    for (uint64_t done = 0; done < wanted; done += THREADS * EPISODE) {
        if (seed == 1) begin_episode(&rng);
        pthread_barrier_wait(&barrier);
        make_calls(&rng, EPISODE);
        pthread_barrier_wait(&barrier);
        if (seed == 1) end_episode();
    }
    return NULL;
}

static void by_many_threads(uint64_t calls) {
    pthread_t threads[THREADS];
    uint64_t seeds[THREADS];
    sum.calls = 0;
    wanted = calls;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        seeds[i] = (uint64_t)i + 1;
        CHECK(pthread_create(&threads[i], NULL, calling, &seeds[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

static void told_of(const char *by) {
    printf("score: permits are conserved, %s | leaked permits | %" PRIu64 " | %" PRIu64 " calls\n", by, sum.leaked, sum.calls);
    printf("score: a breaker recovers, %s | stuck | %" PRIu64 " | %" PRIu64 " calls\n", by, sum.stuck, sum.calls);
    printf("score: each change is a row of the table, told once, %s | wrong transitions | %" PRIu64 " | %" PRIu64 " changes\n",
           by, sum.wrong, sum.changes);
    CHECK(sum.leaked == 0 && sum.stuck == 0 && sum.wrong == 0 && sum.changes > sum.calls / 1000);
    sum.changes = 0;
}

int main(int arguments, char **argument) {
    (void)argument;
    uint64_t calls = arguments > 1 ? 100000000 : 2000000;
    rig_setup();
    by_one_thread(calls);
    told_of("one thread");
    by_many_threads(calls);
    told_of("four threads");
    return rig_report();
}
