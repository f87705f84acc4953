"""One subject under pytest-benchmark, in the same compiled loop that the report uses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from measure import Subject, UnavailableError

OPERATIONS = 1_000
ROUNDS = 25
FEWEST_ROUNDS = 3
BUDGET_NS = 500_000_000  # of one subject, so that a slow peer does not hold up the rest


def benchmarked(benchmark: Any, subject: Subject) -> None:
    """A round is 1,000 operations where possible: a microsecond in the table reads as a nanosecond."""
    count = max(1, OPERATIONS // subject.operations)
    benchmark.extra_info["operations_per_round"] = count * subject.operations
    with asyncio.Runner() as runner:
        try:
            loop = subject.prepare(runner)
        except UnavailableError as reason:
            pytest.skip(f"{subject.name}: {reason}")
        warm_up = loop.run(count)
        rounds = min(ROUNDS, max(FEWEST_ROUNDS, BUDGET_NS // warm_up))
        benchmark.pedantic(loop.run, args=(count,), rounds=rounds)
