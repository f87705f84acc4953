"""Timing of small statements, side by side.

A `Subject` is a statement and the names it uses. It is compiled into a function of its own whose names are
all locals, as `timeit` does: every subject is timed by the same loop, and no two share an inline cache.
`interleave` runs the subjects in turn (A B C, C B A, A B C, ...) for many short rounds: a slow moment of the
machine then falls on neighbours alike, and the ratio of two subjects is taken round by round. Nothing is
subtracted: the cost of the loop stays in every figure, on both sides of every ratio.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import textwrap
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

ROUND_NS = 1_000_000  # long against a clock read and an interrupt's share, short against the machine's moods

_SYNC = """
def timed(_times, _clock, {names}):
    _start = _clock()
    for _ in _times:
{statement}
    return _start, _clock()
"""
_ASYNC = _SYNC.replace("def timed", "async def timed")


class UnavailableError(Exception):
    """This subject cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A statement to time. `setup` returns the names it uses; it may raise ImportError or UnavailableError.

    `operations` is how many operations one execution of the statement performs: figures are per operation.
    `in_loop` runs it inside a task of a running event loop, where it may await.
    """

    name: str
    statement: str
    setup: Callable[[], Mapping[str, object]]
    operations: int = 1
    in_loop: bool = False

    def prepare(self, runner: asyncio.Runner) -> Loop:
        """Build the subject.

        Raises:
            UnavailableError: a package it needs cannot be imported, or does not do this here.
        """
        try:
            names = self.setup()
        except ImportError as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from error
        source = (_ASYNC if self.in_loop else _SYNC).format(
            names="".join(f"{name}, " for name in names).rstrip(", "),
            statement=textwrap.indent(textwrap.dedent(self.statement).strip(), " " * 8),
        )
        scope: dict[str, Any] = {}
        exec(compile(source, f"<{self.name}>", "exec"), scope)
        return Loop(self, names, scope["timed"], runner)


class Loop:
    """A prepared subject: `run(n)` executes the statement n times and tells the nanoseconds it took."""

    def __init__(
        self,
        subject: Subject,
        names: Mapping[str, object],
        timed: Callable[..., object],
        runner: asyncio.Runner,
    ) -> None:
        self.subject = subject
        self._arguments = tuple(names.values())
        self._timed = timed
        self._runner = runner
        self.count = 1

    def span(self, count: int) -> tuple[int, int]:
        """Execute the statement so many times; the readings of the clock before and after."""
        span = self._timed(itertools.repeat(None, count), time.perf_counter_ns, *self._arguments)
        if self.subject.in_loop:
            span = self._runner.run(cast("Coroutine[Any, Any, object]", span))
        return cast("tuple[int, int]", span)

    def run(self, count: int) -> int:
        start, end = self.span(count)
        return end - start

    def calibrate(self, round_ns: int = ROUND_NS) -> None:
        """Choose the count that fills one round; the runs it takes are the warm-up.

        The quickest of three runs decides: a single stall would leave rounds of a few operations.
        """
        while (elapsed := min(self.run(self.count) for _ in range(3))) < round_ns // 2:
            self.count *= 2
        self.count = max(1, round(self.count * round_ns / elapsed))

    def round(self) -> float:
        """Nanoseconds per operation over one round, with the garbage collector off."""
        with collector_off():
            elapsed = self.run(self.count)
        return elapsed / (self.count * self.subject.operations)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """The garbage collector neither runs inside the block nor stays off after it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleave(loops: Sequence[Loop], rounds: int) -> dict[str, list[float]]:
    """Nanoseconds per operation, round by round, under each subject's name."""
    for loop in loops:
        loop.calibrate()
    samples: dict[str, list[float]] = {loop.subject.name: [] for loop in loops}
    for order in itertools.islice(_there_and_back(loops), rounds):
        for loop in order:
            samples[loop.subject.name].append(loop.round())
    return samples


def _there_and_back(loops: Sequence[Loop]) -> Iterator[Sequence[Loop]]:
    return itertools.cycle((loops, loops[::-1]))
