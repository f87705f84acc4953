/* The state table cell by cell; permits, leases and waits; reading and moving. */
#include "breaker_rig.h"

static void the_domain_is_checked(void) {
    fs_breaker_config c = plain();
    CHECK_EQ(fs_breaker_check(&c), FS_OK);
#define REFUSED(field, value)                      \
    c = plain();                                   \
    c.field = (value);                             \
    CHECK_EQ(fs_breaker_check(&c), FS_INVALID)
#define TAKEN(field, value)                        \
    c = plain();                                   \
    c.field = (value);                             \
    CHECK_EQ(fs_breaker_check(&c), FS_OK)
    REFUSED(reset_growth, 0.99);
    REFUSED(reset_growth, (double)NAN);
    REFUSED(reset_growth, (double)INFINITY);
    REFUSED(reset_jitter, -0.1);
    REFUSED(reset_jitter, (double)NAN);
    REFUSED(reset_jitter, (double)INFINITY);
    REFUSED(failure_rate, 0.0);
    REFUSED(failure_rate, (double)NAN);
    REFUSED(slow_rate, -1.0);
    REFUSED(latency_quantile, 1.1);
    REFUSED(latency_quantile, (double)NAN);
    REFUSED(failure_threshold, FS_COUNT_MOST + 1);
    REFUSED(success_threshold, 0);
    REFUSED(success_threshold, FS_COUNT_MOST + 1);
    REFUSED(half_open_most, 0);
    REFUSED(half_open_most, FS_PROBES_MOST + 1);
    REFUSED(minimum_calls, 0);
    REFUSED(last, FS_LAST_MOST + 1);
    REFUSED(lease, 0);
    REFUSED(reset_most, WAIT - 1);
    TAKEN(failure_threshold, 0);
    TAKEN(failure_threshold, FS_COUNT_MOST);
    TAKEN(half_open_most, FS_PROBES_MOST);
    TAKEN(failure_rate, 1.0);
    TAKEN(reset_timeout, 0);
    TAKEN(last, FS_LAST_MOST);
    TAKEN(lease, FS_FOREVER);
#undef REFUSED
#undef TAKEN
}

/* Whatever single field tells them apart, and neither side first. */
static void configurations_differ_by_any_field(void) {
    fs_breaker_config one = plain(), other = plain();
    CHECK(fs_breaker_config_same(&one, &other));
#define DIFFERS(field)                                   \
    other = plain();                                     \
    other.field += 1;                                    \
    CHECK(!fs_breaker_config_same(&one, &other));        \
    CHECK(!fs_breaker_config_same(&other, &one));        \
    CHECK(fs_breaker_config_same(&other, &other))
    DIFFERS(reset_timeout);
    DIFFERS(reset_most);
    DIFFERS(lease);
    DIFFERS(slow);
    DIFFERS(latency_limit);
    DIFFERS(latency_quantile);
    DIFFERS(reset_growth);
    DIFFERS(reset_jitter);
    DIFFERS(failure_rate);
    DIFFERS(slow_rate);
    DIFFERS(failure_threshold);
    DIFFERS(success_threshold);
    DIFFERS(half_open_most);
    DIFFERS(minimum_calls);
    DIFFERS(last);
    DIFFERS(ramp);
    DIFFERS(ramp_from);
#undef DIFFERS
    /* All at once but for one: each is looked at by itself, not in a pair with another. */
    memset(&other, 0x5a, sizeof other);
    CHECK(!fs_breaker_config_same(&one, &other));
    other.reset_timeout = one.reset_timeout;
    CHECK(!fs_breaker_config_same(&one, &other));
    other.ramp_from = one.ramp_from;
    CHECK(!fs_breaker_config_same(&one, &other));
}

