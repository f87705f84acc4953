"""The interceptors of gRPC, against a server in this process."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from failsoft import CircuitOpenError, Integration, IntegrationTimeoutError, Registry, deadline, extract_deadline
from failsoft.config import ErrorCategory
from failsoft.errors import BulkheadFullError

grpc = pytest.importorskip("grpc", exc_type=ImportError)

from failsoft.adapters.grpc import FailsoftInterceptor, async_interceptors  # noqa: E402  # needs grpc

from .rpc_server import Feed, served  # noqa: E402  # needs grpc

GET, WATCH, SEND, TALK = (f"/quotes.Feed/{name}" for name in ("Get", "Watch", "Send", "Talk"))
OPTIONS = (("grpc.enable_http_proxy", 0),)


class Peer:
    """A server, and the integration that its clients go through."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.server, self.port = served(self.feed)
        self.asked = self.feed.asked

    def integration(self) -> Integration:
        return Registry().integration(
            "peer",
            "external_api",
            retry_policy={"max_retries": 3, "initial_delay": 0.001},
            circuit_breaker={"failure_threshold": 100},
        )


@pytest.fixture(scope="module")
def running() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.feed.closing.set()
    peer.server.stop(0).wait(5.0)


@pytest.fixture
def peer(running: Peer) -> Peer:
    running.asked.clear()
    return running


@pytest.fixture
def api(peer: Peer) -> Integration:
    return peer.integration()


@pytest.fixture
def channel(peer: Peer, api: Integration) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        yield grpc.intercept_channel(bare, FailsoftInterceptor(api, retry_methods=[GET]))


