# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The compiled core: breakers, histograms, backoff, and the guards in front of calls.

This file converts and hands on. What decides lies in csrc/, what a user sees lies in the Python rooms.
"""

cimport cython
from cpython.buffer cimport PyBUF_CONTIG_RO, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from failsoft cimport _ccalls
from failsoft._ccalls cimport *
from failsoft._csrc cimport *

import sys as _sys

cdef extern from "Python.h":
    void *PyInterpreterState_Get()
    void *PyInterpreterState_Main()

if PyInterpreterState_Get() != PyInterpreterState_Main():
    raise ImportError("failsoft belongs to the whole process and cannot be imported in a subinterpreter")

fs_clock_setup()
fs_rng_setup()
fs_python_setup(_sys.modules[__name__])

cdef double SECOND = 1e9  # ns; dividing by it rounds right, multiplying by 1e-9 does not

STATES = ("CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY")
REASONS = (
    None, "consecutive_failures", "failure_rate", "slow_rate", "latency", "probe_failed", "wait_over", "recovered",
    "operator", "ramped", "fleet",
)
EVENTS = ("retries", "fallbacks", "deduplicated", "rejected", "timeouts", "ignored", "unrecorded", "hedges")


cdef fs_ns to_ns(double seconds) noexcept:
    return <fs_ns>(seconds * 1e9 + 0.5) if seconds < 9e9 else FS_FOREVER


cdef fs_ns or_forever(object seconds) except? 0:
    return FS_FOREVER if seconds is None else to_ns(seconds)


cdef fs_arena *arena() except NULL:
    cdef fs_arena *found = fs_arena_private()
    if found is NULL:
        raise MemoryError("the system gives no address space for failsoft's arena")
    return found


cdef class LatencyView:
    """Reads a latency histogram: since its start, or (`.recent`) over its rolling window."""

    def __init__(self):
        raise TypeError("a LatencyView is a LatencyHistogram, or its .recent")

    def quantiles(self, shares=(0.5, 0.95, 0.99)):
        cdef Py_ssize_t count = len(shares), i
        cdef double q[16]
        cdef uint64_t ns[16]
        if not 1 <= count <= 16:
            raise ValueError(f"shares must be 1 to 16 numbers, got {count}")
        for i in range(count):
            q[i] = shares[i]
            if not 0.0 <= q[i] <= 1.0:
                raise ValueError(f"shares[{i}] must be from 0 to 1, got {q[i]!r}")
            if i > 0 and q[i] < q[i - 1]:
                return self.unordered(shares)
        if fs_series_quantiles(self.series, self.span, q, <size_t>count, ns) == 0:
            return (float("nan"),) * count
        if count == 3:
            return (<double>ns[0] / SECOND, <double>ns[1] / SECOND, <double>ns[2] / SECOND)
        return tuple([<double>ns[i] / SECOND for i in range(count)])

    cdef tuple unordered(self, shares):
        """One pass wants them ascending: sort, ask, and put the answers where they were asked."""
        order = sorted(range(len(shares)), key=shares.__getitem__)
        answers = self.quantiles(tuple([shares[i] for i in order]))
        placed = [0.0] * len(shares)
        for place, answer in zip(order, answers):
            placed[place] = answer
        return tuple(placed)

    cdef fs_totals totals(self) noexcept:
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        if self.span == FS_RECENT:
            fs_series_recent(self.series, fs_now(), &totals)
        else:
            fs_series_ever(self.series, &totals)
        return totals

    @property
    def count(self):
        return self.totals().calls

    @property
    def mean(self):
        cdef fs_totals totals = self.totals()
        return <double>totals.sum / SECOND / <double>totals.calls if totals.calls else float("nan")

    @property
    def min(self):
        return self.extreme(0)

    @property
    def max(self):
        return self.extreme(1)

    cdef double extreme(self, bint most):
        """Exact since the start; within a bucket over the window, whose own extremes are not kept."""
        cdef uint64_t low, high
        cdef double q = most
        if self.span == FS_RECENT:
            return <double>low / SECOND if fs_series_quantiles(self.series, FS_RECENT, &q, 1, &low) else float("nan")
        fs_series_extremes(self.series, &low, &high)
        if low > high:
            return float("nan")
        return <double>(high if most else low) / SECOND

    def cells(self):
        """(middle in ns, count) of every cell that holds anything, ascending."""
        cdef uint64_t counts[37 * 64]
        cdef uint32_t i
        fs_series_cells(self.series, self.span, counts)
        return [(fs_histogram_middle(i), counts[i]) for i in range(FS_OCTAVES * FS_CELLS) if counts[i]]

    def counts_below(self, bounds_ns):
        cdef Py_ssize_t count = len(bounds_ns), i
        cdef uint64_t bounds[64]
        cdef uint64_t below[64]
        cdef uint64_t n
        cdef fs_totals totals
        if count > 64:
            raise ValueError(f"bounds_ns must be at most 64 integers, got {count}")
        for i in range(count):
            bounds[i] = bounds_ns[i]
            if i > 0 and bounds[i] < bounds[i - 1]:
                raise ValueError(f"bounds_ns must ascend, got {bounds[i]} after {bounds[i - 1]}")
        n = fs_series_counts_below(self.series, self.span, bounds, <size_t>count, below, &totals)
        return tuple([below[i] for i in range(count)]), n, totals.sum

    @property
    def age(self):
        return <double>(fs_now() - self.series.began) / SECOND

    def to_hdr(self):
        try:
            from hdrh.histogram import HdrHistogram
        except ImportError as error:
            raise ImportError("to_hdr() needs the package hdrhistogram: pip install 'failsoft[hdr]'") from error
        hdr = HdrHistogram(1, 1 << 42, 3)
        for middle, count in self.cells():
            hdr.record_value(middle, count)
        return hdr

    def plot(self, ax=None, label=None):
        from failsoft.report.plots import plot
        return plot(self, ax, label)

    def _repr_html_(self):
        from failsoft.report.cards import histogram
        return histogram(self)


cdef class LatencyHistogram(LatencyView):
    """Latencies in log-linear buckets: quantiles within 1 %, since the start and over a rolling window."""

    def __cinit__(self, double window=60.0):
        if not 1e-3 <= window <= 1e9:
            raise ValueError(f"window must be a number of seconds from 0.001 to 1e9, got {window!r}")
        self.window = window
        self.span = FS_EVER
        self.series = fs_series_take(arena(), to_ns(window), fs_now())
        if self.series is NULL:
            raise MemoryError("failsoft's arena is full")

    def __init__(self, window=60.0):
        pass

    def __dealloc__(self):
        if self.series is not NULL:
            fs_series_free(self.series)

    cdef fs_histogram *stripe(self) except NULL:
        cdef fs_histogram *histogram = fs_series_stripe(self.series, fs_stripe())
        if histogram is NULL:
            raise MemoryError("failsoft's arena is full")
        return histogram

    cdef void count_ns(self, uint64_t ns) noexcept:
        cdef fs_histogram *histogram = fs_series_stripe(self.series, fs_stripe())
        if histogram is not NULL:
            fs_histogram_record(histogram, ns, fs_stamp())

    @cython.binding(False)
    def record(self, double seconds):
        if not 0.0 <= seconds:
            raise ValueError(f"seconds must be 0 or more, got {seconds!r}")
        fs_histogram_record(self.stripe(), to_ns(seconds), fs_stamp())

    @cython.binding(False)
    def record_ns(self, long long ns):
        cdef fs_histogram *histogram = fs_series_have(self.series, fs_stripe())
        if ns < 0:
            raise ValueError(f"ns must be 0 or more, got {ns}")
        if histogram is NULL:
            histogram = self.stripe()
        fs_histogram_record_soon(histogram, <uint64_t>ns, fs_stamp())

    def record_many(self, values):
        cdef Py_buffer view
        cdef fs_histogram *histogram = self.stripe()
        PyObject_GetBuffer(values, &view, PyBUF_CONTIG_RO | PyBUF_FORMAT)
        try:
            if view.itemsize != 8 or view.format is NULL or view.format[0] not in (c"q", c"l") or view.format[1] != 0:
                raise TypeError("values must be a contiguous buffer of int64 nanoseconds, like a numpy int64 array")
            if not fs_histogram_record_many(histogram, <const int64_t *>view.buf, <size_t>(view.len // 8), fs_stamp()):
                raise ValueError("values must be 0 or more, got a negative one")
        finally:
            PyBuffer_Release(&view)

    def record_repeated(self, uint64_t ns, uint64_t count):
        cdef fs_histogram *histogram = self.stripe()
        cdef fs_ticks stamp = fs_stamp()
        cdef uint32_t some
        if ns > FS_VALUE_MOST:
            raise ValueError(f"ns must be from 0 to {FS_VALUE_MOST}, got {ns}")
        if count > 1 << 36:
            raise ValueError(f"count must be from 0 to {1 << 36}, got {count}")
        if fs_slices_due(&histogram.slices, stamp):
            fs_histogram_turn(histogram, fs_now(), stamp)
        while count:
            some = <uint32_t>min(count, <uint64_t>(FS_CELL_FULL // 2))
            fs_histogram_repeat(histogram, ns, some)
            count -= some

    def merge(self, LatencyHistogram other not None):
        if other is self:
            raise ValueError("a histogram cannot be merged into itself")
        if fs_series_merge(self.series, other.series) != FS_OK:
            raise MemoryError("failsoft's arena is full; a part of the other histogram has been added")

    @property
    def recent(self):
        cdef LatencyView view = LatencyView.__new__(LatencyView)
        view.series = self.series
        view.span = FS_RECENT
        view.owner = self
        return view

    @property
    def clipped(self):
        return fs_series_clipped(self.series)

    @property
    def nbytes(self):
        """Bytes of the arena in use by it now."""
        return fs_series_bytes(self.series)


cdef class Operation(LatencyHistogram):
    """What the calls of one named operation come to. Written by guards, read by metrics."""

    @property
    def number(self):
        """Which operation of its integration it is, from 1."""
        return self.series.name

    @number.setter
    def number(self, uint32_t number):
        self.series.name = number

    def totals_of(self, bint recent):
        """(calls, summed ns, failures, slow calls) over the window, or since the start."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        if recent:
            fs_series_recent(self.series, fs_now(), &totals)
        else:
            fs_series_ever(self.series, &totals)
        return totals.calls, totals.sum, totals.failures, totals.slow

    def events(self):
        """How often each of EVENTS has happened, since the start."""
        cdef uint32_t i
        return tuple([self.series.events[i] for i in range(FS_EVENTS)])

    def note(self, int event, int count=1):
        """Count an event by its place in EVENTS."""
        fs_series_note(self.series, <fs_event_kind>event, <uint32_t>count)


