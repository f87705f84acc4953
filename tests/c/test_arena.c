/* Blocks: taken, freed, used again; handles that stop resolving; the end of the room; many threads at once. */
#include "failsoft/arena.h"

#include <pthread.h>
#include <string.h>

#include "failsoft/rng.h"

#include "check.h"
#include "small_arena.h"

#define THREADS 4
#define STEPS 40000
#define HELD 32
#define LARGEST 8 /* lines */

static bool all_bytes(const fs_block *block, unsigned char value) {
    const unsigned char *bytes = (const unsigned char *)block;
    for (size_t i = sizeof *block; i < (size_t)block->lines * FS_LINE; i++)
        if (bytes[i] != value) return false;
    return true;
}

static void fill(fs_block *block, unsigned char value) {
    memset((char *)block + sizeof *block, value, (size_t)block->lines * FS_LINE - sizeof *block);
}

static void format_refuses_what_it_cannot_use(void) {
    fs_arena *arena = small_arena(4);
    CHECK_EQ(arena->magic, FS_ARENA_MAGIC);
    CHECK_EQ(arena->version, FS_ARENA_VERSION);
    CHECK_EQ(arena->line_size, FS_LINE);
    CHECK(memcmp(&arena->magic, "failsoft", 8) == 0);
    CHECK_EQ(fs_arena_format((char *)arena + 8, 4096), FS_INVALID);
    CHECK_EQ(fs_arena_format((char *)arena, 64), FS_INVALID);
    CHECK_EQ(fs_arena_format((char *)arena, sizeof(fs_arena)), FS_INVALID);
    CHECK_EQ(fs_arena_format((char *)arena, SIZE_MAX), FS_INVALID);
    free(arena);
}

static void blocks_are_zeroed_apart_and_sized(void) {
    fs_arena *arena = small_arena(64);
    static const size_t sizes[] = {1, 16, 63, 64, 65, 128, 129, 600};
    fs_block *blocks[8];
    for (int i = 0; i < 8; i++) {
        blocks[i] = fs_arena_alloc(arena, sizes[i]);
        if (!CHECK(blocks[i] != NULL)) return;
        CHECK_EQ(blocks[i]->lines, (sizes[i] + 63) / 64);
        CHECK_EQ((uintptr_t)blocks[i] % FS_LINE, 0);
        CHECK(all_bytes(blocks[i], 0));
        CHECK(fs_arena_of(blocks[i]) == arena);
        CHECK(fs_arena_at(arena, blocks[i]->line) == blocks[i]);
        fill(blocks[i], (unsigned char)(i + 1));
    }
    for (int i = 0; i < 8; i++) {
        CHECK(all_bytes(blocks[i], (unsigned char)(i + 1)));
        for (int j = 0; j < 8; j++)
            CHECK(fs_arena_follow(blocks[i], fs_arena_span(blocks[i], blocks[j])) == (void *)blocks[j]);
    }
    CHECK(fs_arena_alloc(arena, 0) == NULL);
    CHECK(fs_arena_alloc(arena, SIZE_MAX) == NULL);
    CHECK(fs_arena_alloc(arena, SIZE_MAX / 2) == NULL);
    free(arena);
}

static void handles_stop_resolving(void) {
    fs_arena *arena = small_arena(16);
    fs_handle seen[100];
    for (int i = 0; i < 100; i++) {
        fs_block *block = fs_arena_alloc(arena, 100);
        if (!CHECK(block != NULL)) return;
        CHECK(block->generation & 1);
        CHECK_EQ(block->generation, 2 * i + 1); /* the same lines, each time under a new name */
        CHECK(all_bytes(block, 0));
        fill(block, 0xaa);
        seen[i] = fs_arena_handle(block);
        for (int j = 0; j < i; j++) CHECK(fs_arena_resolve(arena, seen[j]) == NULL);
        CHECK(fs_arena_resolve(arena, seen[i]) == block);
        fs_arena_free(block);
        CHECK(fs_arena_resolve(arena, seen[i]) == NULL);
        CHECK(fs_arena_resolve(arena, fs_arena_handle(block)) == NULL); /* a free block has no name */
    }
    uint32_t header = (uint32_t)((sizeof(fs_arena) + FS_LINE - 1) / FS_LINE);
    CHECK(fs_arena_resolve(arena, (fs_handle){0, 1}) == NULL);
    CHECK(fs_arena_resolve(arena, (fs_handle){header - 1, 1}) == NULL);
    CHECK(fs_arena_resolve(arena, (fs_handle){arena->used, 1}) == NULL);
    CHECK(fs_arena_resolve(arena, (fs_handle){UINT32_MAX, 1}) == NULL);
    free(arena);
}

static void freeing_twice_frees_once(void) {
    fs_arena *arena = small_arena(16);
    fs_block *block = fs_arena_alloc(arena, 64);
    fs_arena_free(block);
    fs_arena_free(block);
    CHECK_EQ(arena->free_lines, 1);
    fs_block *first = fs_arena_alloc(arena, 64), *second = fs_arena_alloc(arena, 64);
    CHECK(first == block && second != block);
    free(arena);
}

