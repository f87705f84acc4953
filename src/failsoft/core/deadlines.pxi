# Owns the asking for the deadline in force, and the arming of one. Guarded calls have theirs in a frame of their thread,
# in ticks; `deadline()` blocks have theirs in CLOCK_MONOTONIC.

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


def arm_deadline(double seconds):
    return fs_armed_new(to_ns(seconds) if seconds > 0 else 0)
