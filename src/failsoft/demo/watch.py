"""Remembers when each breaker changed its state, as the events tell it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from failsoft import CircuitState, events


class Change(NamedTuple):
    at: float
    """On `time.monotonic`."""
    integration: str
    previous: CircuitState
    state: CircuitState
    reason: str | None


class Watch:
    """The changes so far, oldest first. The listener only appends: it may be called on any thread."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        unsubscribe = events.subscribe(self._note, events.Transition)
        try:
            yield
        finally:
            unsubscribe()

    def first(self, integration: str, state: CircuitState, since: float) -> float | None:
        """When `integration` first entered `state` after `since`, or None if it did not."""
        for change in self.changes:
            if change.at >= since and change.integration == integration and change.state is state:
                return change.at
        return None

    def closed_again(self, integration: str) -> float | None:
        """When `integration` closed, if that is the last thing it did."""
        for change in reversed(self.changes):
            if change.integration == integration:
                return change.at if change.state is CircuitState.CLOSED else None
        return None

    def _note(self, event: events.Transition) -> None:
        now = time.monotonic()
        self.changes.append(Change(now, event.integration, event.previous, event.state, event.reason))
