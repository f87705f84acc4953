"""A TCP proxy that makes a network slow, lossy and dead, for clients that speak to real servers.

    with FaultProxy(("127.0.0.1", 5432)) as proxy:
        client = connect(proxy.host, proxy.port)
        with proxy.fault(black_hole=True):
            ...

It runs in a thread of its own and keeps real time. At most `CONNECTIONS` connections are open at a time, and each holds
back at most `CHUNKS` pieces of `CHUNK` bytes a way: what is more stays in the sockets, and the sender feels it, as
behind a slow link. It listens on loopback unless told otherwise; it has no authentication and is not for the open
network.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import forks
from ..checks import LONGEST, number, refuse_unknown, shown
from ..records import Record, field_names, replace
from .ports import HOST, free_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any, Self, TypeAlias

    Address: TypeAlias = str | int | tuple[str, int]

CONNECTIONS = 256
"""Open at a time; the next one is reset."""

CHUNK = 16_384
CHUNKS = 16

_CONNECT = 10.0
"""Seconds that the target may take to accept a connection."""

_ANSWER = 10.0
"""Seconds that the proxy's own thread may take to do what it is told; it needs some microseconds."""

_seconds = number(float, 0.0, LONGEST, " of seconds")
_bytes = number(int, 0, 2**63 - 1, " of bytes")
_some_bytes = number(int, 1, 2**63 - 1, " of bytes")
_rate = number(float, 1.0, 1e12, " of bytes a second")

DIRECTIONS = ("down", "up", "both")


