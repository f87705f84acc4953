"""`failsoft status`, `explain`, `arenas` and `top` as commands: what they print and what they end with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from failsoft import default_config
from failsoft.arena import arena_path, arenas, attach
from tests.sharing.conftest import Start, environment

pytest.importorskip("rich")
testing = pytest.importorskip("click.testing")


def run(*arguments: str, **variables: str) -> Any:
    return testing.CliRunner().invoke(_command(), arguments, env={"FAILSOFT_ARENA": None, **variables})


def _command() -> Any:
    from failsoft.cli.commands import failsoft

    return failsoft


def test_status_ends_with_what_a_probe_wants_to_know(arena: str, start: Start) -> None:
    one = start()
    assert run("status", "--arena", arena).exit_code == 0  # nothing there is nothing wrong
    one.run("g = guard('alpha'); h = guard('beta', reset=0.01); g(), h()")
    assert run("status", "--arena", arena).exit_code == 0
    one.run("fail(h, 3); import time; time.sleep(0.02); p = service('beta', reset=0.01).breaker.acquire()")
    done = run("status", "--arena", arena)
    assert done.exit_code == 1
    assert "HALF_OPEN" in done.output
    one.run("service('beta', reset=0.01).reset(); failsoft.enter_degraded_mode('alpha', 0.5)")
    done = run("status", "--arena", arena)
    assert done.exit_code == 1
    assert "50%" in done.output
    one.run("failsoft.exit_degraded_mode('alpha'); service('alpha').metrics_only()")
    assert run("status", "--arena", arena).exit_code == 1
    one.run("service('alpha').force_open()")
    done = run("status", "--arena", arena)
    assert done.exit_code == 2
    assert "\x1b" not in done.output
    assert run("status", "--arena", arena, "--integration", "alpha").exit_code == 2
    assert run("status", "--arena", arena, "--integration", "beta").exit_code == 0
    one.run("service('alpha').reset(); fail(g, 3)")
    done = run("status", "--arena", arena, "--json", "--integration", "alpha")
    said = json.loads(done.output)
    assert [done.exit_code, said["code"], said["integrations"][0]["state"]] == [2, 2, "OPEN"]
    assert said["integrations"][0]["reason"] == "consecutive_failures"


@pytest.mark.parametrize(
    "arguments", [["--arena", "no-such-arena"], ["--no-such-option"], ["a"], ["--arena", "a b"], ["--arena", ""]]
)
def test_status_that_cannot_tell_ends_with_3(arguments: list[str]) -> None:
    assert run("status", *arguments).exit_code == 3


def test_status_of_an_integration_that_is_not_there(arena: str, start: Start) -> None:
    start().run("guard('alpha')()")
    done = run("status", "--arena", arena, "--integration", "omega")
    assert done.exit_code == 3
    assert "there are: alpha" in done.output


def test_explain(arena: str, start: Start) -> None:
    start().run("g = guard('alpha'); fail(g, 3)")
    done = run("explain", "alpha", "--arena", arena)
    assert done.exit_code == 0
    assert done.output.startswith("alpha is OPEN")
    assert "CLOSED -> OPEN" in done.output
    assert run("explain", "alpha", FAILSOFT_ARENA=arena).output.startswith("alpha is OPEN")
    missing = run("explain", "x" * 1_000_000 + "\x1b", "--arena", arena)
    assert missing.exit_code == 1
    assert len(missing.output) < 200


@pytest.mark.parametrize("command", ["top", "status", "explain", "report", "dashboard", "dump"])
def test_an_arena_is_an_option_of_every_command(command: str, arena: str, start: Start, tmp_path: Path) -> None:
    """An argument by its name, as some took it once, is told, and nothing is written to a file of that name."""
    start()
    required = ["alpha"] if command == "explain" else []
    page = " ".join(run(command, "--help").output.split())
    assert (
        "--arena NAME The arena to look at; else the one that FAILSOFT_ARENA names, or the only one there is." in page
    )
    where = os.getcwd()
    os.chdir(tmp_path)
    try:
        for wrong in (arena, arena_path(arena)):
            done = run(command, *required, wrong)
            assert done.exit_code in (2, 3)
            assert "--arena" in done.output
            assert done.exception is None or isinstance(done.exception, SystemExit)
        assert not os.listdir()
    finally:
        os.chdir(where)
    assert attach(arena).processes()  # and it is what it was


@pytest.mark.parametrize(("command", "code"), [("status", 2), ("dump", 1)])
def test_nobody_has_to_read_on(command: str, code: int, arena: str, start: Start) -> None:
    """The end of a pipe that is closed (`| head`): no traceback, and a probe still says how it stands."""
    start().run("g = guard('alpha'); fail(g, 3)")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("failsoft")), command, "--arena", arena],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
            timeout=30,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(("command", "code"), [("status", 2), ("explain alpha", 0), ("top --once --interval 0", 0)])
def test_without_any_output_the_exit_code_is_right(command: str, code: int, arena: str, start: Start) -> None:
    """`>&-`, as a service may be started: a probe must not take its own fault for that of a breaker."""
    start().run("g = guard('alpha'); fail(g, 3)")
    program = f"{Path(sys.executable).with_name('failsoft')} {command} --arena {arena}"
    done = subprocess.run(
        ["sh", "-c", f"{program} >&-"], stderr=subprocess.PIPE, env=environment(), check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_name_that_an_output_has_no_letters_for_changes_no_exit_code(arena: str, start: Start) -> None:
    start().run("g = guard('日本'); fail(g, 3)")
    command = [str(Path(sys.executable).with_name("failsoft")), "status", "--arena", arena]
    done = subprocess.run(
        command, capture_output=True, env=environment(PYTHONIOENCODING="ascii"), check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"\\u65e5\\u672c" in done.stdout


def test_a_dumb_terminal_is_told_what_to_use(arena: str, start: Start) -> None:
    start()
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("failsoft")), "top", "--arena", arena],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env=environment(TERM="dumb"),
            check=False,
            timeout=30,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 2
    assert b"use --once or --json" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence(arena: str, start: Start) -> None:
    start()
    command = str(Path(sys.executable).with_name("failsoft"))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [command, "status", "--arena", arena],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (3, b"Error: standard output: No space left on device\n")


def test_an_arena_without_integrations_says_so(arena: str, start: Start) -> None:
    start()
    for options in (["status"], ["top", "--once", "--interval", "0"]):
        done = run(*options, "--arena", arena)
        assert (done.exit_code, done.output.splitlines()[-1]) == (0, "no integrations")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"failure_threshold": None, "failure_rate": 0.25, "minimum_calls": 3, "window": 7.5, "timeout": 0.125},
        {"slow_rate": 1.0, "slow_call": 0.25, "reset_growth": 2.0, "reset_max": 90.0, "reset_jitter": 0.5},
        {"latency_quantile": 0.99, "latency_limit": 0.3, "count_window": 50, "half_open_max_calls": 1},
    ],
    ids=["the least", "failure rate", "slow calls", "latency"],
)
def test_an_arena_knows_what_its_breakers_go_by(settings: dict[str, Any], arena: str, start: Start) -> None:
    chosen = {"failure_threshold": 7, "reset_timeout": 12.5, **settings}
    start().run(
        "failsoft.integration('alpha', 'external_api', circuit_breaker="
        f"{chosen!r}, retry_policy={{'max_retries': 0}}).guard(job)"
    )
    known = attach(arena)["alpha"].settings
    assert known == default_config("external_api").with_(circuit_breaker=chosen).circuit_breaker


def test_which_arena(arena: str, start: Start) -> None:
    start()
    Path(arena_path(arena + "-b")).touch()
    try:
        done = run("top", "--once")
        assert done.exit_code == 1
        assert "which arena? There are " in done.output
        assert arena in done.output
        assert run("top", "--once", "--interval", "0", FAILSOFT_ARENA=arena).exit_code == 0
    finally:
        Path(arena_path(arena + "-b")).unlink()


def test_files_that_others_leave_beside_arenas_are_none(arena: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody may write to /dev/shm, under our prefix too: no name of theirs gets to a terminal, or in the way."""
    ours = Path(arena_path(arena))
    strange = ours.with_name(f"{ours.name}-\x1b[31m")
    theirs = ours.with_name(f"{ours.name}-theirs")
    for file in (ours, strange, theirs):
        file.touch()
    if os.geteuid() == 0:
        os.chown(theirs, 1, 1)
    try:
        assert arena in arenas()
        assert not [name for name in arenas() if "\x1b" in name]
        assert os.geteuid() != 0 or f"{arena}-theirs" not in arenas()
        assert run("arenas").exit_code == 0
        monkeypatch.setattr("failsoft.arena.arenas", lambda: ("one", "two\x1b[31m"))
        done = testing.CliRunner().invoke(_command(), ["dashboard"], color=True, env={"FAILSOFT_ARENA": None})
        assert r"which arena? There are one, two\x1b[31m" in done.output
        assert "\x1b" not in done.output
    finally:
        for file in (ours, strange, theirs):
            file.unlink()


