/* A breaker that moves to another block while calls start, end and change its state, all interleavings: it goes on in the new
 * one exactly as the old one was when it was marked, with the wait and the ramp of its state; nothing is held for longer than
 * a lease; and what is told to it after it has moved counts. */
#define EXPLORER_PLACES 40
#include "explored.h"

#include "failsoft/breaker.h"

/* The new block is kept beside the words that are explored: nobody else knows of it before it is whole. */
static fs_block *block_for(fs_arena *arena, size_t bytes);
#define fs_arena_alloc block_for
#define fs_recorder_note(recorder, owner, decision) ((void)(decision))
#define acquire acquire_within /* the rig has its own */
#include "../../csrc/breaker.c"
#undef acquire
#undef fs_recorder_note
#undef fs_arena_alloc

#include "breaker_rig.h"

typedef enum { END = 0, SUCCEED, FAIL, MOVE, SHARE, FORCE, CLOSE, TICK } action;

static fs_breaker *under;
static const action (*script)[4];
static fs_breaker_config settings;

static struct {
    fs_ns clock;
    uint64_t marked;    /* the gate, when it was */
    uint64_t until, ramped; /* the ends that stood then */
    uint32_t told;      /* failures */
    uint8_t moved, late; /* who has written to the old block after that */
    fs_breaker heir;
} past;

static fs_block *block_for(fs_arena *arena_of, size_t bytes) {
    return ex_me ? &past.heir.block : (fs_arena_alloc)(arena_of, bytes);
}

static void wrote(int thread, void *address, uint64_t before, uint64_t after) {
    (void)thread;
    if (past.marked) past.late = 1;
    if (address != &under->gate) return;
    if (after & ~before & FS_GATE_MOVED) {
        past.marked = before;
        past.until = ex_fetch(&under->until, sizeof under->until);
        past.ramped = ex_fetch(&under->ramped, sizeof under->ramped);
    }
}

/* As guards do: who finds the mark looks for the truth anew, which may not be said yet. */
static fs_breaker *resolved(void) { return fs_breaker_gate(under) & FS_GATE_MOVED && past.moved ? &past.heir : under; }

static bool same_generation(uint64_t word, uint64_t of_gate) { return (word & 0xffff) == (fs_gate_generation(of_gate) & 0xffff); }

/* `shares`: as a process does that moves it to where others see it, in two steps. */
static void move_it(bool shares) {
    fs_breaker *heir = shares ? fs_breaker_copy(under, fs_arena_of(&under->block)) : fs_breaker_move(under, NULL);
    EX_CHECK(heir == &past.heir);
    past.moved = 1;
    uint64_t is = past.heir.gate;
    EX_CHECK(!(is & FS_GATE_MOVED));
    if (!shares) {
        EX_CHECK(is == past.marked);
        if (fs_gate_state(is) == FS_OPEN) EX_CHECK(past.heir.until == past.until);
        if (is & FS_GATE_RAMPING) EX_CHECK(past.heir.ramped == past.ramped);
    } else {
        fs_breaker_leave(under);
    }
    if (fs_gate_state(is) == FS_OPEN) EX_CHECK(same_generation(past.heir.until, is));
    if (is & FS_GATE_RAMPING) EX_CHECK(same_generation(past.heir.ramped, is));
}

static void act(action what) {
    fs_change told = {0};
    switch (what) {
    case SUCCEED:
    case FAIL: {
        fs_permit permit = fs_breaker_acquire(resolved(), past.clock, &told);
        ex_begin(permit << 8 ^ (uint64_t)what);
        if (!fs_permit_granted(permit)) return;
        fs_breaker *to = resolved();
        told.generation = 0;
        if (what == FAIL) fs_breaker_failure(to, permit, 0, past.clock, &told);
        else fs_breaker_success(to, permit, 0, past.clock, &told);
        past.told += what == FAIL;
        return;
    }
    case MOVE: move_it(false); return;
    case SHARE: move_it(true); return;
    case FORCE: fs_breaker_force(resolved(), FS_FORCED_OPEN, past.clock, &told); return;
    case CLOSE: fs_breaker_force(resolved(), FS_CLOSED_STATE, past.clock, &told); return;
    case TICK: past.clock += settings.reset_timeout + LEASE_UNIT; return;
    case END: return;
    }
}

static void body(int thread) {
    action what;
    EX_EACH(what, script[thread], 4) act(what);
}

