"""The compiled core, as Python sees it. Names with an underscore, and all that `failsoft` does not export, may change."""

from asyncio import Task
from contextvars import ContextVar
from collections.abc import Awaitable as _Awaitable, Callable, Iterable, Coroutine, Generator, Sequence
from types import GenericAlias
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, final, overload

from typing_extensions import Buffer, disjoint_base

from .attempts import Block
from .batches import Batch
from .breakers import CircuitBreaker
from .config import CircuitBreakerConfig, ErrorCategory, FallbackType, IntegrationType, RetryBudget
from .dedupe import Flights
from .errors import CircuitOpenError, DegradedModeError, IntegrationError, IntegrationTimeoutError, LoadControlError
from .metrics import OperationMetrics
from .queues import Waiter
from .recovery import Recovery
from .registry import Registry
from .fallbacks import Fallback
from .integrations import Integration

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")  # what is left of a class's own _P when it is bound
_R_co = TypeVar("_R_co", covariant=True)
_S = TypeVar("_S")
_T = TypeVar("_T")

STATES: Final[tuple[str, ...]]
"""CircuitState values by the core's number for them."""
REASONS: Final[tuple[str | None, ...]]
"""Why a breaker changed its state, by the core's number for it."""
EVENTS: Final[tuple[str, ...]]
"""What an Operation counts besides calls, by the core's number for it."""

