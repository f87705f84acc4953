"""Latencies for the tools of HdrHistogram: interval logs, percentile files, and JSON of every bucket.

    failsoft.export.hdr.dump(failsoft.registry.default, "latencies.hlog")

An `.hlog` is read by HistogramLogProcessor, HistogramLogAnalyzer and the readers of all languages: a line for each
operation, with the tag "integration.operation" (percent-encoded where a tag may not hold a character). An `.hgrm` is
what the plotter of hdrhistogram.github.io takes, of one operation.
"""

from __future__ import annotations

import json
import math
import time

from .._core import LatencyHistogram
from ..records import Record
from .hdr_codec import decode, encode
from .reading import named, operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import TextIO

    from .reading import Source

FORMATS = ("hlog", "hgrm", "json")

_TICKS = 5
"""Lines of an .hgrm for each halving of the distance to 100 %."""

_MILLION = 1e6
"""ns in the unit of .hlog and .hgrm, a millisecond."""

_SAFE = "!\"#$&'()*+-./:;<=>?@[\\]^_`{|}~"
"""What stands in a tag as it is, letters and digits apart: a comma or a blank would end it."""


class _Taken(Record):
    """One operation's latencies. `begun` is in seconds since the epoch, `least`, `most` and `mean` are in ns."""

    integration: str
    operation: str
    begun: float
    seconds: float
    cells: tuple[tuple[int, int], ...]
    least: float
    most: float
    mean: float

    @property
    def name(self) -> str:
        return f"{self.integration}.{self.operation}"

    @property
    def count(self) -> int:
        return sum(count for _, count in self.cells)


def dump(
    source: Source,
    file: TextIO | str | os.PathLike[str],
    *,
    format: str = "hlog",
    operation: str | None = None,
    recent: bool = False,
) -> int:
    """Write the latencies of a source's operations. How many operations that were.

    `file` is open for text, or the path of one to be made. `format` is "hlog", "hgrm" or "json". `operation` takes one
    alone, "integration.operation", or all of an "integration"; an "hgrm" holds exactly one. `recent`: of the rolling
    window, rather than since the start. ValueError where nothing, or for an "hgrm" more than one, is left.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    taken = _take(source, recent)
    chosen = [one for one in taken if operation in (None, one.integration, one.name)]
    names = ", ".join([one.name for one in taken[:20]]) + (", ..." if len(taken) > 20 else "")
    if operation is not None and not chosen:
        raise ValueError(f"operation must be one of the source's, got {operation!r}; it has {names or 'none'}")
    if format == "hgrm" and len(chosen) != 1:
        raise ValueError(f"operation must name one operation for an hgrm; there are {names or 'none'}")
    text = {"hlog": _hlog, "hgrm": _hgrm, "json": _json}[format](chosen)
    if isinstance(file, str) or hasattr(file, "__fspath__"):
        with open(file, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    else:
        file.write(text)
    return len(chosen)


def load(file: TextIO | str | os.PathLike[str]) -> dict[str, LatencyHistogram]:
    """The histograms of an interval log in ns by their tags ("" for none), the intervals of one tag added up.

    `file` is open for text, or a path. What it holds counts as recorded now. ValueError, with the line's number, for
    what is no log, values above 73 minutes, or a count above 2**36 in a bucket.
    """
    from urllib.parse import unquote

    if isinstance(file, str) or hasattr(file, "__fspath__"):
        with open(file, encoding="utf-8", errors="replace", newline="\n") as opened:
            return load(opened)
    found: dict[str, LatencyHistogram] = {}
    for number, line in enumerate(file, 1):
        line = line.strip()
        if not line or line[0] in '#"':
            continue
        tag, _, rest = line.removeprefix("Tag=").partition(",") if line.startswith("Tag=") else ("", "", line)
        histogram = found.setdefault(unquote(tag), LatencyHistogram())
        try:
            for value, count in decode(rest.rpartition(",")[2]):
                histogram.record_repeated(value, count)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"line {number} is no histogram of a log: {error}") from error
    return found


def _take(source: Source, recent: bool) -> list[_Taken]:
    now, taken = time.time(), []
    for integration, name in named(source):
        for operation, record in operations(integration):
            view = record.recent if recent else record
            seconds = min(record.window, record.age) if recent else record.age
            cells = tuple(view.cells())
            least, most, mean = (value * 1e9 if cells else 0.0 for value in (view.min, view.max, view.mean))
            taken.append(_Taken(name, operation, now - seconds, seconds, cells, least, most, mean))
    return taken


def _hlog(chosen: Sequence[_Taken]) -> str:
    from urllib.parse import quote

    start = min((one.begun for one in chosen), default=time.time())
    calendar = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(start))
    lines = [
        "#[Histogram log format version 1.2]",
        f"#[StartTime: {start:.3f} (seconds since epoch), {calendar}]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    for one in chosen:
        interval = f"{one.begun - start:.3f},{one.seconds:.3f},{one.most / _MILLION:.3f}"
        lines.append(f"Tag={quote(one.name, safe=_SAFE)},{interval},{encode(one.cells)}")
    return "\n".join(lines) + "\n"


def _hgrm(chosen: Sequence[_Taken]) -> str:
    (one,) = chosen
    total = one.count
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    share, passed, value, ordered = 0.0, 0, 0, iter(one.cells)
    while total:
        while passed < share * total or passed == 0:
            value, count = next(ordered)
            passed += count
        within = min(max(value, one.least), one.most) / _MILLION
        if passed == total:
            lines.append(f"{within:12.3f} {1.0:14.12f} {total:10d}")
            break
        lines.append(f"{within:12.3f} {share:14.12f} {passed:10d} {1.0 / (1.0 - share):14.2f}")
        halvings = 1 + int(math.log2(1.0 / (1.0 - share)))
        share += 1.0 / (_TICKS * 2**halvings)
    deviation = math.sqrt(sum(count * (value - one.mean) ** 2 for value, count in one.cells) / total) if total else 0.0
    lines += [
        f"#[Mean    = {one.mean / _MILLION:12.3f}, StdDeviation   = {deviation / _MILLION:12.3f}]",
        f"#[Max     = {one.most / _MILLION:12.3f}, Total count    = {total:12d}]",
        f"#[Buckets = {37:12d}, SubBuckets     = {64:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _json(chosen: Sequence[_Taken]) -> str:
    whole = [
        {
            "integration": one.integration,
            "operation": one.operation,
            "begun": one.begun,
            "seconds": one.seconds,
            "count": one.count,
            "min_ns": one.least,
            "max_ns": one.most,
            "mean_ns": one.mean,
            "cells_ns": one.cells,
        }
        for one in chosen
    ]
    return json.dumps({"operations": whole}, indent=1) + "\n"
