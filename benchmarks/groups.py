"""What is compared with what, and what the project asks of it.

A group is measured as a whole in a fresh process. Its rows are the lines of the report: a `Row` names a
figure, the honest baseline next to it, and the target if there is one. A `Contest` finds its figures by
interleaving subjects; a `Study` has its own way (memory, threads, import time, the tail).
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from measure import Loop, Subject, UnavailableError, interleave


@dataclass(frozen=True, slots=True)
class Target:
    """What a row should reach: `goal` is aimed at, `cap` must hold. With `at_least` more is better."""

    cap: float
    goal: float | None = None
    at_least: bool = False

    def excess(self, value: float, bound: float) -> float:
        """By which part of the bound the value misses it; not positive means it is met."""
        if bound == 0:
            return value
        return 1 - value / bound if self.at_least else value / bound - 1


def by_version(before_312: float, since_312: float) -> float:
    """The interpreter's own price of a call and an await changed in 3.12, and targets with it."""
    return before_312 if sys.version_info < (3, 12) else since_312


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: `figure`, as a ratio to `against`, or by itself in `unit`.

    `more_than` names what is taken off, round by round: the figure is the difference then.
    A `peer` row compares another library with failsoft: a ratio below one is a peer that wins.
    """

    figure: str
    against: str | None = None
    target: Target | None = None
    unit: str = "x"
    peer: bool = False
    more_than: str | None = None

    @property
    def key(self) -> str:
        if self.more_than is not None:
            return f"{self.figure} - {self.more_than}"
        return self.figure if self.against is None else f"{self.figure} / {self.against}"


@dataclass(slots=True)
class Findings:
    """What one process found: a value for each row's key, the times behind them, and who was left out."""

    values: dict[str, float] = field(default_factory=dict)
    nanoseconds: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: interleaved rounds of a contest, repetitions of anything slower."""

    rounds: int
    repetitions: int


@dataclass(frozen=True, slots=True)
class Contest:
    """Subjects timed in turn, all in one process."""

    name: str
    subjects: Sequence[Subject]
    rows: Sequence[Row]
    environment: Mapping[str, str] = field(default_factory=dict)

    def measure(self, effort: Effort) -> Findings:
        findings = Findings()
        with asyncio.Runner() as runner:
            loops: list[Loop] = []
            for subject in self.subjects:
                try:
                    loops.append(subject.prepare(runner))
                except UnavailableError as reason:
                    findings.skipped[subject.name] = str(reason)
            samples = interleave(loops, effort.rounds)
        findings.nanoseconds = {name: statistics.median(times) for name, times in samples.items()}
        for row in self.rows:
            if row.figure not in samples or (row.against is not None and row.against not in samples):
                continue
            if row.more_than is not None:
                pairs = zip(samples[row.figure], samples[row.more_than], strict=True)
                findings.values[row.key] = statistics.median(ours - base for ours, base in pairs)
            elif row.against is None:
                findings.values[row.key] = findings.nanoseconds[row.figure]
            else:
                pairs = zip(samples[row.figure], samples[row.against], strict=True)
                findings.values[row.key] = statistics.median(ours / base for ours, base in pairs)
        return findings


@dataclass(frozen=True, slots=True)
class Study:
    """Figures that no timing loop can give."""

    name: str
    rows: Sequence[Row]
    find: Callable[[Effort], Findings]
    environment: Mapping[str, str] = field(default_factory=dict)

    def measure(self, effort: Effort) -> Findings:
        return self.find(effort)


Group = Contest | Study
