#include "failsoft/load.h"

fs_load *fs_load_take(fs_arena *arena, fs_ticks stamp) {
    fs_load *load = (fs_load *)(void *)fs_arena_alloc(arena, sizeof *load);
    if (!load) return NULL;
    load->bulkhead.limit = FS_UNBOUNDED;
    fs_limiter_set(&load->limiter, 0.0, 0, stamp);
    fs_throttle_set(&load->throttle, 0.0, 0.0, 0, FS_NS_PER_SECOND);
    return load;
}

bool fs_load_armed(const fs_load *load) {
    return fs_load_relaxed(&load->bulkhead.limit) != FS_UNBOUNDED || fs_load_relaxed(&load->limiter.interval) != 0 ||
           fs_throttle_ratio(&load->throttle) != 0.0;
}

static void look(fs_load *load, uint32_t flag, bool on) {
    if (on)
        fs_or_relaxed(&load->look, flag);
    else
        fs_and_relaxed(&load->look, ~flag);
}

static uint64_t share_now(fs_load *load, fs_breaker *breaker, fs_ns now) {
    if (fs_throttle_ratio(&load->throttle) == 0.0) {
        look(load, FS_LOOK_THROTTLING, false);
        return FS_ALL;
    }
    fs_breaker_status status;
    fs_breaker_read(breaker, now, &status);
    bool watched = status.state == FS_CLOSED_STATE || status.state == FS_METRICS_ONLY;
    uint64_t calls = watched ? status.totals.calls : 0, failures = watched ? status.totals.failures : 0;
    uint64_t share = fs_throttle_update(&load->throttle, status.generation, calls, failures, now);
    look(load, FS_LOOK_THROTTLING, share < FS_ALL);
    return share;
}

void fs_load_failed(fs_load *load, fs_breaker *breaker, fs_ns now) { share_now(load, breaker, now); }

uint64_t fs_load_admit(fs_load *load, fs_breaker *breaker, uint64_t n, bool probe, bool queue, fs_ns now, fs_ticks stamp) {
    uint32_t seen = fs_load_relaxed(&load->look);
    bool behind = !queue && (seen & FS_LOOK_QUEUED);
    bool asked = !queue && !probe && (seen & FS_LOOK_THROTTLING);
    uint64_t share = asked ? share_now(load, breaker, now) : FS_ALL;
    if (share < FS_ALL && !fs_throttle_admits(&load->throttle, now)) return FS_THROTTLED;
    bool taken = fs_limiter_take_slow(&load->limiter, stamp, n);
    if (taken && !behind && fs_bulkhead_enter(&load->bulkhead)) return 0;
    if (share < FS_ALL) fs_dial_take_back(&load->throttle.dial, share);
    if (!taken) return FS_RATE_LIMITED;
    fs_limiter_give_back(&load->limiter, n);
    /* Behind others: what they wait for, or no longer have to. */
    bool full = fs_load_relaxed(&load->bulkhead.in_flight) >= fs_load_relaxed(&load->bulkhead.limit);
    return behind && !full && fs_load_relaxed(&load->limiter.interval) ? FS_RATE_LIMITED : FS_BULKHEAD_FULL;
}

fs_ns fs_load_retry_after(const fs_load *load, fs_permit permit, fs_ns now) {
    if (fs_load_code(permit) != FS_RATE_LIMITED) return FS_FOREVER;
    fs_ns later = fs_now();
    fs_ticks stamp = fs_stamp() - fs_ns_to_ticks(later > now ? later - now : 0);
    return fs_limiter_when(&load->limiter, stamp, fs_load_ahead(load, permit));
}

double fs_load_number(const fs_load *load, uint64_t code) {
    if (code == FS_RATE_LIMITED) return fs_limiter_rate(&load->limiter);
    if (code == FS_BULKHEAD_FULL) return (double)fs_load_relaxed(&load->bulkhead.limit);
    return fs_capacity_of(fs_load_relaxed(&load->throttle.share));
}

bool fs_load_withdraw(fs_load *load, uint64_t n) {
    fs_limiter_give_back(&load->limiter, n);
    return fs_load_leave(load);
}

void fs_load_queue(fs_load *load, uint32_t waiting) {
    fs_store_relaxed(&load->queued, waiting);
    look(load, FS_LOOK_QUEUED, waiting != 0);
    fs_fence_seq_cst();
}
