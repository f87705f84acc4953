"""Locks that a forked child finds free, whoever held them in the parent at that moment.

A lock that another thread holds while the process forks would be held in the child for ever, by nobody. What such a
lock protects here is a table that is changed by single operations, so the child finds it whole.
"""

from __future__ import annotations

import os
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    L = TypeVar("L", bound=object)

_locks: weakref.WeakSet[object] = weakref.WeakSet()


def lock() -> threading.Lock:
    """A `threading.Lock` that is free after a fork."""
    return _known(threading.Lock())


def rlock() -> threading.RLock:
    """A `threading.RLock` that is free after a fork."""
    return _known(threading.RLock())


def _known(made: L) -> L:
    _locks.add(made)
    return made


def _free() -> None:
    for held in tuple(_locks):
        held._at_fork_reinit()  # type: ignore[attr-defined]  # what threading and logging use for their own


os.register_at_fork(after_in_child=_free)
