"""Metrics and span events for OpenTelemetry, through its API alone: what becomes of them the program's SDK decides.

    stop = failsoft.export.opentelemetry.observe()          # metrics, read whenever the SDK collects
    quiet = failsoft.export.opentelemetry.span_events()     # refusals, retries, transitions and fallbacks on spans

Both need the extra `opentelemetry`. Neither costs a successful call anything. Names are those for Prometheus, with
dots: `failsoft.breaker.state`, `failsoft.calls`. Instruments that are observed cannot take a histogram, so there are
the quantiles of the rolling window instead, and the sum that makes means.
"""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from .. import events, registry
from ..forks import new_lock
from . import families
from .families import COUNTER
from .reading import STREAM_STATES, named, operations, read, shown
from .scrapes import STATES

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

_GROUPS = ("breaker", "bulkhead", "rate_limit", "retry_budget", "stream", "throttle")

_UNITS = {"seconds": "s", "ratio": "1", "": "1"}


def observe(source: Source | None = None, *, meter: Meter | None = None) -> Callable[[], None]:
    """Let a meter observe a source (the default registry without one). Returns what ends it.

    To begin twice with one source and meter is to begin once, and ends with the last of the two. Without `meter` the
    global provider's is taken, which may be set later. ImportError without the API.
    """
    metrics = _api("metrics")
    instruments = _instruments_of(meter, metrics)
    observer = _Observer(source)
    with _changing:
        instruments.observers = (*instruments.observers, observer)

    def stop() -> None:
        with _changing:
            instruments.observers = tuple(one for one in instruments.observers if one is not observer)

    return stop


class _Instruments:
    """Those of one meter, made once: the API has no way to take one back, and an SDK hears only the first of a name."""

    def __init__(self) -> None:
        self.observers: tuple[_Observer, ...] = ()

    def make(self, meter: Meter) -> None:
        """Have the meter ask from now on."""
        for family in (
            families.STATE, *families.OF_INTEGRATIONS, *families.OF_OPERATIONS, families.STREAMS, *families.OF_STREAMS,
        ):  # fmt: skip
            make = meter.create_observable_counter if family.kind == COUNTER else meter.create_observable_gauge
            make(_name(family), [self._asks(_asked_for(family))], _UNITS[family.unit], family.help)
        help = "Summed time of the attempts that ended in success or failure."
        meter.create_observable_counter("failsoft.call.duration.sum", [self._asks(_Observer.sums)], "s", help)
        help = "Latency that this share of the attempts stayed below, over the rolling window."
        quantiles = self._asks(_Observer.quantiles)
        meter.create_observable_gauge("failsoft.call.duration.quantile", [quantiles], "s", help)

    def _asks(self, of: Callable[[_Observer], Iterator[Observation]]) -> Callable[[CallbackOptions], Any]:
        def asked(_: CallbackOptions) -> Iterator[Observation]:
            for observer in {id(one.source): one for one in self.observers}.values():
                yield from of(observer)

        return asked


_known: WeakKeyDictionary[Meter, _Instruments] = WeakKeyDictionary()
_own_meter: Meter | None = None  # the global provider's, which stands for whatever is set later
_changing = new_lock()


def _instruments_of(meter: Meter | None, metrics: Any) -> _Instruments:
    global _own_meter
    with _changing:
        if meter is None:
            meter = _own_meter = _own_meter or metrics.get_meter("failsoft")
        assert meter is not None
        known = _known.get(meter)
        if known is not None:
            return known
        made = _known[meter] = _Instruments()
    made.make(meter)
    return made


class _Observer:
    """One source, as instruments ask about it."""

    def __init__(self, source: Source | None) -> None:
        self._given = source
        self._held: tuple[float, Reading] | None = None

    @property
    def source(self) -> Source:
        """What is looked at."""
        return registry.default if self._given is None else self._given

    def numbers(self, family: Family) -> Iterator[Observation]:
        """Of an integration or operation each."""
        from opentelemetry.metrics import Observation

        columns, labels, table = self._table(family)
        place = columns.index(family)
        for one, line in zip(labels, table, strict=True):
            if line[place] is not None:
                yield Observation(line[place], one)

    def _table(self, family: Family) -> tuple[tuple[Family, ...], Iterator[dict[str, str]], list[Any]]:
        """The columns that it is one of, and what they are of."""
        reading = self._reading()
        if family in families.OF_STREAMS:
            return families.OF_STREAMS, _operations(reading.streams), reading.flows
        if family in families.OF_OPERATIONS:
            return families.OF_OPERATIONS, _operations(reading.operations), reading.numbers
        return families.OF_INTEGRATIONS, _integrations(reading), reading.standings

    def states(self) -> Iterator[Observation]:
        """1 for the state each breaker is in, 0 for the others."""
        from opentelemetry.metrics import Observation

        for name, _type, now in self._reading().integrations:
            for state in STATES:
                yield Observation(int(state == now), {"failsoft.integration": name, "failsoft.state": str(state)})

    def streams(self) -> Iterator[Observation]:
        """How many are in each state."""
        from opentelemetry.metrics import Observation

        reading = self._reading()
        for one, counts in zip(_operations(reading.streams), reading.stream_states, strict=True):
            for state, count in zip(STREAM_STATES, counts, strict=True):
                yield Observation(count, {**one, "failsoft.state": state})

    def sums(self) -> Iterator[Observation]:
        """Seconds that attempts have taken together."""
        from opentelemetry.metrics import Observation

        reading = self._reading()
        for one, (_below, _count, summed) in zip(_operations(reading.operations), reading.durations, strict=True):
            yield Observation(summed / 1e9, one)

    def quantiles(self) -> Iterator[Observation]:
        """Seconds, of operations that have been called lately."""
        from opentelemetry.metrics import Observation

        for integration, name in named(self.source):
            for operation, record in operations(integration):
                lately = record.recent
                if not lately.count:
                    continue
                for share, value in zip(QUANTILES, lately.quantiles(QUANTILES), strict=True):
                    labels = {"failsoft.integration": name, "failsoft.operation": operation, "quantile": str(share)}
                    yield Observation(value, labels)

    def _reading(self) -> Reading:
        held, now = self._held, time.monotonic()
        if held is None or now - held[0] > READ_FOR:
            held = self._held = (now, read(self.source, ()))
        return held[1]


def _asked_for(family: Family) -> Callable[[_Observer], Iterator[Observation]]:
    """What the instrument of a family asks an observer."""
    special = {id(families.STATE): _Observer.states, id(families.STREAMS): _Observer.streams}
    return special.get(id(family)) or (lambda observer: observer.numbers(family))


def _integrations(reading: Reading) -> Iterator[dict[str, str]]:
    return ({"failsoft.integration": name} for name, _type, _state in reading.integrations)


def _operations(names: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    return ({"failsoft.integration": one, "failsoft.operation": other} for one, other in names)


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
    attributes: dict[str, Any] = {"failsoft.integration": shown(event.integration)}
    for field in fields:
        value = getattr(event, field)
        if value is not None:
            attributes[f"failsoft.{field}"] = shown(str(value)) if isinstance(value, str) else value
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
