/* The flight recorder: what it keeps, what it counts together, and that readers among writers see whole entries. */
#define _GNU_SOURCE /* pthread_barrier_t */
#include "failsoft/recorder.h"

#include <pthread.h>

#include "check.h"
#include "small_arena.h"

#define START UINT64_C(1000)
#define SEGMENTS (FS_DECISIONS / FS_SEGMENT)
#define SEGMENT_LINES ((16 + FS_SEGMENT * sizeof(fs_decision) + FS_LINE - 1) / FS_LINE)

typedef struct {
    fs_block block;
    fs_recorder recorder;
} holder;

static holder *made(fs_arena *arena) {
    holder *made = (holder *)(void *)fs_arena_alloc(arena, sizeof(holder));
    if (!made) exit(2);
    return made;
}

static void note(holder *of, fs_decision decision) {
    fs_recorder_note(&of->recorder, &of->block, &decision);
}

static fs_decision found[FS_DECISIONS];
static uint32_t read_all(const holder *of) {
    return fs_recorder_read(&of->recorder, &of->block, found);
}

static fs_decision change(fs_ns now) {
    return (fs_decision){.first = now, .kind = FS_HEALTH, .generation = 1, .operation = 1, .detail = 1};
}

static fs_decision refusal(fs_ns now) {
    return (fs_decision){.first = now, .kind = FS_REFUSAL, .generation = 2, .operation = 3, .because = 4, .state = 1};
}

static void it_keeps_all_fields(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    CHECK_EQ(read_all(one), 0);
    note(one, (fs_decision){
        .first = START, .number = 2.5, .generation = 7, .count = 99, .operation = 11, .kind = FS_FALLBACK, .because = 3,
        .state = 4, .detail = 5, .last = 1,
    });
    CHECK_EQ(read_all(one), 1);
    fs_decision *d = &found[0];
    CHECK(d->first == START && d->last == START && d->number == 2.5 && d->generation == 7 && d->count == 1);
    CHECK(d->operation == 11 && d->kind == FS_FALLBACK && d->because == 3 && d->state == 4 && d->detail == 5);
    note(one, change(0)); /* no time at all is still an entry */
    CHECK_EQ(read_all(one), 2);
    free(arena);
}

static void the_ring_holds_the_last(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    for (uint64_t i = 0; i < 3 * FS_DECISIONS + 7; i++) {
        note(one, change(START + i));
        uint64_t held = i + 1 < FS_DECISIONS ? i + 1 : FS_DECISIONS;
        if (!CHECK_EQ(read_all(one), held)) break;
        bool in_order = true;
        for (uint64_t k = 0; k < held; k++) in_order &= found[k].first == START + i + 1 - held + k;
        CHECK(in_order);
    }
    free(arena);
}

static void successes_take_no_memory_and_decisions_a_segment_at_a_time(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    uint32_t before = arena->used;
    read_all(one);
    CHECK_EQ(arena->used, before);
    for (uint32_t i = 0; i < 2 * FS_DECISIONS; i++) {
        note(one, change(START + i));
        uint32_t segments = i / FS_SEGMENT + 1 < 4 ? i / FS_SEGMENT + 1 : 4;
        CHECK_EQ(arena->used, before + segments * SEGMENT_LINES);
    }
    free(arena);
}

static void refusals_alike_are_counted(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    note(one, change(START));
    for (uint64_t i = 0; i < 1000000; i++) note(one, refusal(START + 1 + i));
    CHECK_EQ(read_all(one), 2); /* what led to the outage is still there */
    CHECK(found[0].kind == FS_HEALTH && found[0].count == 1);
    CHECK(found[1].kind == FS_REFUSAL && found[1].count == 1000000);
    CHECK(found[1].first == START + 1 && found[1].last == START + 1000000);

    /* Changes are told one by one, however alike. */
    for (int i = 0; i < FS_ALIKE - 2; i++) note(one, change(START));
    CHECK_EQ(read_all(one), FS_ALIKE);
    /* The refusal is one within reach, then the last, then out of it. */
    note(one, refusal(START + 2000000));
    CHECK_EQ(read_all(one), FS_ALIKE);
    CHECK_EQ(found[1].count, 1000001);
    note(one, change(START));
    note(one, refusal(START + 2000001));
    CHECK_EQ(read_all(one), FS_ALIKE + 1);
    CHECK_EQ(found[1].count, 1000002);
    note(one, change(START));
    note(one, refusal(START + 2000002));
    CHECK_EQ(read_all(one), FS_ALIKE + 3);
    CHECK_EQ(found[1].count, 1000002);
    const fs_decision *last = &found[FS_ALIKE + 2];
    CHECK(found[1].last == START + 2000001 && last->count == 1 && last->first == START + 2000002);
    free(arena);
}

