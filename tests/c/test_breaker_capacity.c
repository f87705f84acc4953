/* Letting only a share of the calls go: limits, the ramp after a recovery, reserved probes, and moves under another
 * configuration. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "breaker_rig.h"

#include <pthread.h>

#define HALF (FS_ALL / 2)
#define RAMP (16 * SECOND) /* longer than WAIT, so that one of them in place of the other shows */
#define BACK (START + WAIT) /* when `recovered` closes */

static fs_breaker_config ramping(void) {
    fs_breaker_config config = plain();
    config.ramp = RAMP;
    config.ramp_from = HALF;
    return config;
}

/* Closed again by its probes, at BACK. */
static fs_breaker *recovered(fs_breaker_config config) {
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    for (uint32_t i = 0; i < config.success_threshold; i++) success(breaker, acquire(breaker, BACK), BACK);
    check_change(FS_HALF_OPEN, FS_CLOSED_STATE, FS_BECAUSE_RECOVERED, 4, 0);
    return breaker;
}

static fs_permit probe(fs_breaker *breaker, fs_ns now) {
    change = (fs_change){0};
    return fs_breaker_probe(breaker, now, &change);
}

static bool ramps(const fs_breaker *breaker) { return gate(breaker) & FS_GATE_RAMPING; }

/* How many of so many calls go. Every other one must get `refusal`. */
static uint32_t gone(fs_breaker *breaker, uint32_t calls, fs_permit refusal, fs_ns now) {
    uint32_t went = 0;
    for (uint32_t i = 0; i < calls; i++) {
        fs_permit permit = acquire(breaker, now);
        if (fs_permit_granted(permit)) went++;
        else CHECK_EQ(permit, refusal);
    }
    return went;
}

static fs_decision found[FS_DECISIONS];
static uint32_t decisions(const fs_breaker *breaker) {
    return fs_recorder_read(&breaker->recorder, &breaker->block, found);
}

/* ---- chaos */

static void a_mark_of_chaos_changes_no_decision_and_outlives_all(void) {
    fs_breaker *breaker = made(plain());
    uint64_t before = gate(breaker);
    fs_breaker_chaos(breaker, true);
    CHECK_EQ(gate(breaker), before | FS_GATE_CHAOS);
    CHECK(!fs_gate_clear(gate(breaker))); /* or the call path would not ask */
    fs_ns now = START;
    for (int i = 0; i < 3; i++) failure(breaker, acquire(breaker, now), now);
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK_EQ(acquire(breaker, now), 0);
    now += WAIT;
    for (int i = 0; i < 2; i++) success(breaker, acquire(breaker, now), now);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    for (fs_state to = FS_CLOSED_STATE; to < FS_STATES; to++) {
        force(breaker, to, now);
        CHECK(gate(breaker) & FS_GATE_CHAOS);
    }
    fs_breaker *heir = fs_breaker_move(breaker, NULL);
    CHECK(gate(heir) & FS_GATE_CHAOS);
    fs_breaker_limit(heir, HALF);
    fs_breaker_limit(heir, FS_ALL);
    force(heir, FS_CLOSED_STATE, now);
    success(heir, acquire(heir, now), now);
    CHECK_EQ((uint32_t)gate(heir), FS_GATE_CHAOS);
    fs_breaker_chaos(heir, false);
    CHECK(fs_gate_clear(gate(heir)));
    fs_breaker_free(heir);
    fs_breaker_free(breaker);
}

/* Each mark is put on and taken off by itself, whichever of the others are there, and as often as one likes. */
static void marks_know_nothing_of_each_other(void) {
    static const uint64_t marks[] = {FS_GATE_CHAOS, FS_GATE_LIMITED, FS_GATE_RAMPING};
    for (uint32_t held = 0; held < 8; held++)
        for (uint32_t watched = 0; watched < 2; watched++) {
            fs_breaker_config config = held & 4 ? ramping() : plain();
            config.last = watched ? 10 : 0;
            fs_breaker *breaker = recovered(config);
            uint64_t wanted = watched ? FS_GATE_WATCHED : 0;
            for (int i = 0; i < 3; i++) wanted |= held >> i & 1 ? marks[i] : 0;
            for (int twice = 0; twice < 2; twice++) {
                fs_breaker_chaos(breaker, held & 1);
                fs_breaker_limit(breaker, held & 2 ? HALF : FS_ALL);
                CHECK_EQ((uint32_t)gate(breaker), wanted);
            }
            CHECK_EQ(fs_gate_clear(gate(breaker)), wanted == 0);
            CHECK_EQ(fs_breaker_share(breaker, BACK), held & 6 ? HALF : FS_ALL);
            acquire(breaker, BACK + RAMP); /* the end of the ramp */
            wanted &= ~FS_GATE_RAMPING;
            CHECK_EQ((uint32_t)gate(breaker), wanted);
            fs_breaker_chaos(breaker, !(held & 1));
            CHECK_EQ((uint32_t)gate(breaker), wanted ^ FS_GATE_CHAOS);
            fs_breaker_limit(breaker, held & 2 ? FS_ALL : HALF);
            CHECK_EQ((uint32_t)gate(breaker), wanted ^ FS_GATE_CHAOS ^ FS_GATE_LIMITED);
            fs_breaker_leave(breaker);
            CHECK_EQ((uint32_t)gate(breaker), (wanted ^ FS_GATE_CHAOS ^ FS_GATE_LIMITED) | FS_GATE_MOVED);
            fs_breaker_free(breaker);
        }
}

