"""The latency sketches under comparison: how each is made, fed and asked, and the stream all are fed with."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import failsoft

HOUR_NS = 3_600_000_000_000


@functools.cache
def latencies(count: int) -> list[int]:
    """Nanoseconds, log-normal around 200 us, always the same."""
    draw = random.Random(7)
    return [round(draw.lognormvariate(12.2, 1.0)) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Sketch:
    """`record` and `query` name its methods; `batch`, if it has one, takes an array.

    With `integers` it takes nanoseconds as they are, else as floats. With `at_once` it answers a sequence of
    quantiles in one call. Quantiles are multiplied by `scale` for it, and its answers by `in_ns` to be
    nanoseconds again.
    """

    name: str
    make: Callable[[], Any]
    record: str
    query: str
    batch: str | None = None
    integers: bool = False
    at_once: bool = False
    scale: int = 1
    in_ns: float = 1.0

    def stream(self, count: int) -> Sequence[float]:
        values = latencies(count)
        return values if self.integers else [float(value) for value in values]

    def filled(self, count: int) -> Any:
        sketch = self.make()
        record = getattr(sketch, self.record)
        for value in self.stream(count):
            record(value)
        return sketch


def _hdr() -> Any:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(1, HOUR_NS, 2)


def _ddsketch() -> Any:
    import ddsketch

    return ddsketch.DDSketch(0.01)


def _kll() -> Any:
    import datasketches

    return datasketches.kll_doubles_sketch(200)


def _digest() -> Any:
    import fastdigest

    return fastdigest.TDigest()


OURS = Sketch(
    "failsoft",
    failsoft.LatencyHistogram,
    "record_ns",
    "quantiles",
    "record_many",
    integers=True,
    at_once=True,
    in_ns=1e9,
)
PEERS = (
    Sketch("hdrhistogram", _hdr, "record_value", "get_value_at_percentile", integers=True, scale=100),
    Sketch("ddsketch", _ddsketch, "add", "get_quantile_value"),
    Sketch("datasketches KLL", _kll, "update", "get_quantiles", "update", at_once=True),
    Sketch("fastdigest", _digest, "update", "quantile_vec", "batch_update", at_once=True),
)
