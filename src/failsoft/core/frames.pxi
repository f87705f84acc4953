# Owns the frame of a guarded call, whose deadline `remaining()` tells: handed to threads and coroutines that work for
# the call.

cdef class InFrame:
    """Drives a coroutine in the frame of another call, whose deadline `remaining()` then tells. Await it once."""

    cdef object inner
    cdef fs_ticks deadline

    def __cinit__(self, inner, deadline):
        self.inner = inner
        self.deadline = deadline

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef fs_ticks outer = fs_frame_push(self.deadline)
        try:
            return self.inner.send(value)
        finally:
            fs_frame_put(outer)

    def throw(self, *given):
        cdef fs_ticks outer = fs_frame_push(self.deadline)
        try:
            return self.inner.throw(*given)
        finally:
            fs_frame_put(outer)

    def close(self):
        self.inner.close()


def frame():
    """The deadline of the guarded call around us, as a stamp, for `set_frame` in a thread that works for it."""
    return fs_frame_now()


def set_frame(fs_ticks deadline):
    """Let this deadline be in force in this thread. Returns the one before."""
    cdef fs_ticks before = fs_frame_now()
    fs_frame_put(deadline)
    return before