/* ---- permits taken back */

/* As if it had never been asked for: the dial stands where it stood, by limit, by ramp, by both and by none. */
static void a_call_taken_back_leaves_the_dial_alone(void) {
    for (uint32_t held = 0; held < 4; held++)
        for (fs_ns now = BACK; now < BACK + RAMP; now += RAMP / 4) {
            fs_breaker *breaker = recovered(held & 1 ? ramping() : plain());
            if (held & 2) fs_breaker_limit(breaker, FS_ALL / 8 * 5);
            for (int call = 0; call < 20; call++) {
                uint64_t dial = breaker->dial, before = gate(breaker);
                fs_permit permit = acquire(breaker, now);
                CHECK_EQ(breaker->dial, held ? dial + fs_breaker_share(breaker, now) : dial);
                if (!fs_permit_granted(permit)) continue; /* nothing to take back */
                fs_breaker_withdraw(breaker, permit, before, now);
                CHECK_EQ(breaker->dial, dial);
                CHECK_EQ(acquire(breaker, now), permit); /* the next to ask takes its place */
            }
            fs_breaker_free(breaker);
        }
}

/* What was asked for while there was neither limit nor ramp has moved no dial, whatever there is by now. */
static void a_call_taken_back_is_taken_back_by_its_own_gate(void) {
    fs_breaker *breaker = made(plain());
    uint64_t before = gate(breaker), dial = breaker->dial;
    fs_permit permit = acquire(breaker, START);
    fs_breaker_limit(breaker, HALF);
    fs_breaker_withdraw(breaker, permit, before, START);
    CHECK_EQ(breaker->dial, dial);
    fs_breaker_chaos(breaker, true);
    fs_breaker_limit(breaker, FS_ALL);
    before = gate(breaker);
    fs_breaker_withdraw(breaker, acquire(breaker, START), before, START);
    CHECK_EQ(breaker->dial, dial);
    fs_breaker_free(breaker);
}

/* ---- limits */

static void a_limit_holds_where_calls_go(void) {
    static const fs_state lets[] = {FS_CLOSED_STATE, FS_DISABLED, FS_METRICS_ONLY};
    for (int i = 0; i < 3; i++) {
        fs_breaker *breaker = in_state(plain(), lets[i]);
        uint64_t before = gate(breaker);
        fs_breaker_limit(breaker, HALF);
        CHECK_EQ(gate(breaker), before | FS_GATE_LIMITED);
        CHECK(!fs_gate_clear(gate(breaker))); /* or the call path would not ask */
        CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, START), 500);
        CHECK(status(breaker, START).share == HALF && fs_breaker_share(breaker, START) == HALF);
        fs_breaker_limit(breaker, FS_ALL / 4);
        CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, START), 250);
        fs_breaker_limit(breaker, 0);
        CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, START), 0);
        CHECK_EQ(status(breaker, START).share, 0);
        fs_breaker_limit(breaker, FS_ALL);
        CHECK_EQ(gate(breaker), before);
        CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, START), 1000);
        CHECK_EQ(status(breaker, START).share, FS_ALL);
        fs_breaker_free(breaker);
    }
}

static void a_limit_leaves_refusals_and_probes_alone(void) {
    static const fs_state refuses[] = {FS_OPEN, FS_FORCED_OPEN};
    for (int i = 0; i < 2; i++) {
        fs_breaker *breaker = in_state(plain(), refuses[i]);
        fs_breaker_limit(breaker, HALF);
        CHECK_EQ(gone(breaker, 100, 0, START), 0); /* told by the state, not for capacity */
        CHECK_EQ(status(breaker, START).share, 0);
        CHECK_EQ(fs_breaker_share(breaker, START), HALF); /* what it will be */
        fs_breaker_free(breaker);
    }
    for (uint64_t share = 0; share < FS_ALL; share += HALF) {
        fs_breaker_config config = plain();
        fs_breaker *breaker = in_state(config, FS_OPEN);
        fs_breaker_limit(breaker, share);
        uint64_t dial = breaker->dial;
        fs_permit one = acquire(breaker, BACK), two = probe(breaker, BACK), three = acquire(breaker, BACK);
        CHECK(fs_permit_slot(one) == 1 && fs_permit_slot(two) == 2 && fs_permit_slot(three) == 3);
        CHECK_EQ(gone(breaker, 100, 0, BACK), 0); /* a full house is the state's refusal too */
        CHECK_EQ(breaker->dial, dial);
        CHECK_EQ(status(breaker, BACK).share, 0);
        success(breaker, one, BACK);
        success(breaker, two, BACK);
        CHECK_EQ(state(breaker), FS_CLOSED_STATE); /* it recovers at no capacity at all */
        CHECK_EQ(gone(breaker, 100, FS_NO_ROOM, BACK), (100 * share) >> 32);
        fs_breaker_free(breaker);
    }
}

static void a_limit_outlives_changes_of_state(void) {
    fs_breaker *breaker = made(plain());
    fs_breaker_limit(breaker, HALF);
    for (int to = FS_STATES - 1; to >= 0; to--) {
        force(breaker, (fs_state)to, START);
        CHECK(gate(breaker) & FS_GATE_LIMITED);
    }
    CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, START), 500);
    fs_breaker_limit(breaker, FS_ALL);
    CHECK(fs_gate_clear(gate(breaker)));
    fs_breaker_free(breaker);
}

