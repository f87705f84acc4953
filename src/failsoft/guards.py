"""Making a guard that looks like the function it stands before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, MethodType

from ._core import make_guard
from .functions import dress, is_coroutine_function, is_generator_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import AsyncGuard, Guard
    from .recovery import Recovery


_UNBOUND = (BuiltinFunctionType, MethodType, type, *(() if sys.version_info >= (3, 14) else (partial,)))
"""What has a `__get__` that gives itself. A partial binds from Python 3.14 on."""


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
        judge=recovery.judge if recovery.failure else None,
        is_async=is_coroutine_function(fn),
        binds=hasattr(type(fn), "__get__") and not isinstance(fn, _UNBOUND),
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
