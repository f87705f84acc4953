"""Real guards against a modelled server, in virtual time: what retries do to a dependency that is in trouble.

`python -m tests.simulation` prints the table of figures at a larger scale.
"""

from __future__ import annotations

import time

import pytest

from failsoft import _core
from tests.conftest import Score

from . import scenarios

BUDGET = {"share": 0.2, "floor": 1.0, "window": 10.0}


def test_a_total_outage_is_not_multiplied(score: Score) -> None:
    outage = scenarios.outage(200.0, 10, BUDGET)
    allowed = f"{outage.allowed / outage.requests:.3f} allowed, {outage.requests} requests"
    score("retries under a total outage", "attempts a request", round(outage.ratio, 3), allowed)
    assert outage.requests > 1_900
    assert outage.requests * 1.19 < outage.attempts <= outage.allowed
    assert outage.allowed / outage.requests < 1.22


def test_without_a_budget_it_is(score: Score) -> None:
    outage = scenarios.outage(50.0, 2, None)
    score("retries under a total outage", "without a budget", outage.ratio, f"{outage.requests} requests")
    assert outage.ratio == 4.0


def test_nor_by_three_layers_of_services(score: Score) -> None:
    outage = scenarios.outage(100.0, 8, BUDGET, layers=3)
    allowed = f"{outage.allowed / outage.requests:.3f} allowed, {outage.requests} requests"
    score("retries under a total outage", "attempts a request through three layers", round(outage.ratio, 3), allowed)
    assert outage.attempts <= outage.allowed < 2.0 * outage.requests
    assert scenarios.outage(20.0, 1, None, layers=3).ratio == 64.0


def test_with_a_breaker_an_outage_is_spared_most_attempts() -> None:
    outage = scenarios.outage(100.0, 8, BUDGET, breaker=True)
    assert outage.attempts < 0.1 * outage.requests


def test_after_an_overload_goodput_comes_back(score: Score) -> None:
    overload = scenarios.overload(seconds=35)
    assert overload.recovered_after is not None
    score(
        "recovery after an overload",
        "seconds until goodput is over 95 %",
        overload.recovered_after,
        "ten times the load",
    )
    assert overload.recovered_after <= 15
    assert overload.last > 0.99
    assert overload.goodput > 0.7


def test_with_plain_retries_it_does_not(score: Score) -> None:
    overload = scenarios.overload(budget=False, breaker=False, seconds=24)
    score("recovery after an overload", "goodput at the end with plain retries", overload.last, "24 s")
    assert overload.recovered_after is None
    assert overload.last == 0.0
    assert overload.attempts > 3 * overload.requests


@pytest.mark.parametrize(("jitter", "most"), [("full", 0.35), ("none", 1.0)])
def test_a_thousand_clients_do_not_return_together(jitter: str, most: float, score: Score) -> None:
    crowd = scenarios.crowd(jitter)
    score("a crowd", f"most of them in one 100 ms, jitter {jitter}", crowd.peak, f"{crowd.clients} clients")
    assert crowd.clients == 1_000
    assert crowd.peak <= most * crowd.clients
    assert (crowd.peak == crowd.clients) == (jitter == "none")


def test_one_dead_shard_costs_the_others_nothing(score: Score) -> None:
    partial = scenarios.partial(rate=60.0, seconds=15)
    score("a dead shard", "healthy requests lost", partial.lost, f"{partial.healthy} of them")
    assert partial.healthy > 700
    assert partial.lost == 0
    assert partial.sick_attempts < 0.2 * partial.sick


def test_with_one_breaker_for_all_it_does() -> None:
    partial = scenarios.partial(keyed=False, rate=60.0, seconds=5)
    assert partial.lost > 0.3 * partial.healthy


def test_a_run_depends_on_its_seed_alone_and_takes_no_time() -> None:
    began = time.monotonic()
    runs = [scenarios.outage(20.0, 60, BUDGET, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert time.monotonic() - began < 30.0 < 60.0
    assert _core.clock_source() != "fake"
