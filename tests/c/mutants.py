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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SEED = 20260101
KINDS = ["operator", "constant", "order", "atomic", "removed"]
MOST = 4.0  # percent that may go unnoticed

RULES = ["breaker_table", "breaker_rules", "breaker", "breaker_calls", "breaker_walk", "breaker_capacity"]
TESTS = {  # what changes, and the tests that should notice: the likeliest first. "many": built for many writers
    "breaker.c": [*RULES, "breaker_threads many", "breaker_explored"],
    "breaker.h": [*RULES, "breaker_threads many", "breaker_explored"],
    "window.c": ["window", "histogram", "breaker_rules", "window_explored"],
    "window.h": ["window", "breaker_rules", "window_explored"],
    "recorder.c": ["recorder", "recorder_explored"],
    "recorder.h": ["recorder", "recorder_explored"],
    "histogram.c": ["histogram", "histogram many", "breaker_rules", "histogram_threads many"],
    "histogram.h": ["histogram", "histogram many", "window", "breaker_rules", "histogram_threads many"],
    "arena.c": ["arena", "arena many"],
    "clock.c": ["clock", "limiter"],
    "clock.h": ["clock", "limiter"],
    "rng.c": ["rng"],
    "rng.h": ["rng", "degraded"],
    "backoff.c": ["backoff"],
    "backoff.h": ["backoff"],
    "degraded.h": ["degraded", "degraded many", "throttle", "breaker_capacity"],
    "wheel.h": ["wheel"],
    "budget.c": ["budget", "budget many"],
    "budget.h": ["budget"],
    "limiter.c": ["limiter", "limiter many", "load"],
    "limiter.h": ["limiter", "limiter many", "load"],
    "bulkhead.h": ["bulkhead", "bulkhead many", "load"],
    "throttle.c": ["throttle", "load"],
    "load.c": ["load", "load many"],
    "load.h": ["load", "load many"],
}
INCLUDED = re.compile(r'#include "(?:[./]*csrc/)?(?:failsoft/)?([\w.]+)"')

