/* The real flight recorder, all interleavings: who reads among writers sees whole entries, decisions that are alike are
 * counted or stand for themselves but are not lost, and of two that meet in one place of the ring one writes. */
#define EXPLORER_PLACES 24
#include "explored.h"

#include "failsoft/recorder.h"

/* A ring of two: it goes round soon, and a reader looks at all of it. */
#undef FS_DECISIONS
#undef FS_SEGMENT
#define FS_DECISIONS 2
#define FS_SEGMENT 2
#include "../../csrc/recorder.c"

#include "small_arena.h"

typedef struct {
    fs_block block;
    fs_recorder recorder;
} holder;

typedef enum { END = 0, NOTE, REFUSE, READ, ROUND } action;

static holder *under;
static const action (*script)[4];
static struct {
    uint32_t noted;   /* decisions whose note has returned */
    uint32_t began;   /* decisions begun */

} past;

/* Every word of an entry tells its number, so that a mixture of two is seen. */
static fs_decision decision_of(action what, int thread) {
    uint32_t n = (uint32_t)thread + 1;
    fs_decision decision = {.first = n, .number = n, .generation = n, .operation = n, .kind = FS_HEALTH, .because = (uint8_t)n};
    if (what == REFUSE) {
        decision.kind = FS_REFUSAL;
        decision.generation = decision.operation = decision.because = 9;
    }
    return decision;
}

static bool whole_entry(const fs_decision *d) {
    if (d->kind == FS_REFUSAL)
        return d->generation == 9 && d->operation == 9 && d->because == 9 && d->count >= 1 && d->first >= 1 && d->first <= 4 &&
               d->number >= 1.0 && d->number <= 4.0 && d->last >= 1 && d->last <= 4;
    return d->kind == FS_HEALTH && d->count == 1 && d->last == d->first && d->generation == d->first &&
           d->operation == d->first && d->because == d->first && d->number == (double)d->first;
}

static void look(void) {
    static fs_decision found[FS_DECISIONS];
    uint32_t count = fs_recorder_read(&under->recorder, &under->block, found);
    EX_CHECK(count <= past.began);
    for (uint32_t i = 0; i < count; i++) EX_CHECK(whole_entry(&found[i]));
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) {
        if (what == READ) look();
        else if (what == ROUND) fs_add_relaxed(&under->recorder.taken, FS_DECISIONS - 1); /* as many others elsewhere */
        else {
            fs_decision decision = decision_of(what, thread);
            past.began++;
            fs_recorder_note(&under->recorder, &under->block, &decision);
            past.noted++;
        }
    }
}

static bool rounds;

static void ended(void) {
    static fs_decision found[FS_DECISIONS];
    uint32_t count = fs_recorder_read(&under->recorder, &under->block, found), sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        EX_CHECK(whole_entry(&found[i]));
        sum += found[i].count;
    }
    if (!rounds) EX_CHECK(sum == past.began); /* none is lost, counted or not */
    else EX_CHECK(sum >= 1 && sum <= past.began);
}

static const char *named(const void *address) {
    static char name[32];
    ptrdiff_t at = (const char *)address - (const char *)under;
    if (address == &under->recorder.taken) return "taken";
    snprintf(name, sizeof name, "+%td", at);
    return name;
}

typedef struct {
    const char *name;
    action script[EXPLORER_THREADS][4];
    bool rounds;
} plan;

static const plan plans[] = {
    {"a reader among writers", {{NOTE}, {NOTE}, {READ}}, false},
    {"a place written again under a reader", {{NOTE}, {ROUND, NOTE}, {READ}}, true},
    {"two readers of a place written again", {{NOTE, ROUND}, {NOTE, READ}, {READ}}, true},
    {"refusals alike", {{REFUSE, REFUSE}, {REFUSE}}, false},
    {"refusals alike and a reader", {{REFUSE}, {REFUSE}, {READ}}, false},
    {"two meet in one place", {{NOTE}, {ROUND, NOTE}}, true},
};

int main(void) {
    ex_sums sums = {0};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            fs_arena *arena = small_arena(1 << 8);
            if (!arena) return 2;
            under = (holder *)(void *)fs_arena_alloc(arena, sizeof *under);
            script = plans[i].script;
            rounds = plans[i].rounds;
            fs_decision before = {.first = 4, .kind = FS_CAPACITY};
            fs_recorder_note(&under->recorder, &under->block, &before); /* takes a segment */
            under->recorder.taken = 0;
            entry_at(&under->recorder, &under->block, 0)->decision = (fs_decision){0};
            memset(&past, 0, sizeof past);
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .finally = ended, .place_name = named, .shared = arena,
                .shared_bytes = ((size_t)1 << 8) * FS_LINE,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_search_and_tell(&search, &sums);
            free(arena);
        }
    ex_score("all interleavings of the flight recorder", &sums);
    return check_report();
}
