"""What children of multiprocessing run: they have to find it by name."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from tests.sharing.worker import counted, fail, guard, registry

LEAST = 60
"""Calls of a kind that a process makes, or some kind might not occur."""


def trip() -> None:
    fail(guard(), 3)


def work(seed: int, over: Callable[[], bool]) -> dict[str, list[int]]:
    """Calls of every kind until it is over, and then what this process reports of them."""
    import random

    from failsoft import Fallback

    dice = random.Random(seed)
    prices = registry.default.integration(
        "prices", "market_data", circuit_breaker={"failure_threshold": 60_000, "failure_rate": 1.0, "minimum_calls": 1_000_000},
        retry_policy={"max_retries": 2, "initial_delay": 0.0, "max_delay": 0.0, "jitter": False},
        retry_budget=None, degraded={"ramp": 0.0},
    )  # fmt: skip
    shut = registry.default.integration("shut", "database", retry_policy={"max_retries": 0})

    def quote(fails: int) -> str:
        nonlocal left
        left = fails if left is None else left
        if left > 0:
            left -= 1
            raise ConnectionError("down")
        return "quote"

    left: int | None = None
    safe = prices.guard(quote, operation="quote", idempotent=True, fallbacks=[Fallback("mock", lambda *_: "old")])
    bare = prices.guard(quote, operation="book", idempotent=True)
    closed = shut.guard(lambda: None, operation="query", fallbacks=[Fallback("mock", lambda *_: None)])
    refused = shut.guard(lambda: None, operation="raw")
    shut.force_open()
    for number in itertools.count():
        if number >= LEAST and over():
            break
        time.sleep(0.002)
        left = None
        try:
            (safe if dice.random() < 0.6 else bare)(dice.choice((0, 0, 0, 1, 2, 3)))
        except Exception:
            pass
        try:
            (closed if dice.random() < 0.5 else refused)()
        except Exception:
            pass
    return report()


def report() -> dict[str, list[int]]:
    """What this process says of every operation that it has."""
    return {name: counted(metrics) for name, metrics in registry.default.metrics.get_metrics_summary().items()}


def work_for(link: Any, seed: int) -> None:
    """Work until one is told to stop, say what has come of it, and wait until one may go."""
    link.send(os.getpid())
    link.send(work(seed, link.poll))
    link.recv()
    link.recv()
