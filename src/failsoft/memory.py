"""What a guard knows a remembered value by: the arguments of the call that gave it.

Where what to call is an argument itself, mostly a lambda made for the one call, it is known by what that lambda
consists of: its code, what it has closed over, its defaults.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .recovery import Recovery


def memory_key(recovery: Recovery) -> Callable[..., Hashable] | None:
    """What makes the key of a remembered value out of all the arguments a guard gets. None: they are it."""
    key = recovery.memory.key if recovery.memory else None
    if recovery.memory is None or not recovery.skip:
        return key
    if key is None:
        return _called
    chosen = key
    return lambda _operation, /, *args, **kwargs: chosen(*args, **kwargs)


def _called(operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Hashable:
    made: Hashable = _parts_of(operation)
    return (made, args, frozenset(kwargs.items())) if args or kwargs else made


def _parts_of(operation: Callable[..., Any]) -> Hashable:
    """What two callables have in common that do the same, although each was made for one call."""
    if isinstance(operation, partial):
        held = (*map(_held, operation.args), *((name, _held(value)) for name, value in operation.keywords.items()))
        return (_parts_of(operation.func), len(operation.args), held)
    if isinstance(operation, MethodType):
        return (operation.__func__, _held(operation.__self__))
    if not isinstance(operation, FunctionType):
        held_itself: Hashable = _held(operation)
        return held_itself
    code, closure = operation.__code__, operation.__closure__
    defaults, named = operation.__defaults__, operation.__kwdefaults__
    closed_over = tuple([_held(cell.cell_contents) for cell in closure]) if closure else ()
    given = tuple(map(_held, (*(defaults or ()), *(named or {}).values()))) if defaults or named else ()
    return (code, code.co_filename, closed_over, given)


def _held(value: Any) -> Any:
    """What is only itself, as a client or a session, is not kept alive for having been used once."""
    kind: Any = type(value)
    if kind.__hash__ is not object.__hash__:
        return value
    try:
        return weakref.ref(value)
    except TypeError:
        return value
