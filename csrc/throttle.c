#include "failsoft/throttle.h"

void fs_throttle_set(fs_throttle *throttle, double ratio, double most, uint64_t minimum, fs_ns window) {
    fs_store_relaxed_from(&throttle->most, &most);
    fs_store_relaxed(&throttle->minimum, minimum);
    fs_store_relaxed(&throttle->slice, window / FS_THROTTLE_SLICES ? window / FS_THROTTLE_SLICES : 1);
    fs_store_relaxed_from(&throttle->ratio, &ratio);
    if (ratio == 0.0) fs_store_relaxed(&throttle->share, FS_ALL);
    if (fs_load_relaxed(&throttle->dial) == 0) fs_store_relaxed(&throttle->dial, FS_DIAL_START);
}

/* The place of the live slice, emptied where it still holds an old one. */
static uint32_t place_at(fs_throttle *throttle, fs_ns now) {
    uint64_t number = now / fs_load_relaxed(&throttle->slice);
    uint32_t place = (uint32_t)(number % FS_THROTTLE_SLICES);
    uint64_t held = fs_load_relaxed(&throttle->when[place]); /* it publishes nothing: the counts are emptied after it */
    if (held != number && fs_cas(&throttle->when[place], &held, number)) {
        fs_store_relaxed(&throttle->refused[place], 0);
        fs_store_relaxed(&throttle->unaccepted[place], 0);
    }
    return place;
}

/* What was counted before the breaker last changed says nothing of the dependency since. */
static void follow(fs_throttle *throttle, uint64_t generation) {
    if (fs_load_relaxed(&throttle->generation) == generation) return;
    fs_store_relaxed(&throttle->generation, generation);
    for (uint32_t i = 0; i < FS_THROTTLE_SLICES; i++) {
        fs_store_relaxed(&throttle->refused[i], 0);
        fs_store_relaxed(&throttle->unaccepted[i], 0);
    }
}

uint64_t fs_throttle_update(fs_throttle *throttle, uint64_t generation, uint64_t calls, uint64_t failures, fs_ns now) {
    double ratio = fs_throttle_ratio(throttle), most;
    if (ratio == 0.0) return FS_ALL;
    fs_load_relaxed_to(&throttle->most, &most);
    follow(throttle, generation);
    uint64_t number = now / fs_load_relaxed(&throttle->slice), refused = 0, unaccepted = failures;
    for (uint32_t i = 0; i < FS_THROTTLE_SLICES; i++) {
        uint64_t age = number - fs_load_relaxed(&throttle->when[i]);
        if (age >= FS_THROTTLE_SLICES) continue;
        refused += fs_load_relaxed(&throttle->refused[i]);
        unaccepted += fs_load_relaxed(&throttle->unaccepted[i]);
    }
    uint64_t requests = calls + refused, accepts = calls > unaccepted ? calls - unaccepted : 0;
    double reject = ((double)requests - ratio * (double)accepts) / ((double)requests + 1.0);
    if (reject > most) reject = most;
    bool few = requests < fs_load_relaxed(&throttle->minimum);
    uint64_t share = few || !(reject > 0.0) ? FS_ALL : fs_share_of(1.0 - reject);
    fs_store_relaxed(&throttle->share, share);
    return share;
}

bool fs_throttle_admits(fs_throttle *throttle, fs_ns now) {
    uint64_t share = fs_load_relaxed(&throttle->share);
    if (share >= FS_ALL || fs_dial_admits(&throttle->dial, share)) return true;
    fs_add_relaxed(&throttle->refused[place_at(throttle, now)], 1);
    return false;
}

void fs_throttle_unaccepted(fs_throttle *throttle, uint64_t generation, fs_ns now) {
    if (fs_throttle_ratio(throttle) == 0.0) return;
    follow(throttle, generation);
    fs_add_relaxed(&throttle->unaccepted[place_at(throttle, now)], 1);
}
