"""Writing metrics down as Prometheus reads them: its text format 0.0.4, and OpenMetrics 1.0.0.

A scrape of a thousand operations is forty thousand lines, so what they have in common is put together once: a template
for all bounds of a histogram takes the counts, and only then the labels, in which anything may stand.
"""

from __future__ import annotations

from . import families
from .families import COUNTER, INFO
from .scrapes import Scrapes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .buckets import Buckets
    from .families import Family
    from .reading import Durations, Source
    from .scrapes import Numbers

_HERE = "\0"
"""Where the labels go in a template: no number is written with it."""


class Writer(Scrapes):
    """Writes the pages of one source, in UTF-8. What has not changed since the last page is kept as bytes."""

    def __init__(self, buckets: Buckets) -> None:
        super().__init__(buckets)
        self._template = _histogram(families.DURATION.name, buckets)

    def page(self, source: Source, *, openmetrics: bool) -> bytes:
        """The whole page."""
        parts = []
        for family, lines in self.scraped(source):
            parts.append(_head(family, openmetrics))
            parts += lines
        if openmetrics:
            parts.append(b"# EOF\n")
        return b"".join(parts)

    def label(self, names: tuple[str, ...], values: tuple[str, ...]) -> str:
        return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])

    def column(self, family: Family, labels: list[str], values: Numbers) -> bytes:
        sample = family.sample
        lines = [f"{sample}{{{one}}} {value}\n" for one, value in zip(labels, values, strict=True)]
        return "".join(lines).encode()

    def histogram(self, labels: str, durations: Durations, before: bytes | None) -> bytes:
        below, count, summed = durations
        return (self._template % (*below, count, count, summed / 1e9)).replace(_HERE, labels).encode()


def _head(family: Family, openmetrics: bool) -> bytes:
    if openmetrics:
        unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
        return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n{unit}".encode()
    kind = "gauge" if family.kind == INFO else family.kind
    name = family.sample if family.kind in (COUNTER, INFO) else family.name
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n".encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _histogram(name: str, buckets: Buckets) -> str:
    bounds = "".join(f'{name}_bucket{{{_HERE},le="{le}"}} %d\n' for le in buckets.le)
    return f"{bounds}{name}_count{{{_HERE}}} %d\n{name}_sum{{{_HERE}}} %r\n"
