"""One request and its response, from the gate to the end of the body.

A function is done when it returns; a request is not when its head has come. So an `Exchange` keeps the permit until the
body has ended: then it is a success, and one that breaks on the way is a failure. A body that nobody reads, or that is
closed before its end, says nothing: the permit goes back, and it counts as ignored. A feed of events has no end that
anybody has to wait for: it is a success too when its reader leaves after something has come.

The first attempt is made here, and nothing else is done where it goes well. Of any other `Recovery` decides what comes
next, and for it an Exchange is what a guard is: it attempts, and is told how that counts.
"""

from __future__ import annotations

from types import coroutine

from .._core import TOO_LATE, arm_deadline, limits, now_ns
from ..answers import ATTEMPT_TIMEOUT
from ..attempts import Block, outcome_of, tell
from ..course import FAILED, IGNORED, JUDGED, RAISE, REFUSED, SECOND, SUCCEEDED, TIMEOUTS
from ..deadlines import deadline
from ..errors import IntegrationTimeoutError
from ..expiry import verdict
from ..standard import category_of_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from typing import Any, ClassVar, TypeAlias

    from .._core import ArmedDeadline
    from ..config import ErrorCategory
    from ..course import AnyGuard

    Ended: TypeAlias = tuple[int, Any, int, int]

SWITCHED = 101
"""The status after which a connection is a WebSocket, say, and no body of a response."""

_TOO_HIGH = 400
"""The least status that is no answer to a request that was in order."""

_AROUND = 2**64 - 1
"""Later than any deadline."""


def failure_of_status(status: int) -> ErrorCategory | None:
    """What a response of this status stands for; None for an answer, which a refusal of the request is too."""
    return category_of_status(status) if status >= 500 or status == 429 or status == 408 else None


