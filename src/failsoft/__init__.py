"""Integration hardening: every call that leaves the process goes through one guarded path."""

from ._core import Backoff, IntegrationResult, LatencyHistogram, with_integration_resilience
from .breakers import BreakerStatus, BreakerSummary, CircuitBreaker
from .budgets import RetryBudgetStatus
from .classify import classify_error, register_classifier
from .config import (
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreakerConfig,
    CircuitState,
    DegradedPolicy,
    ErrorCategory,
    FallbackType,
    IntegrationConfig,
    IntegrationType,
    Jitter,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    Timeouts,
    default_config,
)
from .config_files import load_config
from .deadlines import Deadline, deadline, remaining
from .decisions import Decision, Explanation
from .degraded import DegradedMode
from .errors import (
    BulkheadFullError,
    CircuitOpenError,
    DegradedModeError,
    IntegrationError,
    IntegrationTimeoutError,
    LoadControlError,
    RateLimitExceededError,
    RetryBudgetExhaustedError,
    StreamOverflowError,
    ThrottledError,
)
from .events import subscribe
from .fallback_sets import (
    ai_fallbacks,
    cache_fallbacks,
    database_fallbacks,
    external_api_fallbacks,
    market_data_fallbacks,
)
from .fallbacks import Aged, Fallback
from .health import HealthMonitor
from .health.status import HealthStatus
from .integrations import Integration
from .load import LoadStatus
from .metrics import OperationMetrics
from .registry import Registry
from .retry import calculate_backoff
from .simulated import SimulatedPrice
from .wrapper import (
    configure,
    create_integration_operation,
    enter_degraded_mode,
    exit_degraded_mode,
    explain,
    fallback_manager,
    get_all_integration_health,
    get_circuit_breaker_status,
    get_circuit_breaker_summary,
    get_metrics_summary,
    integration,
    integration_health_monitor,
    integration_metrics,
    is_degraded,
    reset_circuit_breaker,
    should_limit_operations,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wire import extract_deadline, grpc_timeout, inject_deadline, parse_grpc_timeout

__all__ = [
    "AdaptiveThrottle",
    "Aged",
    "Backoff",
    "BreakerStatus",
    "BreakerSummary",
    "Bulkhead",
    "BulkheadFullError",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitOpenError",
    "CircuitState",
    "Deadline",
    "Decision",
    "DegradedMode",
    "DegradedModeError",
    "DegradedPolicy",
    "ErrorCategory",
    "Explanation",
    "Fallback",
    "FallbackType",
    "HealthMonitor",
    "HealthStatus",
    "Integration",
    "IntegrationConfig",
    "IntegrationError",
    "IntegrationResult",
    "IntegrationTimeoutError",
    "IntegrationType",
    "Jitter",
    "LatencyHistogram",
    "LoadControlError",
    "LoadStatus",
    "OperationMetrics",
    "RateLimit",
    "RateLimitExceededError",
    "Registry",
    "RetryBudget",
    "RetryBudgetExhaustedError",
    "RetryBudgetStatus",
    "RetryPolicy",
    "SimulatedPrice",
    "StreamOverflowError",
    "ThrottledError",
    "Timeouts",
    "ai_fallbacks",
    "cache_fallbacks",
    "calculate_backoff",
    "classify_error",
    "configure",
    "create_integration_operation",
    "database_fallbacks",
    "deadline",
    "default_config",
    "enter_degraded_mode",
    "exit_degraded_mode",
    "explain",
    "external_api_fallbacks",
    "extract_deadline",
    "fallback_manager",
    "get_all_integration_health",
    "get_circuit_breaker_status",
    "get_circuit_breaker_summary",
    "get_include",
    "get_metrics_summary",
    "grpc_timeout",
    "inject_deadline",
    "integration",
    "integration_health_monitor",
    "integration_metrics",
    "is_degraded",
    "load_config",
    "market_data_fallbacks",
    "parse_grpc_timeout",
    "register_classifier",
    "remaining",
    "reset_circuit_breaker",
    "should_limit_operations",
    "subscribe",
    "with_integration_resilience",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        """Names whose rooms few programs need: imported when they are first asked for."""
        if name in ("extract_deadline", "grpc_timeout", "inject_deadline", "parse_grpc_timeout"):
            from . import wire

            return getattr(wire, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_include() -> str:
    """The folder of the C headers, for extensions that `from failsoft._core cimport ...`."""
    from pathlib import Path

    from . import _core

    return str(Path(_core.__file__).parent / "include")
