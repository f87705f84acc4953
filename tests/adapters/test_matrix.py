"""Every cell of the conformance matrix, against real servers, and that the docs tell it as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("psutil", exc_type=ImportError)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")

from . import matrix  # noqa: E402  # needs psutil

ROWS = {row.name: row for row in matrix.rows()}
CELLS = [(name, situation) for name, row in ROWS.items() for situation in matrix.SITUATIONS if situation not in row.impossible]  # fmt: skip


@pytest.fixture(scope="module")
def record() -> dict[str, dict[str, matrix.Cell]]:
    return matrix.recorded()


PARAMS = [
    pytest.param(name, situation, id=f"{name}, {situation}", marks=[pytest.mark.deep] if ROWS[name].deep else [])
    for name, situation in CELLS
]


@pytest.mark.parametrize(("name", "situation"), PARAMS)
def test_a_cell(
    serve: Callable[[Any], Any], record: dict[str, dict[str, matrix.Cell]], name: str, situation: str
) -> None:
    row = ROWS[name]
    try:
        row.prepare()
    except ImportError as error:
        pytest.skip(str(error))
    server = serve(row.server)
    cell = matrix.observe(row, situation, server)
    matrix.check(row, situation, cell)
    if situation == "server SIGKILL":  # whether the kernel says FIN or RST, and to which try, is a matter of moments
        cell = cell._replace(got=record[name][situation].got)
    assert cell == record[name][situation]


def test_every_cell_is_recorded(record: dict[str, dict[str, matrix.Cell]]) -> None:
    assert [(name, situation) for name, row in record.items() for situation in row] == CELLS


def test_what_differs_is_a_situation_and_has_a_reason() -> None:
    for row in ROWS.values():
        named = {**row.impossible, **{situation: why for situation, (*_, why) in row.differs.items()}, **row.repeats}
        assert set(named) <= set(matrix.SITUATIONS)
        assert all(len(why) > 20 for why in named.values()), row.name


def test_the_docs_tell_it(record: dict[str, dict[str, matrix.Cell]]) -> None:
    """If not: python -m tests.adapters.matrix"""
    text = matrix.PAGE.read_text()
    assert matrix.page(text) == text
    assert matrix.details(record) == matrix.DETAILS.read_text()
