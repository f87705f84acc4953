"""What the guard costs: the demo's own tick handler, bare and guarded, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from failsoft import IntegrationConfig, Registry
from failsoft.demo.book import TickBook, tick_handler

_ROUNDS = 41
_CALLS = 2_000


class Overhead(NamedTuple):
    """Nanoseconds a call, medians over the rounds; both include the loop that calls."""

    bare_ns: float
    guard_overhead_ns: float


def measure(config: IntegrationConfig) -> Overhead:
    """Time the handler bare and guarded in alternating rounds, so that noise disturbs both alike."""
    bare_book, guarded_book = TickBook(), TickBook()
    bare = tick_handler(bare_book)
    registry = Registry()
    guarded = registry.integration("overhead", config.type, config).guard(tick_handler(guarded_book))
    bares, differences = [], []
    for _ in range(_ROUNDS):
        without = _time(bare, bare_book)
        bares.append(without)
        differences.append(_time(guarded, guarded_book) - without)
    registry.close()
    return Overhead(statistics.median(bares), statistics.median(differences))


def _time(handler: Callable[[str, float, int], None], book: TickBook) -> float:
    book.expected = 0
    started = time.perf_counter_ns()
    for sequence in range(_CALLS):
        handler("AAPL", 100.0, sequence)
    return (time.perf_counter_ns() - started) / _CALLS
