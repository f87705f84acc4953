"""The state table of the core, tests/c/breaker_table.h, taken row by row by the Python model: both are held to one table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from .breaker import Breaker, Permit, Rules, State

TABLE = Path(__file__).parents[1] / "c" / "breaker_table.h"
SECOND = 1_000_000_000
START, WAIT, THRESHOLD = 1000 * SECOND, 10 * SECOND, 3


class Row(NamedTuple):
    before: str
    event: str
    when: str
    answer: str
    after: str
    because: str


ROWS = [Row(*re.split(r",\s*", row)) for row in re.findall(r"^    ROW\(([^)]*)\)", TABLE.read_text(), re.MULTILINE)]


def in_state(state: str) -> tuple[Breaker, int]:
    rules = Rules(failure_threshold=THRESHOLD, success_threshold=THRESHOLD, half_open_max_calls=1, reset_timeout=10.0)
    breaker, now = Breaker(rules, START), START
    operator = {"FORCED_OPEN": breaker.force_open, "DISABLED": breaker.disable, "METRICS_ONLY": breaker.metrics_only}
    if state in operator:
        operator[state]()
    elif state != "CLOSED":
        for _ in range(THRESHOLD):
            breaker.failure(permit_in(breaker, now), now)
    if state == "HALF_OPEN":
        now += WAIT
        breaker.ignore(permit_in(breaker, now))
    assert breaker.state is State[state]
    return breaker, now


def permit_in(breaker: Breaker, now: int) -> Permit:
    """A permit of the generation in force, as a call that is out would hold it."""
    if (breaker.state in (State.OPEN, State.FORCED_OPEN) and now < breaker.until) or breaker.state is State.FORCED_OPEN:
        return Permit(breaker.generation)
    permit = breaker.acquire(now)
    assert permit is not None
    return permit


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:3]))
def test_the_model_takes_each_row(row: Row) -> None:
    breaker, now = in_state(row.before)
    tell = {"SUCCESS": breaker.success, "FAILURE": breaker.failure}
    if row.when == "ENOUGH":
        for _ in range(THRESHOLD - 1):
            tell[row.event](permit_in(breaker, now), now)
    if row.answer == "ZERO":
        breaker.failure(permit_in(breaker, now), now)
    if row.when == "TAKEN":
        assert breaker.acquire(now)
    now += {"WAIT_OVER": WAIT, "WAITING": WAIT - 1}.get(row.when, 0)
    changes, generation = len(breaker.changes), breaker.generation
    if row.event == "ACQUIRE":
        permit = breaker.acquire(now)
        assert {"GO": permit and permit.slot is None, "PROBE": permit and permit.slot is not None}.get(
            row.answer, permit is None
        )
    else:
        before = breaker.streak if row.before == "HALF_OPEN" else breaker.consecutive
        tell[row.event](permit_in(breaker, now), now)
        after = breaker.streak if row.before == "HALF_OPEN" else breaker.consecutive
        if row.because == "NOTHING":
            assert after == {"ZERO": 0, "UP": before + 1, "DROP": before}[row.answer]
    assert breaker.state is State[row.after]
    assert breaker.generation == generation + (row.because != "NOTHING")
    told = [change.reason for change in breaker.changes[changes:]]
    assert told == ([] if row.because == "NOTHING" else [row.because.lower()])


def test_the_table_was_read() -> None:
    assert len(ROWS) == 22
    assert {row.before for row in ROWS} == {state.name for state in State}
