# Owns LatencyHistogram: a series of the arena, taken and freed with the object, and the ways to record into it.

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
