"""The retry budget of an integration: who pays, who is refused, and how it is told."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import pickle
import threading
import time
from typing import Any

import pytest

import failsoft
from failsoft import (
    ErrorCategory,
    Integration,
    IntegrationConfig,
    IntegrationError,
    IntegrationType,
    Registry,
    RetryBudget,
    RetryBudgetExhaustedError,
)
from failsoft.config_files import load_config
from failsoft.testing import FakeClock

from .conftest import Make

GONE = ConnectionError("gone")
SPENT = "the retry budget is spent"


class Peer:
    """Raises what it is given, or answers, and counts."""

    def __init__(self, error: BaseException | None = GONE) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, *_: object) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "fine"


def fail(guard: Any, times: int = 1, *args: object) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            guard(*args)


@pytest.mark.parametrize("kind", IntegrationType)
def test_every_preset_has_one(kind: IntegrationType) -> None:
    assert failsoft.default_config(kind).retry_budget == RetryBudget(share=0.2, floor=10.0, window=10.0)


def test_a_share_of_the_calls_may_be_retried(make: Make, clock: FakeClock) -> None:
    peer, healthy = Peer(), Peer(None)
    dependency = make(retries=1, retry_budget={"floor": 0.0})
    guard, other = dependency.guard(peer, operation="a"), dependency.guard(healthy, operation="b")
    fail(guard)
    assert peer.calls == 1
    for _ in range(99):
        other()
    fail(guard, 50)
    # 150 first attempts have paid for 30 retries by the end, and what was retried pays nothing.
    assert peer.calls - 51 == dependency.metrics("a").retries == 30


def test_a_quiet_integration_has_the_floor(make: Make, clock: FakeClock) -> None:
    peer = Peer()
    dependency = make(retries=3, retry_budget={"share": 0.0})
    guard = dependency.guard(peer)
    fail(guard, 50)
    assert peer.calls == 50 + 100  # ten a second, for ten seconds
    clock.advance(1.0)
    fail(guard, 50)
    assert peer.calls == 50 + 100 + 50 + 9  # less what was forgotten


def test_without_a_budget_all_are_retried(make: Make, clock: FakeClock) -> None:
    peer = Peer()
    dependency = make(retries=3, retry_budget=None)
    fail(dependency.guard(peer), 200)
    assert peer.calls == 800
    assert dependency.budget() is None
    assert dependency.explain().budget is None


def test_a_retry_is_charged_when_it_is_decided_on(make: Make) -> None:
    """Calls that wait for their retry hold it: no second wave may be let go beside them."""
    peer = Peer()

    async def call() -> None:
        peer()

    async def main() -> None:
        policy = {"initial_delay": 60.0, "max_delay": 60.0}
        dependency = make(
            retries=1, retry_policy=policy, retry_budget={"share": 0.0, "floor": 1.0}, timeouts={"overall": 200.0}
        )
        guard = dependency.guard(call)
        tasks = [asyncio.ensure_future(guard()) for _ in range(30)]
        done, waiting = await asyncio.wait(tasks, timeout=0.05)
        assert (peer.calls, len(done), len(waiting)) == (30, 20, 10)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_the_exception_is_unchanged_and_says_why(make: Make, clock: FakeClock, caplog: Any) -> None:
    error = ConnectionError("gone")
    dependency = make("orders-told", retries=3, retry_budget={"share": 0.0, "floor": 0.1})
    guard = dependency.guard(Peer(error), operation="get")
    with caplog.at_level(logging.WARNING, "failsoft"), pytest.raises(ConnectionError) as caught:
        guard()
    assert caught.value is error
    assert any("2 attempts" in note and SPENT in note for note in error.__notes__)
    assert [record.reason for record in caplog.records] == [SPENT]
    assert [record.code for record in caplog.records] == ["DB_RETRY_BUDGET_EXHAUSTED"]
    told = [decision for decision in dependency.explain().decisions if decision.kind == "give_up"]
    assert [decision.text for decision in told] == [f"get: given up after 2 attempts: {SPENT}"]
    assert "0 of 1 retries left in the budget; 1 refused so far" in str(dependency.explain())


def test_a_result_holds_its_own_error(make: Make, clock: FakeClock) -> None:
    dependency = make("orders", retries=3, retry_budget={"share": 0.0, "floor": 0.0})
    result = dependency.guard(Peer(), operation="get").outcome()
    error = result.error
    assert type(error) is RetryBudgetExhaustedError
    assert (error.code, error.category, error.original_error) == (
        "DB_RETRY_BUDGET_EXHAUSTED",
        ErrorCategory.NETWORK,
        GONE,
    )
    assert (error.reason, error.retryable, error.attempts) == (SPENT, True, 1)
    assert (error.integration_name, error.operation) == ("orders", "get")
    for again in (IntegrationError.from_dict(error.to_dict()), pickle.loads(pickle.dumps(error))):
        assert type(again) is RetryBudgetExhaustedError
        assert again.code == error.code


def test_other_reasons_come_first(make: Make, clock: FakeClock) -> None:
    """Only a retry that would have been made asks the budget."""
    dependency = make(
        retries=1, retry_policy={"initial_delay": 60.0, "max_delay": 60.0}, retry_budget={"share": 0.0, "floor": 1.0}
    )
    assert dependency.guard(Peer()).outcome().error.reason.endswith("the overall deadline comes first")
    assert dependency.guard(Peer(), retry=False).outcome().error.reason is None
    assert (
        dependency.guard(Peer(TimeoutError()), idempotent=False)
        .outcome()
        .error.reason.startswith("the operation is not")
    )
    assert dependency.guard(Peer(ValueError())).outcome().error.reason == "VALIDATION errors are not retried"
    status = dependency.budget()
    assert status is not None
    assert (status.balance, status.spent, status.refused) == (10.0, 0, 0)


@pytest.mark.parametrize(("options", "error", "reason"), [
    ({"idempotent": False}, TimeoutError("slow"), "the operation is not idempotent and may have been carried out"),
    ({}, ValueError("bad"), "VALIDATION errors are not retried"),
])  # fmt: skip
def test_no_give_up_is_silent(
    make: Make, clock: FakeClock, caplog: Any, options: Any, error: Exception, reason: str
) -> None:
    dependency = make(f"silent-{type(error).__name__}", retries=1)
    guard = dependency.guard(Peer(error), **options)
    with caplog.at_level(logging.WARNING, "failsoft"), pytest.raises(type(error)):
        guard()
    assert [record.reason for record in caplog.records] == [reason]
    assert [decision.kind for decision in dependency.explain().decisions] == ["give_up"]


def test_its_numbers(make: Make, clock: FakeClock) -> None:
    dependency = make(retries=1)
    guard = dependency.guard(Peer())
    assert dependency.explain().budget is None
    fail(guard, 20)
    status = dependency.budget()
    assert status is not None
    assert (status.share, status.floor, status.window) == (0.2, 10.0, 10.0)
    assert (status.retries, status.hedges, status.spent, status.refused) == (20, 0, 20, 0)
    assert status.balance == pytest.approx(100 + 20 * 0.2 - 20)
    assert status.full == pytest.approx(104)
    assert "84 of 104 retries left in the budget" in str(dependency.explain())
    clock.advance(120.0)
    assert dependency.explain().budget is None  # long forgotten


def test_keys_share_it(make: Make, clock: FakeClock) -> None:
    peer = Peer()
    dependency = make(retries=1, retry_budget={"share": 0.0, "floor": 1.0})
    guard = dependency.guard(peer, key=lambda venue: venue)
    for venue in range(30):
        fail(guard, 1, venue)
    assert peer.calls == 40
    shard = dependency.shards[0]
    assert shard.budget() == dependency.budget()
    assert shard.budget().refused == 20


def test_what_a_key_does_pays_for_it(make: Make, clock: FakeClock) -> None:
    peer = Peer(None)
    dependency = make(retries=1, retry_budget={"floor": 0.0})
    guard = dependency.guard(peer, key=lambda venue: venue)
    for _ in range(50):
        guard("a")
    peer.error = GONE
    fail(guard, 20, "b")
    assert peer.calls == 70 + 4
    fail(guard, 20, "a")
    assert peer.calls == 70 + 4 + 20 + 14


def test_reconfigure_reaches_it_and_those_of_keys(make: Make, clock: FakeClock) -> None:
    peer = Peer()
    dependency = make(retries=1, retry_budget=None)
    guard, keyed = dependency.guard(peer), dependency.guard(peer, operation="keyed", key=lambda venue: venue)
    fail(keyed, 1, "a")
    dependency.reconfigure(retry_budget={"share": 0.0, "floor": 1.0})
    peer.calls = 0
    fail(guard, 20)
    fail(keyed, 20, "a")
    assert peer.calls == 50
    dependency.reconfigure(retry_budget={"share": 1.0, "floor": 0.0})
    for _ in range(10):
        fail(guard)
    assert peer.calls == 70
    dependency.reconfigure(retry_budget=None)
    fail(guard, 5)
    fail(keyed, 5, "a")
    assert peer.calls == 90


def test_threads_spend_one_budget(registry: Registry) -> None:
    dependency = registry.integration(
        "peer", "database", retry_policy={"max_retries": 1, "initial_delay": 0.0, "jitter": False},
        circuit_breaker={"failure_threshold": 60_000}, retry_budget={"share": 0.0, "floor": 1e-3, "window": 1e5},
    )  # fmt: skip
    guard = dependency.guard(Peer())

    def work() -> None:
        for _ in range(200):
            guard.outcome()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = dependency.budget()
    assert status is not None
    assert (status.retries, status.refused) == (100, 700)


def test_a_disabled_registry_asks_no_budget(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make(retries=1)
    guard = dependency.guard(Peer())
    registry.disable()
    fail(guard, 5)
    status = dependency.budget()
    assert status is not None
    assert status.spent == status.refused == 0


# ---- settings


@pytest.mark.parametrize(("settings", "words"), [
    ({"share": -0.1}, r"retry_budget\.share must be a number from 0 to 1000, got -0\.1"),
    ({"floor": float("nan")}, r"retry_budget\.floor must be a number of retries a second from 0 to 1000000, got nan"),
    ({"window": 0.0}, r"retry_budget\.window must be a number of seconds from 0\.001"),
    ({"floor": 0.05}, r"retry_budget\.floor must be 0 or at least 1 / window \(0\.1\), got 0\.05"),
])  # fmt: skip
def test_what_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RetryBudget(**settings)


def test_none_can_be_said_everywhere(tmp_path: Any) -> None:
    file = tmp_path / "failsoft.toml"
    file.write_text(
        '[integrations.a]\ntype = "cache"\nretry_budget = "none"\n'
        '[integrations.b]\ntype = "cache"\n[integrations.b.retry_budget]\nshare = 0.1\nwindow = "30s"\n'
    )
    read = load_config(file, environ={})
    assert read["a"].retry_budget is None
    assert read["b"].retry_budget == RetryBudget(0.1, 10.0, 30.0)
    variables = {"FAILSOFT_A__RETRY_BUDGET__SHARE": "0.5", "FAILSOFT_B__RETRY_BUDGET": "none"}
    read = load_config(file, environ=variables)
    assert read["a"].retry_budget == RetryBudget(share=0.5)
    assert read["b"].retry_budget is None
    with pytest.raises(ValueError, match="retry_budget must be a RetryBudget, got 'some'"):
        load_config(file, environ={"FAILSOFT_B__RETRY_BUDGET": "some"})
    millis = {"type": "cache", "retryBudget": {"share": 0.5, "window": 5000}}
    assert IntegrationConfig.from_millis(millis).retry_budget == RetryBudget(0.5, 10.0, 5.0)
    assert IntegrationConfig.from_millis({"type": "cache", "retryBudget": None}).retry_budget is None
    assert failsoft.default_config(IntegrationType.CACHE).with_(retry_budget=None).retry_budget is None


# ---- a peer that says when to come back


class Busy(Exception):
    """What an HTTP client raises for a 429."""

    status = 429

    def __init__(self, **headers: str) -> None:
        super().__init__("busy")
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def http_date(ahead: float) -> str:
    return email.utils.formatdate(time.time() + ahead, usegmt=True)


@pytest.mark.parametrize(("headers", "wait"), [
    ({"Retry_After": "7"}, 7.0),
    ({"Retry_After_Ms": "1500", "Retry_After": "7"}, 1.5),
    ({"Retry_After": "Fri, 01 Jan 2100 00:00:20 GMT", "Date": "Fri, 01 Jan 2100 00:00:00 GMT"}, 20.0),
])  # fmt: skip
def test_a_hint_is_waited_out(make: Make, clock: FakeClock, headers: dict[str, str], wait: float) -> None:
    times = []

    def call() -> str:
        times.append(clock.now)
        if len(times) == 1:
            raise Busy(**headers)
        return "fine"

    dependency: Integration = make(retries=1, retry_policy={"retryable_errors": ["RATE_LIMIT"]})
    assert dependency.guard(call)() == "fine"
    assert times[1] - times[0] == pytest.approx(wait)


@pytest.mark.parametrize(
    "headers",
    [{"Retry_After": "31"}, {"Retry_After_Ms": "31000"}, {"Retry_After": http_date(36_000)}],  # dated at collection
)
def test_a_hint_that_cannot_fit_ends_it_at_once(make: Make, clock: FakeClock, headers: dict[str, str]) -> None:
    began = clock.now
    dependency = make(retries=3)
    error = dependency.guard(Peer(Busy(**headers))).outcome().error
    assert clock.now == began
    assert error.attempts == 1
    assert error.reason.startswith("a wait of ")
    assert error.reason.endswith("is asked for and the overall deadline comes first")
    status = dependency.budget()
    assert status is not None
    assert status.spent == 0