cdef int breaker_config(object config, double ramp, double ramp_from, fs_breaker_config *c) except -1:
    c.reset_timeout = to_ns(config.reset_timeout)
    c.reset_most = or_forever(config.reset_max)
    c.lease = max(to_ns(config.timeout), 1_000_000)
    c.slow = or_forever(config.slow_call)
    c.latency_limit = 0 if config.latency_limit is None else to_ns(config.latency_limit)
    c.latency_quantile = config.latency_quantile or 0.0
    c.reset_growth = config.reset_growth
    c.reset_jitter = config.reset_jitter
    c.failure_rate = 2.0 if config.failure_rate is None else config.failure_rate
    c.slow_rate = 2.0 if config.slow_rate is None else config.slow_rate
    c.failure_threshold = config.failure_threshold or 0
    c.success_threshold = config.success_threshold
    c.half_open_most = config.half_open_max_calls
    c.minimum_calls = config.minimum_calls
    c.last = config.count_window or 0
    c.ramp_from = fs_share_of(ramp_from)
    c.ramp = to_ns(ramp) if c.ramp_from < FS_ALL else 0
    if fs_breaker_check(c) != FS_OK:
        raise ValueError(f"outside what a breaker can do: {config!r}")
    return 0


cdef tuple read_breaker(const fs_breaker *breaker):
    cdef fs_breaker_status s
    cdef fs_ns now = fs_now()
    fs_breaker_read(breaker, now, &s)
    return (
        STATES[s.state], REASONS[s.because], s.generation, s.failures, s.probes,
        (s.totals.calls, s.totals.failures, s.totals.slow),
        None if s.retry_after == FS_FOREVER else <double>s.retry_after / SECOND,
        <double>(now - s.changed) / SECOND,
        fs_capacity_of(s.share),
    )


