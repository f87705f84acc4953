"""The module functions act on the default registry, so each test leaves it empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from failsoft import registry
from failsoft.testing import FakeClock


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    registry.default.close()
    yield
    registry.default.close()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock
