/* The real breaker, all interleavings of a few threads: each swap of its gate is a row of the state table, permits are
 * conserved, each change is told once, and from each state it recovers, though all threads were stopped there for ever. */
#define EXPLORER_PLACES 40
#include "explorer.h"

#include "failsoft/breaker.h"

/* What the recorder is told, in its place. */
static void noted(const fs_decision *decision);
#define fs_recorder_note(recorder, owner, decision) noted(decision)
#define acquire acquire_within /* the rig has its own */
#include "../../csrc/breaker.c"
#undef fs_recorder_note
#undef acquire

#include "breaker_rig.h"
#include "breaker_table.h"

typedef enum {
    END = 0, SUCCEED, FAIL, IGNORE, HANG, TWICE, CLOSE, FORCE, DISABLE, OBSERVE, HALVE, UNLIMIT, TICK, LAPSE, ADOPT, DISOWN,
    FOLLOW, RETURN, HOLD, CHECK_UP, CHECK_FAILS, CHECK_HANGS, OPEN_TO_ALL,
} action;

#define ACTIONS_MOST 6
#define GENERATIONS_MOST 32

static fs_breaker *under;
static const action (*script)[ACTIONS_MOST];
static fs_breaker_config settings;
static fs_ns reserved; /* how long probes are kept for health checks */
static fs_series *series_of[EXPLORER_THREADS];

/* What the test keeps of the past. */
static struct {
    fs_ns clock;
    fs_ns opened_until;                  /* of the opening that stands */
    fs_ns now[EXPLORER_THREADS];
    fs_ns expiry[EXPLORER_THREADS];      /* of the lease a thread holds, 0: none */
    fs_permit permit[EXPLORER_THREADS];  /* whose outcome it tells */
    uint32_t told, recorded;             /* a bit a generation */
    uint32_t ramped;
    uint32_t reopenings;
    uint8_t event[EXPLORER_THREADS];     /* table_event, of the operation a thread is in */
    uint8_t state[GENERATIONS_MOST];     /* of each generation */
    uint8_t because;
    uint8_t hung;
    uint8_t adopted, disowned;
    uint8_t halved, unlimited;           /* operators who have said so */
    uint8_t checks_up[EXPLORER_THREADS]; /* is it a health check that asks? */
    uint8_t wanted[EXPLORER_THREADS];    /* what an operator forces, or a fleet */
    uint32_t looked_at[EXPLORER_THREADS]; /* the generation that a fleet has looked at */
} past;

static void set_event(int thread, table_event event, fs_permit permit) {
    past.event[thread] = (uint8_t)event;
    past.permit[thread] = permit;
}

static void noted(const fs_decision *decision) {
    if (!ex_me || decision->kind != FS_TRANSITION) return;
    uint32_t bit = UINT32_C(1) << decision->generation;
    EX_CHECK(!(past.recorded & bit));
    past.recorded |= bit;
}

