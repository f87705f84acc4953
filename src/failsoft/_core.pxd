# What another Cython module may cimport: `from failsoft._core cimport Breaker, LatencyHistogram`.
from libc.stdint cimport uint64_t

from failsoft._csrc cimport (
    fs_backoff, fs_breaker, fs_breaker_config, fs_budget, fs_change, fs_histogram, fs_load, fs_mapping, fs_member, fs_ns, fs_payer, fs_permit,
    fs_rng, fs_seat, fs_series, fs_span_of_time, fs_totals,
)

cdef extern from *:
    """
    /* A breaker's block is moved in one thread (reconfigure, share) while others look at it. */
    #ifdef __cplusplus
    typedef fs_breaker *fs_breaker_place;
    #else
    typedef fs_breaker *_Atomic fs_breaker_place;
    #endif
    """
    ctypedef fs_breaker *fs_breaker_place

cdef class LatencyView:
    cdef fs_series *series
    cdef fs_span_of_time span
    cdef object owner
    cdef fs_totals totals(self) noexcept
    cdef tuple unordered(self, object shares)
    cdef double extreme(self, bint most)

cdef class LatencyHistogram(LatencyView):
    cdef readonly double window
    cdef fs_histogram *stripe(self) except NULL
    cdef void count_ns(self, uint64_t ns) noexcept

cdef class Operation(LatencyHistogram):
    pass

cdef class Breaker:
    cdef fs_breaker_place block
    cdef fs_seat *seat
    cdef fs_load *load
    cdef readonly str name
    cdef list adopted
    cdef list former
    cdef Operation own
    cdef object listener
    cdef fs_payer payer
    cdef void tell(self, const fs_change *change)
    cdef uint64_t calls(self)
    cdef fs_permit take(self, bint probe)
    cdef void settle(self, fs_permit permit, bint failed, fs_ns took)
    cdef int go(self, const fs_breaker_config *config) except -1
    cdef int resign(self, const fs_breaker_config *config) except -1

cdef class Budget:
    cdef fs_budget *block
    cdef fs_ns pay(self, Breaker payer)

cdef class Load:
    cdef Breaker breaker
    cdef object __weakref__

cdef class ArenaReader:
    cdef fs_mapping mapping
    cdef readonly bint controls
    cdef fs_breaker *controlled(self, size_t place) except NULL
    cdef const fs_member *member(self, size_t line) except NULL
    cdef const fs_breaker *breaker(self, size_t place) except NULL

cdef class Dial:
    cdef uint64_t sum

cdef class Backoff:
    cdef fs_backoff backoff
    cdef fs_rng rng
