"""Mutation testing of the C core: change one thing in a source, build, and see whether a test notices.

    python tests/c/mutants.py                    # a sample that is the same each time
    python tests/c/mutants.py --all              # every mutant
    python tests/c/mutants.py --file breaker.c --kind order --all

Those listed in mutants_equivalent.txt change nothing that anybody can see. What else may be asked for is in
tests/mutation.py. The tests run from the fastest on, the explorers last, each with a timeout (a mutant that hangs is killed
too). What a weaker order lets through is looked for by the explorers' deepest searches too, and by a sanitizer of threads.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import mutation  # noqa: E402  # it is in the folder above this script's

RULES = ["breaker_table", "breaker_rules", "breaker", "breaker_calls", "breaker_walk", "breaker_capacity"]
SHARED = ["members", "observe", "shared brief", "shared_stepped deep"]
TESTS = {  # what changes, and the tests that should notice: the likeliest first. "many": built for many writers
    "breaker.c": [*RULES, "breaker_threads many", "move_explored", "breaker_explored"],
    "breaker.h": [*RULES, "breaker_threads many", "breaker_explored"],
    "window.c": ["window", "histogram", "histogram_halfway", "breaker_rules", "window_explored"],
    "window.h": ["window", "breaker_rules", "window_explored"],
    "recorder.c": ["recorder", "recorder_explored"],
    "recorder.h": ["recorder", "recorder_explored"],
    "histogram.c": [
        "histogram",
        "histogram_batches",
        "histogram_below",
        "histogram_halfway",
        "histogram many",
        "breaker_rules",
        "histogram_threads many",
        "histogram_explored",
    ],
    "histogram.h": [
        "histogram",
        "histogram many",
        "window",
        "breaker_rules",
        "histogram_threads many",
        "histogram_explored",
    ],
    "arena.c": ["arena", "arena many"],
    "clock.c": ["clock", "limiter", "clock_explored"],
    "clock.h": ["clock", "limiter"],
    "rng.c": ["rng"],
    "rng.h": ["rng", "degraded"],
    "backoff.c": ["backoff"],
    "backoff.h": ["backoff"],
    "degraded.h": ["degraded", "degraded many", "throttle", "breaker_capacity", "load_explored"],
    "wheel.h": ["wheel"],
    "budget.c": ["budget", "budget many", "budget_explored"],
    "budget.h": ["budget"],
    "limiter.c": ["limiter", "limiter many", "load", "load_explored"],
    "limiter.h": ["limiter", "limiter many", "load", "load_explored"],
    "bulkhead.h": ["bulkhead", "bulkhead many", "load", "load_explored"],
    "throttle.c": ["throttle", "load", "load_explored"],
    "load.c": ["load", "load many", "load_explored"],
    "load.h": ["load", "load many", "load_explored"],
    "shared.c": SHARED,
    "shared.h": SHARED,
    "members.c": SHARED,
    "members.h": SHARED,
    "observe.c": ["observe", "observe many", "members", "shared brief", "shared_stepped deep"],
}
ORDERED = {  # besides, for weaker orders. "race": under a sanitizer of threads; "deep": all that an explorer can search
    "breaker.c": ["published race", "breaker_explored deep"],
    "breaker.h": ["published race", "breaker_explored deep"],
    "window.c": ["window_explored deep"],
    "recorder.c": ["published race"],
    "recorder.h": ["published race"],
    "histogram.c": ["published race"],
    "histogram.h": ["published race"],
    "arena.c": ["published race", "arena race"],
    "shared.c": ["published_shared race"],
    "shared.h": ["published_shared race"],
    "members.c": ["published_shared race"],
    "members.h": ["published_shared race"],
    "observe.c": ["published_shared race"],
    "load.c": ["load_explored deep"],
    "load.h": ["load_explored deep"],
    "bulkhead.h": ["load_explored deep"],
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
    ("order", r"fs_fence_(?:acquire|release|seq_cst)\(\);", ";"),
    ("order", r"fs_load_seq_cst\(", "fs_load_acquire("),
    ("order", r"fs_cas_seq_cst\(", "fs_cas("),
    ("atomic", r"fs_cas(?:_seq_cst)?\(", "fs_cas_torn("),
    ("atomic", r"fs_add_relaxed\(", "fs_add_torn("),
    ("atomic", r"fs_swap_relaxed\(", "fs_swap_torn("),
    (
        "atomic",
        r"fs_cas_relaxed_from\(word, .*\)",
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

    @property
    def name(self) -> str:
        return f"{self.file} {self.kind} {' '.join(self.text.split())}"

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
        builds = {build_of(test) for test in tests}
        units = {(source, build) for source in self.core for build in builds}
        units |= {(f"test_{test.split()[0]}.c", build_of(test)) for test in tests}
        with ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(lambda unit: compiled(self.at, *unit, self.at / "objects"), sorted(units)):
                pass
            for build in builds:
                objects = [str(self.at / "objects" / object_name(source, build)) for source in self.core]
                subprocess.run(["ar", "rc", str(self.at / f"core_{build}.a"), *objects], check=True)
            for test, parts in zip(tests, pool.map(self.linked, tests), strict=True):
                self.parts[test] = parts
        for test in tests:
            if not test.endswith("deep") and not passes(self.at / program_name(test), test):
                raise SystemExit(f"{test} fails as it is")

    def linked(self, test: str) -> list[str]:
        build = build_of(test)
        unit = self.at / "objects" / object_name(f"test_{test.split()[0]}.c", build)
        command = ["cc", *LINKED[build], str(unit), str(self.at / f"core_{build}.a"), "-lm", "-lpthread", "-Wl,-M"]
        told = subprocess.run(
            [*command, "-o", program_name(test)], cwd=self.at, capture_output=True, text=True, check=True
        )
        return [source for source in self.core if f"({object_name(source, build)})" in told.stdout]


def copy_sources(at: Path) -> None:
    for part in ("csrc", "tests/c"):
        shutil.copytree(ROOT / part, at / part)
    atomics = at / "csrc/include/failsoft/atomics.h"
    text = atomics.read_text()
    atomics.write_text(text[: text.rindex("#endif")] + TORN + "\n#endif\n")
    (at / "objects").mkdir()


def build_of(test: str) -> str:
    if test.endswith("race"):
        return "race"
    if "stepped" in test:
        return "stepped"
    return "many" if "many" in test or "explored" in test else "one"


LINKED = {"one": [], "many": [], "race": ["-fsanitize=thread"], "stepped": []}


def object_name(source: str, build: str) -> str:
    return f"{Path(source).stem}_{build}.o"


def program_name(test: str) -> str:
    return f"test_{test.replace(' ', '_')}"


def compiled(at: Path, source: str, build: str, into: Path) -> Path:
    place = at / ("tests/c" if source.startswith("test_") else "csrc") / source
    made = into / object_name(source, build)
    # Who writes beyond an array is caught where he does it, as by the sanitizers.
    bounded = ["-O0", "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]
    command = [
        "cc",
        "-std=c11",
        *(["-O1"] if "explored" in source or build == "race" else bounded),
        *LINKED[build],
        "-w",
        f"-I{at / 'csrc/include'}",
        f"-DFS_MANY_WRITERS={int(build in ('many', 'race'))}",
        *(["-D_GNU_SOURCE=", "-include", str(at / "tests/c/stepped.h")] if build == "stepped" else []),
        "-c",
    ]
    if subprocess.run([*command, str(place), "-o", str(made)], capture_output=True, check=False).returncode:
        raise SyntaxError(source)
    return made


def passes(program: Path, test: str) -> bool:
    """Within so many seconds of the processor, however many others want it; what sleeps is given longer."""
    explored = "explored" in test
    seconds = 300 if explored and "deep" in test else 60 if explored else 20
    told = next((word for word in ("deep", "brief") if word in test.split()), "")
    command = ["sh", "-c", f"ulimit -t {seconds}; ulimit -c 0; exec {program} {told}"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        try:
            return run.wait(10 * seconds) == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # it and its children
            return False


class Shop:
    """A copy of the sources in which one mutant at a time is built and tried."""

    def __init__(self, at: Path, bench: Bench) -> None:
        self.at, self.bench = at, bench
        copy_sources(at)

    def passes(self, test: str, file: str, made: dict[tuple[str, str], Path]) -> bool:
        build = build_of(test)
        objects = []
        for source in (f"test_{test.split()[0]}.c", *self.bench.parts[test]):
            if file not in self.bench.includes(source):
                objects.append(self.bench.at / "objects" / object_name(source, build))
                continue
            if (source, build) not in made:
                made[source, build] = compiled(self.at, source, build, self.at / "objects")
            objects.append(made[source, build])
        program = self.at / program_name(test)
        command = ["cc", *LINKED[build], *map(str, objects), "-lm", "-lpthread", "-o", str(program)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise SyntaxError(test)
        return passes(program, test)

    def killer(self, mutant: Mutant) -> str | None:
        place = self.at / path_of(mutant.file)
        before = place.read_text()
        lines = before.splitlines()
        lines[mutant.line - 1] = mutant.text
        place.write_text("\n".join(lines) + "\n")
        made: dict[tuple[str, str], Path] = {}
        try:
            tests = TESTS[mutant.file]
            if mutant.kind in ("order", "atomic"):
                tests = [*tests[::-1], *(ORDERED.get(mutant.file, ()) if mutant.kind == "order" else ())]
            return next((test for test in tests if not self.passes(test, mutant.file, made)), None)
        except SyntaxError:
            return mutation.NOT_BUILT
        finally:
            place.write_text(before)


def shops_of(room: Path, count: int, files: set[str]) -> list[Shop]:
    bench = Bench(room / "bench")
    bench.build(sorted({test for file in files for test in (*TESTS[file], *ORDERED.get(file, ()))}), count)
    return [Shop(room / str(i), bench) for i in range(count)]


def equivalent() -> set[str]:
    lines = (Path(__file__).parent / "mutants_equivalent.txt").read_text().splitlines()
    return {" ".join(line.split(" -- ")[0].split()) for line in lines if line and line[0] != "#"}


if __name__ == "__main__":
    sys.exit(mutation.run(__doc__, "mutants of the core", TESTS, mutants_of, equivalent(), shops_of, size=190))
