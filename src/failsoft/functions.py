"""What kind of function a callable is, told from its code, without importing `inspect` for it."""

from __future__ import annotations

import sys
from functools import WRAPPER_ASSIGNMENTS, partial
from types import FunctionType, MethodType

from ._core import IntegrationResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # inspect.CO_*
_KINDS = {
    "__module__": str,
    "__name__": str,
    "__qualname__": str,
    "__doc__": str,
    "__annotations__": dict,
    "__type_params__": tuple,
}
_LOOKS_LIKE_A_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__", "__annotations__")


def _has_code(fn: Any) -> bool:
    """Asked of its class and its dict, since some clients answer to any name."""
    return hasattr(type(fn), "__code__") or "__code__" in getattr(fn, "__dict__", ())


def _function_of(fn: Any) -> Any:
    """The function behind a method, a partial or a callable object, as far as there is one."""
    while not _has_code(fn):
        if isinstance(fn, partial):
            fn = fn.func
        elif isinstance(fn, MethodType):
            fn = fn.__func__
        else:
            call = getattr(type(fn), "__call__", None)  # noqa: B004  the method itself is wanted
            if isinstance(fn, type) or not _has_code(call):
                return fn
            fn = call
    return fn


def _flags(fn: object) -> int:
    code: CodeType | None = getattr(_function_of(fn), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    return flags if isinstance(flags, int) else 0


def name_of(fn: object) -> str:
    """The function's own name, or that of its class."""
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) and name else type(fn).__name__


def is_generator_function(fn: object) -> bool:
    """Whether calling `fn` makes a generator, sync or async."""
    return bool(_flags(fn) & (_GENERATOR | _ASYNC_GENERATOR))


def is_coroutine_function(fn: object) -> bool:
    """Whether calling `fn` makes a coroutine, as far as can be told beforehand."""
    if _flags(fn) & _COROUTINE:
        return True
    inspect = sys.modules.get("inspect")  # its marks can only be there if somebody has imported it
    return inspect is not None and bool(inspect.iscoroutinefunction(fn))


def is_awaitable(value: object) -> bool:
    """Whether a value is there only when awaited. An IntegrationResult can be awaited, and is there already.

    Asked of its class, since proxies answer to any name.
    """
    return hasattr(type(value), "__await__") and not isinstance(value, IntegrationResult)


def looks_of(fn: Any, wrapper: type, name: str) -> dict[str, object]:
    """What a wrapper of that type has in its `__dict__` to look like `fn`.

    As functools.update_wrapper has it, except `__wrapped__`, which is the wrapper's own.

    `name` stands in where `fn` has none. A coroutine function is made to look like one to inspect and asyncio, who go
    by the attributes of functions on every version.
    """
    # An attribute of the function must not hide a method of the guard.
    own = {key: value for key, value in getattr(fn, "__dict__", {}).items() if not hasattr(wrapper, key)}
    looks: dict[str, object] = {**own, "__name__": name, "__qualname__": name}
    for attribute in map(str, WRAPPER_ASSIGNMENTS):
        value = getattr(fn, attribute, None)
        if isinstance(value, _KINDS.get(attribute, object)) and value is not None:
            looks[attribute] = value
    looks.setdefault("__doc__", None)  # or the guard's own would show
    if is_coroutine_function(fn):
        function = _function_of(fn)
        looks.update({attribute: getattr(function, attribute, None) for attribute in _LOOKS_LIKE_A_FUNCTION})
    looks.pop("__wrapped__", None)
    return looks


def dress(wrapper: Any, fn: Any, name: str) -> None:
    """Give `wrapper` the looks of `fn`; `name` stands in where `fn` has none."""
    wrapper.__dict__.update(looks_of(fn, type(wrapper), name))


def looks_later(fn: object) -> bool:
    """Whether what `fn` looks like can be asked when somebody wants to know: nothing but its function is.

    Attributes of its own have to be found in the wrapper's `__dict__` from the start.
    """
    return type(fn) is FunctionType and not fn.__dict__ and not is_coroutine_function(fn)