static void a_fresh_gate_is_clear(void) {
    fs_breaker *breaker = made(plain());
    CHECK(fs_gate_clear(gate(breaker)));
    CHECK_EQ(generation(breaker), 1);
    fs_permit permit = acquire(breaker, START);
    CHECK_EQ(permit, fs_permit_of(gate(breaker)));
    CHECK(permit & 1);
    CHECK_EQ(fs_permit_generation(permit), 1);
    CHECK_EQ(fs_permit_slot(permit), 0);
    uint64_t before = gate(breaker);
    success(breaker, permit, START); /* nothing to tell: an equal gate may skip this call */
    CHECK_EQ(gate(breaker), before);
    check_change(0, 0, 0, 0, 0);
    fs_breaker_free(breaker);

    fs_breaker_config watched = plain();
    watched.last = 10;
    breaker = made(watched);
    CHECK(!fs_gate_clear(gate(breaker)) && gate(breaker) & FS_GATE_WATCHED);
    fs_breaker_free(breaker);

    fs_arena *tight = small_arena(3);
    CHECK(fs_breaker_take(tight, &watched, START) == NULL);
    free(tight);
}

static void closed_row(void) {
    fs_breaker *breaker = made(plain());
    fail_times(breaker, 2, START);
    CHECK_EQ(tally(breaker), 2);
    success(breaker, acquire(breaker, START), START);
    CHECK_EQ(tally(breaker), 0);
    CHECK(fs_gate_clear(gate(breaker)));
    CHECK_EQ(generation(breaker), 1);
    fail_times(breaker, 2, START);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fs_permit permit = acquire(breaker, START);
    CHECK(permit && !fs_permit_slot(permit));
    failure(breaker, permit, START + 5);
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_CONSECUTIVE_FAILURES, 2, 3);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);

    fs_breaker_config config = plain();
    config.failure_threshold = 1;
    breaker = made(config);
    fail_times(breaker, 1, START);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);

    config.failure_threshold = 0; /* no such rule: the count stands at its most and spills nowhere */
    breaker = made(config);
    fail_times(breaker, FS_COUNT_MOST + 10, START);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK_EQ(tally(breaker), FS_COUNT_MOST);
    CHECK_EQ(generation(breaker), 1);
    success(breaker, acquire(breaker, START), START);
    CHECK_EQ(tally(breaker), 0);
    fs_breaker_free(breaker);

    config.failure_threshold = FS_COUNT_MOST;
    breaker = made(config);
    fail_times(breaker, FS_COUNT_MOST - 1, START);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fail_times(breaker, 1, START);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);
}

/* Outcomes under permits of every generation so far, and of a made-up one of the current: nothing moves. */
static void check_outcomes_dropped(fs_breaker *breaker, fs_ns now) {
    uint64_t before = gate(breaker);
    for (uint32_t of = 0; of <= generation(breaker); of++) {
        fs_permit permit = fs_permit_of((uint64_t)of << 32);
        success(breaker, permit, now);
        check_change(0, 0, 0, 0, 0);
        failure(breaker, permit, now);
        check_change(0, 0, 0, 0, 0);
        fs_breaker_ignore(breaker, permit);
        fs_breaker_trip(breaker, permit, FS_BECAUSE_LATENCY, now, &change);
        check_change(0, 0, 0, 0, 0);
        CHECK_EQ(gate(breaker), before);
    }
}

static void open_row(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    CHECK_EQ(acquire(breaker, START), 0);
    CHECK_EQ(acquire(breaker, START + WAIT - 1), 0);
    check_change(0, 0, 0, 0, 0);
    check_outcomes_dropped(breaker, START + 1);
    CHECK_EQ(fs_breaker_retry_after(breaker, START + 1), WAIT - 1);
    CHECK_EQ(fs_breaker_retry_after(breaker, START + WAIT), 0);
    CHECK_EQ(fs_breaker_retry_after(breaker, START + 2 * WAIT), 0);
    fs_permit permit = acquire(breaker, START + WAIT); /* at exactly the deadline */
    CHECK(permit && fs_permit_slot(permit) == 1);
    CHECK_EQ(fs_permit_generation(permit), 3);
    check_change(FS_OPEN, FS_HALF_OPEN, FS_BECAUSE_WAIT_OVER, 3, 0);
    CHECK_EQ(fs_breaker_retry_after(breaker, START + WAIT), FS_FOREVER);
    fs_breaker_free(breaker);
}

