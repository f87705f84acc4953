"""The numbers by which the flight recorder keeps what was decided: csrc/include/failsoft/recorder.h, 256 entries an
integration. Successes are not in it. `decisions.py` puts it into words.
"""

from __future__ import annotations

from ._core import REASONS
from .kinds import ErrorCategory, FallbackType

TRANSITION, REFUSAL, LIMIT, RETRY, GIVE_UP, FALLBACK, CAPACITY, HEALTH, LOAD, HEDGE, STREAM, CHAOS = range(1, 13)
"""The kinds of csrc/include/failsoft/recorder.h."""

KINDS = (
    "", "transition", "refusal", "limit", "retry", "give_up", "fallback", "capacity", "health", "load", "hedge",
    "stream", "chaos",
)  # fmt: skip

OPERATOR = REASONS.index("operator")

NOT_RETRYABLE, USED_UP, NOT_IDEMPOTENT, NO_TIME, REFUSED, NO_BUDGET, PASSED = range(1, 8)
GIVE_UPS = (
    "",
    "such errors are not retried",
    "all retries are used up",
    "the operation is not idempotent and may have been carried out",
    "the overall deadline comes before the wait is over",
    "the gate refused the next attempt",
    "the retry budget is spent",
    "the deadline of the block or the call around it has passed",
)
"""Why no further attempt was made, by the code that is recorded."""

STALE, GAP, DISORDER, LOST, RECONNECTED, DROPPED = range(1, 7)
"""What befell a stream, by the code that is recorded."""

CHAOS_LATENCY, CHAOS_ERROR, CHAOS_OUTCOME = range(1, 4)
CHAOS_KINDS = ("", "latency", "error", "outcome")
"""What was injected on purpose, by the code that is recorded."""

CATEGORIES = tuple(ErrorCategory)
FALLBACKS = tuple(FallbackType)
