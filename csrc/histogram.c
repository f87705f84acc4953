#include "failsoft/histogram.h"

#include <string.h>

fs_histogram *fs_histogram_take(fs_arena *arena, fs_ns length, fs_ns now) {
    fs_histogram *histogram = (fs_histogram *)(void *)fs_arena_alloc(arena, sizeof *histogram);
    if (!histogram) return NULL;
    histogram->low = UINT64_MAX;
    fs_slices_init(&histogram->slices, length, now);
    return histogram;
}

static fs_column *column_of(const fs_histogram *histogram, uint32_t octave) {
    fs_span span = fs_load_acquire(&histogram->column[octave]);
    return span ? (fs_column *)fs_arena_follow(histogram, span) : NULL;
}

void fs_histogram_free(fs_histogram *histogram) {
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        fs_column *column = column_of(histogram, octave);
        if (column) fs_arena_free(&column->block);
    }
    fs_arena_free(&histogram->block);
}

/* Two threads may race to install it. */
fs_column *fs_histogram_column(fs_histogram *histogram, uint32_t octave) {
    fs_column *column = column_of(histogram, octave);
    if (column) return column;
    column = (fs_column *)(void *)fs_arena_alloc(fs_arena_of(&histogram->block), sizeof *column);
    if (!column) return NULL;
    fs_span none = 0;
    if (fs_cas(&histogram->column[octave], &none, fs_arena_span(&histogram->block, &column->block))) return column;
    fs_arena_free(&column->block);
    return column_of(histogram, octave);
}

void fs_histogram_new_column(fs_histogram *histogram, uint64_t ns) {
    uint32_t index = fs_histogram_index(ns);
    fs_column *column = fs_histogram_column(histogram, fs_histogram_octave(index));
    if (column)
        fs_tally_add(&column->live[fs_histogram_cell(index)], 1);
    else
        fs_tally_add(&histogram->clipped, 1);
}

void fs_histogram_count_apart(fs_histogram *histogram, uint64_t ns, const fs_totals *calls) {
    fs_totals *total = &histogram->slices.total;
    if (calls->calls) {
        fs_histogram_new_extreme(histogram, ns);
        fs_histogram_new_column(histogram, ns);
    }
    fs_tally_add(&total->calls, calls->calls);
    fs_tally_add(&total->sum, ns * calls->calls);
    fs_tally_add(&total->failures, calls->failures);
    fs_tally_add(&total->slow, calls->slow);
}

void fs_histogram_new_extreme(fs_histogram *histogram, uint64_t ns) {
    uint64_t low = fs_load_relaxed(&histogram->low);
    while (ns < low && !fs_cas(&histogram->low, &low, ns)) {}
    uint64_t high = fs_load_relaxed(&histogram->high);
    while (ns > high && !fs_cas(&histogram->high, &high, ns)) {}
}

/* One column through one closing slice. `oldest` is the ring place that expires and takes the live cells. */
static void turn_column(fs_column *column, uint32_t oldest) {
    uint32_t *slice = column->slice[oldest];
    uint64_t arrived = 0, expired = 0;
    for (uint32_t i = 0; i < FS_CELLS; i++) {
        uint32_t live = fs_load_relaxed(&column->live[i]);
        arrived += live;
        expired += slice[i];
        fs_tally_set(&column->closed[i], column->closed[i] + live - slice[i]);
        slice[i] = live;
        if (live == 0) continue;
        /* As the totals of the slices: there first, and away from here after. */
        fs_store_relaxed(&column->undo, column->total[i]);
        fs_store_release(&column->moving, i + 1);
        fs_fence_release();
        fs_tally_set(&column->total[i], column->total[i] + live);
        fs_fence_release();
        fs_tally_add(&column->live[i], 0 - live);
    }
    fs_store_release(&column->moving, 0);
    fs_tally_set(&column->total_sum, column->total_sum + arrived);
    fs_tally_set(&column->closed_sum, column->closed_sum + arrived - expired);
}

static void drop_slice(fs_column *column, uint32_t place) {
    uint32_t *slice = column->slice[place];
    uint64_t expired = 0;
    for (uint32_t i = 0; i < FS_CELLS; i++) {
        expired += slice[i];
        fs_tally_set(&column->closed[i], column->closed[i] - slice[i]);
        slice[i] = 0;
    }
    fs_tally_set(&column->closed_sum, column->closed_sum - expired);
}

