"""Classifiers that installed packages bring, under the entry point group `failsoft.classifiers`.

    [project.entry-points."failsoft.classifiers"]
    acme = "acme.resilience:classify"

The name is the top package of the exceptions, the object a function of an error that gives an `ErrorCategory`, its
name, or None where it has no opinion. What is installed is looked through once, with the first error of a package that
failsoft does not know; a classifier is imported with the first error of its package, which is there then anyway.
"""

from __future__ import annotations

from .forks import new_lock
from .logs import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint
    from typing import Any

    from .config import ErrorCategory

    Classifier = Callable[[Any], ErrorCategory | str | None]

GROUP = "failsoft.classifiers"

_found: dict[str, tuple[EntryPoint, ...]] | None = None
_loaded: dict[str, tuple[Classifier, ...]] = {}
_changing = new_lock()  # not held while code of others is imported


def classifiers_of(package: str) -> tuple[Classifier, ...]:
    """The classifiers for exceptions of this top package. One that cannot be had is logged, once, and left out."""
    known = _loaded.get(package)
    if known is not None:
        return known
    made = tuple(each for each in map(_load, _entry_points().get(package, ())) if each is not None)
    with _changing:
        return _loaded.setdefault(package, made)


def _entry_points() -> dict[str, tuple[EntryPoint, ...]]:
    global _found
    if _found is None:
        found: dict[str, tuple[EntryPoint, ...]] = {}
        try:
            from importlib.metadata import entry_points

            for entry in entry_points(group=GROUP):
                found[entry.name] = (*found.get(entry.name, ()), entry)
        except Exception:  # whatever is installed
            complain("the entry points of %s could not be read; none is heard", GROUP)
        _found = found
    return _found


def _load(entry: EntryPoint) -> Classifier | None:
    try:
        classifier: Classifier = entry.load()
        if not callable(classifier):
            raise TypeError(f"a classifier must be a function of an error, got {classifier!r}")
    except KeyboardInterrupt:
        raise
    except BaseException:
        complain("the classifier %s = %s could not be loaded; it is not heard", entry.name, entry.value)
        return None
    return classifier
