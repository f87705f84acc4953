"""The events there were, in a list."""

from __future__ import annotations

from .. import events
from ..records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self, TypeVar

    E = TypeVar("E", bound=Record)


class EventLog(list["events.Event"]):
    """A list of every event since its block was entered; of the kinds given, if any were.

        with EventLog() as log:
            ...
        assert log.transitions == [("binance", "CLOSED", "OPEN")]

    Events are delivered by the thread whose call caused them, before the call returns; only where two threads cause
    some at a time may one of them find its own a moment later.
    """

    def __init__(self, *kinds: type[Record]) -> None:
        super().__init__()
        self._kinds = kinds
        self._unsubscribe: Any = None

    def __enter__(self) -> Self:
        if self._unsubscribe is not None:
            raise RuntimeError("this log is being kept already")
        self._unsubscribe = events.subscribe(self.append, *self._kinds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            unsubscribe()

    def of(self, kind: type[E], integration: str | None = None) -> list[E]:
        """Those of one kind, of one integration if it is named."""
        return [
            event
            for event in self
            if isinstance(event, kind) and integration in (None, getattr(event, "integration", None))
        ]

    @property
    def transitions(self) -> list[tuple[str, str, str]]:
        """(integration, state before, state after) of each change of a breaker's state."""
        return [(event.integration, event.previous, event.state) for event in self.of(events.Transition)]
