# The alphabet of the call types, whose headers are not public: for _core.pyx alone. Cython includes the headers of every
# file that is cimported, however far away, so these stand apart from what other modules may cimport.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from failsoft._csrc cimport fs_breaker, fs_load, fs_mapping, fs_ns, fs_series, fs_shared_status, fs_ticks

cdef extern from "frame.h" nogil:
    fs_ticks fs_frame_now()
    void fs_frame_put(fs_ticks deadline)
    fs_ticks fs_frame_push(fs_ticks own)
    uint32_t fs_stripe()

cdef extern from "failsoft/atomics.h" nogil:
    void store_ns "fs_store_relaxed"(fs_ns *word, fs_ns value)
    void store_number "fs_store_relaxed"(uint32_t *word, uint32_t value)
    fs_ns load_ns "fs_load_relaxed"(fs_ns *word)
    uint64_t load_count "fs_load_relaxed"(uint64_t *word)
    uint32_t load_number "fs_load_relaxed"(uint32_t *word)

cdef extern from "deadlines.h":
    object fs_armed_new(fs_ns ns)

cdef extern from "bound.h" nogil:
    ctypedef struct fs_limits:
        fs_ns block
        fs_ticks call

cdef extern from "guard.h":
    fs_limits fs_limits_now()
    ctypedef struct PyObject:
        pass
    bint fs_is_any_guard(object candidate)
    ctypedef struct fs_guard_setup:
        PyObject *fn
        PyObject *owner
        PyObject *operation
        PyObject *recovery
        PyObject *judge
        PyObject *memory_key
        PyObject *dedupe
        PyObject *key
        Py_ssize_t memory_most
        Py_ssize_t shards_most
        uint8_t skip
        fs_breaker **truth
        fs_series *series
        fs_ns timeout
        fs_ns overall
        fs_ns slow
        fs_ns cancel_after
        bint is_async "async"
        bint binds
        bint keeps_arguments
        bint has_fallbacks
        bint has_closure
        bint undressed
        bint immortal
        bint disabled
    ctypedef struct fs_guard:
        pass
    ctypedef enum fs_mode:
        FS_RESULT
    const fs_ns FS_TOO_LATE
    object fs_guard_run(fs_guard *guard, fs_mode mode, fs_ns until, PyObject **args, size_t nargsf, PyObject *kwnames)
    object fs_guard_new(const fs_guard_setup *setup)
    int fs_guard_disable(object guard, bint disabled) except -1
    int fs_python_setup(object module) except -1
    void fs_guard_retime(object guard, fs_ns timeout, fs_ns overall, fs_ns slow, fs_ns cancel_after)
    void fs_guard_control(object guard, fs_load *load)
    int fs_refusal_errors_set(PyObject **classes) except -1
    void fs_hear_refusals(bint heard)
    const char *FS_BUILD_COMPILER
    const char *FS_BUILD_FLAGS

cdef extern from "flow.h":
    int fs_flow_setup(object flow, object intervals, fs_series *series, fs_ns stale, object key, object sequence,
                      Py_ssize_t most, bint resumes) except -1

cdef extern from "alone.h":
    fs_shared_status fs_claim_alone(fs_mapping *mapping)
    void fs_part_alone(fs_mapping *mapping)
