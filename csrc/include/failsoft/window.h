/* window.h - what happened lately: calls, failures, slow calls, summed time.
 *
 * What:    two windows.
 *          fs_slices is the time window that every histogram carries: FS_SLICES slices, one live and the others
 *          closed, and running totals since the start. A call touches the live slice alone; the rest moves once a
 *          slice, done by whoever first notices that the slice is over.
 *
 *              before:  [ c0 ][ c1 ][ c2 ][ c3 ][ c4 ]  live          recent = c0 + .. + c4 + live
 *              turn:          [ c1 ][ c2 ][ c3 ][ c4 ][ live ]  0     total += live
 *
 *          fs_last is the count window: exactly the last n outcomes, one bit each for failed and slow. It is one line
 *          shared by all callers, so it is opt-in.
 * States:  `turn` is even at rest and odd while somebody turns; readers who see it change read again.
 * Units:   slice_start and slice_ticks in stamps of the writing process (fs_ticks); opened and slice in fs_ns of
 *          CLOCK_MONOTONIC, which any reader on the host can judge. Slice boundaries are anchored where the window began.
 * Threads: fs_slices: recording from any thread (see FS_MANY_WRITERS); one turns at a time, the others record on.
 *          fs_last: lock-free; exact as long as no writer is overtaken by a whole window of others.
 * Errors:  none. A writer killed half-way leaves totals that lag by one outcome: what a turn moves from the live slice to
 *          the total is added there first and taken away here after, and `undo` tells whoever reads the words of the dead
 *          how far it came.
 */
#ifndef FAILSOFT_WINDOW_H
#define FAILSOFT_WINDOW_H

#include "failsoft/arena.h"
#include "failsoft/clock.h"

#define FS_SLICES 6
#define FS_CLOSED (FS_SLICES - 1)

typedef struct {
    uint64_t failures;
    uint64_t slow;
    uint64_t calls;      /* that ended in success or failure */
    uint64_t sum;        /* ns */
} fs_totals;

/* What each call touches comes last, calls first of it: there a line of the cache begins (see fs_histogram). */
typedef struct {
    fs_totals undo;              /* `total` before the turn that is at work, */
    uint64_t moving;             /* while this is that turn's number: see fs_slices_left */
    uint64_t unused[3];
    fs_ns opened;                /* when the live slice began */
    fs_ns slice;                 /* its length */
    fs_totals closed[FS_CLOSED];
    fs_totals total;             /* all closed slices since the start */
    uint32_t turn;
    uint32_t oldest;             /* the closed slice that expires next */
    fs_totals live;
    fs_ticks slice_start;
    fs_ticks slice_ticks;        /* 0 before the first turn, so that the first call takes the slow way */
} fs_slices;

/* Is the live slice over? One unsigned compare, which a stamp that went backwards fails too. */
static inline bool fs_slices_due(const fs_slices *window, fs_ticks stamp) {
    return stamp - fs_load_relaxed(&window->slice_start) >= fs_load_relaxed(&window->slice_ticks);
}

void fs_slices_init(fs_slices *window, fs_ns length, fs_ns now);

/* Take the right to turn and say how many slices are over, at most FS_SLICES. 0: none is, or somebody else turns. */
uint32_t fs_slices_begin_turn(fs_slices *window, fs_ns now, fs_ticks stamp);

/* Close the live slice and drop what has expired by `over` slices; give the right back. */
void fs_slices_end_turn(fs_slices *window, uint32_t over);

/* What is left of `live` to count beside `total`, where a turn that added to it may never have taken it away here. */
static inline uint64_t fs_slices_left(uint64_t live, uint64_t total, uint64_t undo) {
    uint64_t moved = total - undo;
    return live >= moved ? live - moved : live;
}

/* The same of all four, of a window whose writer has died: what it has ever seen. */
void fs_slices_ever_dead(const fs_slices *window, fs_totals *totals);

/* Both at once, where nothing else has to move with the slices. */
void fs_slices_turn(fs_slices *window, fs_ns now, fs_ticks stamp);

/* Add to *totals what the window holds at `now` (recent), or what it has seen since the start (ever). */
void fs_slices_recent(const fs_slices *window, fs_ns now, fs_totals *totals);
void fs_slices_ever(const fs_slices *window, fs_totals *totals);

#define FS_LAST_MOST 1024

typedef struct {
    uint64_t ticket;      /* outcomes recorded since the start */
    uint64_t since;       /* the ticket at the last restart */
    uint64_t failed[FS_LAST_MOST / 64];
    uint64_t slow[FS_LAST_MOST / 64];
} fs_last;

void fs_last_record(fs_last *window, uint32_t size, bool failed, bool slow);
void fs_last_restart(fs_last *window);

/* Lay the last outcomes out for another size, while nobody records. From or to 0, no window, nothing is left. */
void fs_last_resize(fs_last *window, uint32_t from, uint32_t to);

void fs_last_totals(const fs_last *window, uint32_t size, fs_totals *totals);

#endif
