"""One retry delay, against the random number that any jitter has to draw."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from groups import Contest, Row, Target
from measure import Subject
from run_one import benchmarked

import failsoft
from failsoft import Jitter


def delays(jitter: Jitter) -> Mapping[str, object]:
    return {"delay": failsoft.Backoff(initial=0.5, maximum=10.0, multiplier=2.0, jitter=jitter, seed=1).delay}


SUBJECTS = (
    Subject("random.random", "draw()", lambda: {"draw": random.random}),
    Subject("Backoff.delay", "delay(3)", lambda: delays(Jitter.FULL)),
    Subject("Backoff.delay, decorrelated", "delay(3, 1.5)", lambda: delays(Jitter.DECORRELATED)),
)

GROUPS = (
    Contest(
        "backoff",
        SUBJECTS,
        (
            Row("Backoff.delay", "random.random", Target(cap=1.5)),
            Row("Backoff.delay, decorrelated", "random.random"),
        ),
    ),
)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_backoff(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
