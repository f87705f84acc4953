/* Conversions, the fake clock, and how the cycle counter is chosen, watched and left. */
#define _GNU_SOURCE /* setenv, nanosleep, clock_gettime */
#include "failsoft/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

#define TRIES 200
#define CHECK_INTERVAL 120 /* ms; fs_clock_check() compares at most ten times a second */
#define SETUPS_MOST 5
#define THREADS 4
#define PATIENCE (10 * FS_NS_PER_SECOND)

/* A stamp and the time it was taken at, from the least disturbed of many readings. */
typedef struct {
    fs_ticks stamp;
    fs_ns ns;
    fs_ns error;
} reading;

static reading read_both(void) {
    reading best = {0, 0, FS_FOREVER};
    for (int i = 0; i < TRIES; i++) {
        fs_ns before = fs_now();
        fs_ticks stamp = fs_stamp();
        fs_ns width = fs_now() - before;
        if (width < best.error) best = (reading){stamp, before + width / 2, width};
    }
    return best;
}

static void pause_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Both clocks saw the same span, but for reading errors and `ppm`. */
static void check_same_span(reading from, reading to, double ppm) {
    double wall = (double)(to.ns - from.ns);
    double told = (double)fs_ticks_to_ns(to.stamp - from.stamp);
    CHECK(fabs(told - wall) <= wall * ppm / 1e6 + (double)(from.error + to.error));
}

static void scale_multiplies_32_32(void) {
    const uint64_t one = UINT64_C(1) << 32;
    CHECK_EQ(fs_clock_scale(0, one), 0);
    CHECK_EQ(fs_clock_scale(UINT64_MAX, one), UINT64_MAX);
    CHECK_EQ(fs_clock_scale(UINT64_MAX, one / 2), UINT64_MAX / 2);
    CHECK_EQ(fs_clock_scale(1000, one / 2 * 3), 1500);
    CHECK_EQ(fs_clock_scale(UINT64_C(1) << 62, one * 3), UINT64_C(3) << 62);
    CHECK_EQ(fs_clock_scale(3, one / 2), 1); /* rounds down */
}

static void saturating_add(void) {
    CHECK_EQ(fs_ns_add(1, 2), 3);
    CHECK_EQ(fs_ns_add(FS_FOREVER, 0), FS_FOREVER);
    CHECK_EQ(fs_ns_add(FS_FOREVER, 1), FS_FOREVER);
    CHECK_EQ(fs_ns_add(1, FS_FOREVER), FS_FOREVER);
    CHECK_EQ(fs_ns_add(FS_FOREVER - 1, 1), FS_FOREVER);
    CHECK_EQ(fs_ns_add(FS_FOREVER, FS_FOREVER), FS_FOREVER);
    CHECK_EQ(fs_ns_add(UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1), FS_FOREVER);
    CHECK_EQ(fs_ns_add(UINT64_C(1) << 63, (UINT64_C(1) << 63) - 2), FS_FOREVER - 1);
}

static void now_is_clock_monotonic(void) {
    struct timespec t;
    fs_ns before = fs_now();
    clock_gettime(CLOCK_MONOTONIC, &t);
    fs_ns after = fs_now();
    fs_ns told = (fs_ns)t.tv_sec * FS_NS_PER_SECOND + (fs_ns)t.tv_nsec;
    CHECK(before <= told && told <= after);
}

static void wish_for_monotonic_is_granted(void) {
    setenv("FAILSOFT_CLOCK", "monotonic", 1);
    fs_clock_setup();
    unsetenv("FAILSOFT_CLOCK");
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
    CHECK_EQ(fs_ticks_to_ns(12345), 12345);
    CHECK_EQ(fs_ns_to_ticks(12345), 12345);
    fs_ns before = fs_now();
    fs_ticks stamp = fs_stamp();
    CHECK(before <= stamp && stamp <= fs_now());
    pause_ms(CHECK_INTERVAL);
    fs_clock_check();
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
    CHECK_EQ(fs_clock.anomalies, 0);
}

static void conversions_are_inverse(void) {
    for (uint64_t ns = 1; ns < UINT64_C(1) << 58; ns = ns * 3 + 1) {
        double back = (double)fs_ticks_to_ns(fs_ns_to_ticks(ns));
        CHECK(fabs(back - (double)ns) <= (double)ns * 1e-8 + 100);
    }
}

static void fake_clock_stands_and_goes_where_told(void) {
    const fs_clock_state real = fs_clock;
    fs_ns before = fs_now();
    fs_clock_fake(true);
    CHECK_EQ(fs_clock.source, FS_CLOCK_FAKE);
    fs_ns start = fs_now();
    CHECK(start >= before); /* it starts from the real time */
    pause_ms(2);
    CHECK_EQ(fs_now(), start);
    CHECK_EQ(fs_ticks_to_ns(777), 777);
    CHECK_EQ(fs_ns_to_ticks(777), 777);

    fs_ticks stamp = fs_stamp();
    fs_clock_fake_set(start + 5 * FS_NS_PER_SECOND);
    CHECK_EQ(fs_now(), start + 5 * FS_NS_PER_SECOND);
    CHECK_EQ(fs_stamp() - stamp, 5 * FS_NS_PER_SECOND);
    fs_clock_fake(true); /* again: nothing happens */
    CHECK_EQ(fs_now(), start + 5 * FS_NS_PER_SECOND);
    fs_clock_check(); /* there is no counter to leave */
    CHECK_EQ(fs_clock.source, FS_CLOCK_FAKE);

    fs_clock_fake(false);
    CHECK_EQ(fs_clock.source, real.source);
    CHECK_EQ(fs_clock.ns_per_tick, real.ns_per_tick);
    CHECK_EQ(fs_clock.ticks_per_ns, real.ticks_per_ns);
    CHECK(fs_now() >= before && fs_now() < start + 5 * FS_NS_PER_SECOND); /* the real time again */
    fs_clock_fake(false);
    CHECK_EQ(fs_clock.source, real.source);
}

