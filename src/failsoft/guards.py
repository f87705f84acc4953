"""Making a guard that looks like the function it stands before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, MethodType

from ._core import make_guard
from .functions import dress, is_coroutine_function, is_generator_function, looks_later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from ._core import AsyncGuard, Guard
    from .config import IntegrationConfig
    from .recovery import Recovery

    class Limits(TypedDict):
        """Seconds, None for none."""

        timeout: float
        overall: float
        slow: float | None
        cancel_after: float


_UNBOUND = (BuiltinFunctionType, MethodType, type, *(() if sys.version_info >= (3, 14) else (partial,)))
"""What has a `__get__` that gives itself. A partial binds from Python 3.14 on."""


def binds(fn: object) -> bool:
    """Whether `fn` becomes a method in a class."""
    return hasattr(type(fn), "__get__") and not isinstance(fn, _UNBOUND)


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
    called, remembered = fn, None
    memory = recovery.memory
    if memory is not None:
        from .memory import memory_key

        remembered = memory_key(recovery)
    if recovery.hedge is not None:
        from .hedges import hedged

        called, recovery.special.bare = hedged(fn, recovery, recovery.hedge), fn
    undressed = looks_later(fn)
    guard = make_guard(
        called,
        recovery.integration.breaker,
        recovery.record,
        recovery,
        judge=recovery.judge if recovery.failure else None,
        is_async=is_coroutine_function(fn),
        binds=binds(fn),
        # Not `retries`: those may come with other settings, for calls that are out already too.
        keeps_arguments=bool(recovery.retry or recovery.fallbacks or callable(recovery.details)),
        has_fallbacks=bool(recovery.fallbacks),
        shared=shared,
        disabled=disabled,
        skip=recovery.skip,
        memory_key=remembered,
        memory_most=memory.max_keys if memory else 0,
        dedupe=recovery.flights,
        key=recovery.key,
        max_keys=recovery.max_keys,
        undressed=undressed,
        **limits(recovery.integration.config),
    )
    if not undressed:
        dress(guard, fn, recovery.operation)
    return guard


def limits(config: IntegrationConfig) -> Limits:
    """What a compiled guard has to know of the settings, in seconds."""
    patience = config.circuit_breaker.cancel_counts_after
    return {
        "timeout": config.circuit_breaker.timeout,
        "overall": config.timeouts.overall,
        "slow": config.circuit_breaker.slow_call,
        "cancel_after": config.timeouts.read if patience is None else patience,
    }
