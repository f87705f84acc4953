"""Client interceptors for gRPC, sync and asyncio.

    from failsoft.adapters.grpc import FailsoftInterceptor, async_interceptors

    channel = grpc.intercept_channel(grpc.insecure_channel("quotes:50051"), FailsoftInterceptor(api))
    channel = grpc.aio.insecure_channel("quotes:50051", interceptors=async_interceptors(api))

gRPC carries a deadline with each call by itself, so that is where the time that is left goes. Retries of a service
config know nothing of ours: let one of the two retry.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as error:
    if error.name != "grpc":
        raise
    raise ImportError("grpcio is not installed: pip install 'failsoft[grpc]'") from error

from .._core import limits, now_ns
from ..config import ErrorCategory
from ..course import SECOND, SUCCEEDED
from ..deadlines import deadline
from ..errors import IntegrationError
from ..integrations import Integration
from .exchange import Exchange
from .hosts import Hosts

__all__ = ["FailsoftInterceptor", "async_interceptors"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from ..course import AnyGuard

_Asked = namedtuple("_Asked", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"))


class _Interceptor:
    """What both kinds are told, and the guard of each method."""

    def __init__(
        self,
        integration: Integration,
        *,
        operation: str | None = None,
        retry: bool = True,
        retry_methods: Iterable[str] = (),
    ) -> None:
        if not isinstance(integration, Integration):
            raise TypeError(f"integration must be an Integration, got {integration!r}")
        if isinstance(retry_methods, str):
            raise TypeError(f"retry_methods must be several names of methods, got {retry_methods!r}")
        self._guards = Hosts(integration, operation=operation, retry=retry)
        self._again = frozenset(method.lstrip("/") for method in retry_methods)

    def _guard(self, details: Any, whole: bool) -> AnyGuard:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        method = method.lstrip("/")
        return self._guards.guard("", method, whole and method in self._again)


class FailsoftInterceptor(
    _Interceptor,
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]  # grpc is not typed
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Sends each call through an integration. For `grpc.intercept_channel`.

    Errors are gRPC's own. What our gate refuses, and what had no time left, is raised as an error that is ours
    (`CircuitOpenError`, ...) and a `grpc.RpcError` as well, whose `code()` is UNAVAILABLE or DEADLINE_EXCEEDED.

    - Of one request and one response, an attempt's `timeout` is the least of what is left of the caller's, the
      integration's `timeouts.read`, and what is left of the attempt, of `timeouts.overall` and of any deadline around
      it: all attempts together never take longer than was asked for.
    - A call that streams, either way, passes the gate once and is bounded by the caller's `timeout` and a deadline
      around it alone. How it went is known when it ends; one that is cancelled counts as ignored. So with a `future`.
    - `operation`: the name calls are recorded under, their method ("quotes.Feed/Get") by default.
    - `retry_methods`: methods that may be sent twice, by name; none by default, for gRPC does not tell. What streams is
      never sent twice, nor is a `future`. `retry=False`: no retries at all.
    """

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._run(continuation, client_call_details, request, whole=True)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._run(continuation, client_call_details, request, whole=False)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._run(continuation, client_call_details, request_iterator, whole=False)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._run(continuation, client_call_details, request_iterator, whole=False)

    def _run(self, continuation: Any, details: Any, request: Any, *, whole: bool) -> Any:
        guard = self._guard(details, whole)
        if guard._disabled:
            return continuation(details, request)
        call = _Call(guard, continuation, details, request, whole)
        try:
            with call.bound():
                made = call.run()
        except IntegrationError as error:
            raise _of_grpc(error, _Ended) from error.__cause__
        call.goes_on(made)
        return made


class _AsyncInterceptor(_Interceptor):
    async def _run(self, continuation: Any, details: Any, request: Any, *, whole: bool) -> Any:
        guard = self._guard(details, whole)
        if guard._disabled:
            return await continuation(details, request)
        call = _AsyncCall(guard, continuation, details, request, whole)
        try:
            with call.bound():
                kind, made, permit, took = await call.first()
                if kind != SUCCEEDED:
                    made = await call.rest(kind, made, permit, took)
        except IntegrationError as error:
            raise _of_grpc(error, grpc.aio.AioRpcError) from error.__cause__
        call.goes_on(made)
        return made