static void half_open_row(void) {
    fs_ns now = START + WAIT;
    fs_breaker *breaker = in_state(plain(), FS_HALF_OPEN);
    CHECK_EQ(generation(breaker), 3);
    fs_permit one = acquire(breaker, now), two = acquire(breaker, now), three = acquire(breaker, now);
    CHECK(one && two && three && one != two && two != three && one != three);
    CHECK_EQ(acquire(breaker, now), 0); /* no free lease */
    success(breaker, one, now);
    CHECK_EQ(tally(breaker), 1);
    CHECK_EQ(state(breaker), FS_HALF_OPEN);
    success(breaker, two, now);
    check_change(FS_HALF_OPEN, FS_CLOSED_STATE, FS_BECAUSE_RECOVERED, 4, 0);
    CHECK(fs_gate_clear(gate(breaker)));
    failure(breaker, three, now); /* late: of the generation before */
    CHECK(fs_gate_clear(gate(breaker)));
    CHECK_EQ(status(breaker, now).probes, 0);
    fs_breaker_free(breaker);

    breaker = in_state(plain(), FS_HALF_OPEN);
    one = acquire(breaker, now);
    two = acquire(breaker, now);
    success(breaker, one, now);
    failure(breaker, two, now + 7000);
    check_change(FS_HALF_OPEN, FS_OPEN, FS_BECAUSE_PROBE_FAILED, 4, 0);
    CHECK_EQ(fs_breaker_retry_after(breaker, now + 7000), WAIT);
    check_outcomes_dropped(breaker, now + 7000);
    fs_breaker_free(breaker);
}

static void forced_open_row(void) {
    fs_breaker *breaker = in_state(plain(), FS_FORCED_OPEN);
    CHECK_EQ(acquire(breaker, START), 0);
    CHECK_EQ(acquire(breaker, START + 1000 * WAIT), 0); /* no wait runs */
    CHECK_EQ(fs_breaker_retry_after(breaker, START), FS_FOREVER);
    check_outcomes_dropped(breaker, START);
    fs_breaker_free(breaker);
}

static void disabled_row(void) {
    fs_breaker *breaker = in_state(plain(), FS_DISABLED);
    uint64_t before = gate(breaker);
    fail_times(breaker, 100, START);
    CHECK_EQ(gate(breaker), before);
    fs_permit permit = acquire(breaker, START);
    CHECK(permit && !fs_permit_slot(permit));
    success(breaker, permit, START);
    CHECK_EQ(gate(breaker), before);
    check_outcomes_dropped(breaker, START);
    fs_breaker_free(breaker);
}

static void metrics_only_row(void) {
    fs_breaker *breaker = in_state(plain(), FS_METRICS_ONLY);
    fail_times(breaker, 100, START);
    CHECK_EQ(state(breaker), FS_METRICS_ONLY);
    CHECK_EQ(tally(breaker), 100);
    CHECK_EQ(status(breaker, START).failures, 100);
    fs_breaker_trip(breaker, acquire(breaker, START), FS_BECAUSE_LATENCY, START, &change);
    CHECK_EQ(state(breaker), FS_METRICS_ONLY);
    success(breaker, acquire(breaker, START), START);
    CHECK_EQ(tally(breaker), 0);
    CHECK_EQ(state(breaker), FS_METRICS_ONLY);
    fs_breaker_free(breaker);
}

