#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* getentropy, getpid */
#endif
#include "failsoft/rng.h"

#include <pthread.h>
#include <unistd.h>

#include "failsoft/clock.h"

uint32_t fs_rng_epoch;

static void in_child(void) { fs_add_relaxed(&fs_rng_epoch, 1); }

void fs_rng_setup(void) { pthread_atfork(NULL, NULL, in_child); }

static void fill(fs_rng *rng, uint64_t seed, uint32_t epoch) {
    for (int i = 0; i < 4; i++) rng->s[i] = fs_splitmix64(&seed);
    rng->epoch = epoch;
}

void fs_rng_seed(fs_rng *rng, uint64_t seed) { fill(rng, seed, UINT32_MAX); }

uint64_t fs_rng_entropy(void) {
    static uint64_t drawn; /* where the system gives none: two draws of one process must still differ */
    uint64_t word = 0;
    if (getentropy(&word, sizeof word) != 0) word = fs_now() ^ ((uint64_t)getpid() << 32);
    return word + fs_add_relaxed(&drawn, UINT64_C(0x9e3779b97f4a7c15));
}

void fs_rng_seed_fresh(fs_rng *rng) { fill(rng, fs_rng_entropy(), fs_load_relaxed(&fs_rng_epoch)); }
