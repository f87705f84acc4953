"""Writing metrics down as Prometheus reads them: its text format 0.0.4, and OpenMetrics 1.0.0.

A scrape of a thousand operations is forty thousand lines, so what they have in common is put together once: a template
for all bounds of a histogram takes the counts, and only then the labels, in which anything may stand.
"""

from __future__ import annotations

import functools

from ..config import CircuitState
from . import families
from .families import COUNTER, INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .buckets import Buckets
    from .families import Family
    from .reading import Reading

STATES = tuple(CircuitState)

_HERE = "\0"
"""Where the labels go in a template: no number is written with it."""


def write(reading: Reading, buckets: Buckets, *, openmetrics: bool) -> bytes:
    """The whole page."""
    page = _Page(openmetrics)
    integrations = [_labels(families.BY_INTEGRATION, (name,)) for name, _, _ in reading.integrations]
    page.column(families.BUILD, [f'version="{version()}"'], (1,))
    types = [
        f'{one},type="{_escaped(type)}"' for one, (_, type, _) in zip(integrations, reading.integrations, strict=True)
    ]
    page.column(families.INTEGRATION, types, [1] * len(types))
    states = [f'{one},state="{state}"' for one in integrations for state in STATES]
    page.column(families.STATE, states, one_hot(reading))
    page.columns(families.OF_INTEGRATIONS, integrations, reading.standings)
    operations = [_labels(families.BY_OPERATION, names) for names in reading.operations]
    page.columns(families.OF_OPERATIONS, operations, reading.numbers)
    page.histogram(families.DURATION, operations, reading.durations, buckets)
    return page.ended()


class _Page:
    """Lines in UTF-8, encoded part by part: a page takes megabytes, and would else take them twice."""

    def __init__(self, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._parts: list[bytes] = []

    def columns(
        self, columns: Iterable[Family], labels: Sequence[str], table: Sequence[tuple[float | None, ...]]
    ) -> None:
        """Families that share their labels, a line of the table each."""
        for family, column in zip(columns, zip(*table, strict=True), strict=False):  # none where there are no lines
            self.column(family, labels, column)

    def column(self, family: Family, labels: Sequence[str], values: Iterable[float | None]) -> None:
        """One family; None is no number."""
        sample = family.sample
        lines = [f"{sample}{{{one}}} {value}\n" for one, value in zip(labels, values, strict=True) if value is not None]
        if lines:
            self._parts.append((_head(family, self._openmetrics) + "".join(lines)).encode())

    def histogram(
        self,
        family: Family,
        labels: Sequence[str],
        durations: Sequence[tuple[tuple[int, ...], int, int]],
        buckets: Buckets,
    ) -> None:
        """One with its bounds, counts and sums."""
        template = _histogram(family.name, buckets)
        if labels:
            self._parts.append(_head(family, self._openmetrics).encode())
            self._parts += [
                (template % (*below, count, count, summed / 1e9)).replace(_HERE, one).encode()
                for one, (below, count, summed) in zip(labels, durations, strict=True)
            ]

    def ended(self) -> bytes:
        """All of it."""
        if self._openmetrics:
            self._parts.append(b"# EOF\n")
        return b"".join(self._parts)


def one_hot(reading: Reading) -> list[int]:
    """For each integration 1 for the state it is in, of all STATES."""
    return [int(state == now) for _, _, now in reading.integrations for state in STATES]


@functools.cache
def version() -> str:
    """Of failsoft, "unknown" where it is not installed but copied."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("failsoft")
    except PackageNotFoundError:
        return "unknown"


def _head(family: Family, openmetrics: bool) -> str:
    if openmetrics:
        unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
        return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n{unit}"
    kind = "gauge" if family.kind == INFO else family.kind
    name = family.sample if family.kind in (COUNTER, INFO) else family.name
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _histogram(name: str, buckets: Buckets) -> str:
    bounds = "".join(f'{name}_bucket{{{_HERE},le="{le}"}} %d\n' for le in buckets.le)
    return f"{bounds}{name}_count{{{_HERE}}} %d\n{name}_sum{{{_HERE}}} %r\n"
