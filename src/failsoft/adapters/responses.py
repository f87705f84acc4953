"""What a service answers its own clients with when a dependency fails: the same under every framework."""

from __future__ import annotations

import math

from ..config import ErrorCategory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import IntegrationError

MOST = 60.0
"""Seconds that a caller may ask for at most, unless told otherwise."""

NO_TIME = {"error": {"code": "DEADLINE_PASSED", "category": "TIMEOUT", "message": "no time is left for this request"}}
"""The body for a request that came too late."""


def response_to(error: IntegrationError) -> tuple[int, dict[str, str], dict[str, dict[str, object]]]:
    """Status, headers and body of the response to an error of ours."""
    after = error.retry_after
    headers = {} if after is None else {"Retry-After": str(max(math.ceil(after), 1))}
    body: dict[str, object] = {
        "code": error.code,
        "category": str(error.category),
        "message": error.message,
        "integration": error.integration_name,
        "operation": error.operation,
        "retryable": error.retryable,
        "retry_after": after,
    }
    return 504 if error.category is ErrorCategory.TIMEOUT else 503, headers, {"error": body}
