"""The ready-made fallbacks: what each answers, when it yields, and that those made anew are the same again.

Handlers are called here as a guard does: with the arguments of the call, awaited if that gives an awaitable.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import json
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from failsoft import (
    Aged,
    Fallback,
    FallbackType,
    IntegrationType,
    Registry,
    SimulatedPrice,
    ai_fallbacks,
    cache_fallbacks,
    database_fallbacks,
    default_config,
    external_api_fallbacks,
    market_data_fallbacks,
    with_integration_resilience,
)
from failsoft.fallbacks import Memory, in_order
from failsoft.testing import FakeClock

SETS = {
    IntegrationType.DATABASE: database_fallbacks,
    IntegrationType.AI_SERVICE: ai_fallbacks,
    IntegrationType.MARKET_DATA: market_data_fallbacks,
    IntegrationType.CACHE: cache_fallbacks,
    IntegrationType.EXTERNAL_API: external_api_fallbacks,
}
EACH = pytest.mark.parametrize("kind", SETS.values(), ids=SETS)


class Cache:
    """A cache of a user's, whose methods are bound anew each time they are named."""

    def __init__(self, **entries: Any) -> None:
        self.entries = entries

    def __repr__(self) -> str:
        raise AssertionError("nobody has to print a cache to use it")

    def get(self, key: str) -> Any:
        return self.entries.get(key)

    async def aget(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.entries.get(key)


def ask(fallback: Fallback, *args: Any, **kwargs: Any) -> Any:
    """The answer of a fallback to a call, without what it says of its age."""
    answer = fallback.handler(*args, **kwargs)
    if hasattr(answer, "__await__"):
        answer = asyncio.run(_awaited(answer))
    return answer.value if isinstance(answer, Aged) else answer


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


# ---- cache first


@EACH
@pytest.mark.parametrize("get", ["get", "aget"])
def test_a_hit_answers_and_a_miss_yields(kind: Any, get: str) -> None:
    cache = Cache(robots=["R2"], nothing=[])
    fallback = kind.cache_first("robots", getattr(cache, get))
    assert fallback.type is FallbackType.CACHE
    assert ask(fallback, 1, limit=2) == ["R2"]
    assert ask(kind.cache_first("nothing", getattr(cache, get))) == []
    with pytest.raises(LookupError, match="'unheard of'"):
        ask(kind.cache_first("unheard of", getattr(cache, get)))


def test_the_key_may_come_from_the_arguments() -> None:
    cache = Cache(**{"robot:7": "R2"})
    fallback = database_fallbacks.cache_first(lambda number, *, kind="robot": f"{kind}:{number}", cache.get)
    assert ask(fallback, 7) == ask(fallback, 7, kind="robot") == "R2"
    with pytest.raises(LookupError):
        ask(fallback, 7, kind="human")


def test_what_is_missing_may_be_said_otherwise() -> None:
    missing = object()
    entries: dict[str, Any] = {"none": None, "aged": Aged(None, 3.0), "zero": 0.0}

    def find(key: str) -> Any:
        return entries.get(key, missing)

    assert ask(database_fallbacks.cache_first("none", find, missing=missing)) is None
    assert database_fallbacks.cache_first("aged", find, missing=missing).handler() == Aged(None, 3.0)
    with pytest.raises(LookupError):
        ask(database_fallbacks.cache_first("other", find, missing=missing))
    # Without it None is a miss, also where it has an age; of equal values, only one of the same type is.
    for key in ("none", "aged"):
        with pytest.raises(LookupError):
            ask(database_fallbacks.cache_first(key, find))
    assert ask(database_fallbacks.cache_first("zero", find, missing=False)) == 0.0
    with pytest.raises(LookupError):
        ask(database_fallbacks.cache_first("zero", find, missing=float("0")))


def test_values_that_compare_in_odd_ways_are_hits() -> None:
    import numpy

    prices = numpy.array([1.0, 2.0])
    assert ask(market_data_fallbacks.cache_first("p", {"p": prices}.get)) is prices
    assert ask(market_data_fallbacks.cache_first("p", {"p": prices}.get, missing=numpy.zeros(2))) is prices


def test_a_cache_may_tell_the_age_of_its_values_and_may_raise() -> None:
    fallback = database_fallbacks.cache_first("robots", lambda key: Aged([key], 4.5))
    assert fallback.handler() == Aged(["robots"], 4.5)
    with pytest.raises(KeyError):
        ask(database_fallbacks.cache_first("robots", {}.__getitem__))


def test_a_miss_of_an_async_cache_shows_when_it_is_awaited() -> None:
    answer = database_fallbacks.cache_first("unheard of", Cache().aget).handler()
    assert inspect.isawaitable(answer)
    with pytest.raises(LookupError):
        asyncio.run(_awaited(answer))


@pytest.mark.parametrize(
    ("args", "words"), [(("k", {}), "get must be callable"), ((["k"], {}.get), "key must be hashable")]
)
def test_cache_first_names_what_is_wrong(args: tuple[Any, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        database_fallbacks.cache_first(*args)


# ---- mock data, error response, canned


@EACH
def test_every_answer_is_a_copy_of_its_own(kind: Any) -> None:
    data = [{"id": 1, "tags": ["a"]}]
    fallback = kind.mock_data(data)
    assert fallback.type is FallbackType.MOCK
    first = ask(fallback, "any", argument="at all")
    assert first == data
    first[0]["tags"].append("changed by a caller")
    data.append({"id": 2, "tags": []})
    assert ask(fallback) == [{"id": 1, "tags": ["a"]}]
    empty: list[int] = []
    fallback = kind.mock_data(empty)
    empty.append(1)
    ask(fallback).append(2)
    assert ask(fallback) == []


def test_what_cannot_be_copied_is_shared() -> None:
    lock = threading.Lock()
    assert ask(database_fallbacks.mock_data([lock]))[0] is lock


@EACH
def test_an_error_response_carries_the_fields_given(kind: Any) -> None:
    fallback = kind.error_response("try again later", code="DOWN", retry_after=30, hints=["wait"])
    assert fallback.type is FallbackType.ERROR_RESPONSE
    expected = {"error": "try again later", "code": "DOWN", "retry_after": 30, "hints": ["wait"]}
    answer = ask(fallback, 1)
    assert answer == expected
    assert list(answer) == list(expected)
    answer["hints"].clear()
    assert ask(fallback) == expected
    with pytest.raises(TypeError, match="error"):
        kind.error_response("m", error="n")


def test_a_canned_answer_is_a_value_or_made_of_the_arguments() -> None:
    assert ask(ai_fallbacks.canned("I do not know."), "why?") == "I do not know."
    assert ask(ai_fallbacks.canned(lambda prompt, **_: f"About {prompt}: no idea."), "life", n=1).startswith(
        "About life"
    )
    assert ai_fallbacks.canned("x").type is ai_fallbacks.canned(str).type is FallbackType.MOCK


# ---- last known


@pytest.mark.parametrize("type", SETS)
def test_what_is_last_known_is_left_to_the_guard(type: IntegrationType) -> None:
    fallback = SETS[type].last_known()  # type: ignore[attr-defined]
    assert fallback.type is FallbackType.LAST_KNOWN
    assert isinstance(fallback.memory, Memory)
    assert (fallback.memory.key, fallback.memory.max_keys) == (None, 1024)
    with pytest.raises(LookupError, match="nothing is known yet"):
        ask(fallback, 1, two=3)
    # Still good when the breaker that opened lets its first probe go.
    assert fallback.memory.max_age is not None
    assert default_config(type).circuit_breaker.reset_timeout <= fallback.memory.max_age <= 3600.0


@pytest.mark.parametrize("type", SETS)
def test_how_to_remember_can_be_chosen(type: IntegrationType) -> None:
    fallback = SETS[type].last_known(key=len, max_age=None, max_keys=3, priority=5)  # type: ignore[attr-defined]
    assert (fallback.memory, fallback.priority) == (Memory(len, None, 3), 5)
    with pytest.raises(ValueError, match="max_age"):
        SETS[type].last_known(max_age=0)  # type: ignore[attr-defined]


# ---- the order, the options, and other sources


def test_the_order_is_that_of_the_kinds() -> None:
    def call(*_args: object) -> None: ...

    def order(*fallbacks: Fallback) -> list[str]:
        return [fallback.type.value for fallback in in_order(reversed(fallbacks))]

    database = database_fallbacks
    assert order(
        database.cache_first("k", {}.get),
        database.read_replica(call),
        database.last_known(),
        database.mock_data([]),
        database.error_response("m"),
    ) == ["cache", "custom", "last_known", "mock", "error_response"]
    assert order(market_data_fallbacks.simulated(), ai_fallbacks.smaller_model(call), ai_fallbacks.canned("c")) == [
        "simulated",
        "custom",
        "mock",
    ]
    for source in (cache_fallbacks.source(call), external_api_fallbacks.secondary(call)):
        assert order(cache_fallbacks.cache_first("k", {}.get), source, cache_fallbacks.last_known()) == [
            "cache",
            "custom",
            "last_known",
        ]


def test_a_custom_one_follows_its_predecessor() -> None:
    custom, late = database_fallbacks.custom(len), database_fallbacks.custom(repr, priority=60)
    mock, cached = database_fallbacks.mock_data(0), database_fallbacks.cache_first("k", {}.get)
    assert in_order([late, mock, custom, cached]) == (cached, mock, custom, late)


MAKERS: list[Callable[..., Fallback]] = [
    functools.partial(database_fallbacks.cache_first, "k", {}.get),
    functools.partial(database_fallbacks.mock_data, []),
    functools.partial(database_fallbacks.error_response, "m"),
    functools.partial(database_fallbacks.custom, len),
    functools.partial(database_fallbacks.read_replica, len),
    functools.partial(ai_fallbacks.smaller_model, len),
    functools.partial(ai_fallbacks.canned, "c"),
    functools.partial(cache_fallbacks.source, len),
    functools.partial(external_api_fallbacks.secondary, len),
    market_data_fallbacks.simulated,
]


@pytest.mark.parametrize("make", MAKERS)
def test_priority_and_timeout_are_handed_on(make: Callable[..., Fallback]) -> None:
    fallback = make(priority=7, timeout=0.25)
    assert (fallback.priority, fallback.timeout) == (7, 0.25)
    with pytest.raises(ValueError, match="timeout"):
        make(timeout=0)


def test_other_sources_get_the_arguments_of_the_call() -> None:
    async def model(prompt: str, *, tokens: int) -> str:
        return f"{prompt} {tokens}"

    for make in (
        database_fallbacks.read_replica,
        ai_fallbacks.smaller_model,
        cache_fallbacks.source,
        external_api_fallbacks.secondary,
        external_api_fallbacks.custom,
    ):
        assert ask(make(model), "why", tokens=3) == "why 3"
        assert make(model).type is FallbackType.CUSTOM
        with pytest.raises(TypeError, match="callable"):
            make("model")  # type: ignore[operator]


# ---- equal by value


class Odd:
    """Equal to anything, and cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    def __deepcopy__(self, memo: object) -> Odd:
        return self


ODD = Odd()
CACHE = Cache()
ANEW: dict[str, Callable[[], Fallback]] = {
    "cache": lambda: database_fallbacks.cache_first("robots", CACHE.get, timeout=2),
    "cache by arguments": lambda: database_fallbacks.cache_first(str, CACHE.aget, missing=-1),
    "no data": lambda: database_fallbacks.mock_data([]),
    "data": lambda: database_fallbacks.mock_data([{"id": 1, "price": Decimal("1.50"), "tags": {"a"}}]),
    "odd data": lambda: database_fallbacks.mock_data(ODD),
    "unhashable within a tuple": lambda: database_fallbacks.mock_data(([],)),
    "error": lambda: database_fallbacks.error_response("m", hints=["h"]),
    "last known": lambda: database_fallbacks.last_known(key=len, max_age=3),
    "custom": lambda: database_fallbacks.custom(CACHE.get),
    "model": lambda: ai_fallbacks.smaller_model(CACHE.aget),
    "canned": lambda: ai_fallbacks.canned("c"),
    "walk": lambda: market_data_fallbacks.simulated(seed=3, start={"price": 1.0}, make=print),
    "walk without a seed": lambda: market_data_fallbacks.simulated(),
}


@pytest.mark.parametrize("make", ANEW.values(), ids=ANEW)
def test_made_anew_they_are_the_same(make: Callable[[], Fallback]) -> None:
    one, other = make(), make()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert {(one,): "guard"}[(other,)] == "guard"


def test_no_two_of_different_makings_are_the_same() -> None:
    made = [make() for make in ANEW.values()]
    assert sum(one == other for one in made for other in made) == len(made)


@pytest.mark.parametrize(
    "data",
    [
        (1, True, 1.0, Decimal(1)),
        (0, False, 0.0, -0.0),
        ([1], [True], [1.0], (1,)),
        ({"on": 1}, {"on": True}),
        (FallbackType.MOCK, "mock"),
        (Decimal("1.0"), Decimal("1.00")),
    ],
)
def test_equal_in_python_is_not_always_the_same_answer(data: tuple[object, ...]) -> None:
    made = [database_fallbacks.mock_data(one) for one in data]
    assert len(set(made)) == len(made)
    keyed = [database_fallbacks.cache_first(one, CACHE.get) for one in data if not isinstance(one, (list, dict))]
    assert len(set(keyed)) == len(keyed)
    for one, fallback in zip(data, made, strict=True):
        assert (repr(ask(fallback)), type(ask(fallback))) == (repr(one), type(one))


class Wordless:
    """Equal to its like, which nobody can see."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wordless)

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_what_has_no_words_is_only_the_same_as_itself() -> None:
    one = database_fallbacks.mock_data(Wordless(1))
    assert one == one
    assert one != database_fallbacks.mock_data(Wordless(2))


def test_what_a_caller_changes_later_changes_no_fallback() -> None:
    data = [1]
    kept = database_fallbacks.mock_data(data)
    known = {kept: "guard"}
    data.append(2)
    assert known.get(database_fallbacks.mock_data([1])) == "guard"
    assert known.get(database_fallbacks.mock_data(data)) is None
    assert ask(kept) == [1]


def test_fallbacks_made_for_each_call_find_the_guard_of_the_last() -> None:
    integration = Registry().integration("database", IntegrationType.DATABASE)
    made = [
        integration.caller(
            "robots",
            (
                database_fallbacks.cache_first("robots", CACHE.get),
                database_fallbacks.mock_data([]),
                market_data_fallbacks.simulated(seed=1),
                database_fallbacks.error_response("m", code=[1]),
            ),
        )
        for _ in range(3)
    ]
    assert made[0] is made[1] is made[2]
    assert integration.caller("robots", (database_fallbacks.mock_data([1]),)) is not made[0]


@pytest.mark.parametrize("make", [make for name, make in ANEW.items() if name not in ("odd data",)])
def test_they_can_be_copied_and_shown(make: Callable[[], Fallback]) -> None:
    fallback = make()
    assert copy.copy(fallback) == fallback
    if all(part is not CACHE for part in (getattr(fallback.handler, "__self__", None), _cache_of(fallback.handler))):
        assert fallback.type.value in repr(fallback)
        assert pickle.loads(pickle.dumps(fallback)) == fallback


def _cache_of(handler: Any) -> object:
    return getattr(getattr(handler, "get", None), "__self__", None)


# ---- behind a guard


def test_the_seeds_example(clock: FakeClock) -> None:
    def get_robots() -> list[str]:
        raise PermissionError("not today")

    def result(**entries: object) -> Any:
        cache = Cache(**entries)
        return with_integration_resilience(
            IntegrationType.DATABASE,
            "database",
            get_robots,
            fallbacks=[database_fallbacks.mock_data([]), database_fallbacks.cache_first("robots", cache.get)],
            registry=registry,
        )

    registry = Registry()
    assert (result(robots=["R2"]).data, result(robots=["R2"]).fallback_type) == (["R2"], "cache")
    assert (result().data, result().fallback_type, result().success) == ([], "mock", True)


def test_an_async_cache_behind_an_async_guard(clock: FakeClock) -> None:
    async def get_robots(number: int) -> str:
        raise PermissionError("not today")

    cache = Cache(**{"robot:1": "R2"})
    guarded = (
        Registry()
        .integration("database", IntegrationType.DATABASE)
        .guard(
            get_robots,
            fallbacks=[
                database_fallbacks.cache_first(lambda number: f"robot:{number}", cache.aget),
                database_fallbacks.error_response("sorry", code="DOWN"),
            ],
        )
    )
    found = asyncio.run(_awaited(guarded.outcome(1)))
    assert (found.success, found.data, found.fallback_type) == (True, "R2", "cache")
    lost = asyncio.run(_awaited(guarded.outcome(2)))
    assert (lost.success, lost.data) == (False, {"error": "sorry", "code": "DOWN"})
    assert lost.fallback_type == "error_response"


# ---- simulated prices


@pytest.fixture
def clock() -> Any:
    with FakeClock() as clock:
        yield clock


class Quote(NamedTuple):
    symbol: str
    mid: float


def simulator(**options: Any) -> Any:
    return market_data_fallbacks.simulated(**{"seed": 1, "volatility": 0.01, **options}).handler


def test_it_asks_for_what_the_guard_remembers(clock: FakeClock) -> None:
    fallback = market_data_fallbacks.simulated(key=len, max_age=60, max_keys=7)
    assert (fallback.type, fallback.memory) == (FallbackType.SIMULATED, Memory(len, 60, 7))
    assert fallback.handler.needs_memory is True  # type: ignore[attr-defined]
    answer = fallback.handler("BTC", last=100.0, last_age=2.5)
    assert isinstance(answer, Aged)
    assert answer.age == 2.5
    assert isinstance(answer.value, SimulatedPrice)
    assert isinstance(fallback.handler("BTC", last=100.0, last_age=None), SimulatedPrice)


def test_where_nothing_real_is_known_it_yields_or_starts_where_told(clock: FakeClock) -> None:
    with pytest.raises(LookupError, match="no real price is known yet"):
        simulator()("BTC", last=None, last_age=None)
    assert simulator(start=50)("BTC", last=None, last_age=None) == 50.0
    starts = {"BTC": {"price": 7.0, "venue": "x"}, "ETH": None}
    walk = simulator(start=starts.get)
    assert walk("BTC", last=None, last_age=None) == {"price": 7.0, "venue": "x", "simulated": True}
    with pytest.raises(LookupError):
        walk("ETH", last=None, last_age=None)


def test_a_start_goes_on_and_gives_way_to_the_first_real_price(clock: FakeClock) -> None:
    walk = simulator(start=50.0)
    assert walk("BTC", last=None, last_age=None) == 50.0
    clock.advance(10.0)
    moved = walk("BTC", last=None, last_age=None)
    assert moved != 50.0
    assert walk("BTC", last=None, last_age=None) == moved
    assert walk("BTC", last=90.0, last_age=0.0).value == 90.0


def test_it_goes_on_from_the_last_real_price_until_there_is_a_newer(clock: FakeClock) -> None:
    walk = simulator()
    assert walk("BTC", last=100.0, last_age=0.0).value == 100.0
    clock.advance(4.0)
    first = walk("BTC", last=100.0, last_age=4.0).value
    assert first != 100.0
    assert walk("BTC", last=100.0, last_age=4.0).value == first  # no time, no move
    clock.advance(1.0)
    second = walk("BTC", last=100.0, last_age=5.0).value
    assert abs(math.log(second / first)) < 0.01 * 5  # one second on from the first, not from the real one
    assert walk("BTC", last=200.0, last_age=0.0).value == 200.0
    clock.advance(60.0)
    assert walk("BTC", last=200.0, last_age=60.0).value != 200.0
    clock.advance(5.0)
    assert walk("BTC", last=200.0, last_age=0.0).value == 200.0  # the same again is news too


def test_the_first_step_is_as_long_as_the_price_is_old(clock: FakeClock) -> None:
    moves = [abs(math.log(simulator(volatility=1e-4)("BTC", last=1.0, last_age=age).value)) for age in (1.0, 100.0)]
    assert moves[1] == pytest.approx(10 * moves[0], rel=0.02)


def test_each_key_has_a_walk_of_its_own_and_the_oldest_are_forgotten(clock: FakeClock) -> None:
    walk = simulator(max_keys=2, step=1.0)

    def prices(*symbols: str) -> list[float]:
        return [walk(symbol, last=100.0, last_age=1.0).value for symbol in symbols]

    first = dict(zip("abc", prices("a", "b", "c"), strict=True))
    assert len(set(first.values())) == 3
    assert prices("a") == [first["a"]]  # forgotten, so it starts again
    assert prices("c") != [first["c"]]


def test_keys_come_from_the_arguments(clock: FakeClock) -> None:
    walk = simulator(key=lambda symbol, **_: symbol.upper(), step=1.0)
    same = simulator(key=lambda symbol, **_: symbol.upper(), step=1.0)
    assert walk("btc", depth=1, last=9.0, last_age=0.0) == same("BTC", depth=2, last=9.0, last_age=0.0)
    unhashable = simulator()
    assert unhashable(["BTC"], last=9.0, last_age=0.0).value == 9.0


class Plain:
    def __init__(self, price: float) -> None:
        self.price = price


def test_a_mapping_is_copied_and_marked(clock: FakeClock) -> None:
    real = {"symbol": "BTC", "price": 100.0, "at": 12}
    tick = simulator()("BTC", last=real, last_age=9.0).value
    assert tick == {"symbol": "BTC", "price": tick["price"], "at": 12, "simulated": True}
    assert isinstance(tick["price"], SimulatedPrice)
    assert tick["price"] != 100.0
    assert real == {"symbol": "BTC", "price": 100.0, "at": 12}
    last = simulator(price_of="last")("BTC", last={"last": 5, "price": 1}, last_age=0.0).value
    assert last == {"last": 5.0, "price": 1, "simulated": True}


def test_other_values_are_made_by_the_user(clock: FakeClock) -> None:
    def quote(last: Quote, price: SimulatedPrice) -> Quote:
        assert isinstance(price, SimulatedPrice)
        return last._replace(mid=price)

    walk = simulator(price_of="mid", make=quote)
    assert walk("BTC", last=Quote("BTC", 3.0), last_age=0.0).value == ("BTC", 3.0)
    text = simulator(price_of=lambda tick: tick["p"], make=lambda last, price: {**last, "p": f"{price:.1f}"})
    assert text("BTC", last={"p": "50123.10"}, last_age=0.0).value == {"p": "50123.1"}
    exact = simulator(make=lambda _, price: Decimal(float(price)))
    assert exact("BTC", last=Decimal("1.5"), last_age=0.0).value == Decimal("1.5")
    started = simulator(start=Quote("BTC", 3.0), price_of="mid", make=quote)
    assert started("BTC", last=None, last_age=None) == ("BTC", 3.0)


@pytest.mark.parametrize(
    ("last", "options", "words"),
    [
        (Quote("BTC", 3.0), {"price_of": "mid"}, "a Quote at a simulated price has to be made by make="),
        (Plain(3.0), {}, "a Plain at a simulated price has to be made by make="),
        (Decimal("1.5"), {}, "Decimal"),
        ({"price": Decimal("1.5")}, {}, "make="),
        ({"price": "1.5"}, {}, "make="),
        ({"price": 1.5}, {"price_of": lambda tick: tick["price"]}, "make="),
        (True, {}, "make="),
        ({"cost": 1.5}, {}, "price"),
        (object(), {}, "is not a number"),
        ([1.5], {}, "is not a number"),
        (0.0, {}, "above zero"),
        (-37.63, {}, "above zero"),
        (math.nan, {}, "above zero"),
        ({"price": math.inf}, {}, "above zero"),
        ({"price": 10**400}, {}, "is not a number"),
    ],
)
def test_what_it_cannot_go_on_from_yields(clock: FakeClock, last: Any, options: Any, words: str) -> None:
    with pytest.raises(LookupError, match=words):
        simulator(**options)("BTC", last=last, last_age=1.0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seed": -1}, ValueError, "simulated.seed must be an integer from 0, got -1"),
        ({"seed": True}, TypeError, "simulated.seed"),
        ({"seed": 1.0}, TypeError, "simulated.seed"),
        ({"volatility": -0.1}, ValueError, "simulated.volatility must be a number from 0 to 1, got -0.1"),
        ({"volatility": math.nan}, ValueError, "simulated.volatility"),
        ({"volatility": "1"}, TypeError, "simulated.volatility"),
        ({"step": 0}, ValueError, "simulated.step"),
        ({"price_of": 3}, TypeError, "simulated.price_of"),
        ({"make": 3}, TypeError, "simulated.make"),
        ({"key": 3}, TypeError, "simulated.key"),
        ({"max_keys": 0}, ValueError, "simulated.max_keys"),
        ({"max_age": 0}, ValueError, "last_known.max_age"),
    ],
)
def test_wrong_settings_are_named(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        market_data_fallbacks.simulated(**options)


def test_a_simulated_price_says_so_and_so_do_sums_with_it() -> None:
    price = SimulatedPrice(100.25)
    assert price.simulated is True
    assert price == 100.25
    for shown in (repr(price), str(price), f"{price}", f"{[price]}"):
        assert "SimulatedPrice(100.25)" in shown
    assert (f"{price:.1f}", json.dumps(price), repr(float(price))) == ("100.2", "100.25", "100.25")
    import numpy

    made = [
        price + 1,
        1 + price,
        price * 2.0,
        2 * price,
        price / 3,
        3 / price,
        price - 1,
        1 - price,
        -price,
        abs(price),
    ]
    made += [price % 7, price // 7, 7 // price, 7 % price, price**2, 2**price, +price, round(price, 1)]
    made += [sum([1.0, price, 2]), (price + SimulatedPrice(99.0)) / 2, max(price, 1.0)]
    assert {type(number) for number in made} == {SimulatedPrice}
    assert made[0] == 101.25
    assert (round(price), int(price)) == (100, 100)
    assert type(numpy.array([price])[0]) is numpy.float64
    with pytest.raises(TypeError):
        price + "1"  # type: ignore[operator]
    assert type(pickle.loads(pickle.dumps(price))) is type(copy.deepcopy(price)) is SimulatedPrice


def test_a_walk_of_another_process_is_the_same_and_numpy_waits_until_it_is_asked_for() -> None:
    program = """
import sys, failsoft
failsoft.database_fallbacks.mock_data([{"id": 1}]), failsoft.market_data_fallbacks.last_known()
assert "numpy" not in sys.modules
walk = failsoft.market_data_fallbacks.simulated(seed=42, step=1.0).handler
print([float(walk(symbol, last=100.0, last_age=0.0).value) for symbol in ("BTC", "ETH", "BTC")])
"""
    texts = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    ]
    assert texts[0] == texts[1]
    walk = market_data_fallbacks.simulated(seed=42, step=1.0).handler
    assert json.loads(texts[0]) == [walk(symbol, last=100.0, last_age=0.0).value for symbol in ("BTC", "ETH", "BTC")]


def test_without_numpy_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy.random", None)
    with pytest.raises(ImportError, match="pip install 'numpy"):
        market_data_fallbacks.simulated()


def test_without_a_seed_two_walks_differ(clock: FakeClock) -> None:
    one, other = (market_data_fallbacks.simulated(step=1.0).handler for _ in range(2))
    assert one("BTC", last=100.0, last_age=0.0) != other("BTC", last=100.0, last_age=0.0)
