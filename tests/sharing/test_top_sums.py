"""`failsoft top --once --json` on eight processes that run is, when they stop, exactly what they say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sharing.conftest import Start, environment

CliRunner = pytest.importorskip("click.testing").CliRunner
pytest.importorskip("rich")

FIELDS = ("count", "error_count", "retries", "fallbacks", "rejected")


def top(arena: str) -> dict[str, Any]:
    """One look, without the time that a process takes to begin."""
    from failsoft.cli.commands import failsoft

    done = CliRunner().invoke(
        failsoft, ["top", "--arena", arena, "--once", "--json", "--interval", "0"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert done.output.count("\n") == 1
    found: dict[str, Any] = json.loads(done.output)
    return found


def counts(metrics: dict[str, Any]) -> list[int]:
    return [metrics[field] for field in FIELDS]


def added(parts: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*parts, strict=True)]


def by_operation(sample: dict[str, Any]) -> dict[str, Any]:
    return {f"{one['name']}.{each['name']}": each for one in sample["integrations"] for each in one["operations"]}


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_the_sums_are_exactly_what_the_processes_report(kind: str, arena: str, start: Start) -> None:
    parent = start(FAILSOFT_ARENA=arena)
    parent.run(
        f"""
        import multiprocessing
        from tests.sharing.jobs import work, work_for
        context = multiprocessing.get_context({kind!r})
        links = [context.Pipe() for _ in range(8)]
        children = [context.Process(target=work_for, args=(theirs, seed)) for seed, (_, theirs) in enumerate(links)]
        [child.start() for child in children]
        pids = [ours.recv() for ours, _ in links]
        """
    )
    live = top(arena)
    assert sum(one["alive"] for one in live["processes"]) == 9
    for operation in by_operation(live).values():  # while they run, a look agrees with itself
        assert counts(operation["metrics"]) == added([counts(part) for part in operation["processes"]])
    said = parent.run("[ours.send(True) for ours, _ in links]; answer = [ours.recv() for ours, _ in links]")
    pids = parent.run("answer = pids")
    still = top(arena)
    reported = dict(zip(pids, said, strict=True))
    check(still, reported)
    for operation in by_operation(still).values():
        its = {part["pid"]: counts(part) for part in operation["processes"] if any(counts(part))}
        name = next(name for name, each in by_operation(still).items() if each is operation)
        assert its == {pid: report[name] for pid, report in reported.items() if any(report[name])}
    parent.run("[ours.send(True) for ours, _ in links]; [child.join() for child in children]")
    gone = top(arena)
    assert [one["alive"] for one in gone["processes"]].count(True) == 1
    check(gone, reported)
    start().run("pass")  # whoever comes buries them, and nothing is lost
    check(top(arena), reported)


def check(sample: dict[str, Any], reported: dict[int, dict[str, list[int]]]) -> None:
    operations = by_operation(sample)
    assert set(operations) == {"prices.quote", "prices.book", "shut.query", "shut.raw"}
    for name, operation in operations.items():
        expected = added([report[name] for report in reported.values()])
        assert counts(operation["metrics"]) == expected
        assert added([counts(part) for part in operation["processes"]]) == expected
    total = added([counts(one["metrics"]) for one in sample["integrations"]])
    assert total == added([added(list(report.values())) for report in reported.values()])
    assert all(number > 0 for number in total)


def test_the_command_takes_no_part_in_what_it_looks_at(arena: str, start: Start) -> None:
    one = start()
    one.run("g = guard(); g()")
    command = [str(Path(sys.executable).with_name("failsoft")), "top", "--once", "--json", "--interval", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(FAILSOFT_ARENA=arena))
    sample = json.loads(done.stdout)
    assert [process["pid"] for process in sample["processes"]] == [one.pid]
    assert os.getpid() != one.pid
