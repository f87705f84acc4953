"""What to answer with when the dependency does not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from .checks import at_least_one, duration, one_of, shown
from .config import FallbackType
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRIORITIES = {
    FallbackType.CACHE: 10,
    FallbackType.LAST_KNOWN: 20,
    FallbackType.SIMULATED: 30,
    FallbackType.MOCK: 40,
    FallbackType.ERROR_RESPONSE: 50,
}
"""The seed's order; lower goes first. A custom fallback takes its predecessor's."""


_type = one_of(FallbackType)


class Aged(Record):
    """A fallback's answer that knows how old it is: a handler may return `Aged(value, age)`, `age` in seconds."""

    value: Any
    age: float


class Memory(Record):
    """What a guard remembers of its successes, for a LAST_KNOWN fallback.

    One value is kept for each key. `key` is a function of the call's arguments; without one the arguments are the key.
    At most `max_keys` are kept, and none is served when older than `max_age` seconds (None: however old).
    """

    key: Callable[..., Hashable] | None = None
    max_age: float | None = None
    max_keys: int = 1024

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key):
            raise TypeError(f"last_known.key must be callable with the call's arguments, got {self.key!r}")
        if self.max_age is not None:
            object.__setattr__(self, "max_age", duration("last_known.max_age", self.max_age))
        object.__setattr__(self, "max_keys", at_least_one("last_known.max_keys", self.max_keys))


class Fallback(Record):
    """One way to answer when the primary operation has failed for good, or was refused.

    `handler` is called with the arguments of the guarded call; async guards also take a coroutine function. A handler
    that raises, or is not done within `timeout` seconds, yields to the next fallback: without a `timeout` an async one
    is given the integration's read timeout and a sync one may run to its end; with one, a sync handler runs in a thread
    of its own. `priority` (lower goes first) is that of its type unless given. A fallback with a `memory` is answered
    by the guard from what it remembers.
    """

    type: FallbackType
    handler: Callable[..., Any]
    priority: int | None = None
    timeout: float | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        if callable(self.type) and not callable(self.handler):
            raise TypeError(f"type and handler are swapped: Fallback({self.handler!r}, {self.type!r})")
        object.__setattr__(self, "type", _type("fallback.type", self.type))
        if not callable(self.handler):
            raise TypeError(f"fallback.handler must be callable, got {self.handler!r}")
        if self.priority is not None and (isinstance(self.priority, bool) or not isinstance(self.priority, int)):
            raise TypeError(f"fallback.priority must be an integer, got {self.priority!r}")
        if self.timeout is not None:
            import threading  # noqa: F401  # now: when it is asked, an outage may have left no file to be opened

            object.__setattr__(self, "timeout", duration("fallback.timeout", self.timeout))
        if self.memory is not None and not isinstance(self.memory, Memory):
            raise TypeError(f"fallback.memory must be a Memory, got {self.memory!r}")


def in_order(fallbacks: Iterable[Fallback]) -> tuple[Fallback, ...]:
    """Sort by priority; equal ones stay as they were given."""
    if not isinstance(fallbacks, Iterable):
        raise TypeError(f"fallbacks must be a list of Fallback objects, got {shown(fallbacks)}")
    ranked: list[tuple[int, Fallback]] = []
    before = PRIORITIES[FallbackType.CACHE]
    for fallback in fallbacks:
        if not isinstance(fallback, Fallback):
            makes = '; Fallback("custom", function) makes one of a function' if callable(fallback) else ""
            raise TypeError(f"fallbacks must be Fallback objects, got {fallback!r}{makes}")
        before = fallback.priority if fallback.priority is not None else PRIORITIES.get(fallback.type, before)
        ranked.append((before, fallback))
    return tuple(fallback for _, fallback in sorted(ranked, key=lambda pair: pair[0]))


def memory_of(fallbacks: Iterable[Fallback]) -> Memory | None:
    """What a guard with these fallbacks has to remember: by one key, enough for all of them."""
    wanted = [fallback.memory for fallback in fallbacks if fallback.memory is not None]
    if not wanted:
        return None
    if any(memory.key != wanted[0].key for memory in wanted):
        raise ValueError("fallbacks of one guard that remember values must do so by the same key")
    return Memory(wanted[0].key, None, max(memory.max_keys for memory in wanted))