static void end_turn(fs_histogram *histogram, uint32_t over) {
    uint32_t oldest = histogram->slices.oldest;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        fs_column *column = column_of(histogram, octave);
        if (!column) continue;
        turn_column(column, oldest);
        /* Slices in which nothing was recorded; a whole window of them drops the live one too. */
        for (uint32_t i = 1; i < over; i++) drop_slice(column, (oldest + i) % FS_CLOSED);
    }
    fs_slices_end_turn(&histogram->slices, over);
}

void fs_histogram_turn(fs_histogram *histogram, fs_ns now, fs_ticks stamp) {
    fs_histogram_flush(histogram); /* it belongs to the slice that may be over */
    uint32_t over = fs_slices_begin_turn(&histogram->slices, now, stamp);
    if (over) end_turn(histogram, over);
}

void fs_histogram_cell_full(fs_histogram *histogram) {
    uint32_t turn = fs_load_relaxed(&histogram->slices.turn);
    if ((turn & 1) || !fs_cas(&histogram->slices.turn, &turn, turn + 1)) return;
    fs_fence_release();
    end_turn(histogram, 1);
}

/* Values counted apart before they are added to the live cells: so many at most that 32 bits hold them, and at least
 * so many that adding up the table costs less than what it saves (no column to look up, no atomic increment). */
#define BATCH_MOST ((size_t)FS_CELL_FULL / 2)
#define BATCH_LEAST 256

/* False: a value is negative, and nothing has been counted. */
static bool count_batch(fs_histogram *histogram, const int64_t *ns, size_t count) {
    uint32_t table[FS_OCTAVES * FS_CELLS] = {0};
    uint64_t low = UINT64_MAX, high = 0, sum = 0, signs = 0;
    uint32_t clipped = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t value = (uint64_t)ns[i];
        signs |= value;
        clipped += value > FS_VALUE_MOST;
        value = value > FS_VALUE_MOST ? FS_VALUE_MOST : value;
        low = value < low ? value : low;
        high = value > high ? value : high;
        sum += value;
        table[fs_histogram_index(value)]++;
    }
    if (signs >> 63) return false;
    /* Before the cells, so that a reader never clamps to a range that is not there yet. */
    fs_histogram_new_extreme(histogram, low);
    fs_histogram_new_extreme(histogram, high);
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        uint32_t *from = &table[octave * FS_CELLS], here = 0;
        for (uint32_t i = 0; i < FS_CELLS; i++) here += from[i];
        if (here == 0) continue;
        fs_column *column = fs_histogram_column(histogram, octave);
        if (!column) {
            clipped += here;
            continue;
        }
        uint32_t fullest = 0;
        for (uint32_t i = 0; i < FS_CELLS; i++) {
            if (from[i]) fs_tally_add(&column->live[i], from[i]);
            uint32_t now = fs_tally_get(&column->live[i]);
            fullest = now > fullest ? now : fullest;
        }
        if (FS_UNLIKELY(fullest >= FS_CELL_FULL)) fs_histogram_cell_full(histogram);
    }
    fs_tally_add(&histogram->slices.live.calls, count);
    fs_tally_add(&histogram->slices.live.sum, sum);
    if (clipped) fs_tally_add(&histogram->clipped, clipped);
    return true;
}

void fs_histogram_repeat(fs_histogram *histogram, uint64_t ns, uint32_t count) {
    if (count == 0) return;
    uint32_t index = fs_histogram_index(ns);
    fs_histogram_new_extreme(histogram, ns);
    fs_tally_add(&histogram->slices.live.calls, count);
    fs_tally_add(&histogram->slices.live.sum, ns * count);
    fs_column *column = fs_histogram_column(histogram, fs_histogram_octave(index));
    if (!column) {
        fs_tally_add(&histogram->clipped, count);
        return;
    }
    uint32_t *cell = &column->live[fs_histogram_cell(index)];
    fs_tally_add(cell, count);
    if (FS_UNLIKELY(fs_tally_get(cell) >= FS_CELL_FULL)) fs_histogram_cell_full(histogram);
}

static bool any_negative(const int64_t *ns, size_t count) {
    uint64_t signs = 0;
    for (size_t i = 0; i < count; i++) signs |= (uint64_t)ns[i];
    return signs >> 63;
}

