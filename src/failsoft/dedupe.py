"""De-duplication: concurrent calls that are alike share one execution, the flight of the first.

Sync calls: the first thread makes the call, the others wait for it, each at most as long as its integration's overall
timeout and its own deadline (`remaining()`) allow. An interrupt is the first's alone: of the others the next one makes
the call. A call made from inside its own flight, by the same thread, is made, not waited for.

Async calls: the flight is a task of its own in the running loop, so that whoever asked first can be cancelled like
anybody else: the flight goes on as long as one waits for it, and is cancelled with the last. It runs in a copy of the
first caller's context (`contextvars`), and by the integration's own deadlines, not by those around the first caller.
Calls made from inside it, also by tasks that it has started, are made, not waited for. Loops share nothing.

A function that turns out to return awaitables is de-duplicated as an async one from then on, and always answers with
something to await.

`Registry.close()` cancels the tasks.

All get the same value, not copies. An exception is copied for each, since raising writes into it; only where a class
keeps what cannot be seen from outside do all get the same. Calls of `.outcome()` share with each other, not with plain
ones. Calls whose key cannot be told (arguments that do not hash, a key function that raises) are made as if alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Hashable
from contextvars import ContextVar

from . import answers, timers
from ._core import EVENTS, remaining
from .config import ErrorCategory
from .course import Final
from .deadlines import leave_block
from .errors import IntegrationTimeoutError
from .functions import is_awaitable, is_coroutine_function
from .logs import complain, repeats_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, TypeAlias

    from .course import AnyGuard

    Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
    Begun: TypeAlias = Coroutine[Any, Any, Any] | None

DEDUPLICATED = EVENTS.index("deduplicated")

_around: ContextVar[tuple[object, ...]] = ContextVar("failsoft flights around", default=())
"""The marks of the async flights that the running code is part of."""


class Flight:
    """One execution that several threads wait for."""

    __slots__ = ("_end", "error", "leader", "ok", "traceback", "value")

    def __init__(self) -> None:
        self.leader = threading.get_ident()
        self.ok = False
        self.value: Any = None
        self.error: Exception | None = None
        self.traceback: TracebackType | None = None
        # Who comes first decides what is under the one key, in one step: an event to wait for, or None for "landed".
        self._end: dict[str, threading.Event | None] = {}

    def land(self) -> None:
        """Wake who waits; what there is to know is set."""
        event = self._end.setdefault("end", None)
        if event is not None:
            event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the landing. False: it was not in time."""
        event = self._end.setdefault("end", threading.Event())
        return event is None or timers.current.wait(event, seconds)


class AsyncFlight:
    """One task that several tasks wait for."""

    __slots__ = ("_waiters", "abandoned", "mark", "task", "traceback")

    def __init__(self) -> None:
        self.mark = object()
        self.task: Task[Any] | None = None  # none yet while an eager one runs up to its first suspension
        self.traceback: TracebackType | None = None
        self.abandoned = False
        self._waiters: dict[Future[None], None] = {}

    def land(self, task: Task[Any]) -> None:
        """The task is done: wake who waits, in the order they came."""
        error = None if task.cancelled() else task.exception()  # seen, so that nobody is told it never was
        self.traceback = None if error is None else error.__traceback__
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def result(self, loop: AbstractEventLoop) -> Any:
        """Wait for the task; the last to give up waiting takes it along."""
        if self.task is None or not self.task.done():
            waiter = loop.create_future()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                del self._waiters[waiter]
                if not self._waiters and self.task is not None and not self.task.done():
                    self.abandoned = True
                    if not loop.is_closed():  # or we are torn down with it
                        self.task.cancel()
        task, traceback = self.task, self.traceback
        assert task is not None
        error = None if task.cancelled() else task.exception()
        if error is None:
            return task.result()
        try:
            raise copied(error, traceback or error.__traceback__)
        finally:
            del self, task, error, traceback  # or a shared exception would hold the frame that holds it


