"""When an integration was in which state, from what its flight recorder tells."""

from __future__ import annotations

from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..decisions import Decision
    from .drawing import Segment

SHORTEST = 60.0
"""Seconds that a ribbon covers at least."""


def states_of(state: str, decisions: Iterable[Decision]) -> list[Segment]:
    """(state, began, ended) in seconds ago, oldest first; the first began at an unknown time, told as infinity."""
    segments: list[Segment] = []
    began, now = float("inf"), None
    for decision in decisions:
        if decision.kind != "transition":
            continue
        text = decision.text
        if decision.operation:
            text = text.removeprefix(f"{decision.operation}: ")
        before, arrow, rest = text.partition(" -> ")
        if not arrow:
            continue
        after = rest.partition(":")[0].partition(" ")[0]
        if now is None and before != after:
            segments.append((before, began, decision.age))
        elif now is not None:
            segments.append((now, began, decision.age))
        began, now = decision.age, after
    segments.append((state, began, 0.0))
    return segments


def length_of(ribbons: Iterable[list[Segment]]) -> float:
    """Seconds that go back to the first change of any, with some room before it."""
    ages = [ended for segments in ribbons for _, _, ended in segments]
    return max(SHORTEST, max(ages, default=0.0) * 1.1)
