"""Ready-made fallbacks, a set for each type of integration.

    fallbacks=[database_fallbacks.cache_first("robots", cache.get), database_fallbacks.mock_data([])]

Each method makes a `Fallback`. `priority` decides the order in which they are asked, lower first, that of their kind
unless given: cache 10, a live source of another kind 15, last known 20, simulated 30, a smaller model 35, mock 40,
error response 50. `timeout`, in seconds, bounds one answer; see `Fallback`.

They are equal where their arguments are, so a list made anew for each call costs what making it costs and no more. A
lambda made anew is a new function though, and so is a `functools.partial`: keep those, or the list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .config import FallbackType
from .fallbacks import Fallback, Memory
from .handlers import Cached, Fixed, nothing_known
from .simulated import BASIS_POINT, RandomWalk, SimulatedPrice, Simulator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIVE = 15
"""Priority of another live source: a cache is nearer, and what was last known is older."""

SMALLER = 35
"""Priority of a smaller model: a real answer, ahead of a canned one."""

# How old a last known value may be, in seconds. Each bridges at least one wait of an open breaker of its type's preset.
DATABASE_AGE = 300.0
"""Five waits of an open breaker; rows that people edit seldom mislead within minutes."""

AI_AGE = 3600.0
"""The answer to the same question holds; what it was asked about changes within the hour."""

MARKET_DATA_AGE = 15.0
"""One wait of an open breaker, and longer than a call may take (10); a price older than that is history."""

CACHE_AGE = 60.0
"""What was cached was meant to be short-lived, and the guard does not know its time to live."""

EXTERNAL_API_AGE = 300.0
"""Ten waits of an open breaker; what others publish seldom changes within minutes."""


class FallbackSet:
    """What makes sense for every type of integration."""

    __slots__ = ()

    def cache_first(
        self,
        key: Hashable | Callable[..., Any],
        get: Callable[[Any], Any],
        *,
        missing: object = None,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Fallback:
        """Answer with what the cache holds: `get(key)`, sync or async.

        `key` may be a function, called with the arguments of the call to make the key. `missing` is what `get` gives
        for a key it does not have: that, and whatever `get` raises, yields to the next fallback. A `get` that knows
        how old its value is may return `Aged(value, age)`.
        """
        return Fallback(FallbackType.CACHE, Cached(key, get, missing), priority, timeout)

    def mock_data(self, data: Any, *, priority: int | None = None, timeout: float | None = None) -> Fallback:
        """Answer with `data`, as it is now: it is copied deeply, and each answer is a copy of its own.

        What cannot be copied is shared. Large data is worth making a fallback of once, rather than for each call.
        """
        return Fallback(FallbackType.MOCK, Fixed(data), priority, timeout)

    def error_response(
        self, message: str, *, priority: int | None = None, timeout: float | None = None, **fields: Any
    ) -> Fallback:
        """Answer with `{"error": message, **fields}`. The result's `success` is False all the same.

        `fields` is what your callers look for beside the words: `code="DB_DOWN"`, `retry_after=30`.
        """
        if "error" in fields:
            raise TypeError("error_response's 'error' is the message; call the other field something else")
        return Fallback(FallbackType.ERROR_RESPONSE, Fixed({"error": message, **fields}), priority, timeout)

    def custom(
        self, handler: Callable[..., Any], *, priority: int | None = None, timeout: float | None = None
    ) -> Fallback:
        """Answer with `handler`, called with the arguments of the call, sync or async. It follows its predecessor."""
        return Fallback(FallbackType.CUSTOM, handler, priority, timeout)


class DatabaseFallbacks(FallbackSet):
    """For `IntegrationType.DATABASE`."""

    __slots__ = ()

    def last_known(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = DATABASE_AGE,
        max_keys: int = 1024,
        priority: int | None = None,
    ) -> Fallback:
        """Answer with the last success, which the guard remembers by itself. See `Memory`; five minutes by default."""
        return _last_known(key, max_age, max_keys, priority)

    def read_replica(
        self, call: Callable[..., Any], *, priority: int | None = LIVE, timeout: float | None = None
    ) -> Fallback:
        """Ask a replica: `call` with the arguments of the call, sync or async. After a cache, before what is older."""
        return Fallback(FallbackType.CUSTOM, call, priority, timeout)


class AIFallbacks(FallbackSet):
    """For `IntegrationType.AI_SERVICE`."""

    __slots__ = ()

    def last_known(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = AI_AGE,
        max_keys: int = 1024,
        priority: int | None = None,
    ) -> Fallback:
        """Answer as the same question was answered last, which the guard remembers; for an hour by default.

        See `Memory`. The question is the arguments of the call, unless `key` finds it in them.
        """
        return _last_known(key, max_age, max_keys, priority)

    def smaller_model(
        self, call: Callable[..., Any], *, priority: int | None = SMALLER, timeout: float | None = None
    ) -> Fallback:
        """Ask another model: `call` with the arguments of the call, sync or async. Before a canned answer."""
        return Fallback(FallbackType.CUSTOM, call, priority, timeout)

    def canned(self, answer: Any, *, priority: int | None = None, timeout: float | None = None) -> Fallback:
        """Answer with a set phrase: a value (see `mock_data`), or a function of the arguments that makes one."""
        return Fallback(FallbackType.MOCK, answer if callable(answer) else Fixed(answer), priority, timeout)


class MarketDataFallbacks(FallbackSet):
    """For `IntegrationType.MARKET_DATA`."""

    __slots__ = ()

    def last_known(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = MARKET_DATA_AGE,
        max_keys: int = 1024,
        priority: int | None = None,
    ) -> Fallback:
        """Answer with the last success, which the guard remembers by itself. See `Memory`; 15 seconds by default."""
        return _last_known(key, max_age, max_keys, priority)

    def simulated(
        self,
        *,
        seed: int | None = None,
        volatility: float = BASIS_POINT,
        step: float | None = None,
        price_of: str | Callable[[Any], Any] = "price",
        make: Callable[[Any, SimulatedPrice], Any] | None = None,
        start: Any = None,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = None,
        max_keys: int = 1024,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> Fallback:
        """Go on from the last real price by a random walk, and say so. The guard remembers the price by itself.

        Where the real value is a number, the answer is a `SimulatedPrice`; where it is a mapping, a dict like it at a
        `SimulatedPrice`, with `"simulated": True` (its other fields are as they last were). The result's `data_age` is
        the age of the real price.

        - `seed`: the same seed, key and times give the same prices with the same numpy. Another walk each time if None.
        - `volatility`: the standard deviation of the price's logarithm over one second, from 0 to 1; over t seconds it
          is sqrt(t) times as much. For one given by the year, divide by sqrt(31_557_600).
        - `step`: how many seconds to go on with each answer, whatever the clock says. By default as many as have
          passed, so that asking often changes nothing.
        - `price_of`: where the price is in the real value: the name of a field, or a function that finds it.
        - `make`: takes the last real value and the `SimulatedPrice`, gives the answer. Values that are neither numbers
          nor mappings of numbers have to have one (a Decimal, an object): without it they yield to the next fallback.
        - `start`: what to go on from while no real value is known: a value like one, or a function of the call's
          arguments that makes one. Without it that yields to the next fallback.
        - `key`: as of `Memory`, with one walk for each key; `max_age`: how old, in seconds, a real price may be to go
          on from.
        """
        walk = RandomWalk(
            seed,
            volatility,
            step=step,
            price_of=price_of,
            make=make,
            start=start,
            key=key,
            max_keys=max_keys,
        )
        memory = Memory(key, max_age, max_keys)
        return Fallback(FallbackType.SIMULATED, Simulator(walk), priority, timeout, memory)


class CacheFallbacks(FallbackSet):
    """For `IntegrationType.CACHE`. Its `cache_first` asks another cache than the one that failed."""

    __slots__ = ()

    def source(
        self, call: Callable[..., Any], *, priority: int | None = LIVE, timeout: float | None = None
    ) -> Fallback:
        """Go to what the cache is a cache of: `call` with the arguments of the call, sync or async.

        All callers of a dead cache come here at once: put the source behind an integration of its own.
        """
        return Fallback(FallbackType.CUSTOM, call, priority, timeout)

    def last_known(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = CACHE_AGE,
        max_keys: int = 1024,
        priority: int | None = None,
    ) -> Fallback:
        """Answer with the last success, which the guard remembers by itself. See `Memory`; a minute by default."""
        return _last_known(key, max_age, max_keys, priority)


class ExternalAPIFallbacks(FallbackSet):
    """For `IntegrationType.EXTERNAL_API`."""

    __slots__ = ()

    def last_known(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        max_age: float | None = EXTERNAL_API_AGE,
        max_keys: int = 1024,
        priority: int | None = None,
    ) -> Fallback:
        """Answer with the last success, which the guard remembers by itself. See `Memory`; five minutes by default."""
        return _last_known(key, max_age, max_keys, priority)

    def secondary(
        self, call: Callable[..., Any], *, priority: int | None = LIVE, timeout: float | None = None
    ) -> Fallback:
        """Ask another provider: `call` with the arguments of the call, sync or async. Only a cache goes first."""
        return Fallback(FallbackType.CUSTOM, call, priority, timeout)


def _last_known(
    key: Callable[..., Hashable] | None, max_age: float | None, max_keys: int, priority: int | None
) -> Fallback:
    return Fallback(FallbackType.LAST_KNOWN, nothing_known, priority, memory=Memory(key, max_age, max_keys))


database_fallbacks = DatabaseFallbacks()
ai_fallbacks = AIFallbacks()
market_data_fallbacks = MarketDataFallbacks()
cache_fallbacks = CacheFallbacks()
external_api_fallbacks = ExternalAPIFallbacks()