def test_arenas_lists_and_removes(arena: str, start: Start) -> None:
    one = start()
    one.run("guard('alpha')()")
    listed = run("arenas", "--json")
    assert listed.exit_code == 0, listed.output
    rows = {row["name"]: row for row in map(json.loads, listed.output.splitlines())}
    assert rows[arena]["processes"] == [one.pid]
    assert rows[arena]["integrations"] == 1
    assert 100_000 < rows[arena]["bytes"] < 10_000_000
    assert arena in run("arenas").output
    done = run("arenas", "--remove", arena)
    assert done.exit_code == 1
    assert f"alive: {one.pid}" in done.output
    one.kill(signal.SIGSTOP)  # stopped is alive
    assert run("arenas", "--remove", arena).exit_code == 1
    one.kill()
    assert run("arenas", "--remove", arena).exit_code == 0
    assert not os.path.exists(arena_path(arena))
    assert run("arenas", "--remove", arena).exit_code == 1


def test_top_once_is_a_table_without_control_characters(arena: str, start: Start) -> None:
    start().run("g = guard('alpha'); g()")
    done = run("top", "--arena", arena, "--once", "--interval", "0.01")
    assert done.exit_code == 0
    assert done.output.splitlines()[1].split()[:4] == ["alpha", "CLOSED", "100%", "0"]
    assert "\x1b" not in done.output


