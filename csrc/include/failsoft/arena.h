/* arena.h - the flat memory in which all live state lies.
 *
 * What:    a region of cache lines (64 bytes) from which blocks are taken. A block holds no pointer: it finds its
 *          neighbours by offsets, so the same bytes work wherever the region is mapped. Hot blocks lie side by side,
 *          which is what keeps a thousand guards in cache.
 *
 *              line 0          header: magic, version, size, next free line, free lists
 *              line n          block: 16 bytes of fs_block, then the owner's words
 *
 *          A handle is {line, generation}: it names a block for ever and stops resolving when the block is freed, also
 *          after its lines have been used again. A raw pointer may be kept by whoever keeps the block's owner alive:
 *          an owner that moves its truth to another block marks the old one (a breaker in its gate word) and frees it
 *          only when it ends itself. So a guard that still looks at a moved block reads the mark, never a stranger's
 *          words, and the fast path pays nothing for it.
 * States:  of a block: LIVE (odd generation) -> free (even) -> LIVE again.
 * Units:   lines of FS_LINE bytes. fs_span counts lines from one block to another and may be negative.
 * Threads: all functions are lock-free: taking new lines is one swap, free lists are stacks whose head carries
 *          a tag against ABA. A process killed anywhere in between leaks one block at worst.
 * Errors:  fs_arena_alloc answers NULL when the region is full, or lies in a file whose file system is; nothing else can
 *          fail. No line of a file is touched that space has not been reserved for, so a full file system is an answer
 *          and never a signal.
 */
#ifndef FAILSOFT_ARENA_H
#define FAILSOFT_ARENA_H

#include <stddef.h>

#include "failsoft/atomics.h"
#include "failsoft/status.h"

#define FS_LINE 64
#define FS_ARENA_MAGIC UINT64_C(0x74666f736c696166) /* "failsoft" in memory order */
#define FS_ARENA_VERSION 1
#define FS_ARENA_CLASSES 64 /* free lists: blocks of 1..63 lines; larger ones are not reused */

typedef int32_t fs_span;

typedef struct {
    uint32_t line;       /* 0: no block */
    uint32_t generation;
} fs_handle;

/* The first 16 bytes of every block. */
typedef struct {
    uint32_t generation;
    uint32_t line;       /* where this block lies, counted from the arena's start: leads back to the arena */
    uint32_t next;       /* in a free list: line of the next free block */
    uint16_t lines;      /* size */
    uint16_t unused;
} fs_block;

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t line_size;
    uint32_t capacity;                  /* lines */
    uint32_t used;                      /* lines taken so far, free ones included */
    uint32_t free_lines;                /* lines lying in the free lists */
    uint32_t reserved;                  /* of a file: lines it has got space for; 0: memory, which needs none */
    uint64_t free[FS_ARENA_CLASSES];    /* {tag:32, line:32}, one stack a size */
} fs_arena;

_Static_assert(sizeof(fs_block) == 16, "the block header is part of the layout");
_Static_assert(sizeof(fs_arena) % FS_LINE == 32, "the arena header is part of the layout");

/* The arena of this process, made on first use in private memory. NULL where the system gives none. */
fs_arena *fs_arena_private(void);

/* Lay out an empty arena over `bytes` bytes of zeroed memory aligned to a line. FS_INVALID if that is too little. */
fs_status fs_arena_format(void *memory, size_t bytes);

/* Get space for an arena in a file until so many lines have it; false: there is none. Set by who maps files (shared.h). */
extern bool (*fs_arena_reserve)(fs_arena *arena, uint32_t lines);

/* A zeroed block of at least `bytes` bytes, header included. NULL if the arena is full. */
fs_block *fs_arena_alloc(fs_arena *arena, size_t bytes);

/* Free a block, once: its handles stop resolving and its lines will be used again. */
void fs_arena_free(fs_block *block);

/* The block a handle names; NULL once freed. */
fs_block *fs_arena_resolve(fs_arena *arena, fs_handle handle);

static inline fs_handle fs_arena_handle(const fs_block *block) {
    return (fs_handle){block->line, fs_load_relaxed(&block->generation)};
}

static inline fs_arena *fs_arena_of(const fs_block *block) {
    return (fs_arena *)((char *)(uintptr_t)block - (size_t)block->line * FS_LINE);
}

static inline fs_block *fs_arena_at(fs_arena *arena, uint32_t line) {
    return (fs_block *)(void *)((char *)arena + (size_t)line * FS_LINE);
}

/* How to get from one block to another, and there. */
static inline fs_span fs_arena_span(const fs_block *from, const fs_block *to) {
    return (fs_span)((int64_t)to->line - (int64_t)from->line);
}

static inline void *fs_arena_follow(const void *from, fs_span span) {
    return (char *)(uintptr_t)from + (ptrdiff_t)span * FS_LINE;
}

#endif
