# The alphabet of the C core: what its public headers declare. No logic here.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "failsoft/status.h" nogil:
    ctypedef enum fs_status:
        FS_OK
        FS_NO_MEMORY
        FS_INVALID

cdef extern from "failsoft/clock.h" nogil:
    ctypedef uint64_t fs_ns
    ctypedef uint64_t fs_ticks
    ctypedef struct fs_clock_state:
        uint32_t source
        uint32_t anomalies
    const uint64_t FS_FOREVER
    const uint32_t FS_CLOCK_MONOTONIC
    const uint32_t FS_CLOCK_COUNTER
    const uint32_t FS_CLOCK_FAKE
    fs_clock_state fs_clock
    void fs_clock_begin()
    void fs_clock_settle()
    fs_ns fs_now()
    fs_ticks fs_stamp()
    fs_ns fs_ticks_to_ns(fs_ticks ticks)
    void fs_clock_check()
    void fs_clock_fake(bint on)
    void fs_clock_fake_set(fs_ns now)
    void fs_clock_skew(int64_t ticks)

cdef extern from "failsoft/rng.h" nogil:
    ctypedef struct fs_rng:
        pass
    void fs_rng_setup()
    void fs_rng_seed(fs_rng *rng, uint64_t seed)
    void fs_rng_seed_fresh(fs_rng *rng)
    void fs_rng_refresh(fs_rng *rng)

cdef extern from "failsoft/backoff.h" nogil:
    ctypedef enum fs_jitter:
        FS_JITTER_NONE
        FS_JITTER_FULL
        FS_JITTER_EQUAL
        FS_JITTER_DECORRELATED
    ctypedef struct fs_backoff:
        pass
    fs_status fs_backoff_init(fs_backoff *backoff, fs_ns initial, fs_ns maximum, double multiplier, fs_jitter jitter)
    fs_ns fs_backoff_delay(const fs_backoff *backoff, uint64_t attempt, fs_ns previous, fs_rng *rng)

cdef extern from "failsoft/arena.h" nogil:
    ctypedef int32_t fs_span
    ctypedef struct fs_block:
        pass
    ctypedef struct fs_arena:
        uint32_t capacity
        uint32_t used
        uint32_t free_lines
    const uint32_t FS_LINE
    fs_arena *fs_arena_private()
    void fs_arena_free(fs_block *block)
    fs_span fs_arena_span(const fs_block *origin, const fs_block *to)

cdef extern from "failsoft/window.h" nogil:
    ctypedef struct fs_totals:
        uint64_t calls
        uint64_t sum
        uint64_t failures
        uint64_t slow

cdef extern from "failsoft/histogram.h" nogil:
    ctypedef enum fs_event_kind:
        FS_RETRIES
        FS_FALLBACKS
        FS_DEDUPLICATED
        FS_REJECTED
        FS_TIMEOUTS
        FS_IGNORED
        FS_UNRECORDED
        FS_HEDGES
        FS_EVENTS
    ctypedef enum fs_span_of_time:
        FS_EVER
        FS_RECENT
    ctypedef struct fs_slices:
        fs_totals live
    ctypedef struct fs_histogram:
        fs_slices slices
    ctypedef struct fs_series:
        fs_block block
        fs_ns began
        uint32_t name
        uint32_t *events
    const uint32_t FS_OCTAVES
    const uint32_t FS_CELLS
    uint64_t fs_histogram_middle(uint32_t index)
    void fs_histogram_record_soon(fs_histogram *histogram, uint64_t ns, fs_ticks stamp)
    void fs_histogram_record(fs_histogram *histogram, uint64_t ns, fs_ticks stamp)
    const uint64_t FS_VALUE_MOST
    const uint32_t FS_CELL_FULL
    bint fs_slices_due(const fs_slices *window, fs_ticks stamp)
    void fs_histogram_turn(fs_histogram *histogram, fs_ns now, fs_ticks stamp)
    void fs_histogram_repeat(fs_histogram *histogram, uint64_t ns, uint32_t count)
    bint fs_histogram_record_many(fs_histogram *histogram, const int64_t *ns, size_t count, fs_ticks stamp)
    fs_series *fs_series_take(fs_arena *arena, fs_ns window, fs_ns now)
    void fs_series_free(fs_series *series)
    fs_histogram *fs_series_have(const fs_series *series, uint32_t stripe)
    fs_histogram *fs_series_stripe(fs_series *series, uint32_t stripe)
    void fs_series_recent(fs_series *series, fs_ns now, fs_totals *totals)
    void fs_series_ever(fs_series *series, fs_totals *totals)
    void fs_series_extremes(fs_series *series, uint64_t *low, uint64_t *high)
    uint64_t fs_series_clipped(const fs_series *series)
    uint64_t fs_series_quantiles(fs_series *series, fs_span_of_time span, const double *q, size_t count, uint64_t *out)
    uint64_t fs_series_cells(fs_series *series, fs_span_of_time span, uint64_t *cells)
    uint64_t fs_series_counts_below(fs_series *series, fs_span_of_time span, const uint64_t *bounds, size_t count,
                                    uint64_t *below, fs_totals *totals)
    fs_status fs_series_merge(fs_series *series, fs_series *other)
    size_t fs_series_bytes(const fs_series *series)
    void fs_series_note(fs_series *series, fs_event_kind kind, uint32_t count)
    void fs_histogram_note(fs_histogram *histogram, fs_ticks stamp, bint failed, bint slow)
    void fs_histogram_outcome(fs_histogram *histogram, bint failed, bint slow)

