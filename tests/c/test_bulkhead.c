/* The bulkhead: never one too many, also between threads where those may write at once. */
#define _GNU_SOURCE
#include "failsoft/bulkhead.h"

#include <pthread.h>

#include "check.h"

#define LIMIT 3
#define ROUNDS 200000

static void places_are_counted(void) {
    fs_bulkhead bulkhead = {.limit = 2};
    CHECK(fs_bulkhead_enter(&bulkhead));
    CHECK(fs_bulkhead_enter(&bulkhead));
    CHECK(!fs_bulkhead_enter(&bulkhead));
    bulkhead.limit = 1;
    fs_bulkhead_leave(&bulkhead);
    CHECK(!fs_bulkhead_enter(&bulkhead));
    fs_bulkhead_leave(&bulkhead);
    CHECK(fs_bulkhead_enter(&bulkhead));
    CHECK_EQ(bulkhead.in_flight, 1);
}

#if FS_MANY_WRITERS
static fs_bulkhead shared = {.limit = LIMIT};
static uint32_t inside;
static pthread_barrier_t together;

static void *hammer(void *unused) {
    (void)unused;
    pthread_barrier_wait(&together);
    for (int i = 0; i < ROUNDS; i++) {
        if (!fs_bulkhead_enter(&shared)) continue;
        CHECK(fs_add_relaxed(&inside, 1) < LIMIT);
        fs_add_relaxed(&inside, (uint32_t)-1);
        fs_bulkhead_leave(&shared);
    }
    return NULL;
}

static void threads_share_it(void) {
    pthread_t threads[6];
    pthread_barrier_init(&together, NULL, 6);
    for (int i = 0; i < 6; i++) pthread_create(&threads[i], NULL, hammer, NULL);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(shared.in_flight, 0);
    pthread_barrier_destroy(&together);
}
#endif

int main(void) {
    places_are_counted();
#if FS_MANY_WRITERS
    threads_share_it();
#endif
    return check_report();
}
