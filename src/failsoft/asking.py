"""Asking a fallback for its answer: by a call, from what the guard remembers, in time or not at all.

What a guard remembers it knows by the arguments of the call. Where what to call is an argument itself, mostly a lambda
made for the one call, it knows it by what that lambda consists of: its code, what it has closed over, its defaults.

An answer is (True, value) or (False, exception). A value that can be awaited is still to be asked for, by `ask_async`.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType, MethodType

from . import deadlines, timers
from .fallbacks import Aged
from .functions import is_awaitable, is_coroutine_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable
    from typing import Any, TypeAlias

    from .course import AnyGuard
    from .fallbacks import Fallback
    from .recovery import Recovery

    Answer: TypeAlias = tuple[bool, Any]


THREADS_MOST = 256
"""Sync handlers with a timeout that run at a time. While an outage hangs them, it makes no more threads."""

_free = deque(range(THREADS_MOST))


def ask(
    recovery: Recovery,
    guard: AnyGuard,
    fallback: Fallback,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_async: bool = False,
) -> Answer:
    """Call the handler of a fallback, or recall what it would give. Whatever it raises is its answer."""
    try:
        handler = fallback.handler
        own = args[recovery.skip :]
        if fallback.memory is not None:
            known = guard._recall(args, kwargs)
            if known is not None and fallback.memory.max_age is not None and known[1] > fallback.memory.max_age:
                known = None
            if getattr(handler, "needs_memory", False):
                value, age = known or (None, None)
                return True, handler(*own, last=value, last_age=age, **kwargs)
            if known is not None:
                return True, Aged(*known)
        if fallback.timeout is not None and not is_coroutine_function(handler):
            loop = timers.running_loop() if is_async else None
            if loop is not None:
                return True, _from_thread(loop, fallback, own, kwargs)
            if not is_async:
                return _ask_in_thread(fallback, own, kwargs)
        return True, handler(*own, **kwargs)
    except Exception as error:
        return False, error


def memory_key(recovery: Recovery) -> Callable[..., Hashable] | None:
    """What makes the key of a remembered value out of all the arguments a guard gets. None: they are it."""
    key = recovery.memory.key if recovery.memory else None
    if recovery.memory is None or not recovery.skip:
        return key
    if key is None:
        return _called
    chosen = key
    return lambda _operation, /, *args, **kwargs: chosen(*args, **kwargs)


def _called(operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Hashable:
    made: Hashable = _parts_of(operation)
    return (made, args, frozenset(kwargs.items())) if args or kwargs else made


def _parts_of(operation: Callable[..., Any]) -> Hashable:
    """What two callables have in common that do the same, although each was made for one call."""
    if isinstance(operation, partial):
        held = (*map(_held, operation.args), *((name, _held(value)) for name, value in operation.keywords.items()))
        return (_parts_of(operation.func), len(operation.args), held)
    if isinstance(operation, MethodType):
        return (operation.__func__, _held(operation.__self__))
    if not isinstance(operation, FunctionType):
        held_itself: Hashable = _held(operation)
        return held_itself
    code, closure = operation.__code__, operation.__closure__
    defaults, named = operation.__defaults__, operation.__kwdefaults__
    closed_over = tuple([_held(cell.cell_contents) for cell in closure]) if closure else ()
    given = tuple(map(_held, (*(defaults or ()), *(named or {}).values()))) if defaults or named else ()
    return (code, code.co_filename, closed_over, given)


def _held(value: Any) -> Any:
    """What is only itself, as a client or a session, is not kept alive for having been used once."""
    kind: Any = type(value)
    if kind.__hash__ is not object.__hash__:
        return value
    try:
        return weakref.ref(value)
    except TypeError:
        return value


async def ask_async(recovery: Recovery, fallback: Fallback, answer: Awaitable[Any]) -> Answer:
    """Await what a handler gave, for as long as it may take."""
    limit = fallback.timeout if fallback.timeout is not None else recovery.patience
    deadline = deadlines.arm(limit, lambda seconds: _late(fallback, seconds))
    try:
        value = await answer
    except BaseException as error:
        instead = deadline.finish(error) if deadline else None
        if instead is None and not isinstance(error, Exception):
            raise
        return False, instead or error
    if deadline:
        deadline.finish(None)
    return True, value


def _ask_in_thread(fallback: Fallback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
    assert fallback.timeout is not None
    done = threading.Event()
    answers = _start(fallback, args, kwargs, done.set)
    if not timers.current.wait(done, fallback.timeout):
        return False, _late(fallback, fallback.timeout)
    return answers[0]


async def _from_thread(
    loop: AbstractEventLoop, fallback: Fallback, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What a sync handler gives that may not hold up the loop. `ask_async` bounds it."""
    done = loop.create_future()

    def landed() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    answers = _start(fallback, args, kwargs, landed)
    await done
    good, answer = answers[0]
    if not good:
        raise answer
    return await answer if is_awaitable(answer) else answer


def _start(
    fallback: Fallback, args: tuple[Any, ...], kwargs: dict[str, Any], landed: Callable[[], object]
) -> list[Answer]:
    """Ask in a thread of its own. One that is too late is left behind, and ends when the handler does."""
    from contextvars import copy_context

    try:
        place = _free.pop()
    except IndexError:
        raise RuntimeError(f"{THREADS_MOST} sync fallbacks with a timeout are being asked already") from None
    answers: list[Answer] = []

    def run() -> None:
        try:
            answers.append((True, fallback.handler(*args, **kwargs)))
        except BaseException as error:
            answers.append((False, error))
        finally:
            _free.append(place)
            landed()

    name = f"failsoft fallback {fallback.type}"
    try:
        threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        _free.append(place)
        raise
    return answers


def _late(fallback: Fallback, seconds: float) -> TimeoutError:
    return TimeoutError(f"the {fallback.type} fallback gave no answer within {seconds:.3g} s")