class Faults(Record):
    """What a `FaultProxy` does to its connections. Nothing, by default.

    - `latency`: seconds that each piece of data is late; `jitter`: up to so many more, at random. Order is kept.
    - `bandwidth`: bytes a second, each connection and way.
    - `slice`: data is handed on in pieces of so many bytes; `slice_delay`: seconds between them.
    - `black_hole`: nothing is handed on while it lasts, and connections stay open: what a frozen server or a dropped
      route looks like. It is handed on when it is over, as TCP would send it again.
    - `truncate_after`: after so many bytes of an answer the connection is closed in good order.
    - `reset_after`: after so many bytes of an answer it is reset (RST); 0: as soon as it is accepted.
    - `slow_close`: seconds between an end of data and telling the other side of it.
    - `refuse`: new connections are refused; those that are open stay.

    `direction` says to which way all but `black_hole`, `truncate_after`, `reset_after` and `refuse` apply: "down", from
    the target to the client, "up" or "both".
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    slice: int | None = None
    slice_delay: float = 0.0
    black_hole: bool = False
    truncate_after: int | None = None
    reset_after: int | None = None
    slow_close: float = 0.0
    refuse: bool = False
    direction: str = "down"

    def __post_init__(self) -> None:
        checks = {
            "latency": _seconds, "jitter": _seconds, "slice_delay": _seconds, "slow_close": _seconds,
            "bandwidth": _rate, "slice": _some_bytes, "truncate_after": _bytes, "reset_after": _bytes,
        }  # fmt: skip
        for field, check in checks.items():
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, check(field, value))
            elif field in ("latency", "jitter", "slice_delay", "slow_close"):
                raise TypeError(f"{field} must be a number of seconds, got None")
        for field in ("black_hole", "refuse"):
            if not isinstance(getattr(self, field), bool):
                raise TypeError(f"{field} must be True or False, got {shown(getattr(self, field))}")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {shown(self.direction)}")


class FaultProxy:
    """A TCP proxy before `target`, a ("host", port), "host:port" or a port of this machine, with the given `Faults`.

    Use it in a `with` block, or `start()` and `close()`. Clients connect to `host` and `port`, which stays the same.
    `port=0` chooses one. `seed` makes the jitter the same each time. Faults can be changed at any time, by any thread:
    data that waits goes by the new ones.
    """

    def __init__(
        self, target: Address, *, host: str = HOST, port: int = 0, seed: int | None = None, **faults: Any
    ) -> None:
        self.target = address(target)
        self.host = host
        self.port = port or free_port(host)
        self._seed = seed
        self._faults = _changed(Faults(), faults)
        self._runs: _Loop | None = None
        forks.remember(self)

    def __repr__(self) -> str:
        state = "running" if self._runs else "not running"
        return f"<FaultProxy {self.host}:{self.port} -> {self.target[0]}:{self.target[1]}, {state}>"

    def start(self) -> Self:
        """Listen. OSError where the port is taken."""
        if self._runs is not None:
            raise RuntimeError("this proxy runs already")
        self._runs = _Loop(self.host, self.port, self.target, self._faults, self._seed)
        return self

    def close(self) -> None:
        """Stop listening, drop all connections, and wait until that is done."""
        runs, self._runs = self._runs, None
        if runs is not None:
            runs.close()

    def forked(self) -> None:
        """In a child it does not run; what the child held open would neither be refused nor end."""
        runs, self._runs = self._runs, None
        if runs is not None:
            runs.forsake()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def faults(self) -> Faults:
        """What it does now."""
        return self._faults

    def set(self, **faults: Any) -> None:
        """Change these faults, from now on and for all connections; the others stay. TypeError for an unknown one."""
        self._put(_changed(self._faults, faults))

    def clear(self) -> None:
        """No faults at all."""
        self._put(Faults())

    @contextmanager
    def fault(self, **faults: Any) -> Iterator[None]:
        """These faults besides those there are, for a `with` block."""
        before = self._faults
        self.set(**faults)
        try:
            yield
        finally:
            self._put(before)

    def reset(self) -> None:
        """Reset all connections that are open now, on both sides."""
        if self._runs is not None:
            self._runs.do(self._runs.reset)

    @property
    def accepted(self) -> int:
        """Connections accepted since it was started."""
        return self._runs.accepted if self._runs is not None else 0

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._runs.links) if self._runs is not None else 0

    def _put(self, faults: Faults) -> None:
        runs = self._runs
        if runs is not None:
            runs.do(lambda: runs.put(faults))
        self._faults = faults


def address(given: object) -> tuple[str, int]:
    """(host, port) of a pair, of "host:port" or ":port", or of a port; loopback where no host is named."""
    host: object = HOST
    port = given
    if isinstance(given, (tuple, list)) and len(given) == 2:
        host, port = given
    elif isinstance(given, str):
        name, _, port = given.rpartition(":")
        host = name.strip("[]") or HOST
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not isinstance(host, str) or not 1 <= port <= 65535:
        raise ValueError(
            f'an address must be ("host", port), "host:port" or a port from 1 to 65535, got {shown(given)}'
        )
    return host, port


def _changed(faults: Faults, changes: dict[str, Any]) -> Faults:
    refuse_unknown(changes, list(field_names(Faults)), "", TypeError)
    return replace(faults, **changes)


class _Loop:
    """The thread, its loop, and what is open in it. All but `do` and `close` runs there."""

    def __init__(self, host: str, port: int, target: tuple[str, int], faults: Faults, seed: int | None) -> None:
        import asyncio

        self.host = host
        self.port = port
        self.target = target
        self.faults = faults
        self.random = random.Random(seed)
        self.accepted = 0
        self.links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        self.changed = asyncio.Event()
        try:
            self._listen(start=False)
        except BaseException:
            self.loop.close()
            raise
        self._thread = threading.Thread(target=self._run, name=f"FaultProxy :{port}", daemon=True)
        self._thread.start()
        self.do(self._begin)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def do(self, what: Callable[[], None]) -> None:
        """Have the thread do something, and come back when it is done."""
        import asyncio

        async def done() -> None:
            what()

        asyncio.run_coroutine_threadsafe(done(), self.loop).result(_ANSWER)

    def close(self) -> None:
        import asyncio

        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(_ANSWER)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_ANSWER)

    def forsake(self) -> None:
        """Close our descriptors and touch nothing else: what the loop waits by is one with the parent's."""
        self._listener.close()
        for link in self.links:
            link.forsake()

    async def _end(self) -> None:
        import asyncio

        self._deafen()
        # More than once: before 3.12, asyncio.wait_for loses a cancellation that comes with its result, and goes on.
        while tasks := tuple(self._tasks):
            for link in tuple(self.links):
                link.drop()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.05)
        for link in tuple(self.links):
            link.give_up()
        for _ in range(5):  # transports that were aborted close their sockets in a later turn of the loop
            await asyncio.sleep(0)

    def put(self, faults: Faults) -> None:
        """Let other faults hold."""
        self.faults = faults
        if faults.refuse:
            self._deafen()
        elif self._listener.fileno() < 0:
            self._listen()
        changed, self.changed = self.changed, type(self.changed)()
        changed.set()

    def reset(self) -> None:
        for link in tuple(self.links):
            link.abort(reset=True)

    def _begin(self) -> None:
        if self.faults.refuse:
            self._listener.close()
        else:
            self._accept()

    def _listen(self, *, start: bool = True) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family, backlog=CONNECTIONS)
        self._listener.setblocking(False)
        if start:
            self._accept()

    def _accept(self) -> None:
        # Not by a task: what it has accepted in the moment it is cancelled would be lost, and stay open.
        self.loop.add_reader(self._listener, self._accept_one)

    def _deafen(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.remove_reader(self._listener)
            self._listener.close()

    def _accept_one(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: look again when some may have been closed
            self.loop.remove_reader(self._listener)
            self.loop.call_later(0.05, lambda: self._accept() if self._listener.fileno() >= 0 else None)
            return
        client.setblocking(False)
        self.accepted += 1
        if len(self.links) >= CONNECTIONS or self.faults.reset_after == 0:
            _let_reset(client)
            client.close()
            return
        link = _Link(self, client)
        self.links.add(link)
        self.task(link.run())

    def task(self, coroutine: Any) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, due: Callable[[Faults], float]) -> None:
        """Until the loop's time is what `due` makes of the faults there are; it is asked anew when they change."""
        import asyncio

        while (left := due(self.faults) - self.loop.time()) > 0.0:
            changed = self.changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if math.isinf(left) else left)