bool fs_histogram_record_many(fs_histogram *histogram, const int64_t *ns, size_t count, fs_ticks stamp) {
    if (fs_slices_due(&histogram->slices, stamp)) fs_histogram_turn(histogram, fs_now(), stamp);
    bool small = count < BATCH_LEAST;
    if ((small || count > BATCH_MOST) && any_negative(ns, count)) return false;
    for (size_t i = 0; small && i < count; i++) fs_histogram_record(histogram, (uint64_t)ns[i], stamp);
    for (size_t done = 0; !small && done < count; done += BATCH_MOST) {
        size_t left = count - done;
        if (!count_batch(histogram, ns + done, left < BATCH_MOST ? left : BATCH_MOST)) return false;
    }
    return true;
}

fs_series *fs_series_take(fs_arena *arena, fs_ns window, fs_ns now) {
    fs_series *series = (fs_series *)(void *)fs_arena_alloc(arena, sizeof *series);
    if (!series) return NULL;
    series->window = window;
    series->began = now;
    return series;
}

void fs_series_free(fs_series *series) {
    for (uint32_t i = 0; i < FS_STRIPES; i++) {
        fs_histogram *histogram = fs_series_have(series, i);
        if (histogram) fs_histogram_free(histogram);
    }
    fs_arena_free(&series->block);
}

fs_histogram *fs_series_stripe(fs_series *series, uint32_t stripe) {
    fs_histogram *histogram = fs_series_have(series, stripe);
    if (histogram) return histogram;
    /* Anchored where the series began, so that all stripes turn together. */
    histogram = fs_histogram_take(fs_arena_of(&series->block), series->window, series->began);
    if (!histogram) return NULL;
    fs_span none = 0;
    if (fs_cas(&series->stripe[stripe], &none, fs_arena_span(&series->block, &histogram->block))) return histogram;
    fs_histogram_free(histogram);
    return fs_series_have(series, stripe);
}

static void clear_histogram(fs_histogram *histogram, fs_ns length, fs_ns now) {
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        fs_column *column = column_of(histogram, octave);
        if (column) memset((char *)column + sizeof column->block, 0, sizeof *column - sizeof column->block);
    }
    histogram->clipped = 0;
    histogram->pending = 0;
    histogram->low = UINT64_MAX;
    histogram->high = 0;
    fs_slices_init(&histogram->slices, length, now);
}

/* Run `body` with `histogram` set to each stripe that has been taken. */
#define FOR_EACH_STRIPE(series, histogram)                       \
    for (uint32_t stripe_ = 0; stripe_ < FS_STRIPES; stripe_++)  \
        for (fs_histogram *histogram = fs_series_have((series), stripe_); histogram; histogram = NULL)

void fs_series_clear(fs_series *series, fs_ns now) {
    FOR_EACH_STRIPE(series, histogram) clear_histogram(histogram, series->window, now);
    series->began = now;
    series->since = 0;
    memset(series->events, 0, sizeof series->events);
}

void fs_series_recent(fs_series *series, fs_ns now, fs_totals *totals) {
    FOR_EACH_STRIPE(series, histogram) {
        fs_histogram_flush(histogram);
        fs_slices_recent(&histogram->slices, now, totals);
    }
}

void fs_series_ever(fs_series *series, fs_totals *totals) {
    FOR_EACH_STRIPE(series, histogram) {
        fs_histogram_flush(histogram);
        fs_slices_ever(&histogram->slices, totals);
    }
}

void fs_series_extremes( fs_series *series, uint64_t *low, uint64_t *high) {
    *low = UINT64_MAX;
    *high = 0;
    FOR_EACH_STRIPE(series, histogram) {
        fs_histogram_flush(histogram);
        uint64_t least = fs_load_relaxed(&histogram->low), most = fs_load_relaxed(&histogram->high);
        if (least < *low) *low = least;
        if (most > *high) *high = most;
    }
}

uint64_t fs_series_clipped(const fs_series *series) {
    uint64_t clipped = 0;
    FOR_EACH_STRIPE(series, histogram) clipped += fs_load_relaxed(&histogram->clipped);
    return clipped;
}

size_t fs_series_bytes(const fs_series *series) {
    size_t lines = series->block.lines;
    FOR_EACH_STRIPE(series, histogram) {
        lines += histogram->block.lines;
        for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
            fs_column *column = column_of(histogram, octave);
            if (column) lines += column->block.lines;
        }
    }
    return lines * FS_LINE;
}

