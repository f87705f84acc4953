/* The dial: exactly its share of the calls goes, in any stretch of them, whatever the share does and whoever asks. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/degraded.h"

#include <pthread.h>

#include "failsoft/rng.h"

#include "check.h"

#define RUN 200000
#define STRETCH 1000

__extension__ typedef unsigned __int128 wide;

static uint64_t times(uint64_t share, uint64_t calls) { return (uint64_t)((wide)share * calls >> 32); }

/* Of any `length` calls in a row floor(length * share) go, or one more. */
static void check_stretches(uint64_t dial, uint64_t share, uint32_t length) {
    static uint32_t gone[RUN + 1]; /* before each call */
    for (uint32_t call = 0; call < RUN; call++) gone[call + 1] = gone[call] + fs_dial_admits(&dial, share);
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t call = length; call <= RUN; call++) {
        uint32_t went = gone[call] - gone[call - length];
        least = went < least ? went : least;
        most = went > most ? went : most;
    }
    CHECK(least >= times(share, length));
    CHECK(most <= times(share, length) + 1);
    CHECK(gone[RUN] >= times(share, RUN) && gone[RUN] <= times(share, RUN) + 1);
}

static void any_stretch_lets_its_share_go(void) {
    static const double capacities[] = {
        0.75, 0.5, 0.25, 0.1, 0.9, 0.99, 0.999, 1.0 / 3, 2.0 / 3, 0.37, 0.01, 0.001, 1e-6, 1e-9, 1 - 1e-9, 1e-12,
    };
    static const uint32_t lengths[] = {1, 2, 3, 4, 7, 10, 100, STRETCH, 12345};
    for (int c = 0; c < 16; c++)
        for (int l = 0; l < 9; l++) check_stretches(FS_DIAL_START, fs_share_of(capacities[c]), lengths[l]);
    fs_rng rng;
    fs_rng_seed(&rng, 1);
    for (int i = 0; i < 30; i++) {
        uint64_t share = fs_rng_next(&rng) >> 32;
        check_stretches(fs_rng_next(&rng), share, STRETCH);
    }
}

/* As the requirement words it. */
static void a_thousand_calls_are_exact(void) {
    static const struct { double capacity; uint32_t go; } wanted[] = {{0.75, 750}, {0.5, 500}, {0.25, 250}, {0.1, 100}};
    for (int w = 0; w < 4; w++) {
        static bool went[RUN];
        uint64_t dial = FS_DIAL_START, share = fs_share_of(wanted[w].capacity);
        uint32_t here = 0;
        for (uint32_t call = 0; call < RUN; call++) {
            here += went[call] = fs_dial_admits(&dial, share);
            if (call >= STRETCH) here -= went[call - STRETCH];
            if (call >= STRETCH - 1) CHECK(here + 1 >= wanted[w].go && here <= wanted[w].go + 1);
        }
    }
}

static void three_quarters_is_three_and_a_pause(void) {
    static const bool wanted[] = {true, true, true, false, true, true, true, false};
    uint64_t dial = FS_DIAL_START;
    /* 0.99.. + 3/4: the fraction that is missing from the start makes the fourth wait, every time. */
    for (int call = 0; call < 8; call++) CHECK_EQ(fs_dial_admits(&dial, fs_share_of(0.75)), wanted[call]);
}

static void shares_at_the_ends(void) {
    CHECK_EQ(fs_share_of(0.0), 0);
    CHECK_EQ(fs_share_of(-1.0), 0);
    CHECK_EQ(fs_share_of((double)NAN), 0);
    CHECK_EQ(fs_share_of(1.0), FS_ALL);
    CHECK_EQ(fs_share_of((double)INFINITY), FS_ALL);
    CHECK_EQ(fs_share_of(0.5), FS_ALL / 2);
    CHECK_EQ(fs_share_of(nextafter(1.0, 0.0)), FS_ALL - 1);
    CHECK_EQ(fs_share_of(5e-324), 1); /* above nothing there is always something */
    CHECK(fs_capacity_of(FS_ALL) == 1.0 && fs_capacity_of(0) == 0.0 && fs_capacity_of(FS_ALL / 4) == 0.25);

    uint64_t dial = FS_DIAL_START;
    for (int call = 0; call < 1000; call++) CHECK(!fs_dial_admits(&dial, 0));
    CHECK_EQ(dial, FS_DIAL_START);
    CHECK(fs_dial_admits(&dial, 1)); /* the first call goes, and the next in four billion */
    for (int call = 0; call < 1000; call++) CHECK(!fs_dial_admits(&dial, 1));
    dial = FS_DIAL_START;
    for (int call = 0; call < 1000; call++) CHECK(fs_dial_admits(&dial, FS_ALL - 1));
}

