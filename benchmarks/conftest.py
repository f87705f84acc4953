"""`pytest benchmarks`: the suites beside this file under pytest-benchmark, one after the other in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

sys.path.insert(0, str(HERE))  # the suites import their tools by name, as they do under report.py


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The project's two processes are for its tests: pytest-benchmark measures nothing where there are several.

    And one table a suite, unless told otherwise: over all of them, ratios to the fastest say nothing.
    """
    asked = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    if not all(path.is_relative_to(HERE) for path in asked):
        return
    config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []
    if not any(str(arg).startswith("--benchmark-group-by") for arg in config.invocation_params.args):
        config.option.benchmark_group_by = "fullfunc"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A suite is called `bench_*.py`. One that is asked for by its name is collected without this."""
    if not file_path.match("bench_*.py") or parent.session.isinitpath(file_path):
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=file_path)
    return module
