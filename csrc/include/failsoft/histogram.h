/* histogram.h - latency percentiles, since the start and over a rolling window.
 *
 * What:    log-linear buckets, as in HdrHistogram and hg64 (Tony Finch, dotat.at, 2022): a value's octave by one count
 *          of leading zeros, then FS_CELLS equal cells within it. A cell is 1/64 of its octave wide, and reporting its
 *          middle errs by at most 0.79 %; values below 2 * FS_CELLS ns are exact.
 *
 *              fs_histogram    slices (calls, failures, sums), seen minimum and maximum, 37 column spans
 *              column          one octave: live cells, the closed slices' cells, their sum, cells since the start
 *
 *          Columns are taken from the arena when an octave is first seen: a real operation touches 4 to 10 of 37.
 *          Recording is one increment in a live cell. At a turn of the slices the live cells are added to the sums
 *          and the expired ones subtracted, so a read never adds up slices. All asked quantiles come from one pass:
 *          whole columns first, then the cells of those that hold an answer.
 *
 *          A guarded call does not count its duration itself: it leaves it in `pending`, and whoever comes next (a call,
 *          a turn, a reader) counts it first. The second clock read of a call is followed at once by the first of the
 *          next, which waits for all work before it; counting between the two would be waited for, counting after it
 *          overlaps with the guarded function. It halves what recording costs. Builds without the GIL count at once.
 *
 *          fs_series is one histogram a writer: one on ordinary builds, FS_STRIPES on builds without the GIL, where
 *          threads spread over stripes so that they do not fight for one line. Readers add the stripes up.
 * States:  a series is idle (no histogram taken yet) until its first record.
 * Units:   ns in, ns out. Values above FS_VALUE_MOST (73 minutes) count there, and in `clipped`.
 * Threads: record from any thread; turn and read from any thread. A read while others write is exact for what had
 *          been recorded when it began and may include some of what came since.
 * Errors:  none on the path. Where the arena has no room for a column, the call is counted and its latency is not.
 */
#ifndef FAILSOFT_HISTOGRAM_H
#define FAILSOFT_HISTOGRAM_H

#include "failsoft/window.h"

#define FS_CELL_BITS 6
#define FS_CELLS (1 << FS_CELL_BITS)
#define FS_VALUE_BITS 42
#define FS_VALUE_MOST ((UINT64_C(1) << FS_VALUE_BITS) - 1)
#define FS_OCTAVES (FS_VALUE_BITS - FS_CELL_BITS + 1)

/* A live cell that reaches this closes its slice early. Then a cell of all closed slices, and the live cells of a quarter
 * of a column, still add up in 32 bits. */
#define FS_CELL_FULL (UINT32_C(1) << 27)

#if FS_MANY_WRITERS
#define FS_STRIPES 16
#else
#define FS_STRIPES 1
#endif

typedef struct {
    fs_block block;
    uint32_t live[FS_CELLS];
    uint32_t closed[FS_CELLS];             /* sum over the closed slices */
    uint32_t slice[FS_CLOSED][FS_CELLS];
    uint64_t total[FS_CELLS];              /* all closed slices since the start */
    uint64_t total_sum;                    /* of total[] */
    uint64_t closed_sum;                   /* of closed[] */
    uint64_t undo;                         /* total of the cell that is being moved, before: see fs_slices_left */
    uint32_t moving;                       /* which one, from 1; 0: none */
    uint32_t unused;
} fs_column;

typedef struct {
    fs_block block;
    uint32_t clipped;            /* values above FS_VALUE_MOST, or without room for a column */
    uint32_t unused;
    fs_slices slices;
    uint64_t pending;            /* 1 + a duration not counted yet; 0: none */
    uint64_t low;                /* seen minimum, UINT64_MAX before the first value */
    uint64_t high;               /* seen maximum */
    fs_span column[FS_OCTAVES];  /* from this block, 0: octave not seen */
} fs_histogram;

/* Events of an operation that are not latencies, by name. */
typedef enum {
    FS_RETRIES = 0, FS_FALLBACKS, FS_DEDUPLICATED, FS_REJECTED, FS_TIMEOUTS, FS_IGNORED, FS_UNRECORDED, FS_HEDGES,
    FS_EVENTS,
} fs_event_kind;

typedef struct {
    fs_block block;
    fs_ns window;
    fs_ns began;
    fs_span stripe[FS_STRIPES];  /* from this block, 0: not taken yet */
    fs_span next;                /* the next series of the same breaker, 0: last */
    uint32_t name;               /* which operation of its integration, from 1; 0: none */
    uint64_t since;              /* calls it had ever seen when that breaker last closed, */
    uint32_t closed_in;          /* which was in this generation, where processes share it */
    uint32_t unused;
    uint32_t events[FS_EVENTS];
} fs_series;

_Static_assert(offsetof(fs_histogram, slices.live.calls) % FS_LINE == 0, "what each call touches begins a line");
_Static_assert(sizeof(fs_column) == 16 + 256 * 7 + 512 + 32, "a column is part of the layout");

