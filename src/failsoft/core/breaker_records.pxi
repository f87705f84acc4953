# Owns the way into a breaker's block and out of it: settings checked and put into ns, status and flight recorder
# read as tuples. The block may be ours or in the arena of other processes.

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
    cdef uint32_t state = <uint32_t>s.state, because = <uint32_t>s.because
    return (
        # Of an arena others may have written anything, also since it was looked at.
        STATES[state if state < 6 else 5], REASONS[because] if because < 11 else None, s.generation, s.failures, s.probes,
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
