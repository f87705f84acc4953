/* breaker.h - the circuit breaker.
 *
 * What:    decides whether a call may go, and learns from how it ended. One 64-bit word, the gate, holds the whole
 *          decision, and each transition is one compare-and-swap of it:
 *
 *              63          32 31        16 15      3 2   0
 *              [ generation ] [  count   ] [ flags ] [state]
 *
 *          generation  goes up by one at each change of state. A permit carries it; an outcome counts only for the
 *                      generation that issued its permit, so a late answer never flips a newer state.
 *          count       consecutive failures (CLOSED, METRICS_ONLY) or consecutive successes (HALF_OPEN). Saturates.
 *          flags       WATCHED: every outcome must be told (an exact count window is configured).
 *                      MOVED: this block is no longer the truth; resolve the handle again.
 *                      LIMITED: an operator lets only `share` of the calls go.
 *                      RAMPING: a recovery lets more of them go as time passes (CLOSED only).
 *                      CHAOS: faults are injected on purpose; the call path asks its owner for each call.
 *
 *          A lower half of zero is the common case: closed, no failure pending, nobody watching. The call path reads
 *          the word, goes, reads it again, and an equal word says that the permit is still good and a success has
 *          nothing to tell. You pay for failure, not for success.
 *
 *          Capacity is a part of the gate too: LIMITED and RAMPING calls ask one dial (degraded.h), the lower share of
 *          the two counts. Probes are never limited; a refusal for capacity is told apart by its permit, FS_NO_ROOM.
 *
 * States:          acquire                 success              failure                    operator
 *      CLOSED      go                      count = 0            count + 1, a rule trips:   -> any
 *                                                               -> OPEN
 *      OPEN        now < until: refuse     late: dropped        late: dropped              -> any
 *                  else -> HALF_OPEN
 *      HALF_OPEN   a free lease: go        count + 1; enough:   -> OPEN                    -> any
 *                  else refuse             -> CLOSED
 *      FORCED_OPEN refuse                  dropped              dropped                    -> any
 *      DISABLED    go                      dropped              dropped                    -> any
 *      METRICS_ONLY go                     count = 0            count + 1                  -> any
 *
 *          Rules, in this order, asked when a failure is recorded (a success cannot raise the rate of failures):
 *          consecutive failures; failure rate; slow rate, which a slow success asks too; a latency quantile is asked by the owner of the histogram
 *          (fs_breaker_trip). Rates need `minimum_calls` and read the time windows of all series of this breaker, or
 *          the count window. What happened before the breaker last closed does not count.
 *
 *          The end of a wait is a word of its own, {tag of its generation, microseconds}, stored before the gate that
 *          it belongs to: whoever sees OPEN sees its wait, whoever dies in between harms nobody. So is the end of a
 *          ramp, in another word: who tries to open a ramping breaker, and is outrun, has stored his wait by then. And so is
 *          the number of reopenings, which the next wait grows with. What is only shown (why, how many failures) is said after
 *          the gate, each with its generation: who was held up there does not speak over who came later.
 *
 *          A health check may keep the probes to itself: for `reserved` after the wait only fs_breaker_probe is admitted.
 *          The reservation lapses by itself, so a checker that died holds nothing up.
 *
 *          A fleet of processes may open and close it from outside, if the generation is still the one that was looked at,
 *          and may hold all probes back until a stated time, because another process probes for all. Who is to probe is let
 *          go until another stated time. Both lapse by themselves. Calls held back are counted: somebody wants to probe.
 *
 *          Probes are leases. Each of the half-open slots holds {expiry, nonce} and is taken, and given back, by one
 *          swap. A holder that hangs or dies loses the slot when the lease expires and somebody wants it; its late
 *          answer then no longer matches the nonce. Nothing can hold a breaker half-open.
 * Units:   fs_ns, CLOCK_MONOTONIC. Waits end on whole microseconds and leases on whole 10 microseconds, rounded up.
 * Threads: everything is lock-free, and nothing waits.
 * Errors:  fs_breaker_init answers FS_INVALID outside the domain of a field; nothing else can fail.
 */
#ifndef FAILSOFT_BREAKER_H
#define FAILSOFT_BREAKER_H