# Not atomic any more: a read and a write that others come between.
TORN = """
#define fs_cas_torn(p, e, d) \\
    (fs_load_acquire(p) == *(e) ? (fs_store_release((p), (d)), true) : ((void)(*(e) = fs_load_acquire(p)), false))
#define fs_add_torn(p, v) __extension__({ __typeof__(*(p) + 0) was_ = (__typeof__(*(p) + 0))fs_load_relaxed(p); \\
    fs_store_relaxed((p), (__typeof__(*(p)))(was_ + (v))); was_; })
#define fs_swap_torn(p, v) __extension__({ __typeof__(*(p) + 0) was_ = fs_load_relaxed(p); fs_store_relaxed((p), (v)); was_; })
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
    ("atomic", r"fs_swap_relaxed\(", "fs_swap_torn("),
    (
        "atomic",
        r"__atomic_compare_exchange\(word, .*\)",
        "(load(word) == *expected ? store(word, value), true : (*expected = load(word), false))",
    ),
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
            found.append(Mutant(file, number, 0, "removed", f"; /* no {code.strip()} */"))
    return found


def sample(mutants: list[Mutant], size: int) -> list[Mutant]:
    """The same ones each time: of each file its part, one of each kind first."""
    files: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        files.setdefault(mutant.file, []).append(mutant)
    chosen = []
    for file, found in files.items():
        shuffled = random.Random(f"{SEED} {file}").sample(found, len(found))
        firsts = list({mutant.kind: mutant for mutant in reversed(shuffled)}.values())
        rest = [mutant for mutant in shuffled if mutant not in firsts]
        chosen += (firsts + rest)[: max(len(firsts), round(size * len(found) / len(mutants)))]
    return chosen


class Bench:
    """The sources and tests as they are, built once: a mutant needs only what it changes built again."""

    def __init__(self, at: Path) -> None:
        self.at = at
        copy_sources(at)
        self.core = sorted(source.name for source in (ROOT / "csrc").glob("*.c"))
        self.places = {place.name: place for part in ("csrc", "tests/c") for place in (at / part).rglob("*.[ch]")}
        self.parts: dict[str, list[str]] = {}  # of each test, the sources of the core that it is linked with
        self.all: dict[str, set[str]] = {}

    def includes(self, name: str) -> set[str]:
        """A file and all that it includes."""
        if name not in self.all:
            self.all[name] = {name}
            for other in INCLUDED.findall(self.places[name].read_text()) if name in self.places else ():
                self.all[name] |= self.includes(other)
        return self.all[name]

    def build(self, tests: list[str], jobs: int) -> None:
        many = {"many" in test or "explored" in test for test in tests}
        units = [(source, kind) for source in self.core for kind in many]
        units += [(f"test_{test.split()[0]}.c", "many" in test or "explored" in test) for test in tests]
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(lambda unit: compiled(self.at, *unit, self.at / "objects"), units):
                pass
            for archive in many:
                objects = [str(self.at / "objects" / object_name(source, archive)) for source in self.core]
                subprocess.run(["ar", "rc", str(self.at / f"core{int(archive)}.a"), *objects], check=True)
            for test, parts in zip(tests, pool.map(self.linked, tests), strict=True):
                self.parts[test] = parts
        for test in tests:
            if not passes(self.at / program_name(test)):
                raise SystemExit(f"{test} fails as it is")

    def linked(self, test: str) -> list[str]:
        many = "many" in test or "explored" in test
        unit = self.at / "objects" / object_name(f"test_{test.split()[0]}.c", many)
        command = ["cc", str(unit), str(self.at / f"core{int(many)}.a"), "-lm", "-lpthread", "-Wl,-M"]
        told = subprocess.run(
            [*command, "-o", program_name(test)], cwd=self.at, capture_output=True, text=True, check=True
        )
        return [source for source in self.core if f"({object_name(source, many)})" in told.stdout]


def copy_sources(at: Path) -> None:
    for part in ("csrc", "tests/c"):
        shutil.copytree(ROOT / part, at / part)
    atomics = at / "csrc/include/failsoft/atomics.h"
    text = atomics.read_text()
    atomics.write_text(text[: text.rindex("#endif")] + TORN + "\n#endif\n")
    (at / "objects").mkdir()


def object_name(source: str, many: bool) -> str:
    return f"{Path(source).stem}{'_many' if many else ''}.o"


def program_name(test: str) -> str:
    return f"test_{test.replace(' ', '_')}"


def compiled(at: Path, source: str, many: bool, into: Path) -> Path:
    place = at / ("tests/c" if source.startswith("test_") else "csrc") / source
    made = into / object_name(source, many)
    # Who writes beyond an array is caught where he does it, as by the sanitizers.
    bounded = ["-O0", "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]
    command = [
        "cc",
        "-std=c11",
        *(["-O1"] if "explored" in source else bounded),
        "-w",
        f"-I{at / 'csrc/include'}",
        f"-DFS_MANY_WRITERS={int(many)}",
        "-c",
    ]
    if subprocess.run([*command, str(place), "-o", str(made)], capture_output=True, check=False).returncode:
        raise SyntaxError(source)
    return made


def passes(program: Path) -> bool:
    """Within so many seconds of the processor, however many others want it; what sleeps is given longer."""
    seconds = 60 if "explored" in program.name else 20
    try:
        command = ["sh", "-c", f"ulimit -t {seconds}; ulimit -c 0; exec {program}"]
        return subprocess.run(command, timeout=10 * seconds, capture_output=True, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Shop:
    """A copy of the sources in which one mutant at a time is built and tried."""

    def __init__(self, at: Path, bench: Bench) -> None:
        self.at, self.bench = at, bench
        copy_sources(at)

    def passes(self, test: str, file: str, made: dict[tuple[str, bool], Path]) -> bool:
        many = "many" in test or "explored" in test
        objects = []
        for source in (f"test_{test.split()[0]}.c", *self.bench.parts[test]):
            if file not in self.bench.includes(source):
                objects.append(self.bench.at / "objects" / object_name(source, many))
                continue
            if (source, many) not in made:
                made[source, many] = compiled(self.at, source, many, self.at / "objects")
            objects.append(made[source, many])
        program = self.at / program_name(test)
        command = ["cc", *map(str, objects), "-lm", "-lpthread", "-o", str(program)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise SyntaxError(test)
        return passes(program)

    def killer(self, mutant: Mutant) -> str | None:
        place = self.at / path_of(mutant.file)
        before = place.read_text()
        lines = before.splitlines()
        lines[mutant.line - 1] = mutant.text
        place.write_text("\n".join(lines) + "\n")
        made: dict[tuple[str, bool], Path] = {}
        try:
            tests = TESTS[mutant.file]
            if mutant.kind in ("order", "atomic"):
                tests = tests[::-1]
            return next((test for test in tests if not self.passes(test, mutant.file, made)), None)
        except SyntaxError:
            return "compiler"
        finally:
            place.write_text(before)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--all", action="store_true")
    asked.add_argument("--file", choices=TESTS, action="append")
    asked.add_argument("--kind", choices=KINDS, action="append")
    asked.add_argument("--sample", type=int, default=190)
    asked.add_argument("--only", metavar="FILE:LINE", action="append", help="of the sample, those of this line")
    asked.add_argument("--jobs", type=int, default=2)
    args = asked.parse_args()
    mutants = [mutant for file in TESTS for mutant in mutants_of(file)]
    if not args.all:
        mutants = sample(mutants, args.sample)
    if args.file:
        mutants = [mutant for mutant in mutants if mutant.file in args.file]
    if args.kind:
        mutants = [mutant for mutant in mutants if mutant.kind in args.kind]
    if args.only:
        mutants = [mutant for mutant in mutants if f"{mutant.file}:{mutant.line}" in args.only]
    listed = (Path(__file__).parent / "mutants_equivalent.txt").read_text().splitlines()
    equivalent = {" ".join(line.split(" -- ")[0].split()) for line in listed if line and line[0] != "#"}
    caught: Counter[str] = Counter()
    counts = {"caught": 0, "survived": 0, "equivalent": 0, "not built": 0}
    tried_of: Counter[str] = Counter()
    files = {mutant.file for mutant in mutants}
    with tempfile.TemporaryDirectory() as room, ThreadPoolExecutor(args.jobs) as pool:
        bench = Bench(Path(room) / "bench")
        bench.build(sorted({test for file in files for test in TESTS[file]}), args.jobs)
        shops = [Shop(Path(room) / str(i), bench) for i in range(args.jobs)]

        def tried(mutant: Mutant) -> tuple[Mutant, str | None]:
            shop = shops.pop()
            try:
                return mutant, shop.killer(mutant)
            finally:
                shops.append(shop)

        for mutant, killer in pool.map(tried, mutants):
            name = f"{mutant.file} {mutant.kind} {' '.join(mutant.text.split())}"
            fate = "not built" if killer == "compiler" else "caught" if killer else "survived"
            if fate == "survived" and name in equivalent:
                fate = "equivalent"
            counts[fate] += 1
            tried_of[mutant.file] += fate in ("caught", "survived")
            caught[mutant.file] += fate == "caught"
            if fate == "survived" or os.environ.get("MUTANTS_TOLD"):
                print(f"{fate}{f' by {killer}' if killer else ''}: {mutant}", flush=True)
    for file, count in tried_of.items():
        print(f"{file:12} {caught[file]:3} of {count:3} caught")
    number = counts["caught"] + counts["survived"]
    share = 100 * counts["survived"] / number if number else 0.0
    print(", ".join(f"{count} {fate}" for fate, count in counts.items()))
    print(f"score: mutants of the core | uncaught, percent | {share:.1f} | {number} mutants, seed {SEED}")
    return share > MOST


if __name__ == "__main__":
    sys.exit(main())
