"""The seed's face: one call in, one `IntegrationResult` out, never an exception.

Each function here acts on the default registry, unless given another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from . import registry as registries
from .breakers import BreakerStatus, BreakerSummary
from .config import IntegrationConfig, IntegrationType
from .fallbacks import Fallback
from .functions import name_of
from .registry import Integration, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def integration(
    name: str, type: IntegrationType | str, config: IntegrationConfig | None = None, **overrides: Any
) -> Integration:
    """Get or make the integration of this name. See `Registry.integration`."""
    return registries.default.integration(name, type, config, **overrides)


def with_integration_resilience(
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[[], Any],
    *,
    operation_name: str | None = None,
    fallbacks: Iterable[Fallback] = (),
    retry: bool = True,
    idempotent: bool = True,
    registry: Registry | None = None,
) -> Any:
    """Run `operation` behind an integration's guard. Gives an `IntegrationResult`, to be awaited if it is async.

    Sync operations give the result itself; coroutine functions, and functions that return an awaitable, give an
    awaitable of it. `operation_name` is what the calls are recorded under, the function's own name by default.
    """
    known = (registry or registries.default).integration(integration_name, integration_type)
    name = operation_name or name_of(operation)
    return known.caller(name, tuple(fallbacks), retry=retry, idempotent=idempotent).outcome(operation)


def create_integration_operation(
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[..., Any],
    *,
    operation_name: str | None = None,
    fallbacks: Iterable[Fallback] = (),
    retry: bool = True,
    idempotent: bool = True,
    registry: Registry | None = None,
) -> Callable[..., Any]:
    """A function like `operation` that gives an `IntegrationResult` (or an awaitable of it) and never raises."""
    known = (registry or registries.default).integration(integration_name, integration_type)
    guard = known.guard(operation, operation=operation_name, fallbacks=fallbacks, retry=retry, idempotent=idempotent)

    @functools.wraps(operation)
    def resilient(*args: Any, **kwargs: Any) -> Any:
        return guard.outcome(*args, **kwargs)

    return resilient


def get_circuit_breaker_status(integration_name: str) -> BreakerStatus:
    """The breaker of an integration, now. KeyError where none has this name."""
    return registries.default.status(integration_name)


def get_circuit_breaker_summary() -> BreakerSummary:
    """How many breakers there are, and how many are CLOSED."""
    return registries.default.summary()


def reset_circuit_breaker(integration_name: str) -> None:
    """Close the breaker of an integration with fresh counts. KeyError where none has this name."""
    registries.default[integration_name].reset()
