/* degraded.h - letting only a share of the calls go, exactly.
 *
 * What:    error diffusion. A dial adds up the share once for each call, and a call goes when the sum passes a whole
 *          number: at a share of 3/4 three calls go and one does not, over and over. No dice, so any n calls in a row
 *          let floor(n * share) or one more of them go, and a load test of a half shows a half.
 *
 *              share 3/4:   0.99  ->  1.74  ->  2.49  ->  3.24  ->  3.99  ->  4.74
 *                                  go       go       go       no       go
 *
 * States:  none but the sum. Shares may change from call to call (a ramp): the sum carries on.
 * Units:   shares in 2^-32 of all calls. All of them (FS_ALL) does not fit a share: who lets all go asks no dial.
 * Threads: one atomic addition decides, so the calls of many threads share one exact count.
 * Errors:  none.
 */
#ifndef FAILSOFT_DEGRADED_H
#define FAILSOFT_DEGRADED_H

#include "failsoft/atomics.h"

#define FS_ALL (UINT64_C(1) << 32)

/* Where a dial starts: the first call goes, unless the share is nothing. */
#define FS_DIAL_START UINT64_C(0xffffffff)

/* A capacity from 0 to 1 as a share. The least above nothing is one call in four billion. */
static inline uint64_t fs_share_of(double capacity) {
    if (!(capacity > 0.0)) return 0;
    if (capacity >= 1.0) return FS_ALL;
    uint64_t share = (uint64_t)(capacity * (double)FS_ALL);
    return share ? share : 1;
}

/* The share as a capacity to show: the one of nine decimals that is this share, as it was given most likely, or else
 * the exact one. */
static inline double fs_capacity_of(uint64_t share) {
    double exact = (double)share / (double)FS_ALL;
    double round = (double)(uint64_t)(exact * 1e9 + 0.5) / 1e9;
    return fs_share_of(round) == share ? round : exact;
}

/* May this call go? */
static inline bool fs_dial_admits(uint64_t *dial, uint64_t share) {
    uint64_t before = fs_add_relaxed(dial, share);
    return (before + share) >> 32 != before >> 32;
}

/* A call that might go does not. The next to ask takes its place. */
static inline void fs_dial_take_back(uint64_t *dial, uint64_t share) { fs_add_relaxed(dial, (uint64_t)0 - share); }

#endif
