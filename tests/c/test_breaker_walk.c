/* Random walks over all states, permits, leases, limits, ramps, reservations and moves, beside a second telling of the
 * state table. */
#include "breaker_rig.h"

#include "failsoft/rng.h"

/* A second, plain telling of the state table, with consecutive failures as the only rule. */
typedef struct {
    fs_breaker_config config;
    fs_state state;
    uint32_t generation, count;
    fs_ns until, ramp_end, reserved, held, let;
    uint64_t held_back;
    bool ramps;
    uint64_t limit; /* FS_ALL: none */
    uint64_t dial;
    struct {
        fs_permit holder;
        fs_ns expiry;
    } slot[FS_PROBES_MOST];
} model;

static fs_ns microseconds(fs_ns now) { return (now + 999) / 1000 * 1000; }

static void model_becomes(model *m, fs_state to, fs_ns now) {
    m->state = to;
    m->ramps = false;
    m->generation++;
    m->count = 0;
    if (to == FS_OPEN) m->until = microseconds(now + m->config.reset_timeout);
}

static uint64_t model_share(const model *m, fs_ns now) {
    if (!m->ramps || now >= m->ramp_end || m->config.ramp == 0) return m->limit;
    fs_ns left = m->ramp_end - now < m->config.ramp ? m->ramp_end - now : m->config.ramp;
    double missing = (double)(FS_ALL - m->config.ramp_from) * ((double)left / (double)m->config.ramp);
    uint64_t share = FS_ALL - (uint64_t)missing;
    return share < m->limit ? share : m->limit;
}

#define REFUSED (-1)
#define NO_ROOM (-2)

/* The slot a probe would get, 0 for a plain call. */
static int model_acquire(model *m, bool checks, fs_ns now) {
    fs_ns reserved = checks ? 0 : m->reserved;
    bool kept = reserved && now < m->until + reserved;
    bool due = m->state == FS_HALF_OPEN || (m->state == FS_OPEN && now >= m->until);
    if (due && !kept && now < m->held && now >= m->let) {
        m->held_back++;
        return REFUSED;
    }
    if (m->state == FS_OPEN && now >= m->until && !kept) model_becomes(m, FS_HALF_OPEN, now);
    if (m->state == FS_OPEN || m->state == FS_FORCED_OPEN) return REFUSED;
    if (m->state == FS_HALF_OPEN && kept) return REFUSED;
    if (m->state != FS_HALF_OPEN) {
        if (m->ramps && (now >= m->ramp_end || m->config.ramp == 0)) m->ramps = false;
        uint64_t share = model_share(m, now), before = m->dial;
        if (share == FS_ALL) return 0;
        m->dial += share;
        return m->dial / FS_ALL != before / FS_ALL ? 0 : NO_ROOM;
    }
    for (uint32_t i = 0; i < m->config.half_open_most; i++)
        if (m->slot[i].holder == 0 || m->slot[i].expiry <= now) {
            m->slot[i].expiry = (now + m->config.lease + LEASE_UNIT - 1) / LEASE_UNIT * LEASE_UNIT;
            return (int)i + 1;
        }
    return REFUSED;
}

static void model_end(model *m, fs_permit permit, ending how, fs_ns now) {
    uint32_t slot = fs_permit_slot(permit);
    if (slot) {
        if (m->slot[slot - 1].holder != permit) return;
        m->slot[slot - 1].holder = 0;
    }
    if (how == IGNORED || fs_permit_generation(permit) != m->generation) return;
    if (m->state == FS_HALF_OPEN) {
        if (how == FAILED) model_becomes(m, FS_OPEN, now);
        else if (++m->count >= m->config.success_threshold) {
            model_becomes(m, FS_CLOSED_STATE, now);
            m->ramps = m->config.ramp != 0;
            m->ramp_end = microseconds(now + m->config.ramp);
        }
    } else if (m->state == FS_CLOSED_STATE || m->state == FS_METRICS_ONLY) {
        m->count = how == FAILED ? m->count + 1 : 0;
        if (m->state == FS_CLOSED_STATE && m->count >= m->config.failure_threshold) model_becomes(m, FS_OPEN, now);
    }
}

#define WALK 600000
#define OUT 64

static fs_breaker_config drawn(fs_rng *rng) {
    fs_breaker_config config = plain();
    config.failure_threshold = 1 + (uint32_t)(fs_rng_next(rng) % 4);
    config.success_threshold = 1 + (uint32_t)(fs_rng_next(rng) % 4);
    config.half_open_most = 1 + (uint32_t)(fs_rng_next(rng) % 5);
    config.reset_timeout = 1 + fs_rng_next(rng) % WAIT;
    config.ramp = fs_rng_next(rng) % 4 ? 1 + fs_rng_next(rng) % (2 * WAIT) : 0;
    config.ramp_from = fs_rng_next(rng) >> 32;
    config.last = fs_rng_next(rng) % 2 ? 10 : 0;
    return config;
}