static void operator_column(void) {
    for (int from = 0; from < FS_STATES; from++)
        for (int to = 0; to < FS_STATES; to++) {
            fs_breaker *breaker = in_state(plain(), (fs_state)from);
            if (from == FS_CLOSED_STATE || from == FS_METRICS_ONLY) fail_times(breaker, 2, START);
            uint64_t before = gate(breaker);
            fs_ns now = START + 3 * WAIT;
            force(breaker, (fs_state)to, now);
            CHECK_EQ(state(breaker), to);
            if (from == to && to != FS_CLOSED_STATE) {
                CHECK_EQ(gate(breaker), before);
                check_change(0, 0, 0, 0, 0);
            } else {
                CHECK_EQ(generation(breaker), fs_gate_generation(before) + 1);
                CHECK_EQ(tally(breaker), 0);
                check_change((fs_state)from, (fs_state)to, FS_BECAUSE_OPERATOR, generation(breaker), 0);
                CHECK_EQ(status(breaker, now).because, FS_BECAUSE_OPERATOR);
                CHECK_EQ(status(breaker, now).changed, now);
                if (to == FS_OPEN) CHECK_EQ(fs_breaker_retry_after(breaker, now), WAIT);
                if (to == FS_HALF_OPEN) CHECK_EQ(fs_permit_slot(acquire(breaker, now)), 1);
            }
            fs_breaker_free(breaker);
        }
}

static void stale_permits_change_nothing(void) {
    for (int now_in = 0; now_in < FS_STATES; now_in++) {
        fs_breaker *breaker = made(plain());
        fs_permit old = acquire(breaker, START);
        force(breaker, FS_CLOSED_STATE, START);
        fail_times(breaker, 2, START); /* one more would trip, a success would clear */
        uint64_t before = gate(breaker);
        failure(breaker, old, START);
        success(breaker, old, START);
        fs_breaker_trip(breaker, old, FS_BECAUSE_LATENCY, START, &change);
        CHECK_EQ(gate(breaker), before);
        fs_permit recent = acquire(breaker, START);
        force(breaker, FS_HALF_OPEN, START);
        fs_permit probe = acquire(breaker, START);
        if (now_in != FS_HALF_OPEN) force(breaker, (fs_state)now_in, START);
        before = gate(breaker);
        failure(breaker, old, START);
        failure(breaker, recent, START);
        success(breaker, recent, START);
        CHECK_EQ(gate(breaker), before);
        if (now_in == FS_HALF_OPEN) continue;
        CHECK_EQ(status(breaker, START).probes, 1);
        failure(breaker, probe, START); /* too late to count, but its lease comes back */
        CHECK_EQ(gate(breaker), before);
        CHECK_EQ(status(breaker, START).probes, 0);
        fs_breaker_free(breaker);
    }
}

static void an_outcome_counts_once(void) {
    fs_breaker_config config = plain();
    config.success_threshold = 10;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    for (uint32_t i = 1; i <= 5; i++) {
        fs_permit probe = acquire(breaker, now);
        for (int again = 0; again < 3; again++) success(breaker, probe, now);
        failure(breaker, probe, now);
        fs_breaker_ignore(breaker, probe);
        CHECK_EQ(tally(breaker), i);
        CHECK_EQ(state(breaker), FS_HALF_OPEN);
    }
    fs_permit ignored = acquire(breaker, now);
    CHECK_EQ(status(breaker, now).probes, 1);
    fs_breaker_ignore(breaker, ignored);
    CHECK_EQ(status(breaker, now).probes, 0);
    success(breaker, ignored, now);
    CHECK_EQ(tally(breaker), 5); /* ignored is an outcome too */
    fs_permit failing = acquire(breaker, now);
    failure(breaker, failing, now);
    CHECK_EQ(generation(breaker), 4);
    failure(breaker, failing, now);
    CHECK_EQ(generation(breaker), 4);
    success(breaker, 0, now); /* no permit at all */
    failure(breaker, 0, now);
    fs_breaker_ignore(breaker, 0);
    CHECK_EQ(generation(breaker), 4);
    fs_breaker_free(breaker);
}

static void rates_count_while_closed_or_metrics_only(void) {
    for (int i = 0; i < FS_STATES; i++) {
        fs_breaker *breaker = in_state(plain(), (fs_state)i);
        fs_permit permit = fs_permit_of(gate(breaker));
        uint64_t before = gate(breaker);
        CHECK_EQ(fs_breaker_counts(breaker, permit), i == FS_CLOSED_STATE || i == FS_METRICS_ONLY);
        CHECK_EQ(gate(breaker), before); /* asking changes nothing */
        force(breaker, FS_CLOSED_STATE, START);
        CHECK(!fs_breaker_counts(breaker, permit)); /* of another generation */
        fs_breaker_free(breaker);
    }
}

