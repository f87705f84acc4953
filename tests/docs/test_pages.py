"""The documentation runs: every python block of every page, in order, one namespace a page, on a fake clock.

The clock is `clock` there. A block of kind `text` right after one is what that prints, `...` standing for anything. A page's retries and timeouts
wait on the fake clock, so they take no time here.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from failsoft import registry
from failsoft.testing import FakeClock

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    kind: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in FENCE.finditer(text)]


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    registry.default.close()
    with FakeClock() as clock:
        yield clock
    registry.default.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_run(page: Path, clock: FakeClock) -> None:
    scope: dict[str, object] = {"__name__": "docs", "clock": clock}
    blocks = blocks_of(page)
    for block, after in zip(blocks, [*blocks[1:], Block("", "", 0)], strict=False):
        if block.kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Line numbers as in the page, for the traceback of a failure.
            code = compile("\n" * block.line + block.text, str(page), "exec")
            try:
                exec(code, scope)
            except ImportError as error:
                missing = getattr(error.__cause__ or error, "name", None) or ""
                if not missing or missing.partition(".")[0] == "failsoft":
                    raise
                pytest.skip(f"{page.name}:{block.line} needs {missing}")
        if after.kind == "text":
            told, want = printed.getvalue(), after.text
            alike = doctest.OutputChecker().check_output(want, told, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert alike, f"{page.name}:{block.line} printed\n{told}\nand not\n{want}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing
