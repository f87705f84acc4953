"""Values of users on their way out: into a pickle, a copy, or JSON.

An error carries what callers put into it, and has to arrive whatever that is. So what cannot go along is left
behind alone, and its repr goes in its place. Values may hold themselves, hold a million others, or raise when looked
at: nothing here raises on their account, or follows them for ever.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

from .config import ErrorCategory, IntegrationType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEEPEST = 16
"""Levels of containers that are followed: what is nested deeper is a program's state, no detail of an error."""

_TRIALS = 5
"""Errors within errors that are pickled as such: each is pickled once for all those around it."""

_WIDEST = 2048
"""Bits of an int: Python may be told to print none of more than 640 digits, and json prints them."""

_SIMPLE = frozenset((type(None), bool, int, float, str, bytes, ErrorCategory, IntegrationType))

_trials = threading.local()


class _Packed:
    """What has been pickled already, and unpickles as what it was."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[object, ...]:
        import pickle

        return pickle.loads, (self.data,)


def picklable(value: Any, path: tuple[int, ...] = ()) -> Any:
    """Return what pickles as `value`, or as the repr of what in it cannot be pickled."""
    if type(value) in _SIMPLE:
        return value
    if type(value) is dict and id(value) not in path and len(path) < _DEEPEST:
        path = (*path, id(value))
        return {picklable(key, path): picklable(item, path) for key, item in value.items()}
    import pickle

    depth = getattr(_trials, "depth", 0)
    if depth < _TRIALS:  # an error may hold itself
        _trials.depth = depth + 1
        try:
            data = pickle.dumps(value)
            pickle.loads(data)  # there and back: an exception may fail in its own __init__
            return _Packed(data)
        except Exception:
            pass
        finally:
            _trials.depth = depth
    return shown(value)


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy, as `copy.deepcopy` does; what in it cannot be copied is shared."""
    from copy import deepcopy

    if type(value) is dict and id(value) not in memo:
        again: dict[Any, Any] = {}
        memo[id(value)] = again
        again.update((key, copied(item, memo)) for key, item in value.items())
        return again
    try:
        return deepcopy(value, memo)
    except Exception:
        return value


def plain(value: object, path: tuple[int, ...] = ()) -> object:
    """Return what strict JSON has for `value`, in plain types; the repr of what it has nothing for."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int) and int.bit_length(value) <= _WIDEST:
            return int.__int__(value)
        if isinstance(value, float) and math.isfinite(value):
            return float.__float__(value)
        if id(value) not in path and len(path) < _DEEPEST:
            path = (*path, id(value))
            if isinstance(value, Mapping):
                return {plain_key(key): plain(item, path) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(item, path) for item in value]
    except Exception:  # a hostile mapping, or one that changes under our hands
        pass
    return shown(value)


def plain_key(key: object) -> str:
    """Return the name that JSON has for a key."""
    return str.__str__(key) if isinstance(key, str) else shown(key)


def finite(value: Any) -> bool:
    """Whether `value` is a number, and no NaN or infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def shown(value: object) -> str:
    """Return the repr of `value`, or that of a bare object if its own fails."""
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)
