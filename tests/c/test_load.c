/* Load control as a whole: the order of the three, and that what refuses has taken nothing. */
#include "failsoft/load.h"

#include "check.h"

#define S FS_NS_PER_SECOND

int main(void) {
    fs_clock_fake(true);
    fs_clock_fake_set(1000 * S);
    fs_arena *arena = fs_arena_private();
    fs_breaker_config config = {
        .reset_timeout = S, .reset_most = FS_FOREVER, .lease = S, .slow = FS_FOREVER, .reset_growth = 1.0,
        .failure_rate = 2.0, .slow_rate = 2.0, .failure_threshold = 3, .success_threshold = 2, .half_open_most = 3,
        .minimum_calls = 10,
    };
    fs_breaker *breaker = fs_breaker_take(arena, &config, fs_now());
    fs_load *load = fs_load_take(arena, fs_stamp());
    CHECK(breaker && load);
    CHECK(!fs_load_armed(load));
    for (int i = 0; i < 1000; i++) CHECK(fs_load_enter(load, fs_stamp()));
    for (int i = 0; i < 1000; i++) CHECK(!fs_load_leave(load));

    fs_limiter_set(&load->limiter, 1.0, 3, fs_stamp());
    load->bulkhead.limit = 1;
    CHECK(fs_load_armed(load));
    CHECK(fs_load_enter(load, fs_stamp()));
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK_EQ(fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp()), FS_BULKHEAD_FULL);
    CHECK_EQ(fs_load_admit(load, breaker, 3, false, false, fs_now(), fs_stamp()), FS_RATE_LIMITED);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 2.0);

    /* Somebody waits: nobody goes before him, and who leaves hears of it. */
    fs_load_queue(load, 1);
    CHECK(fs_load_leave(load));
    CHECK(!fs_load_enter(load, fs_stamp()));
    CHECK(fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp()) != 0);
    CHECK_EQ(fs_load_admit(load, breaker, 1, false, true, fs_now(), fs_stamp()), 0);
    CHECK(fs_load_withdraw(load, 1));
    fs_load_queue(load, 0);
    CHECK(fs_limiter_tokens(&load->limiter, fs_stamp()) == 2.0);
    CHECK(fs_load_enter(load, fs_stamp()));

    /* One more leaves than has entered, as in a child of a call that forked: the count stays at nothing. */
    CHECK(!fs_load_leave(load));
    CHECK(!fs_load_leave(load));
    CHECK_EQ(load->bulkhead.in_flight, 0);

    /* More than there ever are, so many that their intervals wrap around to next to nothing. */
    fs_limiter_set(&load->limiter, 0.001, 1000, fs_stamp());
    uint64_t wraps = UINT64_MAX / load->limiter.interval + 1;
    CHECK(wraps * load->limiter.interval < load->limiter.depth);
    CHECK_EQ(fs_load_admit(load, breaker, wraps, false, false, fs_now(), fs_stamp()), FS_RATE_LIMITED);
    fs_limiter_set(&load->limiter, 0.0, 1, fs_stamp());

    /* A throttle lets a share go. Whom it lets go and the bulkhead refuses does not come off it. */
    fs_throttle_set(&load->throttle, 1.0, 0.5, 1, 60 * S);
    fs_throttle_unaccepted(&load->throttle, fs_gate_generation(fs_breaker_gate(breaker)), fs_now());
    for (int i = 0; i < 100; i++) load->throttle.refused[0]++;
    load->throttle.when[0] = fs_now() / load->throttle.slice / FS_THROTTLE_SLICES * FS_THROTTLE_SLICES;
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, FS_LOOK_THROTTLING);
    load->bulkhead.limit = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t dial = load->throttle.dial, code = fs_load_admit(load, breaker, 1, false, false, fs_now(), fs_stamp());
        CHECK(code == FS_THROTTLED ? load->throttle.dial != dial : load->throttle.dial == dial);
    }
    /* Once it is off, nobody looks for it any more. */
    fs_throttle_set(&load->throttle, 0.0, 0.0, 0, 60 * S);
    fs_load_failed(load, breaker, fs_now());
    CHECK_EQ(load->look, 0);

    CHECK_EQ(fs_load_code(fs_load_refused(FS_RATE_LIMITED, 7)), FS_RATE_LIMITED);
    CHECK_EQ(fs_load_wanted(fs_load_refused(FS_RATE_LIMITED, 7)), 7);
    CHECK_EQ(fs_load_wanted(fs_load_refused(FS_THROTTLED, 1)), 1);
    CHECK_EQ(fs_load_code(FS_NO_ROOM), 0);
    CHECK_EQ(fs_load_code(0), 0);
    return check_report();
}
