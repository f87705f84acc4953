"""The seed's face: one call in, one `IntegrationResult` out, never an exception; and the state of all integrations.

Each function here acts on the default registry, unless given another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from . import registry as registries
from ._core import faces, set_first_time, with_integration_resilience
from .breakers import BreakerStatus, BreakerSummary
from .config import IntegrationConfig, IntegrationType
from .degraded import DegradedMode
from .fallbacks import Fallback
from .functions import name_of
from .integrations import CALLERS_MOST, Integration
from .metrics import OperationMetrics
from .registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Any, ParamSpec, TypeVar, Unpack, overload

    from ._core import IntegrationResult
    from .decisions import Explanation
    from .options import Choices

    P = ParamSpec("P")
    R = TypeVar("R")

integration_metrics = registries.default.metrics
"""The metrics of the default registry's operations."""


def integration(
    name: str, type: IntegrationType | str, config: IntegrationConfig | None = None, **overrides: Any
) -> Integration:
    """Get or make the integration of this name. See `Registry.integration`."""
    return registries.default.integration(name, type, config, **overrides)


def configure(configs: Mapping[str, IntegrationConfig]) -> None:
    """Lay down settings by name for integrations not made yet: `configure(load_config())`. See `Registry.configure`."""
    registries.default.configure(configs)


def _first_time(
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[[], Any],
    operation_name: str | None,
    fallbacks: Iterable[Fallback],
    retry: bool,
    idempotent: bool,
    registry: Registry | None,
) -> Any:
    """What the compiled `with_integration_resilience` does when the look-up of what it knows does not do."""
    known = (registry or registries.default).integration(integration_name, integration_type)
    if not callable(operation):  # told, not answered with: an error result would say that the dependency failed
        if hasattr(operation, "close") and hasattr(operation, "cr_code"):
            operation.close()  # or it is said of it that nobody awaited it
        raise TypeError(f"operation must be a function, not what it gives, got {operation!r}")
    name = operation_name or name_of(operation)
    fallbacks = tuple(fallbacks)
    caller = known.caller(name, fallbacks, retry=retry, idempotent=idempotent)
    if registry is None and operation_name is None and not fallbacks and retry and idempotent:
        operations = faces.setdefault(known.name, {})
        if len(operations) >= CALLERS_MOST:
            operations.clear()
        operations[name] = known.type, caller
    return caller.outcome(operation)


set_first_time(_first_time)


if TYPE_CHECKING:

    @overload
    def create_integration_operation(  # type: ignore[overload-overlap]  # what is awaitable is the special case
        integration_type: IntegrationType | str,
        integration_name: str,
        operation: Callable[P, Awaitable[R]],
        *,
        operation_name: str | None = None,
        registry: Registry | None = None,
        **options: Unpack[Choices],
    ) -> Callable[P, Coroutine[Any, Any, IntegrationResult[R]]]: ...
    @overload
    def create_integration_operation(
        integration_type: IntegrationType | str,
        integration_name: str,
        operation: Callable[P, R],
        *,
        operation_name: str | None = None,
        registry: Registry | None = None,
        **options: Unpack[Choices],
    ) -> Callable[P, IntegrationResult[R]]: ...


def create_integration_operation(
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[..., Any],
    *,
    operation_name: str | None = None,
    registry: Registry | None = None,
    **options: Unpack[Choices],
) -> Callable[..., Any]:
    """A function like `operation` that gives an `IntegrationResult` (or an awaitable of it) and never raises.

    The other options are those of `Integration.guard`.
    """
    known = (registry or registries.default).integration(integration_name, integration_type)
    guard = known.guard(operation, operation=operation_name, **options)

    @functools.wraps(operation)
    def resilient(*args: Any, **kwargs: Any) -> Any:
        return guard.outcome(*args, **kwargs)

    return resilient


class FallbackManager:
    """Calls with fallbacks, in the seed's words."""

    if TYPE_CHECKING:

        @overload
        def execute_with_fallback(  # type: ignore[overload-overlap]  # what is awaitable is the special case
            self,
            *,
            integration_type: IntegrationType | str,
            integration_name: str,
            primary_operation: Callable[[], Awaitable[R]],
            fallbacks: Iterable[Fallback] = (),
            operation_name: str | None = None,
            registry: Registry | None = None,
        ) -> Coroutine[Any, Any, IntegrationResult[R]]: ...
        @overload
        def execute_with_fallback(
            self,
            *,
            integration_type: IntegrationType | str,
            integration_name: str,
            primary_operation: Callable[[], R],
            fallbacks: Iterable[Fallback] = (),
            operation_name: str | None = None,
            registry: Registry | None = None,
        ) -> IntegrationResult[R]: ...

    def execute_with_fallback(
        self,
        *,
        integration_type: IntegrationType | str,
        integration_name: str,
        primary_operation: Callable[[], Any],
        fallbacks: Iterable[Fallback] = (),
        operation_name: str | None = None,
        registry: Registry | None = None,
    ) -> Any:
        """As `with_integration_resilience`: an `IntegrationResult`, or for async operations an awaitable of it."""
        return with_integration_resilience(
            integration_type,
            integration_name,
            primary_operation,
            operation_name=operation_name,
            fallbacks=fallbacks,
            registry=registry,
        )


fallback_manager = FallbackManager()


def get_circuit_breaker_status(integration_name: str) -> BreakerStatus:
    """The breaker of an integration, now. KeyError where none has this name."""
    return registries.default.status(integration_name)


def get_circuit_breaker_summary() -> BreakerSummary:
    """How many breakers there are, and how many are CLOSED."""
    return registries.default.summary()


def reset_circuit_breaker(integration_name: str) -> None:
    """Close the breaker of an integration with fresh counts. KeyError where none has this name."""
    registries.default[integration_name].reset()


def explain(integration_name: str) -> Explanation:
    """Why an integration is in the state it is in: its numbers and last decisions. Print it. KeyError if unknown."""
    return registries.default.explain(integration_name)


def get_metrics_summary() -> dict[str, OperationMetrics]:
    """The numbers of every operation, by "integration.operation"."""
    return integration_metrics.get_metrics_summary()


def enter_degraded_mode(
    target: IntegrationType | str, capacity: float = 0.5, *, reason: str = "operator"
) -> DegradedMode:
    """Let only the share `capacity` (0 to 1) of the calls go: of all integrations of a type, or of the one of a name.

    The others are answered by fallbacks, or raise `DegradedModeError`. It lasts until `exit_degraded_mode` with the
    same `reason`, or the end of the block:

        with failsoft.enter_degraded_mode("database", 0.25, reason="migration"): ...

    Entering again for the same reason changes the capacity. Different reasons, a type's and a name's, an operator's and
    a breaker's, hold side by side, and the lowest capacity counts. KeyError for a name that is neither.
    """
    return registries.default.capacities.enter(target, capacity, reason)


def exit_degraded_mode(target: IntegrationType | str, *, reason: str = "operator") -> bool:
    """Take a reason back. Whether it was in force; other reasons stay."""
    return registries.default.capacities.exit(target, reason)


def is_degraded(target: IntegrationType | str) -> bool:
    """Whether fewer than all calls go: limited by somebody, the circuit not closed, or ramping back after that."""
    return registries.default.capacities.is_degraded(target)


def should_limit_operations(target: IntegrationType | str) -> bool:
    """Whether to leave the next operation out, for code that is not guarded: draws from an account of its own.

    At a capacity of 0.75 exactly one in four is to be left out. Use this or the guard, not both: the guard limits too.
    """
    return registries.default.capacities.limits_next(target)