cdef list read_decisions(const fs_breaker *breaker):
    cdef fs_decision found[256]
    cdef uint32_t i, count = fs_recorder_read(&breaker.recorder, &breaker.block, found)
    return [
        (found[i].kind, found[i].because, found[i].state, found[i].detail, found[i].number, found[i].operation,
         found[i].generation, found[i].count, found[i].first, found[i].last)
        for i in range(count)
    ]


cdef class Breaker:
    """The state machine of a circuit breaker, compiled. See csrc/include/failsoft/breaker.h."""

    def __cinit__(self, config, str name="", listener=None, double ramp=0.0, double ramp_from=0.0):
        cdef fs_breaker_config c
        self.name = name
        self.listener = listener
        self.adopted = []
        self.former = []
        breaker_config(config, ramp, ramp_from, &c)
        fs_payer_begin(&self.payer, fs_now())
        self.block = fs_breaker_take(arena(), &c, fs_now())
        if self.block is NULL:
            raise MemoryError("failsoft's arena is full")
        self.own = Operation(config.window)
        self.adopt(self.own)

    def __dealloc__(self):
        if self.seat is not NULL:
            if the_arena.slot != FS_PROCESSES:
                fs_member_leave(&the_arena, self.block, self.seat, fs_now())
        elif self.block is not NULL:
            fs_breaker_free(self.block)
        if self.load is not NULL:
            fs_arena_free(&self.load.block)
        for address in self.former or ():
            fs_breaker_free(<fs_breaker *><size_t>address)

    def adopt(self, Operation operation not None):
        """Let the calls of an operation count in the rates. It lives as long as the breaker from now on."""
        self.adopted.append(operation)
        if self.seat is not NULL:
            fs_series_list(&self.seat.block, &self.seat.series, operation.series)
        else:
            fs_breaker_adopt(self.block, operation.series)

    cdef uint64_t calls(self):
        """That its operations have ever counted."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        for operation in self.adopted:
            fs_series_ever((<Operation>operation).series, &totals)
        return totals.calls

    cdef void tell(self, const fs_change *change):
        if change.generation:
            self._announce(change.origin, change.to, change.because, change.generation, change.failures)

    def _announce(self, int previous, int state, int because, generation, failures):
        """Called after each change of state, outside all locks, by whoever brought it about."""
        if self.listener is not None:
            self.listener(self, STATES[previous], STATES[state], REASONS[because], generation, failures)

    cdef fs_permit take(self, bint probe):
        cdef uint64_t gate = fs_breaker_gate(self.block)
        if fs_gate_clear(gate):
            return fs_permit_of(gate)
        cdef fs_change change
        cdef fs_permit permit
        change.generation = 0
        if probe:
            permit = fs_breaker_probe(self.block, fs_now(), &change)
        else:
            permit = fs_breaker_acquire(self.block, fs_now(), &change)
        self.tell(&change)
        return permit

    cdef void settle(self, fs_permit permit, bint failed, fs_ns took):
        cdef fs_change change
        cdef fs_histogram *histogram
        cdef bint slow = took >= self.block.config.slow
        cdef fs_ns now = fs_now()
        histogram = fs_series_stripe(self.own.series, fs_stripe())
        if histogram is not NULL and fs_breaker_counts(self.block, permit):
            if took:
                fs_histogram_record(histogram, took, fs_stamp())
                fs_histogram_outcome(histogram, failed, slow)
            else:
                fs_histogram_note(histogram, fs_stamp(), failed, slow)
        change.generation = 0
        if failed:
            fs_breaker_failure(self.block, permit, took, now, &change)
        else:
            fs_breaker_success(self.block, permit, took, now, &change)
        self.tell(&change)

    @cython.binding(False)
    def acquire(self):
        cdef fs_permit permit = self.take(False)
        return permit if fs_permit_granted(permit) else 0

    def admit(self):
        """A permit; else 0 for the state's refusal, or NO_ROOM for one for capacity."""
        return self.take(False)

    def probe(self):
        """A permit as of `acquire`, also where probes are reserved for the health check."""
        cdef fs_permit permit = self.take(True)
        return permit if fs_permit_granted(permit) else 0

    def reserve(self, double seconds):
        """For so long after each wait in OPEN, admit only `probe`; 0.0: no longer."""
        fs_breaker_reserve(self.block, to_ns(seconds))

    def limit(self, double capacity):
        """Let only this share (0 to 1) of the calls go; 1.0: all of them again."""
        fs_breaker_limit(self.block, fs_share_of(capacity))

    def mark_chaos(self, bint on):
        """Let its guards ask, for each call, which fault is injected into it; or no longer."""
        if self.seat is not NULL:
            fs_member_chaos(&the_arena, self.block, self.seat, on)
        else:
            fs_breaker_chaos(self.block, on)

    @property
    def capacity(self):
        """The share of calls let go now by limit and ramp, whatever the state."""
        return fs_capacity_of(fs_breaker_share(self.block, fs_now()))

    def note(self, int kind, int because, int detail=0, double number=0.0, uint32_t operation=0):
        """Record a decision in the flight recorder, by the numbers of csrc/include/failsoft/recorder.h."""
        cdef fs_decision decision
        decision.first = fs_now()
        decision.number = number
        decision.operation = operation
        decision.kind = <uint8_t>kind
        decision.because = <uint8_t>because
        decision.state = <uint8_t>(fs_breaker_gate(self.block) & 7)
        decision.detail = <uint8_t>min(detail, 255)
        fs_breaker_note(self.block, &decision)

    def decisions(self):
        """The flight recorder, oldest first: (kind, because, state, detail, number, operation, generation, count, first
        and last time in ns) each."""
        return read_decisions(self.block)

    @cython.binding(False)
    def success(self, fs_permit permit, fs_ns duration_ns=0):
        self.settle(permit, False, duration_ns)

    @cython.binding(False)
    def failure(self, fs_permit permit, fs_ns duration_ns=0):
        self.settle(permit, True, duration_ns)

    def ignore(self, fs_permit permit):
        fs_breaker_ignore(self.block, permit)

    def read(self):
        """(state, reason, generation, failures, probes out, (calls, failures, slow) of the window, retry after, age,
        capacity)"""
        return read_breaker(self.block)

    def force(self, int state):
        """Put it into a state, by its place in STATES."""
        cdef fs_change change
        change.generation = 0
        fs_breaker_force(self.block, <fs_state>state, fs_now(), &change)
        self.tell(&change)

    def open_until(self, uint32_t generation, fs_ns end):
        """Open it until `end`, because a fleet has, if it still is in this generation. Whether it did."""
        cdef fs_change change
        change.generation = 0
        cdef bint done = fs_breaker_open_until(self.block, generation, end, fs_now(), &change)
        self.tell(&change)
        return done

    def close_with_fleet(self, uint32_t generation):
        """Close it, because a fleet has, if it still is in this generation. Whether it did."""
        cdef fs_change change
        change.generation = 0
        cdef bint done = fs_breaker_close(self.block, generation, fs_now(), &change)
        self.tell(&change)
        return done

    def hold(self, fs_ns held):
        """Let no probe go before `held`; 0: hold none back."""
        fs_breaker_hold(self.block, held)

    def let(self, fs_ns until):
        """Let probes go until then, though they are held back; 0: no longer."""
        fs_breaker_let(self.block, until)

    @property
    def held_back(self):
        """How many calls `hold` has kept from probing."""
        return fs_breaker_held_back(self.block)

    def totals(self):
        """(calls, failures, slow calls) that its operations have ever counted."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        for operation in self.adopted:
            fs_series_ever((<Operation>operation).series, &totals)
        return totals.calls, totals.failures, totals.slow

    def relocate(self, config=None, double ramp=0.0, double ramp_from=0.0):
        """Move the breaker to another block of the arena, under whatever guards look at it; there `config` holds."""
        cdef fs_breaker_config c
        if config is not None:
            breaker_config(config, ramp, ramp_from, &c)
        if self.seat is not NULL:
            self.resign(&c if config is not None else &self.block.config)
            return
        cdef fs_breaker *heir = fs_breaker_move(self.block, &c if config is not None else NULL)
        if heir is NULL:
            raise MemoryError("failsoft's arena is full")
        self.former.append(<size_t>self.block)
        self.block = heir

    cdef int resign(self, const fs_breaker_config *config) except -1:
        """Go on alone, as the shared breaker is now. Guards find out when they are given their limits anew."""
        cdef fs_breaker *own = fs_member_resign(&the_arena, self.block, self.seat, fs_now(), config)
        if own is NULL:
            raise MemoryError("failsoft's arena is full")
        self.block = own
        self.seat = NULL
        return 0

    @property
    def shared(self):
        """Whether other processes may have the same breaker."""
        return self.seat is not NULL

    def join(self, bytes name, uint32_t type, double window, labels, Budget budget=None, double patience=2.0):
        """Share the breaker of this name and configuration. How many processes have the name under another one; None:
        there is no room. `labels` are the names of the operations adopted so far; their numbers may change."""
        cdef fs_joining joining
        cdef fs_seat *seat = NULL
        cdef uint32_t others = 0
        cdef fs_breaker *before
        cdef fs_breaker *found
        cdef int lock = lock_arena(patience)
        try:
            before = self.block  # it may have been moved while we waited
            joining.mapping = &the_arena
            joining.name = name
            joining.length = <uint32_t>len(name)
            joining.type = type
            joining.window = to_ns(window)
            found = fs_member_join(&joining, before, &seat, &others)
            if found is NULL:
                return None
            for operation, label in labels:
                label_operation(found, operation, label)
        finally:
            fs_shared_unlock(lock)
        self.seat = seat
        self.block = found
        self.show(budget)
        if fs_breaker_gate(before) & FS_GATE_CHAOS:
            self.mark_chaos(True)
        fs_breaker_leave(before)
        self.former.append(<size_t>before)
        return others

    def show(self, Budget budget=None):
        """Let whoever looks at the arena find this process's retry budget and load control."""
        if self.seat is NULL:
            return
        self.seat.budget = 0 if budget is None else fs_arena_span(&self.seat.block, &budget.block.block)
        self.seat.load = 0 if self.load is NULL else fs_arena_span(&self.seat.block, &self.load.block)

    def label(self, Operation operation not None, bytes name):
        """Number an operation as all processes do that share this breaker."""
        cdef int lock = lock_arena(2.0)
        try:
            if self.seat is not NULL:  # it may have gone while we waited
                label_operation(self.block, operation, name)
        finally:
            fs_shared_unlock(lock)

    def sit(self):
        """In the child of a fork: count here from nothing."""
        if self.seat is not NULL:
            fs_member_sit(&the_arena, self.block, self.seat, fs_now())

    def labels(self):
        """{number: name} of the operations of all processes that share this breaker."""
        return {} if self.seat is NULL else labels_of(the_arena.shared, fs_member_of(self.block))