@pytest.mark.parametrize("interval", ["nan", "inf", "-1", "0"])
def test_intervals_that_are_none(interval: str, arena: str, start: Start) -> None:
    assert run("top", "--arena", arena, "--json", "--interval", interval).exit_code == 2


def test_top_is_no_table_where_there_is_no_terminal(arena: str, start: Start) -> None:
    start()
    done = run("top", "--arena", arena)
    assert done.exit_code == 2
    assert "--once or --json" in done.output


def test_top_json_is_an_object_a_look_with_rates_and_stopped_processes_do_not_disturb_it(
    arena: str, start: Start
) -> None:
    one, other = start(), start()
    for process in (one, other):
        process.run("g = guard('alpha'); g()")
    command = [str(Path(sys.executable).with_name("failsoft")), "top", "--arena", arena, "--json", "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as top:
        assert top.stdout is not None
        first = json.loads(top.stdout.readline())
        assert first["integrations"][0]["calls_per_second"] is None
        one.kill(signal.SIGSTOP)
        other.run("[g() for _ in range(50)]")
        looks = [json.loads(top.stdout.readline()) for _ in range(3)]
        assert max(look["integrations"][0]["calls_per_second"] for look in looks) > 100
        one.kill()
        looks = [json.loads(top.stdout.readline()) for _ in range(2)]
        assert looks[-1]["integrations"][0]["metrics"]["count"] == 52
        assert sorted(process["alive"] for process in looks[-1]["processes"]) == [False, True]
        top.send_signal(signal.SIGINT)
        assert top.wait(10) == 0
