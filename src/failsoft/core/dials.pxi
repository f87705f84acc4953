# Owns Dial: an exact share of calls, for those that ask without a breaker.

cdef class Dial:
    """Lets an exact share of the calls go: see csrc/include/failsoft/degraded.h."""

    def __cinit__(self):
        self.sum = FS_DIAL_START

    def admits(self, double capacity):
        """May this one go, if only this share (0 to 1) may?"""
        cdef uint64_t share = fs_share_of(capacity)
        return share >= FS_ALL or fs_dial_admits(&self.sum, share)
