/* Load control as a whole: the order of the three, and that what refuses has taken nothing. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/load.h"

#include "breaker_rig.h"

#include <pthread.h>

#define S FS_NS_PER_SECOND

static fs_breaker *breaker;

static fs_load *unlimited(void) {
    fs_clock_fake_set(START);
    fs_load *load = fs_load_take(arena, fs_stamp());
    if (!load) exit(2);
    return load;
}

static uint64_t admit(fs_load *load, uint64_t n, bool probe, bool queue) {
    return fs_load_admit(load, breaker, n, probe, queue, fs_now(), fs_stamp());
}

static void the_order_of_the_three(void) {
    fs_load *load = unlimited();
    CHECK(!fs_load_armed(load));
    for (int i = 0; i < 1000; i++) CHECK(fs_load_enter(load, fs_stamp()));
    for (int i = 0; i < 1000; i++) CHECK(!fs_load_leave(load));

    fs_limiter_set(&load->limiter, 1.0, 3, fs_stamp());
    load->bulkhead.limit = 1;
    CHECK(fs_load_armed(load));
    CHECK(fs_load_enter(load, fs_stamp()));
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK_EQ(fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp()), FS_BULKHEAD_FULL);
    CHECK_EQ(fs_load_admit(load, breaker, 3, false, false, fs_now(), fs_stamp()), FS_RATE_LIMITED);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 2.0);

    /* Somebody waits: nobody goes before him, and who leaves hears of it. */
    fs_load_queue(load, 1);
    CHECK(fs_load_leave(load));
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK(fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp()) != 0);
    CHECK_EQ(fs_load_admit(load, breaker, 1, false, true, fs_now(), fs_stamp()), 0);
    CHECK(fs_load_withdraw(load, 1));
    fs_load_queue(load, 0);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 2.0);
    CHECK(fs_load_enter(load, fs_stamp()));

    /* One more leaves than has entered, as in a child of a call that forked: the count stays at nothing. */
    CHECK(!fs_load_leave(load));
    CHECK(!fs_load_leave(load));
    CHECK_EQ(load->bulkhead.in_flight, 0);

    /* More than there ever are, so many that their intervals wrap around to next to nothing. */
    fs_limiter_set(&load->limiter, 0.001, 1000, fs_stamp());
    uint64_t wraps = UINT64_MAX / load->limiter.interval + 1;
    CHECK(wraps * load->limiter.interval < load->limiter.depth);
    CHECK_EQ(fs_load_admit(load, breaker, wraps, false, false, fs_now(), fs_stamp()), FS_RATE_LIMITED);
    fs_limiter_set(&load->limiter, 0.0, 1, fs_stamp());

    /* A throttle lets a share go. Whom it lets go and the bulkhead refuses does not come off it. */
    fs_throttle_set(&load->throttle, 1.0, 0.5, 1, 60 * S);
    fs_throttle_unaccepted(&load->throttle, fs_gate_generation(fs_breaker_gate(breaker)), fs_now());
    for (int i = 0; i < 100; i++) load->throttle.refused[0]++;
    load->throttle.when[0] = fs_now() / load->throttle.slice / FS_THROTTLE_SLICES * FS_THROTTLE_SLICES;
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, FS_LOOK_THROTTLING);
    load->bulkhead.limit = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t dial = load->throttle.dial, code = fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp());
        CHECK(code == FS_THROTTLED ? load->throttle.dial != dial : load->throttle.dial == dial);
    }
    /* Once it is off, nobody looks for it any more. */
    fs_throttle_set(&load->throttle, 0.0, 0.0, 0, 60 * S);
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, 0);

    CHECK_EQ(fs_load_code(fs_load_refused(FS_RATE_LIMITED, 7)), FS_RATE_LIMITED);
    CHECK_EQ(fs_load_wanted(fs_load_refused(FS_RATE_LIMITED, 7)), 7);
    CHECK_EQ(fs_load_wanted(fs_load_refused(FS_THROTTLED, 1)), 1);
    CHECK_EQ(fs_load_code(FS_NO_ROOM), 0);
    CHECK_EQ(fs_load_code(0), 0);
    fs_arena_free(&load->block);
}

