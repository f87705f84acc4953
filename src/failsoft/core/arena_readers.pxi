# Owns ArenaReader: an arena looked at from outside, and what an operator says to the breakers in it.

cdef class ArenaReader:
    """Looks at a file that processes share, from outside: it holds nobody up, and writes nothing but, with `controls`, what
    an operator says to its breakers."""

    def __cinit__(self, str path, bint controls=False):
        cdef fs_shared_role role = FS_CONTROLS if controls else FS_LOOKS
        cdef fs_shared_status opened = fs_shared_open(&self.mapping, path.encode(), role)
        self.controls = controls
        check_arena(opened, errno)

    def __dealloc__(self):
        fs_shared_close(&self.mapping)

    cdef const fs_member *member(self, size_t line) except NULL:
        cdef const fs_member *member = fs_member_first(self.mapping.shared)
        cdef int steps = 0
        while member is not NULL and steps < 65536:
            if <size_t>member - <size_t>self.mapping.shared == line:
                return member
            member = fs_member_next(self.mapping.shared, member)
            steps += 1
        raise KeyError("this integration is gone from the arena")

    def members(self):
        """(place, name, type, window in seconds) of each integration."""
        cdef list found = []
        cdef const fs_member *member = fs_member_first(self.mapping.shared)
        while member is not NULL and len(found) < 65536:
            if fs_member_breaker(self.mapping.shared, member) is not NULL:
                found.append((<size_t>member - <size_t>self.mapping.shared,
                              member.name[:member.length].decode("utf-8", "replace"), member.type,
                              <double>member.window / SECOND))
            member = fs_member_next(self.mapping.shared, member)
        return found

    def burials(self):
        """A number that changes whenever the counts of a process that has died are taken in."""
        return self.mapping.shared.departed

    def labels(self, size_t place):
        """{number: name} of the operations of an integration."""
        return labels_of(self.mapping.shared, self.member(place))

    def processes(self):
        """(slot, pid, name, seconds since it came, alive) of each process whose slot is taken."""
        cdef list found = []
        cdef uint32_t slot
        cdef fs_process *process
        cdef fs_ns now = fs_now()
        for slot in range(FS_PROCESSES):
            process = &self.mapping.shared.process[slot]
            if fs_tenure_of(process.tenure) < FS_TENURE_LIVE:
                continue
            name = process.name[:24].split(b"\0")[0].decode("utf-8", "replace")
            found.append((slot, process.pid, name, <double>(now - process.since) / SECOND, fs_process_alive(process)))
        return found

    def seats(self, size_t place):
        """The slots that an integration is used from."""
        cdef const fs_member *member = self.member(place)
        cdef uint64_t departed = self.mapping.shared.departed
        return [slot for slot in range(FS_PROCESSES)
                if fs_member_seat(self.mapping.shared, member, slot, departed) is not NULL]

    cdef const fs_breaker *breaker(self, size_t place) except NULL:
        cdef const fs_breaker *breaker = fs_member_breaker(self.mapping.shared, self.member(place))
        if breaker is NULL:
            raise KeyError("this integration is gone from the arena")
        return breaker

    def read(self, size_t place):
        """As Breaker.read, and the least calls for a rate."""
        cdef const fs_breaker *breaker = self.breaker(place)
        return read_breaker(breaker), breaker.config.minimum_calls

    def settings(self, size_t place):
        """What a breaker goes by, named as CircuitBreakerConfig has it; None for a rule that is off."""
        cdef const fs_breaker_config *c = &self.breaker(place).config
        cdef bint quantile = c.latency_quantile > 0.0
        return {
            "failure_threshold": c.failure_threshold or None,
            "success_threshold": c.success_threshold,
            "timeout": <double>c.lease / SECOND,
            "half_open_max_calls": c.half_open_most,
            "reset_timeout": <double>c.reset_timeout / SECOND,
            "failure_rate": c.failure_rate if c.failure_rate <= 1.0 else None,
            "slow_rate": c.slow_rate if c.slow_rate <= 1.0 else None,
            "slow_call": None if c.slow == FS_FOREVER else <double>c.slow / SECOND,
            "latency_quantile": c.latency_quantile if quantile else None,
            "latency_limit": <double>c.latency_limit / SECOND if quantile else None,
            "minimum_calls": c.minimum_calls,
            "count_window": c.last or None,
            "reset_growth": c.reset_growth,
            "reset_max": None if c.reset_most == FS_FOREVER else <double>c.reset_most / SECOND,
            "reset_jitter": c.reset_jitter,
        }

    def capacity(self, size_t place):
        """As Breaker.capacity."""
        return fs_capacity_of(fs_breaker_share(self.breaker(place), fs_now()))

    cdef fs_breaker *controlled(self, size_t place) except NULL:
        if not self.controls:
            raise RuntimeError("this arena was opened to be looked at only")
        return <fs_breaker *>self.breaker(place)

    def force(self, size_t place, int state):
        """As Breaker.force. Listeners are those of this process, so that there are none."""
        cdef fs_change change
        change.generation = 0
        fs_breaker_force(self.controlled(place), <fs_state>state, fs_now(), &change)

    def limit(self, size_t place, double capacity):
        """As Breaker.limit, and the decision recorded."""
        cdef fs_decision decision
        cdef fs_breaker *breaker = self.controlled(place)
        fs_breaker_limit(breaker, fs_share_of(capacity))
        decision.first = fs_now()
        decision.number = capacity
        decision.operation = 0
        decision.kind = <uint8_t>FS_CAPACITY
        decision.because = <uint8_t>FS_BECAUSE_OPERATOR
        decision.state = <uint8_t>(fs_breaker_gate(breaker) & 7)
        decision.detail = 0
        fs_breaker_note(breaker, &decision)

    def decisions(self, size_t place):
        """As Breaker.decisions."""
        return read_decisions(self.breaker(place))

    def observe(self, size_t place, number, slot):
        """What has been counted of an operation, by its number (None: of all), in a slot (None: by everybody, and the
        departed)."""
        cdef Operation sum = Operation(1e9)
        cdef const fs_member *member = self.member(place)
        cdef uint32_t of = 0 if number is None else number, by = FS_EVERYBODY if slot is None else slot
        if by > FS_EVERYBODY:
            raise ValueError(f"slot must be None or from 0 to {FS_EVERYBODY}, got {slot}")
        if fs_member_observe(self.mapping.shared, member, by, of, sum.series, fs_now()) != FS_OK:
            raise MemoryError("failsoft's arena is full")
        sum.series.name = of
        sum.window = <double>member.window / SECOND
        return sum

    def budget(self, size_t place, uint32_t slot):
        """(balance when last asked, retries, hedges, refused) of a process's retry budget; None: it has none."""
        cdef uint64_t departed = self.mapping.shared.departed
        cdef fs_stranger stranger = fs_stranger_in(self.mapping.shared, slot, departed)
        cdef const fs_seat *seat = fs_member_seat(self.mapping.shared, self.member(place), slot, departed)
        cdef const fs_budget *budget
        if seat is NULL:
            return None
        budget = <const fs_budget *>fs_stranger_follow(&stranger, seat, seat.budget, sizeof(fs_budget))
        return None if budget is NULL else (budget.balance, budget.retries, budget.hedges, budget.refused)

    def load(self, size_t place, uint32_t slot):
        """(calls under way, share let go by the throttle) of a process's load control; None: it has none."""
        cdef uint64_t departed = self.mapping.shared.departed
        cdef fs_stranger stranger = fs_stranger_in(self.mapping.shared, slot, departed)
        cdef const fs_seat *seat = fs_member_seat(self.mapping.shared, self.member(place), slot, departed)
        cdef const fs_load *load
        if seat is NULL:
            return None
        load = <const fs_load *>fs_stranger_follow(&stranger, seat, seat.load, sizeof(fs_load))
        return None if load is NULL else (load.bulkhead.in_flight, fs_capacity_of(load.throttle.share))
