/* explorer.h - every interleaving of a few threads through the real code, and every value that a load may see.
 *
 * What:    a test includes this header, then the source file it explores. Each atomic access of that file becomes a point at
 *          which the running thread stops and another may go on. Threads are coroutines on one real thread, so a state can be
 *          kept and gone back to: the search is depth first over all choices, each state is visited once, and the search ends
 *          when there is nothing left. A state is all shared words, what the test keeps beside them, and for each thread
 *          what it has read since its last operation began: deterministic code is where its reads have led it.
 *
 *          Two memories. In the strict one a load sees the last store. In the weak one each word keeps its history, and a
 *          load may see any value that is not older than what its thread knows of already: release stores hand knowledge
 *          on, acquire loads and fences take it up, and what is sequentially consistent keeps one order, as in C11. Not modelled: a read-modify-write sees the last value (also
 *          where it fails), and no load sees a store that is yet to come.
 *
 *          In each state the test is asked for what must always hold (`always`), at each end for what must hold then. Both may
 *          run the code on: it acts on the last values, and all it did is undone.
 * States:  none of its own.   Units: none.
 * Threads: one. Plain accesses of the code see the last values.
 * Errors:  what does not hold is printed with the schedule that leads there, and the search of that configuration ends.
 */
#ifndef FAILSOFT_EXPLORER_H
#define FAILSOFT_EXPLORER_H

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#undef FS_MANY_WRITERS
#define FS_MANY_WRITERS 1 /* what may be written by several threads at once is explored so */
#include "failsoft/atomics.h"

#include "check.h"

#ifndef EXPLORER_PLACES
#define EXPLORER_PLACES 48 /* words that the explored code touches */
#endif
#define EXPLORER_THREADS 4
#define EXPLORER_HISTORY 12 /* values a word keeps while somebody may still see them */
#define EXPLORER_DEPTH 6000
#define EXPLORER_STACK 16384

typedef enum {
    EX_BEGIN, EX_LOAD, EX_STORE, EX_CAS, EX_ADD, EX_SWAP, EX_OR, EX_AND, EX_FENCE,
} ex_kind;

typedef enum { EX_RELAXED = 0, EX_ACQUIRE = 1, EX_RELEASE = 2, EX_BOTH = 3, EX_SEQ_CST = 7 } ex_order;
#define EX_TOTAL 4 /* the bit of EX_SEQ_CST alone */

typedef struct { uint8_t from[EXPLORER_PLACES]; } ex_view;

typedef struct {
    jmp_buf context;
    char *low;        /* the lowest byte of its stack in use */
    bool done;
    uint64_t seen;    /* what it has read since its operation began */
    ex_kind kind;     /* what it will do next */
    ex_order order;
    int place;
    ex_view knows, heard, said; /* oldest values it may see; after an acquire fence; as of its last release fence */
} ex_thread;

typedef struct {
    void *address;
    size_t size;
    uint64_t first;   /* its value at the beginning */
} ex_place;

typedef struct {
    uint64_t value;
    ex_view view;     /* what a reader that acquires it knows */
} ex_value;

typedef struct {
    uint32_t count;
    ex_value value[EXPLORER_HISTORY];
} ex_history;

typedef struct {
    const char *name;
    int threads;
    void (*body)(int thread);
    void (*always)(void);  /* in each state; may be NULL */
    void (*finally)(void); /* when all threads have ended; may be NULL */
    const char *(*place_name)(const void *address); /* may be NULL */
    void *shared;          /* where the words lie that threads share; others are not explored */
    size_t shared_bytes;
    void *beside;          /* what the test keeps of the past, a part of the state */
    size_t beside_bytes;
    bool weak;
} ex_plan;

typedef struct {
    uint64_t states, ends, steps;
    double schedules;      /* ways from the beginning to an end */
    uint32_t deepest;
    bool failed;
} ex_found;

