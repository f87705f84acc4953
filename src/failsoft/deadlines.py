"""How much time is left."""

from __future__ import annotations

from ._core import remaining

__all__ = ["remaining"]
