/* The token bucket: bursts, rates, what comes back when, and a clock that is changed under it. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/limiter.h"

#include <pthread.h>

#include "failsoft/rng.h"

#include "check.h"

#define MS UINT64_C(1000000)

static fs_ticks at(fs_ns ns) { return (UINT64_C(1) << 62) + ns; }

static fs_limiter made(double rate, uint64_t burst) {
    fs_limiter limiter = {0};
    CHECK_EQ(fs_limiter_set(&limiter, rate, burst, at(0)), FS_OK);
    return limiter;
}

static uint64_t taken(fs_limiter *limiter, fs_ns now) {
    uint64_t count = 0;
    while (fs_limiter_take(limiter, at(now), 1)) count++;
    return count;
}

static void a_burst_and_then_the_rate(void) {
    fs_limiter limiter = made(100.0, 5);
    CHECK_EQ(taken(&limiter, 0), 5);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), 1), 10 * MS);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), 3), 30 * MS);
    CHECK_EQ(taken(&limiter, 10 * MS - 1), 0);
    CHECK_EQ(taken(&limiter, 10 * MS), 1);
    CHECK_EQ(taken(&limiter, 35 * MS), 2);
    CHECK_EQ(taken(&limiter, 40 * MS), 1); /* the half of before is not lost */
    CHECK_EQ(taken(&limiter, 100000 * MS), 5);
}

static void whole_or_not_at_all(void) {
    fs_limiter limiter = made(100.0, 5);
    CHECK(fs_limiter_take(&limiter, at(0), 3));
    CHECK(!fs_limiter_take(&limiter, at(0), 3));
    CHECK(fs_limiter_tokens(&limiter, at(0)) == 2.0);
    CHECK(!fs_limiter_take(&limiter, at(1000000 * MS), 6));
    fs_limiter_give_back(&limiter, 3);
    CHECK_EQ(taken(&limiter, 0), 5);
}

/* Who comes back when he was told finds his tokens, whatever the rate. */
static void when_is_when(void) {
    fs_rng rng;
    fs_rng_seed(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        uint64_t burst = 1 + fs_rng_next(&rng) % 50, n = 1 + fs_rng_next(&rng) % burst;
        fs_limiter limiter = made(1e-3 + (double)(fs_rng_next(&rng) % 1000000) / 7.0, burst);
        fs_ns now = fs_rng_next(&rng) % (1000 * MS);
        taken(&limiter, now);
        fs_ns wait = fs_limiter_when(&limiter, at(now), n);
        CHECK(wait > 0);
        CHECK(fs_limiter_take(&limiter, at(now + wait), n));
    }
}

/* The same where ticks are no nanoseconds: each conversion may be short by one, and the wait is none too short for that, nor
 * longer than a tick and what rounding adds. */
static void when_is_when_by_any_clock(void) {
    static const double rates[] = {0.024, 0.1, 0.3, 1.0 / 3, 0.999, 1.001, 2.4, 2.995, 3.7};
    fs_clock_state before = fs_clock;
    fs_rng rng;
    fs_rng_seed(&rng, 11);
    for (int i = 0; i < 9; i++) {
        fs_clock.ticks_per_ns = (uint64_t)(rates[i] * 4294967296.0);
        fs_clock.ns_per_tick = (uint64_t)(4294967296.0 / rates[i]);
        for (int round = 0; round < 2000; round++) {
            fs_limiter limiter = {0};
            fs_ticks now = (UINT64_C(1) << 40) + fs_rng_next(&rng) % 1000000;
            uint64_t burst = 1 + fs_rng_next(&rng) % 50, n = 1 + fs_rng_next(&rng) % burst;
            CHECK_EQ(fs_limiter_set(&limiter, 0.1 + (double)(fs_rng_next(&rng) % 1000000) / 7.0, burst, now), FS_OK);
            while (fs_limiter_take(&limiter, now, 1)) {}
            fs_ns wait = fs_limiter_when(&limiter, now, n);
            CHECK(fs_limiter_take(&limiter, now + fs_ns_to_ticks(wait), n));
        }
    }
    fs_clock = before;
}

