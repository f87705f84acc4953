# cython: language_level=3, freethreading_compatible=True
"""Reads a breaker's gate and feeds series from C, past every Python call."""
from failsoft._core cimport Breaker, LatencyHistogram, Operation
from failsoft._csrc cimport FS_TIMEOUTS, fs_breaker_gate, fs_gate_clear, fs_histogram_middle, fs_series_note


def is_clear(Breaker breaker not None):
    """Whether a call may go without asking: one word read, by inline functions of the headers."""
    return bool(fs_gate_clear(fs_breaker_gate(breaker.block)))


def count_twice(LatencyHistogram latencies not None, long long ns):
    """Count a value twice, by the extension type's own C method. Answers its window."""
    latencies.count_ns(ns)
    latencies.count_ns(ns)
    return latencies.window


def note_timeouts(Operation operation not None, int count):
    """Write into the series itself: right only if this module sees the layout that failsoft was built with."""
    fs_series_note(operation.series, FS_TIMEOUTS, count)


def middle_of(index):
    return fs_histogram_middle(index)