cdef extern from "failsoft/degraded.h" nogil:
    const uint64_t FS_ALL
    const uint64_t FS_DIAL_START
    uint64_t fs_share_of(double capacity)
    double fs_capacity_of(uint64_t share)
    bint fs_dial_admits(uint64_t *dial, uint64_t share)

cdef extern from "failsoft/budget.h" nogil:
    ctypedef struct fs_budget_config:
        double share
        double floor
        fs_ns window
    ctypedef struct fs_payer:
        pass
    ctypedef struct fs_budget:
        fs_block block
        double balance
        uint64_t retries
        uint64_t hedges
        uint64_t refused
    ctypedef struct fs_budget_status:
        double balance
        double full
        uint64_t retries
        uint64_t hedges
        uint64_t refused
    fs_budget *fs_budget_take(fs_arena *arena, const fs_budget_config *config, fs_ns now)
    void fs_budget_free(fs_budget *budget)
    void fs_budget_configure(fs_budget *budget, const fs_budget_config *config, fs_ns now)
    void fs_payer_begin(fs_payer *payer, fs_ns now)
    void fs_budget_pay(fs_budget *budget, fs_payer *payer, uint64_t calls, fs_ns now)
    bint fs_budget_retry(fs_budget *budget, fs_payer *payer, fs_ns now)
    bint fs_budget_hedge(fs_budget *budget, fs_ns now)
    void fs_budget_read(fs_budget *budget, fs_ns now, fs_budget_status *status)

cdef extern from "failsoft/recorder.h" nogil:
    ctypedef enum fs_decision_kind:
        FS_REFUSAL
        FS_LIMIT
        FS_CAPACITY
    ctypedef struct fs_decision:
        fs_ns first
        fs_ns last
        double number
        uint32_t generation
        uint32_t count
        uint32_t operation
        uint8_t kind
        uint8_t because
        uint8_t state
        uint8_t detail
    ctypedef struct fs_recorder:
        pass
    const uint32_t FS_DECISIONS
    uint32_t fs_recorder_read(const fs_recorder *recorder, const fs_block *owner, fs_decision *out)

