"""What a forked child must not inherit. Only the thread that forked goes on there: a lock held by another one would
never be released, and what another one was doing will never be done."""

from __future__ import annotations

import os
import weakref
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Forgetful(Protocol):
        """What counts on other threads."""

        def forked(self) -> None: ...


generation = 0
"""How many forks lie between this process and the one that imported failsoft."""

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_forgetful: weakref.WeakSet[Any] = weakref.WeakSet()


def new_lock() -> RLock:
    """A lock that is free in a child.

    Its holder may take it again: the handler of a signal, or a finaliser, comes at any time and may make guarded calls.
    """
    lock = RLock()
    _locks.add(lock)
    return lock


def held(lock: Any) -> bool:
    """By this thread."""
    return bool(lock._is_owned())


def remember(one: Forgetful) -> None:
    """Call its `forked` in a child, while it lives."""
    _forgetful.add(one)


def _in_child() -> None:
    global generation
    generation += 1
    for lock in _locks:
        if not held(lock):
            lock._at_fork_reinit()
    failed = None
    for one in _forgetful:
        try:
            one.forked()
        except Exception as error:  # a thread that cannot be started, say: the others have to know all the same
            failed = error
    if failed is not None:
        raise failed  # the interpreter reports it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
