/* What trips a breaker besides consecutive failures: rates over time and over counts, and a latency quantile. */
#include "breaker_rig.h"

static void failure_rate_needs_minimum_calls(void) {
    fs_breaker *breaker = made(by_rate());
    fs_series *one = adopted(breaker, 60 * SECOND), *two = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 9; i++) call(breaker, i % 2 ? one : two, START, true, 1000);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE); /* nine of nine, and not enough to judge by */
    CHECK_EQ(status(breaker, START).totals.calls, 9);
    CHECK_EQ(status(breaker, START).totals.failures, 9);
    call(breaker, one, START, false, 1000); /* the tenth succeeds: a success asks no rule */
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    call(breaker, two, START, true, 1000);
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_FAILURE_RATE, 2, 1);
    fs_breaker_free(breaker);
    fs_series_free(one);
    fs_series_free(two);

    breaker = made(by_rate());
    one = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 12; i++) call(breaker, one, START, false, 1000);
    for (int i = 0; i < 11; i++) call(breaker, one, START, true, 1000);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE); /* 11 of 23 */
    call(breaker, one, START, true, 1000);
    CHECK_EQ(state(breaker), FS_OPEN); /* 12 of 24 is the rate itself */
    fs_breaker_free(breaker);
    fs_series_free(one);
}

static void rates_forget_with_the_window(void) {
    fs_breaker *breaker = made(by_rate());
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 9; i++) call(breaker, series, START, true, 1000);
    fs_ns now = START + 61 * SECOND;
    for (int i = 0; i < 9; i++) {
        call(breaker, series, now, i < 5, 1000);
        CHECK_EQ(status(breaker, now).totals.calls, (uint64_t)i + 1);
    }
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    call(breaker, series, now, true, 1000);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

static void what_was_before_closing_does_not_count(void) {
    fs_breaker_config config = by_rate();
    config.reset_timeout = SECOND;
    fs_breaker *breaker = made(config);
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 10; i++) call(breaker, series, START, true, 1000);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_ns now = START + SECOND;
    for (int i = 0; i < 2; i++) call(breaker, series, now, false, 1000);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK_EQ(status(breaker, now).totals.calls, 0);
    for (int i = 0; i < 9; i++) call(breaker, series, now, true, 1000);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK_EQ(status(breaker, now).totals.failures, 9);
    force(breaker, FS_CLOSED_STATE, now); /* an operator's reset forgets as well */
    CHECK_EQ(status(breaker, now).totals.calls, 0);
    call(breaker, series, now, true, 1000);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    /* Long after, the window is the shorter of the two again. */
    now += 120 * SECOND;
    call(breaker, series, now, false, 1000);
    CHECK_EQ(status(breaker, now).totals.calls, 1);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

