#include "failsoft/backoff.h"

#include <math.h>

static fs_ns saturate(const fs_backoff *backoff, double delay) {
    /* Written so that NaN (0 * inf) and infinity saturate too. */
    return delay < (double)backoff->maximum ? (fs_ns)delay : backoff->maximum;
}

fs_ns fs_backoff_ceiling_far(const fs_backoff *backoff, uint64_t attempt) {
    if (backoff->initial == 0) return 0;
    return saturate(backoff, (double)backoff->initial * pow(backoff->multiplier, (double)attempt));
}

fs_status fs_backoff_init(fs_backoff *backoff, fs_ns initial, fs_ns maximum, double multiplier, fs_jitter jitter) {
    if (initial > maximum || !(multiplier >= 1.0) || !isfinite(multiplier)) return FS_INVALID;
    *backoff = (fs_backoff){.initial = initial, .maximum = maximum, .multiplier = multiplier, .jitter = jitter};
    for (uint64_t n = 0; n < FS_BACKOFF_TABLE; n++) backoff->ceilings[n] = fs_backoff_ceiling_far(backoff, n);
    return FS_OK;
}
