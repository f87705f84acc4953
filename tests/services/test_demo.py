"""`failsoft demo` from the outside: one command, one JSON object, one exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for _extra in ("click", "rich", "websockets"):
    pytest.importorskip(_extra)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the demo freezes and kills a process by signals")

_PROMISED = {
    "ticks", "gaps", "unhandled_exceptions", "opened", "recovered", "time_to_open_s", "time_to_recover_s",
    "fallbacks", "guard_overhead_ns", "bare_ns", "p50_us", "p95_us", "p99_us", "passed",
}  # fmt: skip


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from failsoft.cli import main; main()", "demo", *arguments]


def _environment(**changes: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("FAILSOFT_")} | changes


def _servers(seed: str) -> list[int]:
    """The pids of the demo's servers that run with this seed, which a test chooses to be its own."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue  # gone since
        if b"failsoft.demo.server" in words and seed.encode() in words:
            found.append(int(cmdline.parent.name))
    return found


def _wait_until_gone(seed: str) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("looking for left-over processes needs /proc")
    deadline = time.monotonic() + 10
    while remaining := _servers(seed):
        assert time.monotonic() < deadline, f"servers {remaining} outlived the demo"
        time.sleep(0.05)


@pytest.fixture
def seed() -> str:
    return str(os.getpid() * 1_000 + time.monotonic_ns() % 1_000)


@pytest.fixture
def running(seed: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that prints plain lines, as it does for a pipe."""
    with subprocess.Popen(
        _command("--seconds", "6", "--seed", seed),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(PYTHONUNBUFFERED="1"),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    pytest.fail(f"the demo ended before it said {words!r}:\n{''.join(lines)}")


def _run_json(*arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    process = subprocess.run(
        _command("--json", *arguments),
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(**environment),
        check=False,
    )
    assert process.stdout.count("\n") == 1, process.stdout + process.stderr
    return process.returncode, json.loads(process.stdout)


def test_passes_and_prints_one_object(seed: str) -> None:
    code, result = _run_json("--seconds", "8", "--seed", seed)

    assert code == 0, result
    assert result["passed"] is True
    assert result.keys() >= _PROMISED
    assert result["failures"] == []
    assert result["opened"] == result["recovered"] == result["should_open"] == 8
    assert result["unhandled_exceptions"] == result["dropped"] == result["gaps_while_connected"] == 0
    assert result["gaps"] >= 2  # a restart is one; resets or the freeze are another
    assert result["bad_frames"] > 0
    assert result["fallbacks"] > 0
    assert result["quotes_unanswered"] == 0
    assert result["ticks"] > 20_000  # a second of it, in the worst case
    assert 0 < result["p50_us"] <= result["p95_us"] <= result["p99_us"]
    assert len(result["faults"]) == 6
    _wait_until_gone(seed)


def test_fails_when_the_guards_are_switched_off(seed: str) -> None:
    code, result = _run_json("--seconds", "6", "--seed", seed, FAILSOFT_DISABLED="1")

    assert code == 1
    assert result["passed"] is False
    assert any("did not open" in failure for failure in result["failures"])
    assert result["opened"] < result["should_open"]
    _wait_until_gone(seed)


def test_prints_schedule_and_settings_before_it_starts(running: subprocess.Popen[str]) -> None:
    announced = "".join(_read_until(running, "slow replies: "))

    for fault in (
        "slow",
        "503 with Retry-After",
        "malformed frames",
        "connection resets",
        "SIGSTOP",
        "SIGKILL",
    ):
        assert fault in announced
    assert "circuit_breaker.reset_timeout" in announced
    assert "\x1b" not in announced


def test_ctrl_c_takes_the_server_along(running: subprocess.Popen[str], seed: str) -> None:
    _read_until(running, "slow replies: ")
    assert _servers(seed) or sys.platform != "linux"

    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)

    assert running.returncode != 0
    assert "Traceback" not in errors
    _wait_until_gone(seed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a frozen child with its parent")
def test_a_killed_demo_leaves_no_frozen_server(running: subprocess.Popen[str], seed: str) -> None:
    _read_until(running, "SIGSTOP: ")
    time.sleep(0.1)
    assert _servers(seed)

    running.kill()
    running.wait()

    _wait_until_gone(seed)


@pytest.mark.parametrize("seconds", ["5.9", "nan", "1e9"])
def test_refuses_a_length_that_cannot_work(seconds: str) -> None:
    process = subprocess.run(_command("--seconds", seconds), capture_output=True, text=True, timeout=60, check=False)

    assert process.returncode == 2
    assert "between 6 and 3600 seconds" in process.stderr


@pytest.mark.parametrize("missing", ["click", "rich", "websockets"])
def test_names_the_extra_that_is_missing(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from failsoft.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code, "demo"], capture_output=True, text=True, timeout=60, check=False
    )

    assert process.returncode == 1
    assert process.stderr == f"failsoft: {missing} is not installed; run: pip install 'failsoft[demo]'\n"
