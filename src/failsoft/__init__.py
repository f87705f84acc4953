"""Integration hardening: every call that leaves the process goes through one guarded path."""

from ._core import Backoff, IntegrationResult, LatencyHistogram
from .breakers import BreakerStatus, BreakerSummary, CircuitBreaker
from .config import (
    CircuitBreakerConfig,
    CircuitState,
    ErrorCategory,
    FallbackType,
    IntegrationConfig,
    IntegrationType,
    Jitter,
    RetryPolicy,
    Timeouts,
    default_config,
)
from .deadlines import remaining
from .errors import CircuitOpenError, IntegrationError, IntegrationTimeoutError, classify_error
from .fallbacks import Fallback
from .metrics import OperationMetrics
from .registry import Integration, Registry
from .retry import calculate_backoff
from .wrapper import (
    create_integration_operation,
    get_circuit_breaker_status,
    get_circuit_breaker_summary,
    integration,
    reset_circuit_breaker,
    with_integration_resilience,
)

__all__ = [
    "Backoff",
    "BreakerStatus",
    "BreakerSummary",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitOpenError",
    "CircuitState",
    "ErrorCategory",
    "Fallback",
    "FallbackType",
    "Integration",
    "IntegrationConfig",
    "IntegrationError",
    "IntegrationResult",
    "IntegrationTimeoutError",
    "IntegrationType",
    "Jitter",
    "LatencyHistogram",
    "OperationMetrics",
    "Registry",
    "RetryPolicy",
    "Timeouts",
    "calculate_backoff",
    "classify_error",
    "create_integration_operation",
    "default_config",
    "get_circuit_breaker_status",
    "get_circuit_breaker_summary",
    "get_include",
    "integration",
    "remaining",
    "reset_circuit_breaker",
    "with_integration_resilience",
]


def get_include() -> str:
    """The folder of the C headers, for extensions that `from failsoft._core cimport ...`."""
    from pathlib import Path

    from . import _core

    return str(Path(_core.__file__).parent / "include")
