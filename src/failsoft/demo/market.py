"""A market of 20 symbols on a seeded random walk, cut into frames of sequence-numbered ticks."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

SYMBOLS = (
    "AAPL", "AMD", "AMZN", "BA", "CAT", "COST", "CVX", "DIS", "GE", "GOOG",
    "IBM", "INTC", "JPM", "KO", "META", "MSFT", "NFLX", "NVDA", "PEP", "TSLA",
)  # fmt: skip
TICKS_PER_FRAME = 240
FRAME_INTERVAL = 0.01
"""Seconds between frames: 24,000 ticks a second, a fifth above the 20,000 the demo promises."""

_STEP = 0.0002
_START = 100.0


class Frame(NamedTuple):
    """Consecutive ticks of one server session; the tick at index i has sequence number `first + i`."""

    session: int
    first: int
    ticks: list[tuple[str, float]]


class Market:
    """Prices that follow the same path for the same seed and session, whoever listens."""

    def __init__(self, seed: int, session: int) -> None:
        self._random = random.Random(f"{seed}/{session}")
        self._session = session
        self._next = 0
        self.prices = dict.fromkeys(SYMBOLS, _START)

    def next_frame(self) -> str:
        """The next `TICKS_PER_FRAME` ticks as the text that goes over the wire."""
        prices = self.prices
        uniform = self._random.uniform
        ticks = []
        for symbol in self._random.choices(SYMBOLS, k=TICKS_PER_FRAME):
            prices[symbol] = price = round(prices[symbol] * (1.0 + uniform(-_STEP, _STEP)), 4)
            ticks.append((symbol, price))
        first, self._next = self._next, self._next + TICKS_PER_FRAME
        return json.dumps(Frame(self._session, first, ticks), separators=(",", ":"))


def decode(text: str | bytes) -> Frame:
    """Read one frame. Raises `ValueError` when it is not one."""
    session, first, ticks = json.loads(text)
    return Frame(session, first, ticks)
