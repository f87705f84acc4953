"""A stream that reads ahead: a task of its own fills a bounded buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..deadlines import leave_block
from ..errors import StreamOverflowError
from ..recorder import DROPPED
from . import Stream
from .connections import ended
from .records import StreamState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from typing import Any, TypeVar

    from ..integrations import Integration

    T = TypeVar("T")

POLICIES = ("drop_oldest", "block", "raise")


def check_buffer(buffer: object, overflow: object) -> None:
    """Whether these are what `Integration.stream` can take."""
    if isinstance(buffer, bool) or not isinstance(buffer, int):
        raise TypeError(f"buffer must be an integer, got {buffer!r}")
    if not 0 <= buffer <= 1 << 30:
        raise ValueError(f"buffer must be a number of items from 0 to 2**30, got {buffer!r}")
    if overflow not in POLICIES:
        raise ValueError(f"overflow must be one of {', '.join(POLICIES)}, got {overflow!r}")


class BufferedStream(Stream["T"]):
    """A Stream with a buffer. Its task begins with the first item asked for, and ends with `aclose()`."""

    def __init__(
        self, integration: Integration, connect: Callable[[], Any], operation: str, *, buffer: int, overflow: str,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(integration, connect, operation, **options)
        self._most = buffer
        self._overflow = overflow
        self._buffer: deque[Any] = deque()
        self._reader: Task[None] | None = None
        self._ending: BaseException | None = None
        self._wanted: Future[None] | None = None  # the consumer waits for an item
        self._room: Future[None] | None = None  # the reader waits for room

    async def __anext__(self) -> Any:
        import asyncio

        if self._wanted is not None:
            raise RuntimeError("anext(): the stream is being iterated already")
        while not self._buffer:
            if self._ending is not None:
                ending = self._ending
                # A cancellation of the reader alone, by its connection say, is told once, as without a buffer.
                self._ending = None if isinstance(ending, asyncio.CancelledError) else StopAsyncIteration()
                try:
                    raise ending
                finally:
                    del ending  # its traceback holds this frame
            loop = asyncio.get_running_loop()
            if self._reader is None:
                self._reader = loop.create_task(self._read(), name=f"failsoft: {self!r}")
            self._wanted = loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        item = self._buffer.popleft()
        _wake(self._room)
        return item

    async def aclose(self) -> None:
        """End reader and connection. What is in the buffer may still be fetched."""
        import asyncio

        self._state = StreamState.CLOSED
        reader = self._reader
        if reader is not None and reader.cancel() and not await ended(asyncio.wait([reader]), self._close_timeout):
            reader.cancel()  # what it closes on its way hangs; it is left to itself then
        if self._ending is None:
            self._ending = StopAsyncIteration()
        _wake(self._wanted)
        await super().aclose()

    async def _read(self) -> None:
        import asyncio

        leave_block()  # of whoever asked for the first item
        try:
            while True:
                item = await super().__anext__()
                if len(self._buffer) >= self._most:
                    await asyncio.sleep(0)  # a feed that always has an item must not keep the consumer out
                    await self._make_room()
                self._buffer.append(item)
                _wake(self._wanted)
        except asyncio.CancelledError as error:
            self._reader = None  # who asks for an item begins anew, in another loop perhaps
            if self._is_closed():
                self._ending = StopAsyncIteration()
            elif self._wanted is not None and not self._wanted.done():
                self._ending = error
            raise
        except BaseException as error:
            self._ending = error
            await self._disconnect()
        finally:
            _wake(self._wanted)

    async def _make_room(self) -> None:
        import asyncio

        while len(self._buffer) >= self._most:
            if self._overflow == "drop_oldest":
                self._buffer.popleft()
                self._dropped += 1
                self._note(DROPPED, self._dropped)
            elif self._overflow == "block":
                self._room = asyncio.get_running_loop().create_future()
                try:
                    await self._room
                finally:
                    self._room = None
            else:
                self._state = StreamState.CLOSED
                raise StreamOverflowError(
                    f"{self.operation}: {self._most} items are waiting to be fetched, which is all the buffer holds",
                    integration_type=self.integration.type,
                    integration_name=self.integration.name,
                    operation=self.operation,
                    reason="overflow",
                )


def _wake(waiter: Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
