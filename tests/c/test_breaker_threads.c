/* Many threads on one breaker: the cap on probes, each outcome and each change once. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "breaker_rig.h"

#include <pthread.h>
#include <string.h>

#include "failsoft/rng.h"

#define THREADS 4
#define TURNS 60000
#define GENERATIONS (1 << 20)

static fs_breaker *shared;
static uint32_t inside, most_inside;
static fs_ns shared_now;
static uint8_t told[GENERATIONS]; /* how often each generation was announced */
static uint8_t ramps[GENERATIONS]; /* and the end of its ramp */

static void hear(const fs_change *heard) {
    uint8_t *count = heard->because == FS_BECAUSE_RAMPED ? ramps : told;
    if (heard->generation) fs_add_relaxed(&count[heard->generation % GENERATIONS], 1);
}

static fs_permit enter(fs_ns now) {
    fs_change mine = {0};
    fs_permit permit = fs_breaker_acquire(shared, now, &mine);
    hear(&mine);
    if (!fs_permit_granted(permit)) return 0;
    if (fs_permit_slot(permit)) {
        uint32_t here = fs_add_relaxed(&inside, 1) + 1, most = fs_load_relaxed(&most_inside);
        while (here > most && !fs_cas(&most_inside, &most, here)) {}
    }
    return permit;
}

static void leave(fs_permit permit, ending how, fs_ns now) {
    fs_change mine = {0};
    if (fs_permit_slot(permit)) fs_add_relaxed(&inside, UINT32_MAX);
    if (how == SUCCEEDED) fs_breaker_success(shared, permit, 0, now, &mine);
    else if (how == FAILED) fs_breaker_failure(shared, permit, 0, now, &mine);
    else fs_breaker_ignore(shared, permit);
    hear(&mine);
}

static void *storming(void *argument) {
    fs_rng rng;
    fs_rng_seed(&rng, *(uint64_t *)argument);
    fs_permit held[3] = {0};
    uint32_t before = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        uint64_t draw = fs_rng_next(&rng);
        fs_ns now = fs_add_relaxed(&shared_now, draw & 0xff);
        fs_permit *permit = &held[(draw >> 8) % 3];
        if (draw >> 56 == 0) fs_breaker_limit(shared, draw & 1 ? FS_ALL : FS_ALL / 4 * 3);
        if (*permit) {
            leave(*permit, draw >> 16 & 7 ? (draw >> 19 & 3 ? SUCCEEDED : FAILED) : IGNORED, now);
            *permit = 0;
        } else {
            *permit = enter(now);
        }
        uint32_t seen = fs_gate_generation(fs_breaker_gate(shared));
        CHECK((int32_t)(seen - before) >= 0);
        before = seen;
    }
    for (int i = 0; i < 3; i++)
        if (held[i]) leave(held[i], IGNORED, fs_load_relaxed(&shared_now));
    return NULL;
}

