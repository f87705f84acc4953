"""One named dependency: its settings, its breaker, and the guards before its operations."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable

from ._core import Budget, Operation, control_guard, retime_guard
from .breakers import BreakerStatus, CircuitBreaker
from .config import IntegrationConfig
from .fallbacks import Fallback, in_order
from .functions import name_of
from .guards import limits, refuse_generators
from .load import LoadControl
from .metrics import read_metrics
from .operations import Operations
from .options import check_switches, recovery_of, refuse_unknown_options
from .recorder import CAPACITY, OPERATOR
from .recovery import Recovery, Terms
from .retry import backoff_of
from .shards import Shards
from .switches import Switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, overload

    from ._core import AsyncGuard, Guard
    from .attempts import IntegrationAttempt
    from .budgets import RetryBudgetStatus
    from .chaos_plans import Chaos
    from .course import AnyGuard
    from .decisions import Explanation
    from .enforcement import Abandoned, AbandonedCall
    from .kinds import CircuitState
    from .load import LoadStatus
    from .metrics import OperationMetrics
    from .options import Decorator, Options
    from .queues import Queue
    from .registry import Registry
    from .streams import Connect, Resume, Stream
    from .streams.watched import Watch

    P = ParamSpec("P")
    R = TypeVar("R")
    T = TypeVar("T")
    Pick: TypeAlias = Callable[[Any], R] | str | int


CALLERS_MOST = 64
"""Guards kept for `call` and `with_integration_resilience`, per integration. The one made first goes first: fallbacks
made for one call only would otherwise pile up."""

_INNER = frozenset({
    "backoff", "drop_chaos", "family", "for_key", "forget_baselines", "guard_for_key", "hold_to", "keep", "limit",
    "limit_reason", "limited", "load_if_any", "named", "numbered", "passes_through", "queue", "record", "recorded",
    "recorded_as", "retry_budget", "settle", "shard", "take_chaos", "terms", "unaccepted",
})  # fmt: skip
"""What our own rooms ask of an integration. Who presses Tab is not looking for it."""


class Integration(Switches):
    """One dependency of the program, by name: its settings, its breaker, and the guards before its operations.

    Get it from `failsoft.integration(name, type)`; the same name gives the same object. With `guard(key=...)` each key
    has an Integration of its own, in `shards`, named "name[key]".
    """

    def __init__(
        self, registry: Registry, name: str, config: IntegrationConfig, parent: Integration | None = None
    ) -> None:
        self._registry = registry
        self._parent = parent
        self.name = name
        self.config = config
        self.terms = Terms(config)
        self.type = config.type
        self.breaker = CircuitBreaker(config.circuit_breaker, name, config.degraded)
        self.backoff = backoff_of(config.retry_policy)
        self.retry_budget: Budget | None = None
        self._budget_settles()
        self._limit = 1.0
        self._abandoned: Abandoned | None = None
        self._chaos: tuple[Chaos, ...] = ()
        self._standing_chaos: Chaos | None = None  # that of its settings
        self._load = LoadControl(registry, self.breaker, config)
        self._operations = Operations(registry, self.breaker, config.circuit_breaker.window, bounded=parent is None)
        self._callers: dict[tuple[object, ...], Guard[..., Any]] = {}
        self._guards: list[weakref.ref[AnyGuard]] = []
        self._shards = Shards(registry)
        self._chaos_settles()

    def __repr__(self) -> str:
        return f"<Integration {self.name!r} {self.type} {self.breaker.state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: why it is in the state it is in."""
        return self.explain()._repr_html_()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INNER]

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
        - `dedupe`: concurrent calls that are alike share one execution. True: alike in their arguments; a function of
          the arguments: alike in what it gives. See failsoft/dedupe.py for what is shared and what is not.
        - `retry=False`: one attempt only.
        - `idempotent=False`: retry only what provably never reached the dependency.
        - `failure`: takes a returned value, gives the `ErrorCategory` it stands for, or None for a success.
        - `key`: a function of the arguments that names the venue, shard or host the call goes to. Each key has a
          breaker and numbers of its own, so that a dead one does not cut off the others; at most `max_keys` are kept,
          and one that has not been used lately is forgotten first.
        - `details`: context for errors and logs, a mapping or a function of the call's arguments that makes one.
        - `enforce="thread"`: for blocking functions that keep no time themselves. Each attempt runs in a thread, and
          the caller leaves it when its time is up. The work goes on there: see `abandoned`, and docs/deadlines.md.
        - `hedge`: for async functions, a quantile such as 0.95. A call that takes longer than that share of the calls
          lately gets a second attempt beside the first, charged to the retry budget; see failsoft/hedges.py.
        """
        if fn is None:
            return functools.partial(self.guard, **options)
        return self._guard(fn, **options)

    def _guard(self, fn: Any, *, enforce: str | None = None, **options: Any) -> Any:
        if isinstance(fn, (classmethod, staticmethod)):
            return type(fn)(self._guard(fn.__func__, enforce=enforce, **options))
        if not callable(fn):
            named = f"; a name is given by operation={fn!r}" if isinstance(fn, str) else ""
            raise TypeError(f"fn must be callable, got {fn!r}{named}")
        refuse_generators(fn)
        refuse_unknown_options(options)
        if enforce is not None:
            if options.get("hedge") is not None:
                raise TypeError("hedge is for async functions and enforce for blocking ones; no function can have both")
            fn = self._enforced(fn, enforce, options.get("operation"))
        return self._registry.watched(fn, recovery_of(self, fn, **options), shared=True)

    def _enforced(self, fn: Any, enforce: str, operation: str | None) -> Any:
        if enforce != "thread":
            raise ValueError(f'enforce must be "thread" or None, got {enforce!r}')
        from .enforcement import Abandoned, enforced

        with self._registry.lock:
            if self._abandoned is None:
                self._abandoned = Abandoned()
        return enforced(fn, self, operation, self._abandoned)

    @property
    def abandoned(self) -> tuple[AbandonedCall, ...]:
        """The calls of `guard(enforce="thread")` that were left when their time was up and still run, oldest first."""
        return () if self._abandoned is None else self._abandoned.told()

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
            check_switches(retry=retry, idempotent=idempotent)
            recovery = Recovery(
                self,
                operation,
                self.record(operation),
                fallbacks=in_order(fallbacks),
                retry=retry,
                idempotent=idempotent,
                skip=1,
            )
            guard = self._registry.watched(operator.call, recovery, shared=False)
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

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn(...)` guarded, once, without making a guard of it."""
        result: R = await self.caller(name_of(fn))(fn, *args, **kwargs)
        return result

    def attempt(self, operation: str = "attempt") -> IntegrationAttempt:
        """A `with` or `async with` block as one guarded attempt: for bodies, cursors and generators. Not retried."""
        from .attempts import IntegrationAttempt

        return IntegrationAttempt(self.caller(operation))

    def stream(
        self,
        connect: Connect[T],
        *,
        stale_after: float | None,
        key: Pick[Hashable] | None = None,
        sequence: Pick[int | None] | None = None,
        operation: str | None = None,
        resume: Resume[T] | None = None,
        buffer: int = 0,
        overflow: Literal["drop_oldest", "block", "raise"] = "drop_oldest",
        ends: bool = False,
        max_reconnects: int | None = None,
        max_keys: int = 1024,
        close_timeout: float = 1.0,
    ) -> Stream[T]:
        """Iterate over a feed that may break off or fall silent: an async iterator over one connection after another.

            async for quote in market.stream(connect, stale_after=2.0, key="symbol", sequence="seq"): ...

        `connect` is called for each connection. It gives an async iterable or an async context manager of one, or is
        awaited for it: an async generator function, `lambda: websockets.connect(url)`, ... Each connection is an
        attempt: it passes the breaker, succeeds with its first item and is given `timeouts.connect` seconds until it
        can be asked for one. One that ends or fails is followed by another, after a backoff that begins anew with each
        item; errors that the retry policy does not retry are raised and end the stream.

        - `stale_after`: seconds somebody may wait for an item. Then it counts as a TIMEOUT, and the connection is made
          anew. None: any time.
        - `key`, `sequence`: how to find an item's key and its number, counted per key: a function of the item, the name
          of a field (attribute or mapping key) or an index. Items without are handed on uncounted.
        - `operation`: the name its connections are recorded under, "stream" by default.
        - `resume`: called in place of `connect` once items have come, with the `StreamPosition` to go on from.
        - `buffer`: items to read ahead in a task of its own; 0: none. `overflow` says what happens when they are not
          fetched: "drop_oldest" (counted), "block" (the feed is not read), "raise" (`StreamOverflowError`). With a
          buffer, `stale_after` is about the feed, whether or not anybody waits.
        - `ends`: the end of the iterable is the end of the stream, not a failure of NETWORK.
        - `max_reconnects`: so many tries in a row without an item; then the last error is raised.
        - `max_keys`: of how many keys the last item and number are remembered.
        - `close_timeout`: seconds that closing a connection may take.
        """
        from .streams import Stream
        from .streams.buffered import BufferedStream, check_buffer

        check_buffer(buffer, overflow)
        options: dict[str, Any] = {
            "resume": resume, "ends": ends, "max_reconnects": max_reconnects, "close_timeout": close_timeout,
            "stale_after": stale_after, "key": key, "sequence": sequence, "max_keys": max_keys,
        }  # fmt: skip
        if buffer:
            return BufferedStream(self, connect, operation or "stream", buffer=buffer, overflow=overflow, **options)
        return Stream(self, connect, operation or "stream", **options)

    def watch(
        self,
        iterable: Iterable[T],
        *,
        stale_after: float | None = None,
        key: Pick[Hashable] | None = None,
        sequence: Pick[int | None] | None = None,
        operation: str | None = None,
        max_keys: int = 1024,
    ) -> Watch[T]:
        """Count what comes out of a plain iterable: as `stream` does, without connecting anything.

            for quote in market.watch(quotes, stale_after=2.0, key="symbol", sequence="seq"): ...

        Nothing can interrupt a plain loop, so that a silence of `stale_after` seconds is noticed only when the next
        item comes, or by whoever looks at `status()` from elsewhere; it is counted and reported, and no failure for
        the breaker. An exception of the iterable is one, and goes on to the loop.
        """
        from .streams.watched import Watch

        return Watch(
            self,
            iterable,
            operation or "watch",
            stale_after=stale_after,
            key=key,
            sequence=sequence,
            max_keys=max_keys,
        )

    # ---- its operations and their numbers

    def record(self, operation: str) -> Operation:
        """What the calls of a named operation are recorded in; beyond the registry's `max_operations` one for all."""
        record, counted, fresh = self._operations.record(operation)
        if counted != operation:
            self._registry.tell_overflow(self.name, operation)
        if fresh and self.breaker.shared and self._registry.sharing is not None:
            self._registry.sharing.label(self, counted)
        return record

    def named(self) -> tuple[tuple[str, Operation], ...]:
        """Its own operations by name, in the order they were made in."""
        return self._operations.named()

    @property
    def numbered(self) -> dict[int, str]:
        """The names of operations by the numbers that the core knows them by, those of other processes included."""
        own = {record.number: name for name, record in self.named()}
        return {**self.breaker.labels(), **own} if self.breaker.shared else own

    def forget_baselines(self) -> None:
        """Metrics were reset against counts that are no longer there: in a child that counts from nothing."""
        self._operations.forget_baselines()

    def metrics(self, operation: str) -> OperationMetrics:
        """The numbers of a named operation, those of all its keys together. KeyError where it was never guarded."""
        parts = [part for one in (self, *self.shards.values()) for part in one._operations.numbers(operation)]
        if not parts:
            raise self._operations.missing(self.name, operation)
        return read_metrics(parts, self.config.circuit_breaker.window)

    def reset_metrics(self, operation: str | None = None) -> None:
        """Count its metrics anew, of one operation or of all. The breaker and its windows stay as they are."""
        if operation is not None and not self._operations.numbers(operation):
            raise self._operations.missing(self.name, operation)
        for one in (self, *self.shards.values()):
            one._operations.reset(operation)

    def recorded_as(self, operation: str) -> str:
        """The name that an operation's calls are counted under."""
        return self._operations.counted_as(operation)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of its guarded operations, in the order they were made in."""
        return tuple(name for name, _ in self.named())

    @property
    def recorded(self) -> tuple[Operation, ...]:
        """What the calls of each of its operations are recorded in."""
        return tuple(record for _, record in self.named())

    # ---- its state

    @property
    def shards(self) -> dict[Hashable, Integration]:
        """The integrations of the keys seen by `guard(key=...)` and not forgotten since."""
        return self._shards.all()

    @property
    def family(self) -> str:
        """Its name, for a shard that of the integration it belongs to."""
        return self._parent.name if self._parent else self.name

    def shard(self, key: Hashable) -> Integration:
        """The integration of one key, made when first asked for. It lives as long as a guard for the key is kept."""
        return self._shards.of(self, key)

    def for_key(self, key: Hashable) -> Integration:
        """A new integration for a key, which `shard` keeps."""
        return Integration(self._registry, f"{self.name}[{key}]", self.config, self)

    def guard_for_key(self, guard: AnyGuard, key: Hashable) -> AnyGuard:
        """A guard like this one before the same function, with the breaker and the numbers of a key."""
        shard, recovery = self.shard(key), guard._recovery
        twin = Recovery(
            shard,
            recovery.operation,
            shard.record(self.recorded_as(recovery.operation)),
            failure=recovery.failure,
            fallbacks=recovery.fallbacks,
            retry=recovery.retry,
            idempotent=recovery.idempotent,
            details=recovery.details,
            hedge=recovery.hedge,
        )
        made: AnyGuard = self._registry.watched(recovery.bare or guard.__wrapped__, twin, shared=False)
        return made

    @property
    def passes_through(self) -> bool:
        """Whether `Registry.disable` has made its guards nothing but the functions they stand before."""
        return self._registry.disabled

    def limit_reason(self) -> str:
        """Why fewer than all of its calls go."""
        return self._registry.capacities.reason(self)

    def load(self) -> LoadStatus:
        """Its load control now: tokens, calls under way, who waits, what the throttle refuses."""
        return self._load.status(self.config)

    def load_if_any(self) -> LoadStatus | None:
        """The same where any of it is on."""
        return self._load.status(self.config) if self._load.armed_by(self.config) else None

    @property
    def queue(self) -> Queue:
        """Where its calls wait for load control."""
        return self._load.queue

    def unaccepted(self) -> None:
        """An answer said that there are too many requests: for the throttle."""
        self._load.unaccepted()

    @property
    def chaos(self) -> tuple[Chaos, ...]:
        """The faults that are injected into its calls on purpose, those for all keys first. See `failsoft.chaos`."""
        return self._chaos if self._parent is None else self._parent._chaos + self._chaos

    def take_chaos(self, plan: Chaos) -> None:
        """Let a plan of faults befall its calls, those of its keys too."""
        with self._registry.lock:
            self._chaos += (plan,)
            self._mark_chaos()

    def drop_chaos(self, plan: Chaos) -> None:
        """No longer."""
        with self._registry.lock:
            self._chaos = tuple(other for other in self._chaos if other is not plan)
            self._mark_chaos()

    def _chaos_settles(self) -> None:
        """Let the chaos of its settings hold, if it is another one; that of a key is its parent's."""
        standing, settings = self._standing_chaos, self.config.chaos
        if self._parent is not None or settings == (standing.settings if standing else None):
            return
        from .chaos_plans import configured

        if standing is not None:
            standing.stop()
        self._standing_chaos = configured(self, settings).start() if settings is not None else None

    def _mark_chaos(self) -> None:
        for one in (self, *self.shards.values()):
            one.breaker.mark_chaos(bool(one.chaos))

    def status(self) -> BreakerStatus:
        """Its breaker now, and those of its keys."""
        status = self.breaker.status()
        shards = {key: shard.breaker.status() for key, shard in self.shards.items()}
        return status.with_shards(shards) if shards else status

    def budget(self) -> RetryBudgetStatus | None:
        """How many retries it may still make, and has made; None where `retry_budget` is None. Keys share it."""
        from .budgets import budget_status

        return budget_status(self)

    def explain(self) -> Explanation:
        """Why it is in the state it is in: its numbers and its last decisions, oldest first. Print it."""
        from .decisions import explain

        return explain(self)

    @property
    def limited(self) -> float:
        """What operators of this process leave of its capacity (0 to 1)."""
        return self._limit

    def limit(self, capacity: float) -> None:
        """Let the gates of its calls know what operators leave of its capacity."""
        for one in (self, *self.shards.values()):
            if capacity != one._limit:
                one._limit = capacity
                one.breaker.limit(capacity)
                one.breaker.note(CAPACITY, OPERATOR, number=capacity)

    def reconfigure(self, config: IntegrationConfig | None = None, **overrides: Any) -> None:
        """Let other settings hold from the next call on; the state of breaker and windows is kept, and so are permits.

        `overrides` replace parts, or single fields by mappings, of `config` or of what holds now:
        `reconfigure(circuit_breaker={"failure_threshold": 3})`. A wait that runs ends when it would have. ValueError
        for another type, or another `circuit_breaker.window`, and nothing has changed then. A `count_window` of another
        size keeps the calls that fit.
        """
        new = self.config if config is None else config
        if not isinstance(new, IntegrationConfig):
            raise TypeError(f"config must be an IntegrationConfig, got {config!r}")
        new = new.with_(**overrides) if overrides else new
        if new.type != self.type:
            raise ValueError(f"integration {self.name!r} is {self.type} and cannot become {new.type}")
        sharing = self._registry.sharing
        turn = self._registry.lock if sharing is None else sharing.lock
        with turn, self._registry.lock:  # what joins or names operations meanwhile must not lose its breaker
            self.hold_to(new)
            family = (self, *self.shards.values())
        for one in family:
            if sharing is not None and not one.breaker.shared:  # those who have these settings share another breaker
                sharing.join(one)  # waits for other processes, so no lock is held
            one._load.serve()

    def hold_to(self, new: IntegrationConfig) -> None:
        """Let it and its keys have these settings. Under the registry's lock."""
        self.breaker.reconfigure(new.circuit_breaker, new.degraded)
        self.config = new
        self.terms = Terms(new)
        self._load.hold_to(new)
        self.backoff = backoff_of(new.retry_policy)
        self._budget_settles()
        self._chaos_settles()
        self.breaker.show(self.retry_budget)
        guards = [guard for ref in self._guards if (guard := ref()) is not None]
        for guard in guards:
            self._settle(guard)
        for shard in self.shards.values():
            shard.hold_to(new)

    def settle(self) -> None:
        """Let its guards know that the breaker is another one, or has other settings."""
        with self._registry.lock:
            for guard in [guard for ref in self._guards if (guard := ref()) is not None]:
                self._settle(guard)

    def keep(self, guard: AnyGuard) -> None:
        """Remember a guard, for `reconfigure` has to reach it."""
        with self._registry.lock:
            if len(self._guards) % 256 == 255:
                self._guards = [ref for ref in self._guards if ref() is not None]
            self._guards.append(weakref.ref(guard))
            self._settle(guard)  # other settings may have come while it was made

    def _budget_settles(self) -> None:
        """Let the budget of its settings hold. Keys have no budget of their own, or a thousand would be a thousand."""
        settings = self.config.retry_budget
        if self._parent is not None:
            self.retry_budget = self._parent.retry_budget
        elif settings is None:
            self.retry_budget = None
        elif self.retry_budget is None:
            self.retry_budget = Budget(settings)
        else:
            self.retry_budget.configure(settings)

    def _settle(self, guard: AnyGuard) -> None:
        guard._recovery.terms = self.terms
        retime_guard(guard, **limits(self.config))
        control_guard(guard, self._load.core if self._load.armed_by(self.config) else None)

    def _switch(self, state: CircuitState) -> None:
        """Let an operator's word reach the breaker, then those of keys; a new one looks at it once it can be seen."""
        for one in (self, *self.shards.values()):
            one.breaker._switch(state)
