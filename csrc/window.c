#include "failsoft/window.h"

#include <string.h>

static void add(fs_totals *totals, const fs_totals *more) {
    totals->calls += fs_load_relaxed(&more->calls);
    totals->sum += fs_load_relaxed(&more->sum);
    totals->failures += fs_load_relaxed(&more->failures);
    totals->slow += fs_load_relaxed(&more->slow);
}

static void put(fs_totals *totals, const fs_totals *value) {
    fs_store_relaxed(&totals->calls, value->calls);
    fs_store_relaxed(&totals->sum, value->sum);
    fs_store_relaxed(&totals->failures, value->failures);
    fs_store_relaxed(&totals->slow, value->slow);
}

/* First there, then away from here, and never the other way round: see fs_slices_left. What others record meanwhile stays
 * for the next slice; the total is added to rather than put, for calls that belong to another time are counted there. */
static uint64_t move(uint64_t *live, uint64_t *total) {
    uint64_t moved = fs_load_relaxed(live);
    fs_tally_add(total, moved);
    fs_fence_release();
    fs_tally_add(live, 0 - moved);
    return moved;
}

/* Move the live slice to the total. */
static fs_totals close_live(fs_slices *window) {
    put(&window->undo, &window->total);
    fs_store_release(&window->moving, fs_load_relaxed(&window->turn));
    fs_fence_release();
    fs_totals moved = {0};
    moved.calls = move(&window->live.calls, &window->total.calls);
    moved.sum = move(&window->live.sum, &window->total.sum);
    moved.failures = move(&window->live.failures, &window->total.failures);
    moved.slow = move(&window->live.slow, &window->total.slow);
    return moved;
}

void fs_slices_init(fs_slices *window, fs_ns length, fs_ns now) {
    memset(window, 0, sizeof *window);
    window->slice = length / FS_SLICES ? length / FS_SLICES : 1;
    window->opened = now;
}

uint32_t fs_slices_begin_turn(fs_slices *window, fs_ns now, fs_ticks stamp) {
    uint32_t turn = fs_load_relaxed(&window->turn);
    if ((turn & 1) || !fs_cas(&window->turn, &turn, turn + 1)) return 0;
    fs_fence_release();
    fs_ns opened = fs_load_relaxed(&window->opened);
    uint64_t over = now > opened ? (now - opened) / window->slice : 0;
    opened += over * window->slice;
    fs_store_relaxed(&window->opened, opened);
    /* Anchor the stamps anew at each turn: the two clocks drift, and the counter may have been left. */
    fs_ns into = now > opened ? now - opened : 0;
    fs_store_relaxed(&window->slice_start, stamp - fs_ns_to_ticks(into));
    fs_store_relaxed(&window->slice_ticks, fs_ns_to_ticks(window->slice));
    if (over == 0) fs_store_release(&window->turn, turn + 2);
    return over < FS_SLICES ? (uint32_t)over : FS_SLICES;
}

void fs_slices_end_turn(fs_slices *window, uint32_t over) {
    fs_totals live = close_live(window);
    uint32_t oldest = window->oldest;
    for (uint32_t i = 0; i < over; i++) {
        put(&window->closed[oldest], i == 0 ? &live : &(fs_totals){0});
        oldest = (oldest + 1) % FS_CLOSED;
    }
    fs_store_relaxed(&window->oldest, oldest);
    fs_store_release(&window->turn, fs_load_relaxed(&window->turn) + 1);
}

void fs_slices_turn(fs_slices *window, fs_ns now, fs_ticks stamp) {
    uint32_t over = fs_slices_begin_turn(window, now, stamp);
    if (over) fs_slices_end_turn(window, over);
}

/* A reader that keeps meeting turns gives up on a perfect answer: each takes a microsecond, and slices last seconds. */
#ifndef FS_READS_MOST
#define FS_READS_MOST 64
#endif