class Flights:
    """The executions of one guard that are under way, by key.

    No lock is held while keys are compared, which is the user's code: each step below is one operation of a dict.
    """

    __slots__ = ("__weakref__", "_aloft", "_async", "_is_async", "_key", "_sync")

    def __init__(self, key: Callable[..., Hashable] | None) -> None:
        self._key = key
        self._sync: dict[Hashable, Flight] = {}
        self._async: dict[AbstractEventLoop, dict[Hashable, AsyncFlight]] = {}  # each touched by its loop's thread only
        self._aloft: set[AsyncFlight] = set()  # loops hold their tasks weakly
        self._is_async: bool | None = None
        _all.add(self)

    def forget_all(self) -> None:
        """In the child of a fork: whoever led here does so in the parent."""
        self._sync, self._async, self._aloft = {}, {}, set()

    def cancel(self) -> list[Task[Any]]:
        """Cancel the tasks that are under way, each in its loop's thread, and tell which: the registry closes."""
        tasks = [flight.task for flight in tuple(self._aloft) if flight.task is not None and not flight.task.done()]
        for task in tasks:
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                task.get_loop().call_soon_threadsafe(task.cancel)
        return tasks

    def call(self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the guard, or share in a call like this one."""
        if self._is_async is None:
            self._is_async = is_coroutine_function(guard.__wrapped__)
        if self._is_async:
            return self._share_async(guard, mode, (args, kwargs), None)
        key = self._key_of(guard, mode, args, kwargs)
        if key is None:
            return guard._once(mode, args, kwargs)
        mine = flight = Flight()
        try:
            try:
                flight = self._sync.setdefault(key, mine)
            except Exception:  # arguments that cannot be compared
                return guard._once(mode, args, kwargs)
            if flight is mine:
                return self._lead(guard, mode, args, kwargs, key, mine)
            if flight.leader == mine.leader:
                return guard._once(mode, args, kwargs)
            return self._follow(guard, mode, args, kwargs, key, flight)
        except BaseException:
            if flight is mine:  # an interrupt may have struck where nothing below could see to it
                _take_out(self._sync, key, mine)
                mine.land()
            raise
        finally:
            del flight, mine  # or an exception would hold the frame that holds it

    def _lead(
        self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable, flight: Flight
    ) -> Any:
        try:
            value = guard._once(mode, args, kwargs)
            if not is_awaitable(value):
                flight.ok, flight.value = True, value
                return value
            self._is_async = True  # what can be awaited can be awaited once: it becomes a task, as all from now on
        except Exception as error:
            flight.error, flight.traceback = error, error.__traceback__
            raise
        finally:
            _take_out(self._sync, key, flight)
            flight.land()
            del flight
        return self._share_async(guard, mode, (args, kwargs), value)

    def _follow(
        self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], key: Hashable, flight: Flight
    ) -> Any:
        recovery = guard._recovery
        limit, left = recovery.overall / 1e9, remaining()
        patience = limit if left is None else min(limit, left)
        if not flight.wait(patience):
            if patience == limit:  # whoever leads is lost, and must not take the key along
                _take_out(self._sync, key, flight)
            return _waited_in_vain(guard, mode, patience, (args, kwargs))
        if flight.ok:
            recovery.record.note(DEDUPLICATED)
            return flight.value
        error, traceback = flight.error, flight.traceback
        del flight
        if error is None:  # the leader was interrupted, or what it got is to be awaited
            return self.call(guard, mode, args, kwargs)
        recovery.record.note(DEDUPLICATED)
        try:
            raise copied(error, traceback)
        finally:
            del error, traceback

    async def _share_async(self, guard: AnyGuard, mode: int, arguments: Arguments, begun: Begun) -> Any:
        """`begun` is what the call has given already, where it took making it to know that it can be awaited."""
        key = self._key_of(guard, mode, *arguments)
        loop = timers.running_loop()
        flight = None if key is None or loop is None else self._board(guard, mode, arguments, begun, loop, key)
        if flight is None or loop is None:
            return await _whole(guard, mode, arguments, begun)
        result = flight.result(loop)
        del flight  # or a shared exception would hold the frame that holds it
        return await result

    def _board(
        self,
        guard: AnyGuard,
        mode: int,
        arguments: Arguments,
        begun: Begun,
        loop: AbstractEventLoop,
        key: Hashable,
    ) -> AsyncFlight | None:
        """The flight to wait for, started if there is none. None: the call is to be made as if alone."""
        table = self._async.get(loop)
        if table is None:
            self._drop_closed_loops()
            table = self._async[loop] = {}
        try:
            flight = table.get(key)
        except Exception:  # arguments that cannot be compared
            return None
        if flight is not None and flight.mark in _around.get():
            return None
        if flight is None or flight.abandoned or (flight.task is not None and flight.task.done()):
            flight = AsyncFlight()
            whole = _whole(guard, mode, arguments, begun, flight.mark)
            try:
                table[key] = flight
                self._start(whole, flight, loop, table, key)
            except BaseException:  # nobody may wait for what will never land
                self._forget(flight, loop, table, key)
                if flight.task is None:
                    whole.close()
                else:
                    flight.task.cancel()
                raise
        else:
            guard._recovery.record.note(DEDUPLICATED)
            if begun is not None:
                begun.close()
        return flight

    def _start(
        self,
        whole: Coroutine[Any, Any, Any],
        flight: AsyncFlight,
        loop: AbstractEventLoop,
        table: dict[Hashable, AsyncFlight],
        key: Hashable,
    ) -> None:
        def landed(task: Task[Any]) -> None:
            self._forget(flight, loop, table, key)
            flight.land(task)

        self._aloft.add(flight)
        flight.task = loop.create_task(whole)
        flight.task.add_done_callback(landed)

    def _forget(
        self, flight: AsyncFlight, loop: AbstractEventLoop, table: dict[Hashable, AsyncFlight], key: Hashable
    ) -> None:
        self._aloft.discard(flight)
        _take_out(table, key, flight)
        if not table and self._async.get(loop) is table:
            del self._async[loop]

    def _drop_closed_loops(self) -> None:
        """What a loop has left behind that was closed with tasks pending."""
        for loop in tuple(self._async):
            if loop.is_closed():
                left = self._async.pop(loop, {})
                self._aloft.difference_update(left.values())

    def _key_of(self, guard: AnyGuard, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
        """None: nothing tells which calls this one is like."""
        try:
            if self._key is not None:
                made = self._key(*args, **kwargs)
            else:  # 1 and True and 1.0 are equal, and not alike
                kinds = tuple(map(type, args))
                made = (args, kinds, frozenset((name, type(value), value) for name, value in kwargs.items()))
            hash(made)
            return (mode, made)
        except KeyboardInterrupt:
            raise
        except BaseException:
            name, operation = guard._recovery.integration.name, guard._recovery.operation
            if self._key is not None and repeats_of((name, operation, "dedupe")) is not None:
                complain("%s.%s: dedupe's key function %r gave nothing that tells a call", name, operation, self._key)
            return None


async def _whole(guard: AnyGuard, mode: int, arguments: Arguments, begun: Begun, mark: object = None) -> Any:
    if mark is not None:
        _around.set((*_around.get(), mark))
        leave_block()
    answer = guard._once(mode, *arguments) if begun is None else begun
    # What returned something to await the last time may return a value this time.
    return await answer if is_awaitable(answer) else answer


def _take_out(table: dict[Hashable, Any], key: Hashable, flight: object) -> None:
    try:
        if table.get(key) is flight:
            del table[key]
    except Exception:  # a comparison raised; better to begin with none than to keep one that has landed
        table.clear()


def _waited_in_vain(guard: AnyGuard, mode: int, seconds: float, arguments: Arguments) -> Any:
    recovery, final = guard._recovery, Final()
    error = IntegrationTimeoutError(
        f"{recovery.operation}: the call shared with another was not done within {seconds:.3g} s",
        details={"waited": seconds},
        integration_type=recovery.integration.type,
        integration_name=recovery.integration.name,
        operation=recovery.operation,
        reason="waited for a call like it",
    )
    final.error, final.category = error, ErrorCategory.TIMEOUT
    answers.log(recovery, final, arguments, error)
    return recovery.shared_failure(mode, error)


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement, or like one


def copied(error: BaseException, traceback: TracebackType | None) -> BaseException:
    """An exception for one of those who share it, with the cause, notes and traceback of the first.

    It is made as the builtin class behind it would make it: an `__init__` of the user's takes other arguments than
    those that an exception keeps, and may take them amiss. Where that cannot be done it is the exception itself.
    """
    try:
        twin = _twin(error) or error
    except Exception:
        twin = error
    if twin is not error:
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(traceback)  # also where it is the same one, or it would grow with each who raises it


def _twin(error: BaseException) -> BaseException | None:
    cls: Any = type(error)
    base: Any = next(kind for kind in cls.__mro__ if not kind.__flags__ & _HEAP_TYPE)
    room = _POINTER if cls.__weakrefoffset__ > 0 >= base.__weakrefoffset__ else 0
    if base.__module__ != "builtins" or cls.__basicsize__ - base.__basicsize__ > room:
        return None  # slots, or the fields of an extension's class
    _, args, *state = base.__reduce__(error)
    twin: BaseException = base.__new__(cls, *args)
    base.__init__(twin, *args)
    twin.__dict__.update(error.__dict__)
    if state and state[0] is not error.__dict__:
        base.__setstate__(twin, state[0])  # fields that are no arguments, as the `name` of an ImportError
    if "__notes__" in twin.__dict__:
        twin.__notes__ = list(twin.__notes__)
    return twin


_POINTER = tuple.__itemsize__

_all: weakref.WeakSet[Flights] = weakref.WeakSet()


def _in_child() -> None:
    for flights in tuple(_all):
        flights.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
