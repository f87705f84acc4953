"""The script in a real Valkey and a real Redis beside its model in Python: the same reports, the same answers."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from failsoft.fleets import protocol
from failsoft.fleets.stores import SCRIPT, Store

from ..conftest import Score
from ..reference.fleet_store import FleetStore

if TYPE_CHECKING:
    from .servers import Server

MEMBERS = ["a/1", "a/2", "b/1", "c/1", "d/1"]
SLEEPS = [0.0, 0.0, 0.0, 0.0, 0.001, 0.004, 0.02]


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    """A store of each kind, and the client of the same name."""
    given: Server = request.getfixturevalue(f"{request.param}_server")
    return given


@pytest.fixture
def store(server: Server, request: pytest.FixtureRequest) -> Iterator[Store]:
    module = pytest.importorskip(request.node.callspec.params["server"])
    made = Store(
        lambda: getattr(module, module.__name__.capitalize())(port=server.port, socket_timeout=10.0), "channel"
    )
    made._client.flushall()
    yield made
    made.close()


def drawn_rules(dice: random.Random) -> protocol.Rules:
    """Times of a few milliseconds, so that a short run passes every edge of them."""
    share = dice.choice([0.0, 0.5, 1.0])
    return protocol.Rules(
        least=dice.choice([1, 2, 3]) if not share else 2,
        share=share,
        most=dice.choice([5, 40]),
        timeout=1,
        presence=dice.choice([8, 40, 4_000]),
        window=dice.choice([0, 20, 100]),
        threshold=dice.choice([0, 3, 6]),
        failure_rate=dice.choice([2.0, 0.5]),
        slow_rate=dice.choice([2.0, 0.5]),
        minimum=dice.choice([1, 10]),
        wait=10,
        digest="same",
    )


class Hosts:
    """What members say, drawn so that most of it makes sense."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.rules = drawn_rules(dice)
        self.heard: dict[str, tuple[int, int, int]] = dict.fromkeys(MEMBERS, (0, 0, 0))
        self.counts: dict[str, list[int]] = {member: [0, 0, 0] for member in MEMBERS}

    def arguments(self, member: str) -> list[str]:
        dice = self.dice
        generation, is_open, left = self.heard[member]
        if dice.random() < 0.03:
            generation += dice.choice([-1, 1])
        counts = self.counts[member]
        calls = dice.choice([0, 0, 1, 5])
        failed = dice.choice([0, calls])
        for place, more in enumerate((calls, failed, dice.choice([0, calls]))):
            counts[place] += more
        if dice.random() < 0.02:
            counts[:] = [0, 0, 0]
        say = dice.choice([0, 1, 1, 2, 3]) if dice.random() < 0.98 else protocol.LEAVE
        report = protocol.Report(
            max(generation, 0), bool(is_open), left, say, dice.choice([0, 3, 50]), dice.choice([0, 1, 1, 2]),
            dice.choice([3, 10]), *counts,
        )  # fmt: skip
        rules = self.rules
        if dice.random() < 0.02:
            from failsoft.records import replace

            rules = replace(rules, digest="other")
        return report.arguments(rules, member, "channel")

    def hear(self, member: str, answer: list[Any]) -> None:
        if answer[0] == "ok" and self.dice.random() < 0.9:
            self.heard[member] = (answer[1], answer[2], answer[3])


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(2, 12))])
def test_the_script_does_what_its_model_does(store: Store, seed: int, score: Score) -> None:
    dice = random.Random(seed)
    steps = states = 0
    kinds: set[str] = set()
    for run in range(4):
        model, hosts, key = FleetStore(), Hosts(dice), f"failsoft:{{{seed}:{run}}}"
        for _ in range(80):
            batch = [(member, hosts.arguments(member)) for member in dice.sample(MEMBERS, dice.choice([1, 1, 3]))]
            answers = store.exchange([(key, arguments) for _, arguments in batch])
            for (member, arguments), raw in zip(batch, answers, strict=True):
                answer = [part.decode() if isinstance(part, bytes) else part for part in raw]
                expected = model.run(key, arguments, answer[-1])
                assert answer == expected, f"step {steps} of run {run}: {arguments}"
                hosts.hear(member, answer)
                steps += 1
                kinds.add(f"{answer[0]}{answer[2] if answer[0] == 'ok' else ''}{answer[0] == 'ok' and answer[4] > 0}")
            time.sleep(dice.choice(SLEEPS))
        states += model.published
    score("the store's script does what its model does", "disagreements", 0, f"{steps} reports, {states} transitions")
    assert kinds >= {"ok0False", "ok1False", "ok1True", "differsFalse"}
    assert states > 10


def test_a_script_that_was_forgotten_is_sent_again(store: Store) -> None:
    rules = drawn_rules(random.Random(1))
    report = protocol.Report(0, False, 0, 0, 0, 0, 10, 0, 0, 0).arguments(rules, "a/1", "channel")
    for _ in range(2):
        store._client.script_flush()
        answers = store.exchange([("failsoft:{x:1}", report), ("failsoft:{x:2}", report)])
        assert [protocol.read(answer).hosts for answer in answers] == [1, 1]
    assert store._client.script_exists(hashlib.sha1(SCRIPT.encode()).hexdigest()) == [True]


def test_keys_expire(store: Store) -> None:
    rules = drawn_rules(random.Random(1))
    store.exchange([("failsoft:{x:1}", protocol.Report(1, True, 9, 0, 0, 0, 10, 0, 0, 0).arguments(rules, "a/1", "c"))])
    assert 50_000 < store._client.pttl("failsoft:{x:1}") < 200_000


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"v": "2", "g": "7"}, "layout"),
        ({"something": "else"}, "layout"),
        ({"v": "1", "d": "same", "g": "x"}, "layout"),
    ],
)
def test_what_is_not_ours_is_let_alone(store: Store, value: dict[str, str], problem: str) -> None:
    rules, key = drawn_rules(random.Random(1)), "failsoft:{x:1}"
    store._client.hset(key, mapping=value)
    before = store._client.hgetall(key)
    report = protocol.Report(9, True, 9, 1, 0, 1, 10, 0, 0, 0).arguments(rules, "a/1", "channel")
    answer = protocol.read(store.exchange([(key, report)])[0])
    assert answer.problem == problem
    assert store._client.hgetall(key) == before
