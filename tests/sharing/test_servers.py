"""Workers of gunicorn and uvicorn that share through FAILSOFT_ARENA: one trips, and none of them calls any more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from failsoft.arena import attach
from tests.sharing.conftest import ROOT, environment, wait_for

WORKERS = 3

SERVERS = {
    "gunicorn": ["gunicorn", "tests.sharing.app:wsgi", "--workers", str(WORKERS), "--bind", "unix:{socket}"],
    "gunicorn-preload": [
        "gunicorn", "tests.sharing.app:wsgi", "--preload", "--workers", str(WORKERS), "--bind", "unix:{socket}",
    ],
    "uvicorn": ["uvicorn", "tests.sharing.app:asgi", "--workers", str(WORKERS), "--uds", "{socket}", "--lifespan", "off"],
}  # fmt: skip


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, arena: str) -> Iterator[str]:
    """The socket of a server whose workers share an arena."""
    command = SERVERS[request.param]
    pytest.importorskip(command[0])
    with tempfile.TemporaryDirectory(prefix="fs") as folder:
        path = os.path.join(folder, "socket")
        words = [word.format(socket=path) for word in command[1:]]
        with open(os.path.join(folder, "log"), "wb+") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", command[0], *words],
                cwd=ROOT, env=environment(FAILSOFT_ARENA=arena), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield path
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()


def ask(path: str, what: str) -> tuple[int, str]:
    """{pid, word} of the worker that answers."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(path)
        link.sendall(f"GET {what} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        said = b""
        while more := link.recv(4096):
            said += more
    pid, word = said.rpartition(b"\r\n\r\n")[2].split()
    return int(pid), word.decode()


def test_all_workers_refuse_after_the_trip_of_one(server: str, arena: str) -> None:
    met: set[int] = set()

    def all_answer() -> bool:
        try:
            pid, word = ask(server, "/call")
        except OSError:
            return False
        assert word == "fine"
        met.add(pid)
        return len(met) == WORKERS

    wait_for(all_answer, 20)
    ask(server, "/fail")
    answers: dict[int, set[str]] = {}

    def all_have_answered() -> bool:
        pid, word = ask(server, "/call")
        answers.setdefault(pid, set()).add(word)
        return set(answers) == met

    wait_for(all_have_answered, 20)
    assert answers == {pid: {"refused"} for pid in met}
    alive = {process.pid for process in attach(arena).processes() if process.alive}
    assert met <= alive
    seen = attach(arena)["backend"]
    assert seen.metrics("job").error_count == 3
    slots = {process.pid: process.slot for process in attach(arena).processes()}
    assert sum(seen.total(slot=slots[pid]).error_count for pid in met) == 3
