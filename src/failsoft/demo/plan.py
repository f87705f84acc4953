"""When each fault comes: the length of the demo, shared out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from failsoft.demo.faults import Fault

_WARM_UP = 1.0
_COOL_DOWN = 0.6


class Slot(NamedTuple):
    """One fault's place: injected at `start`, held for `hold`, recovered from within `rest`. Seconds."""

    fault: Fault
    start: float
    hold: float
    rest: float


class Plan(NamedTuple):
    """The least the scenario takes. On a busy machine a step lasts until its breaker has moved."""

    slots: tuple[Slot, ...]
    seconds: float

    @property
    def warm_up(self) -> float:
        return self.slots[0].start

    @property
    def cool_down(self) -> float:
        last = self.slots[-1]
        return self.seconds - (last.start + last.hold + last.rest)


def plan(faults: Sequence[Fault], seconds: float) -> Plan:
    """Share `seconds` out among a warm-up, the faults in their order, and a cool-down."""
    unit = seconds / (_WARM_UP + _COOL_DOWN + sum(fault.hold + fault.rest for fault in faults))
    slots = []
    start = _WARM_UP * unit
    for fault in faults:
        slots.append(Slot(fault, start, fault.hold * unit, fault.rest * unit))
        start += (fault.hold + fault.rest) * unit
    return Plan(tuple(slots), seconds)
