"""The server's process: started, switched, frozen, killed, restarted by its pid, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from types import TracebackType
from typing import NamedTuple, Self

_START_LIMIT = 20.0
_ANSWER_LIMIT = 10.0


class Address(NamedTuple):
    host: str
    port: int


class ServerFailed(RuntimeError):
    """The server process did not start, or did not answer a command."""


class ServerProcess:
    """One market-data server at a time; `async with` starts it and makes sure that it ends.

    The server has a process group of its own: Ctrl-C reaches the demo alone, which then ends the server.
    """

    def __init__(self, seed: int, lifetime: float) -> None:
        self._seed = seed
        self._lifetime = lifetime
        self._session = 0
        self._process: asyncio.subprocess.Process | None = None
        self.address = Address("127.0.0.1", 0)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start a server on a port the kernel chooses. A restart is a new session on a new port."""
        self._session += 1
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "failsoft.demo.server",
            "--seed", str(self._seed), "--session", str(self._session), "--lifetime", f"{self._lifetime:.0f}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, process_group=0,
        )  # fmt: skip
        self.address = Address("127.0.0.1", int(await self._line(_START_LIMIT)))

    async def switch(self, command: str) -> None:
        """Send one command and wait until the server says that it is in force."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(f"{command}\n".encode())
        await process.stdin.drain()
        await self._line(_ANSWER_LIMIT)

    async def pause(self) -> None:
        """Freeze the process where it stands: sockets stay open, nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    async def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End the process at once, stopped or not, and wait until the kernel has buried it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ServerFailed("the market-data server is not running")
        return self._process

    async def _line(self, limit: float) -> str:
        process = self._running()
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), limit)
        except TimeoutError:
            raise ServerFailed(f"the market-data server said nothing for {limit:g} s") from None
        if not line:
            raise ServerFailed(f"the market-data server ended with exit code {await process.wait()}")
        return line.decode().strip()
