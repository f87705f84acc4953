# Owns Budget: the block that retries and hedges are taken from, paid by the traffic before a breaker.

cdef int budget_config(object config, fs_budget_config *c) except -1:
    c.share = config.share
    c.floor = config.floor
    c.window = max(to_ns(config.window), 1)
    return 0


cdef class Budget:
    """How many retries and hedges may still be added to the traffic: see csrc/include/failsoft/budget.h."""

    def __cinit__(self, config):
        cdef fs_budget_config c
        budget_config(config, &c)
        self.block = fs_budget_take(arena(), &c, fs_now())
        if self.block is NULL:
            raise MemoryError("failsoft's arena is full")

    def __dealloc__(self):
        if self.block is not NULL:
            fs_budget_free(self.block)

    def configure(self, config):
        """Let other settings hold from now on; the balance is kept."""
        cdef fs_budget_config c
        budget_config(config, &c)
        fs_budget_configure(self.block, &c, fs_now())

    cdef fs_ns pay(self, Breaker payer):
        """Read the traffic before a breaker. The time now."""
        cdef uint64_t calls = payer.calls()
        cdef fs_ns now = fs_now()
        fs_budget_pay(self.block, &payer.payer, calls, now)
        return now

    def retry(self, Breaker payer not None):
        """Take a retry for a call before this breaker, whose traffic pays. Whether there was one."""
        cdef fs_ns now = self.pay(payer)
        return fs_budget_retry(self.block, &payer.payer, now)

    def hedge(self, Breaker payer not None):
        """Take a hedge."""
        cdef fs_ns now = self.pay(payer)
        return fs_budget_hedge(self.block, now)

    def read(self, Breaker payer not None):
        """(balance, full, retries, hedges, refused)"""
        cdef fs_budget_status s
        fs_budget_read(self.block, self.pay(payer), &s)
        return s.balance, s.full, s.retries, s.hedges, s.refused
