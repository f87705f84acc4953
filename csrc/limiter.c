#include "failsoft/limiter.h"

static uint64_t units_of(double seconds) {
    double ticks = seconds * 1e9 * ((double)fs_load_relaxed(&fs_clock.ticks_per_ns) / 4294967296.0);
    uint64_t units = (uint64_t)(ticks * (double)(1u << FS_LIMITER_UNIT) + 0.5);
    return units ? units : 1;
}

/* Not further ahead than an empty bucket could be: then it is another clock's time. */
static uint64_t sane(const fs_limiter *limiter, uint64_t ahead) { return ahead > fs_load_relaxed(&limiter->depth) ? 0 : ahead; }

/* Go by this rate and burst, and by the clock as it is now. */
static void apply(fs_limiter *limiter, double rate, uint64_t burst, uint64_t now) {
    uint64_t had = fs_load_relaxed(&limiter->interval);
    if (rate == 0.0) {
        fs_store_relaxed(&limiter->interval, 0);
        fs_store_relaxed(&limiter->depth, UINT64_MAX);
        fs_store_relaxed(&limiter->full, now);
        return;
    }
    double taken = 0.0; /* tokens */
    if (had && fs_load_relaxed(&limiter->scale)) {
        uint64_t ahead = sane(limiter, fs_limiter_ahead(fs_load_relaxed(&limiter->full), now));
        taken = (double)ahead / (double)had;
    }
    uint64_t interval = units_of(1.0 / rate);
    fs_store_relaxed(&limiter->depth, interval * burst);
    fs_store_relaxed(&limiter->interval, interval);
    fs_store_relaxed(&limiter->scale, fs_load_relaxed(&fs_clock.ticks_per_ns));
    double ahead = taken * (double)interval, most = (double)interval * (double)burst;
    fs_store_relaxed(&limiter->full, now + (uint64_t)(ahead < most ? ahead : most));
}

fs_status fs_limiter_set(fs_limiter *limiter, double rate, uint64_t burst, fs_ticks stamp) {
    if (rate == 0.0)
        burst = UINT64_MAX;
    else if (!(rate > 0.0) || !(rate <= 1e9) || burst == 0 || !((double)burst / rate <= FS_LIMITER_DEEPEST))
        return FS_INVALID;
    fs_store_relaxed_from(&limiter->rate, &rate);
    fs_store_relaxed(&limiter->burst, burst);
    apply(limiter, rate, burst, fs_limiter_time(stamp));
    return FS_OK;
}

void fs_limiter_refresh(fs_limiter *limiter, fs_ticks stamp) {
    if (fs_load_relaxed(&limiter->interval) == 0) return;
    uint64_t now = fs_limiter_time(stamp);
    if (fs_load_relaxed(&limiter->scale) != fs_load_relaxed(&fs_clock.ticks_per_ns)) {
        double rate;
        uint64_t burst;
        do { /* whoever sets another rate meanwhile has the last word */
            rate = fs_limiter_rate(limiter);
            burst = fs_load_relaxed(&limiter->burst);
            apply(limiter, rate, burst, now);
        } while (rate != fs_limiter_rate(limiter) || burst != fs_load_relaxed(&limiter->burst));
    }
    uint64_t full = fs_load_relaxed(&limiter->full);
    if (fs_limiter_ahead(full, now) > fs_load_relaxed(&limiter->depth)) fs_cas(&limiter->full, &full, now);
}

bool fs_limiter_take_slow(fs_limiter *limiter, fs_ticks stamp, uint64_t n) {
    fs_limiter_refresh(limiter, stamp);
    if (n > fs_load_relaxed(&limiter->burst)) return false; /* n intervals may be more than a word holds */
    return fs_limiter_take(limiter, stamp, n);
}

void fs_limiter_give_back(fs_limiter *limiter, uint64_t n) {
    fs_add_relaxed(&limiter->full, (uint64_t)0 - n * fs_load_relaxed(&limiter->interval));
}

fs_ns fs_limiter_when(const fs_limiter *limiter, fs_ticks stamp, uint64_t n) {
    uint64_t interval = fs_load_relaxed(&limiter->interval);
    if (interval == 0) return 0;
    uint64_t ahead = sane(limiter, fs_limiter_ahead(fs_load_relaxed(&limiter->full), fs_limiter_time(stamp)));
    double wanted = (double)ahead + (double)n * (double)interval - (double)fs_load_relaxed(&limiter->depth);
    if (!(wanted > 0.0)) return 0;
    if (wanted >= 0x1.0p62) return FS_FOREVER;
    uint64_t units = (uint64_t)wanted;
    /* Rounded up, and the conversions may each be short by one: who comes back then finds it. */
    fs_ticks ticks = (units >> FS_LIMITER_UNIT) + ((units & ((1u << FS_LIMITER_UNIT) - 1)) != 0);
    fs_ns ns = fs_ticks_to_ns(ticks);
    while (fs_ns_to_ticks(ns) < ticks) ns++;
    return ns;
}

double fs_limiter_tokens(const fs_limiter *limiter, fs_ticks stamp) {
    uint64_t interval = fs_load_relaxed(&limiter->interval);
    if (interval == 0) return 0.0;
    uint64_t ahead = sane(limiter, fs_limiter_ahead(fs_load_relaxed(&limiter->full), fs_limiter_time(stamp)));
    return (double)(fs_load_relaxed(&limiter->depth) - ahead) / (double)interval;
}
