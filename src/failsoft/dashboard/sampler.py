"""One look after another at a source, with ten minutes of memory. One sampler serves all visitors.

It reads in a thread of its own, a few microseconds an operation, and sleeps at least twenty times as long as a look has
taken: whatever the source, it costs a twentieth of one core at most.
"""

from __future__ import annotations

import time
from collections import deque

from ..config import CircuitState
from ..forks import new_lock
from ..records import Record, replace
from .names import identity, shown
from .reading import (
    Counts,
    cells_of,
    counts_of,
    decisions_of,
    heat,
    latencies,
    numbers_of,
    operations_of,
    processes_of,
    recently,
    rounded,
    settings_of,
    why,
    window_of,
)
from .ribbon import coarse, ways
from .rules import last_trip, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..breakers import BreakerStatus
    from ..decisions import Explanation
    from .reading import Numbers

MEMORY = 600.0
"""Seconds that are remembered."""

STEP = 2.0
"""Seconds that a point of the charts stands for, or the time between two looks where that is longer."""

MINUTE = 60.0

RATE_OVER = 5.0
"""Seconds over which the rate on a card is counted: short enough to see a fault come."""

CARDS_MOST = 256
"""Integrations that are followed. With more, those in trouble come first."""

REMEMBERED_MOST = 4000
"""Changes of state that are remembered of an integration."""

SEGMENTS_MOST = 300
CARD_SEGMENTS_MOST = 60
"""Segments of the ribbons that are sent."""

TROUBLED = 0.05
"""The share of errors from which a closed breaker is worth a look, over at least TROUBLED_CALLS calls."""
TROUBLED_CALLS = 20

DUTY = 20.0
"""How many times longer than a look the sampler sleeps, at least."""

REFUSING = {CircuitState.OPEN, CircuitState.FORCED_OPEN}
PASSING = {CircuitState.DISABLED, CircuitState.METRICS_ONLY}


class Look(Record):
    """One integration at one moment."""

    at: float  # monotonic seconds
    counts: Counts


