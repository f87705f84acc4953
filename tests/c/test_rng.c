/* The generators against vectors from an independent implementation, their range, and streams across a fork. */
#define _GNU_SOURCE /* fork, pipe */
#include "failsoft/rng.h"

#include "failsoft/clock.h"

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define DRAWS 200000
#define BINS 64

static void splitmix64_vectors(void) {
    static const uint64_t seeds[] = {0, 1234567, UINT64_MAX};
    static const uint64_t wanted[][4] = {
        {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec},
        {0x599ed017fb08fc85, 0x2c73f08458540fa5, 0x883ebce5a3f27c77, 0x3fbef740e9177b3f},
        {0xe4d971771b652c20, 0xe99ff867dbf682c9, 0x382ff84cb27281e9, 0x6d1db36ccba982d2},
    };
    for (int s = 0; s < 3; s++) {
        uint64_t state = seeds[s];
        for (int i = 0; i < 4; i++) CHECK_EQ(fs_splitmix64(&state), wanted[s][i]);
    }
}

static void xoshiro_vectors(void) {
    static const uint64_t counting[] = {
        41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205u,
        9973669472204895162u, 14011001112246962877u, 12406186145184390807u, 15849039046786891736u,
        10450023813501588000u,
    };
    fs_rng rng = {{1, 2, 3, 4}, UINT32_MAX};
    for (int i = 0; i < 10; i++) CHECK_EQ(fs_rng_next(&rng), counting[i]);

    static const uint64_t seeded[][4] = {
        {0x53175d61490b23df, 0x61da6f3dc380d507, 0x5c0fdf91ec9a7bfc, 0x02eebf8c3bbe5e1a},
        {0xd0764d4f4476689f, 0x519e4174576f3791, 0xfbe07cfb0c24ed8c, 0xb37d9f600cd835b8},
    };
    static const uint64_t seeds[] = {0, 42};
    for (int s = 0; s < 2; s++) {
        fs_rng_seed(&rng, seeds[s]);
        for (int i = 0; i < 4; i++) CHECK_EQ(fs_rng_next(&rng), seeded[s][i]);
    }
}

static void unit_is_uniform_below_one(void) {
    fs_rng rng;
    fs_rng_seed(&rng, 7);
    double least = 1, most = 0, sum = 0, distance = 0;
    uint32_t bins[BINS] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double u = fs_rng_unit(&rng);
        least = u < least ? u : least;
        most = u > most ? u : most;
        sum += u;
        bins[(int)(u * BINS)]++;
    }
    CHECK(least >= 0.0 && least < 1e-3);
    CHECK(most < 1.0 && most > 1 - 1e-3);
    CHECK(fabs(sum / DRAWS - 0.5) < 0.005);
    for (int i = 0; i < BINS; i++) distance += pow(bins[i] - DRAWS / (double)BINS, 2) / (DRAWS / (double)BINS);
    CHECK(distance < 120); /* chi-squared, 63 degrees: beyond 1e-5 */

    /* The extremes of the word map to the ends of the range. */
    fs_rng top = {{UINT64_MAX, 0, 0, 0}, UINT32_MAX}; /* rotl(2^64-1) + 2^64-1 = 2^64-2 */
    CHECK(fs_rng_unit(&top) == 1.0 - 0x1.0p-53);
    fs_rng bottom = {{0, 5, 9, 0}, UINT32_MAX};
    CHECK(fs_rng_unit(&bottom) == 0.0);
}

static void fresh_streams_differ(void) {
    fs_rng a, b;
    fs_rng_seed_fresh(&a);
    fs_rng_seed_fresh(&b);
    CHECK(fs_rng_next(&a) != fs_rng_next(&b));
    CHECK(fs_rng_entropy() != fs_rng_entropy());
}

/* What a child draws from its copies of a fresh and a seeded stream. */
static void draw_in_child(fs_rng fresh, fs_rng seeded, uint64_t drawn[2]) {
    int ends[2];
    if (!CHECK(pipe(ends) == 0)) return;
    pid_t child = fork();
    if (child == 0) {
        fs_rng_refresh(&fresh);
        fs_rng_refresh(&seeded);
        uint64_t words[2] = {fs_rng_next(&fresh), fs_rng_next(&seeded)};
        _exit(write(ends[1], words, sizeof words) != sizeof words);
    }
    int status = 1;
    CHECK(read(ends[0], drawn, 2 * sizeof *drawn) == 2 * sizeof *drawn);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(ends[0]);
    close(ends[1]);
}

static void fork_reseeds(void) {
    fs_rng_setup();
    fs_rng fresh, seeded;
    fs_rng_seed_fresh(&fresh);
    fs_rng_seed(&seeded, 42);
    uint64_t first[2] = {0}, second[2] = {0};
    draw_in_child(fresh, seeded, first);
    draw_in_child(fresh, seeded, second);

    fs_rng before = fresh;
    fs_rng_refresh(&fresh);
    CHECK_EQ(fresh.s[0], before.s[0]); /* the parent keeps its stream */
    uint64_t own = fs_rng_next(&fresh);
    CHECK(first[0] != own && second[0] != own && first[0] != second[0]);
    uint64_t given = fs_rng_next(&seeded);
    CHECK_EQ(first[1], given);
    CHECK_EQ(second[1], given);
}

/* The system's bits, not the time: which stands here. */
static void entropy_is_the_systems(void) {
    fs_clock_fake(true);
    uint64_t before = fs_rng_entropy(), step = fs_rng_entropy() - before;
    CHECK(step != UINT64_C(0x9e3779b97f4a7c15));
    fs_clock_fake(false);
}

int main(void) {
    entropy_is_the_systems();
    splitmix64_vectors();
    xoshiro_vectors();
    unit_is_uniform_below_one();
    fresh_streams_differ();
    fork_reseeds();
    return check_report();
}
