"""One scrape after another of one source. What is as it was at the last one is taken over from there.

A scrape of a thousand operations is forty thousand lines. Few of the operations have been called since the last one,
and most counters of the others stand still too. What becomes of labels and numbers is the affair of who writes them
down: text.py as lines, prometheus.py as samples.
"""

from __future__ import annotations

from itertools import chain

from ..config import CircuitState
from ..version import __version__
from . import families
from .reading import STREAM_STATES, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias

    from .buckets import Buckets
    from .families import Family
    from .reading import Durations, Reading, Source

    Names: TypeAlias = Sequence[tuple[str, ...]]
    Numbers: TypeAlias = tuple[float | None, ...]

STATES = tuple(str(state) for state in CircuitState)

_ONE_HOT = {now: tuple(int(state == now) for state in STATES) for now in STATES}


class Scrapes:
    """Those of one source. Subclasses say what is made of labels, of a column of numbers and of a histogram.

    Several threads may scrape at once: what is kept says what it was made of, and is replaced whole.
    """

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self._before: Reading | None = None
        self._labels: dict[str, tuple[object, list[Any]]] = {}
        self._columns: dict[str, tuple[list[Any], Numbers, Any]] = {}
        self._histograms: dict[tuple[str, str], tuple[Durations, Any]] = {}

    def label(self, names: tuple[str, ...], values: tuple[str, ...]) -> Any:
        """The labels of one series."""
        raise NotImplementedError

    def column(self, family: Family, labels: list[Any], values: Numbers) -> Any:
        """The series of one family."""
        raise NotImplementedError

    def histogram(self, labels: Any, durations: Durations, before: Any) -> Any:
        """Bounds, count and sum of one operation; `before` is what was made of it last, if anything was."""
        raise NotImplementedError

    def scraped(self, source: Source) -> Iterator[tuple[Family, list[Any]]]:
        """All that has any series, now: with what `column` made of them, or `histogram` of each."""
        reading = self._before = read(source, self.buckets.bounds_ns, self._before)
        types = [(name, type) for name, type, _ in reading.integrations]
        yield from self._column(families.BUILD, self._labelled(families.BUILD, (), _build), (1,))
        yield from self._column(
            families.INTEGRATION, self._labelled(families.INTEGRATION, types, list), (1,) * len(types)
        )
        states = self._labelled(families.STATE, types, _each_in(STATES))
        yield from self._column(families.STATE, states, one_hot(reading))
        yield from self._table(families.OF_INTEGRATIONS, types, _integrations, reading.standings)
        yield from self._table(families.OF_OPERATIONS, reading.operations, list, reading.numbers)
        if reading.operations:
            yield families.DURATION, self._durations(reading)
        states = self._labelled(families.STREAMS, reading.streams, _each_in(STREAM_STATES))
        yield from self._column(families.STREAMS, states, tuple(chain.from_iterable(reading.stream_states)))
        yield from self._table(families.OF_STREAMS, reading.streams, list, reading.flows)

    def _labelled(self, family: Family, names: Names, rows: Callable[[Any], list[Any]]) -> list[Any]:
        """Labels for the `rows` that some names make: those of the last scrape, where the names are the same."""
        kept = self._labels.get(family.name)
        if kept is None or kept[0] != names:
            made = [self.label(family.labels, row) for row in rows(names)]
            kept = self._labels[family.name] = names, made
        return kept[1]

    def _table(
        self, columns: tuple[Family, ...], names: Names, rows: Callable[[Any], list[Any]], table: list[Any]
    ) -> Iterator[tuple[Family, list[Any]]]:
        """Families that share their labels, a line of the table each."""
        labels = self._labelled(columns[0], names, rows)
        for family, values in zip(columns, zip(*table, strict=True), strict=False):  # none where there are no lines
            yield from self._column(family, labels, values)

    def _column(self, family: Family, labels: list[Any], values: Numbers) -> Iterator[tuple[Family, list[Any]]]:
        """One family, if it has any series; None is no number."""
        kept = self._columns.get(family.name)
        if kept is None or kept[0] is not labels or kept[1] != values:
            there, numbers = labels, values
            if None in values:
                there = [one for one, value in zip(labels, values, strict=True) if value is not None]
                numbers = tuple(value for value in values if value is not None)
            made = self.column(family, there, numbers) if numbers else None
            kept = self._columns[family.name] = labels, values, made
        if kept[2] is not None:
            yield family, [kept[2]]

    def _durations(self, reading: Reading) -> list[Any]:
        labels = self._labelled(families.OF_OPERATIONS[0], reading.operations, list)
        before, now = self._histograms, {}
        for names, one, lasted in zip(reading.operations, labels, reading.durations, strict=True):
            kept = before.get(names)
            if kept is None or kept[0] != lasted:
                kept = lasted, self.histogram(one, lasted, None if kept is None else kept[1])
            now[names] = kept
        self._histograms = now
        return [made for _, made in now.values()]


def one_hot(reading: Reading) -> tuple[int, ...]:
    """For each integration 1 for the state it is in, of all STATES."""
    return tuple(chain.from_iterable(_ONE_HOT[now] for _, _, now in reading.integrations))


def _build(_: Names) -> list[tuple[str, ...]]:
    return [(__version__,)]


def _integrations(types: Names) -> list[tuple[str, ...]]:
    return [(name,) for name, _type in types]


def _each_in(states: tuple[str, ...]) -> Callable[[Names], list[tuple[str, ...]]]:
    """Integrations, or operations, with each state: of the former without the type."""

    def rows(names: Names) -> list[tuple[str, ...]]:
        place = 1 if states is STATES else 2
        return [(*row[:place], state) for row in names for state in states]

    return rows
