"""When another attempt is worth it, and how long to wait for it."""

from __future__ import annotations

from functools import lru_cache

from ._core import Backoff
from .config import ErrorCategory, RetryPolicy

__all__ = ["Backoff", "backoff_of", "calculate_backoff", "retryable"]


def backoff_of(policy: RetryPolicy, seed: int | None = None) -> Backoff:
    """The delays of a policy, from a random stream of their own."""
    return Backoff(policy.initial_delay, policy.max_delay, policy.backoff_multiplier, str(policy.jitter), seed=seed)


@lru_cache(maxsize=64)
def _shared_backoff(policy: RetryPolicy) -> Backoff:
    return backoff_of(policy)


def calculate_backoff(attempt: int, policy: RetryPolicy) -> float:
    """Seconds to wait before retry number `attempt`, counted from 0, jittered as `policy` says."""
    return _shared_backoff(policy).delay(attempt)


def retryable(policy: RetryPolicy, category: ErrorCategory, hint: float | None) -> bool:
    """Whether a failure of this category may be tried again; a rate limit that says when to come back may too."""
    return category in policy.retryable_errors or (category is ErrorCategory.RATE_LIMIT and hint is not None)