static void a_call_counts_whatever_limits_did_meanwhile(void) {
    fs_breaker *breaker = made(plain());
    fs_permit out[6];
    for (int i = 0; i < 3; i++) out[i] = acquire(breaker, START);
    failure(breaker, out[0], START);
    fs_breaker_limit(breaker, HALF);
    CHECK_EQ(fs_permit_generation(acquire(breaker, START)), generation(breaker));
    failure(breaker, out[1], START);
    CHECK_EQ(tally(breaker), 2);
    CHECK(gate(breaker) & FS_GATE_LIMITED);
    success(breaker, out[2], START); /* admitted before the limit, over under it */
    CHECK_EQ(tally(breaker), 0);
    CHECK(gate(breaker) & FS_GATE_LIMITED);

    int held = 0;
    while (held < 3) {
        fs_permit permit = acquire(breaker, START);
        if (fs_permit_granted(permit)) out[held++] = permit;
    }
    fs_breaker_limit(breaker, FS_ALL);
    for (int i = 0; i < 2; i++) failure(breaker, out[i], START);
    CHECK_EQ(tally(breaker), 2);
    fs_breaker_limit(breaker, 0);
    failure(breaker, out[2], START);
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_CONSECUTIVE_FAILURES, 2, 3);
    fs_breaker_free(breaker);
}

static void a_refusal_for_capacity_is_no_permit(void) {
    fs_breaker_config config = plain();
    config.success_threshold = FS_COUNT_MOST;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    CHECK(!fs_permit_granted(FS_NO_ROOM) && !fs_permit_granted(0) && FS_NO_ROOM != 0);
    breaker->nonce = (1 << 20) - 1; /* the next lease has the nonce 0, as FS_NO_ROOM read as a permit would */
    fs_permit held = acquire(breaker, BACK);
    CHECK_EQ(fs_permit_slot(held), 1);
    uint64_t before = gate(breaker);
    success(breaker, FS_NO_ROOM, BACK);
    failure(breaker, FS_NO_ROOM, BACK);
    fs_breaker_ignore(breaker, FS_NO_ROOM);
    CHECK_EQ(gate(breaker), before);
    CHECK_EQ(status(breaker, BACK).probes, 1);
    success(breaker, held, BACK);
    CHECK_EQ(tally(breaker), 1);
    success(breaker, held, BACK); /* told again, and a slot that nobody holds has no nonce either */
    CHECK_EQ(tally(breaker), 1);
    failure(breaker, held, BACK);
    CHECK_EQ(state(breaker), FS_HALF_OPEN);
    fs_breaker_free(breaker);
}

/* ---- the ramp after a recovery */

static void the_domain_of_a_ramp(void) {
    fs_breaker_config config = ramping();
    config.ramp_from = FS_ALL;
    CHECK_EQ(fs_breaker_check(&config), FS_INVALID);
    config.ramp_from = FS_ALL - 1;
    CHECK_EQ(fs_breaker_check(&config), FS_OK);
    config.ramp_from = FS_ALL;
    config.ramp = 0;
    CHECK_EQ(fs_breaker_check(&config), FS_OK);
}

static void a_ramp_rises_steadily_from_its_start_to_all(void) {
    static const uint64_t froms[] = {0, FS_ALL / 10, HALF, FS_ALL - 1};
    for (int f = 0; f < 4; f++) {
        fs_breaker_config config = ramping();
        config.ramp_from = froms[f];
        fs_breaker *breaker = recovered(config);
        CHECK_EQ(gate(breaker) & 0xffffffff, FS_GATE_RAMPING);
        CHECK_EQ(fs_breaker_share(breaker, BACK), froms[f]);
        uint64_t last = froms[f];
        for (uint64_t step = 0; step < 64; step++) {
            uint64_t share = fs_breaker_share(breaker, BACK + step * RAMP / 64);
            CHECK_EQ(share, FS_ALL - (FS_ALL - froms[f]) * (64 - step) / 64);
            CHECK_EQ(status(breaker, BACK + step * RAMP / 64).share, share);
            CHECK(share >= last && share <= FS_ALL);
            last = share;
        }
        CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP), FS_ALL);
        CHECK_EQ(fs_breaker_share(breaker, BACK + 1000 * RAMP), FS_ALL);
        CHECK(ramps(breaker)); /* reading ends nothing */
        fs_breaker_free(breaker);
    }
}

static void as_many_go_as_the_shares_add_up_to(void) {
    fs_breaker *breaker = recovered(ramping());
    uint64_t sum = FS_DIAL_START;
    uint32_t went = 0;
    for (fs_ns now = BACK; now < BACK + RAMP; now += 7 * MS) {
        fs_permit permit = acquire(breaker, now);
        sum += fs_breaker_share(breaker, now);
        went += fs_permit_granted(permit);
        CHECK(permit == FS_NO_ROOM || fs_permit_generation(permit) == 4);
        CHECK_EQ(went, sum >> 32);
        check_change(0, 0, 0, 0, 0);
        if (fs_permit_granted(permit)) success(breaker, permit, now);
    }
    /* Three quarters of them all, for half and all are as far from it. */
    CHECK(went >= 3 * RAMP / (4 * 7 * MS) && went <= 3 * RAMP / (4 * 7 * MS) + 1);
    fs_breaker_free(breaker);
}

