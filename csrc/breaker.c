#include "failsoft/breaker.h"

#include <math.h>
#include <string.h>

#include "failsoft/rng.h"

#define FS_US UINT64_C(1000)
#define FS_UNTIL_MOST ((UINT64_C(1) << 48) - 1)
#define FS_LEASE_UNIT UINT64_C(10000)
#define FS_LEASE_MOST ((UINT64_C(1) << 44) - 1)
#define FS_NONCE_MASK UINT32_C(0xfffff)

static uint64_t gate_of(uint32_t generation, uint32_t count, uint64_t flags, fs_state state) {
    return (uint64_t)generation << 32 | (uint64_t)count << 16 | flags | (uint64_t)state;
}

static uint64_t flags_of(uint64_t gate) { return gate & FS_GATE_FLAGS; }

fs_status fs_breaker_check(const fs_breaker_config *config) {
    bool numbers = config->reset_growth >= 1.0 && isfinite(config->reset_growth) && config->reset_jitter >= 0.0 &&
                   isfinite(config->reset_jitter) && config->failure_rate > 0.0 && config->slow_rate > 0.0 &&
                   config->latency_quantile >= 0.0 && config->latency_quantile <= 1.0;
    bool counts = config->failure_threshold <= FS_COUNT_MOST && config->success_threshold >= 1 &&
                  config->success_threshold <= FS_COUNT_MOST && config->half_open_most >= 1 &&
                  config->half_open_most <= FS_PROBES_MOST && config->minimum_calls >= 1 &&
                  config->last <= FS_LAST_MOST;
    bool times = config->reset_most >= config->reset_timeout && config->lease > 0 &&
                 (config->ramp == 0 || config->ramp_from < FS_ALL);
    return numbers && counts && times ? FS_OK : FS_INVALID;
}

fs_breaker *fs_breaker_take(fs_arena *arena, const fs_breaker_config *config, fs_ns now) {
    fs_breaker *breaker = (fs_breaker *)(void *)fs_arena_alloc(arena, sizeof *breaker);
    if (!breaker) return NULL;
    breaker->config = *config;
    breaker->changed = now;
    breaker->salt = fs_rng_entropy();
    breaker->share = FS_ALL;
    breaker->dial = FS_DIAL_START;
    fs_store_release(&breaker->gate, gate_of(1, 0, config->last ? FS_GATE_WATCHED : 0, FS_CLOSED_STATE));
    return breaker;
}

void fs_breaker_free(fs_breaker *breaker) {
    if (!(fs_breaker_gate(breaker) & FS_GATE_MOVED)) fs_recorder_free(&breaker->recorder, &breaker->block);
    fs_arena_free(&breaker->block);
}

static fs_series *first_series(const fs_breaker *breaker) {
    fs_span span = fs_load_acquire(&breaker->series);
    return span ? (fs_series *)fs_arena_follow(breaker, span) : NULL;
}

static fs_series *next_series(const fs_series *series) {
    return series->next ? (fs_series *)fs_arena_follow(series, series->next) : NULL;
}

void fs_series_list(fs_block *owner, fs_span *head, fs_series *series) {
    fs_span held = fs_load_acquire(head);
    do {
        fs_series *first = held ? (fs_series *)fs_arena_follow(owner, held) : NULL;
        fs_store_relaxed(&series->next, first ? fs_arena_span(&series->block, &first->block) : 0);
    } while (!fs_cas(head, &held, fs_arena_span(owner, &series->block)));
}

void fs_breaker_adopt(fs_breaker *breaker, fs_series *series) {
    fs_series_list(&breaker->block, &breaker->series, series);
}

void (*fs_breaker_members_totals)(const fs_breaker *breaker, fs_ns now, fs_totals *recent, fs_totals *ever);

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t since(uint64_t end, uint64_t now) { return end > now ? end - now : 0; }

/* Compared as a difference: what a process takes along when it leaves is taken off `before`, which may go below nothing. */
static uint64_t gained(uint64_t ever, uint64_t before) { return (int64_t)(ever - before) > 0 ? ever - before : 0; }

