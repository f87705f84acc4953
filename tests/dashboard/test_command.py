"""`failsoft dashboard`: what it refuses, and that it shows an arena of other processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("click")
pytest.importorskip("uvicorn")

from click.testing import CliRunner

from failsoft.cli.commands import failsoft as command
from failsoft.dashboard.names import identity

MAIN = "from failsoft.cli import main; main()"
WORKER = """
import sys, failsoft
failsoft.share(sys.argv[1])
one = failsoft.integration("payments", "external_api", circuit_breaker={"failure_threshold": 3})
def fail(): raise ConnectionError("down")
charge = one.guard(lambda: 1, operation="charge")
for _ in range(20): charge()
broken = one.guard(fail, operation="refund", retry=False)
for _ in range(3):
    try: broken()
    except ConnectionError: pass
print("ready", flush=True)
sys.stdin.read()
"""


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FAILSOFT_")}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[str]:
    """The path of an arena that another process shares, with an open breaker in it."""
    path = str(tmp_path / "arena")
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            yield path
        finally:
            worker.kill()


@pytest.mark.parametrize(("arguments", "words"), [
    (["--arena", "x", "--host", "0.0.0.0"], "a token is needed"),
    (["--arena", "x", "--host", "10.1.2.3"], "--token-file"),
    (["--arena", "x y"], "--arena"),
    (["--arena", "x", "--interval", "0"], "interval must be"),
    (["--arena", "x", "--port", "65536"], "--port"),
], ids=["all addresses", "another address", "name", "interval", "port"])  # fmt: skip
def test_refuses_with_a_sentence(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAILSOFT_DASHBOARD_TOKEN", raising=False)
    done = CliRunner().invoke(command, ["dashboard", *arguments])
    assert done.exit_code != 0
    assert words in done.output
    assert "Traceback" not in done.output


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    done = CliRunner().invoke(command, ["dashboard", "--arena", "x", "--token-file", str(tmp_path / "token")])
    assert "at least 16" in done.output


def test_a_port_that_is_taken_is_said() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = CliRunner().invoke(command, ["dashboard", "--arena", "x", "--port", str(taken.getsockname()[1])])
    assert done.exit_code != 0
    assert "cannot listen" in done.output


def test_shows_the_processes_of_an_arena_and_ends_quietly(arena: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "dashboard", "--arena", arena, "--port", "0", "--interval", "0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
            assert found
            with urllib.request.urlopen(f"{found[0]}api/state", timeout=10) as answer:
                state = json.load(answer)
            (card,) = state["cards"]
            assert (card["name"], card["state"], card["count"]) == ("payments", "OPEN", 23)
            assert (state["shared"], state["controls"]) == (True, False)
            with urllib.request.urlopen(f"{found[0]}api/integrations/{identity('payments')}", timeout=10) as answer:
                told = json.load(answer)
            (one,) = told["processes"]
            assert one["alive"]
            assert told["rules"][0] == "Opens on 3 failures in a row."
            assert (one["total"], one["errors"]) == (23, pytest.approx(3 / 23, rel=1e-3))
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=10)[1] == ""
        finally:
            process.kill()


FORKS = """
import os, threading, warnings
from failsoft import Registry, dashboard
warnings.simplefilter("ignore")
told, ready = [], threading.Event()
options = {"port": 0, "ready": lambda url: (told.append(url), ready.set())}
threading.Thread(target=dashboard.serve, args=(Registry(),), kwargs=options, daemon=True).start()
assert ready.wait(10)
if os.fork() == 0:
    os.close(1)
    os.read(0, 1)
    os._exit(0)
print(told[0], flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_does_not_keep_the_port() -> None:
    """Workers that outlive who served the dashboard would listen for ever, and never answer."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert parent.wait(10) == 0  # its child waits for our input to end
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url, timeout=5)


def test_may_be_started_before_what_it_shows(tmp_path: Path) -> None:
    from failsoft.arena import ArenaError
    from failsoft.dashboard.sampler import Sampler
    from failsoft.dashboard.source import NamedArena

    source = NamedArena(str(tmp_path / "later"))
    sampler = Sampler(source, 1.0)
    sampler.look()
    assert "waiting for the arena" in sampler.frame()["trouble"]
    with pytest.raises(ArenaError):
        source.processes()
    code = f"import failsoft; failsoft.share({str(tmp_path / 'later')!r}); failsoft.integration('db', 'database').call(int)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    sampler.look()
    assert sampler.frame()["trouble"] is None
    assert [card["name"] for card in sampler.frame()["cards"]] == ["db"]


def test_nothing_is_imported_before_it_is_wanted() -> None:
    code = "import failsoft.dashboard, failsoft.cli.commands, sys; print({'starlette', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stdout == "set()\n"
