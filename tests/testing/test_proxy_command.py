"""`failsoft chaos proxy` and `failsoft chaos run`, as processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("click")

from click.testing import CliRunner

from failsoft.cli.commands import failsoft


def test_it_stands_between_until_it_is_told_to_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        arguments = ["chaos", "proxy", "--to", f"127.0.0.1:{port}", "--latency", "0.1"]
        process = subprocess.Popen(
            [sys.executable, "-c", "from failsoft.cli import main; main()", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            where = process.stdout.readline()
            assert where.startswith("listening on 127.0.0.1:"), where
            listening = int(where.split(",")[0].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", listening), timeout=10.0) as client:
                server, _ = target.accept()
                with server:
                    began = time.monotonic()
                    server.sendall(b"x")
                    assert client.recv(1) == b"x"
                    assert time.monotonic() - began >= 0.09
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
            assert rest.split("\n")[-2] == "1 connection"
            assert process.returncode == 0
        finally:
            process.kill()
            process.communicate()


def test_it_ends_by_itself() -> None:
    told = CliRunner().invoke(failsoft, ["chaos", "proxy", "--to", "9", "--seconds", "0.01", "--listen", ":0"])
    assert told.exit_code == 2  # no port to listen on
    told = CliRunner().invoke(failsoft, ["chaos", "proxy", "--to", "9", "--seconds", "0.01"])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("listening on 127.0.0.1:")
    assert "to 127.0.0.1:9" in told.output
    assert told.output.endswith("0 connections\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "nowhere"], "an address must be"),
        (["--to", "9", "--latency", "-1"], "latency must be a number of seconds"),
        (["--to", "9", "--slice", "0"], "slice must be an integer of bytes from 1"),
        (["--to", "9", "--seconds", "-1"], "must be 0 or more"),
        ([], "Missing option '--to'"),
    ],
)
def test_what_it_cannot_be_told(options: list[str], words: str) -> None:
    told = CliRunner().invoke(failsoft, ["chaos", "proxy", *options])
    assert told.exit_code == 2
    assert words in told.output


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = CliRunner().invoke(failsoft, ["chaos", "proxy", "--to", "9", "--listen", str(port)])
    assert told.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in told.output


PROGRAM = """
import sys, failsoft

registry = failsoft.Registry()
registry.configure(failsoft.load_config())
ask = registry.integration("quotes_of_a", "market_data").guard(int, retry=False)
failed = 0
for _ in range(20):
    try:
        ask()
    except Exception as error:
        failed += failsoft.classify_error(error) == "TIMEOUT"
sys.exit(failed)
"""


@pytest.mark.parametrize(("options", "failed"), [(["--rate", "1"], 20), (["--rate", "0"], 0), (["--rate", "0.5", "--seed", "7"], 11)])  # fmt: skip
def test_a_program_is_run_with_chaos_in_it(
    monkeypatch: pytest.MonkeyPatch, options: list[str], failed: int, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAILSOFT_QUOTES_OF_A__TYPE", "market_data")
    monkeypatch.setenv("FAILSOFT_QUOTES_OF_A__CIRCUIT_BREAKER__FAILURE_THRESHOLD", "1000")
    monkeypatch.chdir(tmp_path)
    arguments = ["chaos", "run", "--error", "TIMEOUT", *options, "quotes of a", sys.executable, "-c", PROGRAM]
    assert CliRunner().invoke(failsoft, arguments).exit_code == failed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0.5", "a", "b"], "nothing would befall"),
        (["--error", "TIMEOUT", "--rate", "2", "a", "b"], "chaos.rate must be a number from 0 to 1"),
        (["--latency", "soon", "a", "b"], "--latency"),
        (["--latency", "1ms", "a", "/nowhere/nothing"], "cannot run"),
        (["--latency", "1ms", "a", "--rate", "0.5", "b"], "options come before NAME"),
        (["--latency", "1ms", "a", "--"], "options come before NAME"),
        (["--latancy", "1ms", "a", "b"], "No such option"),
        (["--latency", "1ms", "-?-", "b"], "No such option"),
        (["--latency", "1ms", "?", "b"], "no variable"),
    ],
)
def test_what_cannot_be_run_is_said(arguments: list[str], said: str) -> None:
    told = CliRunner().invoke(failsoft, ["chaos", "run", *arguments])
    assert told.exit_code in (1, 2)
    assert said in told.output


def test_it_ends_as_the_program_does() -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    arguments = ["chaos", "run", "--latency", "1ms", "a", "--", sys.executable, "-c", killed]
    assert CliRunner().invoke(failsoft, arguments).exit_code == 128 + signal.SIGTERM
