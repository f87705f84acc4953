"""Clients of AI services whose requests go through an integration: the openai and anthropic SDKs, and what derives.

    from failsoft.adapters.ai import ai_client

    client = ai_client(openai.AsyncOpenAI, ai, api_key=key)

Their own retries are off: those of the integration know its budget, its breaker and the deadline. A refusal of the gate
comes out of the SDK as its `APIConnectionError`, with ours as `__cause__`; `classify_error` and a guard around the call
look through that.
"""

from __future__ import annotations

import sys

from .hosts import IDEMPOTENT
from .httpx import AsyncFailsoftTransport, FailsoftTransport

__all__ = ["ai_client"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from .hosts import Chooser

    C = TypeVar("C")

_METHODS = IDEMPOTENT | {"POST"}
"""What these SDKs send again by themselves: to generate twice costs, and changes nothing."""


def ai_client(
    cls: type[C],
    integration: Chooser,
    *,
    retry: bool = True,
    per_host: bool = False,
    operation: str | None = None,
    inner: Any = None,
    **options: Any,
) -> C:
    """A client of class `cls` (`openai.OpenAI`, `anthropic.AsyncAnthropic`, ...), through an integration.

    `options` are the SDK's. Those of the transport are as for `FailsoftTransport`, whose retries take POST as well and
    honour Retry-After-Ms and Retry-After. `http_client` and `max_retries` are ours to give: TypeError.
    """
    for name in ("http_client", "max_retries"):
        if name in options:
            raise TypeError(f"ai_client gives {name} itself; the integration's retry_policy says how often to retry")
    is_async = hasattr(cls, "__aenter__")
    name = "DefaultAsyncHttpxClient" if is_async else "DefaultHttpxClient"
    sdks = (sys.modules.get(base.__module__.partition(".")[0]) for base in getattr(cls, "__mro__", ()))
    plain = next((getattr(sdk, name) for sdk in sdks if hasattr(sdk, name)), None)
    if plain is None:
        raise TypeError(f"cls must be a client of openai or anthropic, got {cls!r}")
    transport = (AsyncFailsoftTransport if is_async else FailsoftTransport)(
        integration, inner, retry=retry, retry_methods=_METHODS, per_host=per_host, operation=operation
    )
    make: Any = cls
    made: C = make(http_client=plain(transport=transport), max_retries=0, **options)
    return made
