/* The directory of a shared arena: names and numbers of operations, who has a seat, what is asked of one operation, and a
 * child of a fork whose members have gone before it sat down. */
#define _GNU_SOURCE /* mkdtemp, RLIMIT_FSIZE */
#include "failsoft/members.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/file.h>
#include <time.h>

#include "shared_rig.h"

#define PATIENCE (10 * FS_NS_PER_SECOND)
#define WINDOW (FS_NS_PER_SECOND * 60)
#define MANY 2048 /* members, from which on those are swept away that nobody has */

static fs_mapping mapping;
static fs_series *series;
static int *stage;

static fs_breaker_config settings(void) {
    return (fs_breaker_config){
        .reset_timeout = 2000000, .reset_most = 2000000, .lease = 1000000, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = 2.0, .slow_rate = 2.0, .failure_threshold = 5, .success_threshold = 2, .half_open_most = 3,
        .minimum_calls = 20,
    };
}

static void wait_for(int wanted) {
    for (int i = 0; i < 20000 && fs_load_acquire(stage) < wanted; i++) nanosleep(&(struct timespec){0, 1000000}, NULL);
    CHECK(fs_load_acquire(stage) >= wanted);
}

static int locked(void) {
    fs_shared_status why;
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    CHECK(lock >= 0);
    return lock;
}

static void share(void) {
    if (!CHECK_EQ(fs_shared_open(&mapping, path, FS_SHARES), FS_SHARED_OK)) _exit(2);
    int lock = locked();
    CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
    fs_shared_unlock(lock);
}

static fs_breaker *join(const char *name, fs_series *counts, fs_seat **seat) {
    fs_breaker_config config = settings();
    uint32_t others;
    fs_breaker *own = fs_breaker_take(fs_arena_private(), &config, fs_now());
    if (!own) _exit(2);
    if (counts) fs_breaker_adopt(own, counts);
    fs_joining joining = {&mapping, name, (uint32_t)strlen(name), 1, WINDOW};
    int lock = locked();
    fs_breaker *breaker = fs_member_join(&joining, own, seat, &others);
    fs_shared_unlock(lock);
    fs_breaker_free(own);
    return breaker;
}

static fs_series *counted(uint32_t calls) {
    fs_series *counts = fs_series_take(fs_arena_private(), WINDOW, fs_now());
    if (!counts) _exit(2);
    for (uint32_t i = 0; i < calls; i++) fs_histogram_record(fs_series_stripe(counts, 0), 1000, fs_stamp());
    return counts;
}

static const fs_member *member_named(const char *name) {
    for (const fs_member *m = fs_member_first(mapping.shared); m; m = fs_member_next(mapping.shared, m))
        if (m->length == strlen(name) && memcmp(m->name, name, m->length) == 0) return m;
    return NULL;
}

static uint64_t calls_of(const fs_member *member, uint32_t slot, uint32_t number) {
    fs_series *sum = fs_series_take(fs_arena_private(), FS_FOREVER / 2, fs_now());
    CHECK_EQ(fs_member_observe(mapping.shared, member, slot, number, sum, fs_now()), FS_OK);
    fs_totals totals = {0};
    fs_series_ever(sum, &totals);
    fs_series_free(sum);
    return totals.calls;
}

/* ---- operations */

static void another_process(void) {
    fs_seat *seat;
    share();
    fs_series *book = counted(5);
    fs_breaker *breaker = join("binance", book, &seat);
    int lock = locked();
    CHECK_EQ(fs_member_label(breaker, "book", 4), 2); /* as it is called by all */
    book->name = fs_member_label(breaker, "trades", 6);
    CHECK_EQ(book->name, 4);
    fs_shared_unlock(lock);
    fs_store_release(stage, 1);
    wait_for(2);
    fs_shared_part(&mapping);
    fs_store_release(stage, 3);
    wait_for(4);
}