class Exchange(Block):
    """What is common to the requests of all clients. Of a client, it has to be said how to send and how to drop."""

    __slots__ = ("_dropped", "_head", "_local", "came", "until")

    late_error: ClassVar[type[IntegrationTimeoutError]] = IntegrationTimeoutError
    """What is raised when the time is up."""

    cancels: ClassVar[bool] = True
    """Whether a head that takes too long has to be cancelled: the client does not by itself."""

    def __init__(self, guard: AnyGuard) -> None:
        self._guard = guard
        self._permit = self._started = 0
        self._place = None
        self.until = 0  # ns: when the attempt, its body included, has to be done
        self._head = 0  # ns that the head took, where the body is a feed
        self._dropped: Any = None  # a response that is no answer, until it is known whether there will be another
        self.came = False  # a piece of the body
        self._local = False  # the error is about our own connection pool

    def __del__(self) -> None:
        if self._permit:
            self.leave()

    # ---- what a client's own exchange says

    def _send(self, seconds: float) -> tuple[Any, int]:
        """Send the request; the response and its status. It has so many seconds."""
        raise NotImplementedError

    def _sending(self, seconds: float) -> Any:
        """Begin to send; what has to be awaited for the response."""
        raise NotImplementedError

    def _sent(self, response: Any) -> int:
        """The head has come, or (None) something else. The status."""
        raise NotImplementedError

    def _drop(self, response: Any) -> None:
        """Give up a response before another attempt."""

    async def _drop_async(self, response: Any) -> None:
        self._drop(response)

    def _is_local(self, error: Exception) -> bool:
        """Whether the error is about us: no connection was free. The breaker must not hear of it."""
        return False

    # ---- the course of a request

    def run(self) -> Any:
        """The response, after as many attempts as it takes; or raise what the last one raised."""
        until, around = now_ns() + self._guard._recovery.overall, limits()
        until = until if around is None or around[0] >= until else around[0]
        kind, payload, permit, took = self._attempt(until)
        if kind == SUCCEEDED:
            return payload
        if kind == REFUSED:
            raise payload.error()
        recovery: Any = self._guard._recovery
        try:
            if kind == JUDGED:
                good, payload = recovery.judged(self, RAISE, *payload, permit, took, None)
            else:
                good, payload = recovery.failed(self, RAISE, payload, None, permit, took, None)
        except BaseException:  # interrupted between two attempts: nobody else knows of the response
            if self._dropped is not None:
                self._drop(self._dropped)
            raise
        self._dropped = None
        if good:
            return payload
        try:
            raise payload
        finally:
            del payload  # its traceback holds this frame

    def first(self) -> Coroutine[Any, Any, Ended]:
        """The first attempt, to be awaited. `rest` makes the response of it where it has not succeeded."""
        until, around = now_ns() + self._guard._recovery.overall, limits()
        return self._attempt_async(until if around is None or around[0] >= until else around[0])

    async def rest(self, kind: int, payload: Any, permit: int, took: int) -> Any:
        """The same as `run`, awaited, after its first attempt."""
        if kind == REFUSED:
            raise payload.error()
        # Recovery awaits what `_attempt` gives, so that the awaiting face of this exchange has to be shown to it.
        recovery: Any = self._guard._recovery
        face = _AsyncFace(self)
        try:
            if kind == JUDGED:
                good, payload = await recovery.judged_async(face, RAISE, *payload, permit, took, None)
            else:
                good, payload = await recovery.failed_async(face, RAISE, payload, None, permit, took, None)
        except BaseException:
            if self._dropped is not None:
                await self._drop_async(self._dropped)
            raise
        self._dropped = None
        if good:
            return payload
        try:
            raise payload
        finally:
            del payload

    # ---- what Recovery asks of a guard

    @property
    def _disabled(self) -> bool:
        return self._guard._disabled

    def _settle(self, permit: int, outcome: int, took: int) -> None:  # type: ignore[override]  # as a guard's
        self._place = None
        self._guard._settle(permit, IGNORED if self._local else outcome, took)

    def _attempt(self, until: int, _args: object = None, _kwargs: object = None) -> Ended:
        guard = self._guard
        permit = TOO_LATE if now_ns() >= until and not guard._disabled else guard._pass(self, 1)
        if not permit & 1:
            return REFUSED, guard._refuse(permit), 0, 0
        seconds = self._started_with(permit, until)
        try:
            if self._dropped is not None:  # not before: who is refused gets it
                self._drop(self._dropped)
                self._dropped = None
            if guard._recovery.integration.chaos:
                self._shake(seconds)
                seconds = self.left()
            response, status = self._send(seconds)
        except BaseException as error:
            return self._failed(error, patient=False)
        return self._answered(response, status)

    async def _attempt_async(self, until: int) -> Ended:
        guard = self._guard
        if now_ns() >= until and not guard._disabled:
            return REFUSED, guard._refuse(TOO_LATE), 0, 0
        permit, self._place, waits = guard._gate(1, False)
        if waits:
            permit = await self._waited(permit, until)
        if not permit & 1:
            return REFUSED, guard._refuse(permit), 0, 0
        seconds = self._started_with(permit, until)
        armed = None
        try:
            if self._dropped is not None:
                await self._drop_async(self._dropped)
                self._dropped = None
            if guard._recovery.integration.chaos:
                from ..chaos_plans import befall

                await self.bounded(befall(guard._recovery))
                seconds = self.left()
            armed = self._arm(seconds) if self.cancels else None
            response = await self._sending(seconds)
            if armed is not None and (fired := armed.disarm()) is not None:
                verdict(*fired, None, self.late)
            status = self._sent(response)
        except BaseException as error:
            self._sent(None)
            return self._failed(self._disarmed(armed, error), patient=True)
        return self._answered(response, status)

    def _shake(self, seconds: float) -> None:
        """Chaos is on: what befalls the attempt before it is sent, for no longer than a server would be waited for."""
        from ..chaos_plans import NOTE, shake

        try:
            with deadline(seconds):
                shake(self._guard._recovery, block=True)
        except IntegrationTimeoutError as error:
            if error.reason != ATTEMPT_TIMEOUT:
                raise
            late = self.late()
            late.add_note(NOTE)
            raise late from None

    async def _waited(self, permit: int, until: int) -> int:
        """Load control has no room: wait for it. A permit, or why there is none."""
        guard = self._guard
        code = await guard._recovery.wait_async(1, permit & 0xFF, until)
        if code:
            return permit & ~0xFF | code
        permit, self._place, _ = guard._gate(1, True)  # the breaker may have opened meanwhile
        return permit

    def _started_with(self, permit: int, until: int) -> float:
        self._permit = permit
        self._local = False
        now = self._started = now_ns()
        alone = now + int(self._guard._recovery.timeout * SECOND)
        self.until = until = alone if alone < until else until
        return (until - now) / SECOND if until > now else 0.0

    def _failed(self, error: BaseException, *, patient: bool) -> Ended:
        if not isinstance(error, Exception):
            self.ended(error, patient=patient)
            raise error
        self._local = self._is_local(error)
        return FAILED, error, self._taken(), now_ns() - self._started

    def _answered(self, response: Any, status: int) -> Ended:
        category = failure_of_status(status) if status >= _TOO_HIGH else None
        if category is None:
            return SUCCEEDED, response, 0, now_ns() - self._started
        self._dropped = response
        return JUDGED, (response, category), self._taken(), now_ns() - self._started

    def _taken(self) -> int:
        permit, self._permit = self._permit, 0
        return permit

    # ---- the body

    def feeds(self) -> None:
        """The body is a feed, which goes on as long as it likes: only deadlines around the call bound it."""
        around = limits()
        self.until = _AROUND if around is None else around[0]
        self._head = now_ns() - self._started

    def left(self) -> float:
        """Seconds that are left, never less than 0.0."""
        left = self.until - now_ns()
        return left / SECOND if left > 0 else 0.0

    def in_time(self) -> None:
        """A piece of the body has come. Raises where it came too late, for nobody could interrupt the wait for it."""
        if now_ns() >= self.until:
            raise self.late()

    async def bounded(self, work: Any) -> Any:
        """Await `work`, cancelled when the time is up."""
        steps = work.__await__()
        try:
            step = steps.send(None)
        except StopIteration as done:
            return done.value
        return await self.waiting(steps, step)

    @coroutine
    def waiting(self, steps: Any, step: Any) -> Generator[Any, Any, Any]:
        """The rest of an awaitable that has to wait, from its first step on: what need not costs no deadline."""
        armed = self._arm(self.left())
        try:
            while True:
                try:
                    sent = yield step
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:
                    step = steps.throw(error)
                    continue
                if sent is None:  # as of asyncio, always
                    break
                step = steps.send(sent)
            value = yield from steps
        except StopIteration as done:  # it answers to being cancelled
            value = done.value
        except BaseException as raised:
            instead = self._disarmed(armed, raised)
            if instead is not raised:
                raise instead from raised
            raise
        self._disarmed(armed, None)
        return value

    def _arm(self, seconds: float) -> ArmedDeadline | None:
        """Let the task be cancelled in so many seconds. Where none of asyncio's runs (trio), nothing can be."""
        try:
            return arm_deadline(seconds)
        except RuntimeError:
            return None

    def _disarmed(self, armed: ArmedDeadline | None, error: Any) -> Any:
        """The error, or what it stands for: the time was up."""
        fired = None if armed is None else armed.disarm()
        instead = None if fired is None else verdict(*fired, error, self.late)
        if instead is None:
            return error
        instead.__cause__ = error
        return instead

    def ended(self, error: BaseException | None = None, *, patient: bool = False, timely: bool = True) -> None:
        """The body has ended, well or with an error. Does nothing the second time, or where the head settled it.

        `timely`: it is no success where it took longer than it may.
        """
        permit = self._permit
        if not permit:
            return
        self._permit = 0
        self._place = None
        recovery = self._guard._recovery
        try:
            now = now_ns()
            took = self._head or now - self._started
            if error is None and (not timely or (now < self.until and limits() is None)):  # as almost always
                self._guard._settle(permit, SUCCEEDED, took)
                return
            outcome, timed_out = outcome_of(recovery, error, took, patient=patient)
            if timed_out:
                recovery.record.note(TIMEOUTS)
            self._guard._settle(permit, outcome, took)
            tell(recovery, error)
        except BaseException:  # no memory, or an interrupt: the permit at least goes back
            self._guard._breaker.ignore(permit)
            raise

    def leave(self) -> None:
        """Nobody reads on: it counts for nothing, unless it was a feed, which may never end, and something came."""
        if not self._permit:
            return
        if self._head and self.came:
            self.ended()
        permit = self._taken()
        if permit:
            self._place = None
            self._guard._settle(permit, IGNORED, 0)

    def late(self) -> IntegrationTimeoutError:
        """The error of an attempt whose time is up."""
        recovery = self._guard._recovery
        seconds = (self.until - self._started) / SECOND
        return self.late_error(
            f"{recovery.operation}: no answer within {seconds:.3g} s",
            details={"attempt_timeout": recovery.timeout},
            integration_type=recovery.integration.type,
            integration_name=recovery.integration.name,
            operation=recovery.operation,
            reason=ATTEMPT_TIMEOUT,
        )


class _AsyncFace:
    """An Exchange as an async guard looks to Recovery."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def _disabled(self) -> bool:
        return self._exchange._disabled

    def _settle(self, permit: int, outcome: int, took: int) -> None:
        self._exchange._settle(permit, outcome, took)

    async def _attempt(self, until: int, _args: object, _kwargs: object) -> Ended:
        return await self._exchange._attempt_async(until)


def late_error(with_class: type[Exception]) -> type[IntegrationTimeoutError]:
    """`IntegrationTimeoutError` that a client's own `except` clauses know too. Elsewhere it is a plain one."""

    class DeadlineError(IntegrationTimeoutError, with_class):  # type: ignore[misc, valid-type]
        request = response = None  # of the client's class, which may not have been told

        def __reduce__(self) -> tuple[object, ...]:
            revive, fields = super().__reduce__()
            return revive, (IntegrationTimeoutError, *fields[1:])  # type: ignore[index]  # the arguments of revive

    DeadlineError.__qualname__ = "DeadlineError"
    return DeadlineError
