/* Ceilings, the four kinds of jitter, and what happens at the ends of the domain. */
#include "failsoft/backoff.h"

#include "check.h"

#define DRAWS 20000

static const fs_jitter kinds[] = {FS_JITTER_NONE, FS_JITTER_FULL, FS_JITTER_EQUAL, FS_JITTER_DECORRELATED};

static fs_backoff made(fs_ns initial, fs_ns maximum, double multiplier, fs_jitter jitter) {
    fs_backoff backoff;
    CHECK_EQ(fs_backoff_init(&backoff, initial, maximum, multiplier, jitter), FS_OK);
    return backoff;
}

static void ceilings_grow_to_the_maximum(void) {
    fs_backoff twice = made(500000000, 10000000000, 2.0, FS_JITTER_NONE);
    static const fs_ns wanted[] = {500000000, 1000000000, 2000000000, 4000000000, 8000000000, 10000000000, 10000000000};
    for (uint64_t n = 0; n < 7; n++) CHECK_EQ(fs_backoff_ceiling(&twice, n), wanted[n]);

    fs_backoff flat = made(50000000, 50000000, 1.0, FS_JITTER_NONE);
    fs_backoff slow = made(1000, FS_NS_PER_SECOND, 1.01, FS_JITTER_NONE); /* still growing past the table */
    fs_ns before = 0;
    for (uint64_t n = 0; n < 3 * FS_BACKOFF_TABLE; n++) {
        CHECK_EQ(fs_backoff_ceiling(&flat, n), 50000000);
        fs_ns ceiling = fs_backoff_ceiling(&slow, n);
        CHECK(ceiling > before);
        CHECK(fabs((double)ceiling - 1000 * pow(1.01, (double)n)) <= 1);
        before = ceiling;
    }
}

static void huge_attempts_saturate(void) {
    static const uint64_t attempts[] = {31, 32, 63, 64, 1000, UINT32_MAX, UINT64_C(1) << 53, UINT64_MAX};
    static const fs_ns maxima[] = {10000000000, UINT64_C(1) << 63, FS_FOREVER};
    for (int m = 0; m < 3; m++)
        for (int a = 0; a < 8; a++) {
            fs_backoff backoff = made(FS_NS_PER_SECOND, maxima[m], 1e6, FS_JITTER_NONE);
            CHECK_EQ(fs_backoff_ceiling(&backoff, attempts[a]), maxima[m]);
        }
    for (int k = 0; k < 4; k++) {
        fs_backoff backoff = made(1, FS_FOREVER, 1e300, kinds[k]);
        fs_rng rng;
        fs_rng_seed(&rng, 3);
        fs_ns delay = 1;
        for (int i = 0; i < 1000; i++) {
            delay = fs_backoff_delay(&backoff, UINT64_MAX, delay, &rng);
            CHECK(kinds[k] != FS_JITTER_NONE || delay == FS_FOREVER);
            CHECK(kinds[k] != FS_JITTER_EQUAL || delay >= FS_FOREVER / 2);
        }
    }
}

/* Least, most and mean of many delays of one attempt. */
typedef struct {
    double least, most, mean;
} spread;

static spread spread_of(const fs_backoff *backoff, uint64_t attempt, fs_ns previous) {
    fs_rng rng;
    fs_rng_seed(&rng, 11);
    spread s = {INFINITY, 0, 0};
    for (int i = 0; i < DRAWS; i++) {
        double delay = (double)fs_backoff_delay(backoff, attempt, previous, &rng);
        s.least = fmin(s.least, delay);
        s.most = fmax(s.most, delay);
        s.mean += delay / DRAWS;
    }
    return s;
}

/* Uniform over [low, high): inside, reaching near both ends, centred. */
static void check_uniform(spread s, double low, double high) {
    double width = high - low;
    CHECK(s.least >= low && s.least < low + 0.01 * width);
    CHECK(s.most < high && s.most > high - 0.01 * width);
    CHECK(fabs(s.mean - (low + high) / 2) < 0.01 * width);
}

