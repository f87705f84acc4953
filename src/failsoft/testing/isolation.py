"""The default registry, empty for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import registry as registries
from .._core import faces
from ..degraded import Capacities
from ..registry import Registry

_STAYS = ("lock", "metrics", "_health", "capacities")
"""What others hold by itself: it is emptied, or knows its registry only."""


@contextmanager
def isolated() -> Iterator[Registry]:
    """Let the default registry be as a new one in a `with` block, and afterwards what it was before.

    Module functions, metrics and health monitor then know nothing of what is inside. Guards made before keep the
    integration that they were made with. It is the process's: two such blocks can only be one inside the other.
    """
    default = registries.default
    monitor = default.health
    fresh = {name: value for name, value in vars(Registry()).items() if name not in _STAYS}
    with default.lock:
        before = {name: vars(default)[name] for name in (*fresh, "capacities")}
        known, runner = dict(faces), monitor._runner
        vars(default).update(fresh, capacities=Capacities(default))
        monitor._runner = None
        faces.clear()
    try:
        yield default
    finally:
        default.close()
        with default.lock:
            vars(default).update(before)
            monitor._runner = runner
            faces.clear()
            faces.update(known)
