# Owns the doors to the call types of csrc/python: guards and flows are made, switched and timed anew through them.

def make_guard(fn, Breaker breaker not None, Operation operation not None, recovery, *, judge, bint is_async, bint binds,
               bint keeps_arguments, bint has_fallbacks, bint shared, bint disabled, timeout, overall, slow, cancel_after,
               int skip=0, memory_key=None, Py_ssize_t memory_most=0, dedupe=None, key=None, Py_ssize_t max_keys=0, bint undressed=False):
    """A guard before `fn`. Durations in seconds, None for none. `shared` guards live as long as the process on 3.13t.

    `undressed`: `recovery.looks` gives what it has in its `__dict__`, when that is first asked for.
    """
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
    setup.truth = <fs_breaker **>&breaker.block
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
    setup.undressed = undressed
    return fs_guard_new(&setup)


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
