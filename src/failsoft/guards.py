"""Making a guard that looks like the function it stands before."""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, MethodType

from ._core import make_guard
from .functions import dress, is_coroutine_function, is_generator_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import AsyncGuard, Guard
    from .config import ErrorCategory
    from .recovery import Recovery


def refuse_generators(fn: object) -> None:
    """A generator's work happens after the call that made it, where a guard no longer is."""
    if is_generator_function(fn):
        raise TypeError(
            f"{fn!r} is a generator function, whose work happens after the call; guard what it does with "
            "`with integration.attempt():` inside it"
        )


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
    guard = make_guard(
        fn,
        recovery.integration.breaker,
        recovery.record,
        recovery,
        judge=judge,
        is_async=is_coroutine_function(fn),
        binds=hasattr(type(fn), "__get__") and not isinstance(fn, (BuiltinFunctionType, MethodType)),
        keeps_arguments=bool(recovery.retries or recovery.fallbacks or callable(recovery.details)),
        has_fallbacks=bool(recovery.fallbacks),
        shared=shared,
        disabled=disabled,
        timeout=config.circuit_breaker.timeout,
        overall=config.timeouts.overall,
        slow=config.circuit_breaker.slow_call,
        cancel_after=config.timeouts.read,
    )
    dress(guard, fn, recovery.operation)
    return guard