static void the_cap_holds(uint32_t cap) {
    fs_breaker_config config = plain();
    config.half_open_most = cap;
    config.success_threshold = FS_COUNT_MOST;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    fs_permit held[FS_PROBES_MOST];
    for (uint32_t i = 0; i < cap; i++) CHECK((held[i] = acquire(breaker, now)) != 0);
    CHECK_EQ(acquire(breaker, now), 0);
    CHECK_EQ(status(breaker, now).probes, cap);
    for (uint32_t i = 0; i < cap; i++) {
        if (i % 2) success(breaker, held[i], now);
        else fs_breaker_ignore(breaker, held[i]);
        CHECK_EQ(fs_permit_slot(held[i]), i + 1);
        fs_permit next = acquire(breaker, now);
        CHECK_EQ(fs_permit_slot(next), i + 1);
        CHECK(next != held[i]);
        CHECK_EQ(acquire(breaker, now), 0);
    }
    fs_breaker_free(breaker);
}

static void hung_probes_lose_their_lease(void) {
    fs_breaker_config config = plain();
    config.half_open_most = 1;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    fs_ns expiry = (now + LEASE + LEASE_UNIT - 1) / LEASE_UNIT * LEASE_UNIT; /* rounded up, never short */
    fs_permit hung = acquire(breaker, now);
    CHECK(hung);
    CHECK_EQ(acquire(breaker, now + LEASE - 1), 0);
    CHECK_EQ(acquire(breaker, expiry - 1), 0);
    CHECK_EQ(status(breaker, expiry - 1).probes, 1);
    CHECK_EQ(status(breaker, expiry).probes, 0);
    fs_permit heir = acquire(breaker, expiry);
    CHECK(heir && heir != hung && fs_permit_slot(heir) == fs_permit_slot(hung));
    uint64_t before = gate(breaker);
    success(breaker, hung, expiry);
    failure(breaker, hung, expiry);
    fs_breaker_ignore(breaker, hung);
    CHECK_EQ(gate(breaker), before); /* late: the nonce is another's */
    CHECK_EQ(status(breaker, expiry).probes, 1);
    CHECK_EQ(acquire(breaker, expiry), 0);
    success(breaker, heir, expiry);
    CHECK_EQ(tally(breaker), 1);

    /* Over, but wanted by nobody: the answer still counts. */
    fs_permit slow = acquire(breaker, expiry);
    success(breaker, slow, expiry + 10 * LEASE);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fs_breaker_free(breaker);
}

static void old_probes_keep_their_slot_over_a_reopening(void) {
    fs_breaker_config config = plain();
    config.half_open_most = 2;
    config.lease = 100 * WAIT;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    fs_permit out = acquire(breaker, now), failing = acquire(breaker, now);
    failure(breaker, failing, now);
    now += WAIT;
    fs_permit next = acquire(breaker, now);
    CHECK(next && fs_permit_slot(next) == 2);
    CHECK_EQ(acquire(breaker, now), 0); /* one of two is still out there */
    success(breaker, out, now);
    CHECK_EQ(tally(breaker), 0);
    CHECK_EQ(fs_permit_slot(acquire(breaker, now)), 1);
    fs_breaker_free(breaker);
}

static void recovery_needs_consecutive_successes(void) {
    fs_breaker_config config = plain();
    config.success_threshold = 5;
    fs_breaker *breaker = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    for (int i = 0; i < 4; i++) success(breaker, acquire(breaker, now), now);
    failure(breaker, acquire(breaker, now), now);
    now += WAIT;
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(tally(breaker), i); /* begun afresh */
        success(breaker, acquire(breaker, now), now);
    }
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fs_breaker_free(breaker);
}