def run(peer: Peer, api: Integration, work: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What `work` makes of a channel of grpc.aio."""
    import grpc.aio

    async def main() -> Any:
        options.setdefault("retry_methods", [GET])
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{peer.port}", OPTIONS, interceptors=async_interceptors(api, **options)
        ) as channel:
            return await work(channel)

    return asyncio.run(asyncio.wait_for(main(), 10.0))


def counts(api: Integration, method: str) -> tuple[int, int, int]:
    numbers = api.metrics(method.lstrip("/"))
    return numbers.count, numbers.error_count, numbers.retries


def soon(what: Callable[[], bool]) -> None:
    """gRPC tells of a call's end in a thread of its own."""
    until = time.monotonic() + 5.0
    while not what():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_call_passes_the_gate_under_the_name_of_its_method(channel: Any, api: Integration) -> None:
    assert channel.unary_unary(GET)(b"BTC") == b"price of BTC"
    assert channel.unary_unary(GET).with_call(b"BTC")[1].code() is grpc.StatusCode.OK
    assert counts(api, GET) == (2, 0, 0)


def test_one_name_for_all(peer: Peer, api: Integration) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        grpc.intercept_channel(bare, FailsoftInterceptor(api, operation="quotes")).unary_unary(GET)(b"BTC")
    assert counts(api, "quotes") == (1, 0, 0)


def test_the_least_of_all_limits_goes_with_the_call(peer: Peer, api: Integration, channel: Any) -> None:
    get = channel.unary_unary(GET)
    get(b"a")
    get(b"b", timeout=0.5, metadata=(("who", "me"),))
    with deadline(0.25):
        get(b"c", timeout=60)
        list(channel.unary_stream(WATCH)(b"d"))
    list(channel.unary_stream(WATCH)(b"e"))
    left = [each[1] for each in peer.asked]
    assert 14 < left[0] <= 15.1  # timeouts.read
    assert 0 < left[1] <= 0.55
    assert peer.asked[1][2]["who"] == "me"
    assert 0 < left[2] <= 0.3
    assert 0 < left[3] <= 0.3
    assert left[4] is None or left[4] > 1e6  # a stream lasts as long as it likes
    assert extract_deadline(peer.asked[0][2]).remaining() is None  # gRPC has its own way to tell


def test_only_methods_that_may_be_sent_twice_are(peer: Peer, api: Integration, channel: Any) -> None:
    assert channel.unary_unary(GET)(b"down") == b"up"
    assert counts(api, GET) == (2, 1, 1)
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        get = grpc.intercept_channel(bare, FailsoftInterceptor(api)).unary_unary(GET)
        peer.asked.clear()
        with pytest.raises(grpc.RpcError) as caught:
            get(b"down")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(peer.asked) == 1


def test_the_callers_timeout_is_that_of_all_attempts(api: Integration, channel: Any) -> None:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(GET)(b"hang", timeout=0.1)
    assert time.monotonic() - began < 0.3
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert counts(api, GET) == (1, 1, 0)


def test_a_hint_that_cannot_fit_fails_at_once(api: Integration, channel: Any) -> None:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(GET)(b"limit", timeout=2.0)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert time.monotonic() - began < 1.5
    assert api.status().failures == 0


def test_a_refusal_is_ours_and_grpcs(api: Integration, channel: Any) -> None:
    api.force_open()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(GET)(b"BTC")
    error = caught.value
    assert isinstance(error, CircuitOpenError)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.code == "API_CIRCUIT_OPEN"
    assert error.details() == error.message == str(error)
    assert error.details["state"] == "FORCED_OPEN"
    assert error.trailing_metadata() is error.initial_metadata() is None
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CircuitOpenError
    assert again.to_dict() == error.to_dict()
    assert (type(again.code), type(again.details)) == (str, dict)
    future = channel.unary_unary(GET).future(b"BTC")
    assert isinstance(future.exception(), CircuitOpenError)
    with pytest.raises(CircuitOpenError):
        next(channel.unary_stream(WATCH)(b"BTC"))
    with pytest.raises(CircuitOpenError), deadline(1.0):
        channel.stream_unary(SEND)(iter([b"a"]))


class Watching(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]  # grpc is not typed
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
):
    """An interceptor of somebody else's: it looks at the call that it has made, as gRPC says it may."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = continuation(client_call_details, request)
        call.add_done_callback(lambda ended: self.seen.append((ended.code(), ended.exception())))
        return call

    intercept_unary_stream = intercept_stream_unary = intercept_unary_unary


def test_other_interceptors_may_stand_outside(peer: Peer, api: Integration) -> None:
    """gRPC hands them an error as the call that ended with it."""
    api.force_open()
    watching = Watching()
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        channel = grpc.intercept_channel(bare, watching, FailsoftInterceptor(api))
        for call in (
            lambda: channel.unary_unary(GET)(b"BTC"),
            lambda: channel.unary_unary(GET).with_call(b"BTC"),
            lambda: channel.stream_unary(SEND)(iter([b"a"])),
        ):
            with pytest.raises(CircuitOpenError):
                call()
    assert [code for code, _ in watching.seen] == [grpc.StatusCode.UNAVAILABLE] * 3
    assert all(isinstance(error, CircuitOpenError) for _, error in watching.seen)


def test_what_an_interceptor_within_refuses_is_told_as_it_is(peer: Peer, api: Integration) -> None:
    within = Registry().integration("within", "external_api")
    within.force_open()
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        channel = grpc.intercept_channel(bare, FailsoftInterceptor(api), FailsoftInterceptor(within))
        with pytest.raises(CircuitOpenError, match="within was not called"):
            channel.unary_unary(GET)(b"BTC")
        with pytest.raises(CircuitOpenError, match="within was not called"):
            list(channel.unary_stream(WATCH)(b"BTC"))
        with pytest.raises(CircuitOpenError, match="within was not called"):
            channel.stream_unary(SEND)(iter([b"a"]))
    assert counts(api, SEND) == (1, 1, 0)


def test_no_time_left_is_a_deadline_of_grpcs_too(peer: Peer, channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught, deadline(0.0):
        channel.unary_unary(GET)(b"BTC")
    assert isinstance(caught.value, IntegrationTimeoutError)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.category is ErrorCategory.TIMEOUT
    assert not peer.asked


def test_a_future_does_not_wait_and_is_counted_when_it_is_done(api: Integration, channel: Any) -> None:
    get = channel.unary_unary(GET)
    hanging = get.future(b"hang", timeout=0.1)
    assert not hanging.done()
    assert counts(api, GET) == (0, 0, 0)
    assert hanging.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert get.future(b"BTC").result() == b"price of BTC"
    soon(lambda: counts(api, GET) == (2, 1, 0))


def test_a_future_is_never_sent_twice_nor_hides_its_code(api: Integration) -> None:
    """One that fails at once may have ended before it is looked at."""
    with grpc.insecure_channel("127.0.0.1:1", OPTIONS) as nobody:
        with pytest.raises(grpc.RpcError):
            nobody.unary_unary(GET)(b"BTC")  # from here on it fails fast
        get = grpc.intercept_channel(nobody, FailsoftInterceptor(api, retry_methods=[GET])).unary_unary(GET)
        for _ in range(50):
            call = get.future(b"BTC")
            assert call.exception() is not None
            assert call.code() is grpc.StatusCode.UNAVAILABLE
    soon(lambda: counts(api, GET) == (50, 50, 0))


def test_the_callers_timeout_bounds_the_wait_for_a_place(peer: Peer) -> None:
    api = Registry().integration("peer", "external_api", bulkhead={"max_concurrent": 1, "max_wait": 5.0})
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        get = grpc.intercept_channel(bare, FailsoftInterceptor(api)).unary_unary(GET)
        hanging = get.future(b"hang", timeout=2.0)
        began = time.monotonic()
        with pytest.raises(BulkheadFullError):
            get(b"BTC", timeout=0.05)
        assert time.monotonic() - began < 1.0
        hanging.cancel()


def test_what_ends_later_is_not_held_to_a_deadline_of_another(api: Integration, channel: Any) -> None:
    """gRPC tells of ends in a thread that has the context of whatever call it was started for."""
    watch = channel.unary_stream(WATCH)
    with deadline(0.05):
        watch(b"slow")
    other = watch(b"slow")  # keeps that thread alive
    time.sleep(0.06)
    assert channel.unary_unary(GET).future(b"BTC").result() == b"price of BTC"
    soon(lambda: counts(api, GET)[0] == 1)
    other.cancel()
    assert counts(api, GET) == (1, 0, 0)


def test_a_stream_is_counted_when_it_ends(api: Integration, channel: Any) -> None:
    watch = channel.unary_stream(WATCH)
    assert list(watch(b"BTC")) == [b"0", b"1", b"2"]
    soon(lambda: counts(api, WATCH) == (1, 0, 0))
    with pytest.raises(grpc.RpcError):
        list(watch(b"broken"))
    soon(lambda: counts(api, WATCH) == (2, 1, 0))
    left = watch(b"slow")
    assert next(left) == b"0"
    left.cancel()
    soon(lambda: ignored(api) == 1)
    assert counts(api, WATCH) == (2, 1, 0)
    assert channel.stream_unary(SEND)(iter([b"a", b"b"])) == b"a,b"
    assert list(channel.stream_stream(TALK)(iter([b"a", b"b"]))) == [b"a", b"b"]
    soon(lambda: counts(api, SEND)[0] == counts(api, TALK)[0] == 1)


def ignored(api: Integration) -> int:
    from failsoft._core import EVENTS

    return sum(record.events()[EVENTS.index("ignored")] for record in api.recorded)


def test_a_stream_may_last_longer_than_an_attempt(peer: Peer) -> None:
    api = Registry().integration("peer", "external_api", circuit_breaker={"timeout": 0.05})
    with grpc.insecure_channel(f"127.0.0.1:{peer.port}", OPTIONS) as bare:
        watch = grpc.intercept_channel(bare, FailsoftInterceptor(api)).unary_stream(WATCH)
        peer.feed.closing.set()
        try:
            assert len(list(watch(b"slow"))) == 3  # 0.15 s
        finally:
            peer.feed.closing.clear()
    soon(lambda: counts(api, WATCH) == (1, 0, 0))


def test_disabled_it_passes_through(api: Integration, channel: Any) -> None:
    api.disable()
    assert channel.unary_unary(GET)(b"BTC") == b"price of BTC"
    api._registry.disable()
    assert channel.unary_unary(GET)(b"BTC") == b"price of BTC"


def test_async(peer: Peer, api: Integration) -> None:
    async def work(channel: Any) -> None:
        get, watch = channel.unary_unary(GET), channel.unary_stream(WATCH)
        assert await get(b"BTC") == b"price of BTC"
        peer.asked.clear()
        assert await get(b"down") == b"up"
        assert counts(api, GET) == (3, 1, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(b"hang", timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert counts(api, GET) == (4, 2, 1)
        with pytest.raises(grpc.aio.AioRpcError), deadline(0.1):
            await get(b"hang")
        assert [item async for item in watch(b"BTC")] == [b"0", b"1", b"2"]
        with pytest.raises(grpc.aio.AioRpcError):
            [item async for item in watch(b"broken")]
        left = watch(b"slow")
        assert await left.read() == b"0"
        left.cancel()

        async def requests() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        assert await channel.stream_unary(SEND)(requests()) == b"a,b"
        assert [item async for item in channel.stream_stream(TALK)(requests())] == [b"a", b"b"]
        await asyncio.sleep(0.01)
        assert counts(api, WATCH) == (2, 1, 0)
        assert counts(api, SEND)[0] == counts(api, TALK)[0] == 1
        given_up = get(b"hang")
        while peer.asked[-1][0] != b"hang":
            await asyncio.sleep(0.001)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert ignored(api) == 2
        api.force_open()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get(b"BTC")
        assert isinstance(refused.value, CircuitOpenError)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        call = get(b"BTC")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "FORCED_OPEN" in await call.details()
        with pytest.raises(CircuitOpenError):
            await watch(b"BTC").read()

    run(peer, api, work)


def test_chaos_befalls_calls(api: Integration, channel: Any) -> None:
    from failsoft import chaos

    with chaos(api, error=ConnectionResetError, rate=1.0), pytest.raises(ConnectionResetError):
        channel.unary_unary(GET)(b"BTC")


def test_what_is_told_wrong_is_refused(api: Integration) -> None:
    with pytest.raises(TypeError, match="an Integration"):
        FailsoftInterceptor("api")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="several names"):
        async_interceptors(api, retry_methods=GET)
