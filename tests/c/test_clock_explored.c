/* The real check of the counter, all interleavings: of several who find that it has jumped one counts it, and the scale is
 * made by one at a time. */
#define _GNU_SOURCE /* CLOCK_MONOTONIC */
#include "explorer.h"

/* Clocks that stand still, the counter ahead of the kernel's by a jump. */
static unsigned long long counted(void);
#include "failsoft/clock.h"
#define fs_counter counted
static int kernel_time(int clock, struct timespec *time);
#define clock_gettime kernel_time
#include "../../csrc/clock.c"
#undef clock_gettime
#undef fs_counter

static uint64_t kernel, ahead;
static bool jumped;
#define JUMP (UINT64_C(1) << 40)
#define A_LITTLE UINT64_C(1000) /* ns in a second: clocks drift by more */
static struct { uint64_t none; } past;

static unsigned long long counted(void) { return kernel + ahead; }

static int kernel_time(int clock, struct timespec *time) {
    (void)clock;
    time->tv_sec = (time_t)(kernel / FS_NS_PER_SECOND);
    time->tv_nsec = (long)(kernel % FS_NS_PER_SECOND);
    return 0;
}

static void body(int thread) {
    (void)thread;
    fs_clock_check();
}

static void ended(void) {
    EX_CHECK(checking == 0);
    EX_CHECK(fs_clock.anomalies == jumped);
    EX_CHECK(fs_clock.source == (jumped ? FS_CLOCK_MONOTONIC : FS_CLOCK_COUNTER));
    fs_ticks ticks = jumped ? kernel : kernel + ahead; /* since the beginning, by which the scale is made */
    EX_CHECK(fs_clock.ns_per_tick == (uint64_t)(((fs_wide)kernel << 32) / ticks));
    EX_CHECK(fs_clock.ticks_per_ns == (uint64_t)(((fs_wide)ticks << 32) / kernel));
    EX_CHECK(last.ns == (jumped ? FS_NS_PER_SECOND : kernel) && last.ticks == (jumped ? FS_NS_PER_SECOND : ticks));
}

/* From the first to the last of the words that the check goes by; what else lies between is not read by it. */
static const void *lowest(const void *a, const void *b) { return (uintptr_t)a < (uintptr_t)b ? a : b; }
static const void *highest(const void *a, const void *b) { return (uintptr_t)a > (uintptr_t)b ? a : b; }

static void explore(const char *name, uint64_t jump, int threads, bool weak, uint64_t *states) {
    kernel = 2 * FS_NS_PER_SECOND;
    ahead = jump;
    jumped = jump == JUMP;
    fs_clock = (fs_clock_state){FS_CLOCK_COUNTER, 0, FS_ONE, FS_ONE};
    first = (fs_pair){0, 0, true};
    last = (fs_pair){FS_NS_PER_SECOND, FS_NS_PER_SECOND, true};
    checking = 0;
    const void *from = lowest(&fs_clock, lowest(&checking, &last));
    const char *to = (const char *)highest(&fs_clock, highest(&checking, &last)) + sizeof fs_clock + sizeof last;
    ex_plan search = {
        .name = name, .threads = threads, .body = body, .finally = ended, .shared = (void *)(uintptr_t)from,
        .shared_bytes = (size_t)(to - (const char *)from), .beside = &past, .beside_bytes = sizeof past, .weak = weak,
    };
    ex_found found = ex_explore(&search);
    printf("%-44s %-6s %9" PRIu64 " states %8" PRIu64 " ends %9.3g schedules %4u deep\n", name, weak ? "weak" : "strict",
           found.states, found.ends, found.schedules, found.deepest);
    *states += found.states;
}

int main(void) {
    uint64_t states = 0;
    for (int weak = 0; weak < 2 && !check_failed; weak++) {
        explore("two find a jump", JUMP, 2, weak, &states);
        explore("two refine the scale", 0, 2, weak, &states);
        explore("two refine that of a fast counter", A_LITTLE, 2, weak, &states);
        explore("two refine that of a slow one", (uint64_t)0 - A_LITTLE, 2, weak, &states);
    }
    printf("score: all interleavings of the clock's check | states | %" PRIu64 " | 8 searches\n", states);
    return check_report();
}