/* Waits longer than any clock runs are for ever. */
static void beyond_all_clocks(void) {
    fs_limiter limiter = made(1e9, 1); /* a token is a nanosecond */
    CHECK(fs_limiter_when(&limiter, at(0), UINT64_C(1) << 53) < FS_FOREVER);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), UINT64_C(1) << 54), FS_FOREVER);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), UINT64_C(1) << 55), FS_FOREVER);
}

static void another_clock_locks_nobody_out(void) {
    fs_limiter limiter = made(1.0, 2);
    CHECK_EQ(taken(&limiter, 3600000 * MS), 2);
    CHECK(!fs_limiter_take(&limiter, 1000, 1)); /* far before: as after a suspend, or a test's clock */
    CHECK(fs_limiter_take_slow(&limiter, 1000, 1));
    CHECK(fs_limiter_take_slow(&limiter, 1000, 1));
    CHECK(!fs_limiter_take_slow(&limiter, 1000, 1));
}

/* A unit is the least there is: a bucket one short of full is not full, and from then on it is. */
static void ahead_by_a_unit(void) {
    static const uint64_t nows[] = {0, 1, 1000, UINT64_C(1) << 63, UINT64_MAX};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(fs_limiter_ahead(nows[i] + 2, nows[i]), 2);
        CHECK_EQ(fs_limiter_ahead(nows[i] + 1, nows[i]), 1);
        CHECK_EQ(fs_limiter_ahead(nows[i], nows[i]), 0);
        CHECK_EQ(fs_limiter_ahead(nows[i] - 1, nows[i]), 0);
        CHECK_EQ(fs_limiter_ahead(nows[i] + INT64_MAX, nows[i]), INT64_MAX);
        CHECK_EQ(fs_limiter_ahead(nows[i] + INT64_MAX + 1, nows[i]), 0);
    }
}

static void stamps_wrap_around(void) {
    fs_limiter limiter = {0};
    fs_ticks last = UINT64_MAX >> FS_LIMITER_UNIT;
    CHECK_EQ(fs_limiter_set(&limiter, 1e6, 3, last - 1000), FS_OK);
    for (int i = 0; i < 3; i++) CHECK(fs_limiter_take(&limiter, last - 500, 1));
    CHECK(!fs_limiter_take(&limiter, last, 1));
    CHECK(fs_limiter_take(&limiter, last + 501, 1));
}

static void other_limits(void) {
    fs_limiter limiter = made(10.0, 10);
    CHECK(fs_limiter_take(&limiter, at(0), 10));
    CHECK_EQ(fs_limiter_set(&limiter, 1000.0, 4, at(0)), FS_OK);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), 1), MS); /* no deeper than empty */
    CHECK_EQ(fs_limiter_set(&limiter, 0.0, 0, at(0)), FS_OK);
    for (int i = 0; i < 1000; i++) CHECK(fs_limiter_take(&limiter, at(0), 1000000));
    CHECK_EQ(fs_limiter_when(&limiter, at(0), 1), 0);
    static const struct { double rate; uint64_t burst; } wrong[] = {{-1.0, 1}, {NAN, 1}, {1.0, 0}, {1e-3, 1001}, {2e9, 1}};
    for (int i = 0; i < 5; i++) CHECK_EQ(fs_limiter_set(&limiter, wrong[i].rate, wrong[i].burst, at(0)), FS_INVALID);
}

