"""A dependency that answers and fails as written down, call by call."""

from __future__ import annotations

from collections.abc import Iterable

from ..checks import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ScriptEnded(AssertionError):
    """A script was called once more than it has steps."""


class Script:
    """A callable whose calls go by a list of steps:

        feed = Script([TimeoutError, ConnectionRefusedError("no"), 101.5])
        quote = market.guard(feed, operation="quote")

    A step is an exception or a class of exceptions, which is raised; a function, which is called with the call's
    arguments, and whose answer is the call's; or anything else, which is the answer. Past the last step a call raises
    `ScriptEnded`, unless `repeat`: then the last step is that of all calls to come. `calls` holds (args, kwargs) of
    each call. `awaited` is the same as a coroutine function; both go by one list.
    """

    def __init__(self, steps: Iterable[object], *, repeat: bool = False) -> None:
        self._steps = list(steps)
        if repeat and not self._steps:
            raise ValueError("steps must hold at least one step to repeat, got none")
        self._repeat = repeat
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.__name__ = self.__qualname__ = "script"

    def __repr__(self) -> str:
        return f"<Script of {len(self._steps)} steps, called {len(self.calls)} times>"

    @property
    def left(self) -> int:
        """Steps that no call has come to yet."""
        return max(len(self._steps) - len(self.calls), 0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        step = self._next(args, kwargs)
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        return step(*args, **kwargs) if callable(step) and not isinstance(step, type) else step

    async def awaited(self, *args: Any, **kwargs: Any) -> Any:
        """The same, to be awaited; so is what a function among the steps answers, if it can be."""
        answer = self(*args, **kwargs)
        return await answer if hasattr(type(answer), "__await__") else answer

    def _next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.calls.append((args, kwargs))
        number = len(self.calls)
        if number > len(self._steps) and not self._repeat:
            raise ScriptEnded(f"call {number} of a script of {len(self._steps)} steps, with {shown(args)}")
        return self._steps[min(number, len(self._steps)) - 1]
