/* small_arena.h - an arena of a stated size, for tests that want to see the end of it. */
#ifndef FAILSOFT_SMALL_ARENA_H
#define FAILSOFT_SMALL_ARENA_H

#include <stdlib.h>
#include <string.h>

#include "failsoft/arena.h"

/* Room for `lines` lines besides the header. NULL where there is no memory; give it to free() at the end. */
static inline fs_arena *small_arena(size_t lines) {
    size_t header = (sizeof(fs_arena) + FS_LINE - 1) / FS_LINE;
    size_t bytes = (header + lines) * FS_LINE;
    void *memory = aligned_alloc(FS_LINE, bytes);
    if (!memory) return NULL;
    memset(memory, 0, bytes);
    if (fs_arena_format(memory, bytes) == FS_OK) return memory;
    free(memory);
    return NULL;
}

#endif