/* The fastest, slowest and deepest there may be, and what lies behind them. */
static void bounds(void) {
    fs_limiter limiter = {0};
    CHECK_EQ(fs_limiter_set(&limiter, 1e9, 1, at(0)), FS_OK);
    CHECK_EQ(fs_limiter_set(&limiter, 1.0, 1000000, at(0)), FS_OK);
    CHECK_EQ(fs_limiter_set(&limiter, 1.0, 1000001, at(0)), FS_INVALID);
    CHECK(limiter.rate == 1.0 && limiter.burst == 1000000); /* as it was */
    CHECK(fs_limiter_take(&limiter, at(0), 1000000));
    CHECK(fs_limiter_tokens(&limiter, at(0)) == 0.0);
    CHECK_EQ(fs_limiter_when(&limiter, at(0), UINT64_MAX), FS_FOREVER);
    fs_limiter none = {0};
    CHECK_EQ(fs_limiter_set(&none, 0.0, 0, at(0)), FS_OK);
    CHECK(none.rate == 0.0 && none.burst == UINT64_MAX && fs_limiter_tokens(&none, at(0)) == 0.0);
    CHECK_EQ(none.full, fs_limiter_time(at(0)));
    fs_limiter_refresh(&none, at(5));
    CHECK_EQ(none.full, fs_limiter_time(at(0)));
    CHECK(fs_limiter_take_slow(&none, at(5), 1000));
}

/* By another clock it is full, and no more than full: in what it tells too. */
static void another_clock_is_told_the_same(void) {
    fs_limiter limiter = made(1.0, 4);
    CHECK(fs_limiter_take(&limiter, at(3600000 * MS), 4));
    CHECK(fs_limiter_tokens(&limiter, at(3600000 * MS)) == 0.0);
    CHECK(fs_limiter_tokens(&limiter, 1000) == 4.0);
    CHECK_EQ(fs_limiter_when(&limiter, 1000, 4), 0);
    CHECK_EQ(fs_limiter_when(&limiter, 1000, 5), 1000 * MS);
    CHECK_EQ(fs_limiter_set(&limiter, 1.0, 4, 1000), FS_OK);
    CHECK(fs_limiter_tokens(&limiter, 1000) == 4.0);
}

/* What has been taken stays taken, as many tokens as before, whatever a token is worth now. */
static void tokens_are_kept(void) {
    fs_limiter limiter = made(10.0, 10);
    CHECK(fs_limiter_take(&limiter, at(0), 4));
    CHECK_EQ(fs_limiter_set(&limiter, 1000.0, 10, at(0)), FS_OK);
    CHECK(fabs(fs_limiter_tokens(&limiter, at(0)) - 6.0) < 1e-6);
    fs_limiter_refresh(&limiter, at(0));
    CHECK(fabs(fs_limiter_tokens(&limiter, at(0)) - 6.0) < 1e-6);
    limiter.scale = 0; /* made before the clock had a rate */
    fs_limiter_refresh(&limiter, at(0));
    CHECK(limiter.scale != 0);
    CHECK(fs_limiter_tokens(&limiter, at(0)) == 10.0);
}

#if FS_MANY_WRITERS
#define THREADS 4

static fs_limiter shared;
static pthread_barrier_t together;

static void *taking_all(void *count) {
    pthread_barrier_wait(&together);
    *(uint64_t *)count = taken(&shared, 0);
    return NULL;
}

static void *taking_and_giving(void *count) {
    (void)count;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 1000000; i++)
        if (fs_limiter_take(&shared, at(0), 1)) fs_limiter_give_back(&shared, 1);
    return NULL;
}

static uint64_t by_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    uint64_t counts[THREADS] = {0}, all = 0;
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, body, &counts[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all += counts[i];
    }
    pthread_barrier_destroy(&together);
    return all;
}

/* No two take the same token, and none that was given back is lost. */
static void threads_share_one_bucket(void) {
    shared = made(1.0, 1000000);
    CHECK_EQ(by_threads(taking_all), 1000000);
    CHECK(fs_limiter_tokens(&shared, at(0)) == 0.0);
    shared = made(1.0, 1000000);
    by_threads(taking_and_giving);
    CHECK(fs_limiter_tokens(&shared, at(0)) == 1000000.0);
}
#endif

int main(void) {
#if FS_MANY_WRITERS
    threads_share_one_bucket();
#endif
    bounds();
    another_clock_is_told_the_same();
    tokens_are_kept();
    a_burst_and_then_the_rate();
    whole_or_not_at_all();
    when_is_when();
    when_is_when_by_any_clock();
    beyond_all_clocks();
    another_clock_locks_nobody_out();
    ahead_by_a_unit();
    stamps_wrap_around();
    other_limits();
    return check_report();
}
