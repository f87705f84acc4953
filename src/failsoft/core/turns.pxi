# Owns taking turns: work that one thread does for all, and that no interrupt may leave half done.

def in_turn(lock, work):
    """What `work()` gives, called with the lock held; None without a call where somebody holds it.

    Compiled, since between two steps of Python an interrupt may strike, and the lock would stay taken.
    """
    if not lock.acquire(False):
        return None
    try:
        return work()
    finally:
        lock.release()
