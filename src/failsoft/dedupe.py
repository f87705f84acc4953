"""De-duplication: concurrent calls that are alike share one execution, the flight of the first.

Sync calls: the first thread makes the call, the others wait for it, each at most as long as its integration's overall
timeout and its own deadline (`remaining()`) allow. A call made from inside its own flight is made, not waited for.

Async calls: the flight is a task of its own in the running loop, so that whoever asked first can be cancelled like
anybody else: the flight goes on as long as one waits for it, and is cancelled with the last. It runs in a copy of the
first caller's context (`contextvars`), and by the integration's own deadlines, not by those around the first caller.

All get the same value, not copies. An exception is copied for each where that can be done, since raising writes into
it; `copy.copy` has to give one of the same class. Calls of `.outcome()` share with each other, not with plain ones.
Calls whose key cannot be told (arguments that do not hash, a key function that raises) are made as if alone.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Hashable

from . import timers
from ._core import EVENTS, Awaitable, remaining
from .errors import IntegrationTimeoutError
from .functions import is_coroutine_function
from .logs import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from typing import Any, TypeAlias

    from ._core import AsyncGuard, Guard

    AnyGuard: TypeAlias = Guard[..., Any] | AsyncGuard[..., Any]

DEDUPLICATED = EVENTS.index("deduplicated")


class Flight:
    """One execution that several threads wait for."""

    __slots__ = ("done", "error", "leader", "ok", "value")

    def __init__(self) -> None:
        self.leader = threading.get_ident()
        self.done: threading.Event | None = None  # made by the first who waits
        self.ok = False
        self.value: Any = None
        self.error: BaseException | None = None


class AsyncFlight:
    """One task that several tasks wait for."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        self.waiters: set[Future[None]] = set()
        task.add_done_callback(self._landed)

    def _landed(self, task: Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # seen, so that nobody is told it never was
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def result(self, loop: AbstractEventLoop) -> Any:
        """Wait for the task; the last to give up waiting takes it along."""
        if not self.task.done():
            waiter = loop.create_future()
            self.waiters.add(waiter)
            try:
                await waiter
            finally:
                self.waiters.discard(waiter)
                if not self.waiters and not self.task.done():
                    self.task.cancel()
        error = None if self.task.cancelled() else self.task.exception()
        if error is not None:
            raise copied(error)
        return self.task.result()


class Flights:
    """The executions of one guard that are under way, by key."""

    __slots__ = ("_async", "_is_async", "_key", "_lock", "_sync")

    def __init__(self, key: Callable[..., Hashable] | None) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._sync: dict[Hashable, Flight] = {}
        self._async: dict[Hashable, AsyncFlight] = {}
        self._is_async: bool | None = None

    def call(self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the guard, or share in a call like this one."""
        if self._is_async is None:
            self._is_async = is_coroutine_function(guard.__wrapped__)
        if self._is_async:
            return self._share_async(guard, mode, args, kwargs)
        key = self._key_of(mode, args, kwargs)
        if key is None:
            return guard._once(mode, args, kwargs)
        with self._lock:
            flight = self._sync.get(key)
            if flight is None:
                mine = self._sync[key] = Flight()
            elif flight.done is None:
                flight.done = threading.Event()
        if flight is None:
            return self._lead(guard, mode, args, kwargs, key, mine)
        if flight.leader == threading.get_ident():
            return guard._once(mode, args, kwargs)
        return self._follow(guard, mode, args, kwargs, flight)

    def _lead(
        self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable, flight: Flight
    ) -> Any:
        try:
            value = guard._once(mode, args, kwargs)
            # What can be awaited can be awaited once: each who asked has to make their own, from now on as tasks.
            if isinstance(value, Awaitable):
                self._is_async = True
            else:
                flight.ok, flight.value = True, value
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:  # an interrupt is the leader's alone: those who wait make the call themselves
            with self._lock:
                del self._sync[key]
            if flight.done is not None:
                flight.done.set()

    def _follow(self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], flight: Flight) -> Any:
        recovery = guard._recovery
        limit, left = recovery.overall / 1e9, remaining()
        patience = limit if left is None else min(limit, left)
        assert flight.done is not None
        if not timers.current.wait(flight.done, patience):
            error = IntegrationTimeoutError(
                f"{recovery.operation}: the call shared with another was not done within {patience:.3g} s",
                details={"waited": patience},
                integration_type=recovery.integration.type,
                integration_name=recovery.integration.name,
                operation=recovery.operation,
                reason="waited for a call like it",
            )
            return recovery.shared_failure(mode, error)
        if flight.error is not None:
            recovery.record.note(DEDUPLICATED)
            raise copied(flight.error)
        if not flight.ok:
            return guard._once(mode, args, kwargs)
        recovery.record.note(DEDUPLICATED)
        return flight.value

    async def _share_async(self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = self._key_of(mode, args, kwargs)
        loop = _running_loop()
        if key is None or loop is None:
            return await guard._once(mode, args, kwargs)
        key = (id(loop), key)
        with self._lock:
            flight = self._async.get(key)
        # Only the loop's own thread adds and takes what is its own.
        if flight is None or flight.task.done() or flight.task.cancelling():
            flight = AsyncFlight(loop.create_task(_whole(guard, mode, args, kwargs)))
            with self._lock:
                self._async[key] = flight
            flight.task.add_done_callback(lambda task: self._forget(key, task))
        elif flight.task is _current_task():  # from inside its own flight
            return await guard._once(mode, args, kwargs)
        else:
            guard._recovery.record.note(DEDUPLICATED)
        return await flight.result(loop)

    def _forget(self, key: Hashable, task: Task[Any]) -> None:
        with self._lock:
            flight = self._async.get(key)
            if flight is not None and flight.task is task:
                del self._async[key]

    def _key_of(self, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
        """None: nothing tells which calls this one is like."""
        try:
            if self._key is not None:
                made = self._key(*args, **kwargs)
            else:  # 1 and True and 1.0 are equal, and not alike
                kinds = tuple(map(type, args))
                made = (args, kinds, frozenset((name, type(value), value) for name, value in kwargs.items()))
            hash(made)
            return (mode, made)
        except Exception:
            if self._key is not None:
                complain("the key function %r of a de-duplicated call raised", self._key)
            return None


async def _whole(guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return await guard._once(mode, args, kwargs)


def _running_loop() -> AbstractEventLoop | None:
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


def _current_task() -> Task[Any] | None:
    import asyncio

    return asyncio.current_task()


def copied(error: BaseException) -> BaseException:
    """An exception for one of those who share it, with the cause, notes and traceback of the first."""
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error) or twin is error:
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)