static void jitter_kinds_spread_as_told(void) {
    fs_backoff none = made(1000000, 64000000, 2.0, FS_JITTER_NONE);
    spread fixed = spread_of(&none, 3, 0);
    CHECK(fixed.least == 8e6 && fixed.most == 8e6);
    fs_backoff full = made(1000000, 64000000, 2.0, FS_JITTER_FULL);
    check_uniform(spread_of(&full, 3, 0), 0, 8e6);
    check_uniform(spread_of(&full, 40, 0), 0, 64e6);
    fs_backoff equal = made(1000000, 64000000, 2.0, FS_JITTER_EQUAL);
    check_uniform(spread_of(&equal, 3, 0), 4e6, 8e6);
    fs_backoff decorrelated = made(1000000, 64000000, 2.0, FS_JITTER_DECORRELATED);
    check_uniform(spread_of(&decorrelated, 3, 0), 1e6, 3e6); /* before the first: previous is the initial delay */
    check_uniform(spread_of(&decorrelated, 3, 1000), 1e6, 3e6);
    check_uniform(spread_of(&decorrelated, 3, 10000000), 1e6, 30e6);
    spread capped = spread_of(&decorrelated, 3, 60000000);
    CHECK(capped.most == 64e6 && capped.least >= 1e6);
}

static void odd_ceilings_keep_their_range(void) {
    fs_backoff equal = made(7, 7, 1.0, FS_JITTER_EQUAL);
    fs_backoff full = made(1, 1, 1.0, FS_JITTER_FULL);
    spread s = spread_of(&equal, 0, 0);
    CHECK(s.least == 4 && s.most == 6);
    s = spread_of(&full, 0, 0);
    CHECK(s.least == 0 && s.most == 0);
}

static void zero_initial_never_waits(void) {
    for (int k = 0; k < 4; k++) {
        fs_backoff backoff = made(0, FS_NS_PER_SECOND, 2.0, kinds[k]);
        fs_rng rng;
        fs_rng_seed(&rng, 5);
        for (uint64_t n = 0; n < 100; n++) CHECK_EQ(fs_backoff_delay(&backoff, n, 0, &rng), 0);
        CHECK_EQ(fs_backoff_delay(&backoff, UINT64_MAX, 0, &rng), 0);
    }
}

static void streams_reproduce(void) {
    for (int k = 0; k < 4; k++) {
        fs_backoff backoff = made(1000, FS_NS_PER_SECOND, 2.0, kinds[k]);
        fs_rng one, two;
        fs_rng_seed(&one, 99);
        fs_rng_seed(&two, 99);
        fs_ns previous = 0;
        for (uint64_t n = 0; n < 50; n++) {
            fs_ns delay = fs_backoff_delay(&backoff, n, previous, &one);
            CHECK_EQ(fs_backoff_delay(&backoff, n, previous, &two), delay);
            CHECK(delay <= FS_NS_PER_SECOND);
            previous = delay;
        }
    }
}

static void outside_the_domain(void) {
    fs_backoff kept = made(5, 10, 2.0, FS_JITTER_NONE);
    CHECK_EQ(fs_backoff_init(&kept, 11, 10, 2.0, FS_JITTER_NONE), FS_INVALID);
    CHECK_EQ(fs_backoff_init(&kept, 1, 10, 0.999, FS_JITTER_NONE), FS_INVALID);
    CHECK_EQ(fs_backoff_init(&kept, 1, 10, -1.0, FS_JITTER_NONE), FS_INVALID);
    CHECK_EQ(fs_backoff_init(&kept, 1, 10, (double)NAN, FS_JITTER_NONE), FS_INVALID);
    CHECK_EQ(fs_backoff_init(&kept, 1, 10, (double)INFINITY, FS_JITTER_NONE), FS_INVALID);
    CHECK_EQ(kept.initial, 5); /* a refused setup changes nothing */
    CHECK_EQ(fs_backoff_ceiling(&kept, 0), 5);
    CHECK_EQ(fs_backoff_init(&kept, 0, 0, 1.0, FS_JITTER_FULL), FS_OK);
}

int main(void) {
    ceilings_grow_to_the_maximum();
    huge_attempts_saturate();
    jitter_kinds_spread_as_told();
    odd_ceilings_keep_their_range();
    zero_initial_never_waits();
    streams_reproduce();
    outside_the_domain();
    return check_report();
}