static void the_first_call_at_its_end_ends_it(void) {
    for (int idle = 0; idle < 2; idle++) {
        fs_breaker *breaker = recovered(ramping());
        uint32_t recorded = decisions(breaker);
        acquire(breaker, BACK + RAMP - 1);
        check_change(0, 0, 0, 0, 0);
        CHECK(ramps(breaker));
        fs_ns end = BACK + RAMP + (fs_ns)idle * 1000 * RAMP;
        CHECK(fs_permit_granted(acquire(breaker, end)));
        check_change(FS_CLOSED_STATE, FS_CLOSED_STATE, FS_BECAUSE_RAMPED, 4, 0);
        CHECK(fs_gate_clear(gate(breaker)));
        CHECK_EQ(gone(breaker, 100, FS_NO_ROOM, end), 100);
        check_change(0, 0, 0, 0, 0);
        CHECK_EQ(decisions(breaker), recorded + 1);
        fs_decision *told = &found[recorded];
        CHECK(told->kind == FS_CAPACITY && told->because == FS_BECAUSE_RAMPED && told->number == 1.0);
        CHECK(told->first == end && told->generation == 4 && told->state == FS_CLOSED_STATE);
        CHECK_EQ(status(breaker, end).because, FS_BECAUSE_RECOVERED); /* no change of state */
        CHECK_EQ(status(breaker, end).changed, BACK);
        fs_breaker_free(breaker);
    }
}

static void a_call_counts_though_the_ramp_ends_meanwhile(void) {
    fs_breaker *breaker = recovered(ramping());
    fs_permit out[3];
    for (int held = 0; held < 3;) {
        fs_permit permit = acquire(breaker, BACK);
        if (fs_permit_granted(permit)) out[held++] = permit;
    }
    failure(breaker, out[0], BACK);
    CHECK(ramps(breaker) && tally(breaker) == 1);
    acquire(breaker, BACK + RAMP);
    CHECK(!ramps(breaker) && tally(breaker) == 1);
    failure(breaker, out[1], BACK + RAMP);
    failure(breaker, out[2], BACK + RAMP);
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_CONSECUTIVE_FAILURES, 5, 3);
    fs_breaker_free(breaker);
}

static void opening_again_clears_it(void) {
    fs_breaker *breaker = recovered(ramping());
    fs_ns now = BACK + SECOND;
    fs_permit out[3];
    for (int held = 0; held < 3;) {
        fs_permit permit = acquire(breaker, now);
        if (fs_permit_granted(permit)) out[held++] = permit;
    }
    for (int i = 0; i < 3; i++) failure(breaker, out[i], now);
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK(!ramps(breaker));
    CHECK_EQ(fs_breaker_retry_after(breaker, now), WAIT);
    CHECK_EQ(acquire(breaker, now + WAIT - 1), 0);
    for (int i = 0; i < 2; i++) success(breaker, acquire(breaker, now + WAIT), now + WAIT);
    CHECK(ramps(breaker));
    CHECK_EQ(fs_breaker_share(breaker, now + WAIT), HALF); /* from the start */
    CHECK(fs_breaker_share(breaker, now + WAIT + RAMP - MS) < FS_ALL);
    CHECK_EQ(fs_breaker_share(breaker, now + WAIT + RAMP), FS_ALL);
    fs_breaker_free(breaker);
}

static void an_operator_needs_no_ramp(void) {
    static const fs_state lets[] = {FS_CLOSED_STATE, FS_DISABLED, FS_METRICS_ONLY};
    for (int from = 0; from < FS_STATES; from++)
        for (int i = 0; i < 3; i++) {
            fs_breaker *breaker = in_state(ramping(), (fs_state)from);
            force(breaker, lets[i], BACK);
            CHECK(!ramps(breaker));
            CHECK_EQ(gone(breaker, 100, FS_NO_ROOM, BACK), 100);
            fs_breaker_free(breaker);
        }
    for (int to = 0; to < FS_STATES; to++) {
        fs_breaker *breaker = recovered(ramping());
        force(breaker, (fs_state)to, BACK + 1);
        CHECK(!ramps(breaker));
        fs_breaker_free(breaker);
    }
}

static void without_a_ramp_all_go_at_once(void) {
    fs_breaker *breaker = recovered(plain());
    CHECK(fs_gate_clear(gate(breaker)));
    CHECK_EQ(status(breaker, BACK).share, FS_ALL);
    fs_breaker_free(breaker);
}