static void all_totals(const fs_breaker *breaker, fs_ns now, fs_totals *recent, fs_totals *ever) {
    if (breaker->member) {
        fs_breaker_members_totals(breaker, now, recent, ever);
        return;
    }
    /* Lately first: what comes meanwhile must not make it more than there ever was. */
    for (fs_series *s = first_series(breaker); s; s = next_series(s)) fs_series_recent(s, now, recent);
    for (fs_series *s = first_series(breaker); s; s = next_series(s)) fs_series_ever(s, ever);
}

/* What the rates are read from: the window, less what happened before the breaker last closed. Of two nested spans
 * of time the shorter one holds less of everything, so the lesser number is that of the span that began later. */
static void window_totals(const fs_breaker *breaker, fs_ns now, fs_totals *totals) {
    *totals = (fs_totals){0};
    if (breaker->config.last) {
        fs_last_totals(&breaker->last, breaker->config.last, totals);
        return;
    }
    fs_totals ever = {0};
    all_totals(breaker, now, totals, &ever);
    totals->calls = least(totals->calls, gained(ever.calls, fs_load_relaxed(&breaker->before.calls)));
    totals->failures = least(totals->failures, gained(ever.failures, fs_load_relaxed(&breaker->before.failures)));
    totals->slow = least(totals->slow, gained(ever.slow, fs_load_relaxed(&breaker->before.slow)));
}

static void restart_windows(fs_breaker *breaker, fs_ns now) {
    fs_totals ever = {0}, recent = {0};
    if (breaker->member) all_totals(breaker, now, &recent, &ever); /* a series of another process is not ours to write */
    else for (fs_series *s = first_series(breaker); s; s = next_series(s)) {
        uint64_t before = ever.calls;
        fs_series_ever(s, &ever);
        fs_store_relaxed(&s->since, ever.calls - before);
    }
    fs_store_relaxed(&breaker->before.calls, ever.calls);
    fs_store_relaxed(&breaker->before.failures, ever.failures);
    fs_store_relaxed(&breaker->before.slow, ever.slow);
    fs_last_restart(&breaker->last);
}

/* Does a rule open the breaker, after a failure or a slow success? In the order the header gives. */
static fs_because verdict(const fs_breaker *breaker, bool failed, uint32_t consecutive, fs_ns now) {
    const fs_breaker_config *config = &breaker->config;
    bool row = failed && config->failure_threshold && consecutive >= config->failure_threshold;
    if (row) return FS_BECAUSE_CONSECUTIVE_FAILURES;
    if (config->failure_rate > 1.0 && config->slow_rate > 1.0) return FS_BECAUSE_NOTHING;
    fs_totals totals;
    window_totals(breaker, now, &totals);
    if (totals.calls < config->minimum_calls) return FS_BECAUSE_NOTHING;
    double calls = (double)totals.calls;
    if (failed && (double)totals.failures / calls >= config->failure_rate) return FS_BECAUSE_FAILURE_RATE;
    if (totals.slow && (double)totals.slow / calls >= config->slow_rate) return FS_BECAUSE_SLOW_RATE;
    return FS_BECAUSE_NOTHING;
}

static fs_ns wait_of(const fs_breaker *breaker, uint32_t generation, uint64_t reopenings) {
    const fs_breaker_config *config = &breaker->config;
    if (config->reset_growth == 1.0 && config->reset_jitter == 0.0) return config->reset_timeout;
    double most = (double)config->reset_most;
    double wait = (double)config->reset_timeout * pow(config->reset_growth, (double)reopenings);
    if (!(wait < most)) wait = most;
    uint64_t draw = breaker->salt ^ ((uint64_t)generation << 32);
    wait *= 1.0 + config->reset_jitter * ((double)(fs_splitmix64(&draw) >> 11) * 0x1.0p-53);
    return wait < 0x1.0p63 ? (fs_ns)wait : FS_FOREVER;
}

static fs_ns until_ns(uint64_t until) { return (until >> 16) * FS_US; }

/* Store in *word what the generation after `from` begins with: the end of its wait, or its ramp, or how often it has
 * reopened. The greater of two such is kept. Whoever swaps the gate from `from` has
 * done this before, or somebody else of the same mind has. Who was held up after looking at the gate changes nothing: an
 * opening in between has changed the word under him, and without one nobody reads it. False: the gate is another, and
 * must not be swapped even if it comes back. */
