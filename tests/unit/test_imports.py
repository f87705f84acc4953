"""What `import failsoft` loads, and that what it does not is there all the same."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import failsoft

LATER = (
    "alerts", "arena", "attempts", "batches", "budgets", "chaos_plans", "config_files", "config_values",
    "config_variables", "decisions", "dedupe", "enforcement", "export", "fallback_sets", "fleets", "handlers", "health",
    "hedges", "memory", "portable", "queues", "report", "sharing", "simulated", "streams", "testing", "version", "wire",
)  # fmt: skip


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_rooms_that_few_need_are_loaded_when_one_is_asked_for() -> None:
    loaded = run("import sys, failsoft; print(*sys.modules)").split()
    assert not {f"failsoft.{room}" for room in LATER} & set(loaded)


def test_every_name_is_there_and_listed() -> None:
    code = (
        "import failsoft; listed = dir(failsoft)\n"
        "assert not set(failsoft.__all__) - set(listed)\n"
        "from failsoft import *\n"
        "assert not [name for name in failsoft.__all__ if globals()[name] is not getattr(failsoft, name)]\n"
        "print(len(listed) == len(set(listed)), len(failsoft.__all__) == len(set(failsoft.__all__)))"
    )
    assert run(code).split() == ["True", "True"]


def test_the_version_is_that_of_the_distribution() -> None:
    assert failsoft.__version__ == metadata.version("failsoft")


@pytest.mark.parametrize("room", ["alerts", "export", "health", "report", "streams", "wire", "fallback_sets"])
def test_such_a_room_is_an_attribute_too(room: str) -> None:
    assert run(f"import failsoft; print(failsoft.{room}.__name__)") == f"failsoft.{room}\n"


def test_what_is_not_there_is_told_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'failsoft' has no attribute 'integrations_'"):
        failsoft.integrations_  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'failsoft'"):
        from failsoft import nothing  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("room", ["files", "hdr", "opentelemetry", "prometheus"])
def test_an_exporter_is_imported_when_it_is_asked_for(room: str) -> None:
    code = "import sys, failsoft; failsoft.export; before = {*sys.modules}; failsoft.export.%s; print(*({*sys.modules} - before))"
    loaded = run(code % room).split()
    assert f"failsoft.export.{room}" in loaded
    assert not {"prometheus_client", "opentelemetry", "hdrh", "numpy", "asyncio", "logging"} & set(loaded)


def test_the_clock_has_been_chosen_when_the_import_is_over() -> None:
    """Later its source must not change under stamps that are kept."""
    code = (
        "import failsoft; from failsoft import _core\n"
        "chosen = _core.clock_source(); _core.settle_clock(); print(chosen == _core.clock_source())"
    )
    assert run(code) == "True\n"