static void the_lower_of_limit_and_ramp_holds(void) {
    fs_breaker *breaker = recovered(ramping());
    fs_breaker_limit(breaker, FS_ALL / 8 * 5);
    CHECK_EQ(fs_breaker_share(breaker, BACK), HALF);
    CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, BACK), 500); /* one dial, asked once */
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP / 8), FS_ALL / 16 * 9);
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP / 4), FS_ALL / 8 * 5);
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP / 2), FS_ALL / 8 * 5);
    CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, BACK + RAMP / 2), 625);
    acquire(breaker, BACK + RAMP);
    check_change(FS_CLOSED_STATE, FS_CLOSED_STATE, FS_BECAUSE_RAMPED, 4, 0);
    CHECK_EQ(gate(breaker) & 0xffffffff, FS_GATE_LIMITED);
    CHECK(found[decisions(breaker) - 1].number == 0.625); /* the capacity from then on */
    CHECK_EQ(gone(breaker, 1000, FS_NO_ROOM, BACK + RAMP), 625);
    fs_breaker_limit(breaker, FS_ALL);
    CHECK(fs_gate_clear(gate(breaker)));
    fs_breaker_free(breaker);

    breaker = recovered(ramping());
    fs_breaker_limit(breaker, FS_ALL / 4);
    CHECK_EQ(fs_breaker_share(breaker, BACK), FS_ALL / 4);
    fs_breaker_limit(breaker, FS_ALL);
    CHECK_EQ(fs_breaker_share(breaker, BACK), HALF); /* the ramp has gone on below */
    fs_breaker_free(breaker);
}

static uint64_t end_of(fs_ns end, uint32_t of_generation) { return end / 1000 << 16 | (of_generation & 0xffff); }

/* Two are of different minds about the same generation, and the one who loses the gate has stored his end before. */
static void who_was_outrun_moves_no_end(void) {
    /* He would have opened the ramping breaker, for an hour. */
    fs_breaker *breaker = recovered(ramping());
    breaker->until = end_of(BACK + 3600 * SECOND, generation(breaker) + 1);
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP / 2), FS_ALL / 4 * 3);
    CHECK(fs_permit_granted(acquire(breaker, BACK + RAMP)));
    CHECK_EQ(change.because, FS_BECAUSE_RAMPED);
    fs_breaker_free(breaker);

    /* He would have closed it, with an hour's ramp; his rival's probe had failed. */
    breaker = in_state(ramping(), FS_HALF_OPEN);
    breaker->ramped = end_of(BACK + 3600 * SECOND, generation(breaker) + 1);
    failure(breaker, acquire(breaker, BACK), BACK);
    CHECK_EQ(fs_breaker_retry_after(breaker, BACK), WAIT);
    fs_breaker_free(breaker);

    /* His probe had failed; his rival closed it. */
    breaker = in_state(ramping(), FS_HALF_OPEN);
    breaker->until = end_of(BACK + 3600 * SECOND, generation(breaker) + 1);
    for (int i = 0; i < 2; i++) success(breaker, acquire(breaker, BACK), BACK);
    CHECK_EQ(fs_breaker_share(breaker, BACK), HALF);
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP), FS_ALL);
    fs_breaker_free(breaker);

    /* He would have closed it, and died: the next recovery is later. */
    breaker = in_state(ramping(), FS_HALF_OPEN);
    breaker->ramped = end_of(BACK + RAMP, generation(breaker) + 1);
    for (int i = 0; i < 2; i++) success(breaker, acquire(breaker, BACK + RAMP), BACK + RAMP);
    CHECK_EQ(fs_breaker_share(breaker, BACK + RAMP), HALF);
    fs_breaker_free(breaker);
}

/* ---- probes that are a health check's */

static void reserved_probes_are_the_checks_until_it_lapses(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    fs_breaker_reserve(breaker, 5 * SECOND);
    CHECK_EQ(probe(breaker, BACK - 1), 0); /* the wait holds for a check as well */
    CHECK_EQ(acquire(breaker, BACK), 0);
    check_change(0, 0, 0, 0, 0);
    CHECK_EQ(acquire(breaker, BACK + 5 * SECOND - 1), 0);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_permit checking = probe(breaker, BACK);
    check_change(FS_OPEN, FS_HALF_OPEN, FS_BECAUSE_WAIT_OVER, 3, 0);
    CHECK_EQ(fs_permit_slot(checking), 1);
    CHECK_EQ(acquire(breaker, BACK), 0); /* HALF_OPEN, and still the check's */
    CHECK_EQ(acquire(breaker, BACK + 5 * SECOND - 1), 0);
    CHECK_EQ(fs_permit_slot(probe(breaker, BACK + 1)), 2);
    CHECK_EQ(status(breaker, BACK + 1).probes, 2);
    success(breaker, checking, BACK);
    CHECK_EQ(fs_permit_slot(acquire(breaker, BACK + 5 * SECOND)), 1); /* the checker is slow: it has lapsed */
    fs_breaker_free(breaker);

    breaker = in_state(plain(), FS_OPEN); /* the checker died: no call ever came */
    fs_breaker_reserve(breaker, 5 * SECOND);
    CHECK_EQ(acquire(breaker, BACK + 5 * SECOND - 1), 0);
    CHECK_EQ(fs_permit_slot(acquire(breaker, BACK + 5 * SECOND)), 1);
    check_change(FS_OPEN, FS_HALF_OPEN, FS_BECAUSE_WAIT_OVER, 3, 0);
    fs_breaker_free(breaker);
}

static void a_reservation_begins_again_with_each_wait(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    fs_breaker_reserve(breaker, 5 * SECOND);
    fs_ns now = BACK;
    for (int i = 0; i < 3; i++) {
        failure(breaker, probe(breaker, now), now);
        CHECK_EQ(state(breaker), FS_OPEN);
        now += WAIT;
        CHECK_EQ(acquire(breaker, now + 5 * SECOND - 1), 0);
    }
    for (int i = 0; i < 2; i++) success(breaker, probe(breaker, now), now);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK_EQ(gone(breaker, 100, 0, now), 100); /* a closed breaker keeps nothing back */
    fs_breaker_free(breaker);
}

