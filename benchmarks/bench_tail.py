"""The slowest calls in a thousand, each timed by itself: a path that is fast on average may still stumble.

The overhead of a single call is its time less the median time of a bare call, clock reads being the same on
both sides. `functools.partial` beside it shows how much of the tail belongs to the machine.
"""

from __future__ import annotations

import functools
import statistics
import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from armed import armed, identity
from groups import Effort, Findings, Row, Study
from measure import collector_off

CALLS = 2_000  # of one subject before the next has its turn
TURNS_A_ROUND = 4


def single_calls(f: Callable[..., Any], samples: array[int]) -> None:
    clock = time.perf_counter_ns
    x = 1
    with collector_off():
        for _ in range(CALLS):
            start = clock()
            f(x)
            end = clock()
            samples.append(end - start)


def slowest_in_a_thousand(values: list[float]) -> float:
    return sorted(values)[len(values) * 999 // 1_000]


def find(effort: Effort) -> Findings:
    subjects: dict[str, Callable[..., Any]] = {
        "bare call": identity,
        "functools.partial": functools.partial(identity),
        "guard": armed(identity),
    }
    samples = {name: array("q") for name in subjects}
    for _ in range(effort.rounds * TURNS_A_ROUND):
        for name, function in subjects.items():
            single_calls(function, samples[name])
    bare = statistics.median(samples["bare call"])
    findings = Findings()
    for name in ("guard", "functools.partial"):
        overheads = [sample - bare for sample in samples[name]]
        typical = statistics.median(overheads)
        # a clock that cannot see the overhead leaves nothing to divide by
        if typical > 0:
            findings.values[f"overhead of {name}, p99.9 / median"] = slowest_in_a_thousand(overheads) / typical
        else:
            findings.skipped[f"overhead of {name}"] = "below the clock's resolution"
    for name, taken in samples.items():
        findings.values[f"one call of {name}, p99.9"] = slowest_in_a_thousand(list(taken))
    return findings


GROUPS = (
    Study(
        "tail",
        (
            Row("overhead of guard, p99.9", "median"),
            Row("overhead of functools.partial, p99.9", "median"),
            Row("one call of guard, p99.9", unit="ns"),
            Row("one call of functools.partial, p99.9", unit="ns"),
            Row("one call of bare call, p99.9", unit="ns"),
        ),
        find,
    ),
)


@pytest.mark.parametrize("name", ["bare call", "guard"])
def test_tail(benchmark: Any, name: str) -> None:
    samples = array("q")
    function = armed(identity) if name == "guard" else identity
    benchmark.pedantic(single_calls, args=(function, samples), rounds=25)
    benchmark.extra_info["p99.9_ns"] = slowest_in_a_thousand(list(samples))
