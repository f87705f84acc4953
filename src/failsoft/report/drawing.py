"""Latency curves and state ribbons as inline SVG: no script, no style sheet needed, in the colours around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .text import inert, latency, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Cells: TypeAlias = Sequence[tuple[int, int]]
    Segment: TypeAlias = tuple[str, float, float]

COLOURS = {
    "CLOSED": "#2e7d32",
    "OPEN": "#c62828",
    "HALF_OPEN": "#9a5b00",
    "FORCED_OPEN": "#7b1fa2",
    "DISABLED": "#5f6368",
    "METRICS_ONLY": "#1565c0",
}
"""A colour for each state, on which white can be read. The state is always in words too."""

UNKNOWN = "#5f6368"

POINTS_MOST = 160
"""Points of a curve that are drawn."""

_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_LEFT, _BOTTOM, _TOP, _RIGHT = 58.0, 22.0, 8.0, 12.0
_DASHES = ("", "5 3", "2 3")


def quantiles_of(cells: Cells) -> list[tuple[float, float]]:
    """(share of the values that are no larger, seconds) for each cell, ascending."""
    total = sum(number for _, number in cells)
    points, passed = [], 0
    for middle, number in cells:
        passed += number
        points.append((passed / total, middle / 1e9))
    return points


def _nines(share: float, most: float) -> float:
    """Where a share stands: each further nine takes as much room as the one before."""
    return min(-math.log10(1.0 - share), most) if share < 1.0 else most


def curve(lines: Iterable[tuple[str, Cells]], width: int = 560, height: int = 200) -> str:
    """Latency by percentile for several (label, cells): more nines to the right, both axes logarithmic."""
    drawn = [(label, quantiles_of(cells), sum(number for _, number in cells)) for label, cells in lines if cells]
    if not drawn:
        return '<p class="none">no calls yet</p>'
    most = max(1.0, math.log10(max(total for _, _, total in drawn)))
    low = max(min(points[0][1] for _, points, _ in drawn), 1e-9)
    high = max(points[-1][1] for _, points, _ in drawn)
    bottom, top = math.log10(low * 0.8), math.log10(max(high, low) * 1.25)

    def x(share: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * _nines(share, most) / most

    def y(seconds: float) -> float:
        inside = (math.log10(max(seconds, low)) - bottom) / (top - bottom)
        return height - _BOTTOM - (height - _BOTTOM - _TOP) * inside

    parts = [_opened(width, height, "Latency by percentile: " + "; ".join(_told(*one) for one in drawn))]
    for seconds in _ticks(bottom, top):
        at = f"{y(seconds):.1f}"
        parts.append(f'<path d="M{_LEFT:.0f} {at}H{width - _RIGHT:.0f}" stroke="currentColor" stroke-opacity=".18"/>')
        parts.append(_label(_LEFT - 6, y(seconds) + 3.5, latency(seconds), "end"))
    for share in _NINES:
        if _nines(share, math.inf) <= most:
            at = f"{x(share):.1f}"
            parts.append(
                f'<path d="M{at} {_TOP:.0f}V{height - _BOTTOM:.0f}" stroke="currentColor" stroke-opacity=".1"/>'
            )
            parts.append(_label(x(share), height - 6, f"{share * 100:.6g}%", "middle"))
    for (label, points, _), dash in zip(drawn, _DASHES, strict=False):
        path, before = [], 0.0
        for share, seconds in _thinned(points):
            path.append(f"{x(before):.1f} {y(seconds):.1f}L{x(share):.1f} {y(seconds):.1f}")
            before = share
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<path d="M{"L".join(path)}" fill="none" stroke="currentColor" stroke-width="1.6"{dashed}>'
            f"<title>{inert(label)}</title></path>"
        )
    return "".join(parts) + "</svg>"


def _told(label: str, points: list[tuple[float, float]], total: int) -> str:
    shares = (0.5, 0.95, 0.99)
    told = [next(seconds for share, seconds in points if share >= asked) for asked in shares]
    names = ", ".join(f"p{asked * 100:g} {latency(seconds)}" for asked, seconds in zip(shares, told, strict=True))
    return f"{inert(label)}: {names} of {total:,}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every so many of the points, but all of the tail."""
    if len(points) <= POINTS_MOST:
        return points
    tail, body = points[-POINTS_MOST // 2 :], points[: -POINTS_MOST // 2]
    step = len(body) * 2 // POINTS_MOST + 1
    return body[step - 1 :: step] + tail


def _ticks(bottom: float, top: float) -> list[float]:
    """Seconds to mark: decades, and halves of them where there are few."""
    decades = range(math.floor(bottom), math.ceil(top) + 1)
    steps: tuple[int, ...] = (1,) if top - bottom > 3 else (1, 3) if top - bottom > 1 else (1, 2, 3, 5, 7)
    marks = [step * 10.0**decade for decade in decades for step in steps]
    return [mark for mark in marks if bottom <= math.log10(mark) <= top]


def ribbon(name: str, segments: Sequence[Segment], length: float, width: int = 560, height: int = 22) -> str:
    """States over time, the present at the right: (state, began, ended) with both in seconds ago, oldest first."""
    told = ", ".join(f"{state} for {span(began - ended)}" for state, began, ended in segments)
    title = f"States of {inert(name)} over {span(length)}, oldest first: {inert(told, 400)}"
    parts = [_opened(width, height, title, stretched=True)]
    for state, began, ended in segments:
        left = width * (1.0 - min(began, length) / length)
        right = width * (1.0 - ended / length)
        wide = max(right - left, 2.0)  # a short trip is what one looks for
        left = min(left, width - wide)
        title = f"{inert(state)} for {span(began - ended)}, until {span(ended)} ago" if ended else inert(state)
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{wide:.1f}" height="{height}" '
            f'fill="{COLOURS.get(state, UNKNOWN)}"><title>{title}</title></rect>'
        )
    return "".join(parts) + "</svg>"


def _opened(width: int, height: int, title: str, stretched: bool = False) -> str:
    size = f'height="{height}" preserveAspectRatio="none"' if stretched else f'style="max-width:{width}px"'
    return f'<svg viewBox="0 0 {width} {height}" width="100%" {size} role="img"><title>{title}</title>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="10" font-family="system-ui,sans-serif" fill="currentColor" '
        f'text-anchor="{anchor}">{text}</text>'
    )


def badge(state: str) -> str:
    """A state in its colour, and in words."""
    return (
        f'<span style="background:{COLOURS.get(state, UNKNOWN)};color:#fff;border-radius:3px;padding:1px 6px;'
        f'font-weight:600;white-space:nowrap">{inert(state)}</span>'
    )