static bool publish(fs_breaker *breaker, uint64_t *word, uint64_t from, uint64_t value) {
    uint32_t generation = fs_gate_generation(from) + 1;
    uint64_t wanted = value << 16 | (generation & 0xffff);
    uint64_t held = fs_load_acquire(word); /* who sees the word of a later generation sees that the gate has moved on */
    while ((held & 0xffff) != (generation & 0xffff) || held >> 16 < value) {
        if (fs_breaker_gate(breaker) != from) return false;
        if (fs_cas(word, &held, wanted)) return true;
    }
    return true;
}

static uint64_t until_of(fs_ns end) { return least(end / FS_US + (end % FS_US != 0), FS_UNTIL_MOST); }

static bool publish_end(fs_breaker *breaker, uint64_t *word, uint64_t from, fs_ns end) {
    return publish(breaker, word, from, until_of(end));
}

/* Say something of a generation in a word that is only shown, unless it tells of a newer one already. */
static void say(uint32_t *word, uint32_t generation, uint32_t value) {
    uint32_t held = fs_load_relaxed(word);
    do
        if ((int16_t)(uint16_t)((held >> 16) - generation) > 0) return;
    while (!fs_cas(word, &held, generation << 16 | value));
}

static void tell(fs_breaker *breaker, fs_change *change, uint64_t from, uint64_t to, fs_because because,
                 uint32_t failures, fs_ns now) {
    say(&breaker->because, fs_gate_generation(to), (uint32_t)because);
    fs_store_relaxed(&breaker->changed, now);
    fs_decision decision = {
        .first = now, .generation = fs_gate_generation(to), .kind = FS_TRANSITION, .because = (uint8_t)because,
        .state = (uint8_t)fs_gate_state(to), .detail = (uint8_t)fs_gate_state(from),
    };
    if (fs_gate_state(to) == FS_OPEN)
        decision.number = (double)since(until_ns(fs_load_relaxed(&breaker->until)), now) / 1e9;
    fs_recorder_note(&breaker->recorder, &breaker->block, &decision);
    *change = (fs_change){fs_gate_state(from), fs_gate_state(to), because, fs_gate_generation(to), failures};
}

/* Replace the gate by the next generation in `state`; `end` is that of the wait, 0: as configured. On failure *gate holds
 * what is there now. */
static bool become_until(fs_breaker *breaker, uint64_t *gate, fs_state state, uint32_t count, fs_because because, fs_ns end,
                         fs_ns now, fs_change *change) {
    uint64_t from = *gate;
    uint32_t generation = fs_gate_generation(from) + 1;
    bool recovered = because == FS_BECAUSE_RECOVERED || (because == FS_BECAUSE_FLEET && state == FS_CLOSED_STATE);
    bool ramps = recovered && breaker->config.ramp != 0;
    uint64_t flags = (flags_of(from) & ~FS_GATE_RAMPING) | (ramps ? FS_GATE_RAMPING : 0);
    uint64_t to = gate_of(generation, count, flags, state);
    bool afresh = fs_gate_state(from) == FS_CLOSED_STATE;
    uint64_t reopenings = 0;
    if (state == FS_OPEN && !afresh) {
        /* Another probe that failed, or a fleet that opened amid probes, may have counted this reopening already. */
        uint64_t held = fs_load_acquire(&breaker->reopenings); /* likewise */
        bool counted = (held & 0xffff) == (generation & 0xffff);
        reopenings = (held >> 16) + ((because == FS_BECAUSE_PROBE_FAILED || because == FS_BECAUSE_FLEET) && !counted);
    }
    bool published = true;
    if (state == FS_OPEN || afresh) /* whoever leaves CLOSED is of the same mind */
        published = publish(breaker, &breaker->reopenings, from, reopenings);
    if (published && state == FS_OPEN)
        published = publish_end(breaker, &breaker->until, from,
                                end ? end : fs_ns_add(now, wait_of(breaker, generation, reopenings)));
    if (published && ramps) published = publish_end(breaker, &breaker->ramped, from, fs_ns_add(now, breaker->config.ramp));
    if (!published) {
        *gate = fs_breaker_gate(breaker);
        return false;
    }
    /* Before the gate, so that the first outcome after it meets fresh windows. While not CLOSED nobody reads them. */
    if (state == FS_CLOSED_STATE) restart_windows(breaker, now);
    if (!fs_cas(&breaker->gate, gate, to)) return false;
    if (state == FS_OPEN)
        say(&breaker->failures, generation, afresh ? count : fs_breaker_failures(breaker));
    tell(breaker, change, from, to, because, count, now);
    return true;
}