cdef fs_mapping the_arena
"""What this process shares. There is one at most, and it stays."""
the_arena.slot = FS_PROCESSES

ARENA_TROUBLES = ("", "system", "no_space", "garbage", "version", "layout", "owner", "busy", "full", "too_large")


class ArenaTrouble(Exception):
    """A file cannot be shared: (one of ARENA_TROUBLES, errno)."""


cdef int check_arena(fs_shared_status status, int why) except -1:
    if status != FS_SHARED_OK:
        raise ArenaTrouble(ARENA_TROUBLES[<int>status], why)
    return 0


cdef int lock_arena(double patience) except -1:
    cdef fs_shared_status why
    cdef int lock, number
    cdef fs_ns longest = to_ns(patience)
    with nogil:  # another process may be stopped while it holds the lock; our other threads go on
        lock = fs_shared_lock(&the_arena, longest, &why)
        number = errno
    check_arena(why, number)
    return lock


cdef int label_operation(fs_breaker *breaker, Operation operation, bytes name) except -1:
    cdef uint32_t number = fs_member_label(breaker, name, <uint32_t>len(name))
    operation.series.name = number
    return 0


cdef dict labels_of(const fs_shared *shared, const fs_member *member):
    cdef dict found = {}
    cdef const fs_label *label = fs_label_first(shared, member)
    cdef int steps = 0
    while label is not NULL and steps < 65536:  # longer lists are no lists
        steps += 1
        found[label.number] = label.name[:label.length].decode("utf-8", "replace")
        label = fs_label_next(shared, label)
    return found