static void a_reservation_can_be_given_up(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    fs_breaker_reserve(breaker, 5 * SECOND);
    CHECK_EQ(acquire(breaker, BACK), 0);
    fs_breaker_reserve(breaker, 0);
    CHECK_EQ(fs_permit_slot(acquire(breaker, BACK)), 1);
    fs_breaker_reserve(breaker, FS_FOREVER);
    CHECK_EQ(acquire(breaker, BACK + 3600 * SECOND), 0);
    CHECK_EQ(fs_permit_slot(probe(breaker, BACK)), 2);
    fs_breaker_reserve(breaker, 0);
    CHECK_EQ(fs_permit_slot(acquire(breaker, BACK)), 3);
    fs_breaker_free(breaker);
}

/* Where no wait went before, none is reserved after: an operator's word to probe holds for all. */
static void a_forced_half_open_is_for_all(void) {
    fs_breaker *breaker = made(plain());
    fs_breaker_reserve(breaker, 5 * SECOND);
    force(breaker, FS_HALF_OPEN, START);
    CHECK_EQ(fs_permit_slot(acquire(breaker, START)), 1);
    fs_breaker_free(breaker);
}

static void where_calls_go_a_probe_is_a_call(void) {
    fs_breaker *breaker = made(plain());
    CHECK_EQ(probe(breaker, START), fs_permit_of(gate(breaker)));
    fs_breaker_limit(breaker, 0);
    CHECK_EQ(probe(breaker, START), FS_NO_ROOM);
    force(breaker, FS_FORCED_OPEN, START);
    CHECK_EQ(probe(breaker, START), 0);
    fs_breaker_free(breaker);
}

/* ---- another configuration */

static fs_breaker *moved(fs_breaker *breaker, fs_breaker_config config) {
    fs_breaker *heir = fs_breaker_move(breaker, &config);
    if (!heir) exit(2);
    CHECK(memcmp(&heir->config, &config, sizeof config) == 0);
    return heir;
}

static void a_move_takes_capacity_along(void) {
    fs_breaker *old = recovered(ramping());
    fs_breaker_limit(old, FS_ALL / 8 * 7);
    fs_breaker_reserve(old, 5 * SECOND);
    for (int i = 0; i < 5; i++) acquire(old, BACK + SECOND);
    fs_breaker_note(old, &(fs_decision){.first = BACK, .kind = FS_RETRY});
    uint32_t recorded = decisions(old);
    CHECK_EQ(found[recorded - 1].generation, 4);
    uint64_t before = gate(old), dial = old->dial;

    fs_breaker_config config = ramping();
    config.failure_threshold = 1;
    config.reset_timeout = SECOND;
    fs_breaker *heir = moved(old, config);
    CHECK_EQ(gate(heir), before);
    CHECK_EQ(gate(old), before | FS_GATE_MOVED);
    CHECK_EQ(heir->dial, dial);
    CHECK_EQ(fs_breaker_share(heir, BACK + RAMP / 2), FS_ALL / 4 * 3);
    CHECK_EQ(fs_breaker_share(heir, BACK + RAMP), FS_ALL / 8 * 7);
    CHECK_EQ(decisions(heir), recorded);
    CHECK(found[recorded - 1].kind == FS_RETRY && found[0].kind == FS_TRANSITION);
    uint32_t in_use = arena->used - arena->free_lines;
    fs_breaker_free(old); /* what the heir has of it stays */
    CHECK_EQ(in_use - (arena->used - arena->free_lines), (sizeof(fs_breaker) + FS_LINE - 1) / FS_LINE);
    CHECK_EQ(decisions(heir), recorded);
    fs_breaker_limit(heir, FS_ALL);
    failure(heir, fs_permit_of(before), BACK); /* admitted by the old one, judged by the new */
    CHECK_EQ(state(heir), FS_OPEN);
    CHECK_EQ(fs_breaker_retry_after(heir, BACK), SECOND);
    CHECK_EQ(acquire(heir, BACK + 6 * SECOND - 1), 0); /* still reserved */
    CHECK_EQ(fs_permit_slot(acquire(heir, BACK + 6 * SECOND)), 1);
    fs_breaker_free(heir);
}

static void a_move_keeps_counts_and_leases(void) {
    fs_breaker_config config = plain();
    fs_breaker *old = made(config);
    fail_times(old, 2, START);
    config.failure_threshold = 4;
    fs_breaker *heir = moved(old, config);
    fs_breaker_free(old);
    CHECK_EQ(tally(heir), 2);
    fail_times(heir, 1, START);
    CHECK_EQ(state(heir), FS_CLOSED_STATE);
    fail_times(heir, 1, START);
    CHECK_EQ(state(heir), FS_OPEN);
    config.reset_timeout = 1000 * WAIT;
    old = heir;
    heir = moved(old, config);
    fs_breaker_free(old);
    CHECK_EQ(fs_breaker_retry_after(heir, START), WAIT); /* a wait that runs ends when it would have */
    fs_permit one = acquire(heir, BACK), two = acquire(heir, BACK), three = acquire(heir, BACK);
    CHECK(one && two && three);
    config.half_open_most = 1;
    config.success_threshold = 3;
    old = heir;
    heir = moved(old, config);
    fs_breaker_free(old);
    CHECK_EQ(acquire(heir, BACK), 0);
    success(heir, three, BACK); /* a slot that is no longer given still takes its lease back */
    success(heir, three, BACK);
    CHECK_EQ(tally(heir), 1);
    success(heir, one, BACK);
    CHECK_EQ(fs_permit_slot(acquire(heir, BACK)), 1);
    success(heir, two, BACK);
    CHECK_EQ(state(heir), FS_CLOSED_STATE);
    fs_breaker_free(heir);
}

