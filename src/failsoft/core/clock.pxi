# Owns the clock as Python sees it: which one stamps durations, how far to trust it, and the fake one of tests.

def now_ns():
    """CLOCK_MONOTONIC in ns, or the fake clock."""
    return fs_now()


def settle_clock():
    """Choose the clock that stamps durations. Before this, nothing may be counted."""
    fs_clock_settle()


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
