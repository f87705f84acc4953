"""What the sketches answer: the worst relative error over 999 quantiles of one stream, beside their speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from groups import Effort, Findings, Row, Study, Target
from sketches import OURS, PEERS, Sketch, latencies

STREAM = 100_000
PARTS = 1_000


def worst_error(sketch: Sketch) -> float:
    """Per cent, against exact order statistics.

    A quantile may fall on either of two neighbours: the nearer one counts.
    """
    filled = sketch.filled(STREAM)
    query = getattr(filled, sketch.query)
    ordered = sorted(latencies(STREAM))
    worst = 0.0
    for part in range(1, PARTS):
        wanted: Any = part / PARTS * sketch.scale
        answer = (query((wanted,))[0] if sketch.at_once else query(wanted)) * sketch.in_ns
        worst = max(worst, _distance(answer, ordered, part * (STREAM - 1) // PARTS))
    return 100 * worst


def _distance(answer: float, ordered: Sequence[int], rank: int) -> float:
    low, high = ordered[rank], ordered[rank + 1]
    return 0.0 if low <= answer <= high else min(abs(answer / low - 1), abs(answer / high - 1))


def find(effort: Effort) -> Findings:
    findings = Findings()
    for sketch in (OURS, *PEERS):
        try:
            findings.values[f"{sketch.name}, worst error"] = worst_error(sketch)
        except ImportError as error:
            findings.skipped[sketch.name] = f"{type(error).__name__}: {error}"
    return findings


GROUPS = (
    Study(
        "histogram accuracy",
        (
            Row("failsoft, worst error", target=Target(cap=1.0), unit="%"),
            *(Row(f"{peer.name}, worst error", unit="%") for peer in PEERS),
        ),
        find,
    ),
)


@pytest.mark.parametrize("sketch", [OURS, *PEERS], ids=lambda sketch: sketch.name)
def test_accuracy(benchmark: Any, sketch: Sketch) -> None:
    try:
        sketch.make()
    except ImportError as error:
        pytest.skip(f"{sketch.name}: {error}")
    benchmark.extra_info["worst_error_percent"] = benchmark.pedantic(worst_error, args=(sketch,), rounds=1)