@disjoint_base
class LatencyView:
    """Reads a latency histogram: since its start, or (`LatencyHistogram.recent`) over its rolling window."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def quantiles(self, shares: Sequence[float] = (0.5, 0.95, 0.99)) -> tuple[float, ...]:
        """The latencies in seconds below which these shares (0 to 1, at most 16) of the values lie, in one pass.

        Each is within 0.79 % of the exact order statistic, and exact below 128 ns; nan while nothing is recorded.
        ValueError outside the range.
        """
    @property
    def count(self) -> int:
        """How many values have been recorded."""
    @property
    def mean(self) -> float:
        """Their exact mean in seconds; nan without any."""
    @property
    def min(self) -> float:
        """The least in seconds; exact since the start, within 0.79 % over the window; nan without any."""
    @property
    def max(self) -> float:
        """The greatest in seconds; exact since the start, within 0.79 % over the window; nan without any."""
    def cells(self) -> list[tuple[int, int]]:
        """(middle in ns, count) of every bucket that holds anything, ascending."""
    def counts_below(self, bounds_ns: Sequence[int]) -> tuple[tuple[int, ...], int, int]:
        """(how many values lie at or below each bound, how many there are, what they sum up to in ns), of one moment.

        At most 64 ascending bounds in ns; ValueError else. A bound also counts what lies above it in its own bucket: at
        most 1.6 % above. On builds without the GIL a call that ends meanwhile may be in one of the numbers alone.
        """
    @property
    def age(self) -> float:
        """Seconds since the histogram was made."""
    def to_hdr(self) -> Any:
        """A `hdrh.histogram.HdrHistogram` of the same values, in ns. Needs the extra `hdr`; ImportError without."""
    def plot(self, ax: Any = None, label: str | None = None) -> Any:
        """Draw latency by percentile into a matplotlib Axes, a new one by default, and return it.

        Needs the extra `plot`; ImportError without.
        """
    def _repr_html_(self) -> str:
        """What a notebook shows."""

@disjoint_base
class LatencyHistogram(LatencyView):
    """Latencies in log-linear buckets: quantiles within 0.79 %, since the start and over a rolling window.

    `window` is the length of `.recent` in seconds (0.001 to 1e9), kept as 6 slices. Values above 73 minutes count as
    73 minutes, and in `clipped`. Any thread may record and read.
    """

    def __new__(cls, window: float = 60.0) -> Self: ...
    def __init__(self, window: float = 60.0) -> None: ...
    @property
    def window(self) -> float:
        """Length of the rolling window in seconds."""
    def record(self, seconds: float) -> None:
        """Record a latency in seconds. ValueError if negative or NaN."""
    def record_ns(self, ns: int) -> None:
        """Record a latency in whole nanoseconds. ValueError if negative."""
    def record_many(self, values: Buffer) -> None:
        """Record a contiguous buffer of int64 nanoseconds, like a numpy array. If one is negative, ValueError and none."""
    def record_repeated(self, ns: int, count: int) -> None:
        """Record a latency of at most 73 minutes in whole nanoseconds so many times (2**36 at most). ValueError else."""
    def merge(self, other: LatencyHistogram) -> None:
        """Add all that `other` has recorded since its start to what this one has."""
    @property
    def recent(self) -> LatencyView:
        """The same histogram over its rolling window."""
    @property
    def clipped(self) -> int:
        """Values above the range, or without room in the arena."""
    @property
    def nbytes(self) -> int:
        """Bytes of the arena it holds now."""

class Operation(LatencyHistogram):
    """What the calls of one named operation come to. Written by guards, read by metrics."""

    @property
    def number(self) -> int:
        """Which operation of its integration it is, from 1; 0: of none."""
    @number.setter
    def number(self, number: int) -> None: ...
    def totals_of(self, recent: bool) -> tuple[int, int, int, int]:
        """(calls, summed ns, failures, slow calls) over the window, or since the start."""
    def events(self) -> tuple[int, ...]:
        """How often each of EVENTS has happened, since the start."""
    def note(self, event: int, count: int = 1) -> None:
        """Count an event by its place in EVENTS."""

@disjoint_base
class Breaker:
    """The state machine of a circuit breaker. `failsoft.CircuitBreaker` is the one to use."""

    def __new__(
        cls,
        config: CircuitBreakerConfig,
        name: str = "",
        listener: Callable[[Breaker, str, str, str | None, int, int], object] | None = None,
        ramp: float = 0.0,
        ramp_from: float = 0.0,
    ) -> Self: ...
    @property
    def name(self) -> str:
        """What it stands before."""
    def acquire(self) -> int:
        """Ask to call. A permit, to be given back once to `success`, `failure` or `ignore`; 0: refused."""
    def success(self, permit: int, duration_ns: int = 0) -> None:
        """The call went well, in so many nanoseconds (0: unknown). An outcome of another generation is dropped."""
    def failure(self, permit: int, duration_ns: int = 0) -> None:
        """The call failed. An outcome of another generation is dropped."""
    def ignore(self, permit: int) -> None:
        """The call says nothing about the dependency; its permit is free again."""
    @property
    def shared(self) -> bool:
        """Whether other processes may have the same breaker."""
    def join(
        self,
        name: bytes,
        type: int,
        window: float,
        labels: Iterable[tuple[Operation, bytes]],
        budget: Budget | None = None,
        patience: float = 2.0,
    ) -> int | None:
        """Share the breaker of this name and configuration. How many processes have the name under another one; None:
        there is no room. `labels` are the operations adopted so far and their names; their numbers may change."""
    def show(self, budget: Budget | None = None) -> None:
        """Let whoever looks at the arena find this process's retry budget and load control."""
    def label(self, operation: Operation, name: bytes) -> None:
        """Number an operation as all processes do that share this breaker."""
    def sit(self) -> bool:
        """In the child of a fork, under the arena's lock: count here from nothing. False: the breaker has gone since, and this
        is one of its own."""
    def labels(self) -> dict[int, str]:
        """{number: name} of the operations of all processes that share this breaker."""
    def adopt(self, operation: Operation) -> None:
        """Let the calls of an operation count in the rates. It lives as long as the breaker from now on."""
    def admit(self) -> int:
        """A permit; else 0 for the state's refusal, or NO_ROOM for one for capacity."""
    def probe(self) -> int:
        """A permit as of `acquire`, also where probes are reserved for the health check; 0: refused."""
    def reserve(self, seconds: float) -> None:
        """For so long after each wait in OPEN, admit only `probe`; 0.0: no longer. It lapses by itself."""
    def limit(self, capacity: float) -> None:
        """Let only this share (0 to 1) of the calls go; 1.0: all of them again."""
    def mark_chaos(self, on: bool) -> None:
        """Let its guards ask, for each call, which fault is injected into it; or no longer."""
    @property
    def capacity(self) -> float:
        """The share of calls let go now by limit and ramp, whatever the state."""
    def note(self, kind: int, because: int, detail: int = 0, number: float = 0.0, operation: int = 0) -> None:
        """Record a decision in the flight recorder, by the numbers of csrc/include/failsoft/recorder.h."""
    def decisions(self) -> list[tuple[int, int, int, int, float, int, int, int, int, int]]:
        """The flight recorder, oldest first: (kind, because, state, detail, number, operation, generation, count, first
        and last time in ns) each."""
    def read(self) -> tuple[str, str | None, int, int, int, tuple[int, int, int], float | None, float, float]:
        """(state, reason, generation, failures, probes out, (calls, failures, slow), retry after, age, capacity)."""
    def force(self, state: int) -> None:
        """Put it into a state, by its place in STATES."""
    def open_until(self, generation: int, end: int) -> bool:
        """Open it until `end`, because a fleet has, if it still is in this generation. Whether it did."""
    def close_with_fleet(self, generation: int) -> bool:
        """Close it, because a fleet has, if it still is in this generation. Whether it did."""
    def hold(self, held: int) -> None:
        """Let no probe go before `held`, in ns of `now_ns`; 0: hold none back."""
    def let(self, until: int) -> None:
        """Let probes go until then, though they are held back; 0: no longer."""
    @property
    def held_back(self) -> int:
        """How many calls `hold` has kept from probing."""
    def totals(self) -> tuple[int, int, int]:
        """(calls, failures, slow calls) that its operations have ever counted."""
    def relocate(
        self, config: CircuitBreakerConfig | None = None, ramp: float = 0.0, ramp_from: float = 0.0
    ) -> None:
        """Move it to another block of the arena, under whatever guards look at it; there `config` holds."""