static void each_of_the_three_arms_it(void) {
    fs_load *load = unlimited();
    load->bulkhead.limit = 1;
    CHECK(fs_load_armed(load));
    load->bulkhead.limit = FS_UNBOUNDED;
    fs_limiter_set(&load->limiter, 1.0, 1, fs_stamp());
    CHECK(fs_load_armed(load));
    fs_limiter_set(&load->limiter, 0.0, 0, fs_stamp());
    CHECK(!fs_load_armed(load));
    fs_throttle_set(&load->throttle, 2.0, 0.9, 10, 60 * S);
    CHECK(fs_load_armed(load));
    fs_arena_free(&load->block);
}

/* A place without a token is left again, and a token without a place given back. */
static void what_refuses_has_taken_nothing(void) {
    fs_load *load = unlimited();
    load->bulkhead.limit = 2;
    fs_limiter_set(&load->limiter, 1.0, 1, fs_stamp());
    CHECK(fs_load_enter(load, fs_stamp()));
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK_EQ(load->bulkhead.in_flight, 1);
    CHECK_EQ(admit(load, 1, false, false), FS_RATE_LIMITED);
    CHECK_EQ(load->bulkhead.in_flight, 1);
    CHECK(!fs_load_withdraw(load, 1));
    CHECK_EQ(load->bulkhead.in_flight, 0);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 1.0);
    CHECK_EQ(admit(load, 1, false, false), 0);
    CHECK_EQ(load->bulkhead.in_flight, 1);
    fs_arena_free(&load->block);
}

/* Who comes while others wait hears what they wait for. */
static void behind_others(void) {
    fs_load *load = unlimited();
    load->bulkhead.limit = 2;
    fs_load_queue(load, 3);
    CHECK_EQ(load->queued, 3);
    CHECK_EQ(admit(load, 1, false, false), FS_BULKHEAD_FULL);
    fs_limiter_set(&load->limiter, 1.0, 5, fs_stamp());
    CHECK_EQ(admit(load, 1, false, false), FS_RATE_LIMITED);
    CHECK_EQ(admit(load, 1, true, false), FS_RATE_LIMITED); /* a probe too */
    CHECK_EQ(admit(load, 1, false, true), 0);
    CHECK_EQ(admit(load, 1, false, true), 0);
    CHECK_EQ(admit(load, 1, false, true), FS_BULKHEAD_FULL);
    CHECK_EQ(admit(load, 1, false, false), FS_BULKHEAD_FULL);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 3.0);
    CHECK(fs_load_leave(load));
    fs_load_queue(load, 0);
    CHECK(!fs_load_leave(load));
    CHECK(fs_load_enter(load, fs_stamp()));
    fs_arena_free(&load->block);
}

static void how_long_and_how_many(void) {
    fs_load *load = unlimited();
    load->rate_wait = 3 * S;
    load->place_wait = 7 * S;
    CHECK_EQ(fs_load_patience(load, FS_RATE_LIMITED), 3 * S);
    CHECK_EQ(fs_load_patience(load, FS_BULKHEAD_FULL), 7 * S);
    CHECK_EQ(fs_load_patience(load, FS_THROTTLED), 0);
    load->bulkhead.limit = 9;
    fs_limiter_set(&load->limiter, 4.0, 5, fs_stamp());
    CHECK(fs_load_number(load, FS_RATE_LIMITED) == 4.0);
    CHECK(fs_load_number(load, FS_BULKHEAD_FULL) == 9.0);
    CHECK(fs_load_number(load, FS_THROTTLED) == 1.0);

    CHECK_EQ(admit(load, 5, false, false), 0);
    CHECK_EQ(fs_load_ahead(load, fs_load_refused(FS_RATE_LIMITED, 2)), 2);
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_BULKHEAD_FULL, 2), fs_now()), FS_FOREVER);
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_RATE_LIMITED, 2), fs_now()), S / 2);
    fs_load_queue(load, 2);
    CHECK_EQ(fs_load_ahead(load, fs_load_refused(FS_RATE_LIMITED, 2)), 4);
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_RATE_LIMITED, 2), fs_now()), S);
    fs_clock_fake_set(START + S / 4);
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_RATE_LIMITED, 2), START), S); /* as it was then */
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_RATE_LIMITED, 2), START + S / 4), S - S / 4);
    CHECK_EQ(fs_load_retry_after(load, fs_load_refused(FS_RATE_LIMITED, 2), START + S), S - S / 4);
    for (uint64_t code = FS_RATE_LIMITED; code <= FS_THROTTLED; code += 2) {
        CHECK_EQ(fs_load_code(fs_load_refused(code, 1)), code);
        CHECK_EQ(fs_load_code(fs_load_refused(code, 1) | 1), 0); /* granted */
    }
    CHECK_EQ(fs_load_code(FS_THROTTLED + 2), 0);
    fs_arena_free(&load->block);
}

