"""Measure everything and print one table of ratios.

    python benchmarks/report.py [--quick] [--processes N] [--group TEXT]
                                [--json FILE] [--markdown FILE] [--plot FILE]

Each group is measured by a fresh process, each process takes its turn, and a figure is the median over
processes of the medians found inside each. Layout of code and heap alone moves one process by a tenth or two:
read the spread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from drawing import svg
from groups import Effort, Findings, Group
from tables import Line, lines, markdown, plain

from failsoft import _core

SUITES = (
    "bench_call",
    "bench_await",
    "bench_streams",
    "bench_export",
    "bench_configured",
    "bench_deadlines",
    "bench_histogram",
    "bench_accuracy",
    "bench_backoff",
    "bench_peers",
    "bench_threads",
    "bench_shared",
    "bench_tail",
    "bench_memory",
    "bench_import",
)
FULL, QUICK = Effort(rounds=101, repetitions=7), Effort(rounds=11, repetitions=3)
PROCESSES, QUICK_PROCESSES = 7, 1


def groups(wanted: str = "") -> dict[str, Group]:
    """All groups whose name contains the text, by name, in the order of the report."""
    found: dict[str, Group] = {}
    for suite in SUITES:
        every = importlib.import_module(suite).GROUPS
        found |= {group.name: group for group in every if wanted in group.name}
    return found


def measure_here(name: str, effort: Effort) -> None:
    """What a child process does: one group, once, as JSON on its standard output."""
    warnings.simplefilter("ignore")  # peers' own deprecations are no finding
    json.dump(asdict(groups()[name].measure(effort)), sys.stdout)


def measure_there(group: Group, quick: bool) -> Findings:
    """Have a fresh process measure the group.

    Raises:
        RuntimeError: the child failed; the message is what it said last.
    """
    command = [sys.executable, __file__, "--child", group.name, *(["--quick"] if quick else [])]
    child = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **group.environment})
    if child.returncode:
        raise RuntimeError(f"group {group.name!r} failed:\n{child.stderr.strip()}")
    return Findings(**json.loads(child.stdout))


def measure_all(chosen: Sequence[Group], processes: int, quick: bool) -> Iterator[tuple[Group, Findings]]:
    for process in range(processes):
        for group in chosen:
            started = time.monotonic()
            yield group, measure_there(group, quick)
            took = time.monotonic() - started
            print(f"process {process + 1}/{processes}: {group.name}, {took:.1f} s", file=sys.stderr)


def conditions(processes: int, quick: bool) -> dict[str, object]:
    effort = QUICK if quick else FULL
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "GIL": "on" if gil else "off",
        "clock source": _core.clock_source(),
        "build": ", ".join(f"{name} {value}" for name, value in _core.build_info().items()),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "method": f"{processes} processes a group, {effort.rounds} interleaved rounds each; medians",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_json(path: Path, facts: dict[str, object], table: Sequence[Line], skipped: dict[str, str]) -> None:
    whole = {"conditions": facts, "rows": [line.as_dict() for line in table], "skipped": skipped}
    path.write_text(json.dumps(whole, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure failsoft and print one table of ratios.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few rounds, one process")
    parser.add_argument("--processes", type=int, help=f"fresh processes a group (default {PROCESSES})")
    parser.add_argument("--group", default="", metavar="TEXT", help="only groups whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG of the ratios")
    parser.add_argument("--child", metavar="GROUP", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.child:
        measure_here(options.child, QUICK if options.quick else FULL)
        return
    processes = options.processes or (QUICK_PROCESSES if options.quick else PROCESSES)
    chosen = groups(options.group)
    facts = conditions(processes, options.quick)
    findings: dict[str, list[Findings]] = {name: [] for name in chosen}
    for group, found in measure_all(list(chosen.values()), processes, options.quick):
        findings[group.name].append(found)
    table = [line for name, group in chosen.items() for line in lines(group, findings[name])]
    skipped = {name: why for found in findings.values() for one in found for name, why in one.skipped.items()}
    for name, value in facts.items():
        print(f"{name}: {value}")
    print("\n" + plain(table))
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    if options.json:
        write_json(options.json, facts, table, skipped)
    if options.markdown:
        options.markdown.write_text(markdown(facts, table, skipped))
    if options.plot:
        options.plot.write_text(svg(table, f"failsoft on Python {facts['python']}, clock {facts['clock source']}"))


if __name__ == "__main__":
    main()
