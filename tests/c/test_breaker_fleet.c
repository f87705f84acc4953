/* A breaker that follows a fleet: opened and closed from outside, and its probes held back while another process probes. */
#include "breaker_rig.h"

#define THEN (START + 3 * SECOND)

static bool open_until(fs_breaker *breaker, uint32_t of_generation, fs_ns end, fs_ns now) {
    change = (fs_change){0};
    return fs_breaker_open_until(breaker, of_generation, end, now, &change);
}

static bool close_it(fs_breaker *breaker, uint32_t of_generation, fs_ns now) {
    change = (fs_change){0};
    return fs_breaker_close(breaker, of_generation, now, &change);
}

static void it_opens_until_the_stated_time(void) {
    fs_breaker *breaker = made(plain());
    fail_times(breaker, 1, START);
    CHECK(open_until(breaker, 1, THEN, START));
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_FLEET, 2, 1);
    CHECK_EQ(status(breaker, START).because, FS_BECAUSE_FLEET);
    CHECK_EQ(fs_breaker_retry_after(breaker, START), THEN - START);
    CHECK_EQ(acquire(breaker, THEN - 1), 0);
    CHECK_EQ(fs_permit_slot(acquire(breaker, THEN)), 1);
    check_change(FS_OPEN, FS_HALF_OPEN, FS_BECAUSE_WAIT_OVER, 3, 0);
    fs_breaker_free(breaker);
}

static void a_wait_that_is_over_already_is_one_of_nothing(void) {
    fs_breaker *breaker = made(plain());
    CHECK(open_until(breaker, 1, 0, START));
    CHECK_EQ(fs_breaker_retry_after(breaker, START), 0);
    CHECK(fs_permit_granted(acquire(breaker, START)));
    fs_breaker_free(breaker);
}

static void it_opens_anew_from_half_open(void) {
    fs_breaker *breaker = in_state(plain(), FS_HALF_OPEN);
    fs_ns now = START + WAIT, end = now + 3 * SECOND;
    fs_permit out = acquire(breaker, now);
    CHECK(open_until(breaker, 3, end, now));
    check_change(FS_HALF_OPEN, FS_OPEN, FS_BECAUSE_FLEET, 4, 0);
    CHECK_EQ(status(breaker, now).failures, 3); /* that tripped it */
    success(breaker, out, now); /* of a generation that is gone */
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK_EQ(acquire(breaker, end - 1), 0);
    CHECK(fs_permit_granted(acquire(breaker, end)));
    fs_breaker_free(breaker);
}

static void an_open_one_waits_longer_but_never_less(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    CHECK(open_until(breaker, 2, THEN, START));
    CHECK_EQ(fs_breaker_retry_after(breaker, START), WAIT);
    CHECK(open_until(breaker, 2, START + 2 * WAIT, START));
    CHECK_EQ(fs_breaker_retry_after(breaker, START), 2 * WAIT);
    check_change(0, 0, 0, 0, 0);
    CHECK_EQ(generation(breaker), 2);
    CHECK_EQ(status(breaker, START).because, FS_BECAUSE_CONSECUTIVE_FAILURES);
    CHECK_EQ(acquire(breaker, START + 2 * WAIT - 1), 0);
    failure(breaker, acquire(breaker, START + 2 * WAIT), START + 2 * WAIT);
    CHECK_EQ(fs_breaker_retry_after(breaker, START + 2 * WAIT), WAIT); /* the next wait is its own */
    fs_breaker_free(breaker);
}

static void it_closes_as_if_it_had_recovered(void) {
    for (int from = FS_OPEN; from <= FS_HALF_OPEN; from++) {
        fs_breaker_config config = plain();
        config.ramp = WAIT;
        fs_breaker *breaker = in_state(config, (fs_state)from);
        uint32_t before = generation(breaker);
        CHECK(close_it(breaker, before, THEN));
        check_change((fs_state)from, FS_CLOSED_STATE, FS_BECAUSE_FLEET, before + 1, 0);
        CHECK(gate(breaker) & FS_GATE_RAMPING);
        fs_breaker_free(breaker);
    }
}

