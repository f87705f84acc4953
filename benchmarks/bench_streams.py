"""Items through a stream against the bare `async for`, and through a watched loop against the bare `for`.

The iterators are always ready: what is timed is the way of an item through the wrapper. Each execution runs a whole
stream, its one connection included, over so many items that this is lost in the figure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
from groups import Contest, Row, Target
from measure import Subject
from run_one import benchmarked

import failsoft

ITEMS = 5_000
QUOTE = {"symbol": "BTC", "seq": 1}


class Quotes:
    """The cheapest async iterator that Python can write."""

    def __init__(self) -> None:
        self._left = ITEMS

    def __aiter__(self) -> Quotes:
        return self

    async def __anext__(self) -> object:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return QUOTE


async def generated() -> AsyncIterator[object]:
    for _ in range(ITEMS):
        yield QUOTE


def plain() -> Iterator[object]:
    for _ in range(ITEMS):
        yield QUOTE


def market() -> failsoft.Integration:
    return failsoft.integration("market", "market_data")


def streaming(connect: Callable[[], Any], **options: Any) -> Callable[[], Mapping[str, object]]:
    def setup() -> Mapping[str, object]:
        integration = market()
        return {"f": lambda: integration.stream(connect, stale_after=2.0, ends=True, **options)}

    return setup


def watching(**options: Any) -> Callable[[], Mapping[str, object]]:
    def setup() -> Mapping[str, object]:
        integration = market()
        return {"f": lambda: integration.watch(plain(), stale_after=2.0, **options)}

    return setup


ASYNC = "async for _item in f():\n    pass"
SYNC = "for _item in f():\n    pass"
COUNTED = {"key": "symbol", "sequence": "seq"}

STREAMED = (
    Subject("bare async for, generator", ASYNC, lambda: {"f": generated}, ITEMS, in_loop=True),
    Subject("stream, generator", ASYNC, streaming(generated), ITEMS, in_loop=True),
    Subject("stream with key and sequence, generator", ASYNC, streaming(generated, **COUNTED), ITEMS, in_loop=True),
    Subject("bare async for, iterator", ASYNC, lambda: {"f": Quotes}, ITEMS, in_loop=True),
    Subject("stream, iterator", ASYNC, streaming(Quotes), ITEMS, in_loop=True),
)

WATCHED = (
    Subject("bare for", SYNC, lambda: {"f": plain}, ITEMS),
    Subject("watch", SYNC, watching(), ITEMS),
    Subject("watch with key and sequence", SYNC, watching(**COUNTED), ITEMS),
)

GROUPS = (
    Contest(
        "stream",
        STREAMED,
        (
            Row("stream, generator", "bare async for, generator"),
            Row("stream, iterator", "bare async for, iterator"),
            Row("stream with key and sequence, generator", "bare async for, generator"),
            Row("stream, generator", unit="ns", more_than="bare async for, generator", target=Target(cap=150.0)),
            Row("stream, iterator", unit="ns", more_than="bare async for, iterator", target=Target(cap=150.0)),
        ),
    ),
    Contest(
        "watch",
        WATCHED,
        (
            Row("watch", "bare for"),
            Row("watch with key and sequence", "bare for"),
            Row("watch", unit="ns", more_than="bare for", target=Target(cap=60.0)),
        ),
    ),
)


@pytest.mark.parametrize("subject", [*STREAMED, *WATCHED], ids=lambda subject: subject.name)
def test_streams(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