/* Where a value lies: `index` counts all cells of all columns in a row. */
static inline uint32_t fs_histogram_index(uint64_t ns) {
    uint32_t shift = (uint32_t)(63 - FS_CELL_BITS) - (uint32_t)__builtin_clzll(ns | FS_CELLS);
    return (uint32_t)(ns >> shift) + (shift << FS_CELL_BITS);
}

static inline uint32_t fs_histogram_octave(uint32_t index) { return index >> FS_CELL_BITS; }

static inline uint32_t fs_histogram_cell(uint32_t index) { return index & (FS_CELLS - 1); }

/* The middle of a cell. */
static inline uint64_t fs_histogram_middle(uint32_t index) {
    uint32_t octave = fs_histogram_octave(index);
    uint32_t shift = octave > 0 ? octave - 1 : 0;
    uint64_t lowest = (uint64_t)(index - (shift << FS_CELL_BITS)) << shift;
    return lowest + ((UINT64_C(1) << shift) >> 1);
}

/* A fresh histogram with a window of `length`. NULL: no room. */
fs_histogram *fs_histogram_take(fs_arena *arena, fs_ns length, fs_ns now);

/* Free it with its columns. */
void fs_histogram_free(fs_histogram *histogram);

/* The cold thirds of recording: a column seen for the first time, a cell that is full, a new extreme. */
void fs_histogram_new_column(fs_histogram *histogram, uint64_t ns);
void fs_histogram_cell_full(fs_histogram *histogram);

/* The column of an octave, taken now if need be. NULL: no room. */
fs_column *fs_histogram_column(fs_histogram *histogram, uint32_t octave);
void fs_histogram_new_extreme(fs_histogram *histogram, uint64_t ns);

/* Move the slices on if the live one is over. */
void fs_histogram_turn(fs_histogram *histogram, fs_ns now, fs_ticks stamp);

/* Count one value, at most FS_VALUE_MOST. The caller has seen to the turn. */
static inline void fs_histogram_count(fs_histogram *histogram, uint64_t ns) {
    uint32_t index = fs_histogram_index(ns);
    fs_span column = fs_load_relaxed(&histogram->column[fs_histogram_octave(index)]);
    if (FS_UNLIKELY((ns < fs_load_relaxed(&histogram->low)) | (ns > fs_load_relaxed(&histogram->high))))
        fs_histogram_new_extreme(histogram, ns);
    fs_tally_add(&histogram->slices.live.calls, 1);
    fs_tally_add(&histogram->slices.live.sum, ns);
    if (FS_UNLIKELY(column == 0)) {
        fs_histogram_new_column(histogram, ns);
        return;
    }
    uint32_t *cell = &((fs_column *)fs_arena_follow(histogram, column))->live[fs_histogram_cell(index)];
    if (FS_UNLIKELY(fs_tally_bump(cell) >= FS_CELL_FULL)) fs_histogram_cell_full(histogram);
}

/* Count what is pending. */
static inline void fs_histogram_flush(fs_histogram *histogram) {
    uint64_t pending = fs_load_relaxed(&histogram->pending);
    if (pending == 0) return;
    fs_store_relaxed(&histogram->pending, 0);
    fs_histogram_count(histogram, pending - 1);
}

/* Leave a value, at most FS_VALUE_MOST, to be counted by the next to come. */
static inline void fs_histogram_defer(fs_histogram *histogram, uint64_t ns) {
#if FS_MANY_WRITERS
    fs_histogram_count(histogram, ns);
#else
    /* Calls that overlap (threads, recursion) find another's value here. */
    if (FS_UNLIKELY(fs_load_relaxed(&histogram->pending) != 0)) fs_histogram_flush(histogram);
    fs_store_relaxed(&histogram->pending, ns + 1);
#endif
}

/* Count one value of any size at a time; `now` is read only when the slice is over. */
static inline void fs_histogram_record(fs_histogram *histogram, uint64_t ns, fs_ticks stamp) {
    if (FS_UNLIKELY(fs_slices_due(&histogram->slices, stamp))) fs_histogram_turn(histogram, fs_now(), stamp);
    if (FS_UNLIKELY(ns > FS_VALUE_MOST)) {
        fs_tally_add(&histogram->clipped, 1);
        ns = FS_VALUE_MOST;
    }
    fs_histogram_count(histogram, ns);
}

/* The same, left to be counted by the next to come. */
static inline void fs_histogram_record_soon(fs_histogram *histogram, uint64_t ns, fs_ticks stamp) {
    fs_histogram_flush(histogram);
    if (FS_UNLIKELY(ns > FS_VALUE_MOST) || FS_UNLIKELY(fs_slices_due(&histogram->slices, stamp)))
        fs_histogram_record(histogram, ns, stamp);
    else
        fs_histogram_defer(histogram, ns);
}

/* Count many at once. False: one is negative, and none has been counted. */
bool fs_histogram_record_many(fs_histogram *histogram, const int64_t *ns, size_t count, fs_ticks stamp);

