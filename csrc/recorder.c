#include "failsoft/recorder.h"

typedef struct {
    fs_block block;
    fs_decision entry[FS_SEGMENT];
} fs_recorder_segment;

#define FS_SEGMENTS (FS_DECISIONS / FS_SEGMENT)

static fs_decision *entry_at(const fs_recorder *recorder, const fs_block *owner, uint64_t ticket) {
    fs_span span = fs_load_acquire(&recorder->segment[ticket / FS_SEGMENT % FS_SEGMENTS]);
    if (!span) return NULL;
    fs_recorder_segment *segment = fs_arena_follow(owner, span);
    return &segment->entry[ticket % FS_SEGMENT];
}

static fs_decision *entry_taken(fs_recorder *recorder, fs_block *owner, uint64_t ticket) {
    fs_decision *entry = entry_at(recorder, owner, ticket);
    if (entry) return entry;
    fs_block *block = fs_arena_alloc(fs_arena_of(owner), sizeof(fs_recorder_segment));
    if (!block) return NULL;
    fs_span none = 0;
    if (!fs_cas(&recorder->segment[ticket / FS_SEGMENT % FS_SEGMENTS], &none, fs_arena_span(owner, block)))
        fs_arena_free(block);
    return entry_at(recorder, owner, ticket);
}

static bool alike(const fs_decision *a, const fs_decision *b) {
    return a->generation == b->generation && a->kind == b->kind && a->operation == b->operation &&
           a->because == b->because && a->state == b->state && a->detail == b->detail;
}

/* Count a refusal where one like it stands already. */
static bool counted(fs_recorder *recorder, fs_block *owner, uint64_t taken, const fs_decision *decision) {
    for (uint64_t back = 1; back <= FS_ALIKE && back <= taken; back++) {
        fs_decision *entry = entry_at(recorder, owner, taken - back);
        if (!entry || !fs_load_acquire(&entry->first) || !alike(entry, decision)) continue;
        fs_add_relaxed(&entry->count, 1);
        fs_store_relaxed(&entry->last, decision->first);
        return true;
    }
    return false;
}

void fs_recorder_note(fs_recorder *recorder, fs_block *owner, const fs_decision *decision) {
    bool many = decision->kind == FS_REFUSAL || decision->kind == FS_LIMIT;
    if (many && counted(recorder, owner, fs_load_relaxed(&recorder->taken), decision)) return;
    uint64_t ticket = fs_add_relaxed(&recorder->taken, 1);
    fs_decision *entry = entry_taken(recorder, owner, ticket);
    if (!entry) return;
    fs_store_relaxed(&entry->first, 0);
    fs_fence_release();
    entry->last = decision->first;
    entry->number = decision->number;
    entry->generation = decision->generation;
    entry->count = 1;
    entry->operation = decision->operation;
    entry->kind = decision->kind;
    entry->because = decision->because;
    entry->state = decision->state;
    entry->detail = decision->detail;
    fs_store_release(&entry->first, decision->first ? decision->first : 1);
}

uint32_t fs_recorder_read(const fs_recorder *recorder, const fs_block *owner, fs_decision *out) {
    uint64_t taken = fs_load_acquire(&recorder->taken);
    uint32_t found = 0;
    for (uint64_t ticket = taken > FS_DECISIONS ? taken - FS_DECISIONS : 0; ticket < taken; ticket++) {
        const fs_decision *entry = entry_at(recorder, owner, ticket);
        fs_ns first = entry ? fs_load_acquire(&entry->first) : 0;
        if (!first) continue;
        out[found] = *entry;
        fs_fence_acquire();
        if (fs_load_relaxed(&entry->first) == first) found++;
    }
    return found;
}

void fs_recorder_move(fs_recorder *recorder, const fs_block *from, const fs_block *to) {
    fs_span shift = fs_arena_span(to, from);
    for (uint32_t i = 0; i < FS_SEGMENTS; i++)
        if (recorder->segment[i]) recorder->segment[i] += shift;
}

void fs_recorder_free(fs_recorder *recorder, fs_block *owner) {
    for (uint32_t i = 0; i < FS_SEGMENTS; i++) {
        fs_span span = fs_load_acquire(&recorder->segment[i]);
        if (span) fs_arena_free(fs_arena_follow(owner, span));
        recorder->segment[i] = 0;
    }
}
