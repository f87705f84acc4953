"""Telling of changes: to the listeners of events, then to the check's own callback, one after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .. import events
from ..logs import complain
from ..recorder import HEALTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..integrations import Integration
    from .hosts import Host
    from .status import HealthStatus

MOST = 64
"""What waits for a callback that has not returned; beyond it the oldest goes."""


class Outbox:
    """What is to be told of one check. Filled under the runner's lock, told by whoever the host sends."""

    def __init__(self, integration: Integration, callback: Callable[[HealthStatus], Any] | None) -> None:
        self._integration = integration
        self._callback = callback
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], Any]] = deque(maxlen=MOST)
        self._sent = False  # somebody is telling
        self._complained = False

    def put(self, message: Callable[[], Any]) -> None:
        """Have something called, in its turn."""
        self._waiting.append(message)

    def change(self, status: HealthStatus, error: str | None) -> None:
        """Tell of a change of the verdict."""
        self.put(lambda: self._tell(status, error))

    def send(self, host: Host) -> None:
        """See to it that somebody tells what waits."""
        with self._lock:
            if self._sent or not self._waiting:
                return
            self._sent = True
        if not host.send(self):
            self.stopped()

    def stopped(self) -> None:
        """Whoever was telling has given up."""
        self._sent = False

    def next(self) -> Callable[[], Any] | None:
        """What is to be told now, by the one who tells; None: nothing more, and he may go."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._sent = False
            return None

    def complain(self) -> None:
        """Log the exception being handled, the first time."""
        if not self._complained:
            self._complained = True
            complain("on_health_change of %r raised; this is not logged again", self._integration.name)

    def forget(self) -> None:
        """In the child of a fork: what waits is the parent's to tell."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._sent = False

    def _tell(self, status: HealthStatus, error: str | None) -> Any:
        self._integration.breaker.note(HEALTH, status.healthy)
        events.publish(
            events.HealthChange(
                status.integration_name,
                status.healthy,
                status.consecutive_successes,
                status.consecutive_failures,
                error,
                status.last_check or 0.0,
            )
        )
        return None if self._callback is None else self._callback(status)