/* Count one value, at most FS_VALUE_MOST, so many times (FS_CELL_FULL / 2 at most). The caller has seen to the turn. */
void fs_histogram_repeat(fs_histogram *histogram, uint64_t ns, uint32_t count);

/* Say of a call just counted that it failed, or was slow. */
static inline void fs_histogram_outcome(fs_histogram *histogram, bool failed, bool slow) {
    if (failed) fs_tally_add(&histogram->slices.live.failures, 1);
    if (slow) fs_tally_add(&histogram->slices.live.slow, 1);
}

/* Count calls of `ns` each that belong to another time: among all since the start, not among what happened lately. More
 * may have failed or been slow than are counted now: they have been counted before. */
void fs_histogram_count_apart(fs_histogram *histogram, uint64_t ns, const fs_totals *calls);

/* Count a call whose duration nobody knows. */
static inline void fs_histogram_note(fs_histogram *histogram, fs_ticks stamp, bool failed, bool slow) {
    if (FS_UNLIKELY(fs_slices_due(&histogram->slices, stamp))) fs_histogram_turn(histogram, fs_now(), stamp);
    fs_tally_add(&histogram->slices.live.calls, 1);
    fs_histogram_outcome(histogram, failed, slow);
}

/* An idle series, and its end. */
fs_series *fs_series_take(fs_arena *arena, fs_ns window, fs_ns now);
void fs_series_free(fs_series *series);

/* The histogram of a stripe (0 .. FS_STRIPES-1), taken now if need be. NULL: no room. */
fs_histogram *fs_series_stripe(fs_series *series, uint32_t stripe);

/* The stripe, if it has been taken. */
static inline fs_histogram *fs_series_have(const fs_series *series, uint32_t stripe) {
    fs_span span = fs_load_acquire(&series->stripe[stripe]);
    return span ? (fs_histogram *)fs_arena_follow(series, span) : NULL;
}

/* Add to *totals what the series has seen within its window at `now`, or since the start. */
void fs_series_recent(fs_series *series, fs_ns now, fs_totals *totals);
void fs_series_ever(fs_series *series, fs_totals *totals);

/* Seen minimum and maximum; UINT64_MAX and 0 where nothing was. */
void fs_series_extremes(fs_series *series, uint64_t *low, uint64_t *high);

/* Count an event. */
static inline void fs_series_note(fs_series *series, fs_event_kind kind, uint32_t count) {
    fs_tally_add(&series->events[kind], count);
}

/* Bytes of the arena that a series holds. */
size_t fs_series_bytes(const fs_series *series);

/* Values above the range or without room for a column. */
uint64_t fs_series_clipped(const fs_series *series);

typedef enum { FS_EVER = 0, FS_RECENT } fs_span_of_time;

/* The value below which a share q of what was seen lies, for `count` ascending q in [0, 1], in one pass: the
 * ceil(q * n)-th smallest, within 0.79 %. Turns the slices first. Answers n; 0 leaves `out` alone. */
uint64_t fs_series_quantiles(fs_series *series, fs_span_of_time span, const double *q, size_t count, uint64_t *out);

/* Add to `into`, a series of ours without traffic, what `from` has seen: ever, and with `recent` within its window at
 * `now`, as one closed slice. `from` may be another process's, or a dead one's: nothing of it is written, nothing is
 * believed (its blocks lie within `bytes` from `base`, or are left out), and a writer is not waited for. `dead`: see
 * fs_slices_left. FS_NO_MEMORY leaves a part of it added. */
typedef struct {
    const char *base;
    size_t bytes;
    bool dead;
} fs_stranger;

fs_status fs_series_observe(fs_series *into, const fs_series *from, const fs_stranger *stranger, bool recent, fs_ns now);

/* Add to *recent and *ever the totals of a series of a stranger. */
void fs_series_totals_of(const fs_series *from, const fs_stranger *stranger, fs_ns now, fs_totals *recent, fs_totals *ever);

/* A block of a stranger that lies where a span says, if it lies within. */
const void *fs_stranger_follow(const fs_stranger *stranger, const void *from, fs_span span, size_t bytes);

/* Forget all that was counted, and keep the blocks: for the child of a fork, which counts from nothing. */
void fs_series_clear(fs_series *series, fs_ns now);

/* The counts of all cells, FS_OCTAVES * FS_CELLS of them, and what they add up to. */
uint64_t fs_series_cells(fs_series *series, fs_span_of_time span, uint64_t *cells);

/* Add what `other` has ever seen to what `series` has. FS_NO_MEMORY leaves a part of it added. */
fs_status fs_series_merge(fs_series *series, fs_series *other);

/* For each of `count` ascending bounds, how many values lie in the cells up to its own, that one included: every value
 * at or below the bound, and at most 1/64 above it. Answers how many values there are; *totals is what
 * fs_series_ever or fs_series_recent tells. */
uint64_t fs_series_counts_below(fs_series *series, fs_span_of_time span, const uint64_t *bounds, size_t count,
                                uint64_t *below, fs_totals *totals);

#endif
