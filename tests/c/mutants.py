"""Mutation testing of the C core: change one thing in a source, build, and see whether a test notices.

    python tests/c/mutants.py                    # a sample that is the same each time
    python tests/c/mutants.py --all              # every mutant
    python tests/c/mutants.py --file breaker.c --kind order --all

A mutant that no test kills is a survivor: it is printed with its place. Those listed in mutants_equivalent.txt change
nothing that anybody can see, and are told apart. The tests run from the fastest on, the explorers last, each with a timeout
(a mutant that hangs is killed too).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CORE = ["arena.c", "backoff.c", "breaker.c", "clock.c", "histogram.c", "recorder.c", "rng.c", "window.c"]
SEED = 20260101

BREAKER = ["breaker_table", "breaker_rules", "breaker", "breaker_capacity", "breaker_walk", "breaker_calls"]
TESTS = {  # source: tests, and explorers with what they need besides
    "breaker.c": [*BREAKER, "breaker_threads", "breaker_explored"],
    "window.c": ["window", "histogram", "breaker_rules", "window_explored"],
    "recorder.c": ["recorder", "recorder_explored"],
    "histogram.c": ["histogram", "breaker_rules", "breaker_capacity", "histogram_threads"],
    "backoff.c": ["backoff"],
    "backoff.h": ["backoff"],
    "degraded.h": ["degraded", "breaker_capacity", "breaker_walk"],
    "wheel.h": ["wheel"],
    "histogram.h": ["histogram", "window", "breaker_rules", "histogram_threads"],
    "recorder.h": ["recorder"],
}
EXPLORED = {
    "breaker_explored": ["arena.c", "clock.c", "histogram.c", "recorder.c", "rng.c", "window.c"],
    "window_explored": ["clock.c", "arena.c"],
    "recorder_explored": ["arena.c", "clock.c"],
}
MANY = {"histogram_threads"}  # built for many writers

# Not atomic any more: a read and a write that others come between.
TORN = """
#define fs_cas_torn(p, e, d) \\
    (fs_load_acquire(p) == *(e) ? (fs_store_release((p), (d)), true) : ((void)(*(e) = fs_load_acquire(p)), false))
#define fs_add_torn(p, v) __extension__({ __typeof__(*(p) + 0) was_ = (__typeof__(*(p) + 0))fs_load_relaxed(p); \\
    fs_store_relaxed((p), (__typeof__(*(p)))(was_ + (v))); was_; })
