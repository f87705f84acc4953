"""How parametrised values are called in the names of tests: the same in every run, or runs cannot be compared or shared
between processes."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """Its repr, without where it lies."""
    return re.sub(r" at 0x[0-9a-f]+| id='\d+'", "", repr(value))