static void run_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    uint64_t seeds[THREADS];
    for (int i = 0; i < THREADS; i++) {
        seeds[i] = (uint64_t)i + 1;
        CHECK(pthread_create(&threads[i], NULL, body, &seeds[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

/* How many ramps were announced as over. */
static uint32_t check_told_once(void) {
    uint32_t lost = 0, twice = 0, ramped = 0;
    for (uint32_t g = 2; g <= generation(shared); g++) {
        lost += told[g] == 0;
        twice += told[g] > 1 || ramps[g] > 1;
        ramped += ramps[g];
    }
    CHECK_EQ(lost, 0);
    CHECK_EQ(twice, 0);
    return ramped;
}

/* All states at once, under leases that never expire: the cap holds, and every change is announced exactly once. */
static void threads_keep_the_cap_and_tell_each_change_once(fs_ns wait, fs_ns ramp) {
    fs_breaker_config config = plain();
    config.reset_timeout = wait;
    config.lease = FS_FOREVER;
    config.failure_threshold = 2;
    config.ramp = ramp;
    config.ramp_from = FS_ALL / 2;
    memset(told, 0, sizeof told);
    memset(ramps, 0, sizeof ramps);
    shared = made(config);
    shared_now = START;
    inside = most_inside = 0;
    run_threads(storming);
    CHECK_EQ(inside, 0);
    CHECK(most_inside >= 1 && most_inside <= config.half_open_most);
    CHECK_EQ(status(shared, shared_now).probes, 0); /* every lease came back */
    CHECK(generation(shared) > 100 && generation(shared) < GENERATIONS);
    CHECK_EQ(check_told_once() != 0, ramp != 0);
    fs_breaker_free(shared);
}

static void *flapping(void *argument) {
    (void)argument;
    for (int turn = 0; turn < 2 * TURNS; turn++) {
        fs_permit permit = enter(START);
        if (permit) leave(permit, FAILED, START);
    }
    return NULL;
}

/* No wait, and no probe that succeeds: while one call goes from OPEN to HALF_OPEN, others have opened it again. */
static void a_call_tells_one_change_and_loses_none(void) {
    fs_breaker_config config = plain();
    config.reset_timeout = 0;
    memset(told, 0, sizeof told);
    memset(ramps, 0, sizeof ramps);
    shared = made(config);
    inside = 0;
    run_threads(flapping);
    CHECK(generation(shared) > 100 && generation(shared) < GENERATIONS);
    check_told_once();
    fs_breaker_free(shared);
}

#define ROUNDS 4000

static pthread_barrier_t barrier;
static fs_permit contested;

static void *ending_the_same_probe(void *argument) {
    (void)argument;
    for (int round = 0; round < ROUNDS; round++) {
        fs_change mine = {0};
        pthread_barrier_wait(&barrier);
        fs_breaker_success(shared, fs_load_relaxed(&contested), 0, START, &mine);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void a_probe_counts_once_among_threads(void) {
    fs_breaker_config config = plain();
    config.success_threshold = FS_COUNT_MOST;
    shared = made(config);
    force(shared, FS_HALF_OPEN, START);
    pthread_barrier_init(&barrier, NULL, 3);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, ending_the_same_probe, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        fs_store_relaxed(&contested, acquire(shared, START));
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        CHECK_EQ(tally(shared), round + 1);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    fs_breaker_free(shared);
}

static void *failing(void *argument) {
    (void)argument;
    for (int i = 0; i < 1000; i++) {
        fs_change mine = {0};
        fs_permit permit = fs_breaker_acquire(shared, START, &mine);
        fs_breaker_failure(shared, permit, 0, START, &mine);
    }
    return NULL;
}

static void threads_lose_no_failure(void) {
    fs_breaker_config config = plain();
    config.failure_threshold = THREADS * 1000;
    shared = made(config);
    run_threads(failing);
    CHECK_EQ(state(shared), FS_OPEN); /* the very last one trips it */
    fs_breaker_free(shared);
    config.failure_threshold++;
    shared = made(config);
    run_threads(failing);
    CHECK_EQ(state(shared), FS_CLOSED_STATE);
    CHECK_EQ(tally(shared), THREADS * 1000);
    fs_breaker_free(shared);
}

static uint32_t still_failing;

static void *failing_or_chaotic(void *argument) {
    if (*(uint64_t *)argument == 1) {
        do {
            fs_breaker_chaos(shared, true);
            fs_breaker_chaos(shared, false);
        } while (fs_load_acquire(&still_failing));
        return NULL;
    }
    for (int i = 0; i < 20; i++) failing(argument);
    fs_add_relaxed(&still_failing, UINT32_MAX);
    return NULL;
}

/* With a load and a store in place of the swap, failures are lost, or the mark stays. */
static void chaos_comes_and_goes_and_no_failure_is_lost(void) {
    for (int round = 0; round < 20; round++) {
        shared = made(plain());
        fs_change mine = {0};
        fs_breaker_force(shared, FS_METRICS_ONLY, START, &mine);
        fs_store_release(&still_failing, THREADS - 1);
        run_threads(failing_or_chaotic);
        CHECK_EQ(tally(shared), (THREADS - 1) * 20000);
        CHECK(!(fs_breaker_gate(shared) & FS_GATE_CHAOS));
        fs_breaker_free(shared);
    }
}

static uint32_t marking;

static void *marking_on_and_off(void *argument) {
    (void)argument;
    for (bool on = true; fs_load_relaxed(&marking); on = !on) fs_breaker_chaos(shared, on);
    return NULL;
}

/* Whoever changes a mark between a look at the gate and the swap has the success try again. */
static void a_success_clears_the_count_whatever_marks_change(void) {
    shared = made(plain());
    pthread_t other;
    fs_store_relaxed(&marking, 1);
    CHECK(pthread_create(&other, NULL, marking_on_and_off, NULL) == 0);
    fs_change mine = {0};
    uint32_t left = 0;
    for (int i = 0; i < 200000; i++) {
        fs_breaker_failure(shared, fs_breaker_acquire(shared, START, &mine), 0, START, &mine);
        fs_breaker_success(shared, fs_breaker_acquire(shared, START, &mine), 0, START, &mine);
        left += tally(shared) != 0;
    }
    fs_store_relaxed(&marking, 0);
    pthread_join(other, NULL);
    CHECK_EQ(left, 0);
    CHECK_EQ(state(shared), FS_CLOSED_STATE);
    fs_breaker_free(shared);
}

static void *disowning(void *argument) {
    (void)argument;
    for (int i = 0; i < 500000; i++) fs_breaker_disown(shared, &(fs_totals){.calls = 1, .failures = 1, .slow = 1});
    return NULL;
}

/* With a load and a store in place of any of the additions, some are lost. */
static void threads_disown_every_call(void) {
    shared = made(plain());
    run_threads(disowning);
    CHECK_EQ(shared->before.calls, THREADS * 500000);
    CHECK_EQ(shared->before.failures, THREADS * 500000);
    CHECK_EQ(shared->before.slow, THREADS * 500000);
    fs_breaker_free(shared);
}

int main(void) {
    rig_setup();
    threads_keep_the_cap_and_tell_each_change_once(20000, 0);
    threads_keep_the_cap_and_tell_each_change_once(0, 0);
    threads_keep_the_cap_and_tell_each_change_once(20000, 3000);
    threads_keep_the_cap_and_tell_each_change_once(0, 100);
    a_call_tells_one_change_and_loses_none();
    a_probe_counts_once_among_threads();
    threads_lose_no_failure();
    chaos_comes_and_goes_and_no_failure_is_lost();
    a_success_clears_the_count_whatever_marks_change();
    threads_disown_every_call();
    return rig_report();
}