static void refusals_that_differ_are_not(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    fs_decision other[7];
    for (int i = 0; i < 7; i++) other[i] = refusal(START);
    other[1].generation++;
    other[2].operation++;
    other[3].because++;
    other[4].state++;
    other[5].detail++;
    other[6].kind = FS_LIMIT;
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 7; i++) note(one, other[i]);
        CHECK_EQ(read_all(one), 7);
        for (int i = 0; i < 7; i++) CHECK_EQ(found[i].count, round);
    }
    /* The capacity at the time tells no two of them apart, for a ramp changes it from call to call: the latest stays. */
    other[6].number = 0.75;
    note(one, other[6]);
    CHECK_EQ(read_all(one), 7);
    CHECK(found[6].count == 4 && found[6].number == 0.75);
    free(arena);
}

static bool again(holder *of, fs_decision decision) {
    return fs_recorder_again(&of->recorder, &of->block, &decision);
}

/* In line only what is like the newest is counted; all else is for fs_recorder_note. */
static void the_newest_is_counted_in_line(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    CHECK(!again(one, refusal(START)));
    note(one, refusal(START));
    fs_decision other[6];
    for (int i = 0; i < 6; i++) other[i] = refusal(START + 1);
    other[0].generation++;
    other[1].operation++;
    other[2].because++;
    other[3].state++;
    other[4].detail++;
    other[5].kind = FS_LIMIT;
    for (int i = 0; i < 6; i++) CHECK(!again(one, other[i]));
    fs_decision alike = refusal(START + 5);
    alike.number = 0.5;
    CHECK(again(one, alike));
    CHECK_EQ(read_all(one), 1);
    CHECK(found[0].count == 2 && found[0].first == START && found[0].last == START + 5 && found[0].number == 0.5);
    fs_decision *entry = (fs_decision *)(void *)((char *)fs_arena_follow(one, one->recorder.segment[0]) + sizeof(fs_block));
    entry->first = FS_FOREVER; /* somebody writes there */
    CHECK(!again(one, alike));
    entry->first = 0; /* or is about to */
    CHECK(!again(one, alike));
    entry->first = START;
    entry->count = FS_COUNTED_MOST - 1;
    CHECK(again(one, alike));
    CHECK(!again(one, alike));
    CHECK_EQ(entry->count, FS_COUNTED_MOST);
    for (uint64_t i = 0; i < FS_DECISIONS; i++) { /* in whatever place of the ring */
        note(one, change(START));
        fs_decision last = refusal(START);
        last.generation = (uint32_t)(100 + i);
        note(one, last);
        CHECK(again(one, last));
        CHECK(!again(one, alike));
    }
    free(arena);
}

/* Others read them: the numbers of the kinds are part of the layout. */
static void kinds_have_their_numbers(void) {
    CHECK_EQ(FS_TRANSITION, 1);
    CHECK_EQ(FS_HEALTH, 8);
    CHECK_EQ(FS_STREAM, 11);
    CHECK_EQ(FS_DECISION_KINDS, 13);
}

static fs_decision *first_place(holder *of) {
    return (fs_decision *)(void *)((char *)fs_arena_follow(of, of->recorder.segment[0]) + sizeof(fs_block));
}

