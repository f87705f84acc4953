"""What the mutation tests of the core and of Python share: which mutants are tried, and what is told of them.

A run tries a sample that is the same each time: of each file its part, one of each kind first. `--all` tries every mutant, `--file` and
`--kind` narrow it down, `--only FILE:LINE` tries those of one line, `--seed` draws another sample. What no test kills has survived and is printed with its
place; those that change nothing anybody can see are told apart. With MUTANTS_TOLD=1 in the environment all are printed.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

SEED = 20260101
MOST = 4.0  # percent that may go unnoticed
NOT_BUILT = "compiler"  # what kills those that are no program


class Mutant(Protocol):
    """One change. `name` says it without its line, as the lists of equivalent ones do."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


class Shop(Protocol):
    """Where one mutant at a time is tried."""

    def killer(self, mutant: Mutant) -> str | None:
        """What noticed it."""


def sample(mutants: Sequence[Mutant], size: int, seed: int = SEED) -> list[Mutant]:
    files: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        files.setdefault(mutant.file, []).append(mutant)
    chosen = []
    for file, found in files.items():
        shuffled = random.Random(f"{seed} {file}").sample(found, len(found))
        firsts = list({mutant.kind: mutant for mutant in reversed(shuffled)}.values())
        rest = [mutant for mutant in shuffled if mutant not in firsts]
        chosen += (firsts + rest)[: max(len(firsts), round(size * len(found) / len(mutants)))]
    return chosen


def run(
    doc: str,
    sentence: str,
    files: Iterable[str],
    mutants_of: Callable[[str], Sequence[Mutant]],
    equivalent: Collection[str],
    shops_of: Callable[[Path, int, set[str]], list[Shop]],
    size: int,
) -> int:
    """Try what the command line asks for. `shops_of` opens as many shops, in a folder, for mutants of these files."""
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    asked = argparse.ArgumentParser(description=doc.splitlines()[0])
    asked.add_argument("--all", action="store_true", help="every mutant, not a sample")
    asked.add_argument("--sample", type=int, default=size)
    asked.add_argument("--seed", type=int, default=SEED, help="another number draws another sample")
    asked.add_argument("--file", choices=list(files), action="append")
    asked.add_argument("--kind", choices=sorted({mutant.kind for mutant in mutants}), action="append")
    asked.add_argument("--only", metavar="FILE:LINE", action="append", help="of the sample, those of this line")
    asked.add_argument("--jobs", type=int, default=2)
    args = asked.parse_args()
    if not args.all:
        mutants = sample(mutants, args.sample, args.seed)
    mutants = [
        mutant
        for mutant in mutants
        if mutant.file in (args.file or [mutant.file])
        and mutant.kind in (args.kind or [mutant.kind])
        and f"{mutant.file}:{mutant.line}" in (args.only or [f"{mutant.file}:{mutant.line}"])
    ]
    fates: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as room, ThreadPoolExecutor(args.jobs) as pool:
        shops = shops_of(Path(room), args.jobs, {mutant.file for mutant in mutants})

        def tried(mutant: Mutant) -> tuple[Mutant, str | None]:
            shop = shops.pop()
            try:
                return mutant, shop.killer(mutant)
            finally:
                shops.append(shop)

        for mutant, killer in pool.map(tried, mutants):
            fate = "not built" if killer == NOT_BUILT else "caught" if killer else "survived"
            if fate == "survived" and mutant.name in equivalent:
                fate = "equivalent"
            fates.setdefault(mutant.file, Counter())[fate] += 1
            if fate == "survived" or os.environ.get("MUTANTS_TOLD"):
                print(f"{fate}{f' by {killer}' if killer else ''}: {mutant}", flush=True)
    total: Counter[str] = Counter()
    for file, of_file in fates.items():
        total += of_file
        print(f"{file:12} {of_file['caught']:3} of {of_file['caught'] + of_file['survived']:3} caught")
    print(", ".join(f"{total[fate]} {fate}" for fate in ("caught", "survived", "equivalent", "not built")))
    number = total["caught"] + total["survived"]
    share = 100 * total["survived"] / number if number else 0.0
    print(f"score: {sentence} | uncaught, percent | {share:.1f} | {number} mutants, seed {args.seed}")
    return share > MOST
