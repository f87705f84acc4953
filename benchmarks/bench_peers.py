"""The success path of other libraries around the same no-op, against a guard with everything armed.

Each peer is set up as its documentation shows first, with what is named in brackets; a failsoft guard has all
of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from armed import armed, identity, identity_async
from groups import Contest, Row
from measure import Subject
from run_one import benchmarked

Wrap = Callable[[Callable[..., Any]], Any]


def pybreaker(function: Callable[..., Any]) -> Any:
    import pybreaker

    return pybreaker.CircuitBreaker()(function)


def circuitbreaker(function: Callable[..., Any]) -> Any:
    import circuitbreaker

    return circuitbreaker.CircuitBreaker(name="benchmark")(function)


def interlock(function: Callable[..., Any]) -> Any:
    import interlock

    return interlock.CircuitBreaker(name="benchmark")(function)


def pyresilience(function: Callable[..., Any]) -> Any:
    import pyresilience

    return pyresilience.resilient(circuit_breaker=pyresilience.CircuitBreakerConfig())(function)


def pyresilience_more(function: Callable[..., Any]) -> Any:
    import pyresilience

    return pyresilience.resilient(
        circuit_breaker=pyresilience.CircuitBreakerConfig(),
        retry=pyresilience.RetryConfig(),
        fallback=pyresilience.FallbackConfig(handler=lambda error: None),
    )(function)


def pyresilience_all(function: Callable[..., Any]) -> Any:
    import pyresilience

    return pyresilience.resilient(
        circuit_breaker=pyresilience.CircuitBreakerConfig(),
        retry=pyresilience.RetryConfig(),
        timeout=pyresilience.TimeoutConfig(),
        fallback=pyresilience.FallbackConfig(handler=lambda error: None),
    )(function)


def tenacity(function: Callable[..., Any]) -> Any:
    import tenacity

    return tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential())(function)


def stamina(function: Callable[..., Any]) -> Any:
    import stamina

    logging.getLogger("stamina").setLevel(logging.ERROR)
    return stamina.retry(on=OSError, attempts=3)(function)


def hyx(function: Callable[..., Any]) -> Any:
    from hyx.circuitbreaker import consecutive_breaker

    return consecutive_breaker()(function)


def purgatory(function: Callable[..., Any]) -> Any:
    import purgatory

    return purgatory.SyncCircuitBreakerFactory()("benchmark")(function)


def purgatory_async(function: Callable[..., Any]) -> Any:
    import purgatory

    return purgatory.AsyncCircuitBreakerFactory()("benchmark")(function)


def wrapping(wrap: Wrap, function: Callable[..., Any]) -> Callable[[], Mapping[str, object]]:
    return lambda: {"f": wrap(function), "x": 1}


SYNC: dict[str, Wrap] = {
    "pybreaker (breaker)": pybreaker,
    "circuitbreaker (breaker)": circuitbreaker,
    "interlock-cb (breaker, window)": interlock,
    "pyresilience (breaker)": pyresilience,
    "pyresilience (breaker, retry, fallback)": pyresilience_more,
    "tenacity (retry)": tenacity,
    "stamina (retry)": stamina,
    "purgatory (breaker)": purgatory,
}
ASYNC: dict[str, Wrap] = {
    "hyx (breaker)": hyx,
    "purgatory (breaker)": purgatory_async,
    "circuitbreaker (breaker)": circuitbreaker,
    "interlock-cb (breaker, window)": interlock,
    "pyresilience (breaker)": pyresilience,
    "pyresilience (breaker, retry, timeout, fallback)": pyresilience_all,
    "tenacity (retry)": tenacity,
    "stamina (retry)": stamina,
}

CALLS = (
    Subject("guard", "f(x)", wrapping(armed, identity)),
    *(Subject(name, "f(x)", wrapping(wrap, identity)) for name, wrap in SYNC.items()),
)
AWAITS = (
    Subject("guarded await", "await f(x)", wrapping(armed, identity_async), in_loop=True),
    *(
        Subject(f"{name}, await", "await f(x)", wrapping(wrap, identity_async), in_loop=True)
        for name, wrap in ASYNC.items()
    ),
)

GROUPS = (
    Contest("peers, call", CALLS, [Row(subject.name, "guard", peer=True) for subject in CALLS[1:]]),
    Contest("peers, await", AWAITS, [Row(subject.name, "guarded await", peer=True) for subject in AWAITS[1:]]),
)


@pytest.mark.parametrize("subject", [*CALLS, *AWAITS], ids=lambda subject: subject.name)
def test_peers(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
