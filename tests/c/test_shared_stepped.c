/* A process killed before each of its stores in turn, one process a store: while it comes, counts, turns, trips, probes,
 * goes, and while it buries another. After each, what it has left is whole, and counted to within the call that it died in. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, mkdtemp */
#include "failsoft/members.h"

#include <sys/mman.h>

#include "shared_rig.h"

#define PATIENCE (10 * FS_NS_PER_SECOND)
#define WINDOW (FS_NS_PER_SECOND * 60)
#define CALLS 40
#define STEPS_MOST 60000

uint64_t step_count, step_kills_at;

void step_die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static uint64_t *said;     /* calls that the child of the moment has said it has recorded */
static uint64_t *finished; /* how many stores a child makes that is not killed */
static fs_ns start;

static fs_breaker_config settings(void) {
    return (fs_breaker_config){
        .reset_timeout = 1000, .reset_most = 1000, .lease = 1000000, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = 0.9, .slow_rate = 2.0, .failure_threshold = 3, .success_threshold = 1, .half_open_most = 2,
        .minimum_calls = 1000,
    };
}

static void end_call(fs_breaker *breaker, fs_permit permit, bool fails, fs_ns now) {
    fs_change change = {0};
    if (fails)
        fs_breaker_failure(breaker, permit, 0, now, &change);
    else
        fs_breaker_success(breaker, permit, 0, now, &change);
}

/* Comes, works and goes. */
static void works(void) {
    fs_mapping mapping;
    fs_shared_status why;
    fs_breaker_config config = settings();
    fs_seat *seat;
    uint32_t others;
    fs_breaker *own = fs_breaker_take(fs_arena_private(), &config, start);
    fs_series *series = fs_series_take(fs_arena_private(), WINDOW, start);
    fs_breaker_adopt(own, series);
    if (fs_shared_open(&mapping, path, true) != FS_SHARED_OK) _exit(2);
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    if (lock < 0 || fs_shared_claim(&mapping) != FS_SHARED_OK) _exit(3);
    fs_joining joining = {&mapping, "binance", 7, 1, WINDOW};
    fs_breaker *breaker = fs_member_join(&joining, own, &seat, &others);
    if (!breaker) _exit(4);
    series->name = fs_member_label(breaker, "call", 4);
    fs_shared_unlock(lock);
    fs_ns now = start;
    for (int i = 0; i < CALLS; i++, now += FS_NS_PER_SECOND / 2) { /* two windows' slices go by */
        fs_change change = {0};
        fs_permit permit = fs_breaker_acquire(breaker, now, &change);
        fs_histogram *histogram = fs_series_stripe(series, 0);
        if (!histogram) _exit(5);
        if (i % 20 == 19) fs_histogram_turn(histogram, now, fs_stamp());
        fs_histogram_record(histogram, (uint64_t)1000 << (i % 6), fs_stamp());
        fs_store_release(said, (uint64_t)i + 1);
        if (fs_permit_granted(permit)) end_call(breaker, permit, i % 8 < 3, now);
    }
    fs_shared_part(&mapping);
    *finished = step_count;
    _exit(0);
}

/* ---- rates, over the calls of all */

#define PAST 100

static fs_mapping rated;
static fs_breaker *rated_breaker;
static fs_seat *rated_seat;
static fs_series *rated_series;

static void fails(void) {
    fs_histogram *histogram = fs_series_stripe(rated_series, 0);
    if (!histogram) _exit(5);
    fs_histogram_record(histogram, 1000, fs_stamp());
    fs_histogram_outcome(histogram, true, false);
}

static void comes_to_be_rated(int past, uint64_t kills_at) {
    fs_shared_status why;
    fs_breaker_config config = settings();
    uint32_t others;
    config.failure_threshold = 0;
    config.failure_rate = 0.5;
    config.minimum_calls = 20;
    config.reset_timeout = config.reset_most = FS_NS_PER_SECOND * 1000;
    step_kills_at = 0;
    fs_breaker *own = fs_breaker_take(fs_arena_private(), &config, start);
    rated_series = fs_series_take(fs_arena_private(), WINDOW, start);
    fs_breaker_adopt(own, rated_series);
    for (int i = 0; i < past; i++) fails();
    if (fs_shared_open(&rated, path, true) != FS_SHARED_OK) _exit(2);
    int lock = fs_shared_lock(&rated, PATIENCE, &why);
    if (lock < 0 || fs_shared_claim(&rated) != FS_SHARED_OK) _exit(3);
    fs_joining joining = {&rated, "binance", 7, 1, WINDOW};
    step_count = 0;
    step_kills_at = kills_at;
    rated_breaker = fs_member_join(&joining, own, &rated_seat, &others);
    if (!rated_breaker) _exit(4);
    fs_shared_unlock(lock);
}

static void comes_first(void) {
    comes_to_be_rated(0, 0);
    _exit(0);
}

static void comes_with_a_past_and_goes(void) {
    comes_to_be_rated(PAST, step_kills_at);
    fs_member_leave(&rated, rated_breaker, rated_seat, fs_now());
    *finished = step_count;
    _exit(0);
}

static void trips_by_rate(void) {
    comes_to_be_rated(0, 0);
    for (int i = 0; i < 25; i++) {
        fs_change change = {0};
        fs_permit permit = fs_breaker_acquire(rated_breaker, fs_now(), &change);
        fails();
        if (fs_permit_granted(permit)) end_call(rated_breaker, permit, true, fs_now());
    }
    _exit(fs_gate_state(fs_breaker_gate(rated_breaker)) == FS_OPEN ? 0 : 6);
}