static bool become(fs_breaker *breaker, uint64_t *gate, fs_state state, uint32_t count, fs_because because, fs_ns now,
                   fs_change *change) {
    return become_until(breaker, gate, state, count, because, 0, now, change);
}

static uint64_t lease_word(fs_ns expiry, uint32_t nonce) {
    uint64_t units = expiry / FS_LEASE_UNIT + (expiry % FS_LEASE_UNIT != 0);
    return least(units, FS_LEASE_MOST) << 20 | nonce;
}

static bool lease_over(uint64_t word, fs_ns now) { return word == 0 || (word >> 20) * FS_LEASE_UNIT <= now; }

/* Take a free or expired lease. Whoever takes it must still be in the generation it looked at. */
static fs_permit take_lease(fs_breaker *breaker, uint64_t gate, fs_ns now) {
    uint32_t nonce = (fs_add_relaxed(&breaker->nonce, 1) + 1) & FS_NONCE_MASK;
    uint64_t wanted = lease_word(fs_ns_add(now, breaker->config.lease), nonce);
    for (uint32_t slot = 0; slot < breaker->config.half_open_most; slot++) {
        uint64_t held = fs_load_acquire(&breaker->lease[slot]);
        if (!lease_over(held, now) || !fs_cas(&breaker->lease[slot], &held, wanted)) continue;
        return (gate & ~UINT64_C(0xffffffff)) | (uint64_t)nonce << 9 | (uint64_t)(slot + 1) << 1 | 1;
    }
    return 0;
}

/* Give a probe's lease back. False: it was taken over or given back before, and the outcome counts no more, or there never
 * was a permit. */
static bool return_lease(fs_breaker *breaker, fs_permit permit) {
    uint32_t slot = fs_permit_slot(permit);
    if (!fs_permit_granted(permit)) return false;
    if (slot == 0) return true;
    if (slot > FS_PROBES_MOST) return false;
    uint64_t held = fs_load_acquire(&breaker->lease[slot - 1]);
    if (held == 0 || (held & FS_NONCE_MASK) != ((permit >> 9) & FS_NONCE_MASK)) return false;
    return fs_cas(&breaker->lease[slot - 1], &held, 0);
}

static bool counting(uint64_t gate) {
    return fs_gate_state(gate) == FS_CLOSED_STATE || fs_gate_state(gate) == FS_METRICS_ONLY;
}

bool fs_breaker_counts(const fs_breaker *breaker, fs_permit permit) {
    uint64_t gate = fs_breaker_gate(breaker);
    return fs_permit_generation(permit) == fs_gate_generation(gate) && counting(gate);
}

void fs_breaker_disown(fs_breaker *breaker, const fs_totals *calls) {
    fs_add_relaxed(&breaker->before.calls, calls->calls);
    if (calls->failures) fs_add_relaxed(&breaker->before.failures, calls->failures);
    if (calls->slow) fs_add_relaxed(&breaker->before.slow, calls->slow);
}

static uint64_t share_at(const fs_breaker *breaker, uint64_t gate, fs_ns now) {
    uint64_t share = gate & FS_GATE_LIMITED ? fs_load_relaxed(&breaker->share) : FS_ALL;
    if (!(gate & FS_GATE_RAMPING)) return share;
    fs_ns ramp = breaker->config.ramp, left = least(since(until_ns(fs_load_acquire(&breaker->ramped)), now), ramp);
    if (ramp == 0 || left == 0) return share;
    double missing = (double)(FS_ALL - breaker->config.ramp_from) * ((double)left / (double)ramp);
    return least(share, FS_ALL - (uint64_t)missing);
}

uint64_t fs_breaker_share(const fs_breaker *breaker, fs_ns now) {
    return share_at(breaker, fs_breaker_gate(breaker), now);
}