/* The throttle asks the breaker for its window, after failures and while it lets only a share go. */
static void a_throttle_by_the_breakers_window(void) {
    fs_load *load = unlimited();
    fs_breaker_config config = plain();
    config.failure_threshold = 0;
    breaker = made(config);
    fs_series *series = adopted(breaker, 60 * S);
    fs_load_failed(load, breaker, fs_now());
    CHECK(fs_load_enter(load, fs_stamp())); /* there is none */
    fs_throttle_set(&load->throttle, 2.0, 0.9, 10, 60 * S);
    for (int i = 0; i < 100; i++) call(breaker, series, START, i >= 25, MS);
    CHECK(fs_load_enter(load, fs_stamp())); /* nobody has said so yet */
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, FS_LOOK_THROTTLING);
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK(fabs(fs_load_number(load, FS_THROTTLED) - (1.0 - 50.0 / 101.0)) < 1e-6);
    uint32_t gone = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t code = admit(load, 1, false, false);
        CHECK(code == 0 || code == FS_THROTTLED);
        gone += code == 0;
    }
    CHECK(gone > 30 && gone < 50); /* what is refused are requests too */
    for (int i = 0; i < 100; i++) CHECK_EQ(admit(load, 1, true, false), 0); /* probes are not asked */
    for (int i = 0; i < 100; i++) CHECK_EQ(admit(load, 1, false, true), 0); /* nor who has been asked and queued */
    force(breaker, FS_METRICS_ONLY, START);
    for (int i = 0; i < 100; i++) call(breaker, series, START, i >= 25, MS);
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, FS_LOOK_THROTTLING);
    force(breaker, FS_DISABLED, START); /* counts nothing: nothing to go by */
    CHECK_EQ(admit(load, 1, false, false), 0);
    CHECK_EQ(load->look, 0);
    CHECK(fs_load_enter(load, fs_stamp()));
    fs_arena_free(&load->block);
}

static fs_load *shared;
static pthread_barrier_t together;
static uint32_t over;

static void *failing(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    while (!fs_load_relaxed(&over)) fs_load_failed(shared, breaker, START);
    return NULL;
}

/* Who queues and who throttles mark one word, and neither takes the other's mark away. */
static void marks_are_kept_apart(bool throttling) {
    fs_breaker_config config = plain();
    config.failure_threshold = 0;
    breaker = made(config);
    fs_series *series = adopted(breaker, 60 * S);
    shared = unlimited();
    fs_throttle_set(&shared->throttle, 2.0, 0.9, 10, 60 * S);
    for (int i = 0; i < 100; i++) call(breaker, series, START, throttling, MS);
    fs_load_failed(shared, breaker, START);
    over = 0;
    pthread_t threads[2];
    pthread_barrier_init(&together, NULL, 3);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, failing, NULL) == 0);
    pthread_barrier_wait(&together);
    uint32_t lost = 0, rest = throttling ? FS_LOOK_THROTTLING : 0;
    for (int i = 0; i < 300000; i++) {
        fs_load_queue(shared, 1);
        lost += fs_load_relaxed(&shared->look) != (rest | FS_LOOK_QUEUED);
        fs_load_queue(shared, 0);
        lost += fs_load_relaxed(&shared->look) != rest;
    }
    CHECK_EQ(lost, 0);
    fs_store_relaxed(&over, 1);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    fs_arena_free(&shared->block);
}

static void a_full_arena_has_no_room(void) {
    fs_arena *small = small_arena(1);
    CHECK(fs_load_take(small, fs_stamp()) == NULL);
    free(small);
}

int main(void) {
    rig_setup();
    breaker = made(plain());
    the_order_of_the_three();
    each_of_the_three_arms_it();
    what_refuses_has_taken_nothing();
    behind_others();
    how_long_and_how_many();
    a_throttle_by_the_breakers_window();
    marks_are_kept_apart(true);
    marks_are_kept_apart(false);
    a_full_arena_has_no_room();
    return rig_report();
}