/* Let the probe of an open breaker fail, as soon as it may. Answers the next wait. */
static fs_ns reopen(fs_breaker *breaker, fs_ns *now) {
    *now += fs_breaker_retry_after(breaker, *now);
    failure(breaker, acquire(breaker, *now), *now);
    return fs_breaker_retry_after(breaker, *now);
}

static void waits_end_on_microseconds(void) {
    fs_breaker_config config = plain();
    config.reset_timeout = 1500;
    fs_breaker *breaker = made(config);
    fail_times(breaker, 3, START + 1); /* over at 1501 ns: told as 2000 */
    CHECK_EQ(fs_breaker_retry_after(breaker, START + 1), 1999);
    CHECK_EQ(acquire(breaker, START + 1999), 0);
    CHECK(acquire(breaker, START + 2000));
    fs_breaker_free(breaker);

    config.reset_timeout = 0; /* no wait: the next call is a probe */
    breaker = made(config);
    fail_times(breaker, 3, START);
    CHECK(acquire(breaker, START));
    fs_breaker_free(breaker);

    config.reset_timeout = FS_FOREVER;
    breaker = made(config);
    fail_times(breaker, 3, START);
    CHECK_EQ(acquire(breaker, START + 365 * 86400 * SECOND), 0);
    fs_breaker_free(breaker);
}

static void waits_stay_grow_and_stop_growing(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    fs_ns now = START;
    for (int i = 0; i < 20; i++) CHECK_EQ(reopen(breaker, &now), WAIT); /* exactly, each time */
    fs_breaker_free(breaker);

    fs_breaker_config config = plain();
    config.reset_growth = 2.0;
    config.reset_most = 65 * SECOND;
    config.success_threshold = 1;
    breaker = in_state(config, FS_OPEN);
    now = START;
    static const fs_ns wanted[] = {20, 40, 65, 65, 65};
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(fs_breaker_retry_after(breaker, now), WAIT);
        for (int i = 0; i < 5; i++) CHECK_EQ(reopen(breaker, &now), wanted[i] * SECOND);
        for (int i = 0; i < 2000; i++) CHECK_EQ(reopen(breaker, &now), 65 * SECOND); /* 2^2000 overflows nothing */
        now += fs_breaker_retry_after(breaker, now);
        success(breaker, acquire(breaker, now), now);
        CHECK_EQ(state(breaker), FS_CLOSED_STATE);
        fail_times(breaker, 3, now); /* closed in between: from the beginning */
    }
    fs_breaker_free(breaker);
}

static void jitter_only_lengthens(void) {
    fs_breaker_config config = plain();
    config.reset_jitter = 0.5;
    double least = INFINITY, most = 0;
    for (int i = 0; i < 20; i++) {
        fs_breaker *breaker = in_state(config, FS_OPEN);
        fs_ns now = START;
        for (int k = 0; k < 100; k++) {
            double wait = (double)reopen(breaker, &now);
            least = fmin(least, wait);
            most = fmax(most, wait);
        }
        fs_breaker_free(breaker);
    }
    CHECK(least >= (double)WAIT && least < 1.01 * (double)WAIT);
    CHECK(most <= 1.5 * (double)WAIT + 1000 && most > 1.49 * (double)WAIT);

    fs_breaker *one = in_state(config, FS_OPEN), *two = in_state(config, FS_OPEN);
    /* They do not come back together. */
    CHECK(fs_breaker_retry_after(one, START) != fs_breaker_retry_after(two, START));
    fs_breaker_free(one);
    fs_breaker_free(two);
}

/* "Whoever dies in between harms nobody": an opener that published its wait and never swapped the gate. */
static void a_wait_left_behind_does_not_shorten_a_later_one(void) {
    fs_breaker *breaker = made(plain());
    breaker->until = (START + WAIT) / 1000 << 16 | (generation(breaker) + 1);
    fs_ns later = START + 3600 * SECOND;
    fail_times(breaker, 3, later);
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK_EQ(fs_breaker_retry_after(breaker, later), WAIT);
    CHECK_EQ(acquire(breaker, later), 0);
    fs_breaker_free(breaker);
}