/* The ramp is over: whoever takes its mark away tells. */
static void end_ramp(fs_breaker *breaker, uint64_t gate, fs_ns now, fs_change *change) {
    if (breaker->config.ramp && since(until_ns(fs_load_acquire(&breaker->ramped)), now) != 0) return;
    uint64_t seen = gate;
    if (!fs_cas(&breaker->gate, &seen, gate & ~FS_GATE_RAMPING)) return;
    fs_state state = fs_gate_state(gate);
    fs_decision decision = {
        .first = now, .number = fs_capacity_of(share_at(breaker, gate & ~FS_GATE_RAMPING, now)),
        .generation = fs_gate_generation(gate), .kind = FS_CAPACITY, .because = FS_BECAUSE_RAMPED, .state = (uint8_t)state,
    };
    fs_recorder_note(&breaker->recorder, &breaker->block, &decision);
    *change = (fs_change){state, state, FS_BECAUSE_RAMPED, fs_gate_generation(gate), 0};
}

/* A call through a gate that lets calls go, if there is room for it. */
static fs_permit admitted(fs_breaker *breaker, uint64_t gate, fs_ns now, fs_change *change) {
    if (!(gate & (FS_GATE_LIMITED | FS_GATE_RAMPING))) return fs_permit_of(gate);
    if (gate & FS_GATE_RAMPING && !change->generation) end_ramp(breaker, gate, now, change);
    uint64_t share = share_at(breaker, gate, now);
    return share >= FS_ALL || fs_dial_admits(&breaker->dial, share) ? fs_permit_of(gate) : FS_NO_ROOM;
}

/* Somebody else probes for all. Told of nobody but calls that would have been probes. */
static bool held_back(fs_breaker *breaker, fs_ns now) {
    if (now >= fs_load_relaxed(&breaker->held) || now < fs_load_relaxed(&breaker->let)) return false;
    fs_add_relaxed(&breaker->held_back, 1);
    return true;
}

static fs_permit acquire(fs_breaker *breaker, fs_ns reserved, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    for (;;) switch (fs_gate_state(gate)) {
        case FS_CLOSED_STATE:
        case FS_DISABLED:
        case FS_METRICS_ONLY:
            return admitted(breaker, gate, now, change);
        case FS_OPEN:
            /* One change a call, or the second would be told in place of the first: it has opened again meanwhile. */
            if (change->generation) return 0;
            if (now < fs_ns_add(until_ns(fs_load_acquire(&breaker->until)), reserved)) return 0;
            if (held_back(breaker, now)) return 0;
            if (become(breaker, &gate, FS_HALF_OPEN, 0, FS_BECAUSE_WAIT_OVER, now, change))
                gate = fs_breaker_gate(breaker);
            continue;
        case FS_HALF_OPEN: {
            if (reserved && now < fs_ns_add(until_ns(fs_load_acquire(&breaker->until)), reserved)) return 0;
            if (held_back(breaker, now)) return 0;
            fs_permit permit = take_lease(breaker, gate, now);
            uint64_t after = fs_breaker_gate(breaker);
            if (fs_gate_generation(after) == fs_gate_generation(gate)) return permit;
            /* The state went on while the lease was taken. */
            if (permit) return_lease(breaker, permit);
            gate = after;
            continue;
        }
        case FS_FORCED_OPEN:
        case FS_STATES:
            return 0;
        }
}

fs_permit fs_breaker_acquire(fs_breaker *breaker, fs_ns now, fs_change *change) {
    return acquire(breaker, fs_load_relaxed(&breaker->reserved), now, change);
}

fs_permit fs_breaker_probe(fs_breaker *breaker, fs_ns now, fs_change *change) {
    return acquire(breaker, 0, now, change);
}

void fs_breaker_reserve(fs_breaker *breaker, fs_ns reserved) { fs_store_relaxed(&breaker->reserved, reserved); }

void fs_breaker_limit(fs_breaker *breaker, uint64_t share) {
    if (share < FS_ALL) {
        fs_store_relaxed(&breaker->share, share);
        fs_or_release(&breaker->gate, FS_GATE_LIMITED);
    } else {
        /* The share stays: to clear it too could undo what another has just said. */
        fs_and_relaxed(&breaker->gate, ~FS_GATE_LIMITED);
    }
}

void fs_breaker_chaos(fs_breaker *breaker, bool on) {
    if (on)
        fs_or_release(&breaker->gate, FS_GATE_CHAOS);
    else
        fs_and_relaxed(&breaker->gate, ~FS_GATE_CHAOS);
}