/* A calibration on a busy host may be poor enough that the first check leaves the counter, as it should. */
static bool counter_settles(void) {
    for (int i = 0; i < SETUPS_MOST; i++) {
        fs_clock_setup();
        if (fs_clock.source != FS_CLOCK_COUNTER) return false;
        pause_ms(CHECK_INTERVAL);
        fs_clock_check();
        if (fs_clock.source == FS_CLOCK_COUNTER) return true;
        fprintf(stderr, "the calibration was disturbed, once more\n");
    }
    return CHECK(!"a counter that stays");
}

#if defined(__x86_64__)
static bool kernel_keeps_time_by(const char *name) {
    char line[32] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (!file) return false;
    bool same = fgets(line, sizeof line, file) && strncmp(line, name, strlen(name)) == 0;
    fclose(file);
    return same;
}
#endif

static void counter_tells_the_time(void) {
    uint32_t anomalies = fs_clock.anomalies;
    uint64_t rough = fs_clock.ns_per_tick;
    reading from = read_both();
    fs_ns end = fs_now() + PATIENCE;
    /* A disturbed look refines nothing, and on a busy host several in a row are. */
    for (int i = 0; i < 3 || (fs_clock.ns_per_tick == rough && fs_now() < end); i++) {
        pause_ms(CHECK_INTERVAL);
        fs_clock_check();
    }
    check_same_span(from, read_both(), FS_CLOCK_TOLERANCE_PPM);
    CHECK_EQ(fs_clock.source, FS_CLOCK_COUNTER);
    CHECK_EQ(fs_clock.anomalies, anomalies);
    CHECK(fs_clock.ns_per_tick != rough); /* a longer span tells the scale better */
}

static void a_jump_abandons_the_counter(int64_t ticks) {
    uint32_t anomalies = fs_clock.anomalies;
    fs_clock_skew(ticks);
    fs_clock_check(); /* too soon after the last comparison */
    pause_ms(CHECK_INTERVAL);
    reading before = read_both();
    /* A disturbed look does not count. */
    for (int i = 0; i < 20 && fs_clock.source == FS_CLOCK_COUNTER; i++) fs_clock_check();
    reading after = read_both();
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
    CHECK_EQ(fs_clock.anomalies, anomalies + 1);
    check_same_span(before, after, FS_CLOCK_TOLERANCE_PPM);

    /* Stamps never run backwards over the change, and keep their scale after it. */
    CHECK(after.stamp > before.stamp);
    pause_ms(20);
    reading later = read_both();
    check_same_span(after, later, FS_CLOCK_TOLERANCE_PPM);
    check_same_span(before, later, FS_CLOCK_TOLERANCE_PPM);

    /* For good: a counter that behaves again is not trusted again. */
    fs_clock_skew(0);
    pause_ms(CHECK_INTERVAL);
    fs_clock_check();
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
    CHECK_EQ(fs_clock.anomalies, anomalies + 1);
    check_same_span(before, read_both(), FS_CLOCK_TOLERANCE_PPM);

    fs_clock_settle(); /* as when a package is imported anew */
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);

    /* The fake clock comes and goes without bringing it back. */
    fs_clock_fake(true);
    fs_clock_fake(false);
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
}

static void *stamping(void *unused) {
    (void)unused;
    fs_ns end = fs_now() + PATIENCE;
    fs_ticks before = fs_stamp();
    while (fs_load_relaxed(&fs_clock.source) == FS_CLOCK_COUNTER && fs_now() < end) {
        fs_clock_check();
        fs_ticks stamp = fs_stamp();
        /* A change of source may put it back by what the two clocks are allowed to drift between two checks. */
        CHECK(fs_ticks_to_ns(stamp + fs_ns_to_ticks(1000000) - before) < FS_NS_PER_SECOND);
        before = stamp;
    }
    return NULL;
}

/* Threads that check and stamp at once, while the counter is found to have jumped. */
static void threads_go_over_the_change_together(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, stamping, NULL) == 0);
    pause_ms(CHECK_INTERVAL * 3 / 2);
    fs_clock_skew(INT64_C(1) << 33);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(fs_clock.source, FS_CLOCK_MONOTONIC);
    fs_clock_skew(0);
}

int main(void) {
    scale_multiplies_32_32();
    saturating_add();
    now_is_clock_monotonic();
    wish_for_monotonic_is_granted();
    conversions_are_inverse();
    fake_clock_stands_and_goes_where_told();
    bool settles = counter_settles();
#if defined(__x86_64__)
    CHECK(settles || !kernel_keeps_time_by("tsc"));
#endif
    if (!settles) {
        fprintf(stderr, "no counter that the kernel trusts here: its tests are left out\n");
        return check_report();
    }
    conversions_are_inverse();
    fake_clock_stands_and_goes_where_told();
    counter_tells_the_time();
    a_jump_abandons_the_counter(INT64_C(1) << 33);
    if (counter_settles()) a_jump_abandons_the_counter(-(INT64_C(1) << 33));
    if (counter_settles()) threads_go_over_the_change_together();
    return check_report();
}