class Followed:
    """An integration and what is remembered of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = identity(name)
        self.shown = shown(name)
        self.looks: deque[Look] = deque()
        self.points: deque[list[Any]] = deque(maxlen=int(MEMORY / STEP))
        self.ribbon: list[tuple[float, str]] = []
        self.card: Numbers = {}
        self._generation: int | None = None
        self._point_at = 0.0
        self._point_counts = Counts()
        self._point_cells: dict[int, int] = {}

    def look(self, one: Any, now: float, wall: float) -> None:
        """Read it, and bring card, charts and ribbon up to date. `now` is monotonic, `wall` since the epoch."""
        status: BreakerStatus = one.status()
        recorded = one.recorded
        counts = counts_of(recorded)
        if status.generation != self._generation:
            self._remember_states(status, one.explain(), wall)
            self._generation = status.generation
        self.looks.append(Look(now, counts))
        while now - self.looks[0].at > MINUTE and len(self.looks) > 2:
            self.looks.popleft()
        if not self._point_at:
            self._begin(now, counts, recorded)
        elif now - self._point_at >= STEP * 0.9:
            self._point(now, wall, counts, recorded)
        self.card = self._card(one, status, recorded, now, wall)

    def _begin(self, now: float, counts: Counts, recorded: Iterable[Any]) -> None:
        self._point_at, self._point_counts, self._point_cells = now, counts, cells_of(recorded)

    def _point(self, now: float, wall: float, counts: Counts, recorded: Iterable[Any]) -> None:
        took, came, cells = now - self._point_at, counts.since(self._point_counts), cells_of(recorded)
        fresh = {middle: count - self._point_cells.get(middle, 0) for middle, count in cells.items()}
        fresh = {middle: count for middle, count in fresh.items() if count > 0}
        timeouts = min(came.timeouts, came.failures)
        rates = (came.calls - came.failures, came.failures - timeouts, timeouts, came.rejected, came.fallbacks)
        self.points.append([round(wall, 2), *(rounded(max(n, 0) / took) for n in rates), latencies(fresh), heat(fresh)])
        self._point_at, self._point_counts, self._point_cells = now, counts, cells

    def _remember_states(self, status: BreakerStatus, explanation: Explanation, wall: float) -> None:
        """The flight recorder knows each change to the microsecond, those before the first look too."""
        told = []
        for decision in explanation.decisions:
            before, arrow, after = decision.text.partition(" -> ")
            if decision.kind == "transition" and arrow:
                told.append((wall - decision.age, before.rsplit(" ", 1)[-1], after.split(" ", 1)[0].rstrip(":")))
        changes = [(at, state) for at, _before, state in told]
        if told:
            kept = [segment for segment in self.ribbon if segment[0] < changes[0][0] - 0.05]
            if not kept:  # the state it left is known from the first thing that is told of it; of before, nothing is
                earliest = wall - max(decision.age for decision in explanation.decisions)
                kept = [(min(earliest, changes[0][0] - 1.0), told[0][1])]
            self.ribbon = [*kept, *changes]
        state = str(status.state)
        if not self.ribbon or self.ribbon[-1][1] != state:
            self.ribbon.append((wall - status.age, state))
        while len(self.ribbon) > 1 and (self.ribbon[1][0] < wall - MEMORY or len(self.ribbon) > REMEMBERED_MOST):
            del self.ribbon[0]

    def segments(self, now: float, most: int) -> list[list[Any]]:
        """[since when, state], oldest first. `now` is since the epoch."""
        return [[round(at, 3), state] for at, state in coarse(self.ribbon, now, most)]

    def _rate(self, now: float, over: float) -> tuple[Counts, float]:
        first = next((look for look in self.looks if now - look.at <= over), self.looks[-1])
        if first is self.looks[-1] and len(self.looks) > 1:
            first = self.looks[-2]
        last = self.looks[-1]
        return last.counts.since(first.counts), last.at - first.at

    def _card(self, one: Any, status: BreakerStatus, recorded: tuple[Any, ...], now: float, wall: float) -> Numbers:
        came, took = self._rate(now, RATE_OVER)
        minute, _ = self._rate(now, MINUTE)
        recent = recently(recorded, window_of(one))
        passes = bool(one.passes_through)
        return {
            "id": self.id,
            "name": self.shown,
            "type": shown(one.type or "unknown"),
            "state": str(status.state),
            "reason": status.reason,
            "age": rounded(status.age),
            "retry_after": rounded(status.retry_after),
            "failures": status.failures,
            "probes": status.probes,
            "generation": status.generation,
            "capacity": rounded(status.capacity),
            "passes": passes,
            "keys": len(status.shards or ()),
            "rate": rounded(came.calls / took) if took else None,
            "refused": rounded(came.rejected / took) if took else None,
            "fallbacks": minute.fallbacks,
            "refused_minute": minute.rejected,
            "calls_minute": minute.calls,
            "window": window_of(one),
            **numbers_of(recent),
            "trouble": trouble(status, recent.count, recent.error_rate, passes),
            "point": self.points[-1][:6] if self.points else None,
            "ribbon": self.segments(wall, CARD_SEGMENTS_MOST),
        }


def trouble(status: BreakerStatus, count: int, error_rate: float, passes: bool) -> str:
    """ "bad", "warn", "good", or "off" where nothing is guarded: what a glance should tell."""
    if passes:
        return "off"
    if status.state in REFUSING:
        return "bad"
    if status.state is CircuitState.HALF_OPEN or (status.capacity < 1.0 and status.state not in PASSING):
        return "warn"
    if count >= TROUBLED_CALLS and error_rate >= TROUBLED:
        return "warn"
    return "off" if status.state in PASSING else "good"


NAMED_MOST = 3
"""Integrations that a summary names."""

_RANK = {"bad": 0, "warn": 1, "off": 2, "good": 3}


class Sampler:
    """Looks at a source, and says what it has seen."""

    def __init__(self, source: Any, interval: float) -> None:
        self.source = source
        self.interval = interval
        self.took = 0.0
        self._lock = new_lock()  # one look at a time; the source is read with it held, user code never runs
        self._followed: dict[str, Followed] = {}
        self._left_out = 0
        self._trouble: str | None = None
        self._looked = 0.0
        self._wall = time.time()

    @property
    def pause(self) -> float:
        """Seconds to sleep before the next look."""
        return max(self.interval - self.took, DUTY * self.took, 0.01)

    def look(self) -> None:
        """Read everything once."""
        with self._lock:
            began = time.monotonic()
            self._wall = time.time()
            try:
                members = list(self.source.with_shards())
                self._trouble = None
            except Exception as error:  # an arena that is not there yet, or no more
                members, self._trouble = [], shown(error, 300)
            self._left_out = max(len(members) - CARDS_MOST, 0)
            if self._left_out:
                members.sort(key=_how_urgent)
                members = members[:CARDS_MOST]
            seen: dict[str, Followed] = {}
            for one in members:
                if one.name in seen:  # a key's name can be that of another integration; the first has it
                    continue
                followed = self._followed.get(one.name) or Followed(one.name)
                try:
                    followed.look(one, began, self._wall)
                except Exception as error:  # a key that was forgotten meanwhile, or an arena that was cut short
                    self._trouble = shown(f"{followed.shown}: {error!r}", 300)
                    if not followed.card:
                        continue
                seen[one.name] = followed
            self._followed = seen
            self._looked = time.monotonic()
            self.took = self._looked - began

    def look_if_old(self) -> None:
        """Read everything, unless that has just been done."""
        if time.monotonic() - self._looked > max(self.interval, DUTY * self.took):
            self.look()

    def frame(self) -> Numbers:
        """What changes with each look: the cards, and the summary over them."""
        with self._lock:
            cards = [followed.card for followed in self._followed.values()]
            cards.sort(key=lambda card: (_RANK[card["trouble"]], card["name"]))
            return {
                "now": round(self._wall, 3),
                "interval": rounded(max(self.interval, self.pause)),
                "trouble": self._trouble,
                "left_out": self._left_out,
                "summary": summary(cards),
                "cards": cards,
            }

    def history(self) -> Numbers:
        """The points of the cards' sparklines: [time, succeeded, failed, timed out, refused, fallbacks] a second."""
        with self._lock:
            points = {f.id: [point[:6] for point in list(f.points)[-60:]] for f in self._followed.values()}
            return {"now": round(self._wall, 3), "sparks": points}

    def detail(self, id: str, *, whole: bool = False) -> Numbers | None:
        """Everything of one integration; `whole`: with all points of its charts. None where there is none."""
        with self._lock:
            followed = next((f for f in self._followed.values() if f.id == id), None)
            if followed is None:
                return None
            try:
                one = next(one for one in self.source.with_shards() if one.name == followed.name)
                return self._detail(followed, one, whole)
            except Exception:  # gone since the last look, and the next will say so
                return None

    def _detail(self, followed: Followed, one: Any, whole: bool) -> Numbers:
        explanation = one.explain()
        alone = replace(explanation.status, shards=None)  # keys are users' objects, and have cards of their own
        points, settings = list(followed.points), settings_of(one)
        return {
            "id": followed.id,
            "why": why(replace(explanation, integration=followed.shown, status=alone)),
            "rules": None if settings is None else rules(settings),
            "last_trip": last_trip(explanation.decisions),
            "decisions": decisions_of(explanation),
            "operations": operations_of(one),
            "processes": processes_of(self.source, one),
            "ribbon": followed.segments(self._wall, SEGMENTS_MOST),
            "ways": ways(followed.ribbon),
            "points": points if whole else points[-2:],
        }


