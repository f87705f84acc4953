"""An arena by its name, there or not: a dashboard may be started before what it shows, and outlive it."""

from __future__ import annotations

import os

from ..arena import Arena, ArenaError, SharingProcess, arena_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..arena import SharedIntegration


class NamedArena:
    """Reads the arena that has this name now; ArenaError while there is none."""

    def __init__(self, name: str, *, controls: bool = False) -> None:
        self.name = name
        self.controls = controls
        self._path = arena_path(name)
        self._arena: Arena | None = None
        self._file: tuple[int, int] | None = None

    def _now(self) -> Arena:
        try:
            there = os.stat(self._path)
        except OSError:
            self._arena = None
            raise ArenaError(f"waiting for the arena {self.name!r}: no process shares it yet", "missing") from None
        file = (there.st_dev, there.st_ino)
        if self._arena is None or file != self._file:
            self._arena, self._file = Arena(self.name, controls=self.controls), file
        return self._arena

    def with_shards(self) -> Iterator[SharedIntegration]:
        """As Arena.with_shards."""
        return self._now().with_shards()

    def processes(self) -> tuple[SharingProcess, ...]:
        """As Arena.processes."""
        return self._now().processes()
