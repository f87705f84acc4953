"""Mutation testing of the Python parts that decide: change one thing, and see whether a test notices.

    python tests/mutants.py                      # a sample that is the same each time
    python tests/mutants.py --all --file retry.py

Works on a copy of the package, with the compiled module of the installed one. EQUIVALENT holds the mutants that change nothing
anybody can see. What else may be asked for is in tests/mutation.py. For the core: tests/c/mutants.py.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import mutation  # noqa: E402  # it is beside this script

SECONDS = 120.0

TESTS = {
    "breakers.py": [
        "conformance/test_circuit_breaker.py",
        "conformance/test_integration.py",
        "conformance/test_degraded.py",
        "conformance/test_degraded_ramps.py",
        "conformance/test_reconfigure.py",
        "seed",
    ],
    "retry.py": ["conformance/test_recovery.py", "property/test_backoff.py"],
    "wrapper.py": ["seed", "conformance/test_integration.py", "conformance/test_degraded.py"],
}

# "file kind line as changed": why nobody can see it
EQUIVALENT = {
    "breakers.py constant self._started = 1": "entering the attempt sets it anew",
}

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


class Mutant(NamedTuple):
    file: str
    line: int
    kind: str
    text: str  # the statement as changed
    source: str

    @property
    def name(self) -> str:
        return f"{self.file} {self.kind} {self.text}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.text}"


def changed(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Each way to change this node, not those below it."""
    match node:
        case ast.Compare(left, [op], right):
            yield "comparison", ast.Compare(left, [COMPARED[type(op)]()], right)
        case ast.BoolOp(op, values):
            yield "boolean", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield "boolean", operand
        case ast.Constant(bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield "constant", ast.Constant(value + 1)
        case ast.If(test, body, orelse):
            yield "boolean", ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield "boolean", ast.IfExp(test, orelse, body)
        case ast.Return(value) if value and not (isinstance(value, ast.Constant) and value.value is None):
            yield "returned", ast.Return(ast.Constant(None))
        case ast.Expr(ast.Constant()):
            return
        case ast.Expr() | ast.Raise() | ast.AugAssign() | ast.Assign():
            yield "removed", ast.Pass()


def places(
    node: ast.AST, statement: ast.stmt | None = None, inside: bool = False
) -> Iterator[tuple[ast.AST, str, int, ast.stmt]]:
    """Every node that does something: its parent, field and index there, and the statement it is of."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "names"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST):
                continue
            whole = child if isinstance(child, ast.stmt) else statement
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Assign) and (not inside or "__slots__" in ast.unparse(child)):
                continue
            if whole:
                yield node, field, index if isinstance(value, list) else -1, whole
            yield from places(child, whole, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def mutants_of(file: str) -> list[Mutant]:
    tree = ast.parse((ROOT / "src/failsoft" / file).read_text())
    found = []
    for parent, field, index, statement in places(tree):
        here = getattr(parent, field)
        node = here[index] if index >= 0 else here
        for kind, other in changed(node):
            ast.copy_location(other, node)
            put(parent, field, index, other)
            shown = other if node is statement else statement
            text = f"no {ast.unparse(node)}" if kind == "removed" else ast.unparse(shown)
            source = ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
            found.append(Mutant(file, node.lineno, kind, " ".join(text.split("\n")[0].split()), source))
            put(parent, field, index, node)
    return found


def put(parent: ast.AST, field: str, index: int, node: ast.AST) -> None:
    if index >= 0:
        getattr(parent, field)[index] = node
    else:
        setattr(parent, field, node)


# What is installed in place of the copy (an editable one has a finder of its own) comes after it.
RUN = """
import sys
from importlib.machinery import PathFinder
sys.meta_path.sort(key=lambda finder: finder is not PathFinder)
sys.path.insert(0, sys.argv[1])
import failsoft, pytest
assert failsoft.__file__.startswith(sys.argv[1]), failsoft.__file__
sys.exit(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


class Shop:
    """A copy of the package in which one mutant at a time is tried."""

    def __init__(self, at: Path) -> None:
        from failsoft import _core

        self.at = at
        shutil.copytree(ROOT / "src/failsoft", at / "package/failsoft", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(_core.__file__, at / "package/failsoft")
        shutil.copytree(ROOT / "tests", at / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        for page in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / page, at)
        shutil.copytree(ROOT / "docs", at / "docs")

    def passes(self, file: str) -> tuple[bool, str]:
        tests = [f"tests/{test}" for test in TESTS[file] if (self.at / "tests" / test).exists()]
        command = [sys.executable, "-B", "-c", RUN, str(self.at / "package"), *tests]
        try:
            done = subprocess.run(
                command,
                cwd=self.at,
                timeout=SECONDS,
                capture_output=True,
                text=True,
                env={**os.environ, "FAILSOFT_SCORES": ""},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "time"
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return done.returncode == 0, failed[0].split(" - ")[0] if failed else (done.stdout + done.stderr)[-300:]

    def killer(self, mutant: Mutant) -> str | None:
        place = self.at / "package/failsoft" / mutant.file
        before = place.read_text()
        place.write_text(mutant.source)
        try:
            passed, why = self.passes(mutant.file)
            return None if passed else why
        finally:
            place.write_text(before)


def shops_of(room: Path, count: int, files: set[str]) -> list[Shop]:
    shops = [Shop(room / str(i)) for i in range(count)]
    for file in sorted(files):
        passed, why = shops[0].passes(file)
        if not passed:
            raise SystemExit(f"the tests of {file} fail as it is: {why}")
    return shops


if __name__ == "__main__":
    sentence = "mutants of breakers, retry and wrapper"
    sys.exit(mutation.run(__doc__, sentence, TESTS, mutants_of, EQUIVALENT, shops_of, size=48))