void fs_slices_recent(const fs_slices *window, fs_ns now, fs_totals *totals) {
    fs_totals sum = {0};
    for (int i = 0; i < FS_READS_MOST; i++) {
        uint32_t turn = fs_load_acquire(&window->turn);
        fs_ns opened = fs_load_relaxed(&window->opened);
        fs_ns slice = fs_load_relaxed(&window->slice); /* 0: somebody has just taken this memory for something else */
        uint64_t over = slice && now > opened ? (now - opened) / slice : 0;
        sum = (fs_totals){0};
        if (over < FS_SLICES) add(&sum, &window->live);
        /* The slices that a turn at `now` would drop come first after `oldest`. */
        uint32_t oldest = fs_load_relaxed(&window->oldest);
        for (uint64_t k = over; k < FS_CLOSED; k++) add(&sum, &window->closed[(oldest + k) % FS_CLOSED]);
        fs_fence_acquire();
        if (!(turn & 1) && fs_load_acquire(&window->turn) == turn) break;
    }
    add(totals, &sum);
}

void fs_slices_ever(const fs_slices *window, fs_totals *totals) {
    fs_totals sum = {0};
    for (int i = 0; i < FS_READS_MOST; i++) {
        uint32_t turn = fs_load_acquire(&window->turn);
        sum = (fs_totals){0};
        add(&sum, &window->total);
        add(&sum, &window->live);
        fs_fence_acquire();
        if (!(turn & 1) && fs_load_acquire(&window->turn) == turn) break;
    }
    add(totals, &sum);
}

void fs_slices_ever_dead(const fs_slices *window, fs_totals *totals) {
    fs_totals sum = {0};
    add(&sum, &window->total);
    const fs_totals *live = &window->live, *total = &window->total, *undo = &window->undo;
    if (!(window->turn & 1) || window->moving != window->turn) {
        add(&sum, live);
    } else {
        sum.calls += fs_slices_left(live->calls, total->calls, undo->calls);
        sum.sum += fs_slices_left(live->sum, total->sum, undo->sum);
        sum.failures += fs_slices_left(live->failures, total->failures, undo->failures);
        sum.slow += fs_slices_left(live->slow, total->slow, undo->slow);
    }
    add(totals, &sum);
}

static void set_bit(uint64_t *words, uint32_t place, bool value) {
    uint64_t bit = UINT64_C(1) << (place % 64);
    if (value)
        fs_or_relaxed(&words[place / 64], bit);
    else
        fs_and_relaxed(&words[place / 64], ~bit);
}

void fs_last_record(fs_last *window, uint32_t size, bool failed, bool slow) {
    uint32_t place = (uint32_t)(fs_add_relaxed(&window->ticket, 1) % size);
    set_bit(window->failed, place, failed);
    set_bit(window->slow, place, slow);
}

void fs_last_restart(fs_last *window) {
    fs_store_relaxed(&window->since, fs_load_relaxed(&window->ticket));
    for (size_t i = 0; i < FS_LAST_MOST / 64; i++) {
        fs_store_relaxed(&window->failed[i], 0);
        fs_store_relaxed(&window->slow[i], 0);
    }
}

static bool bit_at(const uint64_t *words, uint64_t place) { return words[place / 64] >> (place % 64) & 1; }

void fs_last_resize(fs_last *window, uint32_t from, uint32_t to) {
    if (from == to) return;
    fs_last before = *window;
    uint64_t held = before.ticket - before.since, most = from < to ? from : to;
    fs_last_restart(window);
    window->since = before.ticket - (held < most ? held : most);
    for (uint64_t ticket = window->since; ticket != before.ticket; ticket++) {
        set_bit(window->failed, (uint32_t)(ticket % to), bit_at(before.failed, ticket % from));
        set_bit(window->slow, (uint32_t)(ticket % to), bit_at(before.slow, ticket % from));
    }
}

void fs_last_totals(const fs_last *window, uint32_t size, fs_totals *totals) {
    uint64_t calls = fs_load_relaxed(&window->ticket) - fs_load_relaxed(&window->since);
    totals->calls += calls < size ? calls : size;
    /* Counted on demand rather than kept: a kept number would stay wrong after a writer killed half-way. */
    for (uint32_t i = 0; i < (size + 63) / 64; i++) {
        totals->failures += (uint64_t)__builtin_popcountll(fs_load_relaxed(&window->failed[i]));
        totals->slow += (uint64_t)__builtin_popcountll(fs_load_relaxed(&window->slow[i]));
    }
}