def _how_urgent(one: Any) -> tuple[int, str]:
    try:
        return _RANK[trouble(one.status(), 0, 0.0, one.passes_through)], one.name
    except Exception:
        return 0, one.name


def summary(cards: list[Numbers]) -> Numbers:
    """The six numbers of the first screen: health, breakers, errors, latency, fallbacks, degraded mode."""
    calls = sum(card["count"] for card in cards)
    failed = sum((card["errors"] or 0.0) * card["count"] for card in cards)
    spent = sum((card["mean"] or 0.0) * card["count"] for card in cards)
    used = [card for card in cards if card["count"]]
    worst = max(used, key=lambda card: card["errors"], default=None)
    slowest = max(used, key=lambda card: card["p99"], default=None)
    states: dict[str, int] = {}
    for card in cards:
        states[card["state"]] = states.get(card["state"], 0) + 1
    degraded = [card for card in cards if card["capacity"] is not None and card["capacity"] < 1.0]
    degraded.sort(key=lambda card: card["capacity"])
    refusing = [card["name"] for card in cards if card["state"] in REFUSING]
    fallbacks = sum(card["fallbacks"] for card in cards)
    asked = sum(card["calls_minute"] + card["refused_minute"] for card in cards)
    most = max(cards, key=lambda card: card["fallbacks"], default=None)
    return {
        "total": len(cards),
        "good": sum(card["trouble"] == "good" for card in cards),
        "bad": sum(card["trouble"] == "bad" for card in cards),
        "warn": sum(card["trouble"] == "warn" for card in cards),
        "off": sum(card["trouble"] == "off" for card in cards),
        "states": states,
        "errors": rounded(failed / calls) if calls else None,
        "worst": [worst["name"], worst["errors"]] if worst is not None and worst["errors"] else None,
        "erring": any(card["count"] >= TROUBLED_CALLS and card["errors"] >= TROUBLED for card in used),
        "mean": rounded(spent / calls) if calls else None,
        "slowest": [slowest["name"], slowest["p50"], slowest["p95"], slowest["p99"]] if slowest is not None else None,
        "fallbacks": fallbacks,
        "fallback_share": rounded(min(fallbacks / asked, 1.0)) if asked else None,
        "fallback_most": most["name"] if most is not None and most["fallbacks"] else None,
        "degraded": len(degraded),
        "lowest": [[card["name"], card["capacity"]] for card in degraded[:NAMED_MOST]],
        "refusing": refusing[:NAMED_MOST],
    }
