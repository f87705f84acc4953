"""What happened, for whoever listens.

Events are delivered in order, outside every lock, by the thread whose call caused them; while one thread delivers,
others leave theirs in the queue for it and go on. The queue holds `QUEUE_MOST` events: what comes when it is full is
dropped, and counted in `dropped()`. A listener that raises is logged and changes nothing, whatever it raises; only an
interrupt (Ctrl-C) that strikes it goes on to the main thread, when the queue is empty. A forked child begins with its
parent's listeners and an empty queue: what waits in it the parent delivers.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Hashable

from ._core import hear_refusals, in_turn
from .config import CircuitState, ErrorCategory, FallbackType, IntegrationType
from .forks import new_lock
from .logs import complain, shown
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, overload

    E = TypeVar("E", bound=Record)
    F = TypeVar("F", bound=Record)
    G = TypeVar("G", bound=Record)

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


class Refusal(Record):
    """The gate refused a call. `capacity` is the share of calls it lets go while that is what it refused for."""

    integration: str
    operation: str
    state: CircuitState
    reason: str | None
    retry_after: float | None
    capacity: float | None
    timestamp: float


class Retry(Record):
    """Attempt number `attempt` (2 is the first retry) will be made in `delay` seconds, because of `error`.

    `error` is None where `failure=` found fault with a returned value.
    """

    integration: str
    operation: str
    attempt: int
    delay: float
    category: ErrorCategory
    error: BaseException | None
    timestamp: float


class FallbackUsed(Record):
    """A fallback answered in place of the operation. `data_age` is in seconds, None where unknown."""

    integration: str
    operation: str
    type: FallbackType
    data_age: float | None
    error: BaseException | None
    timestamp: float


class DegradedChange(Record):
    """An integration (by name), or all of a type, lets another share of calls go: `capacity` (0 to 1) from now on.

    `reason` is what changed: "circuit_open", "recovering", "recovered", or the reason an operator gave.
    """

    target: IntegrationType | str
    capacity: float
    previous: float
    reason: str
    timestamp: float


class HealthChange(Record):
    """A health check found an integration healthy, or no longer so. `error` is the last check's, None if it passed."""

    integration: str
    healthy: bool
    consecutive_successes: int
    consecutive_failures: int
    error: str | None
    timestamp: float


class StreamLost(Record):
    """A connection of a stream ended, or could not be made, because of `error`; the next try is in `delay` seconds."""

    integration: str
    operation: str
    category: ErrorCategory
    error: BaseException
    delay: float
    timestamp: float


class StreamReconnected(Record):
    """A stream has its first item over connection number `connection`. `silent_for`: seconds since the item before."""

    integration: str
    operation: str
    connection: int
    silent_for: float
    timestamp: float


class StreamStale(Record):
    """No item has come for so many `seconds`."""

    integration: str
    operation: str
    seconds: float
    timestamp: float


class StreamGap(Record):
    """After the sequence number `last` came `sequence`: `missing` numbers did not. `key` is None without one."""

    integration: str
    operation: str
    key: Hashable
    last: int
    sequence: int
    missing: int
    timestamp: float


class StreamDisorder(Record):
    """The sequence number `sequence` came after `last`, which is higher."""

    integration: str
    operation: str
    key: Hashable
    last: int
    sequence: int
    timestamp: float


class ChaosInjected(Record):
    """`failsoft.chaos` befell an attempt: `fault` is "latency", "error" or "outcome".

    `latency` is how many seconds it is held up; `error` is what it will raise, None where it raises nothing of its own.
    """

    integration: str
    operation: str
    fault: str
    latency: float
    error: BaseException | None
    timestamp: float


class FleetChange(Record):
    """A fleet's state began or ceased to be shared: of one integration, or (None) of all. `reason` is why it ceased."""

    namespace: str
    integration: str | None
    shared: bool
    reason: str | None
    timestamp: float


KINDS = (
    Transition, Refusal, Retry, FallbackUsed, DegradedChange, HealthChange,
    StreamLost, StreamReconnected, StreamStale, StreamGap, StreamDisorder,
    ChaosInjected, FleetChange,
)  # fmt: skip
Event = (
    Transition
    | Refusal
    | Retry
    | FallbackUsed
    | DegradedChange
    | HealthChange
    | StreamLost
    | StreamReconnected
    | StreamStale
    | StreamGap
    | StreamDisorder
    | ChaosInjected
    | FleetChange
)
Listener = Callable[[Event], object]


