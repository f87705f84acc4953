#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* clock_gettime under -std=c11 */
#endif
#include "failsoft/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define FS_ONE (UINT64_C(1) << 32)              /* 1.0 in 32.32 */
#define FS_FAKE_EPOCH (UINT64_C(1) << 62)       /* fake stamps lie where no real one does */
#define FS_FIRST_CALIBRATION UINT64_C(1000000)  /* 1 ms: 50 ns of reading error are 50 ppm */
#define FS_REFINE_AFTER (FS_NS_PER_SECOND / 10) /* compare clocks at most this often */
#define FS_READING_ERROR UINT64_C(2000)         /* a pair of readings further apart than 2 us was interrupted */

fs_clock_state fs_clock = {FS_CLOCK_MONOTONIC, 0, FS_ONE, FS_ONE};

typedef struct {
    fs_ticks ticks;
    fs_ns ns;
    bool good;
} fs_pair;

static fs_pair first;        /* the long baseline, for the scale */
static fs_pair last;         /* the short one, for anomalies */
static bool settled;
static uint32_t checking;
static fs_ns fake_now;
static bool fake;
static fs_clock_state real;  /* kept while the fake clock runs */
static int64_t skew;

static fs_ns monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (fs_ns)t.tv_sec * FS_NS_PER_SECOND + (fs_ns)t.tv_nsec;
}

static fs_ticks counter(void) { return fs_counter() + (fs_ticks)fs_load_relaxed(&skew); }

/* Both clocks at one instant: the reading least disturbed of a few. */
static fs_pair read_pair(void) {
    fs_pair best = {0, 0, false};
    fs_ticks narrowest = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        fs_ticks before = counter();
        fs_ns ns = monotonic();
        fs_ticks width = counter() - before;
        if (width < narrowest) {
            narrowest = width;
            best = (fs_pair){before + width / 2, ns, true};
        }
    }
    best.good = fs_ticks_to_ns(narrowest) < FS_READING_ERROR;
    return best;
}

static void set_scale(fs_ticks ticks, fs_ns ns) {
    fs_store_relaxed(&fs_clock.ns_per_tick, (uint64_t)(((fs_wide)ns << 32) / ticks));
    fs_store_relaxed(&fs_clock.ticks_per_ns, (uint64_t)(((fs_wide)ticks << 32) / ns));
}

/* The kernel keeps time with this counter, so it has found it steady. */
static bool kernel_trusts(const char *name) {
    char line[32] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (!file) return false;
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    return read && strcmp(line, name) == 0;
}

static bool counter_usable(void) {
    const char *wish = getenv("FAILSOFT_CLOCK");
    if (wish && strcmp(wish, "monotonic") == 0) return false;
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & (1u << 8))) return false; /* invariant TSC */
    return kernel_trusts("tsc");
#elif defined(__aarch64__)
    return kernel_trusts("arch_sys_counter");
#else
    return false;
#endif
}

void fs_clock_begin(void) {
    first = counter_usable() ? read_pair() : (fs_pair){0, 0, false};
    settled = false;
}

void fs_clock_settle(void) {
    if (!first.ns || settled) return; /* a counter that has been left stays left, and a fake clock fake */
    settled = true;
    while (monotonic() - first.ns < FS_FIRST_CALIBRATION) {}
    last = read_pair();
    if (last.ticks <= first.ticks) return;
    set_scale(last.ticks - first.ticks, last.ns - first.ns);
    fs_store_relaxed(&fs_clock.source, FS_CLOCK_COUNTER);
}

void fs_clock_setup(void) {
    fs_clock_begin();
    fs_clock_settle();
}

fs_ns fs_now(void) { return FS_UNLIKELY(fs_load_relaxed(&fake)) ? fs_load_relaxed(&fake_now) : monotonic(); }

fs_ticks fs_stamp_slow(void) {
    if (fs_load_relaxed(&fake)) return FS_FAKE_EPOCH + fs_load_relaxed(&fake_now);
    /* Where a counter was left behind, go on from it on its own scale. */
    return fs_load_relaxed(&last.ticks) + fs_ns_to_ticks(monotonic() - fs_load_relaxed(&last.ns));
}

void fs_clock_check(void) {
    if (fs_load_relaxed(&fs_clock.source) != FS_CLOCK_COUNTER) return;
    if (monotonic() - fs_load_relaxed(&last.ns) < FS_REFINE_AFTER) return;
    uint32_t idle = 0;
    if (!fs_cas(&checking, &idle, 1)) return;
    fs_pair here = read_pair();
    /* Another may have left the counter while this one waited for its turn, and has counted that. */
    bool kept = fs_load_relaxed(&fs_clock.source) == FS_CLOCK_COUNTER;
    if (kept && here.good && here.ns - last.ns >= FS_REFINE_AFTER) {
        fs_ns kernel = here.ns - last.ns;
        fs_ns told = fs_ticks_to_ns(here.ticks - last.ticks);
        fs_ns apart = told > kernel ? told - kernel : kernel - told;
        if (apart > kernel / 1000000 * FS_CLOCK_TOLERANCE_PPM + FS_READING_ERROR) {
            fs_store_relaxed(&fs_clock.anomalies, fs_clock.anomalies + 1); /* nobody else checks now */
            fs_store_relaxed(&fs_clock.source, FS_CLOCK_MONOTONIC);
        } else {
            fs_store_relaxed(&last.ticks, here.ticks);
            fs_store_relaxed(&last.ns, here.ns);
            set_scale(here.ticks - first.ticks, here.ns - first.ns);
        }
    }
    fs_store_release(&checking, 0);
}

void fs_clock_fake(bool on) {
    if (on == fake) return;
    if (on) {
        real = fs_clock;
        fake_now = (monotonic() / FS_NS_PER_SECOND + 1) * FS_NS_PER_SECOND; /* round, as the times of tests are */
        fs_store_relaxed(&fs_clock.ns_per_tick, FS_ONE);
        fs_store_relaxed(&fs_clock.ticks_per_ns, FS_ONE);
        fs_store_relaxed(&fs_clock.source, FS_CLOCK_FAKE);
    } else {
        fs_store_relaxed(&fs_clock.ns_per_tick, real.ns_per_tick);
        fs_store_relaxed(&fs_clock.ticks_per_ns, real.ticks_per_ns);
        fs_store_relaxed(&fs_clock.source, real.source);
    }
    fs_store_relaxed(&fake, on);
}

void fs_clock_fake_set(fs_ns now) { fs_store_relaxed(&fake_now, now); }

void fs_clock_skew(int64_t ticks) { fs_store_relaxed(&skew, ticks); }