/* The tag of a wait has 16 bits. */
static void waits_hold_after_any_number_of_generations(void) {
    static const uint32_t resets[] = {1, 32766, 32767, 32768, 40000, 65532, 65533, 65534, 65535, 65536};
    for (int i = 0; i < 10; i++) {
        fs_breaker *breaker = in_state(plain(), FS_OPEN);
        fs_ns now = START + 3600 * SECOND;
        for (uint32_t k = 0; k < resets[i]; k++) force(breaker, FS_CLOSED_STATE, now);
        fs_permit permit = acquire(breaker, now);
        failure(breaker, permit, now);
        fs_breaker_trip(breaker, permit, FS_BECAUSE_LATENCY, now, &change);
        CHECK_EQ(fs_breaker_retry_after(breaker, now), WAIT);
        /* Three were said of generation 2. What is only shown stays where half of all tags lie between, for then the older
         * looks like the newer. */
        if ((resets[i] + 1) % 65536 <= 32768) CHECK_EQ(status(breaker, now).failures, 1);
        CHECK_EQ(status(breaker, now).because, FS_BECAUSE_LATENCY);
        fs_breaker_free(breaker);
    }
}

static void a_probe_taken_back_frees_its_slot(void) {
    fs_breaker *breaker = in_state(plain(), FS_HALF_OPEN);
    fs_breaker_limit(breaker, FS_ALL / 4); /* which a probe has nothing to do with */
    uint64_t dial = breaker->dial;
    for (int i = 0; i < 100; i++) {
        uint64_t before = gate(breaker);
        fs_permit permit = acquire(breaker, START + WAIT);
        CHECK(fs_permit_slot(permit) != 0);
        fs_breaker_withdraw(breaker, permit, before, START + WAIT);
        CHECK_EQ(status(breaker, START + WAIT).probes, 0);
        CHECK_EQ(breaker->dial, dial);
    }
    fs_breaker_free(breaker);
}

static void trip_is_for_its_own_generation(void) {
    fs_breaker *breaker = made(plain());
    fs_permit permit = acquire(breaker, START);
    fail_times(breaker, 1, START);
    change = (fs_change){0};
    fs_breaker_trip(breaker, permit, FS_BECAUSE_LATENCY, START, &change);
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_LATENCY, 2, 1);
    CHECK_EQ(fs_breaker_retry_after(breaker, START), WAIT);
    CHECK_EQ(status(breaker, START).failures, 1);
    fs_breaker_free(breaker);
}

static void reading_tells_it_all(void) {
    fs_breaker *breaker = made(plain());
    fs_breaker_status told = status(breaker, START);
    CHECK(told.state == FS_CLOSED_STATE && told.because == FS_BECAUSE_NOTHING && told.generation == 1);
    CHECK(told.failures == 0 && told.probes == 0 && told.retry_after == FS_FOREVER && told.changed == START);
    fail_times(breaker, 2, START + 1);
    CHECK_EQ(status(breaker, START).failures, 2);
    fail_times(breaker, 1, START + MS);
    told = status(breaker, START + 2 * MS);
    CHECK(told.state == FS_OPEN && told.because == FS_BECAUSE_CONSECUTIVE_FAILURES && told.generation == 2);
    CHECK(told.failures == 3 && told.retry_after == WAIT - MS && told.changed == START + MS);
    acquire(breaker, START + 2 * WAIT);
    told = status(breaker, START + 2 * WAIT);
    CHECK(told.state == FS_HALF_OPEN && told.failures == 3 && told.probes == 1);
    fs_breaker_free(breaker);
}

