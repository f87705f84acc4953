"""The ratios as a picture: SVG written by hand, so that a report needs nothing installed to draw.

One line a ratio on logarithmic axes: a dot at the median, a bar from the best process to the worst, and
ticks where the goal and the cap are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from tables import Line, number

LEFT, WIDTH, RIGHT = 470, 560, 90
TOP, STEP, BETWEEN = 76, 22, 64
GOOD, BAD, PLAIN, INK = "#1a7f5a", "#c0392b", "#4a6fa5", "#333"


def svg(lines: Sequence[Line], title: str) -> str:
    ratios = [line for line in lines if line.unit == "x"]
    panels = {
        "against the baseline beside it": [line for line in ratios if not line.peer],
        "other libraries against failsoft": [line for line in ratios if line.peer],
    }
    parts: list[str] = []
    top = TOP
    for heading, shown in panels.items():
        if shown:
            parts += _panel(heading, shown, top)
            top += STEP * len(shown) + BETWEEN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{top}" '
            f'font-family="sans-serif" font-size="12" fill="{INK}">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="12" y="22" font-size="15">{escape(title)}</text>',
            '<text x="12" y="40">dot: median of processes, bar: extremes, ticks: goal (grey) and cap</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(heading: str, shown: Sequence[Line], top: int) -> list[str]:
    low = min([0.5, *(line.low for line in shown)])
    high = max([2.0, *(line.high for line in shown)])
    span = math.log(high / low)

    def across(value: float) -> float:
        return LEFT + WIDTH * math.log(max(value, low) / low) / span

    bottom = top + STEP * len(shown)
    parts = [f'<text x="{LEFT}" y="{top - 10}" font-size="13">{heading}</text>']
    for mark in _marks(low, high):
        x = across(mark)
        parts.append(_upright(x, top - 4, bottom + 6, "#ddd" if mark != 1 else "#999"))
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{mark:g}x</text>')
    for index, line in enumerate(shown):
        parts += _drawn(line, top + STEP * index + STEP / 2, across)
    return parts


def _marks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def _drawn(line: Line, y: float, across: Callable[[float], float]) -> list[str]:
    colour = BAD if "MISSED" in line.verdict or "WINS" in line.verdict else GOOD if line.verdict else PLAIN
    label = f"{line.figure} / {line.against}"
    parts = [
        f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>',
        f'<line x1="{across(line.low):.1f}" x2="{across(line.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="{colour}" stroke-width="3" opacity="0.45"/>',
        f'<circle cx="{across(line.median):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
        f'<text x="{LEFT + WIDTH + 12}" y="{y + 4:.1f}" fill="{colour}">{number(line.median)}x</text>',
    ]
    if line.goal is not None:
        parts.append(_upright(across(line.goal), y - 8, y + 8, "#888"))
    if line.cap is not None:
        parts.append(_upright(across(line.cap), y - 8, y + 8, "#000"))
    return parts


def _upright(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'
