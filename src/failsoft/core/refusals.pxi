# Owns refusals as Python knows them: their codes, the exceptions raised for them, and whether anybody is told of each.

NO_ROOM = FS_NO_ROOM
TOO_LATE = FS_TOO_LATE
RATE_LIMITED, BULKHEAD_FULL, THROTTLED = FS_RATE_LIMITED, FS_BULKHEAD_FULL, FS_THROTTLED


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
    fs_hear_refusals(heard)