def share_arena(str path):
    """Map the file and take a slot in it; all that this process has counted goes there. ArenaTrouble: nothing has changed."""
    cdef int lock, number
    cdef bytes file = path.encode()
    cdef const char *name = file
    cdef fs_shared_status opened
    cdef bint mapped = the_arena.shared is not NULL
    if not mapped:
        with nogil:
            opened = fs_shared_open(&the_arena, name, FS_SHARES)
            number = errno
        check_arena(opened, number)
    try:
        lock = lock_arena(2.0)
        try:
            if the_arena.slot == FS_PROCESSES:
                opened = fs_shared_claim(&the_arena)
                check_arena(opened, errno)
        finally:
            fs_shared_unlock(lock)
    except ArenaTrouble:
        if not mapped:  # another one may be shared in its place
            fs_shared_close(&the_arena)
        raise


def arena_slot():
    """This process's slot; None: it has none."""
    return None if the_arena.slot == FS_PROCESSES else the_arena.slot


def bury_arena():
    """Take in what processes that have died have counted. How many slots could not be freed."""
    cdef int lock = lock_arena(2.0)
    try:
        return fs_shared_bury(&the_arena)
    finally:
        fs_shared_unlock(lock)


def part_arena():
    """Leave the slot, at the end of the process."""
    if the_arena.shared is not NULL:
        fs_shared_part(&the_arena)


cdef class ArenaReader:
    """Looks at a file that processes share, from outside: it holds nobody up, and writes nothing but, with `controls`, what
    an operator says to its breakers."""

    def __cinit__(self, str path, bint controls=False):
        cdef fs_shared_role role = FS_CONTROLS if controls else FS_LOOKS
        cdef fs_shared_status opened = fs_shared_open(&self.mapping, path.encode(), role)
        self.controls = controls
        check_arena(opened, errno)

    def __dealloc__(self):
        fs_shared_close(&self.mapping)

    cdef const fs_member *member(self, size_t line) except NULL:
        cdef const fs_member *member = fs_member_first(self.mapping.shared)
        cdef int steps = 0
        while member is not NULL and steps < 65536:
            if <size_t>member - <size_t>self.mapping.shared == line:
                return member
            member = fs_member_next(self.mapping.shared, member)
            steps += 1
        raise KeyError("this integration is gone from the arena")

    def members(self):
        """(place, name, type, window in seconds) of each integration."""
        cdef list found = []
        cdef const fs_member *member = fs_member_first(self.mapping.shared)
        while member is not NULL and len(found) < 65536:
            if fs_member_breaker(self.mapping.shared, member) is not NULL:
                found.append((<size_t>member - <size_t>self.mapping.shared,
                              member.name[:member.length].decode("utf-8", "replace"), member.type,
                              <double>member.window / SECOND))
            member = fs_member_next(self.mapping.shared, member)
        return found

    def burials(self):
        """A number that changes whenever the counts of a process that has died are taken in."""
        return self.mapping.shared.departed

    def labels(self, size_t place):
        """{number: name} of the operations of an integration."""
        return labels_of(self.mapping.shared, self.member(place))

    def processes(self):
        """(slot, pid, name, seconds since it came, alive) of each process whose slot is taken."""
        cdef list found = []
        cdef uint32_t slot
        cdef fs_process *process
        cdef fs_ns now = fs_now()
        for slot in range(FS_PROCESSES):
            process = &self.mapping.shared.process[slot]
            if fs_tenure_of(process.tenure) < FS_TENURE_LIVE:
                continue
            name = process.name[:24].split(b"\0")[0].decode("utf-8", "replace")
            found.append((slot, process.pid, name, <double>(now - process.since) / SECOND, fs_process_alive(process)))
        return found

    def seats(self, size_t place):
        """The slots that an integration is used from."""
        cdef const fs_member *member = self.member(place)
        cdef uint64_t departed = self.mapping.shared.departed
        return [slot for slot in range(FS_PROCESSES)
                if fs_member_seat(self.mapping.shared, member, slot, departed) is not NULL]

    cdef const fs_breaker *breaker(self, size_t place) except NULL:
        cdef const fs_breaker *breaker = fs_member_breaker(self.mapping.shared, self.member(place))
        if breaker is NULL:
            raise KeyError("this integration is gone from the arena")
        return breaker

    def read(self, size_t place):
        """As Breaker.read, and the least calls for a rate."""
        cdef const fs_breaker *breaker = self.breaker(place)
        return read_breaker(breaker), breaker.config.minimum_calls

    def capacity(self, size_t place):
        """As Breaker.capacity."""
        return fs_capacity_of(fs_breaker_share(self.breaker(place), fs_now()))

    cdef fs_breaker *controlled(self, size_t place) except NULL:
        if not self.controls:
            raise RuntimeError("this arena was opened to be looked at only")
        return <fs_breaker *>self.breaker(place)

    def force(self, size_t place, int state):
        """As Breaker.force. Listeners are those of this process, so that there are none."""
        cdef fs_change change
        change.generation = 0
        fs_breaker_force(self.controlled(place), <fs_state>state, fs_now(), &change)

    def limit(self, size_t place, double capacity):
        """As Breaker.limit, and the decision recorded."""
        cdef fs_decision decision
        cdef fs_breaker *breaker = self.controlled(place)
        fs_breaker_limit(breaker, fs_share_of(capacity))
        decision.first = fs_now()
        decision.number = capacity
        decision.operation = 0
        decision.kind = <uint8_t>FS_CAPACITY
        decision.because = <uint8_t>FS_BECAUSE_OPERATOR
        decision.state = <uint8_t>(fs_breaker_gate(breaker) & 7)
        decision.detail = 0
        fs_breaker_note(breaker, &decision)

    def decisions(self, size_t place):
        """As Breaker.decisions."""
        return read_decisions(self.breaker(place))

    def observe(self, size_t place, number, slot):
        """What has been counted of an operation, by its number (None: of all), in a slot (None: by everybody, and the
        departed)."""
        cdef Operation sum = Operation(1e9)
        cdef const fs_member *member = self.member(place)
        cdef uint32_t of = 0 if number is None else number, by = FS_EVERYBODY if slot is None else slot
        if by > FS_EVERYBODY:
            raise ValueError(f"slot must be None or from 0 to {FS_EVERYBODY}, got {slot}")
        if fs_member_observe(self.mapping.shared, member, by, of, sum.series, fs_now()) != FS_OK:
            raise MemoryError("failsoft's arena is full")
        sum.series.name = of
        sum.window = <double>member.window / SECOND
        return sum

    def budget(self, size_t place, uint32_t slot):
        """(balance when last asked, retries, hedges, refused) of a process's retry budget; None: it has none."""
        cdef uint64_t departed = self.mapping.shared.departed
        cdef fs_stranger stranger = fs_stranger_in(self.mapping.shared, slot, departed)
        cdef const fs_seat *seat = fs_member_seat(self.mapping.shared, self.member(place), slot, departed)
        cdef const fs_budget *budget
        if seat is NULL:
            return None
        budget = <const fs_budget *>fs_stranger_follow(&stranger, seat, seat.budget, sizeof(fs_budget))
        return None if budget is NULL else (budget.balance, budget.retries, budget.hedges, budget.refused)

    def load(self, size_t place, uint32_t slot):
        """(calls under way, share let go by the throttle) of a process's load control; None: it has none."""
        cdef uint64_t departed = self.mapping.shared.departed
        cdef fs_stranger stranger = fs_stranger_in(self.mapping.shared, slot, departed)
        cdef const fs_seat *seat = fs_member_seat(self.mapping.shared, self.member(place), slot, departed)
        cdef const fs_load *load
        if seat is NULL:
            return None
        load = <const fs_load *>fs_stranger_follow(&stranger, seat, seat.load, sizeof(fs_load))
        return None if load is NULL else (load.bulkhead.in_flight, fs_capacity_of(load.throttle.share))