/* Where somebody was held up in the middle of an entry while the ring went round, nobody writes across him. */
static void a_place_being_written_is_left_alone(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    note(one, refusal(START));
    fs_decision *entry = first_place(one), before = *entry;
    entry->first = before.first = FS_FOREVER;
    CHECK_EQ(read_all(one), 0);
    note(one, refusal(START)); /* nor is it counted there */
    CHECK_EQ(read_all(one), 1);
    for (uint64_t i = 0; i < FS_DECISIONS; i++) note(one, change(START + i));
    CHECK_EQ(read_all(one), FS_DECISIONS - 1);
    CHECK(memcmp(entry, &before, sizeof before) == 0);
    entry->first = START; /* he goes on: the place is one among others again */
    for (uint64_t i = 0; i < FS_DECISIONS; i++) note(one, change(START + 1000 + i));
    CHECK_EQ(read_all(one), FS_DECISIONS);
    CHECK(found[0].first == START + 1000 && found[FS_DECISIONS - 1].first == START + 1000 + FS_DECISIONS - 1);
    note(one, change(FS_FOREVER)); /* a time that would look like it */
    CHECK_EQ(read_all(one), FS_DECISIONS);
    free(arena);
}

static void counts_stand_still_before_they_wrap(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    note(one, refusal(START));
    fs_decision *entry = first_place(one);
    entry->count = UINT32_MAX / 2 - 1;
    for (uint64_t i = 1; i <= 3; i++) note(one, refusal(START + i));
    CHECK_EQ(read_all(one), 1);
    CHECK_EQ(found[0].count, UINT32_MAX / 2);
    CHECK_EQ(found[0].last, START + 3);
    free(arena);
}

static void a_full_arena_only_forgets(void) {
    size_t lines = (sizeof(holder) + FS_LINE - 1) / FS_LINE;
    fs_arena *arena = small_arena(lines + 2 * SEGMENT_LINES);
    holder *one = made(arena);
    for (uint64_t i = 0; i < 2 * FS_SEGMENT; i++) note(one, change(START + i));
    CHECK_EQ(read_all(one), 2 * FS_SEGMENT);
    for (uint64_t i = 0; i < FS_SEGMENT; i++) note(one, refusal(START + 1000 + i)); /* nowhere to count them together */
    CHECK_EQ(read_all(one), 2 * FS_SEGMENT);
    for (uint64_t i = 0; i < FS_SEGMENT; i++) note(one, change(START + 2000 + i));
    CHECK_EQ(read_all(one), 2 * FS_SEGMENT);
    note(one, change(START + 3000)); /* back in the first segment */
    CHECK_EQ(read_all(one), 2 * FS_SEGMENT);
    CHECK(found[0].first == START + 1 && found[2 * FS_SEGMENT - 1].first == START + 3000);
    free(arena);

    arena = small_arena(lines);
    one = made(arena);
    for (int i = 0; i < 1000; i++) note(one, i % 2 ? change(START) : refusal(START));
    CHECK_EQ(read_all(one), 0);
    fs_recorder_free(&one->recorder, &one->block);
    free(arena);
}

static void a_copied_owner_finds_its_entries(void) {
    fs_arena *arena = small_arena(1 << 10);
    made(arena); /* so that spans of both signs are tried */
    holder *old = made(arena);
    for (uint64_t i = 0; i < FS_SEGMENT + 3; i++) note(old, change(START + i));
    for (int move = 0; move < 3; move++) {
        holder *heir = made(arena);
        heir->recorder = old->recorder;
        fs_recorder_move(&heir->recorder, &old->block, &heir->block);
        CHECK_EQ(read_all(heir), read_all(old));
        uint32_t before = read_all(heir);
        note(heir, change(START + 1000));
        CHECK_EQ(read_all(heir), before + 1);
        CHECK(found[0].first == START && found[before].first == START + 1000);
        fs_arena_free(&old->block); /* the next heir lies before its segments */
        old = heir;
    }
    free(arena);
}

static bool copied(const holder *of, holder *into) {
    return fs_recorder_copy(&of->recorder, &of->block, &into->recorder, &into->block);
}