#include "failsoft/degraded.h"
#include "failsoft/histogram.h"
#include "failsoft/recorder.h"

typedef enum {
    FS_CLOSED_STATE = 0, FS_OPEN, FS_HALF_OPEN, FS_FORCED_OPEN, FS_DISABLED, FS_METRICS_ONLY, FS_STATES,
} fs_state;

typedef enum {
    FS_BECAUSE_NOTHING = 0,
    FS_BECAUSE_CONSECUTIVE_FAILURES,
    FS_BECAUSE_FAILURE_RATE,
    FS_BECAUSE_SLOW_RATE,
    FS_BECAUSE_LATENCY,
    FS_BECAUSE_PROBE_FAILED,
    FS_BECAUSE_WAIT_OVER,
    FS_BECAUSE_RECOVERED,
    FS_BECAUSE_OPERATOR,
    FS_BECAUSE_RAMPED, /* no change of state: the ramp after a recovery is over */
    FS_BECAUSE_FLEET,
} fs_because;

/* Bit 0 is set in every permit; without it the call is refused, by the state (0) or for capacity (FS_NO_ROOM). {generation:32, unused:3, nonce:20, slot+1:8, 1}, slot+1 = 0 for a call that is no probe. */
typedef uint64_t fs_permit;

#define FS_GATE_STATE UINT64_C(0x7)
#define FS_GATE_WATCHED UINT64_C(0x8)
#define FS_GATE_MOVED UINT64_C(0x10)
#define FS_GATE_LIMITED UINT64_C(0x20)
#define FS_GATE_RAMPING UINT64_C(0x40)
#define FS_GATE_CHAOS UINT64_C(0x80)
#define FS_GATE_FLAGS UINT64_C(0xfff8)
#define FS_NO_ROOM UINT64_C(2)
#define FS_COUNT_MOST 0xffff
#define FS_PROBES_MOST 64

typedef struct {
    fs_ns reset_timeout;        /* first wait in OPEN */
    fs_ns reset_most;           /* waits grow to this at most */
    fs_ns lease;                /* a probe's life, > 0 */
    fs_ns slow;                 /* a call this long or longer is slow; FS_FOREVER: none is */
    fs_ns latency_limit;        /* see fs_breaker_trip; 0: no such rule */
    double latency_quantile;
    double reset_growth;        /* >= 1 */
    double reset_jitter;        /* >= 0; a wait is lengthened by up to this share of itself */
    double failure_rate;        /* (0, 1]; above 1: no such rule */
    double slow_rate;
    uint32_t failure_threshold; /* 0: no such rule */
    uint32_t success_threshold; /* 1 .. FS_COUNT_MOST */
    uint32_t half_open_most;    /* 1 .. FS_PROBES_MOST */
    uint32_t minimum_calls;     /* >= 1 */
    uint32_t last;              /* size of the count window, 0: rates are over time */
    fs_ns ramp;                 /* from a recovery to full capacity; 0: at once */
    uint64_t ramp_from;         /* share let go right after a recovery, < FS_ALL */
} fs_breaker_config;

typedef struct {
    fs_block block;
    uint64_t gate;
    uint64_t until;                      /* end of the wait: {microseconds:48, generation:16} */
    uint64_t reopenings;                 /* consecutive, from HALF_OPEN: {number:48, generation:16}, as the wait */
    fs_ns changed;                       /* when */
    fs_span series;                      /* first series that reports here, 0: none */
    uint32_t nonce;
    uint32_t failures;                   /* consecutive ones when it last opened from CLOSED: {generation:16, number:16} */
    uint32_t because;                    /* of the last change: {generation:16, unused:8, fs_because:8} */
    fs_span member;                      /* shared by processes: its entry in their directory, 0: it is this process's own */
    uint32_t unused;
    uint64_t share;                      /* that an operator lets go, while LIMITED */
    uint64_t dial;
    fs_ns reserved;
    uint64_t ramped;                     /* end of the ramp, as of the wait */
    fs_ns held;                          /* no probe goes before */
    fs_ns let;                           /* but until then they go all the same */
    uint64_t held_back;                  /* calls */
    fs_recorder recorder;
    fs_breaker_config config;
    fs_totals before;                    /* what the series had ever seen when the breaker last closed, and disowned */
    uint64_t salt;                       /* decorrelates waits of processes that trip together */
    uint64_t lease[FS_PROBES_MOST];      /* {expiry:44, nonce:20}; 0: free */
    fs_last last;
} fs_breaker;

