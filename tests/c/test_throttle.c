/* The throttle: the share it computes, what it counts itself, and what it forgets. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/throttle.h"

#include <pthread.h>

#include "check.h"

#define S FS_NS_PER_SECOND

static double refused(uint64_t share) { return 1.0 - (double)share / (double)FS_ALL; }

static bool near(double is, double wanted) { return fabs(is - wanted) < 1e-9; }

static void by_the_formula(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 2.0, 0.9, 10, 60 * S);
    CHECK_EQ(fs_throttle_update(&throttle, 1, 9, 9, S), FS_ALL); /* too few */
    CHECK_EQ(fs_throttle_update(&throttle, 1, 100, 50, S), FS_ALL);
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 100, 75, S)), 50.0 / 101.0));
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 100, 100, S)), 0.9)); /* capped */
    fs_throttle_set(&throttle, 0.0, 0.0, 0, 60 * S);
    CHECK_EQ(fs_throttle_update(&throttle, 1, 100, 100, S), FS_ALL);
    CHECK(fs_throttle_admits(&throttle, S));
}

static void what_it_refuses_are_requests_too(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 2.0, 0.9, 10, 60 * S);
    fs_throttle_update(&throttle, 1, 100, 100, S);
    uint32_t gone = 0;
    for (int i = 0; i < 1000; i++) gone += fs_throttle_admits(&throttle, S);
    CHECK_EQ(gone, 100);
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 400, 0, S)), 500.0 / 1301.0));
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 400, 0, 55 * S)), 500.0 / 1301.0));
    CHECK_EQ(fs_throttle_update(&throttle, 1, 400, 0, 61 * S), FS_ALL);
}

static void another_generation_begins_anew(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 1.0, 0.9, 1, 60 * S);
    for (int i = 0; i < 50; i++) fs_throttle_unaccepted(&throttle, 1, S);
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 100, 0, S)), 50.0 / 101.0));
    CHECK_EQ(fs_throttle_update(&throttle, 2, 100, 0, S), FS_ALL);
}

/* Each bound is on the side that is told: the minimum suffices, and the last slice of the window still counts. */
static void bounds(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 2.0, 0.9, 10, 60 * S);
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 10, 10, S)), 0.9));
    CHECK_EQ(throttle.share, fs_throttle_update(&throttle, 1, 10, 10, S));
    CHECK_EQ(throttle.slice, 10 * S);
    fs_throttle_set(&throttle, 0.0, 0.0, 0, 60 * S);
    CHECK_EQ(throttle.share, FS_ALL);
    fs_throttle_unaccepted(&throttle, 1, S); /* there is none */
    fs_throttle_set(&throttle, 2.0, 0.9, 10, FS_THROTTLE_SLICES - 1);
    CHECK_EQ(throttle.slice, 1);
    for (int i = 0; i < FS_THROTTLE_SLICES; i++) CHECK_EQ(throttle.unaccepted[i], 0);

    fs_throttle one = {0};
    fs_throttle_set(&one, 1.0, 0.9, 1, 60 * S);
    for (int i = 0; i < 50; i++) fs_throttle_unaccepted(&one, 1, 5 * S);
    CHECK(near(refused(fs_throttle_update(&one, 1, 100, 0, 60 * S - 1)), 50.0 / 101.0));
    CHECK_EQ(fs_throttle_update(&one, 1, 100, 0, 60 * S), FS_ALL);
    fs_throttle_unaccepted(&one, 1, 65 * S); /* in the same place: those of before are not among them */
    CHECK(near(refused(fs_throttle_update(&one, 1, 100, 0, 65 * S)), 1.0 / 101.0));
    CHECK_EQ(fs_throttle_update(&one, 1, 0, 1, 1000 * S), FS_ALL); /* fewer than none accepted is none */
}

/* A place that is used again begins with none refused, too. */
static void a_place_is_emptied_of_refusals(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 2.0, 0.9, 10, 60 * S);
    fs_throttle_update(&throttle, 1, 100, 100, 5 * S);
    for (int i = 0; i < 100; i++) fs_throttle_admits(&throttle, 5 * S);
    CHECK_EQ(throttle.refused[0], 90);
    while (fs_throttle_admits(&throttle, 65 * S)) {}
    CHECK_EQ(throttle.refused[0], 1);
}

#define THREADS 4
#define ROUNDS 100000

static fs_throttle shared;
static pthread_barrier_t together;

static void *counting(void *refusals) {
    uint64_t count = 0;
    pthread_barrier_wait(&together);
    for (int i = 0; i < ROUNDS; i++) {
        fs_throttle_unaccepted(&shared, 1, S);
        count += !fs_throttle_admits(&shared, S);
    }
    *(uint64_t *)refusals = count;
    return NULL;
}

/* With a load and a store in place of either addition, some are lost. */
static void threads_count_all(void) {
    pthread_t threads[THREADS];
    uint64_t counts[THREADS], all = 0;
    fs_throttle_set(&shared, 2.0, 0.9, 10, 60 * S);
    fs_throttle_update(&shared, 1, 100, 100, S);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, counting, &counts[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all += counts[i];
    }
    pthread_barrier_destroy(&together);
    CHECK_EQ(all, THREADS * ROUNDS / 10 * 9);
    CHECK_EQ(shared.refused[0], all);
    CHECK_EQ(shared.unaccepted[0], THREADS * ROUNDS);
}

/* Setting it again, with a window of the same length, keeps what was counted and the turn of the dial. */
static void set_again(void) {
    fs_throttle throttle = {0};
    fs_throttle_set(&throttle, 2.0, 0.5, 1, 60 * S);
    fs_throttle_update(&throttle, 1, 100, 100, S);
    while (fs_throttle_admits(&throttle, S)) {}
    uint64_t dial = throttle.dial;
    fs_throttle_set(&throttle, 1.0, 0.5, 1, 60 * S);
    CHECK_EQ(throttle.dial, dial);
    CHECK(near(refused(fs_throttle_update(&throttle, 1, 100, 0, S)), 1.0 / 102.0));
}

int main(void) {
    bounds();
    set_again();
    a_place_is_emptied_of_refusals();
    threads_count_all();
    by_the_formula();
    what_it_refuses_are_requests_too();
    another_generation_begins_anew();
    return check_report();
}
