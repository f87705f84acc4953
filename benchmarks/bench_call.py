"""The synchronous call: what a guard adds to a function that does nothing."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from armed import armed, armed_integration, armed_many, armed_open, identity
from groups import Contest, Row, Target, by_version
from measure import Subject
from run_one import benchmarked

import failsoft
from failsoft import _core

KERNEL_CLOCK = {"FAILSOFT_CLOCK": "monotonic"}
IN_TURN = 1_024
SCATTERED = 10_000

ON_KERNEL_CLOCK = Target(cap=2.0)
GUARDED = Target(cap=1.35, goal=by_version(1.20, 1.10)) if _core.clock_source() == "tsc" else ON_KERNEL_CLOCK


def calling(function: Callable[..., Any], **names: object) -> Callable[[], Mapping[str, object]]:
    """A setup that makes `f` anew and passes the other names on."""
    return lambda: {"f": function(), "x": 1, **names}


def forwarded() -> Any:
    """The least that a wrapper written in Python can do."""

    @functools.wraps(identity)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return identity(*args, **kwargs)

    return forward


def disabled() -> Any:
    registry = failsoft.Registry()
    guard = armed(identity, integration=armed_integration(registry=registry))
    registry.disable()
    return guard


def two_steps() -> Mapping[str, object]:
    return {"b": failsoft.CircuitBreaker()}


def lock_steps() -> Mapping[str, object]:
    import threading

    return {"lock": threading.Lock()}


PATH = (
    Subject("bare call", "f(x)", calling(lambda: identity)),
    Subject("functools.partial", "f(x)", calling(lambda: functools.partial(identity))),
    Subject("empty *args Python wrapper", "f(x)", calling(forwarded)),
    Subject("guard", "f(x)", calling(lambda: armed(identity))),
    Subject("guard, disabled", "f(x)", calling(disabled)),
    Subject("guard.outcome", "f.outcome(x)", calling(lambda: armed(identity))),
    Subject("Lock.acquire + release", "lock.acquire()\nlock.release()", lock_steps),
    Subject("CircuitBreaker.acquire + success", "b.success(b.acquire())", two_steps),
)

FORMS = (
    Subject("partial, keyword", "f(value=x)", calling(lambda: functools.partial(identity))),
    Subject("guard, keyword", "f(value=x)", calling(lambda: armed(identity))),
    Subject("partial of a builtin", "f(x)", calling(lambda: functools.partial(abs))),
    Subject("guard of a builtin", "f(x)", calling(lambda: armed(abs))),
    Subject("bare method", "o.method(x)", lambda: {"o": Bare(), "x": 1}),
    Subject("guarded method", "o.method(x)", lambda: {"o": guarded_class()(), "x": 1}),
)


class Bare:
    def method(self, value: object) -> object:
        return value


def guarded_class() -> Any:
    class Guarded:
        method = armed(Bare.method)

    return Guarded


CLOCK = (
    Subject("functools.partial", "f(x)", calling(lambda: functools.partial(identity))),
    Subject("guard, kernel clock", "f(x)", calling(lambda: armed(identity))),
)


def several(make: Callable[[int], list[Any]], count: int, shuffled: bool) -> Callable[[], Mapping[str, object]]:
    """A setup with many callables, in creation order or scattered over memory by one fixed shuffle."""

    def setup() -> Mapping[str, object]:
        functions = make(count)
        if shuffled:
            random.Random(count).shuffle(functions)
        return {"functions": functions, "x": 1}

    return setup


def partials(count: int) -> list[Any]:
    return [functools.partial(identity) for _ in range(count)]


def guards(count: int) -> list[Any]:
    return armed_many(identity, count)


MANY = "for f in functions:\n    f(x)"
TURN = (
    Subject("1,024 partials in turn", MANY, several(partials, IN_TURN, False), IN_TURN),
    Subject("1,024 guards in turn", MANY, several(guards, IN_TURN, False), IN_TURN),
)
SCATTER = (
    Subject("10,000 partials in random order", MANY, several(partials, SCATTERED, True), SCATTERED),
    Subject("10,000 guards in random order", MANY, several(guards, SCATTERED, True), SCATTERED),
)

CAUGHT = "try:\n    f(x)\nexcept Error:\n    pass"
REFUSAL = (
    Subject("[].index(1), caught", CAUGHT, calling(lambda: [].index, Error=ValueError)),
    Subject("refusal, caught", CAUGHT, calling(armed_open, Error=failsoft.CircuitOpenError)),
    Subject("abs(5)", "f(x)", lambda: {"f": abs, "x": 5}),
    Subject("refusal by outcome", "f.outcome(x)", calling(armed_open)),
)

GROUPS = (
    Contest(
        "call",
        PATH,
        (
            Row("guard", "functools.partial", GUARDED),
            Row("guard", "bare call"),
            Row("guard", "empty *args Python wrapper"),
            Row("guard, disabled", "functools.partial"),
            Row("guard.outcome", "functools.partial"),
            Row("CircuitBreaker.acquire + success", "Lock.acquire + release"),
        ),
    ),
    Contest(
        "call forms",
        FORMS,
        (
            Row("guard, keyword", "partial, keyword", GUARDED),
            Row("guard of a builtin", "partial of a builtin"),
            Row("guarded method", "bare method", Target(cap=1.6)),
        ),
    ),
    Contest(
        "kernel clock",
        CLOCK,
        (Row("guard, kernel clock", "functools.partial", ON_KERNEL_CLOCK),),
        KERNEL_CLOCK,
    ),
    Contest("in turn", TURN, (Row("1,024 guards in turn", "1,024 partials in turn", Target(cap=1.4)),)),
    Contest("cache-cold", SCATTER, (Row("10,000 guards in random order", "10,000 partials in random order"),)),
    Contest(
        "refusal",
        REFUSAL,
        (
            Row("refusal, caught", "[].index(1), caught", Target(cap=2.0)),
            Row("refusal by outcome", "abs(5)", Target(cap=4.0)),
        ),
    ),
)


@pytest.mark.parametrize("subject", [*PATH, *FORMS, *TURN, *SCATTER, *REFUSAL], ids=lambda subject: subject.name)
def test_call(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
