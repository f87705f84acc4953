/* Reading what somebody else writes: another process, which knows nothing of us, or one that has died in the middle of it. */
#include "failsoft/histogram.h"

#include <string.h>

/* A reader that keeps meeting turns takes what it sees: a writer that died in one never ends it. */
#define READS_MOST 64

const void *fs_stranger_follow(const fs_stranger *stranger, const void *from, fs_span span, size_t bytes) {
    ptrdiff_t at = (const char *)from - stranger->base + (ptrdiff_t)span * FS_LINE;
    if (span == 0 || at < 0 || (size_t)at > stranger->bytes || stranger->bytes - (size_t)at < bytes) return NULL;
    return stranger->base + at;
}

static const fs_histogram *stripe_of(const fs_series *series, const fs_stranger *stranger, uint32_t stripe) {
    fs_span span = fs_load_acquire(&series->stripe[stripe]);
    return fs_stranger_follow(stranger, series, span, sizeof(fs_histogram));
}

static const fs_column *column_of(const fs_histogram *histogram, const fs_stranger *stranger, uint32_t octave) {
    fs_span span = fs_load_acquire(&histogram->column[octave]);
    return fs_stranger_follow(stranger, histogram, span, sizeof(fs_column));
}

static void add(fs_totals *totals, const fs_totals *more) {
    totals->calls += more->calls;
    totals->sum += more->sum;
    totals->failures += more->failures;
    totals->slow += more->slow;
}

static void add_pending(fs_totals *totals, uint64_t pending) {
    if (pending == 0) return;
    totals->calls += 1;
    totals->sum += pending - 1;
}

static bool turning(const fs_histogram *histogram) { return fs_load_acquire(&histogram->slices.turn) & 1; }

static void histogram_totals(const fs_histogram *histogram, const fs_stranger *stranger, fs_ns now, fs_totals *recent,
                             fs_totals *ever) {
    uint64_t pending = fs_load_relaxed(&histogram->pending);
    fs_slices_recent(&histogram->slices, now, recent);
    if (stranger->dead)
        fs_slices_ever_dead(&histogram->slices, ever);
    else
        fs_slices_ever(&histogram->slices, ever);
    add_pending(recent, pending);
    add_pending(ever, pending);
}

void fs_series_totals_of(const fs_series *from, const fs_stranger *stranger, fs_ns now, fs_totals *recent,
                         fs_totals *ever) {
    for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++) {
        const fs_histogram *histogram = stripe_of(from, stranger, stripe);
        if (histogram) histogram_totals(histogram, stranger, now, recent, ever);
    }
}

/* What the cells of one histogram hold, and what is to be known beside. */
typedef struct {
    uint64_t ever[FS_OCTAVES][FS_CELLS];
    uint32_t recent[FS_OCTAVES][FS_CELLS];
    fs_totals all, lately;
} fs_picture;

static uint64_t cell_ever(const fs_column *column, uint32_t cell, bool dead) {
    uint64_t live = fs_load_relaxed(&column->live[cell]), total = fs_load_relaxed(&column->total[cell]);
    if (dead && fs_load_relaxed(&column->moving) == cell + 1)
        live = fs_slices_left(live, total, fs_load_relaxed(&column->undo));
    return total + live;
}

static uint32_t cell_recent(const fs_column *column, uint32_t cell, uint32_t oldest, uint64_t over) {
    uint32_t sum = over < FS_SLICES ? fs_load_relaxed(&column->live[cell]) : 0;
    for (uint64_t k = over; k < FS_CLOSED; k++) sum += fs_load_relaxed(&column->slice[(oldest + k) % FS_CLOSED][cell]);
    return sum;
}

static void look(const fs_histogram *histogram, const fs_stranger *stranger, fs_ns now, fs_picture *picture) {
    memset(picture, 0, sizeof *picture);
    fs_ns opened = fs_load_relaxed(&histogram->slices.opened), slice = fs_load_relaxed(&histogram->slices.slice);
    uint64_t over = slice && now > opened ? (now - opened) / slice : 0;
    uint32_t oldest = fs_load_relaxed(&histogram->slices.oldest);
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        const fs_column *column = column_of(histogram, stranger, octave);
        if (!column) continue;
        for (uint32_t cell = 0; cell < FS_CELLS; cell++) {
            picture->ever[octave][cell] = cell_ever(column, cell, stranger->dead);
            picture->recent[octave][cell] = cell_recent(column, cell, oldest, over);
        }
    }
    uint64_t pending = fs_load_relaxed(&histogram->pending);
    if (pending && pending - 1 <= FS_VALUE_MOST) {
        uint32_t index = fs_histogram_index(pending - 1);
        picture->ever[fs_histogram_octave(index)][fs_histogram_cell(index)]++;
        picture->recent[fs_histogram_octave(index)][fs_histogram_cell(index)]++;
    }
    histogram_totals(histogram, stranger, now, &picture->lately, &picture->all);
}

/* Count the cells of a picture, the latest of them in the slice that closed last. */
static fs_status count(fs_histogram *into, const fs_picture *picture, bool recent) {
    uint32_t newest = (into->slices.oldest + FS_CLOSED - 1) % FS_CLOSED;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        uint64_t ever = 0, lately = 0;
        for (uint32_t cell = 0; cell < FS_CELLS; cell++) {
            ever += picture->ever[octave][cell];
            lately += recent ? picture->recent[octave][cell] : 0;
        }
        if (ever == 0) continue;
        fs_column *column = fs_histogram_column(into, octave);
        if (!column) return FS_NO_MEMORY;
        for (uint32_t cell = 0; cell < FS_CELLS; cell++) {
            column->total[cell] += picture->ever[octave][cell];
            if (!recent) continue;
            column->closed[cell] += picture->recent[octave][cell];
            column->slice[newest][cell] += picture->recent[octave][cell];
        }
        column->total_sum += ever;
        column->closed_sum += lately;
    }
    add(&into->slices.total, &picture->all);
    if (recent) add(&into->slices.closed[newest], &picture->lately);
    return FS_OK;
}

fs_status fs_series_observe(fs_series *into, const fs_series *from, const fs_stranger *stranger, bool recent, fs_ns now) {
    fs_histogram *target = fs_series_stripe(into, 0);
    if (!target) return FS_NO_MEMORY;
    for (uint32_t stripe = 0; stripe < FS_STRIPES; stripe++) {
        const fs_histogram *histogram = stripe_of(from, stranger, stripe);
        if (!histogram) continue;
        fs_picture picture;
        for (int i = 0; i < READS_MOST; i++) {
            uint32_t turn = fs_load_acquire(&histogram->slices.turn);
            look(histogram, stranger, now, &picture);
            fs_fence_acquire();
            if (!turning(histogram) && fs_load_relaxed(&histogram->slices.turn) == turn) break;
        }
        if (count(target, &picture, recent) != FS_OK) return FS_NO_MEMORY;
        target->clipped += fs_load_relaxed(&histogram->clipped);
        uint64_t low = fs_load_relaxed(&histogram->low), high = fs_load_relaxed(&histogram->high);
        uint64_t pending = fs_load_relaxed(&histogram->pending);
        if (pending && pending - 1 < low) low = pending - 1;
        if (pending && pending - 1 > high) high = pending - 1;
        if (low > high) continue; /* nothing, or calls of unknown duration alone */
        fs_histogram_new_extreme(target, low);
        fs_histogram_new_extreme(target, high);
    }
    if (from->began < into->began) into->began = from->began;
    for (uint32_t event = 0; event < FS_EVENTS; event++) into->events[event] += fs_load_relaxed(&from->events[event]);
    return FS_OK;
}
