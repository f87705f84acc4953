"""Prices that go on by themselves while the feed is down, and say so.

A simulated price is a geometric random walk without drift: it starts at the last real price a guard remembers, goes on
from its own last step until there is a newer real one, never reaches zero, and is expected to be where it started. It
spreads with time, not with how often it is asked: over t seconds the standard deviation of its logarithm is
`volatility * sqrt(t)`.

Nobody should trade on it unknowingly. A price is a `SimulatedPrice`, which shows itself as one wherever it is printed,
and so are the prices calculated from it; a mapping it stands in has `"simulated": True`.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Hashable, Mapping

from ._core import now_ns
from .checks import at_least_one, duration
from .fallbacks import Aged
from .handlers import Answer, copied
from .records import KW_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from numpy.random import Generator

BASIS_POINT = 1e-4
"""The default volatility: 1/10,000 in a second, 0.6 % in an hour, some 56 % in a year of trading around the clock."""

_LEAST, _MOST = sys.float_info.min, sys.float_info.max
_WILDEST = 1.0  # a factor of e within a second


class SimulatedPrice(float):
    """A price that nobody has offered: `.simulated` is True, its text says so, and sums with it are simulated too.

    `float(price)` is the bare number, and so is what `math`, numpy, `format(price, ".2f")` and `json.dumps` make of it.
    """

    __slots__ = ()
    simulated = True

    def __repr__(self) -> str:
        return f"SimulatedPrice({float.__repr__(self)})"


def _marked(operation: str) -> Callable[..., Any]:
    plain = getattr(float, operation)

    def marked(*numbers: Any) -> Any:
        result = plain(*numbers)
        return SimulatedPrice(result) if type(result) is float else result

    marked.__name__ = operation
    return marked


for _operation in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    for _name in (f"__{_operation}__", f"__r{_operation}__"):
        setattr(SimulatedPrice, _name, _marked(_name))
for _name in ("__neg__", "__pos__", "__abs__", "__round__"):
    setattr(SimulatedPrice, _name, _marked(_name))


class RandomWalk(Answer):
    """How prices are simulated. See `market_data_fallbacks.simulated` for what the fields mean."""

    seed: int | None = None
    volatility: float = BASIS_POINT
    _: KW_ONLY
    step: float | None = None
    price_of: str | Callable[[Any], Any] = "price"
    make: Callable[[Any, SimulatedPrice], Any] | None = None
    start: Any = None
    key: Callable[..., Hashable] | None = None
    max_keys: int = 1024

    def __post_init__(self) -> None:
        seed, volatility = self.seed, self.volatility
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise TypeError(f"simulated.seed must be an integer from 0, got {seed!r}")
        if seed is not None and seed < 0:
            raise ValueError(f"simulated.seed must be an integer from 0, got {seed!r}")
        if isinstance(volatility, bool) or not isinstance(volatility, (int, float)):
            raise TypeError(f"simulated.volatility must be a number from 0 to {_WILDEST:g}, got {volatility!r}")
        if not 0.0 <= volatility <= _WILDEST:
            raise ValueError(f"simulated.volatility must be a number from 0 to {_WILDEST:g}, got {volatility!r}")
        if not isinstance(self.price_of, str) and not callable(self.price_of):
            raise TypeError(f"simulated.price_of must be the name of a field or a function, got {self.price_of!r}")
        if self.make is not None and not callable(self.make):
            raise TypeError(f"simulated.make must be callable with the last value and the price, got {self.make!r}")
        if self.key is not None and not callable(self.key):
            raise TypeError(f"simulated.key must be callable with the call's arguments, got {self.key!r}")
        object.__setattr__(self, "volatility", float(volatility))
        object.__setattr__(self, "start", self.start if callable(self.start) else copied(self.start))
        object.__setattr__(self, "max_keys", at_least_one("simulated.max_keys", self.max_keys))
        if self.step is not None:
            object.__setattr__(self, "step", duration("simulated.step", self.step))

    def price_in(self, value: Any) -> float:
        """The price of a real value. LookupError where there is none, or none that a walk can start from."""
        found = self._found(value)
        try:
            price = float(found)
        except Exception as error:
            raise LookupError(f"the price of the last value is not a number: {found!r}") from error
        if not 0.0 < price < math.inf:
            raise LookupError(f"a walk needs a price above zero to start from, got {price}")
        return price

    def tick(self, last: Any, price: SimulatedPrice) -> Any:
        """A value like `last`, at a simulated price. LookupError where it takes a `make` to know how."""
        if self.make is not None:
            return self.make(last, price)
        if _is_real(last):
            return price
        if isinstance(last, Mapping) and isinstance(self.price_of, str) and _is_real(last[self.price_of]):
            return {**last, self.price_of: price, "simulated": True}
        raise LookupError(
            f"a {type(last).__name__} at a simulated price has to be made by make=, a function of the last value and it"
        )

    def _found(self, value: Any) -> Any:
        if not isinstance(self.price_of, str):
            return self.price_of(value)
        if isinstance(value, Mapping):
            return value[self.price_of]
        return getattr(value, self.price_of, value)  # a number is its own price


class Simulator:
    """The handler that walks: one stream of prices for each key, the oldest unused forgotten beyond `max_keys`.

    It is called with the arguments of the call and with what the guard remembers for them: `last`, the last real
    value, and `last_age`, for how many seconds it has been known; None where nothing is. It answers `Aged`, by the
    age of the real price behind it. Equal to another of the same walk, wherever either has got to. Thread-safe.
    """

    __slots__ = ("_lock", "_streams", "walk")

    needs_memory = True
    """Tells the guard to give `last` and `last_age`."""

    def __init__(self, walk: RandomWalk) -> None:
        try:  # now, rather than at the first failure: it takes a tenth of a second
            import numpy.random  # noqa: F401
        except ImportError as error:
            raise ImportError("simulated prices need numpy: pip install 'numpy>=1.26'") from error
        self.walk = walk
        self._streams: dict[str, _Stream] = {}  # by the text of their keys, which stays the same between processes
        self._lock = threading.Lock()  # over _streams and what they hold

    def __eq__(self, other: object) -> bool:
        return self.walk == other.walk if isinstance(other, Simulator) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.walk)

    def __repr__(self) -> str:
        return f"Simulator({self.walk!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return Simulator, (self.walk,)

    def __call__(self, *args: Any, last: Any = None, last_age: float | None = None, **kwargs: Any) -> Any:
        walk = self.walk
        known = last is not None
        if not known:
            last = walk.start(*args, **kwargs) if callable(walk.start) else copied(walk.start)
        if last is None:
            raise LookupError("no real price is known yet to go on from")
        real = walk.price_in(last)
        key = walk.key(*args, **kwargs) if walk.key is not None else (args, tuple(sorted(kwargs.items())))
        tick = walk.tick(last, SimulatedPrice(self._next(repr(key), real, known, last_age)))
        return Aged(tick, last_age) if known and last_age is not None else tick

    def _next(self, key: str, real: float, known: bool, age: float | None) -> float:
        now = now_ns()
        with self._lock:
            stream = self._streams.pop(key, None) or _Stream(self.walk.seed, key)
            self._streams[key] = stream  # now the youngest
            if len(self._streams) > self.walk.max_keys:
                del self._streams[next(iter(self._streams))]
            return stream.next(self.walk, real, known, age, now)


class _Stream:
    """One walk: where it is, since when, and what it draws from."""

    __slots__ = ("draws", "price", "real", "since")

    def __init__(self, seed: int | None, key: str) -> None:
        from numpy.random import Generator, Philox, SeedSequence

        entropy = None if seed is None else [seed, int.from_bytes(key.encode(errors="backslashreplace"), "big")]
        self.draws: Generator = Generator(Philox(SeedSequence(entropy)))
        self.price = self.real = 0.0  # no walk yet
        self.since = 0

    def next(self, walk: RandomWalk, real: float, known: bool, age: float | None, now: int) -> float:
        idle = (now - self.since) / 1e9
        # A newer real price is another one, or the same come again after our last step.
        newer = known and (real != self.real or (age is not None and age < idle))
        if newer or not self.real:
            self.price = self.real = real
            idle = age or 0.0
        self.since = now
        spread = walk.volatility * math.sqrt(max(idle, 0.0) if walk.step is None else walk.step)
        # Half the variance off, or what is symmetric in the logarithm would drift up in the price.
        factor = math.exp(spread * self.draws.standard_normal() - spread * spread / 2)
        self.price = min(max(self.price * factor, _LEAST), _MOST)
        return self.price


def _is_real(value: object) -> bool:
    from numbers import Real  # an int, a float or one of numpy's; a Decimal would not be a Decimal any more

    return isinstance(value, Real) and not isinstance(value, bool)
