"""What `import failsoft` adds to a fresh interpreter: milliseconds, and modules it has no business with."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

import pytest
from groups import Effort, Findings, Row, Study, Target

UNWANTED = ("numpy", "asyncio", "hdrh")
BESIDE = ("asyncio", "tenacity", "pybreaker", "stamina", "interlock", "pyresilience")

_PROBE = """
import sys, time
before = len(sys.modules)
start = time.perf_counter()
import {module}
elapsed = time.perf_counter() - start
added = len(sys.modules) - before
import json
print(json.dumps([elapsed * 1e3, added, [name for name in {unwanted} if name in sys.modules]]))
"""


def importing(module: str) -> tuple[float, int, list[str]]:
    """Of the import in an interpreter of its own: milliseconds, modules it added, and the unwanted ones among them.

    Raises:
        ImportError: the module is not there.
    """
    probe = _PROBE.format(module=module, unwanted=UNWANTED)
    child = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    if child.returncode:
        raise ImportError(child.stderr.strip().rpartition("\n")[2])
    milliseconds, added, unwanted = json.loads(child.stdout)
    return milliseconds, added, unwanted


def find(effort: Effort) -> Findings:
    findings = Findings()
    times: dict[str, list[float]] = {}
    for module in ("failsoft", *BESIDE):
        try:
            _, added, unwanted = importing(module)  # writes the bytecode, warms the disk cache
        except ImportError as error:
            findings.skipped[module] = str(error)
            continue
        times[module] = []
        if module == "failsoft":
            findings.values["of numpy, asyncio, hdrh imported"] = len(unwanted)
            findings.values["modules added"] = added
    for _ in range(effort.repetitions):
        for module, found in times.items():
            found.append(importing(module)[0])
    for module, found in times.items():
        findings.values[f"import {module}"] = statistics.median(found)
    return findings


GROUPS = (
    Study(
        "import",
        (
            Row("import failsoft", target=Target(cap=20.0), unit="ms"),
            Row("of numpy, asyncio, hdrh imported", target=Target(cap=0.0), unit="modules"),
            Row("modules added", unit="modules"),
            *(Row(f"import {module}", unit="ms") for module in BESIDE),
        ),
        find,
    ),
)


@pytest.mark.parametrize("module", ["failsoft", *BESIDE])
def test_import(benchmark: Any, module: str) -> None:
    try:
        importing(module)
    except ImportError as error:
        pytest.skip(f"{module}: {error}")
    benchmark.extra_info["import_ms"] = benchmark.pedantic(importing, args=(module,), rounds=3)[0]