/* A swap of the gate must be what the table says of this thread's operation. */
static void check_gate(int thread, uint64_t before, uint64_t after) {
    fs_state from = fs_gate_state(before), to = fs_gate_state(after);
    table_event event = (table_event)past.event[thread];
    uint32_t generation_then = fs_gate_generation(before), generation_now = fs_gate_generation(after);
    bool outcome = event == ON_SUCCESS || event == ON_FAILURE;
    if (event == ON_LIMIT) {
        EX_CHECK((before & ~FS_GATE_LIMITED) == (after & ~FS_GATE_LIMITED));
        return;
    }
    EX_CHECK((before & FS_GATE_LIMITED) == (after & FS_GATE_LIMITED)); /* the operator's word */
    if (outcome) EX_CHECK(fs_permit_generation(past.permit[thread]) == generation_then);
    if (generation_now == generation_then) {
        EX_CHECK(from == to && event != ON_OPERATOR && event != ON_FLEET && event != ON_IGNORE);
        if (event == ON_ACQUIRE) { /* the end of a ramp */
            EX_CHECK(after == (before & ~FS_GATE_RAMPING) && from == FS_CLOSED_STATE);
            return;
        }
        const table_row *row = table_row_to(from, event, to);
        if (!EX_CHECK(row != NULL)) return;
        EX_CHECK((before & FS_GATE_FLAGS) == (after & FS_GATE_FLAGS));
        if (row->answer == UP) EX_CHECK(fs_gate_count(after) == fs_gate_count(before) + 1);
        else EX_CHECK(row->answer == ZERO && fs_gate_count(after) == 0);
        uint32_t enough = from == FS_HALF_OPEN ? settings.success_threshold : settings.failure_threshold;
        if (row->when == BELOW) EX_CHECK(fs_gate_count(after) < enough);
        return;
    }
    if (!EX_CHECK(generation_now == generation_then + 1 && generation_now < GENERATIONS_MOST)) return;
    past.state[generation_now] = (uint8_t)to;
    past.because = FS_BECAUSE_OPERATOR;
    if (event == ON_OPERATOR) {
        EX_CHECK(to == past.wanted[thread] && (from != to || to == FS_CLOSED_STATE));
    } else if (event == ON_FLEET) {
        EX_CHECK(to == past.wanted[thread] && from <= FS_HALF_OPEN && (to == FS_OPEN ? from != FS_OPEN : from != FS_CLOSED_STATE));
        EX_CHECK(generation_then == past.looked_at[thread]);
        past.because = FS_BECAUSE_FLEET;
        past.reopenings += from == FS_HALF_OPEN;
    } else {
        const table_row *row = table_row_to(from, event, to);
        if (!EX_CHECK(row != NULL && row->because != FS_BECAUSE_NOTHING)) return;
        past.because = (uint8_t)row->because;
        uint32_t enough = event == ON_SUCCESS ? settings.success_threshold : settings.failure_threshold;
        if (row->when == ENOUGH) EX_CHECK(fs_gate_count(before) + 1 >= enough);
        if (row->when == WAIT_OVER)
            EX_CHECK(past.now[thread] >= past.opened_until + (past.checks_up[thread] ? 0 : reserved));
        if (from == FS_HALF_OPEN) EX_CHECK(fs_permit_slot(past.permit[thread]) != 0);
    }
    if (to == FS_OPEN) past.opened_until = past.now[thread] + settings.reset_timeout;
    if (past.because == FS_BECAUSE_PROBE_FAILED) past.reopenings++;
    if (to == FS_CLOSED_STATE) past.reopenings = 0;
    bool recovered = past.because == FS_BECAUSE_RECOVERED || (past.because == FS_BECAUSE_FLEET && to == FS_CLOSED_STATE);
    bool ramps = recovered && settings.ramp;
    EX_CHECK(((after & FS_GATE_RAMPING) != 0) == ramps);
}

static void wrote(int thread, void *address, uint64_t before, uint64_t after) {
    if (address == &under->gate) check_gate(thread, before, after);
}

static uint32_t current(void) { return fs_gate_generation(ex_fetch(&under->gate, sizeof under->gate)); }

static void hear(const fs_change *heard) {
    if (!heard->generation) return;
    uint32_t bit = UINT32_C(1) << heard->generation;
    uint32_t *set = heard->because == FS_BECAUSE_RAMPED ? &past.ramped : &past.told;
    EX_CHECK(!(*set & bit) && heard->to == past.state[heard->generation]);
    *set |= bit;
    if (heard->because != FS_BECAUSE_RAMPED) EX_CHECK(heard->from == past.state[heard->generation - 1]);
}

static bool refuses(uint8_t state) { return state == FS_OPEN || state == FS_HALF_OPEN || state == FS_FORCED_OPEN; }

/* Was there a generation in which it could be answered so? In the strict memory one of those since it was asked. */
static void check_answer(uint32_t asked, fs_permit permit) {
    bool seen = false;
    if (fs_permit_granted(permit)) {
        uint32_t of = fs_permit_generation(permit);
        EX_CHECK(of >= (ex_now->weak ? 1 : asked) && of <= current());
        EX_CHECK((fs_permit_slot(permit) != 0) == (past.state[of] == FS_HALF_OPEN));
        EX_CHECK(fs_permit_slot(permit) || !refuses(past.state[of]));
        return;
    }
    for (uint32_t of = ex_now->weak ? 1 : asked; of <= current(); of++) seen |= refuses(past.state[of]);
    EX_CHECK(permit == FS_NO_ROOM ? past.halved || settings.ramp : seen);
}

