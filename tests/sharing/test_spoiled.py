"""Whatever stands in the file of an arena, who looks at it goes on: word after word is spoiled, and all of it is read."""

from __future__ import annotations

import mmap
import struct
import subprocess
import sys

import pytest

from failsoft.arena import Arena, arena_path, attach
from tests.sharing.conftest import ROOT, Start, environment

COMMON, SLOTS = 1 << 16, (1 << 16) + 3 * (1 << 26)
"""Where the parts of the file begin: see csrc/include/failsoft/shared.h."""

WORDS = (1, 0x7FF0_0000, 0x7FF8_0000, 0x7FFF_FFFF, 0xFFFF_FFFF)
"""One, the upper halves of an infinity and of what is no number, and the greatest."""


def look(arena: Arena) -> None:
    """Read all that an arena offers to who looks. KeyError is what it says of what is gone."""
    try:
        read: list[object] = [arena.processes(), len(arena), arena.summary()]
        for one in arena:
            read += [repr(one), one.status(), one.capacity, one.settings, str(one.explain()), one.total(slot=0)]
            read += [
                one.slots,
                one.retries(),
                one.in_flight(),
                [one.metrics(operation) for operation in one.operations],
            ]
    except KeyError:
        pass


def spoil(name: str, start: int, every: int) -> None:
    """Put each of WORDS in place of each that is not nothing in what is used of an arena, and of some that are."""
    arena = attach(name)
    with open(arena_path(name), "r+b") as file, mmap.mmap(file.fileno(), start + (1 << 20)) as seen:
        (lines,) = struct.unpack_from("<I", seen, start + 20)
        for at in range(start, start + 64 * lines, 4):
            before = seen[at : at + 4]
            if before == bytes(4) and at // 4 % every:
                continue
            for word in WORDS:
                seen[at : at + 4] = struct.pack("<I", word)
                try:
                    look(arena)
                except BaseException as error:
                    print(f"{word:#x} at {at - start:#x}: {error!r}", flush=True)
                    raise
            seen[at : at + 4] = before


@pytest.mark.parametrize("start_at", [pytest.param(COMMON, id="common"), pytest.param(SLOTS, id="slot")])
def test_no_word_of_the_file_harms_who_looks(start_at: int, arena: str, start: Start) -> None:
    one = start()
    one.run(
        "g = service(threshold=3, failure_rate=0.5, minimum_calls=5, half_open_max_calls=2).guard(job);"
        " [g() for _ in range(9)]; fail(g, 3); [refused(g) for _ in range(3)]"
    )
    one.kill()
    code = f"from tests.sharing.test_spoiled import spoil; spoil({arena!r}, {start_at}, 64)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