class _Link:
    """One connection: a socket to the client, one to the target, and a pump for each way."""

    def __init__(self, runs: _Loop, client: socket.socket) -> None:
        self._runs = runs
        self._client: socket.socket | None = client  # until it has a transport
        self._doomed = False
        self._writers: list[asyncio.StreamWriter] = []
        self._sent = 0  # bytes of the answer

    async def run(self) -> None:
        import asyncio

        tasks: list[asyncio.Task[None]] = []
        try:
            assert self._client is not None
            down_reader, down_writer = await asyncio.open_connection(sock=self._client, limit=CHUNK)
            self._client = None
            self._writers.append(down_writer)
            if self._doomed:
                self.abort(reset=True)
                return
            try:
                up_reader, up_writer = await asyncio.wait_for(
                    asyncio.open_connection(*self._runs.target, limit=CHUNK), _CONNECT
                )
            except (OSError, TimeoutError):
                self.abort(reset=True)  # who has been accepted cannot be refused any more
                return
            self._writers.append(up_writer)
            tasks = [
                self._runs.task(self._pump(up_reader, down_writer, down=True)),
                self._runs.task(self._pump(down_reader, up_writer, down=False)),
            ]
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            self._runs.links.discard(self)
            if self._client is not None:
                self._client.close()
            self.abort(reset=False)

    def abort(self, *, reset: bool) -> None:
        """End both connections: by RST, or in good order once what has been handed on is sent."""
        if reset:
            for writer in self._writers:
                _let_reset(writer.get_extra_info("socket"))
            self.drop()
        for writer in self._writers:
            writer.close()

    def give_up(self) -> None:
        """It was cancelled before it began, and has not closed what it was given."""
        self._runs.links.discard(self)
        if self._client is not None:
            self._client.close()

    def forsake(self) -> None:
        """Let go of both, which are the parent's."""
        if self._client is not None:
            self._client.close()
        nothing = os.open(os.devnull, os.O_RDWR)
        for writer in self._writers:
            held = writer.get_extra_info("socket")
            if held is not None and held.fileno() >= 0:  # its transport thinks it has it, and will close what is there
                os.dup2(nothing, held.fileno(), inheritable=False)
        os.close(nothing)

    def drop(self) -> None:
        """End both at once."""
        self._doomed = True  # a socket that is getting its transport is not pulled from under it
        for writer in self._writers:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool) -> None:
        """Hand on one way, each piece when it is due; then the end."""
        import asyncio

        pieces: asyncio.Queue[tuple[float, float, bytes]] = asyncio.Queue(CHUNKS)
        reading = self._runs.task(self._read(reader, pieces))
        writer.transport.set_write_buffer_limits(high=CHUNK)
        way = "down" if down else "up"

        def applies(faults: Faults) -> bool:
            return faults.direction in (way, "both")

        try:
            while True:
                came, roll, data = await pieces.get()

                def due(faults: Faults, came: float = came, roll: float = roll) -> float:
                    if faults.black_hole:
                        return math.inf
                    return came + (faults.latency + faults.jitter * roll if applies(faults) else 0.0)

                await self._runs.wait(due)
                if not data:
                    await self._close(writer, applies)
                    return
                if not await self._hand_on(data, writer, applies, down=down):
                    return
        except OSError:
            self.abort(reset=True)  # one side is gone, and the other shall know
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                self.abort(reset=True)
                data = b""
            await pieces.put((self._runs.loop.time(), self._runs.random.random(), data))

    async def _hand_on(
        self, data: bytes, writer: asyncio.StreamWriter, applies: Callable[[Faults], bool], *, down: bool
    ) -> bool:
        """Send a chunk as slowly as it must be. False: the connection has come to its end."""
        while data:
            faults = self._runs.faults
            size = _piece(faults, len(data)) if applies(faults) else len(data)
            if down:
                size = min(size, self._left(faults))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if down:
                self._sent += size
                if self._left(self._runs.faults) == 0:
                    self.abort(reset=self._runs.faults.reset_after is not None)
                    return False
            await self._rest(size, bool(data), applies)
        return True

    def _left(self, faults: Faults) -> int:
        """Bytes of the answer that may still pass."""
        ends = [end for end in (faults.truncate_after, faults.reset_after) if end is not None]
        return max(min(ends) - self._sent, 0) if ends else CHUNK

    async def _rest(self, sent: int, more: bool, applies: Callable[[Faults], bool]) -> None:
        began = self._runs.loop.time()

        def due(faults: Faults) -> float:
            if not applies(faults):
                return 0.0
            paced = sent / faults.bandwidth if faults.bandwidth else 0.0
            return began + max(paced, faults.slice_delay if more and faults.slice else 0.0)

        await self._runs.wait(due)

    async def _close(self, writer: asyncio.StreamWriter, applies: Callable[[Faults], bool]) -> None:
        ended = self._runs.loop.time()
        await self._runs.wait(lambda faults: ended + (faults.slow_close if applies(faults) else 0.0))
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()


def _piece(faults: Faults, size: int) -> int:
    """How much of so many bytes goes at once: of a bandwidth, what a twentieth of a second has room for."""
    if faults.slice is not None:
        size = min(size, faults.slice)
    if faults.bandwidth is not None:
        size = min(size, max(int(faults.bandwidth / 20), 1))
    return size


def _let_reset(connection: Any) -> None:
    """Let the end of this socket be an RST."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
