/* rng.h - random numbers for jitter.
 *
 * What:    xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2019), seeded through
 *          splitmix64, which cannot produce its one forbidden all-zero state. Not for secrets.
 * States:  four words. `epoch` remembers the fork it was seeded in: processes that share a stream would retry in step.
 * Units:   fs_rng_unit() is a double in [0, 1) from the top 53 bits.
 * Threads: a state has one user at a time.
 * Errors:  none.
 */
#ifndef FAILSOFT_RNG_H
#define FAILSOFT_RNG_H

#include "failsoft/atomics.h"

typedef struct {
    uint64_t s[4];
    uint32_t epoch;   /* fs_rng_epoch at seeding; UINT32_MAX: a given seed, never reseeded */
} fs_rng;

/* Forks this process has behind it since it was loaded. */
extern uint32_t fs_rng_epoch;

static inline uint64_t fs_splitmix64(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t fs_rotate_left(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

static inline uint64_t fs_rng_next(fs_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = fs_rotate_left(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = fs_rotate_left(s[3], 45);
    return result;
}

static inline double fs_rng_unit(fs_rng *rng) { return (double)(fs_rng_next(rng) >> 11) * 0x1.0p-53; }

/* Watch for forks. Call once. */
void fs_rng_setup(void);

/* A reproducible stream. */
void fs_rng_seed(fs_rng *rng, uint64_t seed);

/* A stream of its own for this process, from the system's entropy. */
void fs_rng_seed_fresh(fs_rng *rng);

/* A word of the system's entropy. */
uint64_t fs_rng_entropy(void);

/* Give the child of a fork a stream of its own; streams with a given seed stay as they are. */
static inline void fs_rng_refresh(fs_rng *rng) {
    if (FS_UNLIKELY(rng->epoch != fs_load_relaxed(&fs_rng_epoch)) && rng->epoch != UINT32_MAX) fs_rng_seed_fresh(rng);
}

#endif
