"""What sharing costs a call: a process that shares an arena, and one in a fleet besides, beside one that does neither.

A process that shares has all its words in the file, so the two cannot be timed in one process. Two workers take turns
instead, each for a round of calls when it is told to, and the rounds are compared in pairs.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from groups import Effort, Findings, Row, Study, Target

CALLS = 20_000  # a round: a millisecond or two

_WORKER = """
import sys, time
from itertools import repeat
import failsoft
from armed import armed, armed_integration, identity
from failsoft import Registry

registry = Registry()
if sys.argv[1]:
    failsoft.share(sys.argv[1], registry=registry)
if sys.argv[3]:
    failsoft.fleet(sys.argv[3], registry=registry, interval=0.1)
guard = armed(identity, integration=armed_integration(registry=registry))
calls = int(sys.argv[2])
for line in sys.stdin:
    start = time.perf_counter_ns()
    for one in repeat(1, calls):
        guard(one)
    print((time.perf_counter_ns() - start) / calls, flush=True)
"""


class Worker:
    """A process that times a round of guarded calls when asked."""

    def __init__(self, arena: str, store: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, arena, str(CALLS), store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        )

    def round(self) -> float:
        """Nanoseconds a call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate()


def _folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where arenas lie


def find(effort: Effort) -> Findings:
    findings = Findings()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_folder()))
        workers = {"private": Worker(""), "shared": Worker(f"{folder}/arena"), "another": Worker(f"{folder}/arena")}
        try:
            from failsoft.testing.servers import Valkey

            store = stack.enter_context(Valkey())
            workers["in a fleet"] = Worker(f"{folder}/fleet", f"redis://127.0.0.1:{store.port}")
        except Exception as error:  # no store here
            findings.skipped["in a fleet"] = str(error)
        for worker in workers.values():
            worker.round()
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(effort.rounds):
            for name, worker in workers.items():
                times[name].append(worker.round())
        for worker in workers.values():
            worker.end()
    findings.nanoseconds = {name: statistics.median(found) for name, found in times.items()}
    pairs = zip(times["shared"], times["private"], strict=True)
    findings.values["shared / private"] = statistics.median(ours / base for ours, base in pairs)
    findings.values["least of shared / least of private"] = min(times["shared"]) / min(times["private"])
    if "in a fleet" in times:
        pairs = zip(times["in a fleet"], times["shared"], strict=True)
        findings.values["in a fleet / shared"] = statistics.median(ours / base for ours, base in pairs)
    return findings


GROUPS = (
    Study(
        "shared arena",
        (
            Row("shared", "private", target=Target(cap=1.1)),
            Row("least of shared / least of private", target=Target(cap=1.1)),
            Row("in a fleet", "shared", target=Target(cap=1.05)),
        ),
        find,
    ),
)


def test_a_shared_call(benchmark: Any) -> None:
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        worker = Worker(f"{folder}/arena")
        if worker.process.poll() is not None:
            pytest.skip("no arena here")
        benchmark.extra_info["ns"] = benchmark.pedantic(worker.round, rounds=5)
        worker.end()