static void room_ends_and_comes_back(void) {
    fs_arena *arena = small_arena(10);
    fs_block *threes[3];
    for (int i = 0; i < 3; i++) CHECK((threes[i] = fs_arena_alloc(arena, 3 * FS_LINE)) != NULL);
    CHECK(fs_arena_alloc(arena, 2 * FS_LINE) == NULL);
    fs_block *last = fs_arena_alloc(arena, FS_LINE);
    CHECK(last != NULL);
    CHECK_EQ(arena->used, arena->capacity);
    CHECK(fs_arena_alloc(arena, 1) == NULL);
    CHECK(fs_arena_alloc(arena, 3 * FS_LINE) == NULL);

    /* Lines come back in the size they had. */
    fs_arena_free(threes[1]);
    CHECK_EQ(arena->free_lines, 3);
    CHECK(fs_arena_alloc(arena, FS_LINE) == NULL);
    CHECK(fs_arena_alloc(arena, 3 * FS_LINE) == threes[1]);
    CHECK_EQ(arena->free_lines, 0);
    CHECK(fs_arena_alloc(arena, 3 * FS_LINE) == NULL);

    /* Last in, first out. */
    fs_arena_free(threes[0]);
    fs_arena_free(threes[2]);
    CHECK(fs_arena_alloc(arena, 2 * FS_LINE + 1) == threes[2]);
    CHECK(fs_arena_alloc(arena, 2 * FS_LINE + 1) == threes[0]);
    free(arena);
}

static void large_blocks_are_named_but_not_reused(void) {
    fs_arena *arena = small_arena(400);
    fs_block *block = fs_arena_alloc(arena, FS_ARENA_CLASSES * FS_LINE);
    fs_handle handle = fs_arena_handle(block);
    fs_arena_free(block);
    CHECK(fs_arena_resolve(arena, handle) == NULL);
    CHECK_EQ(arena->free_lines, 0);
    CHECK(fs_arena_alloc(arena, FS_ARENA_CLASSES * FS_LINE) != block);
    fs_block *largest = fs_arena_alloc(arena, (FS_ARENA_CLASSES - 1) * FS_LINE);
    fs_arena_free(largest);
    CHECK(fs_arena_alloc(arena, (FS_ARENA_CLASSES - 1) * FS_LINE) == largest);
    free(arena);
}

/* Copied elsewhere, the same bytes still hold the same blocks. */
static void bytes_work_where_they_are_mapped(void) {
    fs_arena *arena = small_arena(16), *copy = small_arena(16);
    fs_block *one = fs_arena_alloc(arena, 64), *two = fs_arena_alloc(arena, 128);
    fill(one, 1);
    fill(two, 2);
    memcpy(copy, arena, (size_t)arena->capacity * FS_LINE);
    fs_block *there = fs_arena_resolve(copy, fs_arena_handle(one));
    CHECK(there && there != one && all_bytes(there, 1));
    CHECK(all_bytes(fs_arena_follow(there, fs_arena_span(one, two)), 2));
    CHECK(fs_arena_of(there) == copy);
    fs_arena_free(there);
    CHECK(fs_arena_alloc(copy, 64) == there);
    free(arena);
    free(copy);
}

typedef struct {
    fs_arena *arena;
    int number;
    long refused;
} hammer;

/* Hold up to HELD blocks, each filled with a value of its own, and look at each again before freeing it. */
static void *hammering(void *argument) {
    hammer *self = argument;
    fs_block *held[HELD] = {0};
    fs_handle handles[HELD];
    unsigned char values[HELD];
    fs_rng rng;
    fs_rng_seed(&rng, (uint64_t)self->number);
    for (int step = 0; step < STEPS + HELD; step++) {
        int place = step < STEPS ? (int)(fs_rng_next(&rng) % HELD) : step - STEPS;
        fs_block *block = held[place];
        if (block) {
            CHECK(all_bytes(block, values[place]));
            CHECK(fs_arena_resolve(self->arena, handles[place]) == block);
            fs_arena_free(block);
            CHECK(fs_arena_resolve(self->arena, handles[place]) == NULL);
            held[place] = NULL;
        } else if (step < STEPS) {
            size_t lines = 1 + fs_rng_next(&rng) % LARGEST;
            block = fs_arena_alloc(self->arena, lines * FS_LINE);
            if (!block) {
                self->refused++;
                continue;
            }
            CHECK_EQ(block->lines, lines);
            CHECK(all_bytes(block, 0));
            values[place] = (unsigned char)(1 + self->number * 50 + step % 50);
            fill(block, values[place]);
            handles[place] = fs_arena_handle(block);
            held[place] = block;
        }
    }
    return NULL;
}

static void hammered(fs_arena *arena, bool may_refuse) {
    pthread_t threads[THREADS];
    hammer hammers[THREADS];
    long refused = 0;
    for (int i = 0; i < THREADS; i++) {
        hammers[i] = (hammer){arena, i, 0};
        CHECK(pthread_create(&threads[i], NULL, hammering, &hammers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        refused += hammers[i].refused;
    }
    CHECK(may_refuse ? refused > 0 : refused == 0);
}

static void threads_do_not_overlap(void) {
    fs_arena *roomy = small_arena((size_t)THREADS * HELD * LARGEST * LARGEST);
    uint32_t before = roomy->used;
    hammered(roomy, false);
    CHECK_EQ(roomy->used - before, roomy->free_lines); /* all came back, none twice */
    free(roomy);
    fs_arena *tight = small_arena(200); /* refusals and reuse all the time */
    before = tight->used;
    hammered(tight, true);
    CHECK_EQ(tight->used - before, tight->free_lines);
    free(tight);
}

static void *ask_for_private(void *unused) {
    (void)unused;
    return fs_arena_private();
}

static void there_is_one_private_arena(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, ask_for_private, NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *told = NULL;
        pthread_join(threads[i], &told);
        CHECK(told != NULL && told == fs_arena_private());
    }
    CHECK(fs_arena_alloc(fs_arena_private(), 64) != NULL);
}

int main(void) {
    format_refuses_what_it_cannot_use();
    blocks_are_zeroed_apart_and_sized();
    handles_stop_resolving();
    freeing_twice_frees_once();
    room_ends_and_comes_back();
    large_blocks_are_named_but_not_reused();
    bytes_work_where_they_are_mapped();
    threads_do_not_overlap();
    there_is_one_private_arena();
    return check_report();
}