ARENA_TROUBLES: Final[tuple[str, ...]]
"""Why a file cannot be shared, by the core's number for it."""

class ArenaTrouble(Exception):
    """A file cannot be shared: (one of ARENA_TROUBLES, errno)."""

def share_arena(path: str, breakers: Iterable[Breaker] = ()) -> list[Breaker]:
    """Map the file and take a slot in it; all that this process has counted goes there. ArenaTrouble: nothing has changed.
    In the child of a fork its parent's `breakers` sit down there; the answer are those that had gone, and are its own now."""

def arena_slot() -> int | None:
    """This process's slot; None: it has none."""

def bury_arena() -> int:
    """Take in what processes that have died have counted. How many slots could not be freed."""

def part_arena() -> None:
    """Leave the slot, at the end of the process."""

@disjoint_base
class ArenaReader:
    """Looks at a file that processes share, from outside: it holds nobody up, and writes nothing but, with `controls`, what
    an operator says to its breakers."""

    def __new__(cls, path: str, controls: bool = False) -> Self: ...
    @property
    def controls(self) -> bool:
        """Whether `force` and `limit` may be used; RuntimeError where not."""
    def force(self, place: int, state: int) -> None:
        """Put a breaker into a state, by its place in STATES. Nobody is told but by the flight recorder."""
    def limit(self, place: int, capacity: float) -> None:
        """Let only this share (0 to 1) of the calls go; 1.0: all of them again."""
    def members(self) -> list[tuple[int, str, int, float]]:
        """(place, name, type, window in seconds) of each integration."""
    def burials(self) -> int:
        """A number that changes whenever the counts of a process that has died are taken in."""
    def labels(self, place: int) -> dict[int, str]:
        """{number: name} of the operations of an integration."""
    def processes(self) -> list[tuple[int, int, str, float, bool]]:
        """(slot, pid, name, seconds since it came, alive) of each process whose slot is taken."""
    def seats(self, place: int) -> list[int]:
        """The slots that an integration is used from."""
    def read(
        self, place: int
    ) -> tuple[
        tuple[str, str | None, int, int, int, tuple[int, int, int], float | None, float, float], int
    ]:
        """As Breaker.read, and the least calls for a rate."""
    def settings(self, place: int) -> dict[str, Any]:
        """What a breaker goes by, named as CircuitBreakerConfig has it; None for a rule that is off."""
    def capacity(self, place: int) -> float:
        """As Breaker.capacity."""
    def decisions(self, place: int) -> list[tuple[int, int, int, int, float, int, int, int, int, int]]:
        """As Breaker.decisions."""
    def observe(self, place: int, number: int | None, slot: int | None) -> Operation:
        """What has been counted of an operation, by its number (None: of all), in a slot (None: by everybody, and the
        departed)."""
    def budget(self, place: int, slot: int) -> tuple[float, int, int, int] | None:
        """(balance when last asked, retries, hedges, refused) of a process's retry budget; None: it has none."""
    def load(self, place: int, slot: int) -> tuple[int, float] | None:
        """(calls under way, share let go by the throttle) of a process's load control; None: it has none."""

