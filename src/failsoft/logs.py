"""What goes to the `failsoft` logger: each call that did not get its own answer, once, repeats counted.

A failure is logged at WARNING when it is the first of its kind (integration, operation, category, class of the error,
fallback), and again when another comes after `EVERY` seconds; those between are counted in `repeats`. The `extra` of a
record has always the same keys, `FIELDS`. `logging` is imported with the first record, not with failsoft.
"""

from __future__ import annotations

from ._core import now_ns
from .forks import new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Logger

EVERY = 60.0
"""Seconds between two records of one kind of failure."""

KINDS_MOST = 1024
"""Kinds of failures kept apart at a time; with more, the oldest counts of repeats are forgotten."""

FIELDS = (
    "integration", "integration_type", "operation", "code", "category", "reason", "attempts", "retry_after", "fallback",
    "details", "repeats",
)  # fmt: skip
"""The keys of `extra`, None where there is nothing to say."""

_lock = new_lock()
_told: dict[tuple[object, ...], list[int]] = {}  # kind -> [when last logged in ns, not logged since]


def logger() -> Logger:
    """The `failsoft` logger, with a NullHandler where nobody has given it a handler."""
    import logging

    log = logging.getLogger("failsoft")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return log


def repeats_of(kind: tuple[object, ...]) -> int | None:
    """Count a failure. None: it is a repeat. Else it is to be logged, and so many were not since the last time."""
    now = now_ns()
    with _lock:
        # Not .get(), which on CPython 3.13t waits for itself whenever another thread put the value there.
        told = _told[kind] if kind in _told else None  # noqa: SIM401
        if told is not None and 0 <= now - told[0] < EVERY * 1e9:  # a test's clock may have gone back
            told[1] += 1
            return None
        if told is None and len(_told) >= KINDS_MOST:
            del _told[next(iter(_told))]
        _told[kind] = [now, 0]
    return told[1] if told is not None else 0


def failure(kind: tuple[object, ...], message: Callable[[], str], fields: Callable[[], Mapping[str, object]]) -> None:
    """Log a failure unless it repeats one just logged. Words are made only if they are wanted; nothing here raises."""
    try:
        repeats = repeats_of(kind)
        if repeats is None:
            return
        again = f" ({repeats} more since the last time)" if repeats else ""
        given = fields()
        extra = {**{name: given.get(name) for name in FIELDS}, "repeats": repeats}
        logger().warning("%s%s", message(), again, extra=extra)
    except KeyboardInterrupt:
        raise
    except BaseException:
        complain("a failure could not be logged: %r", kind)


def warn(message: str, *args: object) -> None:
    """Log a warning; nothing here raises."""
    try:
        logger().warning(message, *args)
    except KeyboardInterrupt:
        raise
    except BaseException:
        complain(message, *args)


def complain(message: str, *args: object) -> None:
    """Log, with the exception being handled, that code of the user has raised where it must not matter."""
    try:
        logger().exception(message, *args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a handler of the user's that raises, too
        return


def shown(how: Callable[[object], str], thing: object) -> str:
    """In words; things of users may have none, which must not become the caller's problem."""
    try:
        return how(thing)[:500]
    except Exception:
        return f"a {type(thing).__name__} without words"