static fs_permit begin_call(int thread) {
    fs_change change_of = {0};
    uint32_t asked = current();
    past.now[thread] = past.clock;
    set_event(thread, ON_ACQUIRE, 0);
    fs_permit permit = past.checks_up[thread] ? fs_breaker_probe(under, past.now[thread], &change_of)
                                              : fs_breaker_acquire(under, past.now[thread], &change_of);
    check_answer(asked, permit);
    hear(&change_of);
    if (reserved && fs_permit_slot(permit) && !past.checks_up[thread] && fs_permit_generation(permit) == current())
        EX_CHECK(past.now[thread] >= past.opened_until + reserved);
    if (fs_permit_granted(permit) && fs_permit_slot(permit)) past.expiry[thread] = past.now[thread] + settings.lease;
    uint32_t inside = 0;
    for (int t = 0; t < ex_now->threads; t++) inside += past.expiry[t] > past.clock;
    EX_CHECK(inside <= settings.half_open_most);
    set_event(thread, ON_IGNORE, 0);
    return permit;
}

static void end_call(int thread, action how, fs_permit permit) {
    fs_change change_of = {0};
    past.now[thread] = past.clock;
    past.expiry[thread] = 0;
    set_event(thread, how == FAIL ? ON_FAILURE : how == IGNORE ? ON_IGNORE : ON_SUCCESS, permit);
    if (how == FAIL) fs_breaker_failure(under, permit, 0, past.now[thread], &change_of);
    else if (how == IGNORE) fs_breaker_ignore(under, permit);
    else fs_breaker_success(under, permit, 0, past.now[thread], &change_of);
    hear(&change_of);
    set_event(thread, ON_IGNORE, 0);
}

static void force_to(int thread, fs_state to) {
    fs_change change_of = {0};
    uint32_t asked = current();
    past.now[thread] = past.clock;
    past.wanted[thread] = (uint8_t)to;
    set_event(thread, ON_OPERATOR, 0);
    fs_breaker_force(under, to, past.now[thread], &change_of);
    hear(&change_of);
    bool was = false;
    for (uint32_t of = ex_now->weak ? 1 : asked; of <= current(); of++) was |= past.state[of] == to;
    EX_CHECK(was);
    if (to == FS_CLOSED_STATE) EX_CHECK(change_of.generation != 0);
    set_event(thread, ON_IGNORE, 0);
}

/* As the fleet says, after a look. It changes the state once, or somebody else has. */
static void follow_to(int thread, fs_state to) {
    fs_change change_of = {0};
    past.now[thread] = past.clock;
    past.wanted[thread] = (uint8_t)to;
    uint64_t seen = fs_breaker_gate(under);
    past.looked_at[thread] = fs_gate_generation(seen);
    set_event(thread, ON_FLEET, 0);
    bool done = to == FS_OPEN ? fs_breaker_open_until(under, fs_gate_generation(seen), past.clock + settings.reset_timeout,
                                                      past.clock, &change_of)
                              : fs_breaker_close(under, fs_gate_generation(seen), past.clock, &change_of);
    bool lengthened = done && to == FS_OPEN && fs_gate_state(seen) == FS_OPEN;
    EX_CHECK(change_of.generation == (done && !lengthened ? fs_gate_generation(seen) + 1 : 0));
    bool may = fs_gate_state(seen) <= FS_HALF_OPEN && (to == FS_OPEN || fs_gate_state(seen) != FS_CLOSED_STATE);
    EX_CHECK(done ? may : !may || current() != fs_gate_generation(seen));
    hear(&change_of);
    set_event(thread, ON_IGNORE, 0);
}

static void limit_to(int thread, uint64_t share) {
    set_event(thread, ON_LIMIT, 0);
    fs_breaker_limit(under, share);
    *(share < FS_ALL ? &past.halved : &past.unlimited) = 1;
    set_event(thread, ON_IGNORE, 0);
}

