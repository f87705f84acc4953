"""Threads that change places as often as the interpreter allows."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Without this a thread runs 5 ms at a stretch, and most races never get their chance under the GIL."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
