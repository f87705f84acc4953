/* throttle.h - refusing on our side what the other side would refuse anyway.
 *
 * What:    the client-side throttling of Google's SRE book ("Handling Overload"). Of what was asked for lately
 *          (requests) a share was accepted (accepts), and calls are refused with the probability
 *
 *              (requests - ratio * accepts) / (requests + 1)        at most `most`, so that some always go
 *
 *          Requests include the calls refused here, or the rate of refusals would chase itself. Calls and failures come
 *          from the breaker's window; what this block counts is the rest: calls refused here, and answers that were no
 *          failure but no acceptance either ("too many requests"). No dice: a dial (degraded.h) lets the share go.
 * States:  `share` of the calls that go: FS_ALL at rest. It is computed when a failure has been settled, and for each call
 *          while it is below FS_ALL; a success costs nothing.
 * Units:   shares in 2^-32; slices of time in fs_ns.
 * Threads: counters are atomic; a slice that ends while somebody counts may lose that one.
 * Errors:  none.
 */
#ifndef FAILSOFT_THROTTLE_H
#define FAILSOFT_THROTTLE_H

#include "failsoft/clock.h"
#include "failsoft/degraded.h"

#define FS_THROTTLE_SLICES 6

typedef struct {
    double ratio;        /* >= 1; 0: no throttle */
    double most;         /* (0, 1): the highest share of refusals */
    uint64_t minimum;    /* requests below which all go */
    fs_ns slice;         /* length of one of the slices of the window */
    uint64_t share;
    uint64_t dial;
    uint64_t generation; /* of the breaker, that the counts belong to */
    uint64_t when[FS_THROTTLE_SLICES];     /* number of the slice of time in each place */
    uint32_t refused[FS_THROTTLE_SLICES];  /* here */
    uint32_t unaccepted[FS_THROTTLE_SLICES];
} fs_throttle;

static inline double fs_throttle_ratio(const fs_throttle *throttle) {
    double ratio;
    fs_load_relaxed_to(&throttle->ratio, &ratio);
    return ratio;
}

/* ratio 0.0: no throttle. */
void fs_throttle_set(fs_throttle *throttle, double ratio, double most, uint64_t minimum, fs_ns window);

/* Compute the share anew from the calls and failures of the window. */
uint64_t fs_throttle_update(fs_throttle *throttle, uint64_t generation, uint64_t calls, uint64_t failures, fs_ns now);

/* May this call go? Counts it where it may not. */
bool fs_throttle_admits(fs_throttle *throttle, fs_ns now);

/* An answer was no failure, and no acceptance. */
void fs_throttle_unaccepted(fs_throttle *throttle, uint64_t generation, fs_ns now);

#endif