static void act(int thread, action what, uint64_t place) {
    switch (what) {
    case CHECK_UP: case CHECK_FAILS: case CHECK_HANGS:
        past.checks_up[thread] = 1;
        act(thread, what == CHECK_UP ? SUCCEED : what == CHECK_FAILS ? FAIL : HANG, place);
        past.checks_up[thread] = 0;
        return;
    case SUCCEED: case FAIL: case IGNORE: case HANG: case TWICE: {
        fs_permit permit = begin_call(thread);
        ex_begin(place ^ permit << 8);
        if (!fs_permit_granted(permit)) return;
        if (what == HANG) {
            past.hung++;
            return;
        }
        end_call(thread, what, permit);
        if (what != TWICE || !fs_permit_slot(permit)) return;
        ex_begin(place ^ permit << 8 ^ 128);
        uint64_t before = ex_fetch(&under->gate, sizeof under->gate);
        (void)before;
        set_event(thread, ON_IGNORE, 0); /* it has been counted: no swap of the gate is right any more */
        fs_change none = {0};
        fs_breaker_success(under, permit, 0, past.clock, &none);
        return;
    }
    case CLOSE: force_to(thread, FS_CLOSED_STATE); return;
    case FORCE: force_to(thread, FS_FORCED_OPEN); return;
    case DISABLE: force_to(thread, FS_DISABLED); return;
    case OBSERVE: force_to(thread, FS_METRICS_ONLY); return;
    case HALVE: limit_to(thread, FS_ALL / 2); return;
    case UNLIMIT: limit_to(thread, FS_ALL); return;
    case TICK: past.clock += settings.reset_timeout + LEASE_UNIT; return;
    case LAPSE: past.clock += settings.lease + LEASE_UNIT; return;
    case OPEN_TO_ALL: past.clock += reserved; return;
    case FOLLOW: follow_to(thread, FS_OPEN); return;
    case RETURN: follow_to(thread, FS_CLOSED_STATE); return;
    case HOLD: fs_breaker_hold(under, past.clock + settings.lease); return;
    case ADOPT:
        fs_breaker_adopt(under, series_of[thread]);
        past.adopted++;
        return;
    case DISOWN:
        fs_breaker_disown(under, &(fs_totals){.calls = 1, .failures = 1, .slow = 1});
        past.disowned++;
        return;
    case END: return;
    }
}

static void body(int thread) {
    for (int i = 0; i < ACTIONS_MOST && script[thread][i] != END; i++) {
        if (i) ex_begin((uint64_t)i);
        act(thread, script[thread][i], (uint64_t)i + 64);
    }
    past.now[thread] = 0;
}

/* Whoever is stopped here for ever: once its lease and the wait are over, calls that succeed close the breaker. */
static void recovers(void) {
    uint64_t word = fs_breaker_gate(under);
    uint32_t tag = fs_gate_generation(word) & 0xffff;
    if (fs_gate_state(word) == FS_OPEN) EX_CHECK((under->until & 0xffff) == tag);
    if (word & FS_GATE_RAMPING) EX_CHECK((under->ramped & 0xffff) == tag);
    EX_CHECK(past.state[tag] == fs_gate_state(word));
    fs_ns now = past.clock + settings.reset_most + settings.lease + settings.ramp + reserved + LEASE_UNIT;
    fs_change ignored = {0};
    if (fs_gate_state(word) >= FS_FORCED_OPEN) {
        bool goes = fs_breaker_acquire(under, now, &ignored) & 1;
        EX_CHECK(fs_gate_state(word) != FS_FORCED_OPEN || !goes);
        EX_CHECK(fs_breaker_gate(under) == word); /* stays as the operator said */
        fs_breaker_force(under, FS_HALF_OPEN, now, &ignored);
    }
    for (uint32_t i = 0; i < settings.success_threshold; i++) {
        if (fs_gate_state(fs_breaker_gate(under)) == FS_CLOSED_STATE) break;
        ignored = (fs_change){0};
        fs_permit permit = fs_breaker_acquire(under, now, &ignored);
        EX_CHECK(fs_gate_state(fs_breaker_gate(under)) == FS_HALF_OPEN);
        if (!EX_CHECK(fs_permit_slot(permit) != 0)) return;
        fs_breaker_success(under, permit, 0, now, &ignored);
    }
    EX_CHECK(fs_gate_state(fs_breaker_gate(under)) == FS_CLOSED_STATE);
}

