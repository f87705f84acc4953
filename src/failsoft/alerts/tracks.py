"""The course of one alert: pending, firing, resolved, and what of that somebody is told.

It begins when its rule has held for `for_` seconds and ends when it has not held for `resolve_after`; without data it
neither begins nor ends, but for `no_data` seconds. What is told is a second matter:

- It is told when it begins, and once more when it ends, each once.
- While it is silenced nothing of it begins to be told; if it still fires when the silence is over, it is told then.
  The end of what was told is always told: whoever was called may go home.
- It flaps while it has begun `flaps` times in the last `flap_window` seconds. Then one notice says so, in place of
  "firing", and nothing more is told until it has calmed down: "resolved" comes when it does not fire and begins less
  often than that.
"""

from __future__ import annotations

from collections import deque

from .notices import FIRING, FLAPPING, RESOLVED
from .rules import AlertRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .observations import Observation

RECOVERED, NO_DATA = "recovered", "no data"

SILENCED, HELD = "silenced", "held"
"""Why something was not told."""


class Track:
    """One rule and one integration, operation or stream. Times in seconds of the monotonic clock."""

    __slots__ = (
        "_begun", "_clear", "_dark", "_flap_told", "_flap_window", "_flaps", "_kept", "_seen", "_told", "began",
        "firing", "number", "observation", "pending", "reason", "rule", "since", "whom",
    )  # fmt: skip

    def __init__(self, rule: AlertRule, whom: tuple[str, str | None], flaps: int, flap_window: float) -> None:
        self.rule = rule
        self.whom = whom
        self.firing = False
        self.pending: float | None = None  # since when the rule holds, while that is not long enough
        self.began = 0.0
        self.since = 0.0  # the same, in seconds since the epoch
        self.reason: str | None = None
        self.number = 0
        self.observation: Observation | None = None  # the last one by which the rule held
        self._clear: float | None = None  # since when it does not hold, while it fires
        self._dark: float | None = None  # since when there are no data, while it fires
        self._begun: deque[float] = deque(maxlen=flaps)
        self._flaps = flaps
        self._flap_window = flap_window
        self._told = False
        self._flap_told = False
        self._kept = False  # a silence keeps it back, which is counted already
        self._seen = False  # whether it fired when this was last asked

    def see(self, verdict: bool | None, observation: Observation | None, now: float, wall: float) -> None:
        """What the rule says at this look; None: there are no data."""
        if verdict:
            self.observation = observation
            self._clear = self._dark = None
            if self.firing:
                return
            if self.pending is None:
                self.pending = now
            if now - self.pending >= self.rule.for_:
                self.firing, self.began, self.since, self.pending = True, now, wall, None
                self._begun.append(now)
            return
        self.pending = None
        if not self.firing:
            return
        if verdict is None:
            self._clear = None
            self._dark = now if self._dark is None else self._dark
            if now - self._dark >= self.rule.no_data:
                self.firing, self.reason = False, NO_DATA
            return
        self._dark = None
        self._clear = now if self._clear is None else self._clear
        if now - self._clear >= self.rule.resolve_after:
            self.firing, self.reason = False, RECOVERED

    def flaps(self, now: float) -> bool:
        """Whether it has begun too often lately."""
        return len(self._begun) == self._flaps and now - self._begun[0] <= self._flap_window

    def due(self, silenced: bool, now: float) -> str | None:
        """What to tell now: a kind of notice, SILENCED or HELD where that is not told, or None."""
        changed, self._seen = self.firing != self._seen, self.firing
        flaps = self.flaps(now)
        if not flaps:
            self._flap_told = False
        if not self.firing and not flaps:
            told, self._told, self._kept = self._told, False, False
            return RESOLVED if told else None
        if self._told and (self._flap_told or not flaps):
            return HELD if changed and flaps else None
        if silenced:
            first, self._kept = not self._kept, True
            return SILENCED if first else None
        self._told, self._kept, self._flap_told = True, False, flaps
        return FLAPPING if flaps else FIRING

    def idle(self, now: float) -> bool:
        """Whether there is nothing to remember of it."""
        return not (self.firing or self._told or self.pending is not None or self.flaps(now) or self._recent(now))

    def _recent(self, now: float) -> bool:
        return bool(self._begun) and now - self._begun[-1] <= self._flap_window
