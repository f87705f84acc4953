# Owns Breaker: a block, the operations that count in its rates, and the telling of each change to its listener. What it
# decides is in csrc/include/failsoft/breaker.h; the arena that processes share a breaker in, in sharing.pxi.

cdef class Breaker:
    """The state machine of a circuit breaker, compiled. See csrc/include/failsoft/breaker.h."""

    def __cinit__(self, config, str name="", listener=None, double ramp=0.0, double ramp_from=0.0):
        cdef fs_breaker_config c
        self.name = name
        self.listener = listener
        self.adopted = []
        self.former = []
        breaker_config(config, ramp, ramp_from, &c)
        fs_payer_begin(&self.payer, fs_now())
        self.block = fs_breaker_take(arena(), &c, fs_now())
        if self.block is NULL:
            raise MemoryError("failsoft's arena is full")
        self.own = Operation(config.window)
        self.adopt(self.own)

    def __dealloc__(self):
        if self.seat is not NULL:
            if the_arena.slot != FS_PROCESSES:
                fs_member_leave(&the_arena, self.block, self.seat, fs_now())
        elif self.block is not NULL:
            fs_breaker_free(self.block)
        if self.load is not NULL:
            fs_arena_free(&self.load.block)
        for address in self.former or ():
            fs_breaker_free(<fs_breaker *><size_t>address)

    def adopt(self, Operation operation not None):
        """Let the calls of an operation count in the rates. It lives as long as the breaker from now on."""
        self.adopted.append(operation)
        if self.seat is not NULL:
            fs_series_list(&self.seat.block, &self.seat.series, operation.series)
        else:
            fs_breaker_adopt(self.block, operation.series)

    cdef uint64_t calls(self):
        """That its operations have ever counted."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        for operation in self.adopted:
            fs_series_ever((<Operation>operation).series, &totals)
        return totals.calls

    cdef void tell(self, const fs_change *change):
        if change.generation:
            self._announce(change.origin, change.to, change.because, change.generation, change.failures)

    def _announce(self, int previous, int state, int because, generation, failures):
        """Called after each change of state, outside all locks, by whoever brought it about."""
        if self.listener is not None:
            self.listener(self, STATES[previous], STATES[state], REASONS[because], generation, failures)

    cdef fs_permit take(self, bint probe):
        cdef uint64_t gate = fs_breaker_gate(self.block)
        if fs_gate_clear(gate):
            return fs_permit_of(gate)
        cdef fs_change change
        cdef fs_permit permit
        change.generation = 0
        if probe:
            permit = fs_breaker_probe(self.block, fs_now(), &change)
        else:
            permit = fs_breaker_acquire(self.block, fs_now(), &change)
        self.tell(&change)
        return permit

    cdef void settle(self, fs_permit permit, bint failed, fs_ns took):
        cdef fs_change change
        cdef fs_histogram *histogram
        cdef bint slow = took >= self.block.config.slow
        cdef fs_ns now = fs_now()
        histogram = fs_series_stripe(self.own.series, fs_stripe())
        if histogram is not NULL and fs_breaker_counts(self.block, permit):
            if took:
                fs_histogram_record(histogram, took, fs_stamp())
                fs_histogram_outcome(histogram, failed, slow)
            else:
                fs_histogram_note(histogram, fs_stamp(), failed, slow)
        change.generation = 0
        if failed:
            fs_breaker_failure(self.block, permit, took, now, &change)
        else:
            fs_breaker_success(self.block, permit, took, now, &change)
        self.tell(&change)

    @cython.binding(False)
    def acquire(self):
        cdef fs_permit permit = self.take(False)
        return permit if fs_permit_granted(permit) else 0

    def admit(self):
        """A permit; else 0 for the state's refusal, or NO_ROOM for one for capacity."""
        return self.take(False)

    def probe(self):
        """A permit as of `acquire`, also where probes are reserved for the health check."""
        cdef fs_permit permit = self.take(True)
        return permit if fs_permit_granted(permit) else 0

    def reserve(self, double seconds):
        """For so long after each wait in OPEN, admit only `probe`; 0.0: no longer."""
        fs_breaker_reserve(self.block, to_ns(seconds))

    def limit(self, double capacity):
        """Let only this share (0 to 1) of the calls go; 1.0: all of them again."""
        fs_breaker_limit(self.block, fs_share_of(capacity))

    def mark_chaos(self, bint on):
        """Let its guards ask, for each call, which fault is injected into it; or no longer."""
        if self.seat is not NULL:
            fs_member_chaos(&the_arena, self.block, self.seat, on)
        else:
            fs_breaker_chaos(self.block, on)

    @property
    def capacity(self):
        """The share of calls let go now by limit and ramp, whatever the state."""
        return fs_capacity_of(fs_breaker_share(self.block, fs_now()))

    def note(self, int kind, int because, int detail=0, double number=0.0, uint32_t operation=0):
        """Record a decision in the flight recorder, by the numbers of csrc/include/failsoft/recorder.h."""
        cdef fs_decision decision
        decision.first = fs_now()
        decision.number = number
        decision.operation = operation
        decision.kind = <uint8_t>kind
        decision.because = <uint8_t>because
        decision.state = <uint8_t>(fs_breaker_gate(self.block) & 7)
        decision.detail = <uint8_t>min(detail, 255)
        fs_breaker_note(self.block, &decision)

    def decisions(self):
        """The flight recorder, oldest first: (kind, because, state, detail, number, operation, generation, count, first
        and last time in ns) each."""
        return read_decisions(self.block)

    @cython.binding(False)
    def success(self, fs_permit permit, fs_ns duration_ns=0):
        self.settle(permit, False, duration_ns)

    @cython.binding(False)
    def failure(self, fs_permit permit, fs_ns duration_ns=0):
        self.settle(permit, True, duration_ns)

    def ignore(self, fs_permit permit):
        fs_breaker_ignore(self.block, permit)

    def read(self):
        """(state, reason, generation, failures, probes out, (calls, failures, slow) of the window, retry after, age,
        capacity)"""
        return read_breaker(self.block)

    def force(self, int state):
        """Put it into a state, by its place in STATES."""
        cdef fs_change change
        change.generation = 0
        fs_breaker_force(self.block, <fs_state>state, fs_now(), &change)
        self.tell(&change)

    def open_until(self, uint32_t generation, fs_ns end):
        """Open it until `end`, because a fleet has, if it still is in this generation. Whether it did."""
        cdef fs_change change
        change.generation = 0
        cdef bint done = fs_breaker_open_until(self.block, generation, end, fs_now(), &change)
        self.tell(&change)
        return done

    def close_with_fleet(self, uint32_t generation):
        """Close it, because a fleet has, if it still is in this generation. Whether it did."""
        cdef fs_change change
        change.generation = 0
        cdef bint done = fs_breaker_close(self.block, generation, fs_now(), &change)
        self.tell(&change)
        return done

    def hold(self, fs_ns held):
        """Let no probe go before `held`; 0: hold none back."""
        fs_breaker_hold(self.block, held)

    def let(self, fs_ns until):
        """Let probes go until then, though they are held back; 0: no longer."""
        fs_breaker_let(self.block, until)

    @property
    def held_back(self):
        """How many calls `hold` has kept from probing."""
        return fs_breaker_held_back(self.block)

    def totals(self):
        """(calls, failures, slow calls) that its operations have ever counted."""
        cdef fs_totals totals = fs_totals(0, 0, 0, 0)
        for operation in self.adopted:
            fs_series_ever((<Operation>operation).series, &totals)
        return totals.calls, totals.failures, totals.slow

    def relocate(self, config=None, double ramp=0.0, double ramp_from=0.0):
        """Move the breaker to another block of the arena, under whatever guards look at it; there `config` holds."""
        cdef fs_breaker_config c
        if config is not None:
            breaker_config(config, ramp, ramp_from, &c)
        with cython.critical_section(self):  # two that move the same block would have it freed twice
            self.go(&c if config is not None else NULL)

    cdef int go(self, const fs_breaker_config *config) except -1:
        cdef fs_breaker *before = self.block
        cdef fs_breaker *heir
        if self.seat is not NULL:
            return self.resign(config if config is not NULL else &before.config)
        heir = fs_breaker_move(before, config)
        if heir is NULL:
            raise MemoryError("failsoft's arena is full")
        self.block = heir
        self.former.append(<size_t>before)  # last: it may have to wait, and then the next one moves
        return 0

    cdef int resign(self, const fs_breaker_config *config) except -1:
        """Go on alone, as the shared breaker is now. Guards find out when they are given their limits anew."""
        cdef fs_breaker *own = fs_member_resign(&the_arena, self.block, self.seat, fs_now(), config)
        if own is NULL:
            raise MemoryError("failsoft's arena is full")
        self.block = own
        self.seat = NULL
        return 0

    @property
    def shared(self):
        """Whether other processes may have the same breaker."""
        return self.seat is not NULL

    def join(self, bytes name, uint32_t type, double window, labels, Budget budget=None, double patience=2.0):
        """Share the breaker of this name and configuration. How many processes have the name under another one; None:
        there is no room. `labels` are the names of the operations adopted so far; their numbers may change."""
        cdef fs_joining joining
        cdef fs_seat *seat = NULL
        cdef uint32_t others = 0
        cdef fs_breaker *before
        cdef fs_breaker *found
        cdef int lock = lock_arena(patience)
        try:
            before = self.block  # it may have been moved while we waited
            joining.mapping = &the_arena
            joining.name = name
            joining.length = <uint32_t>len(name)
            joining.type = type
            joining.window = to_ns(window)
            found = fs_member_join(&joining, before, &seat, &others)
            if found is NULL:
                return None
            for operation, label in labels:
                label_operation(found, operation, label)
        finally:
            fs_shared_unlock(lock)
        self.seat = seat
        self.block = found
        self.show(budget)
        if fs_breaker_gate(before) & FS_GATE_CHAOS:
            self.mark_chaos(True)
        fs_breaker_leave(before)
        self.former.append(<size_t>before)
        return others

    def show(self, Budget budget=None):
        """Let whoever looks at the arena find this process's retry budget and load control."""
        if self.seat is NULL:
            return
        self.seat.budget = 0 if budget is None else fs_arena_span(&self.seat.block, &budget.block.block)
        self.seat.load = 0 if self.load is NULL else fs_arena_span(&self.seat.block, &self.load.block)

    def label(self, Operation operation not None, bytes name):
        """Number an operation as all processes do that share this breaker."""
        cdef int lock = lock_arena(2.0)
        try:
            if self.seat is not NULL:  # it may have gone while we waited
                label_operation(self.block, operation, name)
        finally:
            fs_shared_unlock(lock)

    def sit(self):
        """In the child of a fork, under the arena's lock: count here from nothing. False: the breaker has gone since, and this
        is one of its own."""
        if self.seat is NULL or fs_member_sit(&the_arena, self.block, self.seat, fs_now()):
            return True
        self.resign(&(<fs_breaker *><size_t>self.former[-1]).config)  # of before it was shared: the settings are the same
        return False

    def labels(self):
        """{number: name} of the operations of all processes that share this breaker."""
        return {} if self.seat is NULL else labels_of(the_arena.shared, fs_member_of(self.block))
