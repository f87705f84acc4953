/* The arena that processes share: what a file must be, who sees what of whom, forks, and processes killed anywhere.
 *
 * The killed are children that record, turn, trip, come and go as fast as they can. Each says in a word of its own, which
 * no kill can spoil, how many calls it has recorded. `deep` kills a hundred thousand of them, `brief` nobody. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, nanosleep, mkdtemp, syscall */
#include "failsoft/members.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "shared_rig.h"

#define CHILDREN 8
#ifndef KILLS_DEEP
#define KILLS_DEEP 100000 /* a quarter of an hour on two cores */
#endif
#define KILLS 400
#define PATIENCE (10 * FS_NS_PER_SECOND)
#define WINDOW (FS_NS_PER_SECOND * 60)
#define SHORT UINT64_C(6000000) /* slices of a millisecond, so that children turn all the time */

static bool deep;

static const char *fresh(void) {
    static int number;
    snprintf(path, sizeof path, "%s/arena-%d", folder, number++);
    return path;
}

static fs_breaker_config settings(void) {
    return (fs_breaker_config){
        .reset_timeout = 2000000, .reset_most = 2000000, .lease = 1000000, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = 0.5, .slow_rate = 2.0, .failure_threshold = 5, .success_threshold = 2, .half_open_most = 3,
        .minimum_calls = 20,
    };
}

/* ---- one process */

static fs_ns window = WINDOW;
static fs_mapping mapping;
static fs_breaker *own, *breaker;
static fs_seat *seat;
static fs_series *series;

static bool enter(const char *file, const char *name, const fs_breaker_config *config) {
    fs_shared_status why;
    uint32_t others = 0;
    if (!own) {
        own = fs_breaker_take(fs_arena_private(), config, fs_now());
        series = fs_series_take(fs_arena_private(), window, fs_now());
        if (!own || !series) return false;
        fs_breaker_adopt(own, series);
    }
    if (!mapping.shared && fs_shared_open(&mapping, file, true) != FS_SHARED_OK) return false;
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    if (lock < 0) return false;
    bool in = fs_shared_claim(&mapping) == FS_SHARED_OK;
    if (in) {
        fs_joining joining = {&mapping, name, (uint32_t)strlen(name), 1, window};
        breaker = fs_member_join(&joining, own, &seat, &others);
        in = breaker != NULL;
        if (in) {
            series->name = fs_member_label(breaker, "call", 4);
            fs_breaker_leave(own);
        }
    }
    fs_shared_unlock(lock);
    return in;
}

static void call(bool fails) {
    fs_change change = {0};
    fs_ns now = fs_now();
    fs_permit permit = fs_breaker_acquire(breaker, now, &change);
    if (!fs_permit_granted(permit)) return;
    fs_histogram *histogram = fs_series_stripe(series, 0);
    if (!histogram) return;
    fs_histogram_record(histogram, 1000 + (now & 0xffff), fs_stamp());
    fs_histogram_outcome(histogram, fails, false);
    change.generation = 0;
    if (fails)
        fs_breaker_failure(breaker, permit, 0, now, &change);
    else
        fs_breaker_success(breaker, permit, 0, now, &change);
}

/* What everybody has counted of a member, cell by cell. */
static fs_totals seen(const fs_shared *shared, const char *name, uint64_t *cells) {
    fs_totals totals = {0};
    if (cells) *cells = 0;
    for (const fs_member *m = fs_member_first(shared); m; m = fs_member_next(shared, m)) {
        if (m->length != strlen(name) || memcmp(m->name, name, m->length) != 0) continue;
        fs_series *sum = fs_series_take(fs_arena_private(), FS_FOREVER / 2, fs_now());
        CHECK_EQ(fs_member_observe(shared, m, FS_EVERYBODY, 0, sum, fs_now()), FS_OK);
        fs_series_ever(sum, &totals);
        uint64_t found[FS_OCTAVES * FS_CELLS];
        if (cells) *cells += fs_series_cells(sum, FS_EVER, found);
        fs_series_free(sum);
    }
    return totals;
}

/* ---- what a file must be */

