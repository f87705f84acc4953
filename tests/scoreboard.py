"""Run the proof and write what it found: `python tests/scoreboard.py` writes docs/reliability.md.

It runs `pytest --deep` and the C tests, deep ones included, on the code as it lies here: an hour or less. `--deep ROOM...` lets
only these folders of tests run deep (tests/c: the C tests), `--quick` none. `--also FILE` takes the figures that other commands
have printed into it: tests/mutants.py, tests/c/mutants.py, tests/sanitized.py. Each promise of tests/promises.py gets the
figures that its tests reported, or how many of them passed; what failed, what was skipped and what is not covered is said as
loudly.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.promises import ROOMS, Promise  # noqa: E402  # it is beside this script

PAGE = ROOT / "docs" / "reliability.md"


@dataclass(slots=True)
class Found:
    """What the runs gave: how each test ended, by its id, and the figures, by the sentence they stand under."""

    ends: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, str, str, str]] = field(default_factory=list)  # sentence, figure, value, over

    def of(self, promise: Promise) -> tuple[Counter[str], list[tuple[str, str, str, str]]]:
        ended = Counter(
            end
            for test, end in self.ends.items()
            if any(test.startswith(prefix) for prefix in map(_prefix, promise.by))
        )
        return ended, [each for each in self.figures if each[0].startswith(promise.figures or ("\0",))]


def _prefix(name: str) -> str:
    return name if "::" in name or name.endswith(".py") or name.startswith("c:") else name + "/"


def run_python(found: Found, work: Path, *arguments: str) -> None:
    scores, report = work / "scores", work / "junit.xml"
    scores.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    options = ["-o", "junit_family=xunit1", *arguments]
    subprocess.run([*command, *options], cwd=ROOT, env={**os.environ, "FAILSOFT_SCORES": str(scores)}, check=False)
    for case in ElementTree.parse(report).iter("testcase"):
        name, room = case.get("name", ""), case.get("file", "")
        parts = case.get("classname", "").split(".")
        inner = parts[len(Path(room).with_suffix("").parts) :] if room else []
        ends = {child.tag for child in case} & {"failure", "error", "skipped"}
        found.ends["::".join([room, *inner, name])] = ends.pop() if ends else "passed"
    for line in scores.read_text().splitlines() if scores.exists() else ():
        each = json.loads(line)
        found.figures.append((each["promise"], each["figure"], str(each["value"]), each["over"]))


def run_c(found: Found, deep: bool, work: Path) -> None:
    build = work / "c"
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-DFAILSOFT_C_TESTS=ON",
                 f"-DFAILSOFT_DEEP_TESTS={'ON' if deep else 'OFF'}", "-DCMAKE_BUILD_TYPE=Release"]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(build)]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["ctest", "--test-dir", str(build), "-V"], capture_output=True, text=True, check=False)
    for name, end in re.findall(r"Test +#\d+: (\S+) \.+ *(Passed|\*\*\*\S+)", done.stdout):
        found.ends[f"c:{name}"] = "passed" if end == "Passed" else "failure"
    take_printed(found, done.stdout)


def take_printed(found: Found, text: str) -> None:
    for sentence, figure, value, over in re.findall(r"score: (.*?) \| (.*?) \| (.*?) \| (.*)", text):
        found.figures.append((sentence, figure, value, over))


def _said(figures: list[tuple[str, str, str, str]]) -> list[str]:
    return list(
        dict.fromkeys(f"{figure}: {value}" + (f" ({over})" if over else "") for _, figure, value, over in figures)
    )


def words(promise: Promise, found: Found) -> tuple[str, str]:
    """Of a promise: does it hold, and by what figures."""
    ended, figures = found.of(promise)
    if promise.elsewhere and figures:
        holds = all(value == "0" for _, _, value, _ in figures)
        return "holds" if holds else "**broken**", "; ".join(_said(figures))
    bad = ended["failure"] + ended["error"]
    if bad:
        return "**broken**", f"{bad} of {sum(ended.values())} tests failed"
    if not ended["passed"]:
        return "**not covered**", promise.missing or "its tests did not run here"
    skipped = f", {ended['skipped']} skipped" if ended["skipped"] else ""
    return "holds", "; ".join([*_said(figures), f"{ended['passed']} tests{skipped}"])


def page(found: Found, deep: str) -> str:
    lines = [
        "# Reliability",
        "",
        "What failsoft promises, and what the last run of the proof found. Written by `python tests/scoreboard.py`"
        f" ({deep}), on {platform.python_implementation()} {platform.python_version()}, {sys.platform}; the promises"
        " are in `tests/promises.py`. Those in italics would not stop a release.",
        "",
    ]
    for room, promises in ROOMS.items():
        lines += [f"## {room}", "", "| promise | | figures |", "| --- | --- | --- |"]
        for promise in promises:
            holds, figures = words(promise, found)
            sentence = promise.sentence if promise.must else f"*{promise.sentence}*"
            lines.append(f"| {sentence} | {holds} | {figures.replace('|', '/')} |")
        lines.append("")
    ends = Counter(found.ends.values())
    lines += [
        f"{ends['passed']} tests passed, {ends['failure'] + ends['error']} failed, {ends['skipped']} were skipped.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run nothing deep")
    parser.add_argument("--deep", nargs="+", metavar="ROOM", help="folders of tests to run deep, instead of all")
    parser.add_argument(
        "--also", nargs="+", type=Path, default=[], metavar="FILE", help="what other commands have printed"
    )
    options = parser.parse_args()
    found = Found()
    for file in options.also:
        take_printed(found, file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work:
        run_c(found, "tests/c" in options.deep if options.deep else not options.quick, Path(work))
        rooms = [room for room in options.deep or () if room != "tests/c"]
        if options.deep:
            run_python(found, Path(work), *(f"--ignore={room}" for room in rooms))
            if rooms:
                run_python(found, Path(work), "--deep", *rooms)
        else:
            run_python(found, Path(work), *([] if options.quick else ["--deep"]))
    deep = "quick" if options.quick else f"deep: {', '.join(options.deep)}" if options.deep else "deep"
    text = page(found, deep)
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 1 if "**broken**" in text else 0


if __name__ == "__main__":
    sys.exit(main())