static void who_has_moved_on_does_not_follow(void) {
    for (int in = 0; in < FS_STATES; in++) {
        fs_breaker *breaker = in_state(plain(), (fs_state)in);
        uint64_t before = gate(breaker);
        for (uint32_t off = 1; off < 3; off++) {
            CHECK(!open_until(breaker, fs_gate_generation(before) - off, THEN, START));
            CHECK(!close_it(breaker, fs_gate_generation(before) + off, START));
        }
        CHECK_EQ(change.generation, 0);
        CHECK_EQ(gate(breaker), before);
        fs_breaker_free(breaker);
    }
}

static void what_an_operator_said_stays(void) {
    for (int in = FS_FORCED_OPEN; in < FS_STATES; in++) {
        fs_breaker *breaker = in_state(plain(), (fs_state)in);
        uint64_t before = gate(breaker);
        CHECK(!open_until(breaker, generation(breaker), THEN, START));
        CHECK(!close_it(breaker, generation(breaker), START));
        CHECK_EQ(gate(breaker), before);
        fs_breaker_free(breaker);
    }
    fs_breaker *breaker = made(plain());
    CHECK(!close_it(breaker, 1, START)); /* it is closed, and its counts stay */
    CHECK_EQ(generation(breaker), 1);
    fs_breaker_free(breaker);
}

static void probes_are_held_back_and_let_go(void) {
    fs_breaker *breaker = in_state(plain(), FS_OPEN);
    fs_ns over = START + WAIT, held = over + 5 * SECOND;
    fs_breaker_hold(breaker, held);
    CHECK_EQ(acquire(breaker, over - 1), 0);
    CHECK_EQ(fs_breaker_held_back(breaker), 0); /* the wait kept it, not the hold */
    CHECK_EQ(acquire(breaker, over), 0);
    CHECK_EQ(fs_breaker_probe(breaker, over, &change), 0); /* a health check is a probe too */
    CHECK_EQ(fs_breaker_held_back(breaker), 2);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_let(breaker, over + SECOND);
    fs_permit first = acquire(breaker, over + SECOND - 1);
    CHECK_EQ(fs_permit_slot(first), 1);
    CHECK_EQ(acquire(breaker, over + SECOND), 0); /* HALF_OPEN, and no longer let */
    CHECK_EQ(fs_breaker_held_back(breaker), 3);
    success(breaker, first, over + SECOND);
    CHECK_EQ(fs_permit_slot(acquire(breaker, held)), 1); /* whoever held it is gone */
    CHECK_EQ(fs_breaker_held_back(breaker), 3);
    fs_breaker_free(breaker);
}

static void where_calls_go_nothing_is_held_back(void) {
    static const fs_state lets[] = {FS_CLOSED_STATE, FS_DISABLED, FS_METRICS_ONLY};
    for (int i = 0; i < 3; i++) {
        fs_breaker *breaker = in_state(plain(), lets[i]);
        fs_breaker_hold(breaker, FS_FOREVER);
        CHECK(fs_permit_granted(acquire(breaker, START)));
        CHECK_EQ(fs_breaker_held_back(breaker), 0);
        fs_breaker_free(breaker);
    }
}

static void a_move_takes_the_hold_along(void) {
    fs_breaker *old = in_state(plain(), FS_OPEN);
    fs_ns over = START + WAIT;
    fs_breaker_hold(old, over + SECOND);
    CHECK_EQ(acquire(old, over), 0);
    fs_breaker *heir = fs_breaker_move(old, NULL);
    CHECK_EQ(acquire(heir, over + SECOND - 1), 0);
    CHECK_EQ(fs_breaker_held_back(heir), 2);
    CHECK(fs_permit_granted(acquire(heir, over + SECOND)));
    fs_breaker_free(old);
    fs_breaker_free(heir);
}

int main(void) {
    rig_setup();
    it_opens_until_the_stated_time();
    a_wait_that_is_over_already_is_one_of_nothing();
    it_opens_anew_from_half_open();
    an_open_one_waits_longer_but_never_less();
    it_closes_as_if_it_had_recovered();
    who_has_moved_on_does_not_follow();
    what_an_operator_said_stays();
    probes_are_held_back_and_let_go();
    where_calls_go_nothing_is_held_back();
    a_move_takes_the_hold_along();
    return rig_report();
}
