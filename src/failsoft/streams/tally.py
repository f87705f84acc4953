"""What the streams of each operation have come to together, those that are gone included: for exporters.

A counter that others subtract from must not go back when a stream ends, so what one had counted stays with its
integration. A finaliser comes at any time and on any thread: it leaves a note and does nothing else.
"""

from __future__ import annotations

import weakref
from collections import deque
from itertools import count

from .. import forks
from .records import StreamState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from ..integrations import Integration
    from .feeds import Feed

    Counts: TypeAlias = tuple[int, ...]

COUNTED = ("items", "gaps", "missing", "duplicates", "disorder", "stale", "reconnects", "dropped")
"""What `StreamMetrics` has of them, in the order of `Counts`."""

STATES = tuple(StreamState)

NOTES_MOST = 256
"""Notes that wait for somebody to read them, before the next stream that is made does."""

serials = count(1)
"""Each stream has one: an address may be another's by the time that a note is read."""

_notes: deque[tuple[int, weakref.ref[Integration], str, Counts]] = deque()
_past: weakref.WeakKeyDictionary[Integration, dict[str, Counts]] = weakref.WeakKeyDictionary()
_lock = forks.new_lock()


def leave(feed: Feed) -> None:
    """A stream is no more."""
    _notes.append((feed._serial, weakref.ref(feed.integration), feed.operation, _counts(feed)))


def settle(most: int = 0) -> set[int]:
    """Read the notes, if there are more than `most`. Of which streams they were."""
    settled: set[int] = set()
    if len(_notes) <= most:
        return settled
    with _lock:
        while _notes:
            which, of, operation, counts = _notes.popleft()
            settled.add(which)
            integration = of()
            if integration is not None:
                past = _past.setdefault(integration, {})
                past[operation] = _sum((past.get(operation), counts))
    return settled


class Tally:
    """The streams of an operation at one moment.

    `counts` are as `COUNTED` says. `states` is how many there are in each of `STATES`, and `age` how many seconds ago
    the last item came: to the one that waits longest, of those that are not closed.
    """

    __slots__ = ("age", "counts", "states")

    def __init__(self, past: Counts | None, feeds: Iterable[Feed]) -> None:
        told = [(feed.status(), _counts(feed)) for feed in feeds]
        self.counts = _sum((past, *(counts for _, counts in told)))
        now = [status.state for status, _ in told]
        self.states = tuple(now.count(state) for state in STATES)
        ages = [one.age for one, _ in told if one.age is not None and one.state is not StreamState.CLOSED]
        self.age: float | None = max(ages, default=None)


def tallies(living: tuple[Feed, ...]) -> dict[Integration, dict[str, Tally]]:
    """Of all streams of this process, by integration and operation. `living` are those that are not gone."""
    gone = settle()
    feeds: dict[Integration, dict[str, list[Feed]]] = {}
    for feed in living:
        if feed._serial not in gone:
            feeds.setdefault(feed.integration, {}).setdefault(feed.operation, []).append(feed)
    with _lock:
        past = {integration: dict(counts) for integration, counts in _past.items()}
    return {
        one: {
            operation: Tally(past.get(one, {}).get(operation), feeds.get(one, {}).get(operation, ()))
            for operation in sorted({*past.get(one, ()), *feeds.get(one, ())})
        }
        for one in {**past, **feeds}
    }


def _counts(feed: Feed) -> Counts:
    return (*feed._counts(), feed._reconnects, feed._dropped)


def _sum(parts: Iterable[Counts | None]) -> Counts:
    return tuple(map(sum, zip((0,) * len(COUNTED), *(part for part in parts if part), strict=True)))
