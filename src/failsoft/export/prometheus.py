"""Metrics for Prometheus, read when it asks: through prometheus-client, or written by ourselves.

    from prometheus_client import REGISTRY
    REGISTRY.register(failsoft.export.prometheus.collector())

`render` and `respond` need no library: they are what the dashboard's /metrics answers with.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from weakref import WeakKeyDictionary

from .. import registry
from . import families, text
from .buckets import DEFAULT, Buckets, buckets_of
from .scrapes import Scrapes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from .families import Family
    from .reading import Durations, Source
    from .scrapes import Numbers

    Labels: TypeAlias = dict[str, str]

CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The content types of what `render` writes."""


def render(source: Source | None = None, *, openmetrics: bool = False, buckets: Iterable[float] = DEFAULT) -> bytes:
    """The metrics of a source (the default registry without one) as a page for Prometheus, in UTF-8.

    `buckets` are the bounds of the latency histograms in seconds, at most 64. The content type is `CLASSIC`, or
    `OPENMETRICS` where that is asked for.
    """
    found = _source(source)
    return _writer(found, buckets_of(buckets)).page(found, openmetrics=openmetrics)


_writers: WeakKeyDictionary[Source, text.Writer] = WeakKeyDictionary()


def _writer(source: Source, buckets: Buckets) -> text.Writer:
    """The one that wrote the last page of this source, if that had the same bounds."""
    try:
        known = _writers.get(source)
        if known is None or known.buckets != buckets:
            known = _writers[source] = text.Writer(buckets)
    except TypeError:  # a source of somebody's own, which cannot be referred to weakly
        return text.Writer(buckets)
    return known


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


class SourceCollector(Scrapes):
    """What `collector` gives. prometheus-client asks it for nothing but `collect` and `describe`."""

    def __init__(self, source: Source | None, buckets: Buckets) -> None:
        from prometheus_client.samples import Sample

        super().__init__(buckets)
        self._given = source
        name = families.DURATION.name
        self._titles = (*repeat(f"{name}_bucket", len(buckets.le)), f"{name}_count", f"{name}_sum")
        self._made = repeat(Sample)
        self._absent = (repeat(None),) * (len(Sample._fields) - 3)  # timestamp, exemplar and what later versions add

    def describe(self) -> Iterator[Metric]:
        """The metrics without their samples, so that to register twice what would collide is an error."""
        return map(_metric, families.ALL)

    def collect(self) -> Iterator[Metric]:
        """The metrics of the source, now."""
        for family, parts in self.scraped(_source(self._given)):
            metric = _metric(family)
            metric.samples = [*chain.from_iterable(parts)]  # a list of its own: who asks may do with it as he likes
            yield metric

    def label(self, names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
        """One dict for all samples of an integration or operation: who writes them down only reads it."""
        return dict(zip(names, values, strict=True))

    def column(self, family: Family, labels: list[Labels], values: Numbers) -> list[Sample]:
        return self._samples(repeat(family.sample), labels, values)

    def histogram(self, labels: Labels, durations: Durations, before: list[Sample] | None) -> list[Sample]:
        below, count, summed = durations
        each: Iterable[Labels]
        if before is None:
            each = [*({**labels, "le": le} for le in self.buckets.le), labels, labels]
        else:  # making them is a third of a scrape
            each = (sample.labels for sample in before)
        return self._samples(self._titles, each, (*below, count, count, summed / 1e9))

    def _samples(self, names: Iterable[str], labels: Iterable[Labels], values: Sequence[Any]) -> list[Sample]:
        """By the constructor of tuples, not of Sample: there are forty thousand for a thousand operations."""
        return [*map(tuple.__new__, self._made, zip(names, labels, values, *self._absent, strict=False))]


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
