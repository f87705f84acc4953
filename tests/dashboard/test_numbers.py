"""What is shown is what happened."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from typing import Any

import pytest

import failsoft
from failsoft.dashboard.names import MOST, identity, shown
from failsoft.dashboard.reading import BANDS, heat
from failsoft.dashboard.ribbon import coarse, ways
from failsoft.dashboard.sampler import CARDS_MOST, Sampler

from .conftest import Visit, fail, trip

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "nul\0inside",
    "\u202egnp.exe",
    "\u2066\u2067 isolated",
    "\ud800 alone",
    "line\nbreak\r\u2028para",
    "data: x\n\nevent: frame\ndata: {}",
    "../../etc/passwd",
    "M" * 1_000_000,
    "javascript:alert(1)",
    "{{7*7}}${7*7}",
    "\u200b",
    "e\u0301" * 100,
)


def test_a_card_tells_state_rate_errors_and_latency(visit: Visit, payments: failsoft.Integration) -> None:
    trip(payments)
    (card,) = visit().get("/api/state").json()["cards"]
    assert card["name"] == "payments"
    assert (card["state"], card["trouble"], card["reason"]) == ("OPEN", "bad", "consecutive_failures")
    assert card["count"] == 23
    assert card["errors"] == pytest.approx(3 / 23, rel=1e-3)
    assert 0.0 < card["p50"] <= card["p95"] <= card["p99"]
    assert card["capacity"] == 0.0
    assert card["retry_after"] > 0.0


def test_the_first_screen_has_the_six_numbers(
    visit: Visit, registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    answer = registry.integration("quotes", "market_data").guard(
        fail, operation="last", retry=False, fallbacks=[failsoft.Fallback(failsoft.FallbackType.MOCK, lambda: 7)]
    )
    client = visit()
    client.get("/api/state")
    registry.capacities.enter("payments", 0.5, "maintenance")
    for _ in range(4):
        assert answer() == 7
    client.app.app.state.hub.sampler.look()  # type: ignore[attr-defined]
    told = client.get("/api/state").json()["summary"]
    assert (told["total"], told["good"], told["warn"]) == (2, 1, 1)  # health
    assert told["states"] == {"CLOSED": 2}
    assert told["errors"] == pytest.approx(4 / 24, rel=1e-3)
    assert told["worst"] == ["quotes", 1.0]
    assert told["mean"] > 0.0
    assert told["slowest"][0] in ("quotes", "payments")
    assert (told["fallbacks"], told["fallback_most"]) == (4, "quotes")
    assert (told["degraded"], told["lowest"]) == (1, [["payments", 0.5]])


def test_the_detail_says_why_and_by_which_rules(visit: Visit, payments: failsoft.Integration) -> None:
    trip(payments)
    told = visit().get(f"/api/integrations/{identity('payments')}").json()
    assert told["why"][0].startswith("payments is OPEN for ")
    assert "3 failures in a row" in told["why"][0]
    assert told["rules"][0] == "Opens on 3 failures in a row."
    assert told["last_trip"][1] == "too many failures in a row"
    assert [row["name"] for row in told["operations"]] == ["charge", "refund"]
    assert any(d["kind"] == "transition" and d["text"].startswith("CLOSED -> OPEN") for d in told["decisions"])
    assert [state for _, state in told["ribbon"]] == ["CLOSED", "OPEN"]
    assert told["processes"] is None


def test_states_from_before_the_first_look_are_known_to_the_moment(
    registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    trip(payments)
    payments.force_closed()
    payments.disable()
    payments.reset()
    sampler = Sampler(registry, 1.0)
    sampler.look()
    first = sampler.detail(identity("payments"))
    assert first is not None
    assert [state for _, state in first["ribbon"]] == ["CLOSED", "OPEN", "CLOSED", "DISABLED", "CLOSED"]
    payments.force_open()
    sampler.look()
    then = sampler.detail(identity("payments"))
    assert then is not None
    assert [state for _, state in then["ribbon"]][-2:] == ["CLOSED", "FORCED_OPEN"]
    assert len(then["ribbon"]) == 6
    since = [at for at, _ in then["ribbon"]]
    assert since == sorted(since)


def test_a_ribbon_of_very_many_changes_shows_the_gravest() -> None:
    flapping = [(float(at), "OPEN" if at % 2 else "CLOSED") for at in range(1000)]
    assert coarse(flapping, 1000.0, 60) == [(0.0, "OPEN")]
    calm = [(0.0, "CLOSED"), (900.0, "OPEN"), (900.1, "CLOSED")]
    assert coarse(calm, 1000.0, 60) == calm
    mixed = [
        (0.0, "CLOSED"),
        *[(500.0 + at, "HALF_OPEN" if at % 2 else "OPEN") for at in range(101)],
        (601.0, "CLOSED"),
    ]
    told = coarse(mixed, 1000.0, 60)
    assert [state for _, state in told] == ["CLOSED", "OPEN", "CLOSED"]
    assert told[1][0] == pytest.approx(500.0, abs=1000 / 60)
    assert ways(mixed)["OPEN>HALF_OPEN"] == 50


def test_points_hold_what_came_between_two_looks(
    registry: failsoft.Registry, payments: failsoft.Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("failsoft.dashboard.sampler.time.monotonic", lambda: now[0])
    sampler = Sampler(registry, 1.0)
    sampler.look()  # what was before is no point
    charge = payments.guard(lambda: 1, operation="charge", retry=False)
    for _ in range(10):
        charge()
    with pytest.raises(Exception, match="down"):
        payments.guard(fail, operation="refund", retry=False)()
    now[0] += 2.0
    sampler.look()
    told = sampler.detail(identity("payments"), whole=True)
    assert told is not None
    (point,) = told["points"]
    _at, succeeded, failed, timed_out, refused, fallbacks, latencies, bands = point
    assert (succeeded, failed, timed_out, refused, fallbacks) == (5.0, 0.5, 0.0, 0.0, 0.0)
    assert latencies == sorted(latencies)
    assert sum(bands[1::2]) == 11


def test_heat_bands_are_four_a_decade() -> None:
    assert heat({500: 1}) == [0, 1]
    assert heat({1_000_000: 2, 1_900_000: 3}) == [12, 2, 13, 3]
    assert heat({10**15: 1}) == [BANDS - 1, 1]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_bounded_and_visible(name: str) -> None:
    told = shown(name)
    assert len(told) <= MOST + 1
    assert not [c for c in told if c < " " or c in "\u202e\u2066\u2067\u2028\u200b" or "\ud800" <= c <= "\udfff"]
    assert len(identity(name)) == 12


def test_hostile_names_do_not_break_the_frames(visit: Visit, registry: failsoft.Registry) -> None:
    for name in HOSTILE:
        one = registry.integration(name, "external_api")
        one.guard(lambda: 1, operation=name)()
        one.force_open()
    answer = visit().get("/api/state")
    assert len(answer.json()["cards"]) == len(HOSTILE)
    assert len(answer.content) < 40_000
    for name in HOSTILE:
        told = visit().get(f"/api/integrations/{identity(name)}")
        assert told.status_code == 200
        assert len(told.content) < 20_000


def test_with_very_many_those_in_trouble_are_followed(registry: failsoft.Registry) -> None:
    for number in range(CARDS_MOST + 20):
        registry.integration(f"n{number:03}", "cache")
    registry["n275"].force_open()
    sampler = Sampler(registry, 1.0)
    sampler.look()
    told = sampler.frame()
    assert len(told["cards"]) == CARDS_MOST
    assert told["left_out"] == 20
    assert told["cards"][0]["name"] == "n275"


def test_keys_have_cards_of_their_own_and_no_user_code_runs(registry: failsoft.Registry) -> None:
    class Key(str):
        asked = 0

        def __str__(self) -> str:
            Key.asked += 1
            return "venue"

    def send(venue: str) -> None: ...

    guard = registry.integration("market", "market_data").guard(send, key=Key)
    guard("a")
    before = Key.asked
    sampler = Sampler(registry, 1.0)
    sampler.look()
    names = [card["name"] for card in sampler.frame()["cards"]]
    assert len(names) == 2
    assert sampler.detail(identity("market")) is not None
    assert Key.asked == before


def test_a_source_that_fails_is_said_and_outlived(registry: failsoft.Registry, payments: failsoft.Integration) -> None:
    class Broken:
        well = False

        def with_shards(self) -> object:
            if not self.well:
                raise OSError("gone")
            return registry.with_shards()

    source = Broken()
    sampler = Sampler(source, 1.0)
    sampler.look()
    assert sampler.frame()["trouble"] == "gone"
    assert sampler.detail(identity("payments")) is None
    source.well = True
    sampler.look()
    assert sampler.frame()["trouble"] is None
    assert len(sampler.frame()["cards"]) == 1
    source.well = False
    assert sampler.detail(identity("payments")) is None


def test_a_look_that_takes_long_is_made_rarely(registry: failsoft.Registry) -> None:
    sampler = Sampler(registry, 1.0)
    sampler.took = 0.5
    assert sampler.pause == 10.0
    sampler.took = 0.001
    assert sampler.pause == pytest.approx(0.999)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_in_the_middle_of_a_look_leaves_the_child_a_dashboard(registry: failsoft.Registry) -> None:
    """A server that loads the application first and forks then: the thread that looks is not in its children."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def with_shards(self) -> Any:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go_on.wait(10.0)
            return registry.with_shards()

    sampler = Sampler(Slow(), 1.0)
    looking = threading.Thread(target=sampler.look)
    looking.start()
    try:
        assert inside.wait(10.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
            child = os.fork()
        if child == 0:
            try:
                signal.alarm(5)
                sampler.look()
                os._exit(0 if sampler.frame()["cards"] == [] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        go_on.set()
        looking.join()