static void ended(void) {
    uint32_t generation_now = current(), all = ((UINT32_C(1) << generation_now) - 1) << 1 & ~UINT32_C(3);
    EX_CHECK(past.told == all && past.recorded == all);
    for (uint32_t slot = 0; slot < FS_PROBES_MOST && !past.hung; slot++) EX_CHECK(under->lease[slot] == 0);
    uint32_t reporting = 0;
    for (const fs_series *s = first_series(under); s; s = next_series(s)) reporting++;
    EX_CHECK(reporting == past.adopted);
    const fs_totals *before = &under->before;
    EX_CHECK(before->calls == past.disowned && before->failures == past.disowned && before->slow == past.disowned);
    bool limited = fs_breaker_gate(under) & FS_GATE_LIMITED;
    EX_CHECK(!limited || (past.halved && under->share == FS_ALL / 2));
    if (past.halved && !past.unlimited) EX_CHECK(limited);
    /* What is shown of the last change is of the last change. */
    if (generation_now > 1) EX_CHECK(fs_breaker_because(under) == past.because);
    fs_state stands = (fs_state)past.state[generation_now];
    if (stands == FS_OPEN || stands == FS_HALF_OPEN) EX_CHECK(under->reopenings >> 16 == past.reopenings);
}

static const char *named(const void *address) {
    static char name[32];
    size_t at = (size_t)((const char *)address - (const char *)under);
    if (address == &under->gate) return "gate";
    if (address == &under->until) return "until";
    if (address == &under->ramped) return "ramped";
    if (address == &under->because) return "because";
    if (address == &under->changed) return "changed";
    if (address == &under->failures) return "failures";
    if (address == &under->reopenings) return "reopenings";
    if (address == &under->nonce) return "nonce";
    if (address == &under->dial) return "dial";
    if (at >= offsetof(fs_breaker, lease) && at < offsetof(fs_breaker, last)) {
        snprintf(name, sizeof name, "lease[%zu]", (at - offsetof(fs_breaker, lease)) / 8);
        return name;
    }
    snprintf(name, sizeof name, "+%zu", at);
    return name;
}

typedef struct {
    const char *name;
    fs_state from;
    uint32_t failures, successes, half_open;
    fs_ns wait, ramp;
    action script[EXPLORER_THREADS][ACTIONS_MOST];
    double growth;
    enum { SHALLOW, WEAK_IS_DEEP, DEEP } deep; /* what is searched only where there is time */
    fs_ns reserved;
} plan;

static struct { uint64_t states, ends; double schedules; uint32_t deepest; int plans; } sums[2];

static void explore(const plan *of, bool weak) {
    settings = plain();
    settings.failure_threshold = of->failures;
    settings.success_threshold = of->successes;
    settings.half_open_most = of->half_open;
    settings.reset_timeout = settings.reset_most = of->wait;
    settings.ramp = of->ramp;
    if (of->growth > 1.0) {
        settings.reset_growth = of->growth;
        settings.reset_most = 8 * of->wait;
    }
    under = made(settings);
    reserved = of->reserved;
    fs_breaker_reserve(under, reserved);
    script = of->script;
    for (int t = 0; t < EXPLORER_THREADS; t++) series_of[t] = fs_series_take(arena, SECOND, START);
    memset(&past, 0, sizeof past);
    past.clock = START;
    past.state[1] = FS_CLOSED_STATE;
    if (of->from == FS_OPEN || of->from == FS_HALF_OPEN) {
        fail_times(under, of->failures, START);
        past.opened_until = START + of->wait;
        past.state[2] = FS_OPEN;
        past.because = FS_BECAUSE_CONSECUTIVE_FAILURES;
    }
    if (of->from == FS_HALF_OPEN) {
        past.clock = START + of->wait;
        fs_change taken = {0};
        fs_breaker_ignore(under, fs_breaker_probe(under, past.clock, &taken));
        past.state[3] = FS_HALF_OPEN;
        past.because = FS_BECAUSE_WAIT_OVER;
    }
    if (of->from > FS_HALF_OPEN) {
        force(under, of->from, START);
        past.state[2] = (uint8_t)of->from;
        past.because = FS_BECAUSE_OPERATOR;
    }
    past.told = past.recorded = ((UINT32_C(1) << current()) - 1) << 1 & ~UINT32_C(3);
    int threads = 0;
    while (threads < EXPLORER_THREADS && of->script[threads][0] != END) threads++;
    ex_plan search = {
        .name = of->name, .threads = threads, .body = body, .always = recovers, .finally = ended, .place_name = named, .shared = arena,
        .shared_bytes = ((size_t)1 << 14) * FS_LINE,
        .beside = &past, .beside_bytes = sizeof past, .weak = weak,
    };
    ex_wrote = wrote;
    ex_found found = ex_explore(&search);
    ex_wrote = NULL;
    printf("%-44s %-6s %9" PRIu64 " states %8" PRIu64 " ends %9.3g schedules %4u deep\n", of->name,
           weak ? "weak" : "strict", found.states, found.ends, found.schedules, found.deepest);
    sums[weak].states += found.states;
    sums[weak].ends += found.ends;
    sums[weak].schedules += found.schedules;
    sums[weak].plans++;
    if (found.deepest > sums[weak].deepest) sums[weak].deepest = found.deepest;
    fs_breaker_free(under);
}

