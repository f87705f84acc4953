"""`pytest benchmarks` does what benchmarks/README.md says: it finds the suites, and measures in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(find_spec("pytest_benchmark") is None, reason="pytest-benchmark is not installed")
def test_suites_are_found_and_measured_one_table_each() -> None:
    asked = "benchmarks --ignore-glob=*/bench_[c-z]* -k backoff --benchmark-only -p no:cacheprovider"
    command = [sys.executable, "-m", "pytest", *asked.split()]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "benchmark 'benchmarks/bench_backoff.py::test_backoff': 3 tests" in done.stdout