@disjoint_base
class Budget:
    """How many retries and hedges may still be added to the traffic: see csrc/include/failsoft/budget.h."""

    def __new__(cls, config: RetryBudget) -> Self: ...
    def configure(self, config: RetryBudget) -> None:
        """Let other settings hold from now on; the balance is kept."""
    def retry(self, payer: Breaker) -> bool:
        """Take a retry for a call before this breaker, whose traffic pays. Whether there was one."""
    def hedge(self, payer: Breaker) -> bool:
        """Take a hedge. Whether there was one."""
    def read(self, payer: Breaker) -> tuple[float, float, int, int, int]:
        """(balance, balance had nothing been taken, retries, hedges, refused)"""

@disjoint_base
class Dial:
    """Lets an exact share of the calls go."""

    def __new__(cls) -> Self: ...
    def admits(self, capacity: float) -> bool:
        """May this one go, if only this share (0 to 1) may?"""

NO_ROOM: Final[int]
TOO_LATE: Final[int]
bounds: ContextVar[Bound]
"""What `Breaker.admit` gives in place of a permit where it refuses for capacity."""
RATE_LIMITED: Final[int]
BULKHEAD_FULL: Final[int]
THROTTLED: Final[int]
"""And the limits of load control, where they refuse."""

@disjoint_base
class Load:
    """Load control behind a breaker, which keeps its block."""

    def __new__(cls, breaker: Breaker) -> Self: ...
    def limit_rate(self, rate: float, burst: int, max_wait: float) -> None:
        """Let so many calls a second go, `burst` at once; 0.0: any number."""
    def limit_calls(self, most: int, max_wait: float) -> None:
        """Let so many calls be under way at a time; 0: any number."""
    def throttle(self, ratio: float, most: float, minimum: int, window: float) -> None:
        """Refuse what would most likely be refused; ratio 0.0: nothing."""
    def admit(self, waiter: Waiter) -> None:
        """Let the first of the queue in, by its `code`, or say what it `lacks`."""
    def withdraw(self, n: int) -> None:
        """Give back what `admit` has given."""
    def queue(self, waiting: int) -> None:
        """So many wait now, and nobody may go before them."""
    def forked(self) -> None:
        """In a child, no call is under way."""
    def unaccepted(self) -> None:
        """An answer was no failure, and no acceptance: for the throttle."""
    def fits(self, n: int) -> bool:
        """Whether n tokens can ever be there at once."""
    def when(self, n: int) -> int:
        """ns until n tokens will have come."""
    def patience(self, code: int) -> int:
        """ns that a call refused by this code may wait."""
    def read(self) -> tuple[float, int, float]:
        """(tokens, calls under way, share let go by the throttle)"""
    @property
    def armed(self) -> bool:
        """Whether any limit is set."""