cdef int budget_config(object config, fs_budget_config *c) except -1:
    c.share = config.share
    c.floor = config.floor
    c.window = max(to_ns(config.window), 1)
    return 0


cdef class Budget:
    """How many retries and hedges may still be added to the traffic: see csrc/include/failsoft/budget.h."""

    def __cinit__(self, config):
        cdef fs_budget_config c
        budget_config(config, &c)
        self.block = fs_budget_take(arena(), &c, fs_now())
        if self.block is NULL:
            raise MemoryError("failsoft's arena is full")

    def __dealloc__(self):
        if self.block is not NULL:
            fs_budget_free(self.block)

    def configure(self, config):
        """Let other settings hold from now on; the balance is kept."""
        cdef fs_budget_config c
        budget_config(config, &c)
        fs_budget_configure(self.block, &c, fs_now())

    cdef fs_ns pay(self, Breaker payer):
        """Read the traffic before a breaker. The time now."""
        cdef uint64_t calls = payer.calls()
        cdef fs_ns now = fs_now()
        fs_budget_pay(self.block, &payer.payer, calls, now)
        return now

    def retry(self, Breaker payer not None):
        """Take a retry for a call before this breaker, whose traffic pays. Whether there was one."""
        cdef fs_ns now = self.pay(payer)
        return fs_budget_retry(self.block, &payer.payer, now)

    def hedge(self, Breaker payer not None):
        """Take a hedge."""
        cdef fs_ns now = self.pay(payer)
        return fs_budget_hedge(self.block, now)

    def read(self, Breaker payer not None):
        """(balance, full, retries, hedges, refused)"""
        cdef fs_budget_status s
        fs_budget_read(self.block, self.pay(payer), &s)
        return s.balance, s.full, s.retries, s.hedges, s.refused


cdef class Load:
    """Load control behind a breaker, which keeps its block: see csrc/include/failsoft/load.h. Durations in ns."""

    def __cinit__(self, Breaker breaker not None):
        self.breaker = breaker
        if breaker.load is NULL:
            breaker.load = fs_load_take(arena(), fs_stamp())
        if breaker.load is NULL:
            raise MemoryError("failsoft's arena is full")

    def limit_rate(self, double rate, uint64_t burst, double max_wait):
        """Let so many calls a second go, `burst` at once; 0.0: any number."""
        if fs_limiter_set(&self.breaker.load.limiter, rate, burst, fs_stamp()) != FS_OK:
            raise ValueError(f"outside what a rate limiter can do: {rate!r} a second, {burst!r} at once")
        self.breaker.load.rate_wait = to_ns(max_wait)

    def limit_calls(self, uint32_t most, double max_wait):
        """Let so many calls be under way at a time; 0: any number."""
        self.breaker.load.bulkhead.limit = most if most else FS_UNBOUNDED
        self.breaker.load.place_wait = to_ns(max_wait)

    def throttle(self, double ratio, double most, uint64_t minimum, double window):
        """Refuse what would most likely be refused; ratio 0.0: nothing."""
        fs_throttle_set(&self.breaker.load.throttle, ratio, most, minimum, to_ns(window))
        fs_load_failed(self.breaker.load, self.breaker.block, fs_now())

    def admit(self, waiter):
        """Let the first of the queue in, by its `code`, or say what it `lacks`.

        In one step, so that an interrupt comes before it or after, and a place is never nobody's.
        """
        if waiter.code >= 0:  # its wait has just ended otherwise
            return
        cdef uint64_t n = waiter.n
        cdef uint64_t code = fs_load_admit(
            self.breaker.load, self.breaker.block, n, False, True, fs_now(), fs_stamp())
        if code == 0:
            waiter.code = 0
        else:
            waiter.lacks = code

    def withdraw(self, uint64_t n):
        """Give back what `admit` has given."""
        fs_load_withdraw(self.breaker.load, n)

    def queue(self, uint32_t waiting):
        """So many wait now, and nobody may go before them."""
        fs_load_queue(self.breaker.load, waiting)

    def forked(self):
        """In a child, no call is under way: those of its parent's other threads never end here.

        Those of the thread that forked do, and leave a count that does not go below nothing.
        """
        self.breaker.load.bulkhead.in_flight = 0

    def unaccepted(self):
        """An answer was no failure, and no acceptance: for the throttle."""
        fs_throttle_unaccepted(&self.breaker.load.throttle, fs_breaker_gate(self.breaker.block) >> 32, fs_now())
        fs_load_failed(self.breaker.load, self.breaker.block, fs_now())

    def fits(self, uint64_t n):
        """Whether n tokens can ever be there at once."""
        return n <= self.breaker.load.limiter.burst

    def when(self, uint64_t n):
        """ns until n tokens will have come."""
        return fs_limiter_when(&self.breaker.load.limiter, fs_stamp(), n)

    def patience(self, uint64_t code):
        """ns that a call refused by this code may wait."""
        if code == FS_RATE_LIMITED:
            return self.breaker.load.rate_wait
        return self.breaker.load.place_wait if code == FS_BULKHEAD_FULL else 0

    def read(self):
        """(tokens, calls under way, share let go by the throttle)"""
        cdef fs_load *load = self.breaker.load
        return (fs_limiter_tokens(&load.limiter, fs_stamp()), load.bulkhead.in_flight, fs_capacity_of(load.throttle.share))

    @property
    def armed(self):
        """Whether any limit is set."""
        return fs_load_armed(self.breaker.load)