static void a_random_walk_agrees_with_the_model(uint64_t seed) {
    fs_rng rng;
    fs_rng_seed(&rng, seed);
    fs_breaker_config config = drawn(&rng);
    fs_breaker *breaker = made(config);
    model m = {
        .config = config, .state = FS_CLOSED_STATE, .generation = 1, .limit = FS_ALL, .dial = FS_DIAL_START,
    };
    fs_permit out[OUT] = {0};
    fs_ns now = START;
    uint32_t before = 1;
    for (int step = 0; step < WALK && !check_failed; step++) {
        uint64_t draw = fs_rng_next(&rng);
        uint32_t place = (uint32_t)(draw >> 32) % OUT;
        if (draw % 16 == 0) now += fs_rng_next(&rng) % (2 * WAIT);
        else if (draw % 4 == 0) now += fs_rng_next(&rng) % (50 * MS);
        if (draw >> 40 & 1 && !out[place]) {
            bool checks = draw >> 41 & 1, ramped = m.ramps;
            uint32_t generation_before = m.generation;
            int slot = model_acquire(&m, checks, now);
            change = (fs_change){0};
            fs_permit permit = checks ? fs_breaker_probe(breaker, now, &change) : acquire(breaker, now);
            CHECK_EQ(fs_permit_granted(permit), slot >= 0);
            CHECK_EQ(change.because == FS_BECAUSE_RAMPED, ramped && !m.ramps);
            CHECK_EQ(change.because == FS_BECAUSE_WAIT_OVER, m.generation != generation_before);
            if (slot < 0) CHECK_EQ(permit, slot == NO_ROOM ? FS_NO_ROOM : 0);
            else CHECK_EQ(fs_permit_slot(permit), slot);
            if (slot >= 0) CHECK_EQ(fs_permit_generation(permit), m.generation);
            if (slot > 0) m.slot[slot - 1].holder = permit;
            out[place] = slot < 0 ? 0 : permit;
        } else if (out[place]) {
            ending how = draw >> 48 & 3 ? (draw >> 50 & 1 ? SUCCEEDED : FAILED) : IGNORED;
            model_end(&m, out[place], how, now);
            if (how == SUCCEEDED) success(breaker, out[place], now);
            else if (how == FAILED) failure(breaker, out[place], now);
            else fs_breaker_ignore(breaker, out[place]);
            /* A probe's outcome may be told again: it has been counted. A plain call's must not be. */
            if (!fs_permit_slot(out[place]) || draw >> 51 & 3) out[place] = 0;
        } else if (draw >> 52 < 20) {
            fs_state to = (fs_state)(fs_rng_next(&rng) % FS_STATES);
            if (to == FS_CLOSED_STATE || m.state != to) model_becomes(&m, to, now);
            force(breaker, to, now);
        } else if (draw >> 52 < 30) {
            if (draw >> 43 & 1) m.config = drawn(&rng);
            fs_breaker *heir = fs_breaker_move(breaker, draw >> 43 & 1 ? &m.config : NULL);
            fs_breaker_free(breaker);
            breaker = heir;
        } else if (draw >> 52 < 60) {
            m.limit = draw >> 43 & 1 ? FS_ALL : fs_rng_next(&rng) >> 32;
            fs_breaker_limit(breaker, m.limit);
        } else if (draw >> 52 < 70) {
            m.reserved = draw >> 43 & 1 ? fs_rng_next(&rng) % WAIT : 0;
            fs_breaker_reserve(breaker, m.reserved);
        } else if (draw >> 52 < 80) {
            m.held = now + fs_rng_next(&rng) % WAIT;
            m.let = now + (draw >> 43 & 1 ? fs_rng_next(&rng) % WAIT : 0);
            fs_breaker_hold(breaker, m.held);
            fs_breaker_let(breaker, m.let);
        } else if (draw >> 52 < 100) {
            fs_ns end = now + fs_rng_next(&rng) % (2 * WAIT);
            bool may = m.state <= FS_HALF_OPEN && !(draw >> 44 & 1);
            uint32_t looked_at = m.generation - (uint32_t)(draw >> 44 & 1);
            change = (fs_change){0};
            if (draw >> 43 & 1) {
                CHECK_EQ(fs_breaker_open_until(breaker, looked_at, end, now, &change), may);
                bool lengthens = may && m.state == FS_OPEN;
                if (lengthens && m.until < end) m.until = microseconds(end);
                may = may && !lengthens;
                if (may) model_becomes(&m, FS_OPEN, now);
                if (may) m.until = microseconds(end);
            } else {
                may = may && m.state != FS_CLOSED_STATE;
                CHECK_EQ(fs_breaker_close(breaker, looked_at, now, &change), may);
                if (may) {
                    model_becomes(&m, FS_CLOSED_STATE, now);
                    m.ramps = m.config.ramp != 0;
                    m.ramp_end = microseconds(now + m.config.ramp);
                }
            }
            CHECK_EQ(change.generation != 0, may);
        }
        CHECK_EQ(breaker->held_back, m.held_back);
        CHECK_EQ(state(breaker), m.state);
        /* In the other states the count means nothing. */
        bool counts = m.state == FS_CLOSED_STATE || m.state == FS_HALF_OPEN || m.state == FS_METRICS_ONLY;
        if (counts) CHECK_EQ(tally(breaker), m.count);
        CHECK_EQ(generation(breaker), m.generation);
        CHECK_EQ((gate(breaker) & FS_GATE_RAMPING) != 0, m.ramps);
        CHECK_EQ((gate(breaker) & FS_GATE_LIMITED) != 0, m.limit < FS_ALL);
        CHECK_EQ((gate(breaker) & FS_GATE_WATCHED) != 0, m.config.last != 0);
        CHECK_EQ(fs_breaker_share(breaker, now), model_share(&m, now));
        CHECK(generation(breaker) - before <= 2); /* goes up, by one a change: OPEN to HALF_OPEN may come on top */
        before = generation(breaker);
        if (step % 16) continue;
        uint32_t leased = 0;
        for (uint32_t i = 0; i < m.config.half_open_most; i++) leased += m.slot[i].holder && m.slot[i].expiry > now;
        CHECK_EQ(status(breaker, now).probes, leased);
        CHECK(leased <= m.config.half_open_most);
    }
    fs_breaker_free(breaker);
}

int main(void) {
    rig_setup();
    for (uint64_t seed = 1; seed <= 4; seed++) a_random_walk_agrees_with_the_model(seed);
    return rig_report();
}