static void late_calls_stay_out_of_the_rates(void) {
    fs_breaker_config config = by_rate();
    config.slow_rate = 0.5;
    config.slow = 1;
    fs_breaker *breaker = made(config);
    fs_series *series = adopted(breaker, 60 * SECOND);
    fs_histogram *histogram = fs_series_stripe(series, 0);
    fs_permit old = acquire(breaker, START);
    force(breaker, FS_CLOSED_STATE, START);
    for (int i = 0; i < 50; i++) { /* they took their time, and are recorded, but belong to the generation before */
        fs_histogram_record(histogram, 1000, fs_stamp());
        fs_histogram_outcome(histogram, true, true);
        CHECK(!fs_breaker_counts(breaker, old));
        fs_breaker_disown(breaker, &(fs_totals){.calls = 1, .failures = 1, .slow = 1});
        failure(breaker, old, START);
    }
    fs_totals totals = status(breaker, START).totals;
    CHECK(totals.calls == 0 && totals.failures == 0 && totals.slow == 0);
    for (int i = 0; i < 9; i++) call(breaker, series, START, true, 1);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    totals = status(breaker, START).totals;
    CHECK(totals.calls == 9 && totals.failures == 9 && totals.slow == 9);
    fs_breaker_disown(breaker, &(fs_totals){.calls = 1}); /* and each only of what it was */
    totals = status(breaker, START).totals;
    CHECK(totals.calls == 8 && totals.failures == 9 && totals.slow == 9);
    fs_histogram_record(histogram, 1000, fs_stamp());
    CHECK_EQ(status(breaker, START).totals.calls, 9);
    call(breaker, series, START, true, 0);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

static void slow_calls_trip_by_their_rate(void) {
    fs_breaker_config config = plain();
    config.failure_threshold = 0;
    config.slow_rate = 0.3;
    config.slow = 100 * MS;
    fs_breaker *breaker = made(config);
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 7; i++) call(breaker, series, START, false, 100 * MS - 1);
    for (int i = 0; i < 2; i++) call(breaker, series, START, false, 100 * MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    call(breaker, series, START, false, 100 * MS); /* a success, and the third slow of ten */
    check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_SLOW_RATE, 2, 0);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

/* The tenth call makes three slow of ten, but is quick itself: it is no reason to open. The next slow one is. */
static void a_quick_success_asks_no_rule(void) {
    for (int counts = 0; counts < 2; counts++) {
        fs_breaker_config config = plain();
        config.failure_threshold = 0;
        config.slow_rate = 0.3;
        config.slow = 100 * MS;
        config.last = counts ? 20 : 0;
        fs_breaker *breaker = made(config);
        fs_series *series = adopted(breaker, 60 * SECOND);
        for (int i = 0; i < 9; i++) call(breaker, series, START, false, i < 5 ? 100 * MS : 0);
        call(breaker, series, START, false, 100 * MS - 1);
        CHECK_EQ(status(breaker, START).totals.calls, 10);
        CHECK_EQ(status(breaker, START).totals.slow, 5);
        CHECK_EQ(state(breaker), FS_CLOSED_STATE);
        call(breaker, series, START, false, 100 * MS);
        check_change(FS_CLOSED_STATE, FS_OPEN, FS_BECAUSE_SLOW_RATE, 2, 0);
        fs_breaker_free(breaker);
        fs_series_free(series);
    }
}

/* Where only metrics are kept no call opens it, however slow or failed. */
static void metrics_only_asks_no_rule(void) {
    for (int failed = 0; failed < 2; failed++) {
        fs_breaker_config config = by_rate();
        config.failure_threshold = 3;
        config.slow_rate = 0.3;
        config.slow = 100 * MS;
        fs_breaker *breaker = in_state(config, FS_METRICS_ONLY);
        fs_series *series = adopted(breaker, 60 * SECOND);
        for (int i = 0; i < 20; i++) call(breaker, series, START, failed, 100 * MS);
        CHECK_EQ(state(breaker), FS_METRICS_ONLY);
        CHECK_EQ(generation(breaker), 2);
        fs_breaker_free(breaker);
        fs_series_free(series);
    }
}

static void rules_are_asked_in_order(void) {
    fs_breaker_config config = plain();
    config.failure_threshold = 10;
    config.failure_rate = config.slow_rate = 1.0;
    config.slow = 1;
    fs_breaker *breaker = made(config);
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 10; i++) call(breaker, series, START, true, 1000);
    CHECK_EQ(change.because, FS_BECAUSE_CONSECUTIVE_FAILURES);
    fs_breaker_free(breaker);
    fs_series_free(series);
    config.failure_threshold = 11;
    breaker = made(config);
    series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 10; i++) call(breaker, series, START, true, 1000);
    CHECK_EQ(change.because, FS_BECAUSE_FAILURE_RATE);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

static void a_count_window_holds_the_last_calls(uint32_t size) {
    fs_breaker_config config = by_rate();
    config.last = size;
    config.minimum_calls = size;
    config.slow = 100 * MS;
    fs_breaker *breaker = made(config);
    for (uint32_t i = 0; i < 3 * size; i++) {
        CHECK_EQ(gate(breaker) & FS_GATE_WATCHED, FS_GATE_WATCHED);
        success(breaker, acquire(breaker, START), START);
    }
    CHECK_EQ(status(breaker, START).totals.calls, size);
    uint32_t needed = (size + 1) / 2;
    for (uint32_t i = 1; i < needed; i++) failure(breaker, acquire(breaker, START), START);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK_EQ(status(breaker, START).totals.failures, needed - 1);
    change = (fs_change){0};
    fs_breaker_failure(breaker, acquire(breaker, START), 200 * MS, START, &change);
    CHECK_EQ(change.because, FS_BECAUSE_FAILURE_RATE);
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK_EQ(status(breaker, START).totals.slow, 1);
    for (int i = 0; i < 2; i++) success(breaker, acquire(breaker, START + WAIT), START + WAIT);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    CHECK(gate(breaker) & FS_GATE_WATCHED); /* the flag outlives changes of state */
    CHECK_EQ(status(breaker, START + WAIT).totals.calls, 0);
    fs_breaker_free(breaker);
}

