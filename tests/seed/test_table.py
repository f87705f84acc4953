"""docs/seed.md is made of the tests in test_seed.py: `python -m tests.seed.test_table` writes it."""

from __future__ import annotations

from pathlib import Path

from . import test_seed

PAGE = Path(__file__).parents[2] / "docs" / "seed.md"

HEAD = """\
# The specification and what runs it

The system was specified before it was built. This is each of its features and examples, and the test that runs it. The
table is made from the tests themselves (`python -m tests.seed.test_table`), and a test fails where it is out of date.

| section | feature or example | test |
| --- | --- | --- |
"""


def page() -> str:
    rows = []
    for name, test in vars(test_seed).items():
        for mark in getattr(test, "pytestmark", ()):
            if name.startswith("test_") and mark.name == "seed":
                section, what = mark.args
                rows.append(f"| {section} | {what} | `tests/seed/test_seed.py::{name}` |\n")
    return HEAD + "".join(rows)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
