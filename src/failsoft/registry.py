"""Named integrations, and the registry that keeps one of each."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping

from ._core import Operation, disable_guard, now_ns
from .breakers import BreakerStatus, BreakerSummary, CircuitBreaker
from .config import CircuitState, ErrorCategory, IntegrationConfig, IntegrationType, default_config
from .errors import classify_error
from .fallbacks import Fallback, in_order
from .functions import name_of
from .guards import build, refuse_generators
from .metrics import read_metrics
from .recovery import FAILED, IGNORED, SECOND, SUCCEEDED, TIMEOUTS, Recovery
from .retry import backoff_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from types import TracebackType
    from typing import Any, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar, Unpack, overload

    from ._core import AsyncGuard, Guard
    from .metrics import OperationMetrics

    P = ParamSpec("P")
    R = TypeVar("R")
    AnyGuard: TypeAlias = Guard[..., Any] | AsyncGuard[..., Any]
    Judge: TypeAlias = Callable[[Any], ErrorCategory | str | None]
    Details: TypeAlias = Mapping[str, object] | Callable[..., Mapping[str, object]]

    class Options(TypedDict, total=False):
        """What `Integration.guard` takes besides the function."""

        operation: str | None
        fallbacks: Iterable[Fallback]
        retry: bool
        idempotent: bool
        failure: Judge | None
        details: Details | None

    class Decorator(Protocol):
        """What `Integration.guard(...)` without a function gives."""

        @overload
        def __call__(  # type: ignore[overload-overlap]  # a coroutine function is the special case of a function
            self, fn: Callable[P, Coroutine[Any, Any, R]], /
        ) -> AsyncGuard[P, R]: ...
        @overload
        def __call__(self, fn: Callable[P, R], /) -> Guard[P, R]: ...


class Integration:
    """One dependency of the program, by name: its settings, its breaker, and the guards before its operations.

    Get it from `failsoft.integration(name, type)`; the same name gives the same object.
    """

    def __init__(self, registry: Registry, name: str, config: IntegrationConfig) -> None:
        self._registry = registry
        self.name = name
        self.config = config
        self.type = config.type
        self.breaker = CircuitBreaker(config.circuit_breaker, name)
        self.backoff = backoff_of(config.retry_policy)
        self._operations: dict[str, Operation] = {}
        self._callers: dict[tuple[object, ...], Guard[..., Any]] = {}

    def __repr__(self) -> str:
        return f"<Integration {self.name!r} {self.type} {self.breaker.state}>"

    if TYPE_CHECKING:

        @overload
        def guard(self, fn: None = None, **options: Unpack[Options]) -> Decorator: ...
        @overload
        def guard(  # type: ignore[overload-overlap]
            self, fn: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[Options]
        ) -> AsyncGuard[P, R]: ...
        @overload
        def guard(self, fn: Callable[P, R], **options: Unpack[Options]) -> Guard[P, R]: ...

    def guard(self, fn: Any = None, **options: Unpack[Options]) -> Any:
        """Put this integration's policies before a function: sync, async, method, builtin or callable object.

            @database.guard
            def robots(): ...

        The guard is called as the bare function and raises what it raises; `CircuitOpenError` where the breaker
        refuses. `.outcome(...)` answers with an `IntegrationResult` instead, `.metrics()` with the numbers.

        - `operation`: the name its calls are recorded under; the function's own by default.
        - `fallbacks`: what to answer with when all else has failed.
        - `retry=False`: one attempt only.
        - `idempotent=False`: retry only what provably never reached the dependency.
        - `failure`: takes a returned value, gives the `ErrorCategory` it stands for, or None for a success.
        - `details`: context for errors, a mapping or a function of the call's arguments that makes one.
        """
        if fn is None:
            return functools.partial(self.guard, **options)
        return self._guard(fn, **options)

    def _guard(
        self,
        fn: Any,
        operation: str | None = None,
        fallbacks: Iterable[Fallback] = (),
        retry: bool = True,
        idempotent: bool = True,
        failure: Judge | None = None,
        details: Details | None = None,
    ) -> Any:
        if isinstance(fn, (classmethod, staticmethod)):
            inner = self._guard(fn.__func__, operation, fallbacks, retry, idempotent, failure, details)
            return type(fn)(inner)
        if not callable(fn):
            raise TypeError(f"fn must be callable, got {fn!r}")
        refuse_generators(fn)
        if failure is not None and not callable(failure):
            raise TypeError(f"failure must be callable with the returned value, got {failure!r}")
        name = operation or name_of(fn)
        recovery = Recovery(
            self,
            name,
            self.record(name),
            failure=failure,
            fallbacks=in_order(fallbacks),
            retry=retry,
            idempotent=idempotent,
            details=details,
        )
        return self._registry.watched(fn, recovery, shared=True)

    def caller(
        self, operation: str, fallbacks: tuple[Fallback, ...] = (), *, retry: bool = True, idempotent: bool = True
    ) -> Guard[..., Any]:
        """A guard that takes what to call as its first argument, kept for the next time."""
        key: tuple[object, ...] | None = (operation, fallbacks, retry, idempotent)
        try:
            guard = self._callers.get(key)  # type: ignore[arg-type]
        except TypeError:  # a handler that cannot be hashed; then there is no next time
            guard, key = None, None
        if guard is None:
            recovery = Recovery(
                self,
                operation,
                self.record(operation),
                fallbacks=_for_caller(fallbacks),
                retry=retry,
                idempotent=idempotent,
            )
            guard = self._registry.watched(_call, recovery, shared=False)
            if key is None:
                return guard  # type: ignore[no-any-return]
            with self._registry.lock:
                if len(self._callers) >= CALLERS_MOST:
                    self._callers.pop(next(iter(self._callers)))
                self._callers[key] = guard
        return guard

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` guarded, once, without making a guard of it."""
        result: R = self.caller(name_of(fn))(fn, *args, **kwargs)
        return result

    async def acall(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Await `fn(...)` guarded, once, without making a guard of it."""
        return await self.caller(name_of(fn))(fn, *args, **kwargs)

    def attempt(self, operation: str = "attempt") -> IntegrationAttempt:
        """A `with` or `async with` block as one guarded attempt: for bodies, cursors and generators. Not retried."""
        return IntegrationAttempt(self.caller(operation))

    def record(self, operation: str) -> Operation:
        """What the calls of a named operation are recorded in."""
        if not isinstance(operation, str) or not operation:
            raise TypeError(f"operation must be a non-empty string, got {operation!r}")
        with self._registry.lock:
            record = self._operations.get(operation)
            if record is None:
                record = Operation(self.config.circuit_breaker.window)
                self.breaker.adopt(record)
                self._operations[operation] = record
            return record

    def metrics(self, operation: str) -> OperationMetrics:
        """The numbers of a named operation. KeyError where it has never been guarded."""
        if operation not in self._operations:
            raise KeyError(f"{self.name!r} has no operation {operation!r}; it has {sorted(self._operations)}")
        return read_metrics(self._operations[operation])

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of its guarded operations."""
        return tuple(self._operations)

    def status(self) -> BreakerStatus:
        """Its breaker, now."""
        return self.breaker.status()

    def force_open(self) -> None:
        """Refuse every call until an operator says otherwise."""
        self.breaker.force_open()

    def force_closed(self) -> None:
        """Close the breaker now, as if nothing had happened."""
        self.breaker.force_closed()

    def disable(self) -> None:
        """Let every call go past the breaker; it counts nothing."""
        self.breaker.disable()

    def metrics_only(self) -> None:
        """Let every call go and count, but never trip."""
        self.breaker.metrics_only()

    def reset(self) -> None:
        """Close the breaker with fresh counts."""
        self.breaker.reset()


CALLERS_MOST = 64
"""Guards kept for `call` and `with_integration_resilience`, per integration. The one made first goes first: fallbacks
made for one call only would otherwise pile up."""

NO_PERMIT = 1
"""Of generation 0, in which no breaker ever is."""


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def _for_caller(fallbacks: Iterable[Fallback]) -> tuple[Fallback, ...]:
    """Fallbacks of a caller do not see the function that is its first argument."""

    def without_first(handler: Callable[..., Any]) -> Callable[..., Any]:
        return lambda _fn, *args, **kwargs: handler(*args, **kwargs)

    return tuple(Fallback(f.type, without_first(f.handler), f.priority) for f in in_order(fallbacks))


class IntegrationAttempt:
    """One guarded attempt as a block, sync or async; used once."""

    __slots__ = ("_guard", "_permit", "_started")

    def __init__(self, guard: Guard[..., Any]) -> None:
        self._guard = guard
        self._permit = 0
        self._started = 0

    def __enter__(self) -> None:
        if self._permit:
            raise RuntimeError("an attempt can be entered once; ask the integration for another one")
        self._permit = NO_PERMIT if self._guard._disabled else self._guard._breaker.acquire()
        if not self._permit:
            raise self._guard._refuse().error()
        self._started = now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=False)

    def _settle(self, error: BaseException | None, *, patient: bool) -> None:
        took = now_ns() - self._started
        recovery = self._guard._recovery
        if error is None:
            late = took >= recovery.timeout * SECOND
            outcome = FAILED if late else SUCCEEDED
            timed_out = late
        elif isinstance(error, Exception):
            category = classify_error(error)
            outcome = recovery.outcome_of(category)
            timed_out = category is ErrorCategory.TIMEOUT
        else:  # a block given up after long was hanging, as for guards
            timed_out = patient and _is_cancelled(error) and took >= recovery.patience * SECOND
            outcome = FAILED if timed_out else IGNORED
        if timed_out:
            recovery.record.note(TIMEOUTS)
        self._guard._settle(self._permit, outcome, took)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=True)


