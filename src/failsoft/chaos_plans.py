"""Faults on purpose, in the gate that every call passes anyway.

    with chaos("binance", latency=(0.05, 0.4), rate=0.1, seed=7):
        ...

While a plan is on, a share of an integration's attempts is held up, fails or gets another answer, where the dependency
would have done that: after the gate, before the function. So breaker, retries, fallbacks, deadlines and metrics take it
for the real thing; only the flight recorder, the `ChaosInjected` event and a note on the exception know better. With no
plan on, it costs a guard nothing: the switch is a flag of the gate word, which a call compares with zero in any case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial

from . import answers, events, recorder, registry, timers
from ._core import remaining
from .checks import LONGEST, number, shown
from .config import ChaosConfig, ErrorCategory
from .errors import IntegrationError
from .forks import new_lock
from .functions import is_awaitable
from .integrations import Integration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random
    from types import TracebackType
    from typing import Any, Self, TypeAlias

    from .attempts import Block
    from .recovery import Recovery
    from .registry import Registry

    Fault: TypeAlias = BaseException | Callable[[], BaseException] | ErrorCategory | str

NOTE = "injected by failsoft.chaos"
"""On every exception that chaos raises."""

_NOTHING: Any = type("_Nothing", (), {"__repr__": lambda _: "<no outcome>", "__slots__": ()})()
_seconds = number(float, 0.0, LONGEST, " of seconds")
_rate = number(float, 0.0, 1.0)


def chaos(
    name: str | Integration,
    *,
    latency: float | tuple[float, float] | None = None,
    error: Fault | None = None,
    outcome: Any = _NOTHING,
    rate: float = 1.0,
    seed: int | str | None = None,
    operations: Iterable[str] | None = None,
    registry: Registry | None = None,
) -> Chaos:
    """Inject faults into the calls of an integration: for a `with` block, or between `.start()` and `.stop()`.

    - `latency`: seconds that a call is held up, or (least, most), of which each takes a number between. The deadline
      ends it as it ends a slow dependency: an awaited call is cancelled at it, a sync one waits for it and no longer,
      and either raises `IntegrationTimeoutError`.
    - `error`: what a call raises in place of being made, after the latency: an exception, which is raised each time
      anew, a class or function that makes one, or the `ErrorCategory` of one.
    - `outcome`: what a call answers in place of being made, None included.
    - `rate`: the share of the calls (0 to 1) that this befalls, each attempt of a retried call by itself.
    - `seed`: the same seed befalls the same calls, by their order, with the same latencies.
    - `operations`: only calls recorded under these names.

    `name` is an integration of `registry` (the default one), the shard of one ("name[key]"), or the Integration itself;
    of a name that is not there a KeyError. Several plans may be on: latencies add up, and the first error or outcome
    counts. In blocks (`attempt`, `many`) and for requests of adapters an outcome has no place and only latency and
    errors do; streams and health checks are left alone. With FAILSOFT_DISABLED there is no gate, and no chaos.
    """
    return Chaos(_named(name, registry), latency, error, outcome, rate, seed, operations)


def _named(name: str | Integration, among: Registry | None) -> Integration:
    if isinstance(name, Integration):
        return name
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of an integration, got {shown(name)}")
    return (registry.default if among is None else among)[name]


def configured(integration: Integration, settings: ChaosConfig) -> Chaos:
    """What the settings of an integration say, not yet on."""
    most = settings.latency if settings.latency_most is None else settings.latency_most
    plan = Chaos(integration, (settings.latency, most), settings.error, _NOTHING, settings.rate, settings.seed, None)
    plan.settings = settings
    return plan


class Chaos:
    """A plan of faults for one integration, from `chaos(...)`: on inside `with`, or from `start()` to `stop()`."""

    def __init__(
        self,
        integration: Integration,
        latency: float | tuple[float, float] | None,
        error: Fault | None,
        outcome: Any,
        rate: float,
        seed: int | str | None,
        operations: Iterable[str] | None,
    ) -> None:
        if latency is None and error is None and outcome is _NOTHING:
            raise TypeError("chaos needs a latency, an error or an outcome")
        if error is not None and outcome is not _NOTHING:
            raise TypeError("chaos takes an error or an outcome, not both: a call has one end")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
            raise TypeError(f"seed must be an integer, a string or None, got {shown(seed)}")
        if isinstance(operations, str):  # "quote" would be read letter by letter
            raise TypeError(f"operations must be several names of operations, got {shown(operations)}")
        if is_awaitable(outcome):
            raise TypeError(f"outcome must be what a call comes to, not an awaitable of it, got {shown(outcome)}")
        self.integration = integration
        self.settings: ChaosConfig | None = None  # that it was made of
        self.latency = _span(latency)
        self.error = _fault(error, integration)
        self.outcome = outcome
        self.rate = float(_rate("rate", rate))  # type: ignore[arg-type]  # what its check gives
        self.seed = seed
        self.operations = None if operations is None else frozenset(operations)
        self.calls = 0
        """Attempts it was asked about since it was last started."""
        self.injected = 0
        """Those of them that it befell."""
        self._drawing = new_lock()
        self._random: Random | None = None  # while it is on

    def __repr__(self) -> str:
        ends = f" error={shown(self.error)}" if self.error is not None else ""
        ends += f" outcome={shown(self.outcome)}" if self.outcome is not _NOTHING else ""
        return f"<Chaos for {self.integration.name!r} latency={self.latency}{ends} rate={self.rate:g}>"

    def __str__(self) -> str:
        least, most = self.latency
        held = f"held up for {least:g} s" if least == most else f"held up for {least:g} to {most:g} s"
        parts = [held] if most else []
        parts += ["failing"] if self.error is not None else ["answered"] if self.outcome is not _NOTHING else []
        which = "" if self.operations is None else f" of {', '.join(sorted(self.operations))}"
        return f"chaos is on: {self.rate * 100:.3g}% of the calls{which} {' and '.join(parts) or 'untouched'}"

    @property
    def on(self) -> bool:
        """Whether it is on now."""
        return self._random is not None

    def start(self) -> Self:
        """Let it befall calls from now on, from the beginning of its sequence."""
        import random

        with self._drawing:
            if self._random is not None:
                raise RuntimeError("this chaos is on already")
            self._random = random.Random(self.seed)
            self.calls = self.injected = 0
        self.integration.take_chaos(self)
        return self

    def stop(self) -> None:
        """End it. What it holds up now comes to its end by itself. Does nothing where it is off."""
        with self._drawing:
            self._random = None
        self.integration.drop_chaos(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def draw(self, operation: str) -> float | None:
        """Seconds that it holds up the next call of an operation; None: it does not befall it."""
        if self.operations is not None and operation not in self.operations:
            return None
        with self._drawing:  # two numbers a call, whatever comes of them, so that the sequence depends on nothing else
            if self._random is None:
                return None
            roll, stretch = self._random.random(), self._random.random()
            self.calls += 1
            if roll >= self.rate:
                return None
            self.injected += 1
        least, most = self.latency
        return least + (most - least) * stretch


def _span(latency: object) -> tuple[float, float]:
    if isinstance(latency, (tuple, list)):
        if len(latency) != 2:
            raise ValueError(f"latency must be seconds or (least, most), got {shown(latency)}")
        least, most = (float(_seconds("latency", part)) for part in latency)  # type: ignore[arg-type]  # likewise
        if least > most:
            raise ValueError(f"latency must be seconds or (least, most), got {shown(latency)}")
        return least, most
    alike = 0.0 if latency is None else float(_seconds("latency", latency))  # type: ignore[arg-type]  # likewise
    return alike, alike


def _fault(error: object, integration: Integration) -> Any:
    if isinstance(error, str):
        if error not in ErrorCategory.__members__:
            raise ValueError(f"error must be one of {', '.join(ErrorCategory)}, or an exception, got {shown(error)}")
        return partial(_of_category, ErrorCategory(error), integration)
    makes = isinstance(error, type) and issubclass(error, BaseException)
    if error is None or makes or isinstance(error, BaseException) or (callable(error) and not isinstance(error, type)):
        return error
    raise TypeError(f"error must be an exception, a class of them or a function that makes one, got {shown(error)}")


def _of_category(category: ErrorCategory, integration: Integration) -> BaseException:
    message = f"chaos: {category}"
    if category is ErrorCategory.TIMEOUT:
        return TimeoutError(message)
    if category is ErrorCategory.NETWORK:
        return ConnectionError(message)
    return IntegrationError(
        message, category=category, integration_type=integration.type, integration_name=integration.name
    )


class _Fate:
    """What befalls one attempt."""

    __slots__ = ("error", "latency", "outcome")

    def __init__(self, latency: float, error: Any, outcome: Any) -> None:
        self.latency = latency
        self.error = error
        self.outcome = outcome

    def tell(self, recovery: Recovery) -> None:
        """Note it, and make the error that it ends with."""
        if self.error is not None:
            self.error = _made(self.error)
        what = recorder.CHAOS_ERROR if self.error is not None else recorder.CHAOS_OUTCOME
        what = recorder.CHAOS_LATENCY if self.error is None and self.outcome is _NOTHING else what
        integration = recovery.integration
        integration.breaker.note(recorder.CHAOS, what, 0, self.latency, recovery.record.number)
        if events.listening(events.ChaosInjected):
            kind = recorder.CHAOS_KINDS[what]
            told = events.ChaosInjected(
                integration.name, recovery.operation, kind, self.latency, self.error, time.time()
            )
            events.publish(told)

    def end(self) -> tuple[Any] | None:
        """After its latency: raise, or (the answer,), or None: the call is made."""
        if self.error is not None:
            raise self.error
        return None if self.outcome is _NOTHING else (self.outcome,)


def _made(fault: BaseException | Callable[[], BaseException]) -> BaseException:
    error = fault if isinstance(fault, BaseException) else fault()
    if not isinstance(error, BaseException):
        raise TypeError(f"chaos's error must make an exception, got {shown(error)}")
    return _noted(error.with_traceback(None))


def _noted(error: BaseException) -> BaseException:
    if NOTE not in getattr(error, "__notes__", ()):
        error.add_note(NOTE)
    return error


def _fate(recovery: Recovery, *, block: bool = False) -> _Fate | None:
    """Ask every plan, in the order they were started. A block has nothing to answer with."""
    latency, befallen, error, outcome = 0.0, False, None, _NOTHING
    for plan in recovery.integration.chaos:
        drawn = plan.draw(recovery.operation)
        if drawn is None:
            continue
        befallen = True
        latency += drawn
        if error is None and outcome is _NOTHING:
            error, outcome = plan.error, _NOTHING if block else plan.outcome
    return _Fate(latency, error, outcome) if befallen else None


def shake(recovery: Recovery, *, block: bool = False) -> tuple[Any] | None:
    """What befalls a sync attempt, now: the latency, then an exception, or (the answer,), or None: it is made."""
    fate = _fate(recovery, block=block)
    if fate is None:
        return None
    fate.tell(recovery)
    if fate.latency > 0.0:
        left = remaining()
        late = left is not None and fate.latency >= left
        timers.current.sleep(left if late and left is not None else fate.latency)
        if late and left is not None:
            raise _noted(answers.expired(recovery, left))
    return fate.end()


def shake_async(recovery: Recovery, made: Any) -> Any:
    """What is awaited in place of `made`, a coroutine or an iterator that has not begun: mostly itself."""
    fate = _fate(recovery)
    return made if fate is None else _befallen(recovery, fate, made)


async def _befallen(recovery: Recovery, fate: _Fate, made: Any) -> Any:
    begun = False
    try:
        fate.tell(recovery)
        if fate.latency > 0.0:
            await timers.current.sleep_async(fate.latency)
        ended = fate.end()
        if ended is not None:
            return ended[0]
        begun = True
        return await (made if is_awaitable(made) else _Begun(made))
    finally:
        close = getattr(made, "close", None)
        if not begun and close is not None:  # or it would complain of never having been awaited
            close()


class _Begun:
    """An iterator that an `__await__` has given, to be awaited again."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __await__(self) -> Any:
        return self._iterator


async def shaken(recovery: Recovery, fn: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any, **kwargs: Any) -> Any:
    """One of several attempts that one passage of the gate is for."""
    return await shake_async(recovery, fn(*args, **kwargs))


def shake_block(block: Block, recovery: Recovery) -> None:
    """What befalls a block that has just been entered; a fault ends it."""
    try:
        shake(recovery, block=True)
    except BaseException as error:
        block._settle(error, patient=False)
        raise


async def shake_block_async(block: Block, recovery: Recovery) -> None:
    """The same, awaited. A block has no deadline of its own that would end the latency; one around it does."""
    try:
        await befall(recovery)
    except BaseException as error:
        block._settle(error, patient=True)
        raise


async def befall(recovery: Recovery) -> None:
    """What befalls an attempt about to be made that nothing can be answered with: latency, then an exception."""
    fate = _fate(recovery, block=True)
    if fate is None:
        return
    fate.tell(recovery)
    if fate.latency > 0.0:
        await timers.current.sleep_async(fate.latency)
    fate.end()
