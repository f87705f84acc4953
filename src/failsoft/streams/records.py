"""What a stream tells of itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import StrEnum

from ..fallbacks import Aged
from ..records import Record


class StreamState(StrEnum):
    """What a stream is doing."""

    CONNECTING = "connecting"
    """A connection is being made, or has not given an item yet."""
    LIVE = "live"
    STALE = "stale"
    """Nothing has come for `stale_after` seconds; the connection is being given up."""
    WAITING = "waiting"
    """For a backoff, for the breaker, or for somebody to ask for the first item."""
    CLOSED = "closed"


class StreamStatus(Record):
    """A stream at one moment. `age` is how many seconds ago the last item came, None before the first.

    `connections` is how many have been made, `error` why the last one ended, None while none has.
    """

    state: StreamState
    age: float | None
    connections: int
    error: BaseException | None


class StreamMetrics(Record):
    """What has come, read at one moment.

    `rate` (items a second) and the quantiles of the time between two items (seconds) are over the rolling window, 0.0
    while nothing is in it; `stream.intervals` has them since the start. The rest is since the start: `items`;
    `reconnects`, connections after the first that gave an item; `gaps` in the sequence, and how many numbers are
    `missing` in them; `duplicates`, numbers that came again, and `disorder`, numbers that came late; `stale`, how often
    nothing came for `stale_after` seconds; `dropped`, items a full buffer made room with.
    """

    items: int
    rate: float
    p50: float
    p95: float
    p99: float
    reconnects: int = 0
    gaps: int = 0
    missing: int = 0
    duplicates: int = 0
    disorder: int = 0
    stale: int = 0
    dropped: int = 0


class StreamPosition(Record):
    """Where a stream had come to when its connection ended, for `resume` to ask the peer to go on from there.

    `sequence` is the last number in order; with a `key` there is one for each key in `sequences` instead. `values` are
    the last items by key with their age. `since` is when the last item came, in seconds since the epoch, and
    `silent_for` how many seconds ago. `connection` counts the one to be made, from 2.
    """

    connection: int
    sequence: int | None
    sequences: Mapping[Hashable, int]
    values: Mapping[Hashable, Aged]
    since: float
    silent_for: float
