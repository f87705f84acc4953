"""Making a connection of whatever `connect` gives, and ending it in bounded time."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from .. import expiry
from ..functions import is_awaitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


class Connection:
    """A source of items: what gives them, and the context that it lives in, if it has one."""

    __slots__ = ("_context", "_source", "iterator")

    def __init__(self, source: Any, context: Any) -> None:
        if not hasattr(type(source), "__aiter__"):
            raise TypeError(f"connect must give an async iterable, or a context manager of one, got {source!r}")
        self._source = source
        self._context = context
        self.iterator = type(source).__aiter__(source)
        if not hasattr(type(self.iterator), "__anext__"):
            raise TypeError(f"connect must give an async iterable, got an iterator {self.iterator!r} without __anext__")

    def again(self) -> bool:
        """Iterate anew where a cancellation has ended the iterator and not the connection. False: it is its own."""
        if self.iterator is self._source:
            return False
        self.iterator = type(self._source).__aiter__(self._source)
        return True

    async def close(self) -> None:
        """End the iterator, then the context."""
        try:
            aclose = getattr(self.iterator, "aclose", None)
            if aclose is not None:
                await aclose()
        finally:
            if self._context is not None:
                await type(self._context).__aexit__(self._context, None, None, None)


async def opened(made: Any) -> Connection:
    """A connection of what `connect` gave: an async iterable, a context manager that gives one, or their awaitable."""
    if not hasattr(type(made), "__aenter__") and not hasattr(type(made), "__aiter__") and is_awaitable(made):
        made = await made
    context = made if hasattr(type(made), "__aenter__") else None
    source = made if context is None else await type(context).__aenter__(context)
    try:
        return Connection(source, context)
    except Exception:
        if context is not None:
            await type(context).__aexit__(context, None, None, None)
        raise


async def bounded(work: Awaitable[T], seconds: float, expired: Callable[[float], BaseException]) -> T:
    """Await `work`, cancelled after so many seconds; then raise what `expired` makes.

    Raises:
        RuntimeError: under trio, whose tasks cannot be cancelled from outside; `work` is closed then.
    """
    try:
        deadline = expiry.arm(seconds, expired)
    except BaseException:
        close = getattr(work, "close", None)
        if close is not None:
            close()
        raise
    try:
        value = await work
    except BaseException as error:
        instead = None if deadline is None else deadline.finish(error)
        if instead is not None:
            raise instead from error
        raise
    if deadline is not None:
        deadline.finish(None)
    return value


async def ended(wait: Awaitable[object], seconds: float) -> bool:
    """Whether what is waited for has come within so many seconds."""
    try:
        await bounded(wait, seconds, lambda _: TimeoutError())
    except TimeoutError:
        return False
    return True


async def closed(connection: Connection, seconds: float) -> None:
    """End a connection, whatever it says to that; after so many seconds it is left to itself."""
    with contextlib.suppress(Exception):
        await bounded(connection.close(), seconds, lambda given: TimeoutError(f"not closed within {given:.3g} s"))
