"""What the ready-made fallbacks answer with.

They compare by value, so that fallbacks built anew for each call are equal to those of the call before, and the guard
kept for those serves again. By value is meant strictly: 1, 1.0 and True are equal to Python and not the same answer.
Nothing that a caller could change later is held: data is copied when it comes and whenever it is handed out.
"""

from __future__ import annotations

from collections.abc import Callable

from .fallbacks import Aged
from .functions import is_awaitable
from .records import Record, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, NoReturn

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types whose values cannot change; exact types, since a subclass may."""

_TOLD_APART = _ATOMS - {float, complex}  # 0.0 == -0.0
"""Types of which two values that are equal are the same."""


class Answer(Record):
    """A handler that is equal to another with the same fields, hashable whatever they hold."""

    def __eq__(self, other: object) -> bool:
        return all(map(same, values(self), values(other))) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *map(_hash, values(self))))


class Cached(Answer):
    """What `get` finds under `key`, a value or a function of the call's arguments that makes one.

    `missing` is what `get` gives for a key it does not have, told by identity, or by equality within its type. That is
    a LookupError here, as is `missing` within an `Aged`. An awaitable `get` gives is looked at when it is awaited.
    """

    key: Any
    get: Callable[[Any], Any]
    missing: Any = None

    def __post_init__(self) -> None:
        if not callable(self.get):
            raise TypeError(f"get must be callable with the key, got {self.get!r}")
        try:
            hash(self.key)
        except TypeError:
            raise TypeError(f"key must be hashable, or a function of the call's arguments, got {self.key!r}") from None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = self.key(*args, **kwargs) if callable(self.key) else self.key
        found = self.get(key)
        return self._awaited(key, found) if is_awaitable(found) else self._hit(key, found)

    async def _awaited(self, key: Any, found: Awaitable[Any]) -> Any:
        return self._hit(key, await found)

    def _hit(self, key: Any, found: Any) -> Any:
        value = found.value if type(found) is Aged else found
        if value is self.missing or (type(value) is type(self.missing) and _equal(value, self.missing)):
            raise LookupError(f"nothing is cached under {key!r}")
        return found


class Fixed(Answer):
    """The same data each time, as it was when this was made. Every call gets a copy of its own."""

    data: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", copied(self.data))

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        return copied(self.data)


def nothing_known(*_args: Any, **_kwargs: Any) -> NoReturn:
    """The handler of what a guard answers from its memory, asked where that holds nothing."""
    raise LookupError("nothing is known yet")


def copied(data: Any) -> Any:
    """A deep copy; what cannot be copied, a lock or a connection, is shared."""
    kind = type(data)
    if kind in _ATOMS:
        return data
    if not data and kind in (list, dict):  # the usual ones, far quicker
        return kind()
    from copy import deepcopy

    try:
        return deepcopy(data)
    except Exception:
        return data


def same(one: Any, other: Any) -> bool:
    """Whether nobody could tell the two apart: of one type, equal, and of equal looks, which tells [1] from [True]."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other) or not _equal(one, other):
        return False
    if kind in _TOLD_APART or callable(one):
        return True
    try:
        return repr(one) == repr(other)
    except Exception:
        return False


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays have no one answer
        return False


def _hash(value: Any) -> int:
    """Equal for what is `same`: by type where there is no hash by value."""
    try:
        return hash(value)
    except Exception:
        return hash(type(value))
