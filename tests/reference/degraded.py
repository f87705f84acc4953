"""Degraded mode as its specification reads: which calls go while only a share of them may.

Shares are whole numbers of 2**-32 of all calls, as everywhere in the core: a capacity that is none loses the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from .window import nanoseconds

ALL = 2**32


def share_of(capacity: float) -> int:
    """A capacity from 0 to 1 as a share; above nothing there is always something."""
    return max(1, int(capacity * ALL)) if capacity > 0.0 else 0


class Dial:
    """Adds up the shares; a call goes when the sum reaches another whole. It starts a hair short of one."""

    def __init__(self) -> None:
        self.sum = ALL - 1

    def admits(self, share: int) -> bool:
        """Whether this call goes. A dial is not asked, and does not move, where all of them do."""
        if share == ALL:
            return True
        before = self.sum
        self.sum += share
        return self.sum // ALL > before // ALL


@dataclass(frozen=True)
class Ramp:
    """How all calls come back after a recovery: from the share `start`, in a straight line, over `length` seconds."""

    start: float = 0.5
    length: float = 0.0

    def needed(self) -> bool:
        """Whether there is a way to go at all."""
        return self.length > 0.0 and self.start < 1.0

    def share(self, left: int) -> int:
        """The share when the end is `left` nanoseconds away."""
        part = min(1.0, max(0, left) / nanoseconds(self.length)) if self.needed() else 0.0
        return ALL - int((ALL - share_of(self.start)) * part)
