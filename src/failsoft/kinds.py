"""The words that settings, errors, events and metrics share: what is called, how it fails, what stands in for it."""

from __future__ import annotations

from enum import StrEnum


class IntegrationType(StrEnum):
    """What kind of thing is called; it chooses the preset."""

    DATABASE = "database"
    AI_SERVICE = "ai_service"
    MARKET_DATA = "market_data"
    CACHE = "cache"
    EXTERNAL_API = "external_api"


class ErrorCategory(StrEnum):
    """Why a call failed; it decides whether to retry and whether the breaker counts it."""

    TIMEOUT = "TIMEOUT"
    RATE_LIMIT = "RATE_LIMIT"
    NETWORK = "NETWORK"
    SERVER_ERROR = "SERVER_ERROR"
    CLIENT_ERROR = "CLIENT_ERROR"
    VALIDATION = "VALIDATION"
    UNKNOWN = "UNKNOWN"


class CircuitState(StrEnum):
    """The seed's three states of a breaker, and three that only an operator sets."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"
    METRICS_ONLY = "METRICS_ONLY"


class FallbackType(StrEnum):
    """Where a substitute answer came from, best first."""

    CACHE = "cache"
    LAST_KNOWN = "last_known"
    SIMULATED = "simulated"
    MOCK = "mock"
    ERROR_RESPONSE = "error_response"
    CUSTOM = "custom"


class Jitter(StrEnum):
    """How a retry delay is spread, so that callers who failed together do not return together."""

    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"
    NONE = "none"


SEED_RETRYABLE = frozenset({ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR})
"""The categories that the seed's example retries."""

RETRYABLE = SEED_RETRYABLE | {ErrorCategory.RATE_LIMIT}
"""The categories worth another attempt; a rate limit is, once its hint has been waited out."""