static void a_move_takes_everything_along(void) {
    fs_breaker_config config = by_rate();
    config.failure_threshold = 3;
    fs_breaker *old = made(config);
    fs_series *one = adopted(old, 60 * SECOND), *two = adopted(old, 60 * SECOND);
    call(old, one, START, true, 1000);
    call(old, two, START, true, 1000);
    fs_permit out = acquire(old, START);
    uint64_t before = gate(old);
    fs_breaker *heir = fs_breaker_move(old, NULL);
    if (!CHECK(heir != NULL)) return;
    CHECK_EQ(gate(heir), before);
    CHECK_EQ(gate(old), before | FS_GATE_MOVED);
    CHECK(!fs_gate_clear(gate(old)));
    CHECK_EQ(status(heir, START).totals.calls, 2); /* the series came along */
    failure(heir, out, START);
    CHECK_EQ(state(heir), FS_OPEN);
    CHECK_EQ(change.because, FS_BECAUSE_CONSECUTIVE_FAILURES);
    fs_breaker_free(old);

    old = heir;
    fs_permit probe = acquire(old, START + WAIT), hung = acquire(old, START + WAIT);
    heir = fs_breaker_move(old, NULL);
    CHECK_EQ(status(heir, START + WAIT).probes, 2);
    CHECK_EQ(fs_permit_slot(acquire(heir, START + WAIT)), 3);
    success(heir, probe, START + WAIT);
    success(heir, probe, START + WAIT);
    CHECK_EQ(tally(heir), 1);
    success(heir, hung, START + WAIT);
    CHECK_EQ(state(heir), FS_CLOSED_STATE);
    fs_breaker_free(old);

    fail_times(heir, 3, START + WAIT); /* a wait that runs */
    old = heir;
    heir = fs_breaker_move(old, NULL);
    CHECK_EQ(acquire(heir, START + 2 * WAIT - 1), 0);
    CHECK(acquire(heir, START + 2 * WAIT));
    fs_breaker_free(old);
    fs_breaker_free(heir);
    fs_series_free(one);
    fs_series_free(two);

    fs_arena *tight = small_arena((sizeof(fs_breaker) + FS_LINE - 1) / FS_LINE);
    old = fs_breaker_take(tight, &config, START);
    CHECK(fs_breaker_move(old, NULL) == NULL);
    CHECK(fs_gate_clear(gate(old))); /* nothing has changed */
    free(tight);
}

static void who_was_too_late_for_the_old_block_lets_nobody_go_in_the_new_one(void) {
    fs_breaker_config config = plain();
    config.half_open_most = 1;
    fs_breaker *old = in_state(config, FS_HALF_OPEN);
    fs_ns now = START + WAIT;
    fs_breaker *heir = fs_breaker_move(old, NULL);
    if (!CHECK(heir != NULL)) return;
    fs_permit late = acquire(old, now), probe = acquire(heir, now); /* the first looked at the old gate before the mark */
    CHECK(fs_permit_slot(late) == 1 && fs_permit_slot(probe) == 1);
    fs_breaker_ignore(heir, late);
    CHECK_EQ(status(heir, now).probes, 1);
    failure(heir, late, now);
    CHECK_EQ(state(heir), FS_HALF_OPEN);
    success(heir, probe, now);
    CHECK_EQ(tally(heir), 1);
    fs_breaker_free(old);
    fs_breaker_free(heir);
}

int main(void) {
    rig_setup();
    the_domain_is_checked();
    configurations_differ_by_any_field();
    a_fresh_gate_is_clear();
    closed_row();
    open_row();
    half_open_row();
    forced_open_row();
    disabled_row();
    metrics_only_row();
    operator_column();
    stale_permits_change_nothing();
    an_outcome_counts_once();
    rates_count_while_closed_or_metrics_only();
    for (uint32_t cap = 1; cap <= FS_PROBES_MOST; cap += 21) the_cap_holds(cap);
    hung_probes_lose_their_lease();
    old_probes_keep_their_slot_over_a_reopening();
    recovery_needs_consecutive_successes();
    waits_end_on_microseconds();
    waits_stay_grow_and_stop_growing();
    jitter_only_lengthens();
    a_wait_left_behind_does_not_shorten_a_later_one();
    waits_hold_after_any_number_of_generations();
    a_probe_taken_back_frees_its_slot();
    trip_is_for_its_own_generation();
    reading_tells_it_all();
    a_move_takes_everything_along();
    who_was_too_late_for_the_old_block_lets_nobody_go_in_the_new_one();
    return rig_report();
}
