"""The tick book: what arrived, whether it is in order, and the last price of everything."""

from __future__ import annotations

from collections.abc import Callable


class TickBook:
    """Counts ticks and gaps. A gap right after a (re)connect is an outage's; any other is a lost tick."""

    def __init__(self) -> None:
        self.arrived = 0
        self.handled = 0
        self.gaps = 0
        self.missed = 0
        """Ticks that were sent while nobody was connected, as far as the sequence numbers tell."""
        self.unexplained = 0
        self.expected = 0
        self.last: dict[str, float] = {}
        self._session: int | None = None
        self._reconnected = False

    def reconnected(self) -> None:
        """The next frame is the first of a new connection."""
        self._reconnected = True

    def frame(self, session: int, first: int, count: int) -> None:
        """A frame arrived, and its ticks are about to be handled."""
        self.arrived += count
        if self._reconnected:
            self._reconnected = False
            if self._session is not None and (session != self._session or first != self.expected):
                self.gaps += 1
                self.missed += first if session != self._session else first - self.expected
            self._session = session
            self.expected = first

    def last_known(self, symbol: str) -> float:
        """The last price of `symbol`. Raises `KeyError` before its first tick."""
        return self.last[symbol]


def tick_handler(book: TickBook) -> Callable[[str, float, int], None]:
    """The demo's own code for one tick, written without a thought for failure."""

    def on_tick(symbol: str, price: float, sequence: int) -> None:
        if sequence != book.expected:
            book.unexplained += 1
        book.expected = sequence + 1
        book.last[symbol] = price
        book.handled += 1

    return on_tick