static void a_ramp_under_another_configuration(void) {
    fs_breaker_config config = ramping();
    fs_breaker *old = recovered(config);
    config.ramp = 0;
    config.ramp_from = FS_ALL;
    fs_breaker *heir = moved(old, config);
    fs_breaker_free(old);
    CHECK_EQ(fs_breaker_share(heir, BACK), FS_ALL); /* none any more */
    CHECK(fs_permit_granted(acquire(heir, BACK)));
    check_change(FS_CLOSED_STATE, FS_CLOSED_STATE, FS_BECAUSE_RAMPED, 4, 0);
    CHECK(fs_gate_clear(gate(heir)));
    fs_breaker_free(heir);

    config = ramping();
    old = recovered(config);
    config.ramp_from = 0;
    heir = moved(old, config);
    fs_breaker_free(old);
    CHECK_EQ(fs_breaker_share(heir, BACK + RAMP / 4), FS_ALL / 4);
    CHECK_EQ(fs_breaker_share(heir, BACK + RAMP), FS_ALL); /* its end stays */
    fs_breaker_free(heir);
}

static void a_move_watches_as_its_configuration_does(void) {
    fs_breaker_config config = by_rate(), counted = by_rate();
    counted.last = 20;
    fs_breaker *breaker = made(config);
    fs_permit out = acquire(breaker, START);
    static const bool watched[] = {true, true, false, false, true};
    for (int i = 0; i < 5; i++) {
        fs_breaker *heir = moved(breaker, watched[i] ? counted : config);
        fs_breaker_free(breaker);
        breaker = heir;
        CHECK_EQ((gate(breaker) & FS_GATE_WATCHED) != 0, watched[i]);
    }
    CHECK_EQ(status(breaker, START).totals.calls, 0);
    failure(breaker, out, START); /* admitted unwatched */
    CHECK_EQ(status(breaker, START).totals.calls, 1);
    CHECK_EQ(status(breaker, START).totals.failures, 1);
    fs_breaker_free(breaker);
}

static void a_count_window_of_another_size_keeps_what_fits(void) {
    fs_breaker_config config = by_rate();
    config.last = 100;
    config.failure_rate = NO_RATE;
    fs_breaker *breaker = made(config);
    for (int i = 0; i < 100; i++) failure(breaker, acquire(breaker, START), START);
    for (int i = 0; i < 5; i++) success(breaker, acquire(breaker, START), START);
    static const struct { uint32_t size, calls, failures; } then[] = {
        {10, 10, 5}, {200, 10, 5}, {3, 3, 0}, {0, 0, 0}, {50, 0, 0},
    };
    for (int i = 0; i < 5; i++) {
        config.last = then[i].size;
        fs_breaker *heir = moved(breaker, config);
        fs_breaker_free(breaker);
        breaker = heir;
        fs_totals totals = status(breaker, START).totals;
        CHECK_EQ(totals.calls, then[i].calls);
        CHECK_EQ(totals.failures, then[i].failures);
    }
    fs_breaker_free(breaker);
}

/* ---- threads */

#define THREADS 4
#define ROUNDS 3000

static fs_breaker *shared;
static pthread_barrier_t together;
static uint32_t told;

#define ENDS 1000000

static uint32_t stop;

static void call_at_the_end(void) {
    fs_change mine = {0};
    CHECK(fs_permit_granted(fs_breaker_acquire(shared, BACK + RAMP, &mine)));
    if (mine.generation) fs_add_relaxed(&told, 1);
}

static void *calling_at_the_end(void *argument) {
    (void)argument;
    while (!fs_load_relaxed(&stop))
        if (ramps(shared)) call_at_the_end();
    return NULL;
}

static void threads_end_a_ramp_once(void) {
    pthread_t other;
    shared = recovered(ramping());
    uint64_t ramping_gate = gate(shared), clear_gate = ramping_gate & ~FS_GATE_RAMPING;
    fs_store_relaxed(&shared->gate, clear_gate);
    CHECK(pthread_create(&other, NULL, calling_at_the_end, NULL) == 0);
    for (int round = 0; round < ENDS; round++) {
        fs_store_release(&shared->gate, ramping_gate);
        for (int i = 0; i < round % 64; i++) (void)gate(shared); /* give him time to come as well */
        call_at_the_end();
        CHECK_EQ(gate(shared), clear_gate);
    }
    fs_store_relaxed(&stop, 1);
    pthread_join(other, NULL);
    CHECK_EQ(told, ENDS);
    fs_breaker_free(shared);
}

/* One failure short of opening, one thread fails and the other succeeds. Where the success is first, the other has
 * often stored the end of a wait already. */
