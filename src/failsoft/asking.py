"""Asking a fallback for its answer: by a call, from what the guard remembers, in time or not at all.

An answer is (True, value) or (False, exception). A value that can be awaited is still to be asked for, by `ask_async`.
"""

from __future__ import annotations

import threading

from . import deadlines, timers
from .fallbacks import Aged
from .functions import is_coroutine_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, TypeAlias

    from .course import AnyGuard
    from .fallbacks import Fallback
    from .recovery import Recovery

    Answer: TypeAlias = tuple[bool, Any]


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
        if fallback.timeout is not None and not is_async and not is_coroutine_function(handler):
            return _ask_in_thread(fallback, own, kwargs)
        return True, handler(*own, **kwargs)
    except Exception as error:
        return False, error


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
    """A thread that is too late is left behind, and ends when the handler does."""
    from contextvars import copy_context

    assert fallback.timeout is not None
    done = threading.Event()
    answers: list[Answer] = []

    def run() -> None:
        try:
            answers.append((True, fallback.handler(*args, **kwargs)))
        except BaseException as error:
            answers.append((False, error))
        done.set()

    name = f"failsoft fallback {fallback.type}"
    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    if not timers.current.wait(done, fallback.timeout):
        return False, _late(fallback, fallback.timeout)
    return answers[0]


def _late(fallback: Fallback, seconds: float) -> TimeoutError:
    return TimeoutError(f"the {fallback.type} fallback gave no answer within {seconds:.3g} s")
