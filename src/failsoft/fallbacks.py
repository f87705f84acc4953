"""What to answer with when the dependency does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


class Fallback(Record):
    """One way to answer when the primary operation has failed for good, or was refused.

    `handler` is called with the arguments of the guarded call; async guards also take a coroutine function. A handler
    that raises yields to the next fallback. `priority` (lower goes first) is that of its type unless given.
    """

    type: FallbackType
    handler: Callable[..., Any]
    priority: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", FallbackType(self.type))
        if not callable(self.handler):
            raise TypeError(f"fallback.handler must be callable, got {self.handler!r}")
        if self.priority is not None and (isinstance(self.priority, bool) or not isinstance(self.priority, int)):
            raise TypeError(f"fallback.priority must be an integer, got {self.priority!r}")


def in_order(fallbacks: Iterable[Fallback]) -> tuple[Fallback, ...]:
    """Sort by priority; equal ones stay as they were given."""
    ranked: list[tuple[int, Fallback]] = []
    before = PRIORITIES[FallbackType.CACHE]
    for fallback in fallbacks:
        if not isinstance(fallback, Fallback):
            raise TypeError(f"fallbacks must be Fallback objects, got {fallback!r}")
        before = fallback.priority if fallback.priority is not None else PRIORITIES.get(fallback.type, before)
        ranked.append((before, fallback))
    return tuple(fallback for _, fallback in sorted(ranked, key=lambda pair: pair[0]))
