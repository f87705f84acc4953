"""A plain loop, watched."""

from __future__ import annotations

from collections.abc import Iterable

from .._core import WatchedLoop
from ..classify import classify_error
from ..course import SUCCEEDED
from .feeds import Feed
from .records import StreamState, StreamStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from ..integrations import Integration

    T = TypeVar("T")


class Watch(Feed, WatchedLoop["T"]):
    """An iterator over a plain iterable that counts what passes. Made by `Integration.watch`."""

    def __init__(self, integration: Integration, iterable: Iterable[Any], operation: str, **options: Any) -> None:
        super().__init__(integration, operation, resumes=False, **options)
        self._attach(iterable)
        self._error: BaseException | None = None
        self._made_whole()

    def status(self) -> StreamStatus:
        """What it is doing now: STALE where nothing has come for `stale_after` seconds, however long the loop dwelt."""
        counted = self._counts()[0]
        age = self._age() if counted else None
        state = StreamState.LIVE if counted else StreamState.WAITING
        if self._error is not None:
            state = StreamState.CLOSED
        elif age is not None and self.stale_after is not None and age >= self.stale_after:
            state = StreamState.STALE
            if self._note_stale():
                self._stale(age)
        return StreamStatus(state, age, 1, self._error)

    # ---- what C tells

    def _arrived(self) -> None:
        self._tell_breaker(SUCCEEDED, 0)

    def _failed(self, error: Exception) -> None:
        self._error = error
        recovery = self._guard._recovery
        self._tell_breaker(recovery.outcome_of(classify_error(error)), 0)
        recovery.log_block(error)