static void the_sum_wraps_without_a_seam(void) {
    static const double capacities[] = {0.75, 0.5, 0.1, 1e-4, 0.9999};
    for (int c = 0; c < 5; c++) {
        uint64_t share = fs_share_of(capacities[c]);
        uint64_t start = FS_DIAL_START - share * (RUN / 2); /* the wrap lies in the middle of the run */
        CHECK(start > UINT64_MAX / 2);
        check_stretches(start, share, STRETCH);
        uint64_t plain = FS_DIAL_START, dial = plain - (UINT64_C(500) << 32); /* the same fraction, 500 before the wrap */
        for (int call = 0; call < 10000; call++) CHECK_EQ(fs_dial_admits(&dial, share), fs_dial_admits(&plain, share));
    }
}

/* A ramp changes the share from call to call: what has gone is always the whole part of the sum of the shares. */
static void shares_may_change_from_call_to_call(void) {
    fs_rng rng;
    fs_rng_seed(&rng, 7);
    uint64_t dial = FS_DIAL_START, gone = 0;
    wide sum = FS_DIAL_START;
    for (uint32_t call = 0; call < RUN; call++) {
        uint64_t share = call % 3 ? (uint64_t)call * FS_ALL / RUN : fs_rng_next(&rng) >> 32;
        gone += fs_dial_admits(&dial, share);
        sum += share;
        if (!CHECK_EQ(gone, (uint64_t)(sum >> 32))) return;
    }
    for (uint32_t call = 0; call < 100; call++) CHECK(!fs_dial_admits(&dial, 0)); /* nothing in between loses nothing */
    for (uint32_t call = 0; call < 100; call++) {
        gone += fs_dial_admits(&dial, FS_ALL / 2);
        sum += FS_ALL / 2;
        CHECK_EQ(gone, (uint64_t)(sum >> 32));
    }
}

#define THREADS 8
#define CALLS 200000

static pthread_barrier_t together;
static uint64_t shared_dial, shared_share;

static void *asking(void *gone) {
    uint64_t mine = 0, share = shared_share;
    pthread_barrier_wait(&together);
    for (uint32_t call = 0; call < CALLS; call++) mine += fs_dial_admits(&shared_dial, share);
    *(uint64_t *)gone = mine;
    return NULL;
}

/* With a load and a store in place of the addition, calls of threads that meet share one addition, and too few go. */
static void threads_share_one_exact_count(double capacity) {
    pthread_t threads[THREADS];
    uint64_t gone[THREADS], total = 0;
    shared_dial = FS_DIAL_START;
    shared_share = fs_share_of(capacity);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, asking, &gone[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        total += gone[i];
    }
    pthread_barrier_destroy(&together);
    uint64_t wanted = times(shared_share, (uint64_t)THREADS * CALLS);
    CHECK(total == wanted || total == wanted + 1);
}

static void *asking_in_vain(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 1000000; i++) {
        fs_dial_admits(&shared_dial, FS_ALL / 4);
        fs_dial_take_back(&shared_dial, FS_ALL / 4);
    }
    return NULL;
}

/* What threads take back leaves the dial where it was. */
static void threads_take_back_all(void) {
    pthread_t threads[THREADS];
    shared_dial = FS_DIAL_START;
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, asking_in_vain, NULL) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    CHECK_EQ(shared_dial, FS_DIAL_START);
}

int main(void) {
    threads_take_back_all();
    shares_at_the_ends();
    three_quarters_is_three_and_a_pause();
    a_thousand_calls_are_exact();
    any_stretch_lets_its_share_go();
    the_sum_wraps_without_a_seam();
    shares_may_change_from_call_to_call();
    static const double capacities[] = {0.75, 0.5, 0.25, 0.1};
    for (int i = 0; i < 4; i++) threads_share_one_exact_count(capacities[i]);
    return check_report();
}
