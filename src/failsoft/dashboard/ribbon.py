"""The states of ten minutes: what a ribbon draws, however often they changed."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Segment: TypeAlias = tuple[float, str]
    """Since when (seconds since the epoch), and the state from then on."""

_GRAVEST = ("OPEN", "FORCED_OPEN", "HALF_OPEN", "DISABLED", "METRICS_ONLY", "CLOSED")


def coarse(segments: list[Segment], until: float, most: int) -> list[Segment]:
    """At most so many segments, from as many as there are: each slot of time as the gravest state that was in it."""
    if len(segments) <= most:
        return segments
    first = segments[0][0]
    slot = max((until - first) / most, 1e-6)
    told: list[Segment] = []
    at = 0
    for number in range(most):
        begin, end = first + number * slot, first + (number + 1) * slot
        states = {segments[at][1]}
        while at + 1 < len(segments) and segments[at + 1][0] < end:
            at += 1
            states.add(segments[at][1])
        state = min(states, key=_gravity)
        if not told or told[-1][1] != state:
            told.append((begin, state))
    return told


def ways(segments: list[Segment]) -> dict[str, int]:
    """How often it went from one state to another, by "FROM>TO"."""
    counted: dict[str, int] = {}
    for (_, before), (_, after) in itertools.pairwise(segments):
        counted[f"{before}>{after}"] = counted.get(f"{before}>{after}", 0) + 1
    return counted


def _gravity(state: str) -> int:
    return _GRAVEST.index(state) if state in _GRAVEST else 0