static void write_at(const char *file, off_t where, const void *bytes, size_t count) {
    int fd = open(file, O_RDWR);
    CHECK(fd >= 0 && pwrite(fd, bytes, count, where) == (ssize_t)count);
    close(fd);
}

static fs_shared_status tried(const char *file, bool writes) {
    fs_mapping one;
    fs_shared_status status = fs_shared_open(&one, file, writes);
    if (status == FS_SHARED_OK) fs_shared_close(&one);
    return status;
}

static void files(void) {
    uint32_t number = 99;
    uint64_t nothing = 0;
    const char *file = fresh();
    struct stat is;
    CHECK_EQ(tried(file, false), FS_SHARED_SYSTEM);
    CHECK_EQ(errno, ENOENT); /* who only looks makes none */
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK(stat(file, &is) == 0 && (is.st_mode & 0777) == 0600);
    CHECK((size_t)is.st_blocks * 512 < (size_t)2 << 20); /* sparse */
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK_EQ(tried(file, false), FS_SHARED_OK);
    write_at(file, offsetof(fs_shared, version), &number, sizeof number);
    CHECK_EQ(tried(file, true), FS_SHARED_VERSION_DIFFERS);
    number = FS_SHARED_VERSION;
    write_at(file, offsetof(fs_shared, version), &number, sizeof number);
    number = 1;
    write_at(file, offsetof(fs_shared, layout), &number, sizeof number);
    CHECK_EQ(tried(file, true), FS_SHARED_LAYOUT_DIFFERS);

    file = fresh();
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK(truncate(file, 4096) == 0);
    CHECK_EQ(tried(file, true), FS_SHARED_GARBAGE);

    file = fresh();
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK(chmod(file, 0666) == 0);
    CHECK_EQ(tried(file, true), FS_SHARED_OWNER);

    file = fresh(); /* whoever made it died before it was made */
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    write_at(file, 0, &nothing, sizeof nothing);
    CHECK_EQ(tried(file, false), FS_SHARED_GARBAGE);
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK_EQ(tried(file, false), FS_SHARED_OK);

    file = fresh(); /* of an earlier boot of the host */
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    write_at(file, offsetof(fs_shared, boot), &nothing, sizeof nothing);
    CHECK_EQ(tried(file, true), FS_SHARED_OK);

    /* Another host's, where a file system is shared, looks like that: it is not written over under who has it mapped. */
    file = fresh();
    fs_mapping held;
    struct stat anew;
    uint64_t elsewhere = 1;
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK_EQ(fs_shared_open(&held, file, false), FS_SHARED_OK);
    CHECK_EQ(stat(file, &is), 0);
    write_at(file, offsetof(fs_shared, boot), &elsewhere, sizeof elsewhere);
    CHECK_EQ(tried(file, false), FS_SHARED_SYSTEM);
    CHECK_EQ(errno, ESTALE);
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK_EQ(tried(file, false), FS_SHARED_OK);
    CHECK(stat(file, &anew) == 0 && anew.st_ino != is.st_ino);
    CHECK_EQ(held.shared->boot[0], elsewhere);
    fs_shared_close(&held);

    file = fresh(); /* of a process that could not tell the boot: it may well be of this one, and in use */
    uint64_t unknown[2] = {0, 0};
    CHECK_EQ(tried(file, true), FS_SHARED_OK);
    CHECK_EQ(stat(file, &is), 0);
    write_at(file, offsetof(fs_shared, boot), unknown, sizeof unknown);
    CHECK_EQ(tried(file, true), FS_SHARED_SYSTEM);
    CHECK_EQ(errno, ESTALE);
    CHECK(stat(file, &anew) == 0 && anew.st_ino == is.st_ino && anew.st_blocks == is.st_blocks);

    file = fresh();
    int fd = open(file, O_CREAT | O_RDWR, 0600);
    CHECK(write(fd, "hello, I am no arena", 20) == 20);
    close(fd);
    CHECK_EQ(tried(file, true), FS_SHARED_GARBAGE);

    char other[160];
    snprintf(other, sizeof other, "%s", fresh());
    file = fresh();
    CHECK_EQ(tried(other, true), FS_SHARED_OK);
    CHECK(symlink(other, file) == 0);
    CHECK_EQ(tried(file, true), FS_SHARED_SYSTEM);
    CHECK_EQ(errno, ELOOP);
    CHECK_EQ(tried(folder, true), FS_SHARED_SYSTEM);
}