#define fs_or_torn(p, v) fs_store_release((p), fs_load_relaxed(p) | (v))
#define fs_and_torn(p, v) fs_store_relaxed((p), fs_load_relaxed(p) & (v))
"""

CHANGES: list[tuple[str, str, str]] = [  # kind, pattern, replacement
    ("operator", r"==", "!="),
    ("operator", r"!=", "=="),
    ("operator", r"(?<![<-])<(?![<=])(?=[ ])", "<="),
    ("operator", r"(?<![>-])>(?![>=])(?=[ ])", ">="),
    ("operator", r"<=", "<"),
    ("operator", r"(?<!>)>=", ">"),
    ("operator", r"&&", "||"),
    ("operator", r"\|\|", "&&"),
    ("operator", r"(?<=[\w)]) \+ (?=[\w(])", " - "),
    ("operator", r"(?<=[\w)]) - (?=[\w(])", " + "),
    ("operator", r"(?<=[\w)\]]) \* (?=[\w(])", " / "),
    ("operator", r"(?<=[\w)]) % (?=[\w(])", " / "),
    ("operator", r"(?<=[\w)]) << (?=[\w(])", " >> "),
    ("operator", r"(?<=[\w)]) >> (?=[\w(])", " << "),
    ("operator", r"(?<=[\w)]) & (?=[~\w(])", " | "),
    ("operator", r"(?<=[\w)]) \| (?=[~\w(])", " & "),
    ("operator", r"\+= ", "-= "),
    ("operator", r"-= ", "+= "),
    ("operator", r"!(?=[\w(])", ""),
    ("constant", r"(?<=[ (=])1(?=[ );,])", "2"),
    ("constant", r"(?<=[ (=])0(?=[ );,])", "1"),
    ("constant", r"\btrue\b", "false"),
    ("constant", r"\bfalse\b", "true"),
    ("order", r"fs_load_acquire\(", "fs_load_relaxed("),
    ("order", r"fs_store_release\(", "fs_store_relaxed("),
    ("order", r"fs_or_release\(", "fs_or_relaxed("),
    ("order", r"fs_fence_(?:acquire|release)\(\);", ";"),
    ("atomic", r"fs_cas\(", "fs_cas_torn("),
    ("atomic", r"fs_add_relaxed\(", "fs_add_torn("),
    ("atomic", r"fs_or_re\w+\(", "fs_or_torn("),
    ("atomic", r"fs_and_relaxed\(", "fs_and_torn("),
]
CALL = re.compile(r"^\s*(?!return|typedef|static|const|uint|int|bool|fs_\w+ \*?\w+ =|else$)[\w(*][^{}]*;$")


class Mutant(NamedTuple):
    file: str
    line: int
    column: int
    kind: str
    text: str  # the line as changed

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.text.strip()}"


def path_of(file: str) -> Path:
    return Path("csrc") / file if file.endswith(".c") else Path("csrc/include/failsoft") / file


def mutants_of(file: str) -> list[Mutant]:
    found, comment = [], False
    for number, line in enumerate((ROOT / path_of(file)).read_text().splitlines(), 1):
        code = line.split("/*")[0].rstrip()
        inside, comment = comment, ("/*" in line or comment) and "*/" not in line
        if (
            inside
            or not code.startswith((" ", "static", "uint", "bool"))
            or "_Static_assert" in code
            or code.lstrip()[:1] == "*"
        ):
            continue
        for kind, pattern, new in CHANGES:
            for match in re.finditer(pattern, code):
                text = code[: match.start()] + new + code[match.end() :]
                found.append(Mutant(file, number, match.start(), kind, text))
        if CALL.match(code) and "#" not in code:
            found.append(Mutant(file, number, 0, "removed", ";"))
    return found


class Shop:
    """A copy of the sources in which one mutant at a time is built and tried."""

    def __init__(self, directory: Path) -> None:
        self.at = directory
        for part in ("csrc", "tests/c"):
            shutil.copytree(ROOT / part, directory / part)
        atomics = directory / "csrc/include/failsoft/atomics.h"
        text = (ROOT / "csrc/include/failsoft/atomics.h").read_text()
        atomics.write_text(text[: text.rindex("#endif")] + TORN + "\n#endif\n")
        self.objects: set[str] = set()

    def run(self, command: list[str], timeout: float) -> bool:
        try:
            return (
                subprocess.run(command, cwd=self.at, timeout=timeout, capture_output=True, check=False).returncode == 0
            )
        except subprocess.TimeoutExpired:
            return False

    def object_of(self, source: str, many: bool, fresh: bool) -> str:
        made = f"{Path(source).stem}{'_many' if many else ''}.o"
        if fresh or made not in self.objects:
            flags = ["-DFS_MANY_WRITERS=1"] if many else []
            command = ["cc", "-std=c11", "-O1", "-w", "-Icsrc/include", *flags, "-c", source, "-o", made]
            if not self.run(command, 120):
                raise SyntaxError
            self.objects.add(made)
        return made

    def passes(self, test: str, changed: str) -> bool:
        header = changed.endswith(".h")
        explored = EXPLORED.get(test)
        many = test in MANY or explored is not None
        parts = [self.object_of(f"tests/c/test_{test}.c", many, header or explored is not None)]
        if header and explored:
            self.objects.clear()
        for source in explored or CORE:
            parts.append(self.object_of(f"csrc/{source}", many, header or source == changed))
        if not self.run(["cc", *parts, "-lm", "-lpthread", "-o", f"test_{test}"], 60):
            raise SyntaxError
        return self.run([f"./test_{test}"], 40)

    def killer(self, mutant: Mutant) -> str | None:
        place = self.at / path_of(mutant.file)
        before = (ROOT / path_of(mutant.file)).read_text()
        lines = before.splitlines()
        lines[mutant.line - 1] = mutant.text
        place.write_text("\n".join(lines) + "\n")
        try:
            tests = TESTS[mutant.file]
            if mutant.kind in ("order", "atomic"):
                tests = tests[::-1]
            return next((test for test in tests if not self.passes(test, mutant.file)), None)
        except SyntaxError:
            return "compiler"
        finally:
            place.write_text(before)
            self.objects = {
                o for o in self.objects if not mutant.file.endswith(".h") and Path(mutant.file).stem not in o
            }


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--all", action="store_true")
    asked.add_argument("--file", choices=TESTS, action="append")
    asked.add_argument("--kind", choices=["operator", "constant", "order", "atomic", "removed"], action="append")
    asked.add_argument("--sample", type=int, default=60)
    asked.add_argument("--line", type=int, default=1, help="from this line of the file on")
    asked.add_argument("--jobs", type=int, default=2)
    args = asked.parse_args()
    mutants = [m for file in args.file or TESTS for m in mutants_of(file) if not args.kind or m.kind in args.kind]
    mutants = [m for m in mutants if m.line >= args.line]
    if not args.all and len(mutants) > args.sample:
        mutants = random.Random(SEED).sample(mutants, args.sample)
    listed = (Path(__file__).parent / "mutants_equivalent.txt").read_text().splitlines()
    equivalent = {" ".join(line.split(" -- ")[0].split()) for line in listed if line and line[0] != "#"}
    counts = {"killed": 0, "survived": 0, "equivalent": 0, "not built": 0}
    with tempfile.TemporaryDirectory() as room, ThreadPoolExecutor(args.jobs) as pool:
        shops: list[Shop] = [Shop(Path(room) / str(i)) for i in range(args.jobs)]

        def tried(mutant: Mutant) -> tuple[Mutant, str | None]:
            shop = shops.pop()
            try:
                return mutant, shop.killer(mutant)
            finally:
                shops.append(shop)

        for mutant, killer in pool.map(tried, mutants):
            name = f"{mutant.file} {mutant.kind} {' '.join(mutant.text.split())}"
            fate = "not built" if killer == "compiler" else "killed" if killer else "survived"
            if fate == "survived" and name in equivalent:
                fate = "equivalent"
            counts[fate] += 1
            if fate == "survived" or os.environ.get("MUTANTS_TOLD"):
                print(f"{fate} {'by ' + killer if killer else ''} {mutant}", flush=True)
    tried_count = counts["killed"] + counts["survived"]
    share = 100 * counts["survived"] / tried_count if tried_count else 0.0
    print(", ".join(f"{count} {fate}" for fate, count in counts.items()))
    print(f"score: a mutant of the core is noticed | uncaught mutants, % | {share:.1f} | {tried_count} mutants")
    return share > 4.0


if __name__ == "__main__":
    sys.exit(main())
