"""Signatures and calls as hypothesis draws them, and what a callable shows of itself and of how it ends."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c", "self", "args", "value", "operation", "guard", "mode")
ANY = st.sampled_from([None, 0, 1, True, (), (1, 2), "text", 1.5, frozenset({1})])


@st.composite
def signatures(draw: Any) -> str:
    """The parameters of a function, as they are written."""
    names = draw(st.permutations(NAMES))
    kinds = [draw(st.integers(0, 2)) for _ in range(3)]  # how many: positional only, either way, keyword only
    parts: list[str] = []
    defaults = False
    taken = iter(names)
    for place, count in enumerate(kinds[:2]):
        for _ in range(count):
            defaults = defaults or draw(st.booleans())
            parts.append(next(taken) + ("='default'" if defaults else ""))
        if place == 0 and count:
            parts.append("/")
    if draw(st.booleans()):
        parts.append("*rest")
    elif kinds[2]:
        parts.append("*")
    parts += [next(taken) + ("='default'" if draw(st.booleans()) else "") for _ in range(kinds[2])]
    if draw(st.booleans()):
        parts.append("**others")
    return ", ".join(parts)


calls = st.tuples(
    st.lists(ANY, max_size=5).map(tuple), st.dictionaries(st.sampled_from([*NAMES, "x", "é"]), ANY, max_size=4)
)
ENDS = ("return", "raise", "raise from", "raise in", "group", "notes", "exit")


def function(parameters: str, end: str, *, is_async: bool) -> Callable[..., Any]:
    """A function of these parameters that gives them back, or raises with them, by one of ENDS."""
    source = f"{'async ' if is_async else ''}def bare({parameters}):\n    'What it does.'\n    return finish(end, locals())\n"
    names: dict[str, Any] = {"finish": finish, "end": end, "__name__": __name__}
    exec(source, names)
    bare: Callable[..., Any] = names["bare"]
    return bare


def finish(end: str, given: dict[str, Any]) -> object:
    if end == "return":
        return given
    if end == "raise":
        raise KeyError(given)
    if end == "raise from":
        try:
            raise LookupError("the cause")
        except LookupError as cause:
            raise OSError(5, "of it") from cause
    if end == "raise in":
        try:
            raise LookupError("the context")
        except LookupError:
            raise ConnectionError(given)  # noqa: B904  the context is what is looked at
    if end == "group":
        raise ExceptionGroup("several", [ValueError(1), ExceptionGroup("more", [TypeError(2), OSError(3)])])
    if end == "notes":
        error = RuntimeError("with words")
        error.add_note("one")
        error.add_note("two")
        raise error
    raise SystemExit(given)


def told_of(error: BaseException | None) -> Any:
    """All that two exceptions can have in common."""
    if error is None:
        return None
    inner = tuple(map(told_of, error.exceptions)) if isinstance(error, BaseExceptionGroup) else ()
    return (
        type(error), str(error), getattr(error, "__notes__", None), told_of(error.__cause__), told_of(error.__context__),
        error.__suppress_context__, inner,
    )  # fmt: skip


def seen(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, is_async: bool
) -> tuple[Any, list[str]]:
    """How a call ends, and the frames that its traceback shows below the one here."""
    try:
        if is_async:
            return ("value", asyncio.run(fn(*args, **kwargs))), []
        return ("value", fn(*args, **kwargs)), []
    except BaseException as error:
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        return ("raised", told_of(error)), names[1:]


def looks(fn: Any) -> dict[str, object]:
    """What a callable shows to those who look at it."""
    return {
        "signature": str(inspect.signature(fn)),
        "name": fn.__name__,
        "qualname": fn.__qualname__,
        "module": fn.__module__,
        "doc": inspect.getdoc(fn),
        "coroutine function": inspect.iscoroutinefunction(fn),
        "by asyncio": inspect.iscoroutinefunction(inspect.unwrap(fn)),
        "generator function": inspect.isgeneratorfunction(fn),
        "async generator function": inspect.isasyncgenfunction(fn),
        "callable": callable(fn),
        "annotations": getattr(fn, "__annotations__", None),
    }