class _Audience:
    """Those who hear of events, each with the kinds that he hears of. Replaced whole, so it is read without a lock."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: tuple[tuple[Listener, tuple[type[Record], ...]], ...] = ()

    def join(self, listener: Listener, kinds: tuple[type[Record], ...]) -> Callable[[], None]:
        """Take one in. Returns what lets him go."""
        entry = (listener, kinds)
        with _changing:
            self.members = (*self.members, entry)
            hear_refusals(listening(Refusal))

        def leave() -> None:
            with _changing:
                self.members = tuple(other for other in self.members if other is not entry)
                hear_refusals(listening(Refusal))

        return leave

    def wants(self, kind: type[Record]) -> bool:
        """Whether anybody hears of this kind."""
        return any(kind in kinds for _, kinds in self.members)

    def tell(self, event: Event) -> bool:
        """Call them. Whether one was interrupted: the others are told all the same."""
        interrupted = False
        for listener, kinds in self.members:
            if type(event) not in kinds:
                continue
            try:
                listener(event)
            except KeyboardInterrupt:
                interrupted = True
            except BaseException:
                complain("a listener raised on %s", shown(repr, event))
        return interrupted


_listeners = _Audience()
_witnesses = _Audience()
_queue: deque[Event] = deque()
_dropped = 0
_changing = new_lock()  # over who listens, and the counting of what was dropped
_delivering = allocate_lock()  # a flag that one thread holds; nobody ever waits for it

if TYPE_CHECKING:

    @overload
    def subscribe(listener: Listener) -> Callable[[], None]: ...
    @overload
    def subscribe(listener: Callable[[E], object], kind: type[E], /) -> Callable[[], None]: ...
    @overload
    def subscribe(listener: Callable[[E | F], object], kind: type[E], other: type[F], /) -> Callable[[], None]: ...
    @overload
    def subscribe(
        listener: Callable[[E | F | G], object], kind: type[E], other: type[F], third: type[G], /
    ) -> Callable[[], None]: ...
    @overload
    def subscribe(listener: Callable[[Any], object], *kinds: type[Record]) -> Callable[[], None]: ...


def subscribe(listener: Callable[[Any], object], *kinds: type[Record]) -> Callable[[], None]:
    """Call `listener` with every event from now on, or with those of the given kinds. Returns what ends it.

    unsubscribe = subscribe(print, Transition, HealthChange)
    """
    if not callable(listener):
        raise TypeError(f"listener must be callable with one event, got {listener!r}")
    for kind in kinds:
        if kind not in KINDS:
            raise TypeError(f"kinds must be of {', '.join(k.__name__ for k in KINDS)}, got {kind!r}")
    return _listeners.join(listener, kinds or KINDS)


def witness(listener: Callable[[Any], object], *kinds: type[Record]) -> Callable[[], None]:
    """As `subscribe`, but in the thread and the context of the call that an event is about, and before it goes on.

    For rooms that note what happens where it happens, and are quick about it. Of what is said under a lock of ours,
    `DegradedChange` of operators, a witness hears nothing.
    """
    return _witnesses.join(listener, kinds)


def dropped() -> int:
    """How many events found the queue full, since the start of the process."""
    return _dropped


def listening(kind: type[Record]) -> bool:
    """Whether anybody would hear an event of this kind: if not, it need not be made."""
    return _listeners.wants(kind) or _witnesses.wants(kind)


def publish(event: Event) -> None:
    """Deliver an event, or leave it to the thread that is delivering."""
    if _witnesses.tell(event):
        _interrupt()
    line_up(event)
    deliver()


def line_up(event: Event) -> None:
    """Put an event into the queue, for `deliver`. No listener runs: under a lock of ours this will do."""
    global _dropped
    if not _listeners.wants(type(event)):
        return
    if len(_queue) >= QUEUE_MOST:
        with _changing:
            _dropped += 1
        return
    _queue.append(event)


def deliver() -> None:
    """Deliver what is in the queue, or leave it to the thread that is delivering."""
    flag = _delivering  # a listener may fork, and in the child the flag is another
    while _queue:
        interrupted = in_turn(flag, _deliver)
        if interrupted is None:
            return
        if interrupted:
            _interrupt()


def _deliver() -> bool:
    """Tell the listeners. Whether one was interrupted."""
    interrupted = False
    while _queue:
        interrupted |= _listeners.tell(_queue.popleft())
    return interrupted


def _interrupt() -> None:
    from _thread import interrupt_main

    interrupt_main()


def _begin_anew() -> None:
    global _delivering
    _delivering = allocate_lock()
    _queue.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