static void operations(void) {
    fs_seat *seat;
    share();
    fs_series *quote = counted(3), *book = counted(4);
    fs_breaker *breaker = join("binance", quote, &seat);
    if (!CHECK(breaker != NULL)) return;
    fs_series_list(&seat->block, &seat->series, book);
    int lock = locked();
    quote->name = fs_member_label(breaker, "quote", 5);
    book->name = fs_member_label(breaker, "book", 4);
    CHECK_EQ(quote->name, 1);
    CHECK_EQ(book->name, 2);
    CHECK_EQ(fs_member_label(breaker, "boo", 3), 3);
    CHECK_EQ(fs_member_label(breaker, "quote", 5), 1);
    fs_shared_unlock(lock);
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    CHECK(strcmp(mapping.shared->process[mapping.slot].name, name) == 0);
    CHECK_EQ(mapping.shared->process[mapping.slot].pid, getpid());
    const fs_member *member = member_named("binance");
    if (!CHECK(member == fs_member_of(breaker))) return;
    uint32_t labels = 0;
    for (const fs_label *l = fs_label_first(mapping.shared, member); l; l = fs_label_next(mapping.shared, l)) labels++;
    CHECK_EQ(labels, 3);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 7);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 1), 3);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 2), 4);
    CHECK_EQ(calls_of(member, mapping.slot, 2), 4);
    CHECK_EQ(calls_of(member, mapping.slot + 1, 2), 0);
    CHECK_EQ(calls_of(member, FS_DEPARTED, 0), 0);
    CHECK_EQ(fs_member_processes(mapping.shared, member), 1);
    CHECK(member_named("kraken") == NULL);

    fs_breaker_status status;
    fs_store_release(stage, 0);
    pid_t other = child(another_process);
    wait_for(1);
    CHECK_EQ(fs_member_processes(mapping.shared, member), 2);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 12);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 4), 5);
    CHECK_EQ(calls_of(member, mapping.slot + 1, 0), 5);
    fs_breaker_read(breaker, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 7); /* of who made it; what the other had counted before it came is not its */
    fs_histogram_record(fs_series_stripe(book, 0), 1000, fs_stamp());
    fs_breaker_read(breaker, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 8);
    fs_store_release(stage, 2);
    wait_for(3);
    CHECK_EQ(fs_member_processes(mapping.shared, member), 1); /* it lives on, but not here */
    fs_store_release(stage, 4);
    ends_well(other);
    CHECK_EQ(fs_member_processes(mapping.shared, member), 1);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 13); /* the dead's count on, */
    lock = locked();
    CHECK_EQ(fs_shared_bury(&mapping), 0);
    fs_shared_unlock(lock);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 13); /* buried too */
    CHECK_EQ(calls_of(member, FS_DEPARTED, 0), 5);
    CHECK_EQ(calls_of(member, FS_DEPARTED, 4), 5);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 1), 3);

    /* Two seats of one name in one process: the second has a member of its own. */
    fs_seat *second;
    fs_breaker *twin = join("binance", NULL, &second);
    CHECK(twin && twin != breaker);
    fs_member_leave(&mapping, twin, second, fs_now());
    fs_breaker_read(breaker, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 8);
    fs_member_leave(&mapping, breaker, seat, fs_now());
    CHECK_EQ(fs_member_processes(mapping.shared, member), 0);
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 5);
}

/* ---- going on alone */

static void resigns(void) {
    fs_seat *seat;
    fs_change change = {0};
    share();
    series = counted(3);
    fs_breaker *breaker = join("binance", series, &seat);
    if (!CHECK(breaker != NULL)) return;
    fs_member_chaos(&mapping, breaker, seat, true);
    CHECK(fs_breaker_gate(breaker) & FS_GATE_CHAOS);
    fs_breaker_force(breaker, FS_DISABLED, fs_now(), &change);
    fs_breaker_config config = settings();
    config.failure_threshold = 9;
    config.last = 10;
    fs_breaker *own = fs_member_resign(&mapping, breaker, seat, fs_now(), &config);
    if (!CHECK(own != NULL)) return;
    CHECK_EQ(fs_gate_state(fs_breaker_gate(own)), FS_DISABLED);
    CHECK(fs_breaker_gate(own) & FS_GATE_CHAOS); /* its faults go with it, */
    CHECK(fs_breaker_gate(own) & FS_GATE_WATCHED);
    CHECK(!(fs_breaker_gate(breaker) & FS_GATE_CHAOS)); /* and not to who stays */
    CHECK_EQ(own->config.failure_threshold, 9);
    CHECK(fs_arena_follow(own, own->series) == series);
    const fs_member *member = member_named("binance");
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 0);
    fs_breaker *again = join("binance", series, &seat);
    CHECK(again == breaker);
    fs_breaker_force(again, FS_CLOSED_STATE, fs_now(), &change);
    config = settings();
    own = fs_member_resign(&mapping, again, seat, fs_now(), &config);
    CHECK_EQ(fs_breaker_gate(own) & FS_GATE_FLAGS, 0);
    fs_breaker_status status;
    fs_breaker_read(own, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 0);
    fs_histogram_record(fs_series_stripe(series, 0), 1000, fs_stamp());
    fs_breaker_read(own, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 1);
}

static void counts_and_goes(void) {
    fs_seat *seat;
    share();
    CHECK(join("binance", counted(2), &seat) != NULL);
}

