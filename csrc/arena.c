#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#endif
#include "failsoft/arena.h"

#include <string.h>
#include <sys/mman.h>

/* Address space, not memory: pages appear as blocks are taken. Tried in turn, for hosts that limit address space. */
static const size_t private_sizes[] = {(size_t)4 << 30, (size_t)512 << 20, (size_t)64 << 20, (size_t)8 << 20};

/* From this many lines on, a megabyte, the arena asks for huge pages: many guards called in turn would spend their time
 * on address translation. A program with few guards keeps its small pages. */
#define FS_MANY_LINES ((uint32_t)(1 << 20) / FS_LINE)

#define FS_HEADER_LINES ((uint32_t)((sizeof(fs_arena) + FS_LINE - 1) / FS_LINE))

fs_status fs_arena_format(void *memory, size_t bytes) {
    size_t lines = bytes / FS_LINE;
    if (lines <= FS_HEADER_LINES || lines > INT32_MAX || (uintptr_t)memory % FS_LINE != 0) return FS_INVALID;
    fs_arena *arena = memory;
    arena->version = FS_ARENA_VERSION;
    arena->line_size = FS_LINE;
    arena->capacity = (uint32_t)lines;
    arena->used = FS_HEADER_LINES;
    fs_store_release(&arena->magic, FS_ARENA_MAGIC);
    return FS_OK;
}

fs_arena *fs_arena_private(void) {
    static fs_arena *arena;
    fs_arena *known = fs_load_acquire(&arena);
    if (known) return known;
    for (size_t i = 0; i < sizeof private_sizes / sizeof private_sizes[0]; i++) {
        void *memory = mmap(NULL, private_sizes[i], PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) continue;
        fs_arena_format(memory, private_sizes[i]);
        fs_arena *none = NULL;
        if (!fs_cas(&arena, &none, (fs_arena *)memory)) munmap(memory, private_sizes[i]);
        return fs_load_acquire(&arena);
    }
    return NULL;
}

bool (*fs_arena_reserve)(fs_arena *arena, uint32_t lines);

static bool has_space(fs_arena *arena, uint32_t lines) {
    uint32_t reserved = fs_load_relaxed(&arena->reserved);
    return reserved == 0 || lines <= reserved || fs_arena_reserve(arena, lines);
}

static uint64_t head_of(uint64_t tag, uint32_t line) { return tag << 32 | line; }

static fs_block *pop(fs_arena *arena, uint32_t lines) {
    uint64_t head = fs_load_acquire(&arena->free[lines]);
    while ((uint32_t)head) {
        fs_block *block = fs_arena_at(arena, (uint32_t)head);
        /* May read a block that another thread has just taken: then the tag has changed and the swap fails. */
        uint32_t next = fs_load_relaxed(&block->next);
        if (fs_cas(&arena->free[lines], &head, head_of((head >> 32) + 1, next))) return block;
    }
    return NULL;
}

static void push(fs_arena *arena, fs_block *block) {
    uint64_t head = fs_load_acquire(&arena->free[block->lines]);
    do fs_store_relaxed(&block->next, (uint32_t)head);
    while (!fs_cas(&arena->free[block->lines], &head, head_of((head >> 32) + 1, block->line)));
}

/* A wish: where it is not granted, nothing changes but speed. */
static void ask_for_huge_pages(fs_arena *arena) {
#if defined(MADV_HUGEPAGE)
    madvise(arena, (size_t)arena->capacity * FS_LINE, MADV_HUGEPAGE);
#endif
#if defined(MADV_COLLAPSE)
    madvise(arena, (size_t)FS_MANY_LINES * FS_LINE, MADV_COLLAPSE);
#endif
}

fs_block *fs_arena_alloc(fs_arena *arena, size_t bytes) {
    size_t wanted = (bytes + FS_LINE - 1) / FS_LINE;
    if (wanted == 0 || wanted > UINT16_MAX) return NULL;
    uint32_t lines = (uint32_t)wanted;
    fs_block *block = lines < FS_ARENA_CLASSES ? pop(arena, lines) : NULL;
    if (block) {
        fs_add_relaxed(&arena->free_lines, 0u - lines);
        memset((char *)block + sizeof *block, 0, (size_t)lines * FS_LINE - sizeof *block);
    } else {
        uint32_t line = fs_load_relaxed(&arena->used);
        do
            if (arena->capacity - line < lines || !has_space(arena, line + lines)) return NULL;
        while (!fs_cas(&arena->used, &line, line + lines));
        if (line < FS_MANY_LINES && line + lines >= FS_MANY_LINES && arena->reserved == 0) ask_for_huge_pages(arena);
        block = fs_arena_at(arena, line);
        block->line = line;
        block->lines = (uint16_t)lines;
    }
    fs_store_relaxed(&block->next, 0);
    fs_store_release(&block->generation, block->generation + 1);
    return block;
}

void fs_arena_free(fs_block *block) {
    uint32_t generation = fs_load_relaxed(&block->generation);
    if (!(generation & 1) || !fs_cas(&block->generation, &generation, generation + 1)) return;
    if (block->lines >= FS_ARENA_CLASSES) return;
    fs_arena *arena = fs_arena_of(block);
    fs_add_relaxed(&arena->free_lines, (uint32_t)block->lines);
    push(arena, block);
}

fs_block *fs_arena_resolve(fs_arena *arena, fs_handle handle) {
    if (handle.line < FS_HEADER_LINES || handle.line >= fs_load_relaxed(&arena->used)) return NULL;
    fs_block *block = fs_arena_at(arena, handle.line);
    bool live = (handle.generation & 1) && fs_load_acquire(&block->generation) == handle.generation;
    return live ? block : NULL;
}