static void *ending_calls(void *argument) {
    bool fails = *(bool *)argument;
    for (int round = 0; round < ROUNDS; round++) {
        fs_change mine = {0};
        pthread_barrier_wait(&together);
        fs_permit permit = fs_permit_of(gate(shared));
        if (fails) fs_breaker_failure(shared, permit, 0, BACK, &mine);
        else fs_breaker_success(shared, permit, 0, BACK, &mine);
        pthread_barrier_wait(&together);
    }
    return NULL;
}

static void threads_that_fail_to_open_leave_the_ramp_alone(void) {
    pthread_t threads[2];
    bool roles[] = {true, false};
    shared = recovered(ramping());
    uint64_t ramping_gate = gate(shared) | 2 << 16, ends = shared->ramped;
    pthread_barrier_init(&together, NULL, 3);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, ending_calls, &roles[i]) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        fs_store_release(&shared->gate, ramping_gate);
        pthread_barrier_wait(&together);
        pthread_barrier_wait(&together);
        if (state(shared) == FS_OPEN) {
            CHECK_EQ(fs_breaker_retry_after(shared, BACK), WAIT);
        } else {
            CHECK(ramps(shared) && tally(shared) <= 1);
            CHECK_EQ(fs_breaker_share(shared, BACK + RAMP / 2), FS_ALL / 4 * 3);
        }
        CHECK_EQ(shared->ramped, ends);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    fs_breaker_free(shared);
}

#define OPENINGS 500000

static void *limiting(void *argument) {
    (void)argument;
    while (!fs_load_relaxed(&stop)) {
        fs_breaker_limit(shared, HALF);
        fs_breaker_limit(shared, FS_ALL);
    }
    return NULL;
}

/* A flag that comes and goes changes the gate and changes it back: no opening may pass in between without its wait. */
static void a_gate_that_comes_back_is_not_opened_without_a_wait(void) {
    pthread_t other;
    fs_breaker_config config = plain();
    config.failure_threshold = 1;
    shared = made(config);
    fs_store_relaxed(&stop, 0);
    CHECK(pthread_create(&other, NULL, limiting, NULL) == 0);
    uint32_t without = 0;
    for (fs_ns now = START; now < START + OPENINGS * MS; now += MS) {
        failure(shared, fs_permit_of(gate(shared)), now);
        CHECK_EQ(state(shared), FS_OPEN);
        without += fs_breaker_retry_after(shared, now) != WAIT;
        force(shared, FS_CLOSED_STATE, now);
    }
    fs_store_relaxed(&stop, 1);
    pthread_join(other, NULL);
    CHECK_EQ(without, 0);
    fs_breaker_free(shared);
}

#define CALLS 50000

static void *asking(void *went) {
    uint64_t mine = 0;
    pthread_barrier_wait(&together);
    for (int i = 0; i < CALLS; i++) {
        fs_change none = {0};
        mine += fs_permit_granted(fs_breaker_acquire(shared, START, &none));
    }
    *(uint64_t *)went = mine;
    return NULL;
}

static void threads_share_one_exact_limit(void) {
    static const double capacities[] = {0.75, 0.5, 0.25, 0.1};
    for (int c = 0; c < 4; c++) {
        pthread_t threads[THREADS];
        uint64_t went[THREADS], total = 0, share = fs_share_of(capacities[c]);
        shared = made(plain());
        fs_breaker_limit(shared, share);
        pthread_barrier_init(&together, NULL, THREADS);
        for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, asking, &went[i]) == 0);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            total += went[i];
        }
        pthread_barrier_destroy(&together);
        uint64_t wanted = THREADS * CALLS * share >> 32;
        CHECK(total == wanted || total == wanted + 1);
        fs_breaker_free(shared);
    }
}

int main(void) {
    rig_setup();
    a_mark_of_chaos_changes_no_decision_and_outlives_all();
    marks_know_nothing_of_each_other();
    a_call_taken_back_leaves_the_dial_alone();
    a_call_taken_back_is_taken_back_by_its_own_gate();
    a_limit_holds_where_calls_go();
    a_limit_leaves_refusals_and_probes_alone();
    a_limit_outlives_changes_of_state();
    a_call_counts_whatever_limits_did_meanwhile();
    a_refusal_for_capacity_is_no_permit();
    the_domain_of_a_ramp();
    a_ramp_rises_steadily_from_its_start_to_all();
    as_many_go_as_the_shares_add_up_to();
    the_first_call_at_its_end_ends_it();
    a_call_counts_though_the_ramp_ends_meanwhile();
    opening_again_clears_it();
    an_operator_needs_no_ramp();
    without_a_ramp_all_go_at_once();
    the_lower_of_limit_and_ramp_holds();
    who_was_outrun_moves_no_end();
    reserved_probes_are_the_checks_until_it_lapses();
    a_reservation_begins_again_with_each_wait();
    a_reservation_can_be_given_up();
    a_forced_half_open_is_for_all();
    where_calls_go_a_probe_is_a_call();
    a_move_takes_capacity_along();
    a_move_keeps_counts_and_leases();
    a_ramp_under_another_configuration();
    a_move_watches_as_its_configuration_does();
    a_count_window_of_another_size_keeps_what_fits();
    threads_end_a_ramp_once();
    threads_that_fail_to_open_leave_the_ramp_alone();
    a_gate_that_comes_back_is_not_opened_without_a_wait();
    threads_share_one_exact_limit();
    return rig_report();
}