_Static_assert(sizeof(fs_breaker) % 8 == 0, "the breaker is part of the layout");

/* What a call changed, for whoever tells listeners. The caller sets `generation` to 0, and it still is where nothing
 * changed; from == to is a closed breaker closed afresh by an operator, or the end of a ramp. */
typedef struct {
    fs_state from, to;
    fs_because because;
    uint32_t generation;
    uint32_t failures;
} fs_change;

typedef struct {
    fs_state state;
    fs_because because;
    uint32_t generation;
    uint32_t failures;      /* consecutive, or those that tripped it */
    uint32_t probes;        /* leases held at `now` */
    fs_totals totals;       /* that the rates are read from */
    fs_ns retry_after;      /* until the wait is over; 0: over; FS_FOREVER: no wait runs */
    fs_ns changed;
    uint64_t share;         /* of the calls that are let go now: FS_ALL, less while limited or ramping, 0 while refusing */
} fs_breaker_status;

static inline fs_state fs_gate_state(uint64_t gate) { return (fs_state)(gate & FS_GATE_STATE); }
static inline uint32_t fs_gate_count(uint64_t gate) { return (uint32_t)(gate >> 16) & FS_COUNT_MOST; }
static inline uint32_t fs_gate_generation(uint64_t gate) { return (uint32_t)(gate >> 32); }

/* Nothing stands in the way and nothing has to be told. */
static inline bool fs_gate_clear(uint64_t gate) { return (uint32_t)gate == 0; }

static inline uint64_t fs_breaker_gate(const fs_breaker *breaker) { return fs_load_acquire(&breaker->gate); }

/* The permit of a call that went through a clear gate. */
static inline fs_permit fs_permit_of(uint64_t gate) { return (gate & ~UINT64_C(0xffffffff)) | 1; }
static inline uint32_t fs_permit_generation(fs_permit permit) { return (uint32_t)(permit >> 32); }
static inline uint32_t fs_permit_slot(fs_permit permit) { return (uint32_t)(permit >> 1) & 0xff; }

/* A breaker of its own block, closed. NULL: no room. The config must have passed fs_breaker_check. */
fs_breaker *fs_breaker_take(fs_arena *arena, const fs_breaker_config *config, fs_ns now);
void fs_breaker_free(fs_breaker *breaker);
fs_status fs_breaker_check(const fs_breaker_config *config);

/* Let a series report here, for the rates. */
void fs_breaker_adopt(fs_breaker *breaker, fs_series *series);

/* The same for any list of series: *head is the span of the first from `owner`. */
void fs_series_list(fs_block *owner, fs_span *head, fs_series *series);

/* What the series of all processes have seen, of a breaker that they share: within the window, and ever. Set by who
 * shares (members.h). */
extern void (*fs_breaker_members_totals)(const fs_breaker *breaker, fs_ns now, fs_totals *recent, fs_totals *ever);

/* A copy of the breaker in another arena, to be shared: state, counts, leases and decisions go along, the series stay.
 * The old block is not marked yet. NULL: no room. */
fs_breaker *fs_breaker_copy(const fs_breaker *breaker, fs_arena *arena);

/* Let whoever looks at this block look for the truth elsewhere. */
void fs_breaker_leave(fs_breaker *breaker);

/* Do two say the same? */
bool fs_breaker_config_same(const fs_breaker_config *one, const fs_breaker_config *other);

/* Why it changed last, and how many failures in a row opened it last. */
static inline fs_because fs_breaker_because(const fs_breaker *breaker) {
    return (fs_because)(fs_load_relaxed(&breaker->because) & 0xff);
}
static inline uint32_t fs_breaker_failures(const fs_breaker *breaker) {
    return fs_load_relaxed(&breaker->failures) & FS_COUNT_MOST;
}

static inline bool fs_permit_granted(fs_permit permit) { return permit & 1; }

/* May a call go? The gate is not clear, or the caller wants a permit. */
fs_permit fs_breaker_acquire(fs_breaker *breaker, fs_ns now, fs_change *change);

