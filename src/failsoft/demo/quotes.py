"""The guarded quote calls: retried, and answered from the last known price when the server cannot."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable

from failsoft import Fallback, FallbackType, Integration
from failsoft.demo.book import TickBook
from failsoft.demo.http_get import http_get
from failsoft.demo.market import SYMBOLS
from failsoft.demo.process import Address

ASKERS = 3
_PAUSE = 0.04


class QuoteUnavailable(Exception):
    """The quote server refused with an HTTP status."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"quote server answered {status}")
        self.status = status
        self.retry_after = retry_after


class Quotes:
    """A few askers, each wanting one quote after the other, and a tally of what they got."""

    def __init__(self, api: Integration, locate: Callable[[], Address], book: TickBook) -> None:
        self._locate = locate
        self._symbols = itertools.cycle(SYMBOLS)
        self.quote = api.guard(
            self._quote,
            operation="quote",
            fallbacks=[Fallback(FallbackType.LAST_KNOWN, book.last_known)],
        )
        self.asked = 0
        self.unanswered = 0

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as askers:
            for _ in range(ASKERS):
                askers.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            result = await self.quote.outcome(next(self._symbols))
            self.asked += 1
            self.unanswered += not result.success
            await asyncio.sleep(_PAUSE)

    async def _quote(self, symbol: str) -> float:
        reply = await http_get(self._locate(), f"/quote/{symbol}")
        if reply.status != 200:
            hint = reply.headers.get("retry-after")
            raise QuoteUnavailable(reply.status, None if hint is None else float(hint))
        return float(json.loads(reply.body)["price"])