/* That the departed hold. */
static int departed_lines(void) {
    const fs_arena *departed = fs_shared_departed(mapping.shared, fs_departed_side(mapping.shared->departed));
    return (int)(departed->used - departed->free_lines);
}

/* ---- sitting down too late */

static void joins_many(const char *prefix, int count, fs_breaker **last) {
    for (int i = 0; i < count; i++) {
        char name[32];
        fs_seat *seat;
        snprintf(name, sizeof name, "%s-%d", prefix, i);
        *last = join(name, NULL, &seat);
        if (!CHECK(*last != NULL)) return;
    }
}

static void sits_late(void) {
    fs_seat *seat;
    fs_breaker_config config = settings();
    fs_breaker *last;
    share();
    series = counted(3);
    fs_breaker *breaker = join("first", series, &seat);
    if (!CHECK(breaker != NULL)) return;
    for (int i = 0; i < 2; i++) { /* two operations more, to be forgotten with it */
        fs_series *more = counted(1);
        more->name = 2 + (uint32_t)i;
        fs_series_list(&seat->block, &seat->series, more);
    }
    joins_many("mine", MANY, &last);
    fs_member *member = fs_member_of(breaker);
    fflush(NULL);
    if (fork() == 0) { /* outlives its parent, for a while */
        alarm(60);
        wait_for(1); /* its parent is dead and buried, and the room of its members is another's */
        int lock = locked();
        CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
        bool taken = member->block.generation != seat->generation;
        CHECK(taken);
        CHECK(!fs_member_sit(&mapping, breaker, seat, fs_now()));
        fs_shared_unlock(lock);
        for (uint32_t slot = 0; slot < FS_PROCESSES && (member->block.generation & 1); slot++)
            CHECK(member->seats[slot] != seat->block.line || slot != mapping.slot);
        uint64_t gate = fs_breaker_gate(breaker);
        fs_breaker *own = fs_member_resign(&mapping, breaker, seat, fs_now(), &config);
        CHECK(own && fs_breaker_gate(own) == ((UINT64_C(1) << 32) | FS_CLOSED_STATE));
        CHECK(own && own->series != 0);
        CHECK_EQ(fs_breaker_gate(breaker), gate);
        fs_store_release(stage, check_failed ? 3 : 2);
        _exit(0);
    }
    _exit(check_failed != 0);
}

static void too_late(void) {
    fs_store_release(stage, 0);
    ends_well(child(sits_late));
    share(); /* buries it */
    fs_breaker *last;
    CHECK(member_named("first") != NULL);
    joins_many("others", 4, &last); /* the first of them sweeps */
    CHECK(member_named("first") == NULL);
    fs_store_release(stage, 1);
    wait_for(2);
    CHECK_EQ(fs_load_acquire(stage), 2);
    uint32_t left = 0;
    for (const fs_member *m = fs_member_first(mapping.shared); m; m = fs_member_next(mapping.shared, m)) left++;
    CHECK_EQ(left, 4);
    /* Nothing is kept of those that are gone from the directory. */
    ends_well(child(counts_and_goes));
    int lock = locked();
    CHECK_EQ(fs_shared_bury(&mapping), 0);
    fs_shared_unlock(lock);
    CHECK_EQ(departed_lines(), stage[1]);
}

/* ---- what the departed have counted, torn: it is not written on, and who has died since keeps his slot */

static void write_departed_used(uint32_t lines) {
    size_t side = fs_departed_side(mapping.shared->departed) * FS_SLOT_BYTES;
    int file = open(path, O_RDWR);
    CHECK(pwrite(file, &lines, sizeof lines, (off_t)(FS_DEPARTED_AT + side + offsetof(fs_arena, used))) == sizeof lines);
    close(file);
}

static void torn_departed(void) {
    ends_well(child(counts_and_goes));
    share();
    stage[1] = departed_lines();
    uint32_t side = fs_departed_side(mapping.shared->departed);
    uint32_t used = fs_shared_departed(mapping.shared, side)->used;
    uint32_t odd[] = {0, 1, mapping.shared->departed_reserved[side] + 1, UINT32_MAX};
    ends_well(child(counts_and_goes));
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        write_departed_used(odd[i]);
        int lock = locked();
        CHECK_EQ(fs_shared_bury(&mapping), 1);
        fs_shared_unlock(lock);
    }
    write_departed_used(used);
    int lock = locked();
    CHECK_EQ(fs_shared_bury(&mapping), 0);
    fs_shared_unlock(lock);
    CHECK_EQ(calls_of(member_named("binance"), FS_DEPARTED, 0), 4);
}

/* ---- a funeral while somebody adds up: he looks again */

static bool buries;