static void fills(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    for (int i = 0; i < 100; i++) call(false);
}

/* Whoever writes random words into a file harms nobody who looks at it. */
static void garbage(void) {
    fs_mapping looking;
    CHECK_EQ(fs_shared_open(&looking, path, false), FS_SHARED_OK);
    int fd = open(path, O_RDWR);
    uint64_t state = 1;
    struct { size_t at, bytes; } parts[] = {
        {FS_SHARED_HEADER, 64 << 10}, {FS_SLOTS_AT, 64 << 10},
        {offsetof(fs_shared, departed), sizeof(fs_shared) - offsetof(fs_shared, departed)},
    };
    for (int round = 0; round < (deep ? 1000000 : 3000); round++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t part = (state >> 33) % 3, at = parts[part].at + (state >> 20) % parts[part].bytes / 4 * 4;
        uint32_t word = state & 1 ? (uint32_t)(state >> 32) : (uint32_t)(state >> 50);
        if (at + 4 > offsetof(fs_shared, process) && at < sizeof(fs_shared) &&
            (at - offsetof(fs_shared, process)) % FS_LINE / 4 == offsetof(fs_process, reserved) / 4)
            continue; /* says where there is space: believing that is what keeps from signals */
        if (at >= offsetof(fs_shared, departed) && at < offsetof(fs_shared, members)) continue; /* likewise */
        CHECK(pwrite(fd, &word, 4, (off_t)at) == 4);
        (void)seen(looking.shared, "binance", NULL);
        int steps = 0;
        for (const fs_member *m = fs_member_first(looking.shared); m && steps < 1000; m = fs_member_next(looking.shared, m), steps++) {
            fs_breaker_status status;
            const fs_breaker *b = fs_member_breaker(looking.shared, m);
            if (b) fs_breaker_read(b, fs_now(), &status);
        }
    }
    close(fd);
    printf("score: random words in the file crash nobody who reads it from outside | crashes | 0 | %d words\n", deep ? 1000000 : 3000);
    fflush(NULL);
}

/* A directory that leads back to itself holds nobody up, not even under the lock. */
static void leads_nowhere(void) {
    fs_breaker_config config = settings();
    fs_shared_status why;
    CHECK(enter(path, "binance", &config));
    fs_member *member = fs_member_of(breaker);
    fs_label *label = (fs_label *)(uintptr_t)fs_label_first(mapping.shared, member);
    member->next = member->block.line;
    label->next = label->block.line;
    alarm(20);
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    CHECK_EQ(fs_member_label(breaker, "another", 7), 0);
    fs_members_vacate(mapping.shared, 5);
    fs_shared_unlock(lock);
    pid_t dies = child(fills); /* counts, and is buried by whoever comes next */
    CHECK(waitpid(dies, NULL, 0) == dies);
    lock = fs_shared_lock(&mapping, PATIENCE, &why);
    fs_shared_bury(&mapping);
    fs_shared_unlock(lock);
}

/* ---- who sees what of whom */

static int *stage;

static void wait_for(int wanted) {
    for (int i = 0; i < 20000 && fs_load_acquire(stage) < wanted; i++) nanosleep(&(struct timespec){0, 1000000}, NULL);
    CHECK(fs_load_acquire(stage) >= wanted);
}

static void trips(void) {
    fs_breaker_config config = settings();
    config.reset_timeout = config.reset_most = FS_NS_PER_SECOND * 1000;
    CHECK(enter(path, "binance", &config));
    for (int i = 0; i < 7; i++) call(false);
    fs_store_release(stage, 1);
    wait_for(2);
    for (int i = 0; i < 5; i++) call(true);
    CHECK_EQ(fs_gate_state(fs_breaker_gate(breaker)), FS_OPEN);
    fs_store_release(stage, 3);
    wait_for(4);
}

