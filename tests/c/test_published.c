/* What one thread makes and another finds, of all that a breaker and its counts consist of. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/breaker.h"

#include "breaker_rig.h"
#include "published.h"

static fs_series *series;
static fs_breaker *breaker;

static void find_arena(void) { seen = fs_arena_private()->capacity; }
static void make_arena(void) { CHECK(fs_arena_private() != NULL); }

static void find_stripe(void) {
    const fs_histogram *histogram = fs_series_have(series, 0);
    seen = histogram ? histogram->slices.slice : 0;
}
static void make_stripe(void) { CHECK(fs_series_stripe(series, 0) != NULL); }

static void find_series(void) {
    fs_breaker_status told;
    fs_breaker_read(breaker, START, &told);
    seen = told.totals.calls + 1;
}
static void make_series(void) {
    fs_series *fresh = fs_series_take(arena, SECOND, START);
    if (!CHECK(fresh != NULL)) return;
    fs_breaker_adopt(breaker, fresh);
}

static void find_decision(void) {
    static fs_decision found[FS_DECISIONS];
    fs_recorder_read(&breaker->recorder, &breaker->block, found);
    seen = found[0].first;
}
static void make_decision(void) {
    fs_decision decision = {.first = START, .kind = FS_HEALTH};
    fs_breaker_note(breaker, &decision);
}

static void find_alike(void) {
    fs_decision decision = {.first = START, .kind = FS_HEALTH, .generation = 1};
    seen = fs_recorder_again(&breaker->recorder, &breaker->block, &decision);
}

static uint64_t faults; /* as the plan of faults that a mark leads to: a plain word */
static void find_faults(void) { seen = fs_breaker_gate(breaker) & FS_GATE_CHAOS ? faults : 0; }
static void make_faults(void) {
    faults = 1;
    fs_breaker_chaos(breaker, true);
}

static uint64_t elsewhere; /* where a breaker that has been left lies now */
static void find_elsewhere(void) { seen = fs_breaker_gate(breaker) & FS_GATE_MOVED ? elsewhere : 0; }
static void make_elsewhere(void) {
    elsewhere = 1;
    fs_breaker_leave(breaker);
}

int main(void) {
    rig_setup();
    breaker = made(plain());
    /* Lines that were used before: what is in them is emptied by whoever takes them. */
    fs_series *before = fs_series_take(arena, SECOND, START);
    CHECK(fs_series_stripe(before, 0) != NULL);
    fs_series_free(before);
    series = fs_series_take(arena, SECOND, START);
    made_here_and_found_there(make_arena, find_arena);
    made_here_and_found_there(make_stripe, find_stripe);
    made_here_and_found_there(make_series, find_series);
    made_here_and_found_there(make_decision, find_decision);
    fs_breaker_free(breaker); /* its entries are the next one's */
    breaker = made(plain());
    made_here_and_found_there(make_decision, find_alike);
    made_here_and_found_there(make_faults, find_faults);
    made_here_and_found_there(make_elsewhere, find_elsewhere);
    return rig_report();
}