static void buries(void) {
    fs_mapping mapping;
    fs_shared_status why;
    if (fs_shared_open(&mapping, path, true) != FS_SHARED_OK) _exit(2);
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    if (lock < 0 || fs_shared_bury(&mapping) != 0) _exit(3);
    fs_shared_unlock(lock);
    *finished = step_count;
    _exit(0);
}

/* Run a child that is killed at a store; 0: at none. Whether it was. */
static bool run(void (*body)(void), uint64_t at) {
    pid_t pid = fork_bound();
    if (pid == 0) {
        step_count = 0;
        step_kills_at = at;
        body();
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status)) return CHECK_EQ(WTERMSIG(status), SIGKILL);
    CHECK_EQ(WEXITSTATUS(status), 0);
    return false;
}

static void bury(const fs_mapping *mapping) {
    fs_shared_status why;
    int lock = fs_shared_lock(mapping, PATIENCE, &why);
    if (!CHECK(lock >= 0)) return;
    CHECK_EQ(fs_shared_bury((fs_mapping *)(uintptr_t)mapping), 0);
    fs_shared_unlock(lock);
}

static fs_totals seen(const fs_shared *shared, uint64_t *cells) {
    fs_totals totals = {0};
    *cells = 0;
    uint32_t members = 0;
    for (const fs_member *m = fs_member_first(shared); m; m = fs_member_next(shared, m), members++) {
        fs_series *sum = fs_series_take(fs_arena_private(), FS_FOREVER / 2, fs_now());
        CHECK_EQ(fs_member_observe(shared, m, FS_EVERYBODY, 0, sum, fs_now()), FS_OK);
        fs_series_ever(sum, &totals);
        uint64_t found[FS_OCTAVES * FS_CELLS];
        *cells += fs_series_cells(sum, FS_EVER, found);
        fs_series_free(sum);
        CHECK(fs_member_breaker(shared, m) != NULL);
    }
    CHECK(members <= 1);
    return totals;
}

int main(int count, char **arguments) {
    bool deep = count > 1 && strcmp(arguments[1], "deep") == 0;
    uint64_t cells, stride = deep ? 1 : 7, kills = 0;
    rig_folder();
    snprintf(path, sizeof path, "%s/arena", folder);
    said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    finished = said + 1;
    start = fs_now();

    CHECK(!run(works, 0));
    uint64_t stores = *finished;
    CHECK(stores > 500 && stores < STEPS_MOST);
    fs_mapping mapping;
    CHECK_EQ(fs_shared_open(&mapping, path, true), FS_SHARED_OK);
    bury(&mapping);
    uint64_t before = seen(mapping.shared, &cells).calls;
    CHECK_EQ(before, CALLS);
    CHECK_EQ(cells, CALLS);
    for (uint64_t at = 1; at <= stores; at += stride) {
        *said = 0;
        kills += run(works, at);
        uint64_t dead = seen(mapping.shared, &cells).calls; /* as it lies there, killed */
        CHECK(dead - before >= *said && dead - before <= *said + 1);
        bury(&mapping);
        uint64_t after = seen(mapping.shared, &cells).calls;
        CHECK(after - before >= *said && after - before <= *said + 1);
        CHECK(cells + kills >= after && cells <= after + kills); /* one call each that was counted in one of the two */
        before = after;
        if (check_failed) {
            fprintf(stderr, "killed at store %" PRIu64 " of %" PRIu64 "\n", at, stores);
            break;
        }
    }
    printf("score: a process killed between any two stores leaves a whole arena | calls lost or counted twice | %ld | killed "
           "before each%s of %" PRIu64 " stores while it came, counted, tripped, probed and went: %" PRIu64 " kills\n",
           check_failed, deep ? "" : " seventh", stores, kills);

    /* And while it takes in what another has left. */
    uint64_t funerals = 0;
    stores = 1;
    for (uint64_t at = 1; at <= stores && !check_failed; at++) {
        CHECK(!run(works, 0));
        before += CALLS;
        *finished = 0;
        funerals += run(buries, at);
        CHECK_EQ(seen(mapping.shared, &cells).calls, before);
        if (*finished == 0) stores = at + 1;
        CHECK(!run(buries, 0));
        CHECK_EQ(seen(mapping.shared, &cells).calls, before);
    }
    printf("score: a process killed between any two stores leaves a whole arena | counts lost in a funeral | %ld | killed at "
           "%" PRIu64 " stores of it\n", check_failed, funerals);
    fs_shared_close(&mapping);

    /* And while it comes with what it has counted alone, and goes with all it has counted: the others still trip by rate. */
    uint64_t comings = 0;
    stores = 1;
    for (uint64_t at = 1; at <= stores && !check_failed; at++) {
        CHECK(unlink(path) == 0);
        *finished = 0;
        CHECK(!run(comes_first, 0));
        comings += run(comes_with_a_past_and_goes, at);
        if (*finished == 0) stores = at + 1;
        CHECK(!run(trips_by_rate, 0));
        if (check_failed) fprintf(stderr, "killed at store %" PRIu64 "\n", at);
    }
    printf("score: a process killed between any two stores leaves a whole arena | breakers that do not trip by rate | %ld | "
           "killed at %" PRIu64 " stores while it came with a past and went with it\n", check_failed, comings);
    return check_report();
}