static const plan plans[] = {
    {"two failures open it once", FS_CLOSED_STATE, 2, 1, 1, WAIT, 0, {{FAIL}, {FAIL}}, 0, SHALLOW, 0},
    {"each failure opens it", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{FAIL}, {FAIL}, {SUCCEED}}, 0, SHALLOW, 0},
    {"failures among successes", FS_CLOSED_STATE, 2, 1, 1, WAIT, 0, {{FAIL, FAIL}, {SUCCEED, FAIL}}, 0, SHALLOW, 0},
    {"no wait, flapping", FS_CLOSED_STATE, 1, 1, 1, 0, 0, {{FAIL, FAIL}, {FAIL}}, 0, WEAK_IS_DEEP, 0},
    {"open: two want the one probe", FS_OPEN, 1, 1, 1, WAIT, 0, {{TICK, SUCCEED}, {SUCCEED, SUCCEED}}, 0, SHALLOW, 0},
    {"open: one recovers, one fails", FS_OPEN, 1, 1, 2, WAIT, 0, {{TICK, SUCCEED}, {FAIL, FAIL}}, 0, SHALLOW, 0},
    {"half-open: three probes, two slots", FS_HALF_OPEN, 1, 2, 2, WAIT, 0, {{SUCCEED}, {SUCCEED}, {FAIL}}, 0, WEAK_IS_DEEP, 0},
    {"half-open: a probe hangs, its lease lapses", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{HANG}, {SUCCEED}, {LAPSE}}, 0, SHALLOW, 0},
    {"half-open: a late probe meets its successor", FS_HALF_OPEN, 1, 2, 1, WAIT, 0, {{FAIL}, {SUCCEED, SUCCEED}, {LAPSE}}, 0, SHALLOW, 0},
    {"half-open: a probe told twice", FS_HALF_OPEN, 1, 2, 2, WAIT, 0, {{TWICE}, {TWICE}}, 0, SHALLOW, 0},
    {"half-open: ignored probes", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{IGNORE, IGNORE}, {SUCCEED}}, 0, SHALLOW, 0},
    {"operator closes what fails", FS_CLOSED_STATE, 2, 1, 1, WAIT, 0, {{FAIL, FAIL}, {CLOSE}}, 0, SHALLOW, 0},
    {"operator forces it open amid a probe", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{SUCCEED}, {FORCE}, {FAIL}}, 0, WEAK_IS_DEEP, 0},
    {"operators disagree", FS_OPEN, 1, 1, 1, 0, 0, {{DISABLE}, {CLOSE}, {FAIL}}, 0, WEAK_IS_DEEP, 0},
    {"metrics only, then closed", FS_METRICS_ONLY, 1, 1, 1, WAIT, 0, {{FAIL, SUCCEED}, {CLOSE}}, 0, SHALLOW, 0},
    {"limits amid transitions", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{FAIL}, {HALVE}, {SUCCEED}}, 0, SHALLOW, 0},
    {"limits against each other", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{HALVE, SUCCEED}, {UNLIMIT}}, 0, SHALLOW, 0},
    {"three series report to it", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{ADOPT}, {ADOPT}, {ADOPT}}, 0, SHALLOW, 0},
    {"calls disowned", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{DISOWN}, {DISOWN}}, 0, SHALLOW, 0},
    {"a recovery ramps", FS_HALF_OPEN, 1, 1, 1, WAIT, WAIT, {{SUCCEED, SUCCEED}, {TICK, FAIL}}, 0, SHALLOW, 0},
    {"waits grow and start again", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{FAIL, SUCCEED}, {TICK, SUCCEED}}, 2.0, SHALLOW, 0},
    {"all at once", FS_HALF_OPEN, 1, 2, 2, WAIT, 0, {{FAIL}, {SUCCEED, FAIL}, {CLOSE}}, 0, DEEP, 0},
    {"a fleet opens what fails", FS_CLOSED_STATE, 1, 1, 1, WAIT, 0, {{FAIL}, {FOLLOW}, {SUCCEED}}, 0, WEAK_IS_DEEP, 0},
    {"a fleet opens amid a probe", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{SUCCEED}, {FOLLOW}}, 0, SHALLOW, 0},
    {"a fleet closes amid a probe", FS_HALF_OPEN, 1, 1, 1, WAIT, WAIT, {{FAIL}, {RETURN}}, 0, SHALLOW, 0},
    {"a fleet lengthens a wait", FS_OPEN, 1, 1, 1, WAIT, 0, {{TICK, FAIL}, {FOLLOW}, {SUCCEED}}, 0, WEAK_IS_DEEP, 0},
    {"an operator and a fleet", FS_OPEN, 1, 1, 1, WAIT, 0, {{DISABLE}, {RETURN}, {FOLLOW}}, 0, WEAK_IS_DEEP, 0},
    {"a fleet holds the probes back", FS_OPEN, 1, 1, 1, WAIT, 0, {{TICK, SUCCEED}, {HOLD, RETURN}}, 0, SHALLOW, 0},
    {"reserved: a health check probes, callers wait", FS_OPEN, 1, 1, 1, WAIT, 0, {{TICK, CHECK_UP}, {SUCCEED, SUCCEED}}, 0, SHALLOW, LEASE},
    {"a reservation lapses while a check probes", FS_OPEN, 1, 1, 2, WAIT, 0, {{CHECK_FAILS}, {SUCCEED}, {TICK, OPEN_TO_ALL}}, 0, WEAK_IS_DEEP, LEASE / 2},
    {"a reservation lapses as a check takes the lease", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{CHECK_UP}, {SUCCEED}, {OPEN_TO_ALL}}, 0, SHALLOW, LEASE / 2},
    {"a checker dies with the reserved probe", FS_HALF_OPEN, 1, 1, 1, WAIT, 0, {{CHECK_HANGS}, {SUCCEED}, {LAPSE}}, 0, SHALLOW, LEASE},
    {"closed after an opening", FS_OPEN, 1, 1, 1, 0, 0, {{FAIL, FAIL}, {CLOSE}}, 0, SHALLOW, 0},
};

int main(int arguments, char **argument) {
    (void)argument;
    bool deep = arguments > 1;
    rig_setup();
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && !check_failed; i++) {
        if (deep || plans[i].deep < DEEP) explore(&plans[i], false);
        if ((deep && plans[i].deep < DEEP) || plans[i].deep == SHALLOW) explore(&plans[i], true);
    }
    for (int weak = 0; weak < 2; weak++) {
        const char *memory = weak ? "C11's release and acquire" : "one memory";
        printf("score: all interleavings of the breaker, %s | states | %" PRIu64 " | %d configurations, %.3g schedules, depth %u\n",
               memory, sums[weak].states, sums[weak].plans, sums[weak].schedules, sums[weak].deepest);
    }
    printf("score: the breaker closes again from every state, whoever is stopped there | stuck | %d | %" PRIu64 " states\n",
           check_failed != 0, sums[0].states + sums[1].states);
    return rig_report();
}
