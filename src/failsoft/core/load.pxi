# Owns Load: the block of rate limiter, bulkhead and throttle behind a breaker, which keeps it.

cdef class Load:
    """Load control behind a breaker, which keeps its block: see csrc/include/failsoft/load.h. Durations in ns."""

    def __cinit__(self, Breaker breaker not None):
        self.breaker = breaker
        if breaker.load is NULL:
            breaker.load = fs_load_take(arena(), fs_stamp())
        if breaker.load is NULL:
            raise MemoryError("failsoft's arena is full")

    def limit_rate(self, double rate, uint64_t burst, double max_wait):
        """Let so many calls a second go, `burst` at once; 0.0: any number."""
        if fs_limiter_set(&self.breaker.load.limiter, rate, burst, fs_stamp()) != FS_OK:
            raise ValueError(f"outside what a rate limiter can do: {rate!r} a second, {burst!r} at once")
        store_ns(&self.breaker.load.rate_wait, to_ns(max_wait))

    def limit_calls(self, uint32_t most, double max_wait):
        """Let so many calls be under way at a time; 0: any number."""
        store_number(&self.breaker.load.bulkhead.limit, most if most else FS_UNBOUNDED)
        store_ns(&self.breaker.load.place_wait, to_ns(max_wait))

    def throttle(self, double ratio, double most, uint64_t minimum, double window):
        """Refuse what would most likely be refused; ratio 0.0: nothing."""
        fs_throttle_set(&self.breaker.load.throttle, ratio, most, minimum, to_ns(window))
        fs_load_failed(self.breaker.load, self.breaker.block, fs_now())

    def admit(self, waiter):
        """Let the first of the queue in, by its `code`, or say what it `lacks`.

        In one step, so that an interrupt comes before it or after, and a place is never nobody's.
        """
        if waiter.code >= 0:  # its wait has just ended otherwise
            return
        cdef uint64_t n = waiter.n
        cdef uint64_t code = fs_load_admit(
            self.breaker.load, self.breaker.block, n, False, True, fs_now(), fs_stamp())
        if code == 0:
            waiter.code = 0
        else:
            waiter.lacks = code

    def withdraw(self, uint64_t n):
        """Give back what `admit` has given."""
        fs_load_withdraw(self.breaker.load, n)

    def queue(self, uint32_t waiting):
        """So many wait now, and nobody may go before them."""
        fs_load_queue(self.breaker.load, waiting)

    def forked(self):
        """In a child, no call is under way: those of its parent's other threads never end here.

        Those of the thread that forked do, and leave a count that does not go below nothing.
        """
        self.breaker.load.bulkhead.in_flight = 0

    def unaccepted(self):
        """An answer was no failure, and no acceptance: for the throttle."""
        fs_throttle_unaccepted(&self.breaker.load.throttle, fs_breaker_gate(self.breaker.block) >> 32, fs_now())
        fs_load_failed(self.breaker.load, self.breaker.block, fs_now())

    def fits(self, uint64_t n):
        """Whether n tokens can ever be there at once."""
        return n <= load_count(&self.breaker.load.limiter.burst)

    def when(self, uint64_t n):
        """ns until n tokens will have come."""
        return fs_limiter_when(&self.breaker.load.limiter, fs_stamp(), n)

    def patience(self, uint64_t code):
        """ns that a call refused by this code may wait."""
        if code == FS_RATE_LIMITED:
            return load_ns(&self.breaker.load.rate_wait)
        return load_ns(&self.breaker.load.place_wait) if code == FS_BULKHEAD_FULL else 0

    def read(self):
        """(tokens, calls under way, share let go by the throttle)"""
        cdef fs_load *load = self.breaker.load
        return (fs_limiter_tokens(&load.limiter, fs_stamp()), load_number(&load.bulkhead.in_flight),
                fs_capacity_of(load_count(&load.throttle.share)))

    @property
    def armed(self):
        """Whether any limit is set."""
        return fs_load_armed(self.breaker.load)