static fs_breaker_config by_latency(void) {
    fs_breaker_config config = plain();
    config.latency_quantile = 0.9;
    config.latency_limit = 100 * MS;
    config.reset_timeout = SECOND;
    return config;
}

static void watched_call(fs_breaker *breaker, fs_series *series, fs_ns now, fs_ns took) {
    fs_permit permit = fs_permit_of(gate(breaker));
    call(breaker, series, now, false, took);
    fs_breaker_watch_latency(breaker, series, permit, now, &change);
}

/* At the limit, not only above it: as for the slow rate. */
static void the_limit_itself_trips(void) {
    fs_breaker_config config = by_latency();
    for (int more = 0; more < 2; more++) {
        fs_breaker *breaker = made(config);
        fs_series *series = adopted(breaker, 60 * SECOND);
        for (int i = 0; i < 10; i++) watched_call(breaker, series, START, 50 * MS);
        CHECK_EQ(state(breaker), more ? FS_OPEN : FS_CLOSED_STATE);
        fs_series_quantiles(series, FS_RECENT, &config.latency_quantile, 1, &config.latency_limit);
        fs_breaker_free(breaker);
        fs_series_free(series);
    }
}

static void latency_trips_by_its_quantile(void) {
    fs_breaker *breaker = made(by_latency());
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 9; i++) watched_call(breaker, series, START, 500 * MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE); /* fewer than minimum_calls */
    fs_permit old = acquire(breaker, START);
    force(breaker, FS_CLOSED_STATE, START);
    fs_series_free(series);
    fs_breaker_free(breaker);

    breaker = made(by_latency());
    series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 90; i++) watched_call(breaker, series, START, 10 * MS);
    for (int i = 0; i < 10; i++) watched_call(breaker, series, START, 500 * MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE); /* the 90th of 100 is a fast one */
    force(breaker, FS_CLOSED_STATE, START);
    change = (fs_change){0};
    watched_call(breaker, series, START + 61 * SECOND, 500 * MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    for (int i = 0; i < 9; i++) watched_call(breaker, series, START + 61 * SECOND, 500 * MS);
    CHECK_EQ(state(breaker), FS_OPEN);
    CHECK_EQ(change.because, FS_BECAUSE_LATENCY);
    fs_breaker_watch_latency(breaker, series, old, START, &change);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_breaker_free(breaker);
    fs_series_free(series);

    fs_breaker_config none = plain();
    breaker = made(none);
    series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 100; i++) watched_call(breaker, series, START, 500 * MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

/* "What happened before the breaker last closed does not count": or it would open again at once, over and over. */
static void old_latencies_do_not_trip_again(void) {
    fs_breaker *breaker = made(by_latency());
    fs_series *series = adopted(breaker, 60 * SECOND);
    for (int i = 0; i < 10; i++) watched_call(breaker, series, START, 500 * MS);
    CHECK_EQ(state(breaker), FS_OPEN);
    fs_ns now = START + SECOND;
    for (int i = 0; i < 2; i++) call(breaker, series, now, false, MS);
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    for (int i = 0; i < 20; i++) {
        if (state(breaker) != FS_CLOSED_STATE) break;
        watched_call(breaker, series, now, MS);
    }
    CHECK_EQ(state(breaker), FS_CLOSED_STATE);
    fs_breaker_free(breaker);
    fs_series_free(series);
}

int main(void) {
    rig_setup();
    failure_rate_needs_minimum_calls();
    rates_forget_with_the_window();
    what_was_before_closing_does_not_count();
    late_calls_stay_out_of_the_rates();
    slow_calls_trip_by_their_rate();
    a_quick_success_asks_no_rule();
    metrics_only_asks_no_rule();
    rules_are_asked_in_order();
    static const uint32_t sizes[] = {1, 63, 64, 65, FS_LAST_MOST};
    for (int i = 0; i < 5; i++) a_count_window_holds_the_last_calls(sizes[i]);
    latency_trips_by_its_quantile();
    the_limit_itself_trips();
    old_latencies_do_not_trip_again();
    return rig_report();
}