FILE *fopen(const char *name, const char *how) {
    (void)how;
    if (buries && strstr(name, "/stat")) { /* is the tenant of the first slot alive? */
        buries = false;
        int lock = locked();
        CHECK_EQ(fs_shared_bury(&mapping), 0);
        fs_shared_unlock(lock);
    }
    int file = open(name, O_RDONLY | O_CLOEXEC);
    return file < 0 ? NULL : fdopen(file, "r");
}

static void buried_amid_a_look(void) {
    fs_seat *seat;
    share();
    CHECK(join("binance", counted(3), &seat) != NULL);
    ends_well(child(counts_and_goes));
    const fs_member *member = member_named("binance");
    if (!CHECK(member != NULL)) return;
    buries = true;
    CHECK_EQ(calls_of(member, FS_EVERYBODY, 0), 5);
    CHECK(!buries);
}

/* ---- a file system that is full */

static int asked;
static bool full, replaces;

int posix_fallocate(int file, off_t from, off_t bytes) {
    asked++;
    if (full) return ENOSPC;
    return syscall(SYS_fallocate, file, 0, from, bytes) == 0 ? 0 : errno;
}

static void fills(void) {
    fs_seat *seat;
    share();
    CHECK(join("binance", counted(1), &seat) != NULL);
    fs_arena *arena = fs_arena_private();
    full = true;
    while (fs_arena_alloc(arena, 60000)) {}
    asked = 0;
    for (int i = 0; i < 100; i++) CHECK(fs_arena_alloc(arena, 60000) == NULL);
    CHECK(asked <= 2); /* once more where the second is over, for all that is wanted and for the least of it */
    full = false;
    CHECK(fs_arena_alloc(arena, FS_LINE) != NULL || asked <= 2);
    for (int i = 0; i < 300 && !fs_arena_alloc(arena, 60000); i++) nanosleep(&(struct timespec){0, 10000000}, NULL);
    CHECK(fs_arena_alloc(arena, 60000) != NULL); /* and it is asked again */
}

/* ---- a file that another takes the place of, just when it is to be removed */

int flock(int file, int what) {
    if (replaces && what & LOCK_EX) {
        replaces = false;
        char aside[160];
        fs_mapping other;
        snprintf(aside, sizeof aside, "%s/aside", folder);
        CHECK_EQ(fs_shared_open(&other, aside, FS_SHARES), FS_SHARED_OK);
        fs_shared_close(&other);
        CHECK_EQ(rename(aside, path), 0);
    }
    return (int)syscall(SYS_flock, file, what);
}

static void outlived_and_replaced(void) {
    fs_mapping one;
    struct stat is, anew;
    uint64_t elsewhere = 1;
    CHECK_EQ(fs_shared_open(&one, path, FS_SHARES), FS_SHARED_OK);
    fs_shared_close(&one);
    int file = open(path, O_RDWR);
    CHECK(pwrite(file, &elsewhere, 8, offsetof(fs_shared, boot)) == 8);
    CHECK_EQ(fstat(file, &is), 0);
    close(file);
    replaces = true;
    CHECK_EQ(fs_shared_open(&one, path, FS_SHARES), FS_SHARED_OK);
    CHECK(!replaces);
    fs_shared_close(&one);
    CHECK_EQ(stat(path, &anew), 0);
    CHECK(anew.st_ino != is.st_ino);
    CHECK_EQ(fs_shared_open(&one, path, FS_SHARES), FS_SHARED_OK); /* the other's, as it was put there */
    fs_shared_close(&one);
    struct stat last;
    CHECK(stat(path, &last) == 0 && last.st_ino == anew.st_ino);
}

/* Files may not be so large, or there is no room for the first of it. */
static void may_not_grow(void) {
    fs_mapping one;
    struct stat is;
    signal(SIGXFSZ, SIG_IGN);
    full = true;
    CHECK_EQ(fs_shared_open(&one, path, FS_SHARES), FS_SHARED_NO_SPACE);
    CHECK(stat(path, &is) == 0 && is.st_size == 0);
    full = false;
    struct rlimit small = {1 << 20, 1 << 20};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    CHECK_EQ(fs_shared_open(&one, path, FS_SHARES), FS_SHARED_NO_SPACE);
}

static void alone(void (*body)(void)) {
    static int number;
    snprintf(path, sizeof path, "%s/arena-%d", folder, number++);
    ends_well(child(body));
}

int main(void) {
    rig_folder();
    stage = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    alone(operations);
    alone(resigns);
    alone(torn_departed);
    alone(buried_amid_a_look);
    alone(too_late);
    alone(fills);
    alone(outlived_and_replaced);
    alone(may_not_grow);
    return check_report();
}