cdef extern from "failsoft/breaker.h" nogil:
    ctypedef enum fs_state:
        FS_CLOSED_STATE
        FS_OPEN
        FS_HALF_OPEN
        FS_FORCED_OPEN
        FS_DISABLED
        FS_METRICS_ONLY
        FS_STATES
    ctypedef enum fs_because:
        FS_BECAUSE_NOTHING
        FS_BECAUSE_OPERATOR
    ctypedef uint64_t fs_permit
    ctypedef struct fs_breaker_config:
        fs_ns reset_timeout
        fs_ns reset_most
        fs_ns lease
        fs_ns slow
        fs_ns latency_limit
        double latency_quantile
        double reset_growth
        double reset_jitter
        double failure_rate
        double slow_rate
        uint32_t failure_threshold
        uint32_t success_threshold
        uint32_t half_open_most
        uint32_t minimum_calls
        uint32_t last
        fs_ns ramp
        uint64_t ramp_from
    ctypedef struct fs_breaker:
        fs_block block
        fs_span series
        fs_totals before
        fs_recorder recorder
        fs_breaker_config config
    ctypedef struct fs_change:
        fs_state origin "from"
        fs_state to
        fs_because because
        uint32_t generation
        uint32_t failures
    ctypedef struct fs_breaker_status:
        fs_state state
        fs_because because
        uint32_t generation
        uint32_t failures
        uint32_t probes
        fs_totals totals
        fs_ns retry_after
        fs_ns changed
        uint64_t share
    const uint64_t FS_NO_ROOM
    bint fs_permit_granted(fs_permit permit)
    uint64_t fs_breaker_gate(const fs_breaker *breaker)
    bint fs_gate_clear(uint64_t gate)
    fs_permit fs_permit_of(uint64_t gate)
    fs_breaker *fs_breaker_take(fs_arena *arena, const fs_breaker_config *config, fs_ns now)
    void fs_breaker_free(fs_breaker *breaker)
    fs_status fs_breaker_check(const fs_breaker_config *config)
    void fs_breaker_adopt(fs_breaker *breaker, fs_series *series)
    fs_permit fs_breaker_acquire(fs_breaker *breaker, fs_ns now, fs_change *change)
    void fs_breaker_success(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change)
    void fs_breaker_failure(fs_breaker *breaker, fs_permit permit, fs_ns duration, fs_ns now, fs_change *change)
    void fs_breaker_ignore(fs_breaker *breaker, fs_permit permit)
    bint fs_breaker_counts(const fs_breaker *breaker, fs_permit permit)
    void fs_breaker_watch_latency(fs_breaker *breaker, fs_series *series, fs_permit permit, fs_ns now, fs_change *change)
    void fs_breaker_force(fs_breaker *breaker, fs_state state, fs_ns now, fs_change *change)
    bint fs_breaker_open_until(fs_breaker *breaker, uint32_t generation, fs_ns end, fs_ns now, fs_change *change)
    bint fs_breaker_close(fs_breaker *breaker, uint32_t generation, fs_ns now, fs_change *change)
    void fs_breaker_hold(fs_breaker *breaker, fs_ns held)
    void fs_breaker_let(fs_breaker *breaker, fs_ns let)
    uint64_t fs_breaker_held_back(const fs_breaker *breaker)
    void fs_breaker_read(const fs_breaker *breaker, fs_ns now, fs_breaker_status *status)
    fs_permit fs_breaker_probe(fs_breaker *breaker, fs_ns now, fs_change *change)
    void fs_breaker_reserve(fs_breaker *breaker, fs_ns reserved)
    void fs_breaker_limit(fs_breaker *breaker, uint64_t share)
    const uint64_t FS_GATE_CHAOS
    void fs_breaker_chaos(fs_breaker *breaker, bint on)
    uint64_t fs_breaker_share(const fs_breaker *breaker, fs_ns now)
    void fs_breaker_note(fs_breaker *breaker, fs_decision *decision)
    fs_breaker *fs_breaker_move(fs_breaker *breaker, const fs_breaker_config *config)
    fs_breaker *fs_breaker_copy(const fs_breaker *breaker, fs_arena *arena)
    void fs_breaker_leave(fs_breaker *breaker)
    void fs_series_list(fs_block *owner, fs_span *head, fs_series *series)

cdef extern from "failsoft/limiter.h" nogil:
    ctypedef struct fs_limiter:
        uint64_t interval
        double rate
        uint64_t burst
    fs_status fs_limiter_set(fs_limiter *limiter, double rate, uint64_t burst, fs_ticks stamp)
    fs_ns fs_limiter_when(const fs_limiter *limiter, fs_ticks stamp, uint64_t n)
    double fs_limiter_tokens(const fs_limiter *limiter, fs_ticks stamp)

cdef extern from "failsoft/bulkhead.h" nogil:
    ctypedef struct fs_bulkhead:
        uint32_t in_flight
        uint32_t limit
    const uint32_t FS_UNBOUNDED

cdef extern from "failsoft/throttle.h" nogil:
    ctypedef struct fs_throttle:
        double ratio
        uint64_t share
    void fs_throttle_set(fs_throttle *throttle, double ratio, double most, uint64_t minimum, fs_ns window)
    void fs_throttle_unaccepted(fs_throttle *throttle, uint64_t generation, fs_ns now)

