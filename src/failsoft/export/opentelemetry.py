"""Metrics and span events for OpenTelemetry, through its API alone: what becomes of them the program's SDK decides.

    stop = failsoft.export.opentelemetry.observe()          # metrics, read whenever the SDK collects
    quiet = failsoft.export.opentelemetry.span_events()     # refusals, retries, transitions and fallbacks on spans

Both need the extra `opentelemetry`. Neither costs a successful call anything. Names are those for Prometheus, with
dots: `failsoft.breaker.state`, `failsoft.calls`. Instruments that are observed cannot take a histogram, so there are
the quantiles of the rolling window instead, and the sum that makes means.
"""

from __future__ import annotations

import time

from .. import events, registry
from . import families
from .families import COUNTER
from .reading import named, operations, read
from .text import STATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from .families import Family
    from .reading import Reading, Source

QUANTILES = (0.5, 0.95, 0.99)

READ_FOR = 0.1
"""Seconds that one look at the source serves: a collection asks instrument by instrument."""

_GROUPS = ("breaker", "bulkhead", "rate_limit", "retry_budget", "throttle")

_UNITS = {"seconds": "s", "ratio": "1", "": "1"}


def observe(source: Source | None = None, *, meter: Meter | None = None) -> Callable[[], None]:
    """Let a meter observe a source (the default registry without one). Returns what ends it.

    End it before you begin anew, or the SDK has two of each. Without `meter` the global provider's is taken, which may
    be set later. ImportError without the API.
    """
    metrics = _api("metrics")
    if meter is None:
        meter = metrics.get_meter("failsoft")
    observer = _Observer(source)
    for family in (families.STATE, *families.OF_INTEGRATIONS, *families.OF_OPERATIONS):
        make = meter.create_observable_counter if family.kind == COUNTER else meter.create_observable_gauge
        make(_name(family), [observer.asked_for(family)], _UNITS[family.unit], family.help)
    help = "Summed time of the attempts that ended in success or failure."
    meter.create_observable_counter("failsoft.call.duration.sum", [observer.sums], "s", help)
    help = "Latency that this share of the attempts stayed below, over the rolling window."
    meter.create_observable_gauge("failsoft.call.duration.quantile", [observer.quantiles], "s", help)
    return observer.stop


class _Observer:
    """Answers the instruments of one meter."""

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._stopped = False
        self._held: tuple[float, Reading] | None = None

    def stop(self) -> None:
        """Observe nothing from now on: the API has no way to take an instrument back."""
        self._stopped, self._held = True, None

    def asked_for(self, family: Family) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """What an instrument calls."""
        if family is families.STATE:
            return self.states
        by_operation = family in families.OF_OPERATIONS
        place = (families.OF_OPERATIONS if by_operation else families.OF_INTEGRATIONS).index(family)

        def numbers(_: CallbackOptions) -> Iterator[Observation]:
            from opentelemetry.metrics import Observation

            reading = self._reading()
            labels = _operations(reading) if by_operation else _integrations(reading)
            table: list[Any] = reading.numbers if by_operation else reading.standings
            for one, line in zip(labels, table, strict=True):
                if line[place] is not None:
                    yield Observation(line[place], one)

        return numbers

    def states(self, _: CallbackOptions) -> Iterator[Observation]:
        """1 for the state each breaker is in, 0 for the others."""
        from opentelemetry.metrics import Observation

        for name, _type, now in self._reading().integrations:
            for state in STATES:
                yield Observation(int(state == now), {"failsoft.integration": name, "failsoft.state": str(state)})

    def sums(self, _: CallbackOptions) -> Iterator[Observation]:
        """Seconds that attempts have taken together."""
        from opentelemetry.metrics import Observation

        reading = self._reading()
        for one, (_below, _count, summed) in zip(_operations(reading), reading.durations, strict=True):
            yield Observation(summed / 1e9, one)

    def quantiles(self, _: CallbackOptions) -> Iterator[Observation]:
        """Seconds, of operations that have been called lately."""
        from opentelemetry.metrics import Observation

        for integration, name in () if self._stopped else named(self._now()):
            for operation, record in operations(integration):
                lately = record.recent
                if not lately.count:
                    continue
                for share, value in zip(QUANTILES, lately.quantiles(QUANTILES), strict=True):
                    labels = {"failsoft.integration": name, "failsoft.operation": operation, "quantile": str(share)}
                    yield Observation(value, labels)

    def _now(self) -> Source:
        return registry.default if self._source is None else self._source

    def _reading(self) -> Reading:
        from .reading import Reading

        if self._stopped:
            return Reading()
        held, now = self._held, time.monotonic()
        if held is None or now - held[0] > READ_FOR:
            held = self._held = (now, read(self._now(), ()))
        return held[1]


def _integrations(reading: Reading) -> Iterator[dict[str, str]]:
    return ({"failsoft.integration": name} for name, _type, _state in reading.integrations)


def _operations(reading: Reading) -> Iterator[dict[str, str]]:
    return ({"failsoft.integration": one, "failsoft.operation": other} for one, other in reading.operations)


def _name(family: Family) -> str:
    name = family.name.removeprefix("failsoft_").removesuffix(f"_{family.unit}" if family.unit else "")
    group = next((group for group in _GROUPS if name.startswith(f"{group}_")), None)
    return f"failsoft.{name}" if group is None else f"failsoft.{group}.{name[len(group) + 1 :]}"


def span_events() -> Callable[[], None]:
    """From now on, note refusals, retries, transitions and fallbacks on the span they happen in. Returns what ends it.

    They are events of the current span where one is recording: "failsoft.refusal", "failsoft.retry",
    "failsoft.transition" and "failsoft.fallback", with what `failsoft.subscribe` tells of them as attributes; of an
    error its class, not its text. ImportError without the API.
    """
    current = _api("trace").get_current_span

    def note(event: Any) -> None:
        span = current()
        if span.is_recording():
            name, attributes = _told(event)
            span.add_event(name, attributes)

    return events.witness(note, events.Refusal, events.Retry, events.Transition, events.FallbackUsed)


_TOLD: dict[Any, tuple[str, tuple[str, ...]]] = {
    events.Refusal: ("refusal", ("operation", "state", "reason", "retry_after", "capacity")),
    events.Retry: ("retry", ("operation", "attempt", "delay", "category")),
    events.Transition: ("transition", ("previous", "state", "reason", "generation", "failures")),
    events.FallbackUsed: ("fallback", ("operation", "type", "data_age")),
}


def _told(event: Any) -> tuple[str, dict[str, Any]]:
    kind, fields = _TOLD[type(event)]
    attributes: dict[str, Any] = {"failsoft.integration": event.integration}
    for field in fields:
        value = getattr(event, field)
        if value is not None:
            attributes[f"failsoft.{field}"] = str(value) if isinstance(value, str) else value
    error = getattr(event, "error", None)
    if error is not None:
        attributes["error.type"] = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return f"failsoft.{kind}", attributes


def _api(part: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"opentelemetry.{part}")
    except ImportError as error:
        raise ImportError("this needs the package opentelemetry-api: pip install 'failsoft[opentelemetry]'") from error