/* Whoever is stopped here for ever, the block that counts now recovers. */
static void recovers(void) {
    static fs_breaker kept;
    memcpy(&kept, &past.heir, sizeof kept);
    fs_breaker *truth = past.moved ? &past.heir : under;
    uint64_t word = truth->gate;
    if (fs_gate_state(word) == FS_OPEN) EX_CHECK(same_generation(truth->until, word));
    fs_ns now = past.clock + settings.reset_most + settings.lease + settings.ramp + LEASE_UNIT;
    fs_change ignored = {0};
    if (fs_gate_state(word) == FS_FORCED_OPEN) fs_breaker_force(truth, FS_HALF_OPEN, now, &ignored);
    for (uint32_t i = 0; i < settings.success_threshold; i++) {
        if (fs_gate_state(fs_breaker_gate(truth)) == FS_CLOSED_STATE) break;
        ignored = (fs_change){0};
        fs_permit permit = fs_breaker_acquire(truth, now, &ignored);
        if (!EX_CHECK(fs_permit_slot(permit) != 0)) break;
        fs_breaker_success(truth, permit, 0, now, &ignored);
    }
    EX_CHECK(fs_gate_state(fs_breaker_gate(truth)) == FS_CLOSED_STATE);
    memcpy(&past.heir, &kept, sizeof kept);
}

typedef struct {
    const char *name;
    fs_state from;
    uint32_t failures;
    fs_ns ramp;
    int expected; /* its state at the end if nobody was too late for the old block, in one memory; -1: it depends */
    action script[EXPLORER_THREADS][4];
    bool weak_is_deep;
} plan;

static const plan *of_now;

static void ended(void) {
    EX_CHECK(past.moved && (under->gate & FS_GATE_MOVED));
    if (past.late || ex_now->weak || script[1][0] == SHARE) return; /* what is told to a block as it is left may be lost */
    for (uint32_t slot = 0; slot < settings.half_open_most; slot++) EX_CHECK(past.heir.lease[slot] == 0);
    if (of_now->expected >= 0) EX_CHECK((int)fs_gate_state(past.heir.gate) == of_now->expected);
    if (of_now->failures == 3) EX_CHECK(fs_gate_count(past.heir.gate) == past.told);
}

static const char *named(const void *address) {
    static char name[32];
    if (address == &under->gate) return "gate";
    if (address == &under->until) return "until";
    snprintf(name, sizeof name, "+%td", (const char *)address - (const char *)under);
    return name;
}

static const plan plans[] = {
    {"it moves while calls fail", FS_CLOSED_STATE, 3, 0, FS_CLOSED_STATE, {{FAIL}, {MOVE}, {FAIL}}, false},
    {"it moves while it opens", FS_CLOSED_STATE, 1, 0, FS_OPEN, {{FAIL}, {MOVE}}, false},
    {"it moves while two open it", FS_CLOSED_STATE, 1, 0, FS_OPEN, {{FAIL}, {MOVE}, {FAIL}}, true},
    {"it moves as its wait ends", FS_OPEN, 1, 0, -1, {{TICK, SUCCEED}, {MOVE}}, false},
    {"it moves amid a probe that fails", FS_HALF_OPEN, 1, 0, FS_OPEN, {{FAIL}, {MOVE}}, false},
    {"it moves while it recovers and ramps", FS_HALF_OPEN, 1, WAIT, -1, {{SUCCEED, FAIL}, {MOVE}}, false},
    {"it moves while an operator speaks", FS_CLOSED_STATE, 1, 0, -1, {{FORCE}, {MOVE}}, false},
    {"it is shared while it opens", FS_CLOSED_STATE, 1, 0, -1, {{FAIL}, {SHARE}}, false},
    {"it is shared amid probes", FS_HALF_OPEN, 1, 0, -1, {{SUCCEED, FAIL}, {SHARE}}, false},
    {"it is shared while it closes and opens", FS_OPEN, 1, 0, -1, {{CLOSE, FAIL}, {SHARE}}, false},
};

static void prepare(const plan *of) {
    settings = plain();
    settings.failure_threshold = of->failures;
    settings.success_threshold = settings.half_open_most = 1;
    settings.reset_most = WAIT;
    settings.ramp = of->ramp;
    memset(&past, 0, sizeof past);
    past.clock = START;
    under = in_state(settings, of->from);
    if (of->from == FS_HALF_OPEN) past.clock = START + WAIT;
    past.heir.block = under->block;
    script = of->script;
    of_now = of;
}

int main(int arguments, char **argument) {
    (void)argument;
    ex_sums sums = {0};
    rig_setup();
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++)
        for (int weak = 0; weak < 2; weak++) {
            if (weak && plans[i].weak_is_deep && arguments < 2) continue;
            prepare(&plans[i]);
            ex_plan search = {
                .name = plans[i].name, .threads = EX_THREADS_IN(script), .body = body, .always = recovers, .finally = ended,
                .place_name = named, .shared = under, .shared_bytes = sizeof *under,
                .beside = &past, .beside_bytes = sizeof past, .weak = weak,
            };
            ex_wrote = wrote;
            ex_search_and_tell(&search, &sums);
            ex_wrote = NULL;
            fs_breaker_free(under);
        }
    ex_score("all interleavings of the breaker, one that moves", &sums);
    return rig_report();
}