cdef extern from "failsoft/load.h" nogil:
    ctypedef struct fs_load:
        fs_block block
        uint32_t queued
        fs_bulkhead bulkhead
        fs_limiter limiter
        fs_throttle throttle
        fs_ns rate_wait
        fs_ns place_wait
    const uint64_t FS_RATE_LIMITED
    const uint64_t FS_BULKHEAD_FULL
    const uint64_t FS_THROTTLED
    fs_load *fs_load_take(fs_arena *arena, fs_ticks stamp)
    bint fs_load_armed(const fs_load *load)
    uint64_t fs_load_admit(fs_load *load, fs_breaker *breaker, uint64_t n, bint probe, bint queue, fs_ns now,
                           fs_ticks stamp)
    bint fs_load_withdraw(fs_load *load, uint64_t n)
    void fs_load_queue(fs_load *load, uint32_t waiting)
    void fs_load_failed(fs_load *load, fs_breaker *breaker, fs_ns now)

cdef extern from "failsoft/shared.h" nogil:
    ctypedef enum fs_shared_status:
        FS_SHARED_OK
        FS_SHARED_FULL
    ctypedef enum fs_shared_role:
        FS_LOOKS
        FS_SHARES
        FS_CONTROLS
    ctypedef enum fs_tenure:
        FS_TENURE_FREE
        FS_TENURE_CLAIMED
        FS_TENURE_LIVE
        FS_TENURE_LEFT
    ctypedef struct fs_process:
        uint64_t tenure
        fs_ns since
        uint32_t pid
        char *name
    ctypedef struct fs_shared:
        uint64_t departed
        fs_process *process
    ctypedef struct fs_mapping:
        fs_shared *shared
        uint32_t slot
    const uint32_t FS_PROCESSES
    const uint32_t FS_DEPARTED
    fs_shared_status fs_shared_open(fs_mapping *mapping, const char *path, fs_shared_role role)
    void fs_shared_close(fs_mapping *mapping)
    int fs_shared_lock(const fs_mapping *mapping, fs_ns patience, fs_shared_status *why)
    void fs_shared_unlock(int lock)
    fs_shared_status fs_shared_claim(fs_mapping *mapping)
    void fs_shared_part(fs_mapping *mapping)
    uint32_t fs_shared_bury(fs_mapping *mapping)
    bint fs_shared_orphaned(const fs_mapping *mapping)
    bint fs_process_alive(const fs_process *process)
    fs_tenure fs_tenure_of(uint64_t tenure)

cdef extern from "failsoft/members.h" nogil:
    const uint32_t FS_EVERYBODY
    const uint32_t FS_NAME_MOST
    ctypedef struct fs_member:
        fs_block block
        uint32_t type
        fs_ns window
        uint32_t length
        char *name
    ctypedef struct fs_label:
        uint32_t number
        uint32_t length
        char *name
    ctypedef struct fs_seat:
        fs_block block
        fs_span series
        fs_span budget
        fs_span load
    ctypedef struct fs_stranger:
        pass
    ctypedef struct fs_joining:
        fs_mapping *mapping
        const char *name
        uint32_t length
        uint32_t type
        fs_ns window
    fs_breaker *fs_member_join(const fs_joining *joining, fs_breaker *own, fs_seat **seat, uint32_t *others)
    bint fs_member_sit(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now)
    void fs_member_leave(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now)
    void fs_member_chaos(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, bint on)
    fs_breaker *fs_member_resign(fs_mapping *mapping, fs_breaker *breaker, fs_seat *seat, fs_ns now,
                                 const fs_breaker_config *config)
    uint32_t fs_member_label(fs_breaker *breaker, const char *name, uint32_t length)
    fs_member *fs_member_of(const fs_breaker *breaker)
    const fs_member *fs_member_first(const fs_shared *shared)
    const fs_member *fs_member_next(const fs_shared *shared, const fs_member *member)
    const fs_label *fs_label_first(const fs_shared *shared, const fs_member *member)
    const fs_label *fs_label_next(const fs_shared *shared, const fs_label *label)
    const fs_breaker *fs_member_breaker(const fs_shared *shared, const fs_member *member)
    const fs_seat *fs_member_seat(const fs_shared *shared, const fs_member *member, uint32_t slot, uint64_t departed)
    fs_stranger fs_stranger_in(const fs_shared *shared, uint32_t slot, uint64_t departed)
    const void *fs_stranger_follow(const fs_stranger *stranger, const void *origin, fs_span span, size_t bytes)
    fs_status fs_member_observe(const fs_shared *shared, const fs_member *member, uint32_t slot, uint32_t number,
                                fs_series *into, fs_ns now)