/* Whatever number of segments there is, the same entries in the same places; and from then on each has its own. */
static void a_copy_is_whole_and_its_own(void) {
    static fs_decision before[FS_DECISIONS];
    for (uint64_t notes = 0; notes <= 2 * FS_DECISIONS; notes += FS_SEGMENT / 2) {
        fs_arena *arena = small_arena(1 << 10);
        holder *one = made(arena), *two = made(arena);
        for (uint64_t i = 0; i < notes; i++) note(one, change(START + i));
        uint32_t held = read_all(one);
        memcpy(before, found, sizeof before);
        CHECK(copied(one, two));
        CHECK_EQ(two->recorder.taken, notes);
        for (int i = 0; i < SEGMENTS; i++) CHECK_EQ(two->recorder.segment[i] != 0, one->recorder.segment[i] != 0);
        if (CHECK_EQ(read_all(two), held)) CHECK(memcmp(before, found, held * sizeof *found) == 0);
        for (int i = 0; i < 5; i++) note(two, refusal(START + 5000));
        CHECK_EQ(read_all(one), held);
        CHECK(memcmp(before, found, held * sizeof *found) == 0);
        read_all(two);
        uint32_t last = held < FS_DECISIONS ? held : FS_DECISIONS - 1;
        CHECK(found[last].kind == FS_REFUSAL && found[last].count == 5);
        fs_recorder_free(&one->recorder, &one->block);
        fs_recorder_free(&two->recorder, &two->block);
        CHECK_EQ(arena->free_lines % SEGMENT_LINES, 0);
        free(arena);
    }
}

/* Segments left out are left out in the copy; without room for each of the others there is none. */
static void a_copy_needs_room_for_every_segment(void) {
    size_t lines = (sizeof(holder) + FS_LINE - 1) / FS_LINE;
    for (size_t room = 0; room <= SEGMENTS; room++) {
        fs_arena *arena = small_arena(2 * lines + (SEGMENTS + room) * SEGMENT_LINES);
        holder *one = made(arena), *two = made(arena);
        for (uint64_t i = 0; i < FS_DECISIONS; i++) note(one, change(START + i));
        CHECK_EQ(copied(one, two), room == SEGMENTS);
        for (size_t i = 0; i < SEGMENTS; i++) CHECK_EQ(two->recorder.segment[i] != 0, i < room); /* to be freed */
        free(arena);
    }
    for (uint32_t without = 0; without < SEGMENTS; without++) {
        fs_arena *arena = small_arena(1 << 10);
        holder *one = made(arena), *two = made(arena);
        for (uint64_t i = 0; i < FS_DECISIONS; i++) note(one, change(START + i));
        fs_arena_free(fs_arena_follow(one, one->recorder.segment[without]));
        one->recorder.segment[without] = 0;
        CHECK(copied(one, two));
        CHECK_EQ(two->recorder.segment[without], 0);
        CHECK_EQ(read_all(two), FS_DECISIONS - FS_SEGMENT);
        CHECK_EQ(found[0].first, START + (without ? 0 : FS_SEGMENT));
        free(arena);
    }
}

static void freed_it_gives_all_back(void) {
    fs_arena *arena = small_arena(1 << 10);
    holder *one = made(arena);
    uint32_t used = 0;
    for (int round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < FS_DECISIONS; i++) note(one, change(START + i));
        CHECK_EQ(read_all(one), FS_DECISIONS);
        if (round == 0) used = arena->used;
        CHECK_EQ(arena->used, used);
        CHECK_EQ(arena->free_lines, 0);
        fs_recorder_free(&one->recorder, &one->block);
        CHECK_EQ(arena->free_lines, 4 * SEGMENT_LINES);
        for (int i = 0; i < SEGMENTS; i++) CHECK_EQ(one->recorder.segment[i], 0); /* or they would be freed for somebody else */
        one->recorder.taken = 0;
        CHECK_EQ(read_all(one), 0);
    }
    free(arena);
}

#define WRITERS 4

static holder *shared;
static pthread_barrier_t together;
static uint32_t reading;
static uint64_t woven_so_far;

