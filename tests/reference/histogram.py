"""The latency histogram as a list of values, and the bucket rule that limits what a quantile may say.

The compiled histogram keeps only counts; here every value stays, so that an exact order statistic is there to
compare with. Values and times are integer nanoseconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .window import Slices

EXACT_BELOW = 128  # the first two octaves have buckets one nanosecond wide
SUB_BUCKETS = 64  # of every octave
LARGEST = 2**42 - 1  # about 73 minutes; longer is recorded as this

# A midpoint is at most half a width from any value of its bucket, and a width is largest beside its values at
# the start of an octave, where 64 widths fit below it.
RELATIVE_ERROR = 1 / 128


class Sample(NamedTuple):
    """One recorded value."""

    time: int
    value: int


def clamp(value: int) -> int:
    """The value as it is recorded."""
    return min(max(value, 0), LARGEST)


def bucket(value: int) -> tuple[int, int]:
    """The first and the last nanosecond of the bucket that a recorded value falls in."""
    if value < EXACT_BELOW:
        return value, value
    width = 2 ** (value.bit_length() - 1) // SUB_BUCKETS
    first = value // width * width
    return first, first + width - 1


def midpoint(value: int) -> int:
    """What a bucket says for all of its values."""
    first, last = bucket(value)
    return (first + last + 1) // 2


def order_statistic(values: list[int], q: float) -> int:
    """The exact value at rank max(1, ceil(q * n)) of a list that is not empty."""
    rank = max(1, math.ceil(q * len(values)))
    return sorted(values)[rank - 1]


def quantile(values: list[int], q: float) -> float:
    """What the histogram answers, in nanoseconds; nan when nothing was recorded."""
    if not values:
        return math.nan
    return min(max(midpoint(order_statistic(values, q)), min(values)), max(values))


class Histogram:
    """Everything recorded, and the part of it that the rolling window still covers."""

    def __init__(self, window: int, now: int) -> None:
        self.slices = Slices(now, window)
        self.samples: list[Sample] = []

    def record(self, value: int, now: int) -> None:
        """Record a duration, however long."""
        self.samples.append(Sample(now, clamp(value)))

    def merge(self, other: Histogram) -> None:
        """Take over what another histogram recorded."""
        self.samples.extend(other.samples)

    def values(self) -> list[int]:
        """All values since the beginning."""
        return [sample.value for sample in self.samples]

    def recent(self, now: int) -> list[int]:
        """The values of the live slice and the five closed ones before it."""
        return [sample.value for sample in self.samples if self.slices.covers(sample.time, now)]
