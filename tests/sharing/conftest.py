"""Arenas that leave nothing behind, and processes that share them.

A process shares one arena until it ends, so the one that runs the tests shares none: it starts others, and looks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from failsoft.arena import arena_path, arenas

ROOT = Path(__file__).parents[2]

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]  # an arena needs /dev/shm and /proc


class Template:
    """A process that has imported everything and forks workers, for an import takes longer than most tests."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sharing.worker", str(theirs.fileno())],
            cwd=ROOT,
            env=environment(),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def fork(self, reading: int, writing: int) -> int:
        socket.send_fds(self._link, [b"f"], [reading, writing])
        return int.from_bytes(self._link.recv(4), "big")

    def close(self) -> None:
        self._link.close()
        self._process.wait()


def environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("FAILSOFT_")} | more


class Process:
    """A worker, see worker.py: forked from the template, or begun by `command`."""

    def __init__(self, template: Template | None, *, before: tuple[str, ...] = (), **more: str) -> None:
        reading, self._stdin = os.pipe()
        self._stdout, writing = os.pipe()
        self._child: subprocess.Popen[bytes] | None = None
        if template is not None:
            self.pid = template.fork(reading, writing)
        else:
            self._child = subprocess.Popen(
                [*before, sys.executable, "-m", "tests.sharing.worker"],
                stdin=reading,
                stdout=writing,
                cwd=ROOT,
                env=environment(**more),
                start_new_session=True,  # one signal reaches its children too
            )
            self.pid = self._child.pid
        os.close(reading)
        os.close(writing)
        self._answers = os.fdopen(self._stdout)

    def send(self, code: str) -> None:
        """Tell it to run some code, and do not wait."""
        os.write(self._stdin, (json.dumps(textwrap.dedent(code)) + "\n").encode())

    def answer(self) -> Any:
        """The `answer` of the code that was sent first and not answered yet."""
        line = self._answers.readline()
        assert line, "the worker has ended"
        said = json.loads(line)
        assert "error" not in said, said["error"]
        return said["answer"]

    def run(self, code: str) -> Any:
        """Run some code there."""
        self.send(code)
        return self.answer()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to it alone, and wait for its end if that is what comes of it."""
        os.kill(self.pid, how)
        if how is signal.SIGKILL:
            self._wait()

    def end(self) -> None:
        """Let it end in good order."""
        os.close(self._stdin)
        self._stdin = -1
        self._wait()

    def _wait(self) -> None:
        if self._child is not None:
            self._child.wait(20)
        wait_for(lambda: not Path(f"/proc/{self.pid}").exists())

    def away(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._wait()
        if self._stdin >= 0:
            os.close(self._stdin)
        self._answers.close()


_number = iter(range(1_000_000))


@pytest.fixture
def arena() -> Iterator[str]:
    """The name of an arena that nobody else uses, and whose file is gone afterwards."""
    name = f"test-{os.getpid()}-{next(_number)}"
    yield name
    Path(arena_path(name)).unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    assert not [name for name in arenas() if name.startswith(f"test-{os.getpid()}-")]


Start = Callable[..., Process]


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    template = Template()
    yield template
    template.close()


@pytest.fixture
def start(arena: str, template: Template) -> Iterator[Start]:
    """Start a worker that shares the arena, or with `shares=False` one that does not yet. With `command=True`, or an
    environment, it is a program begun anew."""
    started: list[Process] = []

    def start(*, shares: bool = True, command: bool = False, **options: Any) -> Process:
        one = Process(None if command or options else template, **options)
        started.append(one)
        if shares:
            one.run(f"failsoft.share({arena!r})")
        return one

    yield start
    for one in started:
        one.away()


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.01)
