# Owns this process's part in an arena that processes share: the one mapping, its lock and slot, and the names of the
# operations in it. What goes wrong in csrc/include/failsoft/shared.h becomes an ArenaTrouble.

cdef fs_mapping the_arena
"""What this process shares. There is one at most, and it stays."""
the_arena.slot = FS_PROCESSES

ARENA_TROUBLES = ("", "system", "no_space", "garbage", "version", "layout", "owner", "busy", "full", "too_large")


class ArenaTrouble(Exception):
    """A file cannot be shared: (one of ARENA_TROUBLES, errno)."""


cdef int check_arena(fs_shared_status status, int why) except -1:
    if status != FS_SHARED_OK:
        raise ArenaTrouble(ARENA_TROUBLES[<int>status], why)
    return 0


cdef int lock_arena(double patience) except -1:
    cdef fs_shared_status why
    cdef int lock, number
    cdef fs_ns longest = to_ns(patience)
    with nogil:  # another process may be stopped while it holds the lock; our other threads go on
        lock = fs_shared_lock(&the_arena, longest, &why)
        number = errno
    check_arena(why, number)
    return lock


cdef int label_operation(fs_breaker *breaker, Operation operation, bytes name) except -1:
    cdef uint32_t number = fs_member_label(breaker, name, <uint32_t>len(name))
    operation.series.name = number
    return 0


cdef dict labels_of(const fs_shared *shared, const fs_member *member):
    cdef dict found = {}
    cdef const fs_label *label = fs_label_first(shared, member)
    cdef int steps = 0
    while label is not NULL and steps < 65536:  # longer lists are no lists
        steps += 1
        found[label.number] = label.name[:label.length].decode("utf-8", "replace")
        label = fs_label_next(shared, label)
    return found


def share_arena(str path, breakers=()):
    """Map the file and take a slot in it; all that this process has counted goes there. ArenaTrouble: nothing has changed.
    In the child of a fork its parent's `breakers` sit down there; the answer are those that had gone, and are its own now."""
    cdef int lock, number
    cdef bytes file = path.encode()
    cdef const char *name = file
    cdef fs_shared_status opened
    cdef bint mapped = the_arena.shared is not NULL
    if not mapped:
        with nogil:
            opened = fs_shared_open(&the_arena, name, FS_SHARES)
            number = errno
        check_arena(opened, number)
    try:
        lock = lock_arena(2.0)
        try:
            if the_arena.slot == FS_PROCESSES:
                opened = fs_claim_alone(&the_arena)
                check_arena(opened, errno)
            return [breaker for breaker in breakers if not breaker.sit()]
        finally:
            fs_shared_unlock(lock)
    except ArenaTrouble:
        if not mapped:  # another one may be shared in its place
            fs_shared_close(&the_arena)
        raise


def arena_slot():
    """This process's slot; None: it has none."""
    return None if the_arena.slot == FS_PROCESSES else the_arena.slot


def bury_arena():
    """Take in what processes that have died have counted. How many slots could not be freed."""
    cdef int lock = lock_arena(2.0)
    try:
        return fs_shared_bury(&the_arena)
    finally:
        fs_shared_unlock(lock)


def part_arena():
    """Leave the slot, at the end of the process."""
    if the_arena.shared is not NULL:
        fs_part_alone(&the_arena)
