"""Sharing breakers with the other processes of this host: `failsoft.share("marketdata")`.

Every process of an application that shares an arena has the same breakers: what trips one trips all with the next
call, and a probe is a probe of all. What is counted, each process counts for itself in a part of its own, and whoever
looks (`failsoft.arena.attach`) adds up. A guarded call costs what it did. csrc/include/failsoft/shared.h says how.
"""

from __future__ import annotations

import atexit
import os
import sys

from . import _core, forks, registry
from ._core import ArenaTrouble
from .arena import TYPES, Arena, ArenaError, arena_path, trouble
from .logs import warn
from .switches import STANDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from .integrations import Integration
    from .registry import Registry

LABEL_MOST = 1024
"""Bytes of a name in an arena. Integrations with longer ones are not shared; operations are, without a name."""

KEY_PATIENCE = 0.005
"""Seconds that the first call for a new key may wait for the arena's lock; beyond that its breaker is not shared."""


class Sharing:
    """This process's part in an arena."""

    def __init__(self, name: str, path: str, registry: Registry) -> None:
        self.name = name
        self.path = path
        self.registry = registry
        self.lock = forks.new_lock()
        self._told: set[str] = set()

    def begin(self) -> None:
        """Take a slot."""
        with self.lock:
            _core.share_arena(self.path)
        self.registry.sharing = self
        forks.remember(self)  # not before: the child of a fork takes no slot for what has not begun

    def move(self) -> None:
        """Move over all that the registry has. Not under a lock: what is logged goes to users' handlers."""
        for integration in self.registry.with_shards():
            self.join(integration)

    def join(self, integration: Integration, *, patience: float = 2.0) -> bool:
        """Let an integration have the breaker of its name and settings. False: it keeps its own, and why is logged."""
        breaker, name = integration.breaker, integration.name.encode("utf-8", "surrogatepass")
        if len(name) > LABEL_MOST:
            self._tell(integration.name, "its name is longer than %d bytes", LABEL_MOST)
            return False
        standing, limit = breaker.state, integration.limited
        try:
            if not self.lock.acquire(timeout=patience):  # another thread waits for the arena
                raise ArenaTrouble("busy", 0)
            try:
                if breaker.shared or _core.arena_slot() is None:
                    return breaker.shared
                labels = [(record, label_of(operation)) for operation, record in integration.named()]
                window = integration.config.circuit_breaker.window
                others = breaker.join(
                    name, TYPES.index(integration.type), window, labels, integration.retry_budget, patience
                )
            finally:
                self.lock.release()
        except ArenaTrouble as error:
            self._tell(integration.name, "%s", trouble(self.path, error))
            return False
        if others is None:
            self._tell(integration.name, "the arena is full")
            return False
        integration.settle()
        if standing in STANDING and breaker.state != standing:
            integration._switch(standing)  # what an operator has said here goes for all
        if limit < 1.0 and breaker.capacity != limit:
            breaker.limit(limit)
        if others:
            self._tell(
                integration.name,
                "%s it with other settings; those with the same share one breaker, and the others another",
                "1 other process has" if others == 1 else f"{others} other processes have",
            )
        return True

    def label(self, integration: Integration, operation: str) -> None:
        """Number an operation made since as the other processes do."""
        try:
            with self.lock:
                integration.breaker.label(dict(integration.named())[operation], label_of(operation))
        except ArenaTrouble as error:
            self._tell(f"{integration.name}.{operation}", "%s", trouble(self.path, error))

    def forked(self) -> None:
        """In a child: a slot of its own, counting from nothing, for the same breakers."""
        integrations = list(self.registry.with_shards())
        try:
            gone = _core.share_arena(self.path, [integration.breaker for integration in integrations])
        except ArenaTrouble as error:
            warn("after a fork, this process is not seen in the arena: %s", trouble(self.path, error))
            return
        alone = {id(breaker) for breaker in gone}
        for integration in integrations:
            if id(integration.breaker) in alone:
                integration.settle()
            integration.forget_baselines()

    def _tell(self, name: str, why: str, *args: object) -> None:
        if name in self._told or len(self._told) > 1000:
            return
        self._told.add(name)
        warn(f"%s is not shared with other processes as it should be: {why}", name, *args)


def label_of(operation: str) -> bytes:
    """An operation's name as an arena holds it, cut short where it is too long."""
    return operation.encode("utf-8", "surrogatepass")[:LABEL_MOST]


def share(name: str, *, registry: Registry | None = None, on_error: Literal["raise", "warn"] = "raise") -> Arena | None:
    """Share the breakers of this process with all processes of this user on this host that share the same `name`.

        failsoft.share("marketdata")

    Call it at any time, best at the start; guards made before go on as they are, with the shared breakers. Integrations
    are the same if their names and the settings of their breakers are; where the settings differ, each kind has a
    breaker of its own, and that is logged. A process shares one arena, until it ends; again with the same name, nothing
    happens. Children of a fork share it too.

    `FAILSOFT_ARENA=name` in the environment does the same at import, with `on_error="warn"`.

    Answers the arena, to look at. ArenaError where it cannot be shared, and nothing has changed; with
    `on_error="warn"` None, and the process keeps breakers of its own, which is logged.
    """
    global _here
    if on_error not in ("raise", "warn"):
        raise ValueError(f'on_error must be "raise" or "warn", got {on_error!r}')
    chosen = registry if registry is not None else _default()
    try:
        path = arena_path(name)
        with _turn:  # or two threads would take a slot each
            if _here is not None and (_here.path != path or _here.registry is not chosen):
                raise ArenaError(
                    f"this process shares the arena {_here.name!r} already, and cannot share {name!r} too", "other"
                )
            if _here is None:
                sharing = Sharing(name, path, chosen)
                sharing.begin()
                _here = sharing
                atexit.register(_core.part_arena)
        _here.move()
        return Arena(name)
    except ArenaTrouble as error:
        problem = trouble(arena_path(name), error)
    except ArenaError as error:
        problem = error
    if on_error == "raise":
        raise problem from None
    warn("breakers are not shared: %s", problem)
    return None


_here: Sharing | None = None
_turn = forks.new_lock()


def _default() -> Registry:
    return registry.default


def share_as_environment_says() -> None:
    """Share what FAILSOFT_ARENA names."""
    name = os.environ.get("FAILSOFT_ARENA", "")
    if name and not _is_command():
        try:
            share(name, on_error="warn")
        except (TypeError, ValueError) as error:
            warn("FAILSOFT_ARENA: %s", error)


def _is_command() -> bool:
    """The `failsoft` command looks at an arena from outside: it takes no part in it, and makes none."""
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == "failsoft"
