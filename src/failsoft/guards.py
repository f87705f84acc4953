"""Making a guard look like the function it stands before."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable

from ._core import make_guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import AsyncGuard, Guard
    from .config import ErrorCategory
    from .recovery import Recovery

_LOOKS_LIKE_A_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__", "__annotations__")


def refuse_generators(fn: object) -> None:
    """A generator's work happens after the call that made it, where a guard no longer is."""
    bare = inspect.unwrap(fn) if callable(fn) else fn
    call = getattr(type(bare), "__call__", None)  # noqa: B004
    for candidate in (bare, call):
        if inspect.isgeneratorfunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(
                f"{fn!r} is a generator function, whose work happens after the call; guard what it does with "
                "`with integration.attempt():` inside it, or use `integration.stream` for a feed"
            )


def is_coroutine_function(fn: object) -> bool:
    """Whether calling `fn` gives a coroutine, as far as can be told beforehand."""
    if inspect.iscoroutinefunction(fn):
        return True
    return not inspect.isclass(fn) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def build(
    fn: Callable[..., Any],
    recovery: Recovery,
    *,
    judge: Callable[[Any], ErrorCategory | str | None] | None,
    shared: bool,
    disabled: bool,
) -> Guard[..., Any] | AsyncGuard[..., Any]:
    """A guard before `fn`, with its name, signature and kind."""
    config = recovery.integration.config
    is_async = is_coroutine_function(fn)
    guard = make_guard(
        fn,
        recovery.integration.breaker,
        recovery.record,
        recovery,
        judge=judge,
        is_async=is_async,
        binds=hasattr(type(fn), "__get__") and not inspect.isbuiltin(fn) and not inspect.ismethod(fn),
        keeps_arguments=bool(recovery.retries or recovery.fallbacks or callable(recovery.details)),
        has_fallbacks=bool(recovery.fallbacks),
        shared=shared,
        disabled=disabled,
        timeout=config.circuit_breaker.timeout,
        overall=config.timeouts.overall,
        slow=config.circuit_breaker.slow_call,
        cancel_after=config.timeouts.read,
    )
    _dress(guard, fn, recovery.operation)
    if is_async:
        _mark_as_coroutine_function(guard, fn)
    return guard


def _dress(guard: Any, fn: Any, operation: str) -> None:
    """As functools.update_wrapper does; `__wrapped__` is the guard's own and cannot be set."""
    looks = {**getattr(fn, "__dict__", {}), "__name__": operation, "__qualname__": operation}
    for name in functools.WRAPPER_ASSIGNMENTS:
        if hasattr(fn, name):
            looks[name] = getattr(fn, name)
    looks.pop("__wrapped__", None)
    guard.__dict__.update(looks)


def _mark_as_coroutine_function(guard: Any, fn: Any) -> None:
    """Make inspect and asyncio see a coroutine function: by a mark from 3.12 on, by looking like one on 3.11."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(guard)
    else:
        function = fn
        while isinstance(function, functools.partial):
            function = function.func
        if not inspect.isroutine(function):
            function = getattr(function, "__call__", function)  # noqa: B004
        for name in _LOOKS_LIKE_A_FUNCTION:
            guard.__dict__[name] = getattr(function, name, None)
