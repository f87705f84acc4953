/* Several threads on one counter: nothing is lost, and readers see what was there. For builds without the GIL alone. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "histogram_rig.h"

#include <pthread.h>
#include <string.h>

#define THREADS 4
#define RECORDS 40000
#define READS 100000
#define BATCHES 100

static fs_series *shared;
static bool spread; /* each thread on a stripe of its own, or all on one */
static fs_ns moved;  /* how far the writers have moved the clock */

static uint64_t value_of(int thread, uint32_t i) { return (UINT64_C(50) << i % 12) + (uint64_t)thread; }

static void *recording(void *argument) {
    int thread = *(int *)argument;
    for (uint32_t i = 0; i < RECORDS; i++) {
        fs_histogram *histogram = fs_series_stripe(shared, spread ? (uint32_t)thread : 0);
        fs_histogram_record(histogram, value_of(thread, i), fs_stamp());
        fs_histogram_outcome(histogram, i % 2, i % 4 == 0);
        if (i % 100 == 0) at(START + fs_add_relaxed(&moved, SLICE / 20));
    }
    return NULL;
}

/* Nothing is lost however often the slices turn under the writers. */
static void threads_lose_nothing(bool on_own_stripes) {
    static uint64_t wanted[ALL_CELLS], cells[ALL_CELLS];
    memset(wanted, 0, sizeof wanted);
    shared = fresh_series();
    spread = on_own_stripes;
    moved = 0;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    uint64_t sum = 0;
    for (int t = 0; t < THREADS; t++) {
        numbers[t] = t;
        CHECK(pthread_create(&threads[t], NULL, recording, &numbers[t]) == 0);
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        for (uint32_t i = 0; i < RECORDS; i++) {
            wanted[fs_histogram_index(value_of(t, i))]++;
            sum += value_of(t, i);
        }
    }
    const uint64_t all = (uint64_t)THREADS * RECORDS;
    CHECK(moved > 2 * WINDOW);
    fs_totals totals = ever(shared);
    CHECK_EQ(totals.calls, all);
    CHECK_EQ(totals.sum, sum);
    CHECK_EQ(totals.failures, all / 2);
    CHECK_EQ(totals.slow, all / 4);
    CHECK_EQ(fs_series_cells(shared, FS_EVER, cells), all);
    CHECK(memcmp(cells, wanted, sizeof cells) == 0);
    CHECK_EQ(count(shared, FS_EVER), all);
    uint64_t low, high;
    fs_series_extremes(shared, &low, &high);
    CHECK_EQ(low, value_of(0, 0));
    CHECK_EQ(high, value_of(THREADS - 1, 11));
    at(START + moved + 2 * WINDOW);
    CHECK_EQ(count(shared, FS_RECENT), 0);
    CHECK_EQ(fs_series_cells(shared, FS_RECENT, cells), 0);
    fs_series_free(shared);
}

static pthread_barrier_t together;
static uint64_t reached;

/* Extremes only ever move outwards: right after a value has been counted in, they enclose it. */
static void *reaching_out(void *argument) {
    (void)argument;
    fs_histogram *histogram = fs_series_stripe(shared, 0);
    pthread_barrier_wait(&together);
    for (int i = 0; i < 500000; i++) {
        uint64_t far = fs_add_relaxed(&reached, 1) + 1; /* each is further out than all before */
        fs_histogram_new_extreme(histogram, FS_VALUE_MOST / 2 - far);
        CHECK(fs_load_relaxed(&histogram->low) <= FS_VALUE_MOST / 2 - far);
        fs_histogram_new_extreme(histogram, FS_VALUE_MOST / 2 + far);
        CHECK(fs_load_relaxed(&histogram->high) >= FS_VALUE_MOST / 2 + far);
    }
    return NULL;
}

static void threads_lose_no_extreme(void) {
    shared = fresh_series();
    fs_series_stripe(shared, 0);
    pthread_t threads[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int t = 0; t < THREADS; t++) CHECK(pthread_create(&threads[t], NULL, reaching_out, NULL) == 0);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    pthread_barrier_destroy(&together);
    CHECK_EQ(fs_series_stripe(shared, 0)->low, FS_VALUE_MOST / 2 - THREADS * 500000);
    CHECK_EQ(fs_series_stripe(shared, 0)->high, FS_VALUE_MOST / 2 + THREADS * 500000);
    fs_series_free(shared);
}

static bool stop;
static uint64_t recorded;

static void *turning(void *unused) {
    (void)unused;
    fs_ns now = START;
    while (!fs_load_relaxed(&stop)) {
        for (int i = 0; i < 100; i++) record(shared, 100);
        fs_store_release(&recorded, recorded + 100);
        at(now += SLICE);
        fs_histogram_turn(fs_series_stripe(shared, 0), now, fs_stamp());
    }
    return NULL;
}

/* "A read while others write is exact for what had been recorded when it began." A reader may give up where the turning
 * thread has lost its processor half-way: those reads, and the odd one that met turn after turn, do not count. */
static void readers_see_all_while_slices_turn(void) {
    shared = fresh_series();
    recorded = 0;
    fs_store_relaxed(&stop, false);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, turning, NULL) == 0);
    const uint32_t *turn = &fs_series_stripe(shared, 0)->slices.turn;
    uint64_t missed_cells = 0, missed_calls = 0;
    for (int i = 0; i < READS; i++) {
        bool cells = i % 2;
        uint64_t least = fs_load_acquire(&recorded);
        uint32_t before = fs_load_acquire(turn);
        uint64_t seen = cells ? count(shared, FS_EVER) : ever(shared).calls;
        bool stuck = before & 1 && fs_load_acquire(turn) == before;
        if (seen < least && !stuck) ++*(cells ? &missed_cells : &missed_calls);
    }
    fs_store_relaxed(&stop, true);
    pthread_join(thread, NULL);
    CHECK(missed_cells <= READS / 1000);
    CHECK(missed_calls <= READS / 1000);
    fs_series_free(shared);
}

static void *recording_many(void *unused) {
    (void)unused;
    static int64_t values[20000];
    for (int i = 0; i < 20000; i++) values[i] = 1000 + i;
    for (int i = 0; i < BATCHES; i++) fs_histogram_record_many(fs_series_stripe(shared, 0), values, 20000, fs_stamp());
    fs_store_relaxed(&stop, true);
    return NULL;
}

/* Whatever a reader meets half-way, an answer lies where values do. */
static void readers_see_values_while_many_come(void) {
    for (int round = 0; round < 20; round++) {
        shared = fresh_series();
        fs_store_relaxed(&stop, false);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, recording_many, NULL) == 0);
        while (!fs_load_relaxed(&stop)) {
            double q = 0.5;
            uint64_t answer = 0;
            if (fs_series_quantiles(shared, FS_EVER, &q, 1, &answer) == 0) continue;
            CHECK(answer >= 1000 && answer <= 21000);
        }
        pthread_join(thread, NULL);
        fs_series_free(shared);
    }
}

int main(void) {
    rig_setup();
    threads_lose_no_extreme();
    threads_lose_nothing(false);
    threads_lose_nothing(true);
    readers_see_all_while_slices_turn();
    readers_see_values_while_many_come();
    return rig_report();
}
