"""`LatencyHistogram.plot()`, by matplotlib."""

from __future__ import annotations

import math

from .drawing import quantiles_of
from .text import latency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import LatencyView

_NINES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def plot(view: LatencyView, ax: Any = None, label: str | None = None) -> Any:
    """Draw latency by percentile: each further nine takes as much room as the one before. The matplotlib Axes."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot() needs the package matplotlib: pip install 'failsoft[plot]'") from error
    if ax is None:
        _, ax = pyplot.subplots()
    cells = view.cells()
    total = sum(number for _, number in cells)
    if total:
        points = quantiles_of(cells)
        most = max(float(total), 2.0)
        shares = [1.0, *(min(1.0 / (1.0 - share), most) if share < 1.0 else most for share, _ in points)]
        # Each value holds from the share before it on.
        ax.step(shares, [points[0][1], *(seconds for _, seconds in points)], where="pre", label=label)
        marks = [share for share in _NINES if 1.0 / (1.0 - share) <= most * 1.001]
        ax.set_xscale("log", base=10)
        ax.set_yscale("log", base=10)
        ax.set_xticks([1.0 / (1.0 - share) for share in marks], [f"{share * 100:.6g}%" for share in marks])
        ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(lambda seconds, _: latency(seconds) if math.isfinite(seconds) else "")
    ax.set_xlabel("percentile")
    ax.set_ylabel("latency")
    ax.grid(True, alpha=0.3)
    if label is not None:
        ax.legend()
    return ax
