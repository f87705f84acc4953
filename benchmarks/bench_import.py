"""What `import failsoft` adds to a fresh interpreter: milliseconds, and modules it has no business with.

Measured as a wheel lays it out, with the bytecode that an installer writes: the finder of an editable install looks for
each module in its own way, which costs by itself, and is told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from groups import Effort, Findings, Row, Study, Target

import failsoft
from failsoft import _core

UNWANTED = ("numpy", "asyncio", "hdrh")
BESIDE = ("asyncio", "tenacity", "pybreaker", "stamina", "interlock", "pyresilience")

_PROBE = """
import sys, time
if {bare}:  # what finds modules by itself is a class; what an editable install has brought is an object
    sys.meta_path = [finder for finder in sys.meta_path if isinstance(finder, type)]
before = len(sys.modules)
start = time.perf_counter()
import {module}
elapsed = time.perf_counter() - start
added = len(sys.modules) - before
import json
print(json.dumps([elapsed * 1e3, added, [name for name in {unwanted} if name in sys.modules]]))
"""


class Place:
    """Where imports are measured: a folder for bytecode, and failsoft as if installed from a wheel."""

    def __init__(self, folder: str) -> None:
        self._installed = Path(folder, "installed")
        self._bytecode = Path(folder, "bytecode")
        package = Path(failsoft.__file__).parent
        leave = shutil.ignore_patterns("__pycache__", "*.pyx", "*.pxi")
        shutil.copytree(package, self._installed / "failsoft", ignore=leave)
        if not (self._installed / "failsoft" / Path(_core.__file__).name).exists():  # of an editable install
            shutil.copy(_core.__file__, self._installed / "failsoft")

    def importing(self, module: str, *, as_it_lies: bool = False) -> tuple[float, int, list[str]]:
        """Of the import in an interpreter of its own: milliseconds, modules it added, and the unwanted ones among them.

        `as_it_lies`: failsoft from where this process has it.

        Raises:
            ImportError: the module is not there.
        """
        bare = module == "failsoft" and not as_it_lies
        probe = _PROBE.format(module=module, unwanted=UNWANTED, bare=bare)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._bytecode)}
        if bare:
            environment["PYTHONPATH"] = str(self._installed)
        child = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment)
        if child.returncode:
            raise ImportError(child.stderr.strip().rpartition("\n")[2])
        milliseconds, added, unwanted = json.loads(child.stdout)
        return milliseconds, added, unwanted


def find(effort: Effort) -> Findings:
    with TemporaryDirectory() as folder:
        return _find(effort, Place(folder))


def _find(effort: Effort, place: Place) -> Findings:
    findings = Findings()
    times: dict[str, list[float]] = {}
    for module in ("failsoft", *BESIDE):
        try:
            _, added, unwanted = place.importing(module)  # writes the bytecode, warms the disk cache
        except ImportError as error:
            findings.skipped[module] = str(error)
            continue
        times[module] = []
        if module == "failsoft":
            findings.values["of numpy, asyncio, hdrh imported"] = len(unwanted)
            findings.values["modules added"] = added
    place.importing("failsoft", as_it_lies=True)
    lying: list[float] = []
    for _ in range(effort.repetitions):
        for module, found in times.items():
            found.append(place.importing(module)[0])
        lying.append(place.importing("failsoft", as_it_lies=True)[0])
    for module, found in times.items():
        findings.values[f"import {module}"] = statistics.median(found)
    findings.values["import failsoft, as it lies here"] = statistics.median(lying)
    return findings


GROUPS = (
    Study(
        "import",
        (
            Row("import failsoft", target=Target(cap=20.0), unit="ms"),
            Row("of numpy, asyncio, hdrh imported", target=Target(cap=0.0), unit="modules"),
            Row("modules added", unit="modules"),
            Row("import failsoft, as it lies here", unit="ms"),
            *(Row(f"import {module}", unit="ms") for module in BESIDE),
        ),
        find,
    ),
)


@pytest.mark.parametrize("module", ["failsoft", *BESIDE])
def test_import(benchmark: Any, module: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    try:
        place.importing(module)
    except ImportError as error:
        pytest.skip(f"{module}: {error}")
    benchmark.extra_info["import_ms"] = benchmark.pedantic(place.importing, args=(module,), rounds=3)[0]
