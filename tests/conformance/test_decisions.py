"""The flight recorder and what `explain` makes of it: read at three in the morning, by somebody who has just woken up."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from typing import Any

import pytest

import failsoft
from failsoft import Aged, Decision, Explanation, Fallback, FallbackType, Integration, Registry
from failsoft.testing import FakeClock

from .conftest import Make

names = map("decisions-{}".format, itertools.count())


def gone(*_: object) -> None:
    raise ConnectionError("gone")


def fail(guard: Any, *args: Any) -> None:
    with pytest.raises((ConnectionError, failsoft.IntegrationError)):
        guard(*args)


def told(integration: Integration) -> list[tuple[str, str, int]]:
    return [(d.kind, d.text, d.count) for d in integration.explain().decisions]


def test_successes_are_not_in_it(make: Make, clock: FakeClock) -> None:
    dependency = make("db")
    for _ in range(100):
        dependency.call(int)
    clock.advance(90.0)
    assert dependency.explain().decisions == ()
    assert str(dependency.explain()).splitlines() == [
        "db is CLOSED for 1 min 30 s",
        "  0 calls lately, too few for a failure rate",
        "  no decisions so far",
    ]


def test_the_story_of_an_outage(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make(
        "db",
        threshold=2,
        retries=1,
        circuit_breaker={"reset_timeout": 30.0, "success_threshold": 1, "minimum_calls": 2},
        retry_policy={"initial_delay": 0.5, "max_delay": 0.5},
        degraded={"ramp": 10.0},
    )
    up = False
    guard = dependency.guard(lambda: None if up else gone(), operation="robots")
    fail(guard)
    assert str(dependency.explain()).splitlines() == [
        "db is OPEN for 0 ms: 2 failures in a row; calls go again in 30 s",
        "  100% of the last 2 calls failed",
        "  99.2 of 100 retries left in the budget",
        "        500 ms ago  robots: attempt 2 in 500 ms, after a NETWORK error",
        "          0 ms ago  CLOSED -> OPEN for 30 s: too many failures in a row",
        "          0 ms ago  robots: given up after 2 attempts: all retries are used up",
    ]
    clock.advance(10.0)
    for _ in range(1000):
        fail(guard)
        clock.advance(0.01)
    clock.advance(10.0)
    assert "db is OPEN for 30 s: 2 failures in a row; the next call is a probe" in str(dependency.explain())
    assert told(dependency)[3:] == [("refusal", "robots: refused, the circuit is OPEN", 1000)]
    up = True
    guard()
    clock.advance(5.0)
    refused = sum(not guard.outcome().success for _ in range(4))
    assert refused == 1
    assert str(dependency.explain()).splitlines()[0] == "db is CLOSED for 5 s: the probes succeeded"
    assert str(dependency.explain()).splitlines()[2] == "  75% of the calls may go (recovering)"
    clock.advance(5.01)
    guard()
    assert str(dependency.explain()).splitlines()[2:] == [
        "        40.5 s ago  robots: attempt 2 in 500 ms, after a NETWORK error",
        "          40 s ago  CLOSED -> OPEN for 30 s: too many failures in a row",
        "          40 s ago  robots: given up after 2 attempts: all retries are used up",
        "          30 s ago  robots: refused, the circuit is OPEN (1000 times, the last 20 s ago)",
        "          10 s ago  OPEN -> HALF_OPEN: the wait is over, probes may go",
        "          10 s ago  HALF_OPEN -> CLOSED: the probes succeeded",
        "        5.01 s ago  robots: refused, 75% of the calls may go",
        "          0 ms ago  100% of the calls may go from now on: recovered, all the way",
    ]


@pytest.mark.parametrize(
    ("error", "options", "words"),
    [
        (KeyError("x"), {}, "given up after 1 attempt: such errors are not retried"),
        (
            ConnectionResetError(),
            {"idempotent": False},
            "the operation is not idempotent and may have been carried out",
        ),
        (TimeoutError(), {}, "the overall deadline comes before the wait is over"),
    ],
)
def test_why_it_was_given_up(
    make: Make, clock: FakeClock, error: Exception, options: dict[str, Any], words: str
) -> None:
    def operation() -> None:
        clock.advance(29.0)
        raise error

    policy = {"initial_delay": 2.0, "max_delay": 2.0}
    dependency = make(retries=1, retry_policy=policy, circuit_breaker={"timeout": 60.0})
    guard = dependency.guard(operation, operation="write", fallbacks=[Fallback("mock", int)], **options)
    assert guard() == 0
    decisions = told(dependency)
    assert decisions[0][0] == "give_up"
    assert words in decisions[0][1]
    assert decisions[1] == ("fallback", "write: answered by the mock fallback", 1)


def test_a_refused_retry(make: Make, clock: FakeClock) -> None:
    dependency = make(threshold=1, retries=3)
    guard = dependency.guard(gone, operation="x")
    fail(guard)
    assert [kind for kind, _, _ in told(dependency)] == ["transition", "retry", "refusal", "give_up"]
    assert told(dependency)[-1][1] == "x: given up after 1 attempt: the gate refused the next attempt"


def test_fallbacks_say_how_old_their_answer_is(make: Make, clock: FakeClock) -> None:
    dependency = make()
    dependency.guard(gone, operation="x", fallbacks=[Fallback(FallbackType.CACHE, lambda: Aged(1, 150.0))])()
    assert told(dependency)[-1][1] == "x: answered by the cache fallback, 2 min 30 s old"


def test_operators_are_in_it(make: Make, registry: Registry) -> None:
    dependency = make("db")
    with registry.capacities.enter("database", 0.25, "migration"):
        registry.capacities.enter("db", 0.5, "whim")
        text = str(dependency.explain())
        assert "\n  25% of the calls may go (migration)\n" in text
        assert dependency.explain().limited == "25% of the calls may go (migration)"
    dependency.force_open()
    dependency.force_open()
    assert [text for _, text, _ in told(dependency)] == [
        "25% of the calls may go from now on: an operator said so",
        "50% of the calls may go from now on: an operator said so",
        "CLOSED -> FORCED_OPEN: an operator said so",
    ]
    assert str(dependency.explain()).startswith("db is FORCED_OPEN for ")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"failure_rate": 0.5, "minimum_calls": 2}, "too large a share of the calls failed"),
        ({"slow_rate": 0.5, "slow_call": 1.0, "minimum_calls": 2}, "too large a share of the calls was slow"),
    ],
)
def test_the_rule_that_tripped_it(make: Make, clock: FakeClock, rule: dict[str, Any], words: str) -> None:
    dependency = make("db", circuit_breaker=rule)

    def slow_and_gone() -> None:
        clock.advance(2.0)
        raise ConnectionError("gone")

    for _ in range(2):
        fail(dependency.caller("x"), slow_and_gone if "slow_rate" in rule else gone)
    assert told(dependency)[-1][1] == f"CLOSED -> OPEN for 1 min 0 s: {words}"
    assert f"db is OPEN for 0 ms: {words}; calls go again in 1 min 0 s" in str(dependency.explain())


def test_a_failed_probe(make: Make, clock: FakeClock) -> None:
    dependency = make("db", threshold=1, circuit_breaker={"reset_timeout": 1.0})
    fail(dependency.caller("x"), gone)
    clock.advance(1.0)
    with dependency.attempt():
        assert "db is HALF_OPEN for 0 ms: the wait is over, probes may go; 1 probe under way" in str(
            dependency.explain()
        )
    fail(dependency.caller("x"), gone)
    assert "db is OPEN for 0 ms: a probe failed; calls go again in 1 s" in str(dependency.explain())


def test_an_outage_does_not_wash_out_what_led_to_it(make: Make, clock: FakeClock) -> None:
    dependency = make(retries=2, threshold=7)
    guards = [
        dependency.guard(gone, operation=f"o{i}", fallbacks=[Fallback("mock", lambda *_: 1)], retry=i % 2 == 0)
        for i in range(8)
    ]
    for _ in range(300):
        for guard in guards:
            guard()
    decisions = dependency.explain().decisions
    assert len(decisions) < 40
    assert [d.text for d in decisions if d.kind == "transition"] == [
        "CLOSED -> OPEN for 1 min 0 s: too many failures in a row"
    ]
    assert sum(d.count for d in decisions if d.kind == "fallback") == 2400


def test_at_most_256_and_the_oldest_go_first(make: Make, clock: FakeClock) -> None:
    dependency = make()
    for _ in range(200):
        dependency.force_open()
        dependency.force_closed()
    decisions = dependency.explain().decisions
    assert len(decisions) == 256
    assert decisions[-1].text == "FORCED_OPEN -> CLOSED: an operator said so"
    assert [d.age for d in decisions] == sorted((d.age for d in decisions), reverse=True)


def test_operations_have_their_names(make: Make, registry: Registry) -> None:
    dependency = make(threshold=1)
    guards = [dependency.guard(gone, operation=name) for name in ("a", "b", "c")]
    fail(guards[1])
    fail(guards[2])
    fail(guards[0])
    decisions = dependency.explain().decisions
    assert [d.operation for d in decisions] == [None, "c", "a"]
    assert decisions[1].text.startswith("c: ")


def test_keys_have_a_recorder_each(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make("venues", threshold=3)
    guard = dependency.guard(lambda venue: gone() if venue == "b" else 1, operation="quote", key=lambda venue: venue)
    guard("a")
    for _ in range(5):
        fail(guard, "b")
    assert str(dependency.explain()).splitlines() == [
        "venues is CLOSED for 0 ms",
        "  0 calls lately, too few for a failure rate",
        "  venues[b] is OPEN for 0 ms: 3 failures in a row; calls go again in 1 min 0 s; 3 calls lately, too few for a"
        " failure rate",
        "  no decisions so far",
    ]
    assert [d.text for d in registry.explain("venues[b]").decisions] == [
        "CLOSED -> OPEN for 1 min 0 s: too many failures in a row",
        "quote: refused, the circuit is OPEN",
    ]
    assert registry.explain("venues[a]").decisions == ()


def test_a_reader_may_read_while_it_is_written(make: Make) -> None:
    async def main() -> None:
        dependency = make()
        guard = dependency.guard(agone, operation="x")
        for _ in range(50):
            await asyncio.gather(*(guard.outcome() for _ in range(5)))
            assert len(dependency.explain().decisions) <= 256

    async def agone() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("gone")

    asyncio.run(main())


def test_as_values(make: Make) -> None:
    dependency = make()
    dependency.force_open()
    explanation = dependency.explain()
    assert isinstance(explanation, Explanation)
    assert isinstance(explanation.decisions[0], Decision)
    assert pickle.loads(pickle.dumps(explanation)) == explanation
    assert str(explanation) == repr(explanation)
    assert (explanation.integration, explanation.status.state) == ("dependency", "FORCED_OPEN")


def test_the_module_function() -> None:
    name = next(names)
    failsoft.integration(name, "cache").force_open()
    assert str(failsoft.explain(name)).startswith(f"{name} is FORCED_OPEN for ")
    with pytest.raises(KeyError):
        failsoft.explain("nowhere")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "0.4 ms"), (59.0, "59 s"), (125.0, "2 min 5 s"), (3700.0, "1 h 1 min"), (90_000.0, "1 d 1 h")],
)
def test_times_in_words(make: Make, clock: FakeClock, seconds: float, words: str) -> None:
    dependency = make("db")
    dependency.force_open()
    clock.advance(seconds)
    assert str(dependency.explain()).startswith(f"db is FORCED_OPEN for {words}: an operator said so\n")