static uint64_t cell_count(const fs_column *column, fs_span_of_time span, uint32_t cell) {
    uint64_t closed = span == FS_RECENT ? fs_tally_get(&column->closed[cell]) : fs_tally_get(&column->total[cell]);
    return closed + fs_tally_get(&column->live[cell]);
}

static uint64_t column_count(const fs_column *column, fs_span_of_time span) {
    /* In four sums of 16 cells, none of which overflows 32 bits more than the cells of a slice can: see FS_CELL_FULL.
     * Narrow sums are what lets the compiler add several cells at once. */
    uint64_t sum = span == FS_RECENT ? fs_tally_get(&column->closed_sum) : fs_tally_get(&column->total_sum);
    for (uint32_t quarter = 0; quarter < FS_CELLS; quarter += FS_CELLS / 4) {
        uint32_t live = 0;
        for (uint32_t i = 0; i < FS_CELLS / 4; i++) live += fs_tally_get(&column->live[quarter + i]);
        sum += live;
    }
    return sum;
}

/* Bring the slices up to date, so that closed and live cells are what the window holds. */
static void turn_all(fs_series *series) {
    fs_ticks stamp = fs_stamp();
    FOR_EACH_STRIPE(series, histogram) {
        if (fs_slices_due(&histogram->slices, stamp)) fs_histogram_turn(histogram, fs_now(), stamp);
        fs_histogram_flush(histogram);
    }
}

/* Is no stripe turning? And how many turns there have been: a read between two equal answers met none. */
static bool at_rest(const fs_series *series, uint64_t *turns) {
    uint64_t sum = 0;
    bool rest = true;
    fs_fence_acquire();
    FOR_EACH_STRIPE(series, histogram) {
        uint32_t turn = fs_load_acquire(&histogram->slices.turn);
        rest &= !(turn & 1);
        sum += turn;
    }
    *turns = sum;
    return rest;
}

static uint64_t octave_counts(const fs_series *series, fs_span_of_time span, uint64_t *octaves) {
    uint64_t count = 0;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        octaves[octave] = 0;
        FOR_EACH_STRIPE(series, histogram) {
            fs_column *column = column_of(histogram, octave);
            if (column) octaves[octave] += column_count(column, span);
        }
        count += octaves[octave];
    }
    return count;
}

/* The counts of one octave's cells, over all stripes. */
static void octave_cells(const fs_series *series, fs_span_of_time span, uint32_t octave, uint64_t *cells) {
    bool first = true;
    FOR_EACH_STRIPE(series, histogram) {
        fs_column *column = column_of(histogram, octave);
        if (!column) continue;
        for (uint32_t cell = 0; cell < FS_CELLS; cell++)
            cells[cell] = (first ? 0 : cells[cell]) + cell_count(column, span, cell);
        first = false;
    }
    for (uint32_t cell = 0; first && cell < FS_CELLS; cell++) cells[cell] = 0;
}

/* The smallest whole number of values that is at least a share q of n, and at least one. */
static uint64_t rank_of(double q, uint64_t n) {
    double exact = q * (double)n;
    uint64_t rank = exact >= (double)n ? n : (uint64_t)exact;
    if ((double)rank < exact && rank < n) rank++;
    return rank ? rank : 1;
}

static uint64_t quantiles(fs_series *series, fs_span_of_time span, const double *q, size_t count, uint64_t *out) {
    uint64_t octaves[FS_OCTAVES];
    uint64_t n = octave_counts(series, span, octaves);
    if (n == 0) return 0;
    uint64_t low, high;
    fs_series_extremes(series, &low, &high);
    uint64_t cells[FS_CELLS];
    uint32_t octave = 0, cell = 0, gathered = FS_OCTAVES; /* the octave in cells */
    uint64_t below = 0;  /* values in the octaves before this one */
    uint64_t within = 0; /* and in its cells before this one */
    for (size_t i = 0; i < count; i++) {
        uint64_t rank = rank_of(q[i], n);
        while (octave < FS_OCTAVES - 1 && below + octaves[octave] < rank) {
            below += octaves[octave++];
            cell = 0;
            within = 0;
        }
        if (gathered != octave) octave_cells(series, span, gathered = octave, cells);
        for (; cell < FS_CELLS - 1 && below + within + cells[cell] < rank; cell++) within += cells[cell];
        uint64_t middle = fs_histogram_middle(octave * FS_CELLS + cell);
        out[i] = middle < low ? low : middle > high ? high : middle;
    }
    return n;
}

