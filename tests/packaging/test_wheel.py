"""The wheel as strangers meet it: what it holds, where it imports, what it costs, and that others can build on it.

One wheel is built in isolation for the whole session, and installed into environments made for this alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

PROJECT = Path(__file__).parents[2]
CONSUMER = Path(__file__).parent / "consumer"
# The goal is 20 ms; a shared machine may be a few times slower without anything being wrong.
IMPORT_SECONDS_MOST = 0.2
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def run(*command: str | Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout, without what the test session has set for Python."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FAILSOFT"))}
    done = subprocess.run(
        [str(part) for part in command], env=clean | environment, cwd="/", capture_output=True, text=True
    )
    if check and done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments)


def make_environment(place: Path) -> Path:
    """An empty environment; its interpreter."""
    venv.create(place, symlinks=True, with_pip=False)
    return place / "bin" / "python"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    pip("wheel", PROJECT, "--no-deps", "--wheel-dir", place)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and nothing else."""
    python = make_environment(tmp_path_factory.mktemp("bare") / "venv")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    return python


def test_holds_what_users_and_builders_need(names: list[str]) -> None:
    extensions = [name for name in names if name.endswith(".so")]
    assert len(extensions) == 1
    assert extensions[0].startswith("failsoft/_core.")
    needed = {
        "failsoft/__init__.py",
        "failsoft/__init__.pxd",
        "failsoft/_core.pyi",
        "failsoft/_core.pxd",
        "failsoft/_csrc.pxd",
        "failsoft/py.typed",
        "failsoft/export/files/grafana.json",
        "failsoft/export/files/rules.yaml",
    }
    headers = {f"failsoft/include/failsoft/{h.name}" for h in (PROJECT / "csrc/include/failsoft").glob("*.h")}
    assert len(headers) >= 9
    pages = {f"failsoft/dashboard/static/{one.name}" for one in (PROJECT / "src/failsoft/dashboard/static").iterdir()}
    assert len(pages) >= 10
    assert needed | headers | pages <= set(names)


def test_holds_no_sources_and_nothing_else(names: list[str]) -> None:
    assert not [name for name in names if name.endswith((".pyx", ".pxi", ".c", ".o", ".a", ".pyc"))]
    tops = {name.split("/")[0] for name in names}
    assert "failsoft" in tops
    assert all(top in ("failsoft", "pytest_failsoft") or top.endswith(".dist-info") for top in tops)


def test_exports_its_init_function_alone(wheel: Path, tmp_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is not here")
    with zipfile.ZipFile(wheel) as archive:
        (extension,) = (name for name in archive.namelist() if name.endswith(".so"))
        archive.extract(extension, tmp_path)
    listing = run("nm", "-D", "--defined-only", tmp_path / extension).stdout
    assert [line.split()[-1] for line in listing.splitlines()] == ["PyInit__core"]


def test_installs_and_imports_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    nowhere = {"PATH": str(tmp_path / "empty"), "CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
    assert shutil.which("cc", path=nowhere["PATH"]) is None
    installing = ("-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index", wheel)
    run(sys.executable, *installing, **nowhere)
    code = "import failsoft; h = failsoft.LatencyHistogram(); h.record(1e-3); print(h.count)"
    assert run(python, "-c", code, **nowhere).stdout.strip() == "1"


# Stand-ins, so that an import is seen where the real one is not installed.
UNWANTED = ("numpy", "hdrh", "prometheus_client", "opentelemetry")


def test_imports_neither_numpy_nor_asyncio_nor_hdrh(python: Path, tmp_path: Path) -> None:
    for name in UNWANTED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    code = "import failsoft, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(python, "-c", code, PYTHONPATH=str(tmp_path)).stdout)
    assert "failsoft._core" in loaded
    assert not {"asyncio", *UNWANTED} & set(loaded)


def test_import_time(python: Path, record_property: Callable[[str, object], None]) -> None:
    code = "import time; t = time.perf_counter(); import failsoft; print(time.perf_counter() - t)"
    least = min(float(run(python, "-c", code).stdout) for _ in range(7))
    record_property("import_ms", round(least * 1e3, 1))
    print(f"import failsoft adds {least * 1e3:.1f} ms")
    assert least < IMPORT_SECONDS_MOST


def test_console_script_says_what_it_lacks(python: Path) -> None:
    """`failsoft` without its extra must not end in a traceback."""
    done = run(python.parent / "failsoft", "--help", check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0
    assert "failsoft[demo]" in done.stderr


@pytest.mark.deep  # a compiler at work
def test_cython_modules_build_on_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    pip("--python", python, "install", wheel, "cython>=3.1", "setuptools>=77")
    shutil.copytree(CONSUMER, tmp_path / "consumer")
    pip("--python", python, "install", "--no-deps", "--no-build-isolation", tmp_path / "consumer")
    code = """
import consumer, failsoft, sys
from failsoft._core import EVENTS, Operation

breaker, latencies, operation = failsoft.CircuitBreaker(), failsoft.LatencyHistogram(window=30.0), Operation()
assert consumer.is_clear(breaker)
breaker.force_open()
assert not consumer.is_clear(breaker)
assert consumer.count_twice(latencies, 1000) == 30.0
assert latencies.count == 2 and latencies.max == 1e-6
assert consumer.middle_of(100) == 100
consumer.note_timeouts(operation, 3)
assert {name: count for name, count in zip(EVENTS, operation.events()) if count} == {"timeouts": 3}
print(getattr(sys, "_is_gil_enabled", lambda: True)())
"""
    gil = run(python, "-W", "error", "-c", code).stdout.strip()
    assert gil == str(not FREE_THREADED)


@pytest.mark.skipif(not FREE_THREADED, reason="this build has the GIL")
def test_the_gil_stays_off(python: Path) -> None:
    code = "import failsoft, sys; print(sys._is_gil_enabled())"
    assert run(python, "-W", "error", "-c", code, PYTHON_GIL="0").stdout.strip() == "False"
    clean = run(python, "-W", "error", "-c", code)  # nor does it need to be told
    assert clean.stdout.strip() == "False"


SUBINTERPRETER = """
import sys
if sys.argv[1] == "after":
    import failsoft
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    there = interpreters.create(sys.argv[2])
else:
    import _xxsubinterpreters as interpreters
    there = interpreters.create(isolated=sys.argv[2] == "isolated")
interpreters.run_string(there, '''
try:
    import failsoft
except ImportError as error:
    print("refused:", error)
else:
    print("loaded")
''')
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has no interpreters of their own GIL")
@pytest.mark.parametrize("gil", ["isolated", "legacy"])
@pytest.mark.parametrize("order", ["first", "after"])
def test_subinterpreters_are_refused(python: Path, order: str, gil: str) -> None:
    """Whether or not the main interpreter has imported it before, with a GIL of its own or a shared one."""
    said = run(python, "-c", SUBINTERPRETER, order, gil).stdout.strip()
    assert said.startswith("refused:")
    assert "interpreter" in said
