/* recorder.h - the flight recorder: the last decisions about one integration, and why each was made.
 *
 * What:    a ring of FS_DECISIONS entries behind a breaker: transitions, refusals, retries, what was given up, fallbacks,
 *          changes of capacity and of health. Successes are not in it: who never fails never takes its memory, for the
 *          ring comes from the arena in segments when a decision is first made.
 *
 *          An outage is millions of refusals, and as many fallbacks or retries, and they must not wash out what led to
 *          it: what was decided about a call, and is like one of the last FS_ALIKE entries of its generation, is counted
 *          there instead. Changes of state, of capacity and of health are an entry each.
 * States:  of an entry: empty -> being written -> whole -> being written.
 * Units:   fs_ns of CLOCK_MONOTONIC. What `number` means depends on the kind: seconds or a share of calls; of decisions
 *          that are counted together it is the latest.
 * Threads: write from any thread, read from any. An entry being written is left out of a read, and for good if its writer
 *          dies. A writer held up while all others of the ring are written may find no place.
 * Errors:  none. Without room in the arena the decision is not recorded.
 */
#ifndef FAILSOFT_RECORDER_H
#define FAILSOFT_RECORDER_H

#include "failsoft/arena.h"
#include "failsoft/clock.h"

#define FS_DECISIONS 256
#define FS_SEGMENT 64
#define FS_ALIKE 32
#define FS_COUNTED_MOST (UINT32_MAX / 2) /* a count stands still there, long before it would start again from nothing */

typedef enum {
    FS_DECIDED_NOTHING = 0,
    FS_TRANSITION, /* because: fs_because; state: the new one; detail: the old one; number: wait in seconds */
    FS_REFUSAL,    /* because: of the last transition; state: that refused */
    FS_LIMIT,      /* refused for capacity; number: the capacity then */
    FS_RETRY,      /* because: error category; detail: attempt to come; number: delay in seconds */
    FS_GIVE_UP,    /* because: why no more attempts; detail: attempts made */
    FS_FALLBACK,   /* because: its type; number: age of the data in seconds, NaN where unknown */
    FS_CAPACITY,   /* because: who changed it; number: the capacity from then on */
    FS_HEALTH,     /* because: 1 healthy, 0 not */
    FS_LOAD,       /* refused by load control; because: which one; number: what it allowed then */
    FS_HEDGE,      /* a second attempt beside the first; number: seconds the first had had */
    FS_STREAM,     /* because: what befell a stream; number: its measure */
    FS_CHAOS,      /* a fault injected on purpose; because: what; number: seconds the call was held up */
    FS_DECISION_KINDS,
} fs_decision_kind;

typedef struct {
    fs_ns first;
    fs_ns last;
    double number;
    uint32_t generation;
    uint32_t count;
    uint32_t operation; /* whose call it was: see fs_series.name; 0: nobody's */
    uint8_t kind;       /* fs_decision_kind */
    uint8_t because;
    uint8_t state;
    uint8_t detail;
} fs_decision;

typedef struct {
    uint64_t taken;                               /* entries ever begun */
    fs_span segment[FS_DECISIONS / FS_SEGMENT];   /* from the owner's block, 0: not needed yet */
} fs_recorder;

_Static_assert(sizeof(fs_decision) == 40, "a decision is part of the layout");

/* Record a decision; `first` is when, the other times and the count are seen to. `owner` is the block the recorder is
 * in. */
void fs_recorder_note(fs_recorder *recorder, fs_block *owner, const fs_decision *decision);

/* Count a decision about a call where the newest entry is like it: what a storm of refusals does, and so it is in line.
 * False: it is for fs_recorder_note. */
static inline bool fs_recorder_again(fs_recorder *recorder, fs_block *owner, const fs_decision *decision) {
    uint64_t newest = fs_load_relaxed(&recorder->taken) - 1;
    fs_span span = fs_load_acquire(&recorder->segment[newest / FS_SEGMENT % (FS_DECISIONS / FS_SEGMENT)]);
    if (!span) return false;
    char *entries = (char *)fs_arena_follow(owner, span) + sizeof(fs_block);
    fs_decision *entry = (fs_decision *)(void *)entries + newest % FS_SEGMENT;
    fs_ns first = fs_load_relaxed(&entry->first); /* unordered: a whole turn of the ring may come after the look anyway */
    /* Field by field: to read as one word what was just written in pieces would have to wait for it. */
    bool alike = fs_load_relaxed(&entry->generation) == decision->generation &&
                 fs_load_relaxed(&entry->operation) == decision->operation &&
                 fs_load_relaxed(&entry->kind) == decision->kind &&
                 fs_load_relaxed(&entry->because) == decision->because &&
                 fs_load_relaxed(&entry->state) == decision->state && fs_load_relaxed(&entry->detail) == decision->detail;
    if (!alike || first == 0 || first == FS_FOREVER || fs_load_relaxed(&entry->count) >= FS_COUNTED_MOST) return false;
    fs_tally_add(&entry->count, 1);
    fs_store_relaxed_from(&entry->number, &decision->number);
    fs_store_relaxed(&entry->last, decision->first);
    return true;
}

/* The entries, oldest first, into room for FS_DECISIONS. Answers how many. */
uint32_t fs_recorder_read(const fs_recorder *recorder, const fs_block *owner, fs_decision *out);

/* The segments that lie furthest before and behind the owner's block, 0: none does. And how large one is. For whoever has to
 * know that they lie where they may. */
void fs_recorder_reach(const fs_recorder *recorder, fs_span *first, fs_span *last);
#define FS_RECORDER_SEGMENT_BYTES (sizeof(fs_block) + FS_SEGMENT * sizeof(fs_decision))

/* Let the recorder of a copied owner find the same segments from where it lies now. */
void fs_recorder_move(fs_recorder *recorder, const fs_block *from, const fs_block *to);

/* Copy the entries of one recorder into segments of another, empty one. False: no room. */
bool fs_recorder_copy(const fs_recorder *recorder, const fs_block *owner, fs_recorder *into, fs_block *heir);

void fs_recorder_free(fs_recorder *recorder, fs_block *owner);

#endif
