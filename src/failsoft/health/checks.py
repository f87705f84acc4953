"""One registered health check: its settings, what its runs came to, and its verdict."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from .._core import Backoff, LatencyHistogram
from ..checks import LONGEST
from ..functions import is_coroutine_function
from ..metrics import QUANTILES
from .changes import Outbox
from .status import HealthStatus, Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..integrations import Integration
    from .runs import Run

SECOND = 1_000_000_000

REMEMBERED = 100
"""Checks that the error rate is of, and intervals that the percentiles are over."""

SPREAD = 0.1
"""Each wait is longer or shorter than the interval by up to this share of it, and a first check comes within it: a
fleet started together does not beat in step."""

_dice = Backoff(1.0, 1.0, 1.0, "full")


class Outcome:
    """What one run came to. `latency` is in seconds, None where nothing has run."""

    __slots__ = ("error", "good", "latency")

    def __init__(self, good: bool, latency: float | None, error: str | None = None) -> None:
        self.good = good
        self.latency = latency
        self.error = error


class Check:
    """A check and its state. Whoever calls what changes it holds the runner's lock."""

    def __init__(
        self,
        integration: Integration,
        call: Callable[[], Any],
        *,
        interval: float,
        timeout: float,
        on_change: Callable[[HealthStatus], Any] | None,
        healthy_after: int,
        unhealthy_after: int,
        probe: bool,
    ) -> None:
        self.integration = integration
        self.call = call
        self.is_async = is_coroutine_function(call)
        self.interval = interval
        self.timeout = timeout
        self.healthy_after = healthy_after
        self.unhealthy_after = unhealthy_after
        self.probe = probe

        self.due: int | None = None  # ns; None: nobody runs it
        self.launched = -round(LONGEST) * SECOND  # ns; its last run
        self.run: Run | None = None
        self.outbox = Outbox(integration, on_change)

        self.verdict: bool | None = None
        self.successes = 0
        self.failures = 0
        self.latency: float | None = None
        self.last_check: float | None = None
        self.last_error: str | None = None
        self._failed: deque[bool] = deque(maxlen=REMEMBERED)
        self._latencies = LatencyHistogram(min(max(60.0, REMEMBERED * interval), LONGEST))

    def first_wait(self) -> int:
        """Until the first run, in ns."""
        return round(self.interval * SPREAD * _dice.delay(0) * SECOND)

    def wait(self) -> int:
        """From one run to the next, in ns."""
        return round(self.interval * (1.0 + SPREAD * (2.0 * _dice.delay(0) - 1.0)) * SECOND)

    def count(self, outcome: Outcome) -> bool:
        """Take a result in. Whether it changes the verdict: a first one that is good changes nothing."""
        self.last_check = time.time()
        self._failed.append(not outcome.good)
        if outcome.latency is not None:
            self.latency = outcome.latency
            self._latencies.record(outcome.latency)
        if outcome.good:
            self.successes, self.failures = self.successes + 1, 0
            if self.verdict is True or self.successes < self.healthy_after:
                return False
        else:
            self.successes, self.failures = 0, self.failures + 1
            self.last_error = outcome.error
            if self.verdict is False or self.failures < self.unhealthy_after:
                return False
        changed = self.verdict is False or not outcome.good
        self.verdict = outcome.good
        return changed

    def status(self) -> HealthStatus:
        """What is known now."""
        traffic = Traffic(self.integration)
        recent = self._latencies.recent
        p50, p95, p99 = recent.quantiles(QUANTILES) if recent.count else (None, None, None)
        return HealthStatus(
            integration_name=self.integration.name,
            integration_type=self.integration.type,
            healthy=traffic.healthy if self.verdict is None else self.verdict,
            latency=self.latency,
            p50_latency=p50,
            p95_latency=p95,
            p99_latency=p99,
            error_rate=sum(self._failed) / len(self._failed) if self._failed else None,
            consecutive_successes=self.successes,
            consecutive_failures=self.failures,
            last_check=self.last_check,
            last_error=self.last_error,
            checked=True,
            state=traffic.state,
        )


def is_awaitable(value: Any) -> bool:
    """Whether a value has yet to be awaited. Results that can be awaited as well are there already."""
    return hasattr(type(value), "__await__") and not hasattr(value, "success")


def outcome_of(value: Any, took: float) -> Outcome:
    """What a returned value says. What says nothing clear is a failure that says so."""
    try:
        return _read(value, took)
    except Exception as error:
        return failed(error, took)


def failed(error: BaseException, took: float) -> Outcome:
    """The outcome of a run that raised."""
    try:
        words = f"{type(error).__name__}: {error}"[:500]
    except Exception:  # errors of users may be without words
        words = type(error).__name__
    return Outcome(False, took, words)


def _read(value: Any, took: float) -> Outcome:
    good: Any = value is None or value
    latency = error = None
    if value is None or isinstance(value, bool):
        pass
    elif isinstance(value, Mapping):
        good, latency, error = value.get("success"), value.get("latency"), value.get("error")
    else:
        good, latency, error = (getattr(value, name, None) for name in ("success", "latency", "error"))
    if not isinstance(good, bool):
        raise TypeError(
            "a check must return a bool, None, or a mapping or object whose `success` is a bool, "
            f"got {type(value).__name__}: {value!r}"
        )
    if latency is None:
        latency = took
    elif isinstance(latency, bool) or not isinstance(latency, (int, float)) or not 0.0 <= latency <= LONGEST:
        raise TypeError(f"the latency of a check must be a number of seconds from 0 to {LONGEST:g}, got {latency!r}")
    if good:
        return Outcome(True, latency)
    return Outcome(False, latency, str(error)[:500] if error is not None else "the check returned no success")