void fs_breaker_note(fs_breaker *breaker, fs_decision *decision) {
    decision->generation = fs_gate_generation(fs_breaker_gate(breaker));
    fs_recorder_note(&breaker->recorder, &breaker->block, decision);
}

/* Write an outcome into the count window where one is configured. */
static void watch(fs_breaker *breaker, uint64_t gate, bool failed, fs_ns duration) {
    if ((gate & FS_GATE_WATCHED) && counting(gate))
        fs_last_record(&breaker->last, breaker->config.last, failed, duration >= breaker->config.slow);
}

void fs_breaker_success(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    if (!return_lease(breaker, permit) || fs_permit_generation(permit) != fs_gate_generation(gate)) return;
    watch(breaker, gate, false, duration);
    bool slow = duration >= breaker->config.slow;
    for (; fs_permit_generation(permit) == fs_gate_generation(gate);) switch (fs_gate_state(gate)) {
        case FS_CLOSED_STATE:
        case FS_METRICS_ONLY:
            if (fs_gate_count(gate) != 0) {
                uint64_t cleared = gate & ~(UINT64_C(0xffff) << 16);
                if (!fs_cas(&breaker->gate, &gate, cleared)) continue;
                gate = cleared;
            }
            if (slow && fs_gate_state(gate) == FS_CLOSED_STATE) {
                fs_because because = verdict(breaker, false, 0, now);
                if (because) fs_breaker_trip(breaker, permit, because, now, change);
            }
            return;
        case FS_HALF_OPEN: {
            uint32_t streak = fs_gate_count(gate) + 1;
            if (streak >= breaker->config.success_threshold) {
                if (!become(breaker, &gate, FS_CLOSED_STATE, 0, FS_BECAUSE_RECOVERED, now, change)) continue;
                return;
            }
            uint64_t counted = gate_of(fs_gate_generation(gate), streak, flags_of(gate), FS_HALF_OPEN);
            if (!fs_cas(&breaker->gate, &gate, counted)) continue;
            return;
        }
        case FS_OPEN:
        case FS_FORCED_OPEN:
        case FS_DISABLED:
        case FS_STATES:
            return;
        }
}

void fs_breaker_failure(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    if (!return_lease(breaker, permit) || fs_permit_generation(permit) != fs_gate_generation(gate)) return;
    watch(breaker, gate, true, duration);
    for (; fs_permit_generation(permit) == fs_gate_generation(gate);) switch (fs_gate_state(gate)) {
        case FS_CLOSED_STATE:
        case FS_METRICS_ONLY: {
            uint32_t failures = fs_gate_count(gate);
            failures += failures < FS_COUNT_MOST;
            fs_because because = FS_BECAUSE_NOTHING;
            if (fs_gate_state(gate) == FS_CLOSED_STATE) because = verdict(breaker, true, failures, now);
            if (because) {
                if (!become(breaker, &gate, FS_OPEN, failures, because, now, change)) continue;
                return;
            }
            uint64_t counted = gate_of(fs_gate_generation(gate), failures, flags_of(gate), fs_gate_state(gate));
            if (!fs_cas(&breaker->gate, &gate, counted)) continue;
            return;
        }
        case FS_HALF_OPEN:
            if (become(breaker, &gate, FS_OPEN, 0, FS_BECAUSE_PROBE_FAILED, now, change)) return;
            continue;
        case FS_OPEN:
        case FS_FORCED_OPEN:
        case FS_DISABLED:
        case FS_STATES:
            return;
        }
}

void fs_breaker_ignore(fs_breaker *breaker, fs_permit permit) { return_lease(breaker, permit); }

void fs_breaker_withdraw(fs_breaker *breaker, fs_permit permit, uint64_t gate, fs_ns now) {
    return_lease(breaker, permit);
    if (!(gate & (FS_GATE_LIMITED | FS_GATE_RAMPING)) || fs_permit_slot(permit) != 0) return;
    uint64_t share = share_at(breaker, gate, now);
    if (share < FS_ALL) fs_dial_take_back(&breaker->dial, share);
}

void fs_breaker_trip(fs_breaker *breaker, fs_permit permit, fs_because because, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    while (fs_gate_state(gate) == FS_CLOSED_STATE && fs_gate_generation(gate) == fs_permit_generation(permit))
        if (become(breaker, &gate, FS_OPEN, fs_gate_count(gate), because, now, change)) return;
}

