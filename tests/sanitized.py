"""Watch the compiled module at work under the compiler's sanitizers: `python tests/sanitized.py addresses`, or `threads`.

    python tests/sanitized.py addresses                                    # this interpreter, with what it has installed
    python tests/sanitized.py threads --python /opt/python3.13t-tsan/bin/python3.13t

Builds the module with them into a throw-away environment, runs the tests that fit (or those named after it; all other words
are pytest's), prints each report and how many there were, and fails for any. Needs gcc, and the `test` extra; what builds is
installed into the throw-away environment.

`addresses` is AddressSanitizer and UndefinedBehaviorSanitizer. `threads` is ThreadSanitizer, and wants a free-threaded CPython that
is built with it, or it would see but half of what orders threads. From the interpreter's source, of 3.13 or later:

    ./configure --disable-gil --with-thread-sanitizer --prefix=/opt/python3.13t-tsan
    export TSAN_OPTIONS=report_bugs=0            # of the build itself
    make -j2 && make install ENSUREPIP=no

tests/sanitized_threads.txt says what is known of the interpreter's own races, and why. Fences are not seen by this sanitizer: what they order
is atomic, and searched by tests/c/explorer.h. For the core alone, without Python: cmake with -DFAILSOFT_C_TESTS=ON and
-DFAILSOFT_SANITIZE=ON or thread.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TESTS = {
    "addresses": ["tests/unit", "tests/conformance", "tests/anomalies", "tests/concurrency"],
    "threads": [
        "tests/concurrency",
        "tests/sharing/test_threads.py",
        *(f"tests/conformance/test_{name}.py" for name in (
            "bulkhead", "circuit_breaker", "guard_async", "guard_sync", "keys", "last_known", "rate_limit", "reconfigure",
            "streams", "throttle",
        )),
    ],
}  # fmt: skip

BUILDERS = ["cmake>=3.21", "ninja", "cython>=3.1", "cython-cmake>=0.2"]
# No module of C among them, which would not be watched, and whose ways with threads would not be ours to mend.
TESTERS = ["hypothesis>=6.100,<6.150", "prometheus-client>=0.21", "pytest>=8.0", "pytest-xdist>=3.5", "trio>=0.26"]

OPTIONS = {
    "addresses": "allocator_may_return_null=1:detect_leaks=0",  # CPython leaks its own at the end
    "threads": f"die_after_fork=0:suppressions={ROOT / 'tests/sanitized_threads.txt'}",
}
FIRST_LINE = re.compile(
    r"WARNING: ThreadSanitizer|ERROR: AddressSanitizer|AddressSanitizer:DEADLYSIGNAL|runtime error:"
)
SUMMARY = re.compile(r"^SUMMARY: (.*)$", re.MULTILINE)
SHOWN = 5
"""Reports shown in full; of the others, what they come to."""


def build(kind: str, python: str, room: Path) -> Path:
    """An environment with a watched failsoft. Where its interpreter is."""
    tools, env = room / "tools", room / "env"
    wanted = BUILDERS + (TESTERS if kind == "threads" else [])
    run(sys.executable, "-m", "venv", tools)
    run(tools / "bin/python", "-m", "pip", "install", "-q", *wanted)
    in_tools = Path(packages_of(tools / "bin/python"))
    others = [in_tools] if kind == "threads" else [Path(path) for path in sys.path if path.endswith("-packages")]
    watched = {**os.environ, "TSAN_OPTIONS": "report_bugs=0"}
    run(python, "-m", "venv", "--without-pip", env, env=watched)
    packages = Path(packages_of(env / "bin/python", watched))
    # Plain paths: no finder of an editable installation comes along.
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    run(
        tools / "bin/cmake", "-S", ROOT, "-B", room / "build", "-G", "Ninja",
        f"-DFAILSOFT_SANITIZE={'thread' if kind == 'threads' else 'ON'}", "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        f"-DCMAKE_MAKE_PROGRAM={tools / 'bin/ninja'}", f"-DCMAKE_MODULE_PATH={in_tools / 'cython_cmake/cmake'}",
        f"-DCYTHON_EXECUTABLE={tools / 'bin/cython'}", f"-DPython_EXECUTABLE={env / 'bin/python'}",
        env=watched,
    )  # fmt: skip
    run(tools / "bin/cmake", "--build", room / "build", env=watched)
    for package in ("failsoft", "pytest_failsoft"):
        shutil.copytree(
            ROOT / "src" / package, packages / package, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    for module in (room / "build").glob("_core*.so"):
        shutil.copy(module, packages / "failsoft")
    return env / "bin/python"


def run(*command: object, env: dict[str, str] | None = None) -> None:
    """Do it quietly; where it fails, say why and end."""
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-5000:], done.stderr[-5000:], sep="\n")
        raise SystemExit(f"{' '.join(str(word) for word in command[:4])} ... failed")


def packages_of(python: Path, env: dict[str, str] | None = None) -> str:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", ask], env=env, capture_output=True, text=True, check=True).stdout.strip()


def preloaded() -> str:
    """What has to be in a process from its beginning, where the interpreter is not built for it."""
    names = ("libasan.so", "libubsan.so", "libstdc++.so.6")  # the last one for the exceptions of others' modules
    found = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in names
    ]
    return " ".join(path for one in found if os.path.isabs(path := one.stdout.strip()))


def environment(kind: str, reports: Path) -> dict[str, str]:
    options = f"{OPTIONS[kind]}:log_path={reports / 'report'}"
    if kind == "threads":
        return {**os.environ, "TSAN_OPTIONS": options, "FAILSOFT_STORM": os.environ.get("FAILSOFT_STORM", "20")}
    return {
        **os.environ,
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports / 'report'}",
        "LD_PRELOAD": preloaded(),
        "PYTHONMALLOC": "malloc",  # each object is a block of its own then, with its bounds
    }


def reports_of(folder: Path) -> list[str]:
    found: list[str] = []
    for file in sorted(folder.iterdir()):
        text = file.read_text(errors="replace")
        starts = [match.start() for match in FIRST_LINE.finditer(text)]
        found += [text[at:end] for at, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return found


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("kind", choices=list(TESTS))
    asked.add_argument("--python", default=sys.executable, help="for threads, the interpreter built for them")
    args, rest = asked.parse_known_args()
    if (
        args.kind == "threads"
        and args.python == sys.executable
        and "-fsanitize=thread" not in (sysconfig.get_config_var("CFLAGS") or "")
    ):
        asked.error("threads needs an interpreter built with --with-thread-sanitizer: see the head of this file")
    named = [word for word in rest if word.startswith("tests")]
    tests = named or TESTS[args.kind]
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        python = build(args.kind, args.python, room)
        folder = room / "reports"
        folder.mkdir()
        options = ["-q", "-n0", "-p", "no:cacheprovider", *(word for word in rest if word not in named)]
        done = subprocess.run(
            [python, "-m", "pytest", *options, *tests], cwd=ROOT, env=environment(args.kind, folder), check=False
        )
        reports = reports_of(folder)
    for report in reports[:SHOWN]:
        print(report)
    told = Counter(match[1] for report in reports for match in SUMMARY.finditer(report))
    for summary, times in told.most_common():
        print(f"{times:5} {summary}")
    print(f"score: the sanitizers of {args.kind} have nothing to report | reports | {len(reports)} | {' '.join(tests)}")
    print(f"pytest: {done.returncode}")
    return 1 if reports or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
