/* What one process makes in a shared arena and another finds. Here the processes are threads, for a sanitizer of threads
 * must see the words at one address: the file is mapped where the private arena is its first slot. */
#define _GNU_SOURCE /* MAP_FIXED_NOREPLACE, mkdtemp */
#include "failsoft/members.h"

#include <sys/mman.h>

#include "published.h"
#include "shared_rig.h"
#include "small_arena.h"

#define PATIENCE (10 * FS_NS_PER_SECOND)
#define WINDOW (FS_NS_PER_SECOND * 60)
#define START (FS_NS_PER_SECOND * 1000)

static fs_mapping mapping;
static fs_breaker *own, *breaker;
static fs_seat *seat;
static fs_series *series;

static fs_breaker_config settings(void) {
    return (fs_breaker_config){
        .reset_timeout = 2000000, .reset_most = 2000000, .lease = 1000000, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = 2.0, .slow_rate = 2.0, .failure_threshold = 5, .success_threshold = 2, .half_open_most = 3,
        .minimum_calls = 20,
    };
}

static void prepare(void) {
    fs_breaker_config config = settings();
    own = fs_breaker_take(fs_arena_private(), &config, fs_now());
    series = fs_series_take(fs_arena_private(), WINDOW, fs_now());
    if (!own || !series) exit(2);
    fs_breaker_adopt(own, series);
}

static void record(void) {
    fs_histogram *histogram = fs_series_stripe(series, 0);
    if (!CHECK(histogram != NULL)) return;
    fs_histogram_record(histogram, 1000, fs_stamp());
}

static void join(void) {
    uint32_t others;
    fs_joining joining = {&mapping, "binance", 7, 1, WINDOW};
    breaker = fs_member_join(&joining, own, &seat, &others);
    CHECK(breaker != NULL);
}

static int locked(void) {
    fs_shared_status why;
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    CHECK(lock >= 0);
    return lock;
}

/* A process that counts, and is gone. */
static void counts_and_goes(void) {
    prepare();
    if (fs_shared_open(&mapping, path, FS_SHARES) != FS_SHARED_OK) _exit(2);
    int lock = locked();
    CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
    join();
    series->name = fs_member_label(breaker, "call", 4);
    fs_shared_unlock(lock);
    record();
}

static void make_member(void) { join(); }
static void find_member(void) {
    const fs_member *member = fs_member_first(mapping.shared);
    const fs_breaker *of = member ? fs_member_breaker(mapping.shared, member) : NULL;
    seen = of ? of->config.minimum_calls + member->window + (uint64_t)member->name[0] : 0;
}

static void make_label(void) { CHECK_EQ(fs_member_label(breaker, "call", 4), 1); }
static void find_label(void) {
    const fs_label *label = fs_label_first(mapping.shared, fs_member_first(mapping.shared));
    seen = label ? label->number + (uint64_t)label->name[0] : 0;
}
static void make_another_label(void) { CHECK_EQ(fs_member_label(breaker, "another", 7), 2); }
static void find_another_label(void) {
    const fs_label *label = fs_label_first(mapping.shared, fs_member_first(mapping.shared));
    label = label ? fs_label_next(mapping.shared, label) : NULL;
    seen = label ? label->number + (uint64_t)label->name[0] : 0;
}

/* What one slot has counted, as a reader adds it up: in an arena of his own, and looking nowhere else, for that would order
 * more than the way there does. */
static fs_series *sum;

static void find_of(uint32_t slot) {
    const fs_member *member = fs_member_first(mapping.shared);
    fs_totals totals = {0};
    if (member && fs_member_observe(mapping.shared, member, slot, 0, sum, START) == FS_OK) fs_series_ever(sum, &totals);
    seen = totals.calls;
    fs_series_clear(sum, START);
}
static void find_counts(void) { find_of(0); }
static void find_departed(void) { find_of(FS_DEPARTED); }
static void make_seat_leave(void) {
    int lock = locked();
    fs_member_leave(&mapping, breaker, seat, fs_now());
    CHECK(fs_breaker_take(fs_arena_private(), &(fs_breaker_config){.half_open_most = 1}, fs_now()) != NULL);
    fs_shared_unlock(lock);
}
static void find_nothing(void) {
    find_counts();
    seen++;
}
static void make_seat(void) {
    int lock = locked();
    prepare();
    record();
    join();
    fs_shared_unlock(lock);
}
static void make_series(void) {
    fs_series *fresh = fs_series_take(fs_arena_private(), WINDOW, fs_now());
    if (!CHECK(fresh != NULL)) return;
    series = fresh;
    record();
    fs_series_list(&seat->block, &seat->series, fresh);
}

/* In lines that were used before, which whoever takes them empties. */
static void make_column(void) { fs_histogram_record(fs_series_stripe(series, 0), 1 << 20, fs_stamp()); }
static void use_lines(void) {
    fs_series *before = fs_series_take(fs_arena_private(), WINDOW, fs_now());
    if (!CHECK(before != NULL)) return;
    fs_histogram_record(fs_series_stripe(before, 0), 1 << 20, fs_stamp());
    fs_series_free(before);
}

static void make_funeral(void) {
    int lock = locked();
    CHECK_EQ(fs_shared_bury(&mapping), 0);
    fs_shared_unlock(lock);
}

int main(void) {
    rig_folder();
    snprintf(path, sizeof path, "%s/arena", folder);
    fs_arena *beside = small_arena(1 << 12);
    sum = beside ? fs_series_take(beside, FS_FOREVER / 2, START) : NULL;
    if (!sum) return 2;

    /* Looked at from outside: what the dead have counted. */
    ends_well(child(counts_and_goes));
    CHECK_EQ(fs_shared_open(&mapping, path, FS_SHARES), FS_SHARED_OK);
    made_here_and_found_there(make_funeral, find_departed);
    CHECK_EQ(seen, 1);
    fs_shared_close(&mapping);
    CHECK(unlink(path) == 0);

    /* Seen from inside, at the address of the private arena. */
    prepare();
    CHECK_EQ(fs_shared_open(&mapping, path, FS_SHARES), FS_SHARED_OK);
    int lock = locked(), file = open(path, O_RDWR);
    CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
    fs_shared_unlock(lock);
    CHECK_EQ(mapping.slot, 0);
    void *at = (char *)fs_arena_private() - FS_SLOTS_AT;
    void *same = mmap(at, FS_SLOTS_AT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0);
    if (!CHECK(same == at)) return check_report();
    mapping.shared = same;
    made_here_and_found_there(make_member, find_member);
    made_here_and_found_there(make_label, find_label);
    made_here_and_found_there(make_another_label, find_another_label);
    record();
    find_counts();
    CHECK_EQ(seen, 1);
    made_here_and_found_there(make_series, find_counts);
    CHECK_EQ(seen, 2);
    use_lines();
    made_here_and_found_there(make_column, find_counts);
    CHECK_EQ(seen, 3);
    made_here_and_found_there(make_seat_leave, find_nothing);
    made_here_and_found_there(make_seat, find_counts);
    CHECK_EQ(seen, 1);
    free(beside);
    return check_report();
}