void fs_breaker_force(fs_breaker *breaker, fs_state state, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    while (state == FS_CLOSED_STATE || fs_gate_state(gate) != state)
        if (become(breaker, &gate, state, 0, FS_BECAUSE_OPERATOR, now, change)) return;
}

/* In place: a generation of its own would have its wait in the word while the gate still is of the one before. */
static void lengthen(fs_breaker *breaker, uint32_t generation, fs_ns end) {
    uint64_t until = until_of(end), held = fs_load_acquire(&breaker->until);
    while ((held & 0xffff) == (generation & 0xffff) && held >> 16 < until)
        if (fs_cas(&breaker->until, &held, until << 16 | (generation & 0xffff))) return;
}

bool fs_breaker_open_until(fs_breaker *breaker, uint32_t generation, fs_ns end, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    while (fs_gate_generation(gate) == generation && fs_gate_state(gate) <= FS_HALF_OPEN) {
        if (fs_gate_state(gate) == FS_OPEN) {
            lengthen(breaker, generation, end);
            return true;
        }
        uint32_t failures = fs_gate_state(gate) == FS_CLOSED_STATE ? fs_gate_count(gate) : 0;
        if (become_until(breaker, &gate, FS_OPEN, failures, FS_BECAUSE_FLEET, end ? end : 1, now, change)) return true;
    }
    return false;
}

bool fs_breaker_close(fs_breaker *breaker, uint32_t generation, fs_ns now, fs_change *change) {
    uint64_t gate = fs_breaker_gate(breaker);
    while (fs_gate_generation(gate) == generation && (fs_gate_state(gate) == FS_OPEN || fs_gate_state(gate) == FS_HALF_OPEN))
        if (become(breaker, &gate, FS_CLOSED_STATE, 0, FS_BECAUSE_FLEET, now, change)) return true;
    return false;
}

void fs_breaker_hold(fs_breaker *breaker, fs_ns held) { fs_store_relaxed(&breaker->held, held); }

void fs_breaker_let(fs_breaker *breaker, fs_ns let) { fs_store_relaxed(&breaker->let, let); }

fs_ns fs_breaker_retry_after(const fs_breaker *breaker, fs_ns now) {
    if (fs_gate_state(fs_breaker_gate(breaker)) != FS_OPEN) return FS_FOREVER;
    return since(until_ns(fs_load_acquire(&breaker->until)), now);
}

void fs_breaker_watch_latency(fs_breaker *breaker, fs_series *series, fs_permit permit, fs_ns now, fs_change *change) {
    const fs_breaker_config *config = &breaker->config;
    uint64_t latency;
    if (config->latency_limit == 0) return;
    uint64_t count = fs_series_quantiles(series, FS_RECENT, &config->latency_quantile, 1, &latency);
    if (count < config->minimum_calls) return;
    /* Values cannot be told apart by when they came: while some are from before it last closed, nothing is known. */
    fs_totals ever = {0};
    fs_series_ever(series, &ever);
    if (breaker->member) {
        /* Whoever closed it could not say so here. */
        uint32_t generation = fs_gate_generation(fs_breaker_gate(breaker));
        if (series->closed_in != generation) {
            series->closed_in = generation;
            fs_store_relaxed(&series->since, ever.calls);
        }
    }
    if (count > gained(ever.calls, fs_load_relaxed(&series->since))) return;
    if (latency >= config->latency_limit) fs_breaker_trip(breaker, permit, FS_BECAUSE_LATENCY, now, change);
}

void fs_breaker_read(const fs_breaker *breaker, fs_ns now, fs_breaker_status *status) {
    uint64_t gate = fs_breaker_gate(breaker);
    *status = (fs_breaker_status){
        .state = fs_gate_state(gate),
        .because = fs_breaker_because(breaker),
        .generation = fs_gate_generation(gate),
        .retry_after = fs_breaker_retry_after(breaker, now),
        .changed = fs_load_relaxed(&breaker->changed),
        .share = share_at(breaker, gate, now),
    };
    bool refuses = status->state == FS_OPEN || status->state == FS_HALF_OPEN || status->state == FS_FORCED_OPEN;
    if (refuses) status->share = 0;
    bool tripped = status->state == FS_OPEN || status->state == FS_HALF_OPEN;
    status->failures = counting(gate) ? fs_gate_count(gate) : tripped ? fs_breaker_failures(breaker) : 0;
    for (uint32_t slot = 0; slot < breaker->config.half_open_most; slot++)
        status->probes += !lease_over(fs_load_relaxed(&breaker->lease[slot]), now);
    window_totals(breaker, now, &status->totals);
}

