"""Metrics for Prometheus, read when it asks: through prometheus-client, or written by ourselves.

    from prometheus_client import REGISTRY
    REGISTRY.register(failsoft.export.prometheus.collector())

`render` and `respond` need no library: they are what the dashboard's /metrics answers with.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from .. import registry
from . import families, text
from .buckets import DEFAULT, Buckets, buckets_of
from .reading import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from .families import Family
    from .reading import Reading, Source

    Labels: TypeAlias = dict[str, str]

CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The content types of what `render` writes."""


def render(source: Source | None = None, *, openmetrics: bool = False, buckets: Iterable[float] = DEFAULT) -> bytes:
    """The metrics of a source (the default registry without one) as a page for Prometheus, in UTF-8.

    `buckets` are the bounds of the latency histograms in seconds, at most 64. The content type is `CLASSIC`, or
    `OPENMETRICS` where that is asked for.
    """
    ladder = buckets_of(buckets)
    return text.write(read(_source(source), ladder.bounds_ns), ladder, openmetrics=openmetrics)


def respond(
    source: Source | None = None, accept: str | None = None, *, buckets: Iterable[float] = DEFAULT
) -> tuple[bytes, str]:
    """The answer to a scrape: the page, and its content type, in the format that the `Accept` header prefers."""
    openmetrics = wants_openmetrics(accept)
    return render(source, openmetrics=openmetrics, buckets=buckets), OPENMETRICS if openmetrics else CLASSIC


def wants_openmetrics(accept: str | None) -> bool:
    """Whether an `Accept` header would rather have OpenMetrics (1.0.0, or 0.0.1, which is the same) than plain text."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in (accept or "").split(","):
        kind, *given = (piece.strip().lower() for piece in part.split(";"))
        options = dict(option.partition("=")[::2] for option in given)
        if kind not in best or (kind != "text/plain" and options.get("version", "1.0.0") not in ("1.0.0", "0.0.1")):
            continue
        best[kind] = max(best[kind], _quality(options.get("q")))
    return best["application/openmetrics-text"] > 0.0 and best["application/openmetrics-text"] >= best["text/plain"]


def collector(source: Source | None = None, *, buckets: Iterable[float] = DEFAULT) -> SourceCollector:
    """A collector for prometheus-client that reads a source (the default registry without one) at each scrape.

    Register it once, with any registry: `REGISTRY.register(collector())`. `buckets` are the bounds of the latency
    histograms in seconds, at most 64. ImportError without prometheus-client.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "collector() needs the package prometheus-client: pip install 'failsoft[prometheus]'; render() does not"
        ) from error
    return SourceCollector(source, buckets_of(buckets))


class SourceCollector:
    """What `collector` gives. prometheus-client asks it for nothing but `collect` and `describe`."""

    def __init__(self, source: Source | None, buckets: Buckets) -> None:
        self._given = source
        self._buckets = buckets
        self._bounds: dict[tuple[str, str], list[Labels]] = {}  # of the last scrape: making them is a third of one

    def describe(self) -> Iterator[Metric]:
        """The metrics without their samples, so that to register twice what would collide is an error."""
        return map(_metric, families.ALL)

    def collect(self) -> Iterator[Metric]:
        """The metrics of the source, now."""
        reading = read(_source(self._given), self._buckets.bounds_ns)
        yield _one(families.BUILD, [{"version": text.version()}], (1,))
        types = [{"integration": name, "type": type} for name, type, _ in reading.integrations]
        yield _one(families.INTEGRATION, types, [1] * len(types))
        states = [{"integration": name, "state": state} for name, _, _ in reading.integrations for state in text.STATES]
        yield _one(families.STATE, states, text.one_hot(reading))
        # One dict for all samples of an integration or operation: who writes them down only reads it.
        integrations = [{"integration": name} for name, _, _ in reading.integrations]
        yield from _columns(families.OF_INTEGRATIONS, integrations, reading.standings)
        operations = [{"integration": one, "operation": other} for one, other in reading.operations]
        yield from _columns(families.OF_OPERATIONS, operations, reading.numbers)
        yield self._histogram(reading, operations)

    def _histogram(self, reading: Reading, operations: Sequence[Labels]) -> Metric:
        metric, name = _metric(families.DURATION), families.DURATION.name
        bucket, samples = f"{name}_bucket", metric.samples
        before, now = self._bounds, {}
        for names, labels, (below, count, summed) in zip(
            reading.operations, operations, reading.durations, strict=True
        ):
            bounds = now[names] = before.get(names) or [{**labels, "le": le} for le in self._buckets.le]
            samples += _samples(bucket, bounds, (*below, count))
            metric.add_sample(f"{name}_count", labels, count)
            metric.add_sample(f"{name}_sum", labels, summed / 1e9)
        self._bounds = now
        return metric


def _columns(
    columns: Iterable[Family], labels: Sequence[Labels], table: Sequence[tuple[float | None, ...]]
) -> Iterator[Metric]:
    for family, column in zip(columns, zip(*table, strict=True), strict=False):  # none at all where there are no lines
        if None not in column:
            yield _one(family, labels, column)
        elif numbered := [(one, number) for one, number in zip(labels, column, strict=True) if number is not None]:
            yield _one(family, *zip(*numbered, strict=True))


def _one(family: Family, labels: Sequence[Labels], values: Sequence[Any]) -> Metric:
    metric = _metric(family)
    metric.samples = list(_samples(family.sample, labels, values))
    return metric


def _samples(name: str, labels: Sequence[Labels], values: Sequence[Any]) -> Iterator[Sample]:
    """By the constructor of tuples, not of Sample: there are forty thousand for a thousand operations."""
    from prometheus_client.samples import Sample

    absent = (repeat(None),) * (len(Sample._fields) - 3)  # timestamp, exemplar and what later versions add
    return map(tuple.__new__, repeat(Sample), zip(repeat(name), labels, values, *absent))


def _metric(family: Family) -> Metric:
    from prometheus_client import Metric

    return Metric(family.name, family.help, family.kind, family.unit)


def _quality(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0


def _source(given: Source | None) -> Source:
    return registry.default if given is None else given
