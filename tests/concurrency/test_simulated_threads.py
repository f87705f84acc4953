"""Many threads may ask one simulated feed at once: no step of a walk is lost, and none is taken twice."""

from __future__ import annotations

import threading
from typing import Any

from failsoft import market_data_fallbacks

ROUNDS, THREADS, ASKED = 10, 8, 200


def walk() -> Any:
    return market_data_fallbacks.simulated(seed=1, step=1.0).handler


def test_threads_take_the_steps_of_one_walk_between_them() -> None:
    alone = walk()
    expected = sorted(alone("BTC", last=100.0) for _ in range(THREADS * ASKED))
    for _ in range(ROUNDS):
        shared = walk()
        start = threading.Barrier(THREADS)
        taken: list[list[float]] = [[] for _ in range(THREADS)]

        def ask(prices: list[float], shared: Any = shared, start: threading.Barrier = start) -> None:
            start.wait(30)
            prices.extend(shared("BTC", last=100.0) for _ in range(ASKED))

        threads = [threading.Thread(target=ask, args=(prices,)) for prices in taken]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(price for prices in taken for price in prices) == expected