static void looks(void) {
    fs_breaker_config config = settings();
    config.reset_timeout = config.reset_most = FS_NS_PER_SECOND * 1000;
    wait_for(1);
    fs_breaker_config other = config;
    other.failure_threshold = 6;
    CHECK(enter(path, "binance", &config));
    for (int i = 0; i < 3; i++) call(false);
    CHECK_EQ(seen(mapping.shared, "binance", NULL).calls, 10);
    fs_change change = {0};
    fs_store_release(stage, 2);
    wait_for(3);
    CHECK_EQ(fs_breaker_acquire(breaker, fs_now(), &change), 0); /* the very next call */
    fs_breaker_status status;
    fs_breaker_read(breaker, fs_now(), &status);
    CHECK_EQ(status.totals.calls, 15);
    CHECK_EQ(status.totals.failures, 5);
    /* Who disagrees has a breaker of his own, and is told. */
    fs_shared_status why;
    fs_seat *another;
    uint32_t others = 0;
    fs_breaker *different = fs_breaker_take(fs_arena_private(), &other, fs_now());
    fs_joining joining = {&mapping, "binance", 7, 1, WINDOW};
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    fs_breaker *got = fs_member_join(&joining, different, &another, &others);
    fs_shared_unlock(lock);
    CHECK(got && got != breaker);
    CHECK_EQ(others, 2);
    CHECK_EQ(fs_gate_state(fs_breaker_gate(got)), FS_CLOSED_STATE);
    fs_store_release(stage, 4);
}

static void two_processes(void) {
    fresh();
    *stage = 0;
    pid_t one = child(trips), two = child(looks);
    ends_well(one);
    ends_well(two);
    /* Both are gone; what they have seen and done is not. */
    fs_mapping after;
    CHECK_EQ(fs_shared_open(&after, path, true), FS_SHARED_OK);
    CHECK_EQ(seen(after.shared, "binance", NULL).calls, 15);
    fs_shared_status why;
    int lock = fs_shared_lock(&after, PATIENCE, &why);
    CHECK_EQ(fs_shared_bury(&after), 0);
    fs_shared_unlock(lock);
    uint64_t cells;
    CHECK_EQ(seen(after.shared, "binance", &cells).calls, 15);
    CHECK_EQ(cells, 15);
    for (uint32_t slot = 0; slot < FS_PROCESSES; slot++)
        CHECK_EQ(fs_tenure_of(after.shared->process[slot].tenure), FS_TENURE_FREE);
    fs_shared_close(&after);
}

/* A breaker that opened stays open for who comes after all are gone, until when it would have. */
static void comes_after(void) {
    fs_breaker_config config = settings();
    config.reset_timeout = config.reset_most = FS_NS_PER_SECOND * 1000;
    CHECK(enter(path, "binance", &config));
    CHECK_EQ(fs_gate_state(fs_breaker_gate(breaker)), FS_OPEN);
    fs_ns left = fs_breaker_retry_after(breaker, fs_now());
    CHECK(left > FS_NS_PER_SECOND * 900 && left < FS_NS_PER_SECOND * 1000);
}

/* Who has left may still run for long, and writes nothing where another has come. */
static void leaves_early(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    for (int i = 0; i < 4; i++) call(false);
    fs_shared_part(&mapping);
    fs_store_release(stage, 1);
    wait_for(2);
    for (int i = 0; i < 100; i++) call(false);
    fs_arena_free(&fs_series_take(fs_arena_private(), WINDOW, fs_now())->block);
    fs_store_release(stage, 3);
}

static void takes_its_place(void) {
    fs_breaker_config config = settings();
    wait_for(1);
    CHECK(enter(path, "binance", &config));
    CHECK_EQ(mapping.slot, 0);
    for (int i = 0; i < 7; i++) call(false);
    uint32_t used = fs_arena_private()->used;
    fs_store_release(stage, 2);
    wait_for(3);
    CHECK_EQ(seen(mapping.shared, "binance", NULL).calls, 11);
    CHECK(fs_arena_private()->used >= used);
}

static void parts(void) {
    fresh();
    *stage = 0;
    pid_t one = child(leaves_early), two = child(takes_its_place);
    ends_well(one);
    ends_well(two);
}

