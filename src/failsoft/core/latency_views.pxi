# Owns LatencyView: what can be asked of a latency histogram, since its start or over its window. Here ns become
# seconds, and shares asked for in any order are put into the one that csrc/include/failsoft/histogram.h wants.

cdef class LatencyView:
    """Reads a latency histogram: since its start, or (`.recent`) over its rolling window."""

    def __init__(self):
        raise TypeError("a LatencyView is a LatencyHistogram, or its .recent")

    def quantiles(self, shares=(0.5, 0.95, 0.99)):
        cdef Py_ssize_t count = len(shares), i
        cdef double q[16]
        cdef uint64_t ns[16]
        if not 1 <= count <= 16:
            raise ValueError(f"shares must be 1 to 16 numbers, got {count}")
        for i in range(count):
            q[i] = shares[i]
            if not 0.0 <= q[i] <= 1.0:
                raise ValueError(f"shares[{i}] must be from 0 to 1, got {q[i]!r}")
            if i > 0 and q[i] < q[i - 1]:
                return self.unordered(shares)
        if fs_series_quantiles(self.series, self.span, q, <size_t>count, ns) == 0:
            return (float("nan"),) * count
        if count == 3:
            return (<double>ns[0] / SECOND, <double>ns[1] / SECOND, <double>ns[2] / SECOND)
        return tuple([<double>ns[i] / SECOND for i in range(count)])

    cdef tuple unordered(self, shares):
        """One pass wants them ascending: sort, ask, and put the answers where they were asked."""
        order = sorted(range(len(shares)), key=shares.__getitem__)
        answers = self.quantiles(tuple([shares[i] for i in order]))
        placed = [0.0] * len(shares)
        for place, answer in zip(order, answers):
            placed[place] = answer
        return tuple(placed)

    cdef fs_totals totals(self) noexcept:
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        if self.span == FS_RECENT:
            fs_series_recent(self.series, fs_now(), &totals)
        else:
            fs_series_ever(self.series, &totals)
        return totals

    @property
    def count(self):
        return self.totals().calls

    @property
    def mean(self):
        cdef fs_totals totals = self.totals()
        return <double>totals.sum / SECOND / <double>totals.calls if totals.calls else float("nan")

    @property
    def min(self):
        return self.extreme(0)

    @property
    def max(self):
        return self.extreme(1)

    cdef double extreme(self, bint most):
        """Exact since the start; within a bucket over the window, whose own extremes are not kept."""
        cdef uint64_t low, high
        cdef double q = most
        if self.span == FS_RECENT:
            return <double>low / SECOND if fs_series_quantiles(self.series, FS_RECENT, &q, 1, &low) else float("nan")
        fs_series_extremes(self.series, &low, &high)
        if low > high:
            return float("nan")
        return <double>(high if most else low) / SECOND

    def cells(self):
        """(middle in ns, count) of every cell that holds anything, ascending."""
        cdef uint64_t counts[37 * 64]
        cdef uint32_t i
        fs_series_cells(self.series, self.span, counts)
        return [(fs_histogram_middle(i), counts[i]) for i in range(FS_OCTAVES * FS_CELLS) if counts[i]]

    def counts_below(self, bounds_ns):
        cdef Py_ssize_t count = len(bounds_ns), i
        cdef uint64_t bounds[64]
        cdef uint64_t below[64]
        cdef uint64_t n
        cdef fs_totals totals
        if count > 64:
            raise ValueError(f"bounds_ns must be at most 64 integers, got {count}")
        for i in range(count):
            bounds[i] = bounds_ns[i]
            if i > 0 and bounds[i] < bounds[i - 1]:
                raise ValueError(f"bounds_ns must ascend, got {bounds[i]} after {bounds[i - 1]}")
        n = fs_series_counts_below(self.series, self.span, bounds, <size_t>count, below, &totals)
        return tuple([below[i] for i in range(count)]), n, totals.sum

    @property
    def age(self):
        return <double>(fs_now() - self.series.began) / SECOND

    def to_hdr(self):
        try:
            from hdrh.histogram import HdrHistogram
        except ImportError as error:
            raise ImportError("to_hdr() needs the package hdrhistogram: pip install 'failsoft[hdr]'") from error
        hdr = HdrHistogram(1, 1 << 42, 3)
        for middle, count in self.cells():
            hdr.record_value(middle, count)
        return hdr

    def plot(self, ax=None, label=None):
        from failsoft.report.plots import plot
        return plot(self, ax, label)

    def _repr_html_(self):
        from failsoft.report.cards import histogram
        return histogram(self)