static fs_breaker *heir_of(const fs_breaker *breaker, fs_arena *arena) {
    fs_breaker *heir = (fs_breaker *)(void *)fs_arena_alloc(arena, sizeof *heir);
    if (heir)
        memcpy((char *)heir + sizeof heir->block, (const char *)breaker + sizeof breaker->block,
               sizeof *heir - sizeof heir->block);
    return heir;
}

/* `gate` as read after the words were copied: what a change in between has published before it is read again. */
static void open_heir(fs_breaker *heir, const fs_breaker *breaker, uint64_t gate) {
    heir->until = fs_load_acquire(&breaker->until);
    heir->reopenings = fs_load_acquire(&breaker->reopenings);
    heir->ramped = fs_load_acquire(&breaker->ramped);
    for (uint32_t slot = 0; slot < breaker->config.half_open_most; slot++)
        heir->lease[slot] = fs_load_acquire(&breaker->lease[slot]); /* or a probe let go meanwhile would not be its */
    /* Far from the next one of the block that is left: who takes a lease there too late holds nobody's here. */
    heir->nonce = fs_load_relaxed(&breaker->nonce) + (FS_NONCE_MASK + 1) / 2;
    gate &= ~(FS_GATE_WATCHED | FS_GATE_MOVED);
    fs_store_release(&heir->gate, gate | (heir->config.last ? FS_GATE_WATCHED : 0));
}

fs_breaker *fs_breaker_move(fs_breaker *breaker, const fs_breaker_config *config) {
    fs_breaker *heir = heir_of(breaker, fs_arena_of(&breaker->block));
    if (!heir) return NULL;
    if (config) {
        fs_last_resize(&heir->last, heir->config.last, config->last);
        heir->config = *config;
    }
    fs_series *series = first_series(breaker);
    heir->series = series ? fs_arena_span(&heir->block, &series->block) : 0;
    fs_recorder_move(&heir->recorder, &breaker->block, &heir->block);
    /* The mark makes every permit's gate unequal, so each call that is out looks again when it ends. */
    open_heir(heir, breaker, fs_or_acq_rel(&breaker->gate, FS_GATE_MOVED));
    return heir;
}

void fs_breaker_leave(fs_breaker *breaker) { fs_or_release(&breaker->gate, FS_GATE_MOVED); }

fs_breaker *fs_breaker_copy(const fs_breaker *breaker, fs_arena *arena) {
    fs_breaker *heir = heir_of(breaker, arena);
    if (!heir) return NULL;
    heir->series = 0;
    heir->member = 0;
    heir->recorder = (fs_recorder){0};
    if (!fs_recorder_copy(&breaker->recorder, &breaker->block, &heir->recorder, &heir->block)) {
        fs_breaker_free(heir);
        return NULL;
    }
    uint64_t gate, after = fs_breaker_gate(breaker);
    do { /* until nothing has changed meanwhile: the ends are of the state that they are copied with */
        gate = after;
        open_heir(heir, breaker, gate);
        after = fs_breaker_gate(breaker);
    } while (fs_gate_generation(after) != fs_gate_generation(gate));
    return heir;
}

bool fs_breaker_config_same(const fs_breaker_config *one, const fs_breaker_config *other) {
    return one->reset_timeout == other->reset_timeout && one->reset_most == other->reset_most &&
           one->lease == other->lease && one->slow == other->slow && one->latency_limit == other->latency_limit &&
           one->latency_quantile == other->latency_quantile && one->reset_growth == other->reset_growth &&
           one->reset_jitter == other->reset_jitter && one->failure_rate == other->failure_rate &&
           one->slow_rate == other->slow_rate && one->failure_threshold == other->failure_threshold &&
           one->success_threshold == other->success_threshold && one->half_open_most == other->half_open_most &&
           one->minimum_calls == other->minimum_calls && one->last == other->last && one->ramp == other->ramp &&
           one->ramp_from == other->ramp_from;
}