cdef class Dial:
    """Lets an exact share of the calls go: see csrc/include/failsoft/degraded.h."""

    def __cinit__(self):
        self.sum = FS_DIAL_START

    def admits(self, double capacity):
        """May this one go, if only this share (0 to 1) may?"""
        cdef uint64_t share = fs_share_of(capacity)
        return share >= FS_ALL or fs_dial_admits(&self.sum, share)


NO_ROOM = FS_NO_ROOM
TOO_LATE = FS_TOO_LATE
RATE_LIMITED, BULKHEAD_FULL, THROTTLED = FS_RATE_LIMITED, FS_BULKHEAD_FULL, FS_THROTTLED


_JITTERS = {"none": FS_JITTER_NONE, "full": FS_JITTER_FULL, "equal": FS_JITTER_EQUAL,
            "decorrelated": FS_JITTER_DECORRELATED}


cdef class Backoff:
    """Delays before retries: exponential, capped, jittered."""

    def __cinit__(self, double initial=0.5, double maximum=10.0, double multiplier=2.0, jitter="full", seed=None):
        if not 0.0 <= initial <= 1e9:
            raise ValueError(f"initial must be a number of seconds from 0 to 1e9, got {initial!r}")
        if not initial <= maximum <= 1e9:
            raise ValueError(f"maximum must be a number of seconds from initial ({initial!r}) to 1e9, got {maximum!r}")
        if not 1.0 <= multiplier <= 1e6:
            raise ValueError(f"multiplier must be a number from 1 to 1e6, got {multiplier!r}")
        if jitter not in _JITTERS:
            raise ValueError(f"jitter must be one of {', '.join(_JITTERS)}, got {jitter!r}")
        fs_backoff_init(&self.backoff, to_ns(initial), to_ns(maximum), multiplier, _JITTERS[jitter])
        if seed is None:
            fs_rng_seed_fresh(&self.rng)
        else:
            fs_rng_seed(&self.rng, <uint64_t>(seed & 0xFFFFFFFFFFFFFFFF))

    def __init__(self, initial=0.5, maximum=10.0, multiplier=2.0, jitter="full", seed=None):
        pass

    @cython.binding(False)
    def delay(self, long long attempt, double previous=0.0):
        if attempt < 0:
            raise ValueError(f"attempt must be 0 or more, got {attempt}")
        if not 0.0 <= previous:
            raise ValueError(f"previous must be a number of seconds, 0 or more, got {previous!r}")
        fs_rng_refresh(&self.rng)
        return <double>fs_backoff_delay(&self.backoff, <uint64_t>attempt, to_ns(previous), &self.rng) / SECOND


def make_guard(fn, Breaker breaker not None, Operation operation not None, recovery, *, judge, bint is_async, bint binds,
               bint keeps_arguments, bint has_fallbacks, bint shared, bint disabled, timeout, overall, slow, cancel_after,
               int skip=0, memory_key=None, Py_ssize_t memory_most=0, dedupe=None, key=None, Py_ssize_t max_keys=0):
    """A guard before `fn`. Durations in seconds, None for none. `shared` guards live as long as the process on 3.13t."""
    cdef fs_guard_setup setup
    setup.fn = <_ccalls.PyObject *>fn
    setup.owner = <_ccalls.PyObject *>breaker
    setup.operation = <_ccalls.PyObject *>operation
    setup.recovery = <_ccalls.PyObject *>recovery
    setup.judge = NULL if judge is None else <_ccalls.PyObject *>judge
    setup.memory_key = NULL if memory_key is None else <_ccalls.PyObject *>memory_key
    setup.memory_most = memory_most
    setup.dedupe = NULL if dedupe is None else <_ccalls.PyObject *>dedupe
    setup.key = NULL if key is None else <_ccalls.PyObject *>key
    setup.shards_most = max_keys
    setup.skip = <uint8_t>skip
    setup.truth = &breaker.block
    setup.series = operation.series
    setup.timeout = or_forever(timeout)
    setup.overall = or_forever(overall)
    setup.slow = or_forever(slow)
    setup.cancel_after = or_forever(cancel_after)
    setup.is_async = is_async
    setup.binds = binds
    setup.keeps_arguments = keeps_arguments
    setup.has_fallbacks = has_fallbacks
    setup.has_closure = getattr(fn, "__closure__", None) is not None or not hasattr(fn, "__code__")
    setup.immortal = shared
    setup.disabled = disabled
    return fs_guard_new(&setup)


cdef dict known_faces = {}
faces = known_faces
"""Of with_integration_resilience: {integration's name: {operation's name: (type, the guard that is told what to call)}}."""

cdef object first_time = None


def set_first_time(function):
    """What with_integration_resilience does where it knows nothing yet, or is asked for more."""
    global first_time
    first_time = function


def with_integration_resilience(
    integration_type, integration_name, operation, *, operation_name=None, fallbacks=(), bint retry=True,
    bint idempotent=True, registry=None,
):
    """Run `operation` behind an integration's guard. Gives an `IntegrationResult`, to be awaited if it is async.

    Sync operations give the result itself; coroutine functions, and functions that return an awaitable, give an
    awaitable of it. `operation_name` is what the calls are recorded under, the function's own name by default.
    `retry=False` makes one attempt only, `idempotent=False` retries only what provably never reached the dependency.
    """
    cdef dict operations
    cdef tuple known
    cdef _ccalls.PyObject *args[1]
    if registry is None and operation_name is None and (fallbacks is () or fallbacks == ()) and retry and idempotent:
        operations = known_faces.get(integration_name)
        known = None if operations is None else operations.get(getattr(operation, "__name__", None))
        if known is not None and known[0] is integration_type:
            args[0] = <_ccalls.PyObject *>operation
            return fs_guard_run(<fs_guard *><_ccalls.PyObject *>known[1], FS_RESULT, FS_FOREVER, args, 1, NULL)
    return first_time(integration_type, integration_name, operation, operation_name, fallbacks, retry, idempotent, registry)


