"""What happened, for whoever listens.

Events are delivered in order, outside every lock, by the thread whose call caused them; while one thread delivers,
others leave theirs in the queue for it and go on. The queue holds `QUEUE_MOST` events: what comes when it is full is
dropped, and counted in `dropped()`. A listener that raises is logged and changes nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .config import CircuitState
from .records import Record

QUEUE_MOST = 1024
"""Events waiting for a listener that is slower than they come."""


class Transition(Record):
    """A breaker changed its state. `timestamp` is in seconds since the epoch."""

    integration: str
    previous: CircuitState
    state: CircuitState
    generation: int
    reason: str | None
    failures: int
    timestamp: float


Event = Transition
Listener = Callable[[Event], object]

_listeners: tuple[Listener, ...] = ()
_queue: deque[Event] = deque()
_dropped = 0
_changing = threading.Lock()  # over _listeners, and the counting of what was dropped
_delivering = threading.Lock()  # a flag that one thread holds; nobody ever waits for it


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call `listener` with every event from now on. Returns the function that ends it."""
    global _listeners
    if not callable(listener):
        raise TypeError(f"listener must be callable with one event, got {listener!r}")
    with _changing:
        _listeners = (*_listeners, listener)

    def unsubscribe() -> None:
        global _listeners
        with _changing:
            _listeners = tuple(other for other in _listeners if other is not listener)

    return unsubscribe


def dropped() -> int:
    """How many events found the queue full, since the start of the process."""
    return _dropped


def publish(event: Event) -> None:
    """Deliver an event, or leave it to the thread that is delivering."""
    global _dropped
    if not _listeners:
        return
    if len(_queue) >= QUEUE_MOST:
        with _changing:
            _dropped += 1
        return
    _queue.append(event)
    while _queue and _delivering.acquire(blocking=False):
        try:
            _deliver()
        finally:
            _delivering.release()


def _deliver() -> None:
    while _queue:
        event = _queue.popleft()
        for listener in _listeners:
            try:
                listener(event)
            except Exception:
                _complain(event)


def _complain(event: Event) -> None:
    import logging  # only a faulty listener needs it, and it is a third of what importing us would cost

    log = logging.getLogger("failsoft")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.exception("a listener raised on %r", event)
