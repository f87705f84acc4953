"""The bounds that an exported histogram is cut by."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..records import Record

DEFAULT = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1,
    0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Seconds: prometheus-client's own defaults, and below and above them what market data and timeouts need."""

MOST = 64
"""Of LatencyView.counts_below."""

LONGEST = 4398.0
"""Seconds: the last whole one that a histogram tells apart."""


class Buckets(Record):
    """Upper bounds: in ns for the core, and as text for `le`, "+Inf" at its end."""

    bounds_ns: tuple[int, ...]
    le: tuple[str, ...]


def buckets_of(bounds: Iterable[float]) -> Buckets:
    """Check bounds in seconds: ascending, above 0. An infinite last one goes without saying."""
    seconds = [float(bound) for bound in bounds]
    if seconds and seconds[-1] == math.inf:
        seconds.pop()
    if not 1 <= len(seconds) <= MOST:
        raise ValueError(f"buckets must be 1 to {MOST} bounds in seconds, got {len(seconds)}")
    before = 0.0
    for place, bound in enumerate(seconds):
        if not before < bound <= LONGEST:
            raise ValueError(
                f"buckets[{place}] must be above {before!r} and at most {LONGEST:g} seconds, got {bound!r}"
            )
        before = bound
    return Buckets(tuple(round(bound * 1e9) for bound in seconds), (*map(repr, seconds), "+Inf"))