/* A parent goes on as soon as it has forked. What it frees and uses again then is still the child's, as it was. */
static void forks_and_goes_on(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    enum { LARGE = 60000, LARGE_BLOCKS = 800, PLACES = 200 };
    for (int i = 0; i < LARGE_BLOCKS; i++) {
        fs_block *large = fs_arena_alloc(fs_arena_private(), LARGE); /* so much that a copy takes a while */
        if (!CHECK(large != NULL)) return;
        memset((char *)large + sizeof *large, 1, 8);
    }
    fs_block *block = fs_arena_alloc(fs_arena_private(), PLACES);
    uint32_t generation = block->generation;
    memset((char *)block + sizeof *block, 7, PLACES - sizeof *block);
    fs_store_release(stage, 0);
    pid_t pid = fork_bound();
    if (pid == 0) {
        CHECK_EQ(block->generation, generation);
        for (size_t i = sizeof *block; i < PLACES; i++) CHECK_EQ(((char *)block)[i], 7);
        _exit(check_failed != 0);
    }
    fs_arena_free(block);
    memset((char *)fs_arena_alloc(fs_arena_private(), PLACES) + sizeof *block, 9, PLACES - sizeof *block);
    ends_well(pid);
}

/* A child has its parent's faults, though the parent stops them before the child has a seat. */
static void forks_amid_chaos(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    fs_member_chaos(&mapping, breaker, seat, true);
    fs_store_release(stage, 0);
    pid_t pid = fork_bound();
    if (pid == 0) {
        fs_shared_status why;
        wait_for(1);
        CHECK(!(fs_breaker_gate(breaker) & FS_GATE_CHAOS));
        int lock = fs_shared_lock(&mapping, PATIENCE, &why);
        CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
        fs_member_sit(&mapping, breaker, seat, fs_now());
        fs_shared_unlock(lock);
        CHECK(fs_breaker_gate(breaker) & FS_GATE_CHAOS);
        raise(SIGKILL);
    }
    fs_member_chaos(&mapping, breaker, seat, false);
    fs_store_release(stage, 1);
    CHECK(waitpid(pid, NULL, 0) == pid);
    fs_shared_status why;
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    CHECK(fs_breaker_gate(breaker) & FS_GATE_CHAOS);
    CHECK_EQ(fs_shared_bury(&mapping), 0); /* with the child its mark goes */
    CHECK(!(fs_breaker_gate(breaker) & FS_GATE_CHAOS));
    fs_shared_unlock(lock);
}

/* Names that come and go do not fill the arena of the departed: it has room for those that are gone from the directory. */
#define NAMES 2100

static void has_many(void) {
    fs_breaker_config config = settings();
    fs_shared_status why;
    CHECK(enter(path, "first", &config));
    int lock = fs_shared_lock(&mapping, PATIENCE, &why);
    for (int i = 0; i < NAMES; i++) {
        char name[32];
        uint32_t others, length = (uint32_t)snprintf(name, sizeof name, "key-%d-%d", (int)getpid(), i);
        fs_seat *its;
        fs_breaker *one = fs_breaker_take(fs_arena_private(), &config, fs_now());
        fs_series *counts = fs_series_take(fs_arena_private(), WINDOW, fs_now());
        fs_breaker_adopt(one, counts);
        fs_histogram_record(fs_series_stripe(counts, 0), 1000, fs_stamp());
        fs_joining joining = {&mapping, name, length, 1, WINDOW};
        CHECK(fs_member_join(&joining, one, &its, &others) != NULL);
    }
    fs_shared_unlock(lock);
    for (int i = 0; i < 10; i++) call(false);
}

static uint32_t departed_lines(void) {
    fs_mapping after;
    fs_shared_status why;
    CHECK_EQ(fs_shared_open(&after, path, true), FS_SHARED_OK);
    int lock = fs_shared_lock(&after, PATIENCE, &why);
    CHECK_EQ(fs_shared_bury(&after), 0);
    fs_shared_unlock(lock);
    const fs_arena *departed = fs_shared_departed(after.shared, fs_departed_side(after.shared->departed));
    uint32_t lines = departed->used - departed->free_lines;
    fs_shared_close(&after);
    return lines;
}

