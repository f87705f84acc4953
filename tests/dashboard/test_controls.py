"""What operators may do, and who is kept from it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

import failsoft
from failsoft import ArenaError, CircuitState, dashboard
from failsoft.arena import attach
from failsoft.dashboard.names import identity
from failsoft.events import DegradedChange, Transition, subscribe

from .conftest import BASE, From, Visit, trip

HEADERS = {"x-failsoft-control": "1", "origin": BASE}
PAYMENTS = identity("payments")


def ask(client: TestClient, action: Any, headers: dict[str, str] = HEADERS, **more: Any) -> Any:
    return client.post("/api/control", headers=headers, json={"id": PAYMENTS, "action": action, **more})


@pytest.mark.parametrize(("action", "state"), [
    ("force_open", CircuitState.FORCED_OPEN),
    ("disable", CircuitState.DISABLED),
    ("metrics_only", CircuitState.METRICS_ONLY),
])  # fmt: skip
def test_states_are_set_and_every_listener_hears_of_it(
    visit: Visit, payments: failsoft.Integration, action: str, state: CircuitState
) -> None:
    client, heard = visit(controls=True), []
    unsubscribe = subscribe(heard.append, Transition)
    try:
        assert ask(client, action).status_code == 200
        assert payments.breaker.state is state
        assert ask(client, "reset").status_code == 200
        assert payments.breaker.state is CircuitState.CLOSED
    finally:
        unsubscribe()
    assert [(event.state, event.reason) for event in heard] == [(state, "operator"), (CircuitState.CLOSED, "operator")]
    told = client.get(f"/api/integrations/{PAYMENTS}").json()
    assert sum(decision["kind"] == "transition" for decision in told["decisions"]) == 2


def test_an_open_breaker_is_forced_closed(visit: Visit, payments: failsoft.Integration) -> None:
    trip(payments)
    assert ask(visit(controls=True), "force_closed").status_code == 200
    assert payments.breaker.state is CircuitState.CLOSED


def test_degrading_is_a_reason_among_others(
    visit: Visit, registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    client, heard = visit(controls=True), []
    registry.capacities.enter("payments", 0.8, "maintenance")
    unsubscribe = subscribe(heard.append, DegradedChange)
    try:
        assert ask(client, "degrade", capacity=0.25).status_code == 200
        assert payments.status().capacity == pytest.approx(0.25)
        assert ask(client, "restore").status_code == 200
        assert payments.status().capacity == pytest.approx(0.8)
    finally:
        unsubscribe()
    assert [event.reason for event in heard] == ["dashboard", "dashboard"]


def test_who_did_what_is_kept_and_logged(
    visit: Visit, payments: failsoft.Integration, caplog: pytest.LogCaptureFixture
) -> None:
    client = visit(controls=True)
    ask(client, "force_open")
    (line,) = client.get("/api/state").json()["audit"]
    assert (line["who"], line["integration"], line["action"]) == ("127.0.0.1", "payments", "force_open")
    assert "127.0.0.1" in caplog.text
    assert "force_open payments" in caplog.text


@pytest.mark.parametrize(("headers", "status"), [
    ({"origin": BASE}, 403),
    ({**HEADERS, "origin": "https://evil.example"}, 403),
    ({**HEADERS, "sec-fetch-site": "cross-site"}, 403),
    ({**HEADERS, "content-type": "text/plain"}, 415),
    ({**HEADERS, "content-type": "application/x-www-form-urlencoded"}, 415),
    ({**HEADERS, "host": "evil.example"}, 421),
], ids=["no header", "another origin", "cross-site", "text", "form", "another host"])  # fmt: skip
def test_what_a_strange_page_could_send_changes_nothing(
    visit: Visit, payments: failsoft.Integration, headers: dict[str, str], status: int
) -> None:
    assert ask(visit(controls=True), "force_open", headers).status_code == status
    assert payments.breaker.state is CircuitState.CLOSED


def test_without_the_switch_nothing_is_done(visit: Visit, payments: failsoft.Integration) -> None:
    client = visit()
    answer = ask(client, "force_open")
    assert answer.status_code == 403
    assert "controls are off" in answer.json()["error"]
    assert payments.breaker.state is CircuitState.CLOSED
    assert client.get("/api/state").json()["controls"] is False


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_controls(visit: Visit, payments: failsoft.Integration, method: str) -> None:
    answer = visit(controls=True).request(method, "/api/control", headers=HEADERS)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"[]", 400), (b"{", 400), (b"[" * 4000, 400), (b"null", 400), (b"\xff\xfe", 400), (b"x" * 5000, 413),
    (b'{"id": "%s", "action": "close"}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": "__class__"}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": ["reset"]}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": "degrade"}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": "degrade", "capacity": 1.01}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": "degrade", "capacity": NaN}' % PAYMENTS.encode(), 400),
    (b'{"id": "%s", "action": "degrade", "capacity": true}' % PAYMENTS.encode(), 400),
    (b'{"id": "payments", "action": "reset"}', 404),
    (b'{"id": null, "action": "reset"}', 404),
], ids=range(16))  # fmt: skip
def test_nonsense_is_refused_with_a_word(
    visit: Visit, payments: failsoft.Integration, body: bytes, status: int
) -> None:
    headers = {**HEADERS, "content-type": "application/json"}
    answer = visit(controls=True).post("/api/control", headers=headers, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert payments.status().capacity == 1.0


def test_an_arena_is_told_for_all_its_processes(arena_left: str) -> None:
    market = {"id": identity("market")}
    with pytest.raises(ValueError, match="controls=True"):
        dashboard.app(attach(arena_left), controls=True)
    client = TestClient(From(dashboard.app(attach(arena_left, controls=True), controls=True)), base_url=BASE)
    outside = attach(arena_left)["market"]
    for action, more, state, capacity in (
        ("force_open", {}, "FORCED_OPEN", 0.0),
        ("reset", {}, "CLOSED", 1.0),
        ("degrade", {"capacity": 0.25}, "CLOSED", 0.25),
        ("restore", {}, "CLOSED", 1.0),
    ):
        answer = client.post("/api/control", headers=HEADERS, json={**market, "action": action, **more})
        assert answer.status_code == 200
        assert (outside.status().state, outside.status().capacity) == (state, capacity)
    assert [decision.kind for decision in outside.explain().decisions] == [
        "transition", "transition", "capacity", "capacity",
    ]  # fmt: skip


def test_who_only_looks_at_an_arena_changes_nothing(arena_left: str) -> None:
    market = attach(arena_left)["market"]
    for change in (market.force_open, market.reset, lambda: market.limit(0.5)):
        with pytest.raises(ArenaError, match="controls=True"):
            change()
    assert market.status().state is CircuitState.CLOSED
