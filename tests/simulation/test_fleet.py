"""A fleet in virtual time: what an outage costs, who probes, who is fooled, and what partitions and restarts do to that.

`python -m tests.simulation fleet` prints the figures of docs/fleet.md, of a thousand hosts.
"""

from __future__ import annotations

import pytest

from failsoft.fleets.syncer import carry_out
from failsoft.records import replace
from tests.conftest import Score

from . import fleet

ALLOWED = fleet.CONFIG.half_open_max_calls
FEW = 40
SIZES = [FEW, pytest.param(1_000, marks=pytest.mark.deep)]


@pytest.mark.parametrize("hosts", SIZES)
def test_an_outage_is_known_to_all_and_probed_by_one(hosts: int, score: Score) -> None:
    found = fleet.outage(hosts)
    alone = fleet.outage(hosts, following=False)
    promise = f"a fleet of {hosts} in an outage"
    score(
        promise, "seconds from the first host that opens to the last", found.opened_after, f"{alone.opened_after} alone"
    )
    score(promise, "probes", found.probes, f"{alone.probes} alone")
    score(promise, "probes beyond those allowed", found.over, f"{found.most_probes} at a time, {ALLOWED} allowed")
    score(promise, "seconds until all are closed again", found.healed_after, f"{alone.healed_after} alone")
    assert found.over == 0
    assert found.most_probes <= ALLOWED
    assert found.opened_after is not None
    assert alone.opened_after is not None
    assert found.opened_after < alone.opened_after
    assert found.let_through < alone.let_through
    assert found.probes < 0.1 * alone.probes
    assert found.healed_after is not None
    assert found.healed_after < fleet.CONFIG.reset_timeout + 5.0
    assert found.longest_row <= fleet.CONFIG.failure_threshold


@pytest.mark.parametrize("hosts", SIZES)
def test_sick_hosts_fool_nobody(hosts: int, score: Score) -> None:
    ill = hosts // 4
    one, some = fleet.sick(hosts), fleet.sick(hosts, ill=ill)
    score(f"a fleet of {hosts} with one sick host", "false openings", one.fleet_openings, f"{one.rounds} rounds")
    score(f"a fleet of {hosts} with one sick host", "false openings, a quarter sick", some.fleet_openings)
    assert (one.fleet_openings, one.lost) == (0, 0)
    assert (some.fleet_openings, some.lost) == (0, 0)


def test_a_quorum_of_sick_hosts_does() -> None:
    assert fleet.sick(20, ill=11).fleet_openings > 0


@pytest.mark.parametrize("hosts", SIZES)
def test_partitions_kills_and_a_store_that_forgets(hosts: int, score: Score) -> None:
    found = fleet.storm(hosts)
    promise = f"a fleet of {hosts} among partitions, kills and restarts of the store"
    score(promise, "probes beyond those allowed", found.over, f"{found.probes} probes, {found.alone} of hosts cut off")
    score(promise, "failures in a row that a closed breaker let through", found.longest_row, "5 are its threshold")
    score(promise, "seconds until all are closed again", found.healed_after)
    score(promise, "seconds that a joining host's deadline is off", round(found.drift, 4))
    assert found.over == 0
    assert found.longest_row <= fleet.CONFIG.failure_threshold
    assert found.healed_after is not None
    assert found.healed_after < fleet.CONFIG.reset_timeout + 5.0
    assert found.drift < 0.01


def test_without_the_hold_too_many_would_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "carry_out", lambda orders, breaker: carry_out(replace(orders, held=0), breaker))
    assert fleet.outage(FEW).over > 0


def test_a_run_depends_on_its_seed_alone() -> None:
    runs = [fleet.outage(10, seed=seed, seconds=3.0) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