static void names_come_and_go(void) {
    fresh();
    ends_well(child(has_many));
    uint32_t once = departed_lines();
    ends_well(child(has_many));
    CHECK(departed_lines() < once * 3 / 2);
    fs_mapping after;
    CHECK_EQ(fs_shared_open(&after, path, false), FS_SHARED_OK);
    CHECK_EQ(seen(after.shared, "first", NULL).calls, 20);
    fs_shared_close(&after);
}

/* What a child records that has no slot is nobody's. */
static void calls_alone(void) {
    CHECK(fs_shared_orphaned(&mapping));
    fs_histogram *histogram = fs_series_stripe(series, 0);
    for (int i = 0; histogram && i < 9; i++) fs_histogram_record(histogram, 1000, fs_stamp());
}

static void forks(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    for (int i = 0; i < 50; i++) call(false);
    pid_t pid = fork_bound();
    if (pid == 0) {
        CHECK(fs_shared_orphaned(&mapping));
        for (int i = 0; i < 9; i++) call(false); /* before it has a slot: nobody's */
        fs_shared_status why;
        int lock = fs_shared_lock(&mapping, PATIENCE, &why);
        CHECK_EQ(fs_shared_claim(&mapping), FS_SHARED_OK);
        fs_member_sit(&mapping, breaker, seat, fs_now());
        fs_shared_unlock(lock);
        CHECK(!fs_shared_orphaned(&mapping));
        for (int i = 0; i < 5; i++) call(false);
        _exit(check_failed != 0);
    }
    ends_well(pid);
    CHECK_EQ(seen(mapping.shared, "binance", NULL).calls, 55);
    fs_totals mine = {0};
    fs_series_ever(series, &mine);
    CHECK_EQ(mine.calls, 50);
}

/* Fork when a process has just moved its arena into its slot: no other thread could at a worse moment. */
static bool fork_at_move;
static pid_t forked_at_move;

int munmap(void *memory, size_t bytes) {
    if (fork_at_move && bytes == FS_SLOT_BYTES) {
        fork_at_move = false;
        forked_at_move = child(calls_alone);
    }
    return (int)syscall(SYS_munmap, memory, bytes);
}

static void forks_while_it_moves(void) {
    fs_breaker_config config = settings();
    fork_at_move = true;
    CHECK(enter(path, "binance", &config));
    CHECK(!fork_at_move);
    ends_well(forked_at_move);
    for (int i = 0; i < 5; i++) call(false);
    CHECK_EQ(seen(mapping.shared, "binance", NULL).calls, 5);
}

/* ---- killed anywhere */

static uint64_t *recorded; /* by each child that there ever was */
static uint64_t turn_of;

static void works(void) {
    fs_breaker_config config = settings();
    uint64_t *mine = &recorded[turn_of], n = turn_of;
    if (!enter(path, "binance", &config)) _exit(3);
    for (;;) {
        fs_change change = {0};
        fs_ns now = fs_now();
        fs_permit permit = fs_breaker_acquire(breaker, now, &change);
        fs_histogram *histogram = fs_series_stripe(series, 0);
        if (!histogram) _exit(4);
        n = n * UINT64_C(6364136223846793005) + 1;
        fs_histogram_record(histogram, 1000 + (n >> 40 & 0xfffff), fs_stamp());
        fs_store_release(mine, *mine + 1);
        if (!fs_permit_granted(permit)) continue;
        change.generation = 0;
        if (n >> 60 == 0)
            fs_breaker_failure(breaker, permit, 0, now, &change);
        else
            fs_breaker_success(breaker, permit, 0, now, &change);
        if (n >> 52 == 7) fs_breaker_force(breaker, FS_CLOSED_STATE, now, &change);
    }
}