/* A reader that keeps meeting turns gives up on a perfect answer: each takes microseconds, and slices last seconds. */
#define READS_MOST 64

uint64_t fs_series_quantiles(fs_series *series, fs_span_of_time span, const double *q, size_t count, uint64_t *out) {
    turn_all(series);
    uint64_t before, after, n = 0;
    for (int i = 0; i < READS_MOST; i++) {
        bool rest = at_rest(series, &before);
        n = quantiles(series, span, q, count, out);
        if (rest && at_rest(series, &after) && before == after) break;
    }
    return n;
}

static uint64_t read_cells(const fs_series *series, fs_span_of_time span, uint64_t *cells) {
    uint64_t count = 0;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        uint64_t *here = &cells[octave * FS_CELLS];
        octave_cells(series, span, octave, here);
        for (uint32_t cell = 0; cell < FS_CELLS; cell++) count += here[cell];
    }
    return count;
}

uint64_t fs_series_cells(fs_series *series, fs_span_of_time span, uint64_t *cells) {
    turn_all(series);
    uint64_t before, after, n = 0;
    for (int i = 0; i < READS_MOST; i++) {
        bool rest = at_rest(series, &before);
        n = read_cells(series, span, cells);
        if (rest && at_rest(series, &after) && before == after) break;
    }
    return n;
}

fs_status fs_series_merge(fs_series *series, fs_series *other) {
    turn_all(other);
    fs_histogram *into = fs_series_stripe(series, 0);
    if (!into) return FS_NO_MEMORY;
    FOR_EACH_STRIPE(other, from) {
        for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
            fs_column *source = column_of(from, octave);
            if (!source) continue;
            fs_column *target = fs_histogram_column(into, octave);
            if (!target) return FS_NO_MEMORY;
            uint64_t moved = 0;
            for (uint32_t cell = 0; cell < FS_CELLS; cell++) {
                uint64_t more = cell_count(source, FS_EVER, cell);
                fs_tally_add(&target->total[cell], more);
                moved += more;
            }
            fs_tally_add(&target->total_sum, moved);
        }
        fs_totals all = {0};
        fs_slices_ever(&from->slices, &all);
        fs_tally_add(&into->slices.total.calls, all.calls);
        fs_tally_add(&into->slices.total.sum, all.sum);
        fs_tally_add(&into->slices.total.failures, all.failures);
        fs_tally_add(&into->slices.total.slow, all.slow);
        fs_tally_add(&into->clipped, fs_load_relaxed(&from->clipped));
        uint64_t low = fs_load_relaxed(&from->low), high = fs_load_relaxed(&from->high);
        if (low > high) continue; /* nothing, or calls of unknown duration alone */
        fs_histogram_new_extreme(into, low);
        fs_histogram_new_extreme(into, high);
    }
    return FS_OK;
}

static uint64_t counts_below(const fs_series *series, fs_span_of_time span, const uint64_t *bounds, size_t count,
                             uint64_t *below) {
    uint64_t cells[FS_CELLS], passed = 0;
    size_t i = 0;
    for (uint32_t octave = 0; octave < FS_OCTAVES; octave++) {
        bool seen = false;
        FOR_EACH_STRIPE(series, histogram) seen |= column_of(histogram, octave) != NULL;
        if (seen) octave_cells(series, span, octave, cells);
        uint32_t cell = 0, next = (octave + 1) * FS_CELLS;
        for (; i < count; i++) {
            uint32_t last = fs_histogram_index(bounds[i] < FS_VALUE_MOST ? bounds[i] : FS_VALUE_MOST);
            if (last >= next) break;
            for (; seen && cell <= fs_histogram_cell(last); cell++) passed += cells[cell];
            below[i] = passed;
        }
        for (; seen && cell < FS_CELLS; cell++) passed += cells[cell];
    }
    return passed;
}

uint64_t fs_series_counts_below(fs_series *series, fs_span_of_time span, const uint64_t *bounds, size_t count,
                                uint64_t *below, fs_totals *totals) {
    turn_all(series);
    uint64_t before, after, n = 0;
    for (int i = 0; i < READS_MOST; i++) {
        bool rest = at_rest(series, &before);
        *totals = (fs_totals){0};
        if (span == FS_RECENT)
            fs_series_recent(series, fs_now(), totals);
        else
            fs_series_ever(series, totals);
        n = counts_below(series, span, bounds, count, below);
        if (rest && at_rest(series, &after) && before == after) break;
    }
    return n;
}
