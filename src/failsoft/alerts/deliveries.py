"""How notices reach a sink: in order, one at a time, outside every lock, and without anybody waiting for it.

Each sink has a queue of its own, and a thread while there is something in it. Each call of a sink goes through a guard
like any other call that may hang: it is left after its `timeout`, and its breaker spares a receiver that is down. A
sink that says `again` (a webhook) keeps what could not be delivered and tries anew, for up to `KEPT` seconds; others
are called once. Nothing a sink does reaches the rules or another sink.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from .. import forks, timers
from .._core import now_ns
from ..classify import classify_error
from ..config import ErrorCategory
from ..errors import CircuitOpenError
from ..logs import complain
from .notices import SinkStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..registry import Registry
    from .notices import Notice

QUEUE_MOST = 256
"""Notices that wait for one sink. What comes when there are as many is dropped, and counted."""

KEPT = 900.0
"""Seconds for which a notice that could not be delivered is worth another try."""

PAUSE = 5.0
"""Seconds before that, where nobody says how long."""

PASSING = (ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR, ErrorCategory.RATE_LIMIT)


class Delivery:
    """The way to one sink."""

    def __init__(self, sink: Any, registry: Registry) -> None:
        self.sink = sink
        self.name: str = sink.name
        self._registry = registry
        self._lock = forks.new_lock()  # over what follows
        self._queue: deque[tuple[Notice, int]] = deque()
        self._works = False
        self._sent = self._failed = self._dropped = 0
        self._idle = threading.Event()
        self._idle.set()
        self._ending = threading.Event()
        self._guard: Any = None

    def put(self, notice: Notice) -> None:
        """Have a notice delivered. Returns at once."""
        with self._lock:
            if len(self._queue) >= QUEUE_MOST:
                self._dropped += 1
                return
            self._queue.append((notice, now_ns()))
            if self._works:
                return
            self._works = True
            self._idle.clear()
        try:
            threading.Thread(target=self._work, name=f"failsoft-alerts {self.name}"[:60], daemon=True).start()
        except RuntimeError:  # the system gives no more threads, or the interpreter is at its end
            with self._lock:
                self._dropped += len(self._queue)
                self._queue.clear()
                self._works = False
                self._idle.set()

    def flush(self, until: float) -> bool:
        """Wait until all is delivered, at most until this moment of `time.monotonic`. Whether it is."""
        return self._idle.wait(max(until - time.monotonic(), 0.0))

    def end(self) -> None:
        """No further waits: what cannot be delivered at once has failed."""
        self._ending.set()

    def begin(self) -> None:
        """Wait again where it is worth it."""
        self._ending.clear()

    def status(self) -> SinkStatus:
        """How it has fared."""
        with self._lock:
            waiting = len(self._queue) + self._works
            return SinkStatus(self.name, self._sent, self._failed, self._dropped, waiting)

    def forget(self) -> None:
        """In a forked child: what waits is the parent's."""
        self._queue = deque()
        self._works = False
        self._idle, self._ending = threading.Event(), threading.Event()
        self._idle.set()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._works = False
                    self._idle.set()
                    return
                notice, came = self._queue.popleft()
            try:
                sent = self._deliver(notice, came)
            except BaseException:  # in a thread of ours nobody else is there to see it
                sent = False
                complain("the sink %r cannot be used", self.name)
            with self._lock:
                self._sent += sent
                self._failed += not sent

    def _deliver(self, notice: Notice, came: int) -> bool:
        guard = self._guarded()
        while True:
            try:
                guard(notice)
                return True
            except CircuitOpenError as error:
                wait = PAUSE if error.retry_after is None else max(error.retry_after, 0.01)
            except Exception as error:  # logged by the guard
                if not self.sink.again or classify_error(error) not in PASSING:
                    return False
                wait = PAUSE
            except BaseException:  # a callback that wants to end the program: this is the wrong thread for that
                return False
            if (now_ns() - came) / 1e9 + wait > KEPT or timers.current.wait(self._ending, wait):
                return False

    def _guarded(self) -> Any:
        """The guard before the sink, made when there is something to send for the first time."""
        if self._guard is None:
            sink = self.sink
            integration = self._registry.integration(
                f"alerts.{self.name}",
                "external_api",
                timeouts={"connect": sink.timeout, "read": sink.timeout, "write": sink.timeout,
                          "overall": 4 * sink.timeout},
                retry_policy={"max_retries": 2 if sink.again else 0},
                circuit_breaker={"timeout": sink.timeout},
            )  # fmt: skip
            self._guard = integration.guard(sink.send, operation="send", enforce="thread")
        return self._guard
