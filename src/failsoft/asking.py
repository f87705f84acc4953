"""Asking a fallback for its answer: by a call, from what the guard remembers, in time or not at all.

An answer is (True, value) or (False, exception). A value that can be awaited is still to be asked for, by `ask_async`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from . import expiry, timers
from .deadlines import lifted_if_late
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
    with lifted_if_late():
        return _ask(recovery, guard, fallback, args, kwargs, is_async)


def _ask(
    recovery: Recovery, guard: AnyGuard, fallback: Fallback, args: tuple[Any, ...], kwargs: dict[str, Any],
    is_async: bool,
) -> Answer:  # fmt: skip
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


async def ask_async(recovery: Recovery, fallback: Fallback, answer: Awaitable[Any]) -> Answer:
    """Await what a handler gave, for as long as it may take."""
    limit = fallback.timeout if fallback.timeout is not None else recovery.patience
    deadline = expiry.arm(limit, lambda seconds: _late(fallback, seconds))
    try:
        with lifted_if_late():
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
    from threading import Event

    assert fallback.timeout is not None
    done = Event()
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
        try:
            loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

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
    from threading import Thread

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
        Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        _free.append(place)
        raise
    return answers


def _late(fallback: Fallback, seconds: float) -> TimeoutError:
    return TimeoutError(f"the {fallback.type} fallback gave no answer within {seconds:.3g} s")
