#include "failsoft/recorder.h"

#include <string.h>

/* Copied word by word, for readers and writers meet. */
typedef union {
    fs_decision decision;
    uint64_t word[sizeof(fs_decision) / sizeof(uint64_t)];
} fs_entry;

#define FS_WORDS (sizeof(fs_decision) / sizeof(uint64_t))
#define FS_NUMBER (offsetof(fs_decision, number) / sizeof(uint64_t))
#define FS_WHAT (FS_WORDS - 1) /* whose call, kind, why, state and detail */

_Static_assert(offsetof(fs_decision, first) == 0, "the mark is the first word");
_Static_assert(offsetof(fs_decision, operation) == FS_WHAT * 8, "what makes decisions alike is one word");

#define FS_WRITING FS_FOREVER /* in place of `first` */

typedef struct {
    fs_block block;
    fs_entry entry[FS_SEGMENT];
} fs_recorder_segment;

_Static_assert(sizeof(fs_recorder_segment) == FS_RECORDER_SEGMENT_BYTES, "the size that is told");

#define FS_SEGMENTS (FS_DECISIONS / FS_SEGMENT)

static fs_entry *entry_at(const fs_recorder *recorder, const fs_block *owner, uint64_t ticket) {
    fs_span span = fs_load_acquire(&recorder->segment[ticket / FS_SEGMENT % FS_SEGMENTS]);
    if (!span) return NULL;
    fs_recorder_segment *segment = fs_arena_follow(owner, span);
    return &segment->entry[ticket % FS_SEGMENT];
}

static fs_entry *entry_taken(fs_recorder *recorder, fs_block *owner, uint64_t ticket) {
    fs_entry *entry = entry_at(recorder, owner, ticket);
    if (entry) return entry;
    fs_block *block = fs_arena_alloc(fs_arena_of(owner), sizeof(fs_recorder_segment));
    if (!block) return NULL;
    fs_span none = 0;
    if (!fs_cas(&recorder->segment[ticket / FS_SEGMENT % FS_SEGMENTS], &none, fs_arena_span(owner, block)))
        fs_arena_free(block);
    return entry_at(recorder, owner, ticket);
}

static bool whole(fs_ns first) { return first != 0 && first != FS_WRITING; }

static bool about_a_call(const fs_decision *decision) {
    return decision->kind != FS_TRANSITION && decision->kind != FS_CAPACITY && decision->kind != FS_HEALTH;
}

/* Count a decision where one like it stands already. */
static bool counted(fs_recorder *recorder, fs_block *owner, uint64_t taken, const fs_entry *fresh) {
    for (uint64_t back = 1; back <= FS_ALIKE && back <= taken; back++) {
        fs_entry *entry = entry_at(recorder, owner, taken - back);
        if (!entry || !whole(fs_load_acquire(&entry->decision.first))) continue;
        if (fs_load_relaxed(&entry->decision.generation) != fresh->decision.generation) continue;
        if (fs_load_relaxed(&entry->word[FS_WHAT]) != fresh->word[FS_WHAT]) continue;
        if (fs_load_relaxed(&entry->decision.count) < FS_COUNTED_MOST) fs_add_relaxed(&entry->decision.count, 1);
        fs_store_relaxed(&entry->word[FS_NUMBER], fresh->word[FS_NUMBER]);
        fs_store_relaxed(&entry->decision.last, fresh->decision.last);
        return true;
    }
    return false;
}

void fs_recorder_note(fs_recorder *recorder, fs_block *owner, const fs_decision *decision) {
    fs_entry fresh = {.decision = *decision};
    fresh.decision.last = decision->first;
    fresh.decision.count = 1;
    if (about_a_call(decision) && counted(recorder, owner, fs_load_relaxed(&recorder->taken), &fresh)) return;
    uint64_t ticket = fs_add_relaxed(&recorder->taken, 1);
    fs_entry *entry = entry_taken(recorder, owner, ticket);
    if (!entry) return;
    /* Of two that a whole turn of the ring lies between, one held up so long, only one may write. */
    fs_ns before = fs_load_relaxed(&entry->decision.first);
    if (before == FS_WRITING || !fs_cas(&entry->decision.first, &before, FS_WRITING)) return;
    fs_fence_release();
    for (uint32_t i = 1; i < FS_WORDS; i++) fs_store_relaxed(&entry->word[i], fresh.word[i]);
    fs_store_release(&entry->decision.first, whole(decision->first) ? decision->first : 1);
}

uint32_t fs_recorder_read(const fs_recorder *recorder, const fs_block *owner, fs_decision *out) {
    uint64_t taken = fs_load_acquire(&recorder->taken);
    uint32_t found = 0;
    for (uint64_t ticket = taken > FS_DECISIONS ? taken - FS_DECISIONS : 0; ticket < taken; ticket++) {
        const fs_entry *entry = entry_at(recorder, owner, ticket);
        fs_entry copy = {.decision.first = entry ? fs_load_acquire(&entry->decision.first) : 0};
        if (!whole(copy.decision.first)) continue;
        for (uint32_t i = 1; i < FS_WORDS; i++) copy.word[i] = fs_load_relaxed(&entry->word[i]);
        fs_fence_acquire();
        if (fs_load_relaxed(&entry->decision.first) == copy.decision.first) out[found++] = copy.decision;
    }
    return found;
}

void fs_recorder_reach(const fs_recorder *recorder, fs_span *first, fs_span *last) {
    *first = *last = 0;
    for (uint32_t i = 0; i < FS_SEGMENTS; i++) {
        fs_span span = fs_load_acquire(&recorder->segment[i]);
        if (span < *first) *first = span;
        if (span > *last) *last = span;
    }
}

void fs_recorder_move(fs_recorder *recorder, const fs_block *from, const fs_block *to) {
    fs_span shift = fs_arena_span(to, from);
    for (uint32_t i = 0; i < FS_SEGMENTS; i++)
        if (recorder->segment[i]) recorder->segment[i] += shift;
}

bool fs_recorder_copy(const fs_recorder *recorder, const fs_block *owner, fs_recorder *into, fs_block *heir) {
    for (uint32_t i = 0; i < FS_SEGMENTS; i++) {
        fs_span span = fs_load_acquire(&recorder->segment[i]);
        if (!span) continue;
        const fs_recorder_segment *from = fs_arena_follow(owner, span);
        fs_recorder_segment *to = (void *)fs_arena_alloc(fs_arena_of(heir), sizeof *to);
        if (!to) return false;
        memcpy(to->entry, from->entry, sizeof to->entry);
        into->segment[i] = fs_arena_span(heir, &to->block);
    }
    into->taken = fs_load_relaxed(&recorder->taken);
    return true;
}

void fs_recorder_free(fs_recorder *recorder, fs_block *owner) {
    for (uint32_t i = 0; i < FS_SEGMENTS; i++) {
        fs_span span = fs_load_acquire(&recorder->segment[i]);
        if (span) fs_arena_free(fs_arena_follow(owner, span));
        recorder->segment[i] = 0;
    }
}