/* The same for a health check, to which reserved probes are open. And keep them for it, for so long after each wait. */
fs_permit fs_breaker_probe(fs_breaker *breaker, fs_ns now, fs_change *change);
void fs_breaker_reserve(fs_breaker *breaker, fs_ns reserved);

/* Open it until `end`, or close it, because a fleet has. False, and nothing has changed, if its generation is another by
 * now, or an operator has put it where it is, or it is closed already. Where it is OPEN, a later end lengthens its wait,
 * in the same generation. */
bool fs_breaker_open_until(fs_breaker *breaker, uint32_t generation, fs_ns end, fs_ns now, fs_change *change);
bool fs_breaker_close(fs_breaker *breaker, uint32_t generation, fs_ns now, fs_change *change);

/* Hold every probe back until `held`, those of health checks too; 0: none. But let them go until `let`; 0: no longer. Two
 * words, because those who follow a fleet may be many, and one of them is let. */
void fs_breaker_hold(fs_breaker *breaker, fs_ns held);
void fs_breaker_let(fs_breaker *breaker, fs_ns let);
static inline uint64_t fs_breaker_held_back(const fs_breaker *breaker) { return fs_load_relaxed(&breaker->held_back); }

/* Let only a share of the calls go, from now on; FS_ALL: all of them again. */
void fs_breaker_limit(fs_breaker *breaker, uint64_t share);

/* Mark the gate, so that no call takes it for clear while faults are injected; or no longer. The breaker itself decides
 * as ever, and no change of state or place takes the mark away. */
void fs_breaker_chaos(fs_breaker *breaker, bool on);

/* The share that is let go now by limit and ramp, whatever the state. */
uint64_t fs_breaker_share(const fs_breaker *breaker, fs_ns now);

/* Record a decision about a call. */
void fs_breaker_note(fs_breaker *breaker, fs_decision *decision);

/* How it ended, once for each permit. The caller has recorded the call in its series before. `duration` decides
 * about slow; 0 where it is not known. Ignoring gives a probe's lease back and counts nothing. */
void fs_breaker_success(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change);
void fs_breaker_failure(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change);
void fs_breaker_ignore(fs_breaker *breaker, fs_permit permit);

/* Take a permit back before anything was done with it, as if it had never been asked for. `gate` is what the gate was
 * when it was. */
void fs_breaker_withdraw(fs_breaker *breaker, fs_permit permit, uint64_t gate, fs_ns now);

/* Would an outcome under this permit count in the rates? Only while CLOSED or METRICS_ONLY, in the same generation.
 * And keep calls that do not out of them, once they have been recorded apart in a series (they took their time). */
bool fs_breaker_counts(const fs_breaker *breaker, fs_permit permit);
void fs_breaker_disown(fs_breaker *breaker, const fs_totals *calls);

/* Open a closed breaker for a reason found elsewhere (a latency quantile), if `permit` is of its generation. */
void fs_breaker_trip(fs_breaker *breaker, fs_permit permit, fs_because because, fs_ns now, fs_change *change);

/* What an operator says. To CLOSED starts afresh; to the state it is in already changes nothing (CLOSED excepted). */
void fs_breaker_force(fs_breaker *breaker, fs_state state, fs_ns now, fs_change *change);

/* Until the wait is over; 0: it is; FS_FOREVER: no wait runs. */
fs_ns fs_breaker_retry_after(const fs_breaker *breaker, fs_ns now);

/* Apply the latency rule, if there is one: the quantile of what `series` holds within its window. */
void fs_breaker_watch_latency(fs_breaker *breaker, fs_series *series, fs_permit permit, fs_ns now, fs_change *change);

void fs_breaker_read(const fs_breaker *breaker, fs_ns now, fs_breaker_status *status);

/* Move the breaker to a new block, where `config` holds (NULL: as before): leases, counts and state go along, the old
 * block forwards. A count window of another size starts empty. NULL: no room, nothing has changed. Outcomes that other
 * threads record during the move may be lost; callers keep them out where they can. */
fs_breaker *fs_breaker_move(fs_breaker *breaker, const fs_breaker_config *config);

#endif
