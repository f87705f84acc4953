"""Integration hardening: every call that leaves the process goes through one guarded path."""

from ._core import Backoff, IntegrationResult, LatencyHistogram, with_integration_resilience
from .breakers import BreakerStatus, BreakerSummary, CircuitBreaker
from .classify import classify_error, register_classifier
from .config import (
    AdaptiveThrottle,
    Bulkhead,
    ChaosConfig,
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
from .deadlines import Deadline, deadline, remaining
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
from .fallbacks import Aged, Fallback
from .integrations import Integration
from .load import LoadStatus
from .metrics import OperationMetrics
from .registry import Registry
from .retry import calculate_backoff
from .wrapper import (
    configure,
    create_integration_operation,
    enter_degraded_mode,
    exit_degraded_mode,
    explain,
    fallback_manager,
    get_circuit_breaker_status,
    get_circuit_breaker_summary,
    get_metrics_summary,
    integration,
    integration_metrics,
    is_degraded,
    reset_circuit_breaker,
    should_limit_operations,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import adapters as adapters
    from . import alerts as alerts
    from . import arena as arena
    from . import dashboard as dashboard
    from . import events as events
    from . import export as export
    from . import report as report
    from . import testing as testing
    from .arena import Arena, ArenaError
    from .batches import Batch
    from .budgets import RetryBudgetStatus
    from .chaos_plans import Chaos, chaos
    from .config_files import load_config
    from .decisions import Decision, Explanation
    from .enforcement import AbandonedCall
    from .fallback_sets import (
        ai_fallbacks,
        cache_fallbacks,
        database_fallbacks,
        external_api_fallbacks,
        market_data_fallbacks,
    )
    from .fleets import Fleet, FleetStatus, fleet
    from .health import HealthMonitor
    from .health.default import get_all_integration_health, integration_health_monitor
    from .health.status import HealthStatus
    from .sharing import share
    from .simulated import SimulatedPrice
    from .streams import Stream, StreamMetrics, StreamPosition, StreamState, StreamStatus
    from .streams.watched import Watch
    from .version import __version__ as __version__
    from .wire import extract_deadline, grpc_timeout, inject_deadline, parse_grpc_timeout

_LATER = {
    "adapters": (),
    "alerts": (),
    "arena": ("Arena", "ArenaError"),
    "batches": ("Batch",),
    "budgets": ("RetryBudgetStatus",),
    "chaos_plans": ("Chaos", "chaos"),
    "config_files": ("load_config",),
    "dashboard": (),
    "decisions": ("Decision", "Explanation"),
    "enforcement": ("AbandonedCall",),
    "export": (),
    "fallback_sets": (
        "ai_fallbacks", "cache_fallbacks", "database_fallbacks", "external_api_fallbacks", "market_data_fallbacks",
    ),
    "fleets": ("Fleet", "FleetStatus", "fleet"),
    "health": ("HealthMonitor",),
    "health.default": ("get_all_integration_health", "integration_health_monitor"),
    "health.status": ("HealthStatus",),
    "report": (),
    "sharing": ("share",),
    "simulated": ("SimulatedPrice",),
    "streams": ("Stream", "StreamMetrics", "StreamPosition", "StreamState", "StreamStatus"),
    "streams.watched": ("Watch",),
    "testing": (),
    "version": ("__version__",),
    "wire": ("extract_deadline", "grpc_timeout", "inject_deadline", "parse_grpc_timeout"),
}  # fmt: skip
"""Rooms that few programs need, and the names that are in them: imported when one is first asked for."""

_PLACES = ("adapters", "alerts", "arena", "dashboard", "events", "export", "report", "testing")
"""Modules that users name."""

_ROOMS = {name: room for room, names in _LATER.items() for name in names}

__all__ = [
    "AbandonedCall",
    "AdaptiveThrottle",
    "Aged",
    "Arena",
    "ArenaError",
    "Backoff",
    "Batch",
    "BreakerStatus",
    "BreakerSummary",
    "Bulkhead",
    "BulkheadFullError",
    "Chaos",
    "ChaosConfig",
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
    "Fleet",
    "FleetStatus",
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
    "Stream",
    "StreamMetrics",
    "StreamOverflowError",
    "StreamPosition",
    "StreamState",
    "StreamStatus",
    "ThrottledError",
    "Timeouts",
    "Watch",
    "ai_fallbacks",
    "cache_fallbacks",
    "calculate_backoff",
    "chaos",
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
    "fleet",
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
    "share",
    "should_limit_operations",
    "subscribe",
    "with_integration_resilience",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        if name in _LATER:
            return import_module(f".{name}", __name__)
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*__all__, *_PLACES, *(name for name in globals() if name.startswith("__"))})


def get_include() -> str:
    """The folder of the C headers, for extensions that `from failsoft._core cimport ...`."""
    from pathlib import Path

    from . import _core

    return str(Path(_core.__file__).parent / "include")


if not TYPE_CHECKING:

    def _begin():
        from os import environ

        from ._core import settle_clock

        settle_clock()
        if environ.get("FAILSOFT_ARENA"):
            from .sharing import share_as_environment_says

            share_as_environment_says()

    _begin()
