/* What pays in, what is forgotten, and that no two threads take the same retry. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/budget.h"

#include <pthread.h>

#include "check.h"
#include "small_arena.h"

#define SECOND FS_NS_PER_SECOND
#define START (1000 * SECOND)

static fs_arena *arena;

static fs_budget *made(double share, double floor, double window) {
    fs_budget_config config = {share, floor, (fs_ns)(window * 1e9)};
    return fs_budget_take(arena, &config, START);
}

static uint32_t taken(fs_budget *budget, fs_payer *payer, fs_ns now) {
    uint32_t count = 0;
    while (count < 1000000 && fs_budget_retry(budget, payer, now)) count++;
    return count;
}

static fs_budget_status read_at(fs_budget *budget, fs_ns now) {
    fs_budget_status status;
    fs_budget_read(budget, now, &status);
    return status;
}

static void a_young_budget_holds_the_floor(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.2, 10.0, 10.0);
    CHECK_EQ(taken(budget, &payer, START), 100);
    fs_budget_status status = read_at(budget, START);
    CHECK(status.balance == 0.0 && status.full == 100.0);
    CHECK(status.retries == 100 && status.hedges == 0 && status.refused == 1);
    CHECK_EQ(taken(budget, &payer, START + SECOND), 9); /* 10, of which a part is forgotten */
    fs_budget_free(budget);
}

static void calls_pay_their_share(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.2, 0.0, 10.0);
    CHECK_EQ(taken(budget, &payer, START), 0);
    fs_budget_pay(budget, &payer, 1000, START);
    CHECK_EQ(taken(budget, &payer, START), 200);
    fs_budget_pay(budget, &payer, 1200, START); /* the retries have been made: they pay nothing */
    CHECK_EQ(taken(budget, &payer, START), 0);
    fs_budget_pay(budget, &payer, 1200 + 5, START);
    CHECK_EQ(taken(budget, &payer, START), 1);
    fs_budget_free(budget);
}

static void it_fills_to_what_a_window_brings(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.2, 10.0, 10.0);
    fs_budget_pay(budget, &payer, 100 * 3600, START + 3600 * SECOND); /* an hour of 100 calls a second */
    CHECK(fabs(read_at(budget, START + 3600 * SECOND).balance - (20.0 + 10.0) * 10.0) < 1e-6);
    for (uint64_t s = 3601; s < 3700; s++) fs_budget_pay(budget, &payer, 100 * s, START + s * SECOND);
    CHECK(fabs(read_at(budget, START + 3699 * SECOND).balance - 300.0) < 1e-6); /* however often it is read */
    double quiet = read_at(budget, START + 3709 * SECOND).balance;
    CHECK(fabs(quiet - (100.0 + 200.0 / exp(1.0))) < 1e-6); /* a window without calls */
    CHECK(fabs(read_at(budget, START + 100000 * SECOND).balance - 100.0) < 1e-6);
    fs_budget_free(budget);
}

static void what_was_taken_is_owed_for_a_window(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.2, 10.0, 10.0);
    for (int i = 0; i < 40; i++) CHECK(fs_budget_retry(budget, &payer, START));
    for (int i = 0; i < 10; i++) CHECK(fs_budget_hedge(budget, START));
    fs_budget_status status = read_at(budget, START + 10 * SECOND);
    CHECK(fabs(status.full - 100.0) < 1e-6 && fabs(status.balance - (100.0 - 50.0 / exp(1.0))) < 1e-6);
    CHECK(status.retries == 40 && status.hedges == 10);
    fs_budget_free(budget);
}

static void settings_change_under_it(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.0, 0.0, 10.0);
    CHECK_EQ(taken(budget, &payer, START), 0);
    fs_budget_config config = {0.5, 2.0, 5 * SECOND};
    fs_budget_configure(budget, &config, START);
    fs_budget_pay(budget, &payer, 10, START);
    CHECK_EQ(taken(budget, &payer, START), 5);
    CHECK(fabs(read_at(budget, START + 1000 * SECOND).balance - 10.0) < 1e-6);
    fs_budget_free(budget);
}

static void an_empty_budget_has_no_hedge(void) {
    fs_budget *budget = made(0.2, 0.1, 10.0);
    CHECK(fs_budget_hedge(budget, START));
    CHECK(!fs_budget_hedge(budget, START));
    fs_budget_status status = read_at(budget, START);
    CHECK(status.retries == 0 && status.hedges == 1 && status.refused == 1);
    fs_budget_free(budget);
}

static void time_that_goes_back_is_none(void) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    fs_budget *budget = made(0.2, 10.0, 10.0);
    fs_budget_pay(budget, &payer, 100, START - SECOND);
    CHECK(read_at(budget, START - SECOND).balance == 100.0);
    fs_budget_pay(budget, &payer, 100, START);
    CHECK(read_at(budget, START).balance == 120.0);
    fs_budget_free(budget);
}

static void a_full_arena_has_no_room(void) {
    fs_arena *small = small_arena(1);
    fs_budget_config config = {0.2, 10.0, 10 * SECOND};
    CHECK(fs_budget_take(small, &config, START) == NULL);
    free(small);
}

#define THREADS 8

static pthread_barrier_t together;
static fs_budget *shared;

static void *taking(void *count) {
    fs_payer payer;
    fs_payer_begin(&payer, START);
    pthread_barrier_wait(&together);
    *(uint64_t *)count = taken(shared, &payer, START);
    return NULL;
}

/* With a load and a store in place of the swap, threads take the same retry, and more are granted than there were. */
static void threads_share_one_balance(void) {
    pthread_t threads[THREADS];
    uint64_t counts[THREADS], all = 0;
    shared = made(0.0, 20000.0, 10.0);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, taking, &counts[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all += counts[i];
    }
    pthread_barrier_destroy(&together);
    CHECK_EQ(all, 200000);
    CHECK_EQ(read_at(shared, START).retries, 200000);
    fs_budget_free(shared);
}

static fs_payer both;

static void *paying(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    for (uint64_t calls = 1; calls <= 100000; calls++) fs_budget_pay(shared, &both, calls, START);
    return NULL;
}

/* The differences that threads see of one traffic add up to it, in whatever order they come. */
static void threads_read_one_traffic(void) {
    pthread_t threads[THREADS];
    shared = made(0.25, 0.0, 10.0);
    fs_payer_begin(&both, START);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, paying, NULL) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    fs_budget_pay(shared, &both, 100000, START);
    CHECK(read_at(shared, START).balance == 25000.0);
    fs_budget_free(shared);
}

int main(void) {
    arena = small_arena(64);
    a_young_budget_holds_the_floor();
    calls_pay_their_share();
    it_fills_to_what_a_window_brings();
    what_was_taken_is_owed_for_a_window();
    settings_change_under_it();
    an_empty_budget_has_no_hedge();
    time_that_goes_back_is_none();
    a_full_arena_has_no_room();
    threads_share_one_balance();
    threads_read_one_traffic();
    free(arena);
    return check_report();
}