/* Every field is made of one number, so that a torn entry gives itself away. */
static fs_decision woven(uint64_t seed) {
    return (fs_decision){
        .first = seed, .number = (double)seed, .generation = (uint32_t)seed, .operation = (uint32_t)seed * 3,
        .kind = FS_HEALTH, .because = (uint8_t)seed, .state = (uint8_t)(seed >> 8), .detail = (uint8_t)(seed >> 16),
    };
}

static bool is_woven(const fs_decision *d) {
    fs_decision wanted = woven(d->first);
    return d->last == wanted.first && d->number == wanted.number && d->generation == wanted.generation &&
           d->count == 1 && d->operation == wanted.operation && d->kind == wanted.kind &&
           d->because == wanted.because && d->state == wanted.state && d->detail == wanted.detail;
}

static void *weaving(void *argument) {
    (void)argument;
    while (fs_load_relaxed(&reading)) note(shared, woven(fs_add_relaxed(&woven_so_far, 1)));
    return NULL;
}

static uint32_t check_whole(const holder *of) {
    fs_decision mine[FS_DECISIONS];
    uint32_t count = fs_recorder_read(&of->recorder, &of->block, mine), torn = 0;
    for (uint32_t i = 0; i < count; i++) torn += !is_woven(&mine[i]);
    CHECK_EQ(torn, 0);
    return count;
}

/* One writer races the reader the most; several meet one another too. */
static void readers_among_writers_see_whole_entries(uint32_t writers, uint64_t notes) {
    fs_arena *arena = small_arena(1 << 10);
    shared = made(arena);
    pthread_t threads[WRITERS];
    woven_so_far = START;
    fs_store_relaxed(&reading, 1);
    for (int i = 0; i < (int)writers; i++) CHECK(pthread_create(&threads[i], NULL, weaving, NULL) == 0);
    while (fs_load_relaxed(&woven_so_far) < START + notes) check_whole(shared);
    fs_store_relaxed(&reading, 0);
    for (int i = 0; i < (int)writers; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(shared->recorder.taken, woven_so_far - START);
    CHECK(check_whole(shared) >= FS_DECISIONS - writers); /* a writer that was overtaken may have left its place empty */
    CHECK_EQ(arena->used - arena->free_lines, shared->block.line + shared->block.lines + 4 * SEGMENT_LINES);
    free(arena);
}

#define REFUSALS 1000000

static void *refusing(void *argument) {
    uint64_t mine = *(uint64_t *)argument;
    pthread_barrier_wait(&together);
    for (uint64_t i = 0; i < REFUSALS; i++) {
        fs_decision decision = refusal(START + i);
        decision.operation = (uint32_t)mine % 2;
        note(shared, decision);
    }
    return NULL;
}

/* Threads that meet at the very first refusal may make an entry each; not one refusal is lost. */
static void threads_lose_no_refusal(void) {
    fs_arena *arena = small_arena(1 << 10);
    shared = made(arena);
    pthread_t threads[WRITERS];
    uint64_t numbers[WRITERS], total = 0;
    pthread_barrier_init(&together, NULL, WRITERS);
    for (uint64_t i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, refusing, &numbers[i]) == 0);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    uint32_t entries = read_all(shared);
    for (uint32_t i = 0; i < entries; i++) total += found[i].count;
    CHECK(entries >= 2 && entries <= WRITERS);
    CHECK_EQ(total, WRITERS * REFUSALS);
    free(arena);
}

int main(void) {
    it_keeps_all_fields();
    the_ring_holds_the_last();
    successes_take_no_memory_and_decisions_a_segment_at_a_time();
    refusals_alike_are_counted();
    refusals_that_differ_are_not();
    the_newest_is_counted_in_line();
    kinds_have_their_numbers();
    a_place_being_written_is_left_alone();
    counts_stand_still_before_they_wrap();
    a_full_arena_only_forgets();
    a_copied_owner_finds_its_entries();
    a_copy_is_whole_and_its_own();
    a_copy_needs_room_for_every_segment();
    freed_it_gives_all_back();
    readers_among_writers_see_whole_entries(1, 1000000);
    readers_among_writers_see_whole_entries(WRITERS, 100000);
    threads_lose_no_refusal();
    return check_report();
}
