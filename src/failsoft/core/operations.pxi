# Owns Operation: the histogram of a named operation, that also counts its events (retries, fallbacks, refusals).

cdef class Operation(LatencyHistogram):
    """What the calls of one named operation come to. Written by guards, read by metrics."""

    @property
    def number(self):
        """Which operation of its integration it is, from 1."""
        return self.series.name

    @number.setter
    def number(self, uint32_t number):
        self.series.name = number

    def totals_of(self, bint recent):
        """(calls, summed ns, failures, slow calls) over the window, or since the start."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        if recent:
            fs_series_recent(self.series, fs_now(), &totals)
        else:
            fs_series_ever(self.series, &totals)
        return totals.calls, totals.sum, totals.failures, totals.slow

    def events(self):
        """How often each of EVENTS has happened, since the start."""
        cdef uint32_t i
        return tuple([load_number(&self.series.events[i]) for i in range(FS_EVENTS)])

    def note(self, int event, int count=1):
        """Count an event by its place in EVENTS."""
        fs_series_note(self.series, <fs_event_kind>event, <uint32_t>count)