static void kills(uint64_t most) {
    fresh();
    window = SHORT;
    pid_t alive[CHILDREN];
    uint64_t started = 0, broken = 0, lost = 0;
    fs_ns slowest = 0;
    uint64_t seed = 7;
    for (int i = 0; i < CHILDREN; i++) {
        turn_of = started++;
        alive[i] = child(works);
    }
    while (!tried(path, false)) break;
    fs_mapping keeper;
    CHECK_EQ(fs_shared_open(&keeper, path, true), FS_SHARED_OK);
    for (uint64_t killed = 0; killed < most; killed++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        nanosleep(&(struct timespec){0, (long)(seed >> 45) % 400000}, NULL);
        uint32_t which = (uint32_t)(seed >> 33) % CHILDREN;
        kill(alive[which], SIGKILL);
        int status;
        waitpid(alive[which], &status, 0);
        broken += WIFEXITED(status) && WEXITSTATUS(status) != 0; /* it could not come in, or found no room */
        if (killed % 16 == 0) {
            fs_shared_status why;
            fs_ns before = fs_now();
            int lock = fs_shared_lock(&keeper, PATIENCE, &why);
            if (lock >= 0) {
                broken += fs_shared_bury(&keeper) != 0;
                fs_shared_unlock(lock);
            }
            broken += lock < 0;
            fs_ns took = fs_now() - before;
            if (took > slowest) slowest = took;
            uint32_t members = 0;
            for (const fs_member *m = fs_member_first(keeper.shared); m; m = fs_member_next(keeper.shared, m)) {
                members++;
                broken += fs_member_breaker(keeper.shared, m) == NULL;
            }
            lost += members != 1 && killed > 64;
        }
        turn_of = started++;
        alive[which] = child(works);
    }
    for (int i = 0; i < CHILDREN; i++) {
        kill(alive[i], SIGKILL);
        waitpid(alive[i], NULL, 0);
    }
    fs_shared_status why;
    int lock = fs_shared_lock(&keeper, PATIENCE, &why);
    CHECK_EQ(fs_shared_bury(&keeper), 0);
    fs_shared_unlock(lock);
    uint64_t said = 0, cells;
    for (uint64_t i = 0; i < started; i++) said += recorded[i];
    fs_totals all = seen(keeper.shared, "binance", &cells);
    CHECK_EQ(broken, 0);
    CHECK_EQ(lost, 0);
    /* Each of the killed may have recorded one call that it had not said yet. */
    CHECK(all.calls >= said && all.calls <= said + started);
    CHECK(cells >= said && cells <= said + started);
    /* And what they have left works on. */
    const fs_breaker *left = fs_member_breaker(keeper.shared, fs_member_first(keeper.shared));
    CHECK(left != NULL);
    printf("score: a process killed between any two stores leaves a whole arena | corrupt arenas, lost breakers | %" PRIu64
           " | %" PRIu64 " kills of 8 processes, %" PRIu64 " calls, counted within %" PRIu64 "; the dead buried in %.1f ms at most\n",
           broken + lost, most, said, all.calls - said, (double)slowest / 1e6);
    fs_shared_close(&keeper);
}

static void after_kills(void) {
    fs_breaker_config config = settings();
    CHECK(enter(path, "binance", &config));
    fs_ns end = fs_now() + 5 * FS_NS_PER_SECOND;
    while (fs_gate_state(fs_breaker_gate(breaker)) != FS_CLOSED_STATE && fs_now() < end) call(false);
    CHECK_EQ(fs_gate_state(fs_breaker_gate(breaker)), FS_CLOSED_STATE);
}

int main(int count, char **arguments) {
    deep = count > 1 && strcmp(arguments[1], "deep") == 0;
    uint64_t most = deep ? KILLS_DEEP : KILLS;
    rig_folder();
    stage = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    recorded = mmap(NULL, (most + 64) * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    files();
    two_processes();
    ends_well(child(comes_after));
    parts();
    names_come_and_go();
    fresh();
    ends_well(child(forks_and_goes_on));
    fresh();
    ends_well(child(forks_amid_chaos));
    fresh();
    ends_well(child(forks));
    fresh();
    ends_well(child(forks_while_it_moves));
    fresh();
    ends_well(child(fills));
    ends_well(child(garbage));
    fresh();
    ends_well(child(leads_nowhere));
    if (count > 1 && !deep) return check_report();
    kills(most);
    ends_well(child(after_kills));
    return check_report();
}