def _is_cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


class Registry:
    """A set of integrations by name. Module functions use a default one; tests make their own.

    `FAILSOFT_DISABLED=1` in the environment makes every guard of a new registry a pass-through; `disable()` does the
    same at any time, and `enable()` undoes it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # over the tables below; never held while user code runs
        self.disabled = os.environ.get("FAILSOFT_DISABLED", "") not in ("", "0")
        self._integrations: dict[str, Integration] = {}
        self._guards: list[weakref.ref[AnyGuard]] = []

    def integration(
        self,
        name: str,
        type: IntegrationType | str,
        config: IntegrationConfig | None = None,
        **overrides: Any,
    ) -> Integration:
        """Get or make the integration of this name.

        Without `config` the preset of `type` holds; `overrides` replace parts of it, or single fields by mappings:
        `integration("db", "database", circuit_breaker={"reset_timeout": 5.0})`. The same name with another type or
        other settings is a `ValueError`.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty string, got {name!r}")
        if isinstance(name, IntegrationType) or (not _is_type(type) and _is_type(name)):
            raise TypeError(f"name and type are swapped: integration({str(type)!r}, {str(name)!r})")
        settings = _settings(IntegrationType(type) if _is_type(type) else type, config, overrides)
        asked = config is not None or bool(overrides)
        with self.lock:
            known = self._integrations.get(name)
            if known is None:
                known = self._integrations[name] = Integration(self, name, settings)
                return known
        if known.type != settings.type:
            raise ValueError(f"integration {name!r} is {known.type} already and cannot be {settings.type} too")
        if asked and known.config != settings:
            raise ValueError(f"integration {name!r} has other settings already: {known.config}, not {settings}")
        return known

    def __getitem__(self, name: str) -> Integration:
        try:
            return self._integrations[name]
        except KeyError:
            raise KeyError(f"no integration is named {name!r}; there are {sorted(self._integrations)}") from None

    def __iter__(self) -> Iterator[Integration]:
        return iter(tuple(self._integrations.values()))

    def __len__(self) -> int:
        return len(self._integrations)

    def __bool__(self) -> bool:
        return True  # an empty registry is one all the same: `registry or default` must not swap it

    def status(self, name: str) -> BreakerStatus:
        """The breaker of an integration, now. KeyError where none has this name."""
        return self[name].status()

    def summary(self) -> BreakerSummary:
        """How many breakers there are, and how many are CLOSED."""
        states: dict[CircuitState, int] = {}
        for integration in self:
            state = integration.breaker.state
            states[state] = states.get(state, 0) + 1
        total, healthy = len(self), states.get(CircuitState.CLOSED, 0)
        return BreakerSummary(total, healthy, total - healthy, states)

    def disable(self) -> None:
        """Turn every guard of this registry into a pass-through."""
        self._switch(True)

    def enable(self) -> None:
        """Put the guards back to work."""
        self._switch(False)

    def close(self) -> None:
        """Forget all integrations. Guards already made go on working."""
        with self.lock:
            self._integrations.clear()
            self._guards.clear()

    def watched(self, fn: Callable[..., Any], recovery: Recovery, *, shared: bool) -> Any:
        """A guard before `fn` that `disable` and `enable` reach."""
        guard = build(fn, recovery, shared=shared, disabled=self.disabled)
        with self.lock:
            if len(self._guards) % 256 == 255:
                self._guards = [ref for ref in self._guards if ref() is not None]
            self._guards.append(weakref.ref(guard))
        return guard

    def _switch(self, disabled: bool) -> None:
        with self.lock:
            self.disabled = disabled
            guards = [ref() for ref in self._guards]
        for guard in guards:
            if guard is not None:
                disable_guard(guard, disabled)


def _is_type(value: object) -> bool:
    return isinstance(value, str) and value in IntegrationType.__members__.values()


def _settings(
    type: IntegrationType | str, config: IntegrationConfig | None, overrides: dict[str, Any]
) -> IntegrationConfig:
    if config is None:
        config = default_config(type)  # type: ignore[arg-type]
    elif not isinstance(config, IntegrationConfig):
        raise TypeError(f"config must be an IntegrationConfig, got {config!r}")
    elif config.type != type:
        raise ValueError(f"config is for {config.type}, not for {type}")
    return config.with_(**overrides) if overrides else config


default = Registry()
"""The registry of the module functions."""
