/* Random walks over all states, permits, leases and moves, beside a second telling of the state table. */
#include "breaker_rig.h"

#include "failsoft/rng.h"

/* A second, plain telling of the state table, with consecutive failures as the only rule. */
typedef struct {
    fs_breaker_config config;
    fs_state state;
    uint32_t generation, count;
    fs_ns until;
    struct {
        fs_permit holder;
        fs_ns expiry;
    } slot[FS_PROBES_MOST];
} model;

static void model_becomes(model *m, fs_state to, fs_ns now) {
    m->state = to;
    m->generation++;
    m->count = 0;
    if (to == FS_OPEN) m->until = (now + m->config.reset_timeout + 999) / 1000 * 1000;
}

/* The slot a probe would get, 0 for a plain call, -1 for a refusal. */
static int model_acquire(model *m, fs_ns now) {
    if (m->state == FS_OPEN && now >= m->until) model_becomes(m, FS_HALF_OPEN, now);
    if (m->state == FS_OPEN || m->state == FS_FORCED_OPEN) return -1;
    if (m->state != FS_HALF_OPEN) return 0;
    for (uint32_t i = 0; i < m->config.half_open_most; i++)
        if (m->slot[i].holder == 0 || m->slot[i].expiry <= now) {
            m->slot[i].expiry = (now + m->config.lease + LEASE_UNIT - 1) / LEASE_UNIT * LEASE_UNIT;
            return (int)i + 1;
        }
    return -1;
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
        else if (++m->count >= m->config.success_threshold) model_becomes(m, FS_CLOSED_STATE, now);
    } else if (m->state == FS_CLOSED_STATE || m->state == FS_METRICS_ONLY) {
        m->count = how == FAILED ? m->count + 1 : 0;
        if (m->state == FS_CLOSED_STATE && m->count >= m->config.failure_threshold) model_becomes(m, FS_OPEN, now);
    }
}

#define WALK 600000
#define OUT 64

static void a_random_walk_agrees_with_the_model(uint64_t seed) {
    fs_rng rng;
    fs_rng_seed(&rng, seed);
    fs_breaker_config config = plain();
    config.failure_threshold = 1 + (uint32_t)(fs_rng_next(&rng) % 4);
    config.success_threshold = 1 + (uint32_t)(fs_rng_next(&rng) % 4);
    config.half_open_most = 1 + (uint32_t)(fs_rng_next(&rng) % 5);
    config.reset_timeout = 1 + fs_rng_next(&rng) % WAIT;
    fs_breaker *breaker = made(config);
    model m = {.config = config, .state = FS_CLOSED_STATE, .generation = 1};
    fs_permit out[OUT] = {0};
    fs_ns now = START;
    uint32_t before = 1;
    for (int step = 0; step < WALK && !check_failed; step++) {
        uint64_t draw = fs_rng_next(&rng);
        uint32_t place = (uint32_t)(draw >> 32) % OUT;
        if (draw % 16 == 0) now += fs_rng_next(&rng) % (2 * WAIT);
        else if (draw % 4 == 0) now += fs_rng_next(&rng) % (50 * MS);
        if (draw >> 40 & 1 && !out[place]) {
            int slot = model_acquire(&m, now);
            fs_permit permit = acquire(breaker, now);
            CHECK_EQ(permit != 0, slot >= 0);
            if (permit) CHECK_EQ(fs_permit_slot(permit), slot);
            if (permit) CHECK_EQ(fs_permit_generation(permit), m.generation);
            if (slot > 0) m.slot[slot - 1].holder = permit;
            out[place] = permit;
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
            fs_breaker *heir = fs_breaker_move(breaker, NULL);
            fs_breaker_free(breaker);
            breaker = heir;
        }
        CHECK_EQ(state(breaker), m.state);
        /* In the other states the count means nothing. */
        bool counts = m.state == FS_CLOSED_STATE || m.state == FS_HALF_OPEN || m.state == FS_METRICS_ONLY;
        if (counts) CHECK_EQ(tally(breaker), m.count);
        CHECK_EQ(generation(breaker), m.generation);
        CHECK(generation(breaker) - before <= 2); /* goes up, by one a change: OPEN to HALF_OPEN may come on top */
        before = generation(breaker);
        if (step % 16) continue;
        uint32_t leased = 0;
        for (uint32_t i = 0; i < config.half_open_most; i++) leased += m.slot[i].holder && m.slot[i].expiry > now;
        CHECK_EQ(status(breaker, now).probes, leased);
        CHECK(leased <= config.half_open_most);
    }
    fs_breaker_free(breaker);
}

int main(void) {
    rig_setup();
    for (uint64_t seed = 1; seed <= 4; seed++) a_random_walk_agrees_with_the_model(seed);
    return rig_report();
}
