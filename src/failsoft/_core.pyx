# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The compiled core: breakers, histograms, backoff, and the guards in front of calls.

It converts and hands on. What decides lies in csrc/, what a user sees lies in the Python rooms. Here is what all of it
needs; each file of core/ owns one idea, and all are compiled into this one module.
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

fs_clock_begin()  # `settle_clock` comes at the end of the import
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


include "core/latency_views.pxi"
include "core/histograms.pxi"
include "core/operations.pxi"
include "core/breaker_records.pxi"
include "core/breakers.pxi"
include "core/sharing.pxi"
include "core/arena_readers.pxi"
include "core/budgets.pxi"
include "core/load.pxi"
include "core/dials.pxi"
include "core/backoffs.pxi"
include "core/guards.pxi"
include "core/refusals.pxi"
include "core/wrapper.pxi"
include "core/turns.pxi"
include "core/frames.pxi"
include "core/deadlines.pxi"
include "core/clock.pxi"


def arena_bytes():
    """(in use, lying free for reuse, capacity) of the process's arena, in bytes."""
    cdef fs_arena *a = arena()
    return (a.used - a.free_lines) * FS_LINE, a.free_lines * FS_LINE, <size_t>a.capacity * FS_LINE


def build_info():
    """The compiler and the flags this module was built with."""
    return {"compiler": FS_BUILD_COMPILER.decode(), "flags": FS_BUILD_FLAGS.decode()}