def disable_guard(guard, bint disabled):
    """Turn a guard into a pass-through, or back."""
    if not fs_is_any_guard(guard):
        raise TypeError(f"guard must be a Guard or an AsyncGuard, got {guard!r}")
    fs_guard_disable(guard, disabled)


def retime_guard(guard, timeout, overall, slow, cancel_after):
    """Let other limits hold for a guard from its next call on. Durations in seconds, None for none."""
    if not fs_is_any_guard(guard):
        raise TypeError(f"guard must be a Guard or an AsyncGuard, got {guard!r}")
    fs_guard_retime(guard, or_forever(timeout), or_forever(overall), or_forever(slow), or_forever(cancel_after))


def setup_flow(flow, LatencyHistogram intervals not None, stale_after, key, sequence, Py_ssize_t max_keys, bint resumes):
    """Make a Flow ready that counts in `intervals`. `stale_after` in seconds, None for never."""
    fs_flow_setup(flow, intervals, intervals.series, or_forever(stale_after), key, sequence, max_keys, resumes)


def control_guard(guard, Load load):
    """Let load control stand before a guard, behind the same breaker; None: none."""
    if not fs_is_any_guard(guard):
        raise TypeError(f"guard must be a Guard or an AsyncGuard, got {guard!r}")
    fs_guard_control(guard, NULL if load is None else load.breaker.load)


def set_refusal_errors(type circuit_open, type degraded, type rate_limited, type bulkhead_full, type throttled,
                       type timeout):
    """The exception classes to raise for a refusal: by the state, for capacity, and by each limit of load control, and for
    a deadline that has passed."""
    cdef _ccalls.PyObject *classes[6]
    classes[0], classes[1] = <_ccalls.PyObject *>circuit_open, <_ccalls.PyObject *>degraded
    classes[2], classes[3] = <_ccalls.PyObject *>rate_limited, <_ccalls.PyObject *>bulkhead_full
    classes[4], classes[5] = <_ccalls.PyObject *>throttled, <_ccalls.PyObject *>timeout
    fs_refusal_errors_set(classes)


def hear_refusals(bint heard):
    """Whether each refusal is to be told to its recovery, for somebody wants the event."""
    global fs_refusals_heard
    fs_refusals_heard = heard


def in_turn(lock, work):
    """What `work()` gives, called with the lock held; None without a call where somebody holds it.

    Compiled, since between two steps of Python an interrupt may strike, and the lock would stay taken.
    """
    if not lock.acquire(False):
        return None
    try:
        return work()
    finally:
        lock.release()


def now_ns():
    """CLOCK_MONOTONIC in ns, or the fake clock."""
    return fs_now()


cdef class InFrame:
    """Drives a coroutine in the frame of another call, whose deadline `remaining()` then tells. Await it once."""

    cdef object inner
    cdef fs_ticks deadline

    def __cinit__(self, inner, deadline):
        self.inner = inner
        self.deadline = deadline

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef fs_ticks outer = fs_frame_push(self.deadline)
        try:
            return self.inner.send(value)
        finally:
            fs_frame_put(outer)

    def throw(self, *given):
        cdef fs_ticks outer = fs_frame_push(self.deadline)
        try:
            return self.inner.throw(*given)
        finally:
            fs_frame_put(outer)

    def close(self):
        self.inner.close()


def remaining():
    cdef fs_limits limits = fs_limits_now()
    if limits.call == FS_FOREVER and limits.block == FS_FOREVER:
        return None
    cdef fs_ns left = left_of_call(limits.call), now
    if limits.block != FS_FOREVER:
        now = fs_now()
        left = min(left, limits.block - now if limits.block > now else 0)
    return <double>left / SECOND


cdef fs_ns left_of_call(fs_ticks deadline) noexcept:
    """ns until the deadline of the guarded call around us; 0: it has passed."""
    cdef fs_ticks stamp
    if deadline == FS_FOREVER:
        return FS_FOREVER
    stamp = fs_stamp()
    return fs_ticks_to_ns(deadline - stamp) if deadline > stamp else 0


def limits():
    """(end in ns of CLOCK_MONOTONIC, is it that of a block) of the deadline in force here, the earliest; or None.

    One of a guarded call that has passed is told as ending now.
    """
    cdef fs_limits limits = fs_limits_now()
    if limits.call == FS_FOREVER and limits.block == FS_FOREVER:
        return None
    cdef fs_ns call = FS_FOREVER
    if limits.call != FS_FOREVER:
        call = fs_now() + left_of_call(limits.call)
    return min(call, limits.block), limits.block <= call


def frame():
    """The deadline of the guarded call around us, as a stamp, for `set_frame` in a thread that works for it."""
    return fs_frame_now()


def set_frame(fs_ticks deadline):
    """Let this deadline be in force in this thread. Returns the one before."""
    cdef fs_ticks before = fs_frame_now()
    fs_frame_put(deadline)
    return before


def arm_deadline(double seconds):
    return fs_armed_new(to_ns(seconds) if seconds > 0 else 0)


def clock_source():
    """Which clock stamps durations now: "tsc", "cntvct", "monotonic" or "fake"."""
    if fs_clock.source == FS_CLOCK_FAKE:
        return "fake"
    if fs_clock.source == FS_CLOCK_COUNTER:
        return "tsc" if _sys_machine() in ("x86_64", "AMD64") else "cntvct"
    return "monotonic"


def _sys_machine():
    import platform

    return platform.machine()


def clock_anomalies():
    """How often the cycle counter and the kernel's clock have disagreed."""
    return fs_clock.anomalies


def clock_check():
    """Compare the two clocks now; guards do this themselves once a slice."""
    fs_clock_check()


def fake_clock(bint on):
    fs_clock_fake(on)


def fake_clock_set(fs_ns now):
    fs_clock_fake_set(now)


def skew_clock(int64_t ticks):
    """Test hook: pretend that the cycle counter stands this far off."""
    fs_clock_skew(ticks)


def arena_bytes():
    """(in use, lying free for reuse, capacity) of the process's arena, in bytes."""
    cdef fs_arena *a = arena()
    return (a.used - a.free_lines) * FS_LINE, a.free_lines * FS_LINE, <size_t>a.capacity * FS_LINE


def build_info():
    """The compiler and the flags this module was built with."""
    return {"compiler": FS_BUILD_COMPILER.decode(), "flags": FS_BUILD_FLAGS.decode()}