class _UnaryUnary(_AsyncInterceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._run(continuation, client_call_details, request, whole=True)


class _UnaryStream(_AsyncInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._run(continuation, client_call_details, request, whole=False)


class _StreamUnary(_AsyncInterceptor, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._run(continuation, client_call_details, request_iterator, whole=False)


class _StreamStream(_AsyncInterceptor, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._run(continuation, client_call_details, request_iterator, whole=False)


def async_interceptors(
    integration: Integration,
    *,
    operation: str | None = None,
    retry: bool = True,
    retry_methods: Iterable[str] = (),
) -> list[Any]:
    """The same for a channel of `grpc.aio`, which wants one for each way to call: `interceptors=`.

    What it is told is as for `FailsoftInterceptor`.
    """
    methods = retry_methods if isinstance(retry_methods, str) else tuple(retry_methods)  # each looks at them
    kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    return [kind(integration, operation=operation, retry=retry, retry_methods=methods) for kind in kinds]


class _Call(Exchange):
    """One call, from the gate to its status."""

    __slots__ = ("_continuation", "_details", "_over", "_request", "_whole")

    def __init__(self, guard: AnyGuard, continuation: Callable[..., Any], details: Any, request: Any, whole: bool):
        super().__init__(guard)
        self._continuation = continuation
        self._details = details
        self._request = request
        self._whole = whole
        self._over = False

    def bound(self) -> Any:
        """The caller's `timeout` is that of all attempts together, as gRPC has it, and of the wait for a place."""
        asked = self._details.timeout
        return nullcontext() if asked is None else deadline(asked)

    def _send(self, seconds: float) -> tuple[Any, int]:
        made = self._continuation(self._limited(seconds), self._request)
        if self._whole and not _is_future(made):
            made.result()
            self._over = True
        return made, 0

    def _limited(self, seconds: float) -> Any:
        """What was asked for, to be done within as many seconds as there are."""
        asked = self._details
        if self._whole:
            seconds = min(seconds, self._guard._recovery.integration.config.timeouts.read)
        elif (around := limits()) is not None:
            seconds = max(around[0] - now_ns(), 0) / SECOND
        else:
            return asked
        if asked.timeout is not None and asked.timeout <= seconds:
            return asked
        fields = {name: getattr(asked, name, None) for name in _Asked._fields}
        return _Asked(**{**fields, "timeout": seconds})

    def goes_on(self, made: Any) -> None:
        """It has been sent: how it ends is heard of later, unless it has ended."""
        if self._over:
            self.ended()
        else:
            made.add_done_callback(self._done)

    def _done(self, made: Any) -> None:
        # In a thread of gRPC's, whose context is that of some call: no deadline of it is this one's.
        code = _at_once(made.code())
        if code is grpc.StatusCode.CANCELLED:
            self.leave()
        elif code is grpc.StatusCode.OK:
            self.ended(timely=False)
        else:
            self.ended(self._error_of(made, code))

    def _error_of(self, made: Any, code: Any) -> BaseException:
        return made.exception()  # type: ignore[no-any-return]  # the call itself, or what another interceptor raised


def _is_future(made: Any) -> bool:
    """Whether nobody waits for it: a call in itself, done already or not. What a blocking call gives can be no feed,
    and a mere wrapper of an exception has nothing to say of the wire."""
    return not made.done() or (hasattr(made, "__next__") and hasattr(made, "debug_error_string"))


class _AsyncCall(_Call):
    """The same, awaited."""

    __slots__ = ()

    cancels = False  # gRPC ends a call by itself when its time is up

    def _sending(self, seconds: float) -> Any:
        return self._made(self._limited(seconds))

    async def _made(self, details: Any) -> Any:
        made = await self._continuation(details, self._request)
        if self._whole:
            await made
            self._over = True
        return made

    def _sent(self, response: Any) -> int:
        return 0

    def _error_of(self, made: Any, code: Any) -> BaseException:
        metadata, details = _at_once(made.trailing_metadata()), _at_once(made.details())
        return grpc.aio.AioRpcError(code, trailing_metadata=metadata, details=details)  # type: ignore[no-any-return]


def _at_once(answer: Any) -> Any:
    """What a call that has ended says of itself: grpc.aio has it awaited, though there is nothing to wait for."""
    if not hasattr(answer, "send"):
        return answer
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    return None


# ---- errors that are ours and gRPC's


class _Code(str):
    """The code of an error of ours. Called, it gives gRPC's."""

    status: Any

    def __call__(self) -> Any:
        return self.status

    def __reduce__(self) -> Any:
        return str, (str(self),)


class _Details(dict):  # type: ignore[type-arg]
    """The details of an error of ours. Called, they are words, as gRPC's."""

    words: str

    def __call__(self) -> str:
        return self.words

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class _Ended(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[misc]  # grpc is not typed
    """An error of the sync API is also the call that ended with it: other interceptors get it as what they called."""

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None: ...

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> Self:
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return self.__traceback__

    def add_callback(self, callback: object) -> bool:
        return False

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        fn(self)


@cache
def _class_of(ours: type[IntegrationError], theirs: type[Exception]) -> type[IntegrationError]:
    class Refused(ours, theirs):  # type: ignore[misc, valid-type]
        def initial_metadata(self) -> None: ...

        def trailing_metadata(self) -> None: ...

        def debug_error_string(self) -> str:
            return str(self)

        def __reduce__(self) -> tuple[object, ...]:
            revive, fields = super().__reduce__()
            return revive, (ours, *fields[1:])

    Refused.__name__ = Refused.__qualname__ = ours.__name__
    return Refused


def _of_grpc(error: IntegrationError, theirs: type[Exception]) -> IntegrationError:
    """The error, caught by those that look for gRPC's as well."""
    if isinstance(error, theirs):
        return error
    late = error.category is ErrorCategory.TIMEOUT
    code, details = _Code(error.code), _Details(error.details)
    code.status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.UNAVAILABLE
    details.words = error.message
    error.__class__ = _class_of(type(error), theirs)  # type: ignore[arg-type]  # classes have a hash
    error.code, error.details = code, details
    return error