static const ex_plan *ex_now;
static ex_found ex_result;
static ex_thread ex_threads[EXPLORER_THREADS], *ex_me;
static ex_place ex_places[EXPLORER_PLACES];
static uint64_t ex_values[EXPLORER_PLACES]; /* the last ones */
static ex_history ex_past[EXPLORER_PLACES];
static ex_view ex_total; /* oldest values that a sequentially consistent access may see */
static int ex_place_count, ex_choice;
static jmp_buf ex_scheduler;
static _Alignas(16) char ex_stacks[EXPLORER_THREADS][EXPLORER_STACK];
static struct { uint8_t thread, kind, order, choice; int16_t place; uint64_t value; } ex_path[EXPLORER_DEPTH];
static uint32_t ex_depth;
static bool ex_is_aside;
static void (*ex_wrote)(int thread, void *address, uint64_t before, uint64_t after); /* told of each write */

static inline uint64_t ex_mix(uint64_t hash, uint64_t more) {
    hash = (hash ^ more) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static void ex_print_path(void) {
    static const char *const kinds[] = {"begin", "load", "store", "cas", "add", "swap", "or", "and", "fence"};
    static const char *const orders[] = {"", " acquire", " release", " acq_rel", "", "", "", " seq_cst"};
    for (uint32_t i = 0; i < ex_depth; i++) {
        const void *address = ex_path[i].place < 0 ? NULL : ex_places[ex_path[i].place].address;
        const char *name = address && ex_now->place_name ? ex_now->place_name(address) : "";
        fprintf(stderr, "  %u: %s%s %s = 0x%" PRIx64 "%s\n", ex_path[i].thread, kinds[ex_path[i].kind],
                orders[ex_path[i].order], name, ex_path[i].value, ex_path[i].choice ? " (an older value)" : "");
    }
}

/* What must hold while exploring: the first that does not ends the search, with the way there. */
#define EX_CHECK(condition) ex_check((condition), __FILE__, __LINE__, #condition)

static bool ex_check(bool held, const char *file, int line, const char *what) {
    if (held || ex_result.failed) return held;
    ex_result.failed = true;
    check_that(false, file, line, what);
    fprintf(stderr, "in '%s' (%s memory), after:\n", ex_now->name, ex_now->weak ? "weak" : "strict");
    ex_print_path();
    return false;
}

static uint64_t ex_fetch(const void *address, size_t size) {
    uint64_t value = 0;
    memcpy(&value, address, size);
    return value;
}

static int ex_place_of(void *address, size_t size) {
    for (int i = 0; i < ex_place_count; i++)
        if (ex_places[i].address == address) return i;
    if (ex_place_count == EXPLORER_PLACES) {
        fprintf(stderr, "more than %d words are touched\n", EXPLORER_PLACES);
        exit(2);
    }
    uint64_t first = ex_fetch(address, size);
    ex_places[ex_place_count] = (ex_place){address, size, first};
    ex_values[ex_place_count] = first;
    ex_past[ex_place_count].count = 1;
    memset(&ex_past[ex_place_count].value[0], 0, sizeof(ex_value));
    ex_past[ex_place_count].value[0].value = first;
    return ex_place_count++;
}

static void ex_join(ex_view *into, const ex_view *from) {
    for (int i = 0; i < ex_place_count; i++)
        if (from->from[i] > into->from[i]) into->from[i] = from->from[i];
}

static __attribute__((noinline)) void ex_pause(void) {
    ex_me->low = (char *)__builtin_frame_address(0) - 1024;
    if (_setjmp(ex_me->context) == 0) longjmp(ex_scheduler, 1);
}

/* Stop before an access, and go on when chosen. False: nobody explores, act at once. */
static bool ex_stop(ex_kind kind, ex_order order, void *address, size_t size) {
    if (!ex_now) return false;
    bool shared = !address || (uintptr_t)address - (uintptr_t)ex_now->shared < ex_now->shared_bytes;
    if (!ex_me || !shared) {
        if (shared && ex_is_aside && address) ex_place_of(address, size); /* known before it is written, to be undone */
        return false;
    }
    ex_me->kind = kind;
    ex_me->order = order;
    ex_me->place = address ? ex_place_of(address, size) : -1;
    ex_pause();
    return true;
}

static void ex_saw(uint64_t value) {
    ex_me->seen = ex_mix(ex_me->seen, value + 1);
    ex_path[ex_depth - 1].value = value;
}

/* Values that no thread can see any more are forgotten, so that equal states look equal. */
static void ex_forget(int place) {
    uint32_t least = UINT32_MAX;
    for (int t = 0; t < ex_now->threads; t++)
        if (!ex_threads[t].done && ex_threads[t].knows.from[place] < least) least = ex_threads[t].knows.from[place];
    ex_history *past = &ex_past[place];
    if (least >= past->count) least = past->count - 1;
    if (least == 0) return;
    past->count -= least;
    memmove(past->value, past->value + least, past->count * sizeof(ex_value));
#define EX_LESS(view) ((view).from[place] = (uint8_t)((view).from[place] > least ? (view).from[place] - least : 0))
    for (int t = 0; t < ex_now->threads; t++) {
        EX_LESS(ex_threads[t].knows);
        EX_LESS(ex_threads[t].heard);
        EX_LESS(ex_threads[t].said);
    }
    for (int p = 0; p < ex_place_count; p++)
        for (uint32_t i = 0; i < ex_past[p].count; i++) EX_LESS(ex_past[p].value[i].view);
    EX_LESS(ex_total);
#undef EX_LESS
}

static void ex_take_up(const ex_view *view, ex_order order) {
    ex_join(order & EX_ACQUIRE ? &ex_me->knows : &ex_me->heard, view);
}

static void ex_write(int place, uint64_t value, ex_order order, const ex_view *handed_on) {
    uint64_t before = ex_values[place];
    if (ex_places[place].size < 8) value &= (UINT64_C(1) << ex_places[place].size * 8) - 1;
    ex_values[place] = value;
    memcpy(ex_places[place].address, &value, ex_places[place].size);
    ex_path[ex_depth - 1].value = value;
    ex_history *past = &ex_past[place];
    if (!ex_now->weak) {
        past->value[0].value = value;
    } else {
        if (past->count == EXPLORER_HISTORY) exit((fprintf(stderr, "a history is too long\n"), 2));
        ex_value *fresh = &past->value[past->count];
        ex_me->knows.from[place] = (uint8_t)past->count++;
        fresh->value = value;
        fresh->view = order & EX_RELEASE ? ex_me->knows : ex_me->said;
        if (handed_on) ex_join(&fresh->view, handed_on);
        fresh->view.from[place] = ex_me->knows.from[place];
        if (order & EX_TOTAL) ex_total.from[place] = ex_me->knows.from[place];
        ex_forget(place);
    }
    if (ex_wrote) ex_wrote((int)(ex_me - ex_threads), ex_places[place].address, before, value);
}

static uint64_t ex_load(const void *address, size_t size, ex_order order) {
    void *at = (void *)(uintptr_t)address;
    if (!ex_stop(EX_LOAD, order, at, size)) return ex_fetch(address, size);
    int place = ex_me->place;
    uint64_t value = ex_values[place];
    if (ex_now->weak) {
        uint32_t which = ex_past[place].count - 1 - (uint32_t)ex_choice;
        ex_value seen = ex_past[place].value[which];
        value = seen.value;
        ex_me->knows.from[place] = (uint8_t)which;
        ex_take_up(&seen.view, order);
        ex_forget(place);
    }
    ex_saw(value);
    return value;
}

static inline void ex_load_to(const void *address, size_t size, void *to) {
    uint64_t value = ex_load(address, size, EX_RELAXED);
    memcpy(to, &value, size);
}

static void ex_store(void *address, size_t size, uint64_t value, ex_order order) {
    if (ex_stop(EX_STORE, order, address, size)) ex_write(ex_me->place, value, order, NULL);
    else memcpy(address, &value, size);
}

/* Read-modify-write: `by` is what to add, put, or combine with. */
static inline uint64_t ex_change(ex_kind kind, void *address, size_t size, uint64_t by, ex_order order) {
    bool explored = ex_stop(kind, order, address, size);
    uint64_t before = explored ? ex_values[ex_me->place] : ex_fetch(address, size);
    uint64_t after = kind == EX_ADD ? before + by : kind == EX_OR ? before | by : kind == EX_AND ? before & by : by;
    if (!explored) {
        memcpy(address, &after, size);
        return before;
    }
    int place = ex_me->place;
    ex_view last = ex_past[place].value[ex_past[place].count - 1].view;
    if (ex_now->weak) ex_take_up(&last, order);
    ex_write(place, after, order, &last);
    ex_saw(before);
    return before;
}

static bool ex_cas(void *address, size_t size, void *expected, uint64_t desired, ex_order order, ex_order otherwise) {
    bool explored = ex_stop(EX_CAS, order, address, size);
    uint64_t before = explored ? ex_values[ex_me->place] : ex_fetch(address, size);
    bool equal = before == ex_fetch(expected, size);
    if (!explored) {
        memcpy(equal ? address : expected, equal ? &desired : &before, size);
        return equal;
    }
    int place = ex_me->place;
    ex_view last = ex_past[place].value[ex_past[place].count - 1].view;
    if (ex_now->weak) {
        ex_me->knows.from[place] = (uint8_t)(ex_past[place].count - 1);
        ex_take_up(&last, equal ? order : otherwise);
    }
    if (equal) ex_write(place, desired, order, &last);
    else memcpy(expected, &before, size);
    ex_saw(before);
    return equal;
}

static inline void ex_fence(ex_order order) {
    if (!ex_stop(EX_FENCE, order, NULL, 0)) return;
    if (order & EX_ACQUIRE) ex_join(&ex_me->knows, &ex_me->heard);
    if (order & EX_TOTAL) {
        ex_join(&ex_total, &ex_me->knows);
        ex_me->knows = ex_total;
    }
    if (order & EX_RELEASE) ex_me->said = ex_me->knows;
}

/* An operation begins here: what was read before no longer matters, but for what is `kept` of it. */
static inline void ex_begin(uint64_t kept) {
    ex_me->seen = ex_mix(1, kept);
    ex_stop(EX_BEGIN, EX_RELAXED, NULL, 0);
}

/* Act on the last values without being explored, and undo it: for what is asked in a state. */
typedef struct { ex_thread *me; } ex_aside;
static inline ex_aside ex_leave(void) {
    ex_aside aside = {ex_me};
    ex_me = NULL;
    ex_is_aside = true;
    return aside;
}
static inline void ex_return(ex_aside aside) {
    for (int i = 0; i < ex_place_count; i++) memcpy(ex_places[i].address, &ex_values[i], ex_places[i].size);
    ex_me = aside.me;
    ex_is_aside = false;
}

/* A state kept. */
typedef struct {
    ex_thread threads[EXPLORER_THREADS];
    uint64_t values[EXPLORER_PLACES];
    ex_view total;
    int place_count;
    ex_history *past;
    char *stacks[EXPLORER_THREADS], *beside;
    size_t stack_bytes[EXPLORER_THREADS];
} ex_kept;

static ex_kept *ex_keep(void) {
    size_t bytes = sizeof(ex_kept) + ex_now->beside_bytes;
    size_t past = ex_now->weak ? (size_t)ex_place_count * sizeof(ex_history) : 0;
    size_t stack[EXPLORER_THREADS] = {0};
    for (int t = 0; t < ex_now->threads; t++)
        stack[t] = ex_threads[t].done ? 0 : (size_t)(ex_stacks[t] + EXPLORER_STACK - ex_threads[t].low);
    for (int t = 0; t < ex_now->threads; t++) bytes += stack[t];
    char *memory = malloc(bytes + past);
    if (!memory) exit(2);
    ex_kept *kept = (ex_kept *)(void *)memory;
    memcpy(kept->threads, ex_threads, sizeof ex_threads);
    memcpy(kept->values, ex_values, sizeof ex_values);
    kept->total = ex_total;
    kept->place_count = ex_place_count;
    char *at = memory + sizeof *kept;
    kept->past = (ex_history *)(void *)at;
    if (past) memcpy(at, ex_past, past);
    at += past;
    kept->beside = memcpy(at, ex_now->beside, ex_now->beside_bytes);
    at += ex_now->beside_bytes;
    for (int t = 0; t < ex_now->threads; t++) {
        kept->stack_bytes[t] = stack[t];
        kept->stacks[t] = at;
        if (stack[t]) memcpy(at, ex_threads[t].low, stack[t]);
        at += stack[t];
    }
    return kept;
}

static void ex_go_back(const ex_kept *kept) {
    memcpy(ex_threads, kept->threads, sizeof ex_threads);
    memcpy(ex_values, kept->values, sizeof ex_values);
    ex_total = kept->total;
    if (ex_now->weak) memcpy(ex_past, kept->past, (size_t)kept->place_count * sizeof(ex_history));
    for (int i = kept->place_count; i < ex_place_count; i++) {
        ex_values[i] = ex_places[i].first; /* found since; places stay known */
        ex_past[i].count = 1;
        memset(&ex_past[i].value[0], 0, sizeof(ex_value));
        ex_past[i].value[0].value = ex_places[i].first;
    }
    for (int i = 0; i < ex_place_count; i++) memcpy(ex_places[i].address, &ex_values[i], ex_places[i].size);
    memcpy(ex_now->beside, kept->beside, ex_now->beside_bytes);
    for (int t = 0; t < ex_now->threads; t++)
        if (kept->stack_bytes[t]) memcpy(ex_threads[t].low, kept->stacks[t], kept->stack_bytes[t]);
}

static uint64_t ex_hash_view(uint64_t hash, const ex_view *view) {
    for (int i = 0; i < ex_place_count; i++)
        if (view->from[i]) hash = ex_mix(hash, (uint64_t)i << 8 | view->from[i]);
    return ex_mix(hash, 77);
}

static uint64_t ex_hash(void) {
    uint64_t hash = 1;
    for (int i = 0; i < ex_place_count; i++)
        if (ex_values[i] != ex_places[i].first) hash = ex_mix(ex_mix(hash, (uint64_t)i), ex_values[i]);
    hash = ex_mix(hash, 1);
    for (int t = 0; t < ex_now->threads; t++)
        hash = ex_mix(hash, ex_threads[t].done ? 3 : ex_threads[t].seen << 4 ^ (uint64_t)ex_threads[t].place << 1);
    const unsigned char *beside = ex_now->beside;
    for (size_t i = 0; i < ex_now->beside_bytes; i += 8)
        hash = ex_mix(hash, ex_fetch(beside + i, ex_now->beside_bytes - i < 8 ? ex_now->beside_bytes - i : 8));
    if (!ex_now->weak) return hash;
    for (int i = 0; i < ex_place_count; i++)
        for (uint32_t k = 0; ex_past[i].count > 1 && k < ex_past[i].count; k++) {
            hash = ex_mix(ex_mix(hash, (uint64_t)i << 8 | k), ex_past[i].value[k].value);
            hash = ex_hash_view(hash, &ex_past[i].value[k].view);
        }
    hash = ex_hash_view(hash, &ex_total);
    for (int t = 0; t < ex_now->threads; t++) {
        if (ex_threads[t].done) continue;
        hash = ex_hash_view(hash, &ex_threads[t].knows);
        hash = ex_hash_view(hash, &ex_threads[t].heard);
        hash = ex_hash_view(hash, &ex_threads[t].said);
    }
    return hash;
}

/* States visited, and how many schedules lead on from each. */
typedef struct { uint64_t key; double schedules; } ex_visited;
static ex_visited *ex_table;
static size_t ex_room;

static ex_visited *ex_find(uint64_t key) {
    size_t at = key & (ex_room - 1);
    while (ex_table[at].key && ex_table[at].key != key) at = (at + 1) & (ex_room - 1);
    return &ex_table[at];
}

static void ex_grow(void) {
    ex_visited *before = ex_table;
    size_t room = ex_room;
    ex_room = room ? room * 2 : 1 << 16;
    ex_table = calloc(ex_room, sizeof *ex_table);
    if (!ex_table) exit(2);
    for (size_t i = 0; i < room; i++)
        if (before[i].key) *ex_find(before[i].key) = before[i];
    free(before);
}

static __attribute__((noinline)) void ex_step(int thread, int choice) {
    ex_me = &ex_threads[thread];
    ex_choice = choice;
    if (ex_depth == EXPLORER_DEPTH) exit((fprintf(stderr, "'%s' does not end\n", ex_now->name), 2));
    ex_path[ex_depth].thread = (uint8_t)thread;
    ex_path[ex_depth].kind = (uint8_t)ex_me->kind;
    ex_path[ex_depth].order = (uint8_t)ex_me->order;
    ex_path[ex_depth].choice = (uint8_t)choice;
    ex_path[ex_depth].place = (int16_t)ex_me->place;
    ex_path[ex_depth].value = 0;
    ex_depth++;
    ex_result.steps++;
    if (ex_depth > ex_result.deepest) ex_result.deepest = ex_depth;
    if (_setjmp(ex_scheduler) == 0) longjmp(ex_threads[thread].context, 1);
    ex_me = NULL;
}

static int ex_choices(int thread) {
    const ex_thread *of = &ex_threads[thread];
    if (!ex_now->weak || of->kind != EX_LOAD) return 1;
    int from = of->knows.from[of->place];
    if (of->order & EX_TOTAL && ex_total.from[of->place] > from) from = ex_total.from[of->place];
    return (int)ex_past[of->place].count - from;
}

static double ex_search(void) {
    uint64_t key = ex_hash() | 1;
    ex_visited *found = ex_find(key);
    if (found->key) return found->schedules;
    if (++ex_result.states > ex_room / 2) ex_grow();
    ex_find(key)->key = key;
    if (ex_now->always) {
        ex_aside aside = ex_leave();
        ex_now->always();
        ex_return(aside);
    }
    double schedules = 0;
    ex_kept *kept = NULL;
    for (int t = 0; t < ex_now->threads && !ex_result.failed; t++) {
        if (ex_threads[t].done) continue;
        if (!kept) kept = ex_keep();
        for (int choice = 0, choices = ex_choices(t); choice < choices && !ex_result.failed; choice++) {
            ex_step(t, choice);
            if (!ex_result.failed) schedules += ex_search();
            if (ex_result.failed) break;
            ex_depth--;
            ex_go_back(kept);
        }
    }
    if (!kept && !ex_result.failed) {
        ex_result.ends++;
        schedules = 1;
        ex_aside aside = ex_leave();
        if (ex_now->finally) ex_now->finally();
        ex_return(aside);
    }
    free(kept);
    ex_find(key)->schedules = schedules;
    return schedules;
}

static void ex_enter(int thread) {
    ex_begin(0);
    ex_now->body(thread);
    ex_me->done = true;
    longjmp(ex_scheduler, 1);
}

static void ex_forget_all(void) {
    ex_place_count = 0;
    ex_depth = 0;
    ex_me = NULL;
    memset(ex_threads, 0, sizeof ex_threads);
    memset(ex_past, 0, sizeof ex_past);
    memset(ex_values, 0, sizeof ex_values);
    memset(&ex_total, 0, sizeof ex_total);
}

/* Search a plan to the end. The shared words and what is kept beside them are as the plan's threads shall find them. */
static ex_found ex_explore(const ex_plan *plan) {
    ex_now = plan;
    ex_result = (ex_found){0};
    ex_forget_all();
    free(ex_table);
    ex_table = NULL;
    ex_room = 0;
    ex_grow();
    for (int t = 0; t < plan->threads; t++) {
        ucontext_t here, there;
        ex_me = &ex_threads[t];
        if (_setjmp(ex_scheduler)) continue;
        getcontext(&there);
        there.uc_stack.ss_sp = ex_stacks[t];
        there.uc_stack.ss_size = EXPLORER_STACK;
        there.uc_link = NULL;
        makecontext(&there, (void (*)(void))ex_enter, 1, t);
        swapcontext(&here, &there);
    }
    ex_me = NULL;
    ex_result.schedules = ex_search();
    ex_now = NULL;
    return ex_result;
}

/* The accesses of the code to be explored. */
#undef fs_load_relaxed
#undef fs_load_acquire
#undef fs_store_relaxed
#undef fs_store_release
#undef fs_add_relaxed
#undef fs_swap_relaxed
#undef fs_or_relaxed
#undef fs_or_release
#undef fs_or_acq_rel
#undef fs_and_relaxed
#undef fs_fence_acquire
#undef fs_fence_release
#undef fs_cas
#undef fs_load_seq_cst
#undef fs_fence_seq_cst
#undef fs_cas_seq_cst
#undef fs_load_relaxed_to
#undef fs_store_relaxed_from
#undef fs_cas_relaxed_from
#define EX_AT(p) ((void *)(uintptr_t)(p)), sizeof *(p)
#define EX_AS(p) (__typeof__(*(p)))
#define EX_VALUE(p, call) __extension__({ __typeof__(EX_AS(p) 0) ex_got_ = EX_AS(p)(call); ex_got_; })
#define fs_load_relaxed(p) (EX_AS(p) ex_load(EX_AT(p), EX_RELAXED))
#define fs_load_acquire(p) (EX_AS(p) ex_load(EX_AT(p), EX_ACQUIRE))
#define fs_store_relaxed(p, v) ex_store(EX_AT(p), (uint64_t)(v), EX_RELAXED)
#define fs_store_release(p, v) ex_store(EX_AT(p), (uint64_t)(v), EX_RELEASE)
#define fs_add_relaxed(p, v) EX_VALUE(p, ex_change(EX_ADD, EX_AT(p), (uint64_t)(v), EX_RELAXED))
#define fs_swap_relaxed(p, v) EX_VALUE(p, ex_change(EX_SWAP, EX_AT(p), (uint64_t)(v), EX_RELAXED))
#define fs_or_relaxed(p, v) EX_VALUE(p, ex_change(EX_OR, EX_AT(p), (uint64_t)(v), EX_RELAXED))
#define fs_or_release(p, v) EX_VALUE(p, ex_change(EX_OR, EX_AT(p), (uint64_t)(v), EX_RELEASE))
#define fs_or_acq_rel(p, v) EX_VALUE(p, ex_change(EX_OR, EX_AT(p), (uint64_t)(v), EX_BOTH))
#define fs_and_relaxed(p, v) EX_VALUE(p, ex_change(EX_AND, EX_AT(p), (uint64_t)(v), EX_RELAXED))
#define fs_fence_acquire() ex_fence(EX_ACQUIRE)
#define fs_fence_release() ex_fence(EX_RELEASE)
#define fs_cas(p, expected, desired) ex_cas(EX_AT(p), (expected), (uint64_t)(desired), EX_BOTH, EX_ACQUIRE)
#define fs_load_seq_cst(p) (EX_AS(p) ex_load(EX_AT(p), EX_SEQ_CST))
#define fs_fence_seq_cst() ex_fence(EX_SEQ_CST)
#define fs_cas_seq_cst(p, expected, desired) ex_cas(EX_AT(p), (expected), (uint64_t)(desired), EX_SEQ_CST, EX_RELAXED)
#define fs_load_relaxed_to(p, to) ex_load_to(EX_AT(p), (to))
#define fs_store_relaxed_from(p, from) ex_store(EX_AT(p), ex_fetch((from), sizeof *(p)), EX_RELAXED)
#define fs_cas_relaxed_from(p, expected, from) \
    ex_cas(EX_AT(p), (expected), ex_fetch((from), sizeof *(p)), EX_RELAXED, EX_RELAXED)

#endif