@disjoint_base
class Backoff:
    """Delays before retries, in seconds: exponential, capped, jittered.

    `ceiling(n) = min(maximum, initial * multiplier**n)`. `jitter` is a `Jitter` or its name: "full" draws from
    [0, ceiling), "equal" from [ceiling/2, ceiling), "decorrelated" from [initial, 3 * previous) up to maximum, "none"
    takes the ceiling. The same `seed` gives the same delays; without one each process draws its own, forks included.
    """

    def __new__(
        cls,
        initial: float = 0.5,
        maximum: float = 10.0,
        multiplier: float = 2.0,
        jitter: str = "full",
        seed: int | None = None,
    ) -> Self: ...
    def __init__(
        self,
        initial: float = 0.5,
        maximum: float = 10.0,
        multiplier: float = 2.0,
        jitter: str = "full",
        seed: int | None = None,
    ) -> None: ...
    def delay(self, attempt: int, previous: float = 0.0) -> float:
        """Seconds to wait before retry number `attempt`, from 0. Only "decorrelated" looks at the `previous` delay."""

@final
class Guard(Generic[_P, _R_co]):
    """A guarded callable: call it as the bare one. Made by `Integration.guard`."""

    __name__: str
    __qualname__: str
    @property
    def __wrapped__(self) -> Callable[_P, _R_co]:
        """The guarded callable."""
    @property
    def integration(self) -> Integration:
        """The Integration it belongs to."""
    @property
    def operation(self) -> str:
        """The name its calls are recorded under."""
    @property
    def _breaker(self) -> CircuitBreaker: ...
    @property
    def _operation(self) -> Operation: ...
    @property
    def _recovery(self) -> Recovery: ...
    @property
    def _disabled(self) -> bool: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(self: Guard[Concatenate[_S, _Q], _T], instance: _S, owner: type | None = None, /) -> Callable[_Q, _T]: ...
    def outcome(self, *args: _P.args, **kwargs: _P.kwargs) -> IntegrationResult[_R_co]:
        """Call, and answer with an IntegrationResult; never raises an Exception."""
    def metrics(self) -> OperationMetrics:
        """The numbers of the guarded operation, read now."""
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def _attempt(self, until: int, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any: ...
    def _settle(self, permit: int, outcome: int, ns: int, /) -> None: ...
    def many(self, n: int, /) -> Batch:
        """A `with` or `async with` block over n items that passes the gate once."""
    def _record_many(self, permit: int, most: int, values: Buffer, /) -> tuple[int, int, int]: ...
    def _settle_batch(
        self, permit: int, outcome: int, count: int, failed: int, slow: int, ns: int, /
    ) -> None: ...
    def _gate(self, n: int, waited: bool, /) -> tuple[int, object, bool]: ...
    def _pass(self, block: Block, n: int, /) -> int: ...
    def _refuse(self, permit: int, /) -> Refusal: ...
    def _once(self, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any: ...
    def _remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: object, /) -> None: ...
    def _recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> tuple[Any, float] | None: ...

@final
class AsyncGuard(Generic[_P, _R_co]):
    """A guarded coroutine function: call and await it as the bare one. Made by `Integration.guard`."""

    __name__: str
    __qualname__: str
    @property
    def __wrapped__(self) -> Callable[_P, Coroutine[Any, Any, _R_co]]:
        """The guarded coroutine function."""
    @property
    def integration(self) -> Integration:
        """The Integration it belongs to."""
    @property
    def operation(self) -> str:
        """The name its calls are recorded under."""
    @property
    def _breaker(self) -> CircuitBreaker: ...
    @property
    def _operation(self) -> Operation: ...
    @property
    def _recovery(self) -> Recovery: ...
    @property
    def _disabled(self) -> bool: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _R_co]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncGuard[Concatenate[_S, _Q], _T], instance: _S, owner: type | None = None, /
    ) -> Callable[_Q, Coroutine[Any, Any, _T]]: ...
    def outcome(self, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, IntegrationResult[_R_co]]:
        """Call; awaited, it answers with an IntegrationResult and never raises an Exception."""
    def metrics(self) -> OperationMetrics:
        """The numbers of the guarded operation, read now."""
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def _attempt(self, until: int, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any: ...
    def _settle(self, permit: int, outcome: int, ns: int, /) -> None: ...
    def many(self, n: int, /) -> Batch:
        """A `with` or `async with` block over n items that passes the gate once."""
    def _record_many(self, permit: int, most: int, values: Buffer, /) -> tuple[int, int, int]: ...
    def _settle_batch(
        self, permit: int, outcome: int, count: int, failed: int, slow: int, ns: int, /
    ) -> None: ...
    def _gate(self, n: int, waited: bool, /) -> tuple[int, object, bool]: ...
    def _pass(self, block: Block, n: int, /) -> int: ...
    def _refuse(self, permit: int, /) -> Refusal: ...
    def _once(self, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any: ...
    def _remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: object, /) -> None: ...
    def _recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> tuple[Any, float] | None: ...

@final
class Awaitable(Coroutine[Any, Any, Any]):
    """A guarded coroutine in flight."""

    def send(self, value: Any, /) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def close(self) -> None: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __next__(self) -> Any: ...
    @property
    def __name__(self) -> str: ...
    @property
    def __qualname__(self) -> str: ...
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_code(self) -> Any: ...
    @property
    def cr_frame(self) -> Any: ...
    @property
    def cr_origin(self) -> Any: ...
    @property
    def cr_running(self) -> Any: ...
    @property
    def cr_suspended(self) -> Any: ...

@final
class Bound:
    """The end of a block, for the context variable `bounds`."""

    def __new__(cls, until: int, *, lifts: bool = False) -> Self: ...
    @property
    def until(self) -> int: ...
    @property
    def lifts(self) -> bool: ...

@final
class Refusal:
    """Why and when a gate refused a call, and when to come back."""

    @property
    def state(self) -> int: ...
    @property
    def because(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def late(self) -> bool: ...
    @property
    def limited(self) -> bool:
        """Refused for capacity, not by the state."""
    @property
    def capacity(self) -> float:
        """The share of calls that go, where it was refused for that; else 0.0."""
    @property
    def load(self) -> int:
        """The limit of load control that refused; 0: none."""
    @property
    def allowed(self) -> float:
        """What that limit, or the capacity, allowed."""
    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may go, from then; None: nobody knows."""
    @property
    def age(self) -> float:
        """Seconds since the refusal."""
    def describe(self) -> dict[str, object]:
        """Every field of the error it stands for."""
    def error(self) -> CircuitOpenError | DegradedModeError:
        """The error that stands for it."""

@final
class IntegrationResult(Generic[_R_co]):
    """What a guarded call came to: data or an error, and how it got there. Awaiting it gives itself."""

    def __await__(self) -> Generator[Any, Any, Self]: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

    def __new__(
        cls,
        success: bool,
        *,
        data: _R_co | None = None,
        error: IntegrationError | None = None,
        guard: Guard[..., Any] | AsyncGuard[..., Any] | None = None,
        duration: float = 0.0,
        attempts: int = 0,
        fallback_type: FallbackType | None = None,
        data_age: float | None = None,
    ) -> Self: ...
    @property
    def success(self) -> bool:
        """The operation, or a fallback for it, gave `data`."""
    @property
    def data(self) -> Any:
        """What the operation returned, or a fallback; None otherwise."""
    @property
    def error(self) -> IntegrationError | None:
        """What went wrong with the primary operation, also where a fallback then answered; None if nothing did."""
    @property
    def metrics(self) -> OperationMetrics | None:
        """The numbers of the operation, read now."""
    @property
    def attempts(self) -> int:
        """Attempts that reached the dependency."""
    @property
    def duration(self) -> float:
        """Seconds from the first attempt's start."""
    @property
    def fallback_used(self) -> bool:
        """Whether `data` came from a fallback."""
    @property
    def fallback_type(self) -> FallbackType | None:
        """What kind of fallback it came from."""
    @property
    def data_age(self) -> float | None:
        """Seconds since fallback data was fresh, None where unknown."""

def make_guard(
    fn: Callable[..., Any],
    breaker: Breaker,
    operation: Operation,
    recovery: Recovery,
    *,
    judge: Callable[[Any], ErrorCategory | str | None] | None,
    is_async: bool,
    binds: bool,
    keeps_arguments: bool,
    has_fallbacks: bool,
    shared: bool,
    disabled: bool,
    timeout: float | None,
    overall: float | None,
    slow: float | None,
    cancel_after: float | None,
    skip: int = 0,
    memory_key: Callable[..., Any] | None = None,
    memory_most: int = 0,
    dedupe: Flights | None = None,
    key: Callable[..., Any] | None = None,
    max_keys: int = 0,
    undressed: bool = False,
) -> Guard[..., Any] | AsyncGuard[..., Any]:
    """A guard before `fn`. Durations in seconds, None for none."""

faces: Final[dict[str, dict[str, tuple[IntegrationType, Guard[..., Any]]]]]
"""Of with_integration_resilience: {integration's name: {operation's name: (type, the guard told what to call)}}."""

def set_first_time(function: Callable[..., Any]) -> None:
    """What with_integration_resilience does where it knows nothing yet, or is asked for more."""

@overload
def with_integration_resilience(  # type: ignore[overload-overlap]  # what is awaitable is the special case
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[[], _Awaitable[_T]],
    *,
    operation_name: str | None = None,
    fallbacks: Iterable[Fallback] = (),
    retry: bool = True,
    idempotent: bool = True,
    registry: Registry | None = None,
) -> Coroutine[Any, Any, IntegrationResult[_T]]: ...
@overload
def with_integration_resilience(
    integration_type: IntegrationType | str,
    integration_name: str,
    operation: Callable[[], _T],
    *,
    operation_name: str | None = None,
    fallbacks: Iterable[Fallback] = (),
    retry: bool = True,
    idempotent: bool = True,
    registry: Registry | None = None,
) -> IntegrationResult[_T]:
    """Run `operation` behind an integration's guard. Gives an `IntegrationResult`, to be awaited if it is async.

    Sync operations give the result itself; coroutine functions, and functions that return an awaitable, give an
    awaitable of it. `operation_name` is what the calls are recorded under, the function's own name by default.
    `retry=False` makes one attempt only, `idempotent=False` retries only what provably never reached the dependency.
    """

def disable_guard(guard: Guard[..., Any] | AsyncGuard[..., Any], disabled: bool) -> None:
    """Turn a guard into a pass-through, or back."""

def retime_guard(
    guard: Guard[..., Any] | AsyncGuard[..., Any],
    timeout: float | None,
    overall: float | None,
    slow: float | None,
    cancel_after: float | None,
) -> None:
    """Let other limits hold for a guard from its next call on. Durations in seconds, None for none."""

@disjoint_base
class Flow:
    intervals: Final[LatencyHistogram]
    _values: Final[dict[Any, Any]]
    def _age(self) -> float: ...
    def _last(self, key: Any, /) -> tuple[Any, float] | None: ...
    def _high(self) -> int | None: ...
    def _numbers(self) -> dict[Any, int]: ...
    def _begin(self, before: dict[Any, int] | None, /) -> None: ...
    def _counts(self) -> tuple[int, int, int, int, int, int]: ...
    def _note_stale(self) -> bool: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@disjoint_base
class StreamSteps(Flow, Generic[_T]):
    _task: Final[Any]
    _cancelling: Final[int]
    _fired: int
    _waiting: Final[bool]
    _armed: bool
    def _attach(self, iterator: Any, /) -> None: ...
    def _left(self) -> float | None: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, _T]: ...

@disjoint_base
class WatchedLoop(Flow, Generic[_T]):
    def _attach(self, iterable: Any, /) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _T: ...

def setup_flow(
    flow: Flow,
    intervals: LatencyHistogram,
    stale_after: float | None,
    key: Any,
    sequence: Any,
    max_keys: int,
    resumes: bool,
) -> None:
    """Make a Flow ready that counts in `intervals`. `stale_after` in seconds, None for never."""

def control_guard(guard: Guard[..., Any] | AsyncGuard[..., Any], load: Load | None) -> None:
    """Let load control stand before a guard, behind the same breaker; None: none."""

def set_refusal_errors(
    circuit_open: type[CircuitOpenError],
    degraded: type[DegradedModeError],
    rate_limited: type[LoadControlError],
    bulkhead_full: type[LoadControlError],
    throttled: type[LoadControlError],
    timeout: type[IntegrationTimeoutError],
) -> None:
    """The exception classes to raise for a refusal: by the state, for capacity, by each limit of load control, and for
    a deadline that has passed."""

def hear_refusals(heard: bool) -> None:
    """Whether each refusal is to be told to its recovery, for somebody wants the event."""

def in_turn(lock: Any, work: Callable[[], _T]) -> _T | None:
    """What `work()` gives, called with the lock held; None without a call where somebody holds it."""

def now_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds, or the fake clock."""

@disjoint_base
class InFrame:
    """Drives a coroutine in the frame of another call, whose deadline `remaining()` then tells. Await it once."""

    def __new__(cls, inner: Coroutine[Any, Any, Any], deadline: int) -> Self: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: object) -> Any: ...
    def throw(self, *given: Any) -> Any: ...
    def close(self) -> None: ...

def remaining() -> float | None:
    """Seconds that the code around us has left, 0.0 once they are over; None where no deadline is in force.

    That is the least of the `deadline()` block, and of the attempt timeouts and overall deadlines of all guards entered
    in this thread or task.
    """

@final
class ArmedDeadline:
    """A running task's deadline, armed at its making."""

    def disarm(self) -> tuple[Task[Any], int] | None:
        """(task, requests to cancel it that were there before) if it has fired, else None."""

def arm_deadline(seconds: float) -> ArmedDeadline | None:
    """Cancel the running asyncio task in so many seconds. None where no such task runs."""

def limits() -> tuple[int, bool] | None:
    """(end in ns of CLOCK_MONOTONIC, is it that of a block) of the deadline in force here, the earliest; or None.

    One of a guarded call that has passed is told as ending now.
    """

def frame() -> int:
    """The deadline of the guarded call around us, as a stamp, for `set_frame` in a thread that works for it."""

def set_frame(deadline: int) -> int:
    """Let this deadline be in force in this thread. Returns the one before."""

def settle_clock() -> None:
    """Choose the clock that stamps durations. Before this, nothing may be counted."""

def clock_source() -> str:
    """Which clock stamps durations now: "tsc", "cntvct", "monotonic" or "fake"."""

def clock_anomalies() -> int:
    """How often the cycle counter and the kernel's clock have disagreed."""

def clock_check() -> None:
    """Compare the two clocks now; guards do it themselves once a slice."""

def fake_clock(on: bool) -> None: ...
def fake_clock_set(now: int) -> None: ...
def skew_clock(ticks: int) -> None: ...
def arena_bytes() -> tuple[int, int, int]:
    """(in use, lying free for reuse, capacity) of the process's arena, in bytes."""

def build_info() -> dict[str, str]:
    """The compiler and the flags this module was built with."""
