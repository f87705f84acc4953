"""The transport of httpx and httpx2: what counts, what is sent again, what bounds it. Each test runs for all four clients."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from failsoft import CircuitOpenError, CircuitState, Integration, IntegrationTimeoutError, Registry, chaos, deadline
from failsoft._core import EVENTS
from failsoft.adapters.httpx import AsyncFailsoftTransport, FailsoftTransport, async_client, client
from failsoft.testing import FakeClock

from .origin import Origin

KINDS = ["httpx", "httpx async", "httpx2", "httpx2 async"]


def peer(**overrides: Any) -> Integration:
    settings: dict[str, Any] = {"retry_policy": {"max_retries": 2, "initial_delay": 0.01, "max_delay": 0.01}}
    return Registry().integration("peer", "external_api", **{**settings, **overrides})


def counts(integration: Integration) -> dict[str, int]:
    totals = [record.totals_of(False) for record in integration.recorded]
    events = [dict(zip(EVENTS, record.events(), strict=True)) for record in integration.recorded]
    return {
        "calls": sum(each[0] for each in totals),
        "failures": sum(each[2] for each in totals),
        "ignored": sum(each["ignored"] for each in events),
        "retries": sum(each["retries"] for each in events),
        "timeouts": sum(each["timeouts"] for each in events),
        "rejected": sum(each["rejected"] for each in events),
    }


class Bytes:
    """A stream of the library's that gives these pieces; an exception is raised in its turn."""

    def __init__(self, pieces: list[bytes | Exception], before: Callable[[], object] = lambda: None) -> None:
        self.pieces, self.before, self.closed = pieces, before, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.before()
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Setup:
    """One of the four clients, asked the same way whether it is async or not."""

    def __init__(self, kind: str) -> None:
        self.name, _, flavour = kind.partition(" ")
        self.library: Any = import_module(self.name)
        self.is_async = bool(flavour)
        self.sent: list[Any] = []
        self.limits: list[dict[str, float]] = []

    def transport(self, integration: Any, inner: Any = None, **options: Any) -> Any:
        return (AsyncFailsoftTransport if self.is_async else FailsoftTransport)(integration, inner, **options)

    def mock(self, answer: Callable[[Any], Any]) -> Any:
        """An inner transport that answers by a function; what is sent is kept."""

        def handle(request: Any) -> Any:
            self.sent.append(request)
            self.limits.append(dict(request.extensions.get("timeout", {})))
            return answer(request)

        return self.library.MockTransport(handle)

    def stream(self, *pieces: bytes | Exception, before: Callable[[], object] = lambda: None) -> Any:
        base = self.library.AsyncByteStream if self.is_async else self.library.SyncByteStream
        return type("Stream", (Bytes, base), {})(list(pieces), before)

    def run(self, transport: Any, ask: Callable[[Any], Any], **options: Any) -> Any:
        """`ask` is given a client, and gives what it returns, to be awaited by us if need be."""
        if not self.is_async:
            with self.library.Client(transport=transport, **options) as session:
                return ask(session)

        async def main() -> Any:
            async with self.library.AsyncClient(transport=transport, **options) as session:
                return await ask(session)

        return asyncio.run(main())

    def get(self, transport: Any, url: str = "http://peer/", **options: Any) -> Any:
        return self.run(transport, lambda session: session.get(url), **options)

    def stream_of(self, transport: Any, read: bool | None, url: str = "http://peer/") -> None:
        """Open a response; read it all (True), a piece (False), or nothing (None), then close it."""
        if not self.is_async:
            with self.library.Client(transport=transport) as session, session.stream("GET", url) as response:
                if read is not None:
                    for _ in response.iter_raw():
                        if not read:
                            return
            return

        async def main() -> None:
            async with self.library.AsyncClient(transport=transport) as session:
                async with session.stream("GET", url) as response:
                    if read is not None:
                        async for _ in response.aiter_raw():
                            if not read:
                                return

        asyncio.run(main())


@pytest.fixture(params=KINDS)
def setup(request: pytest.FixtureRequest) -> Setup:
    pytest.importorskip(request.param.partition(" ")[0], exc_type=ImportError)
    return Setup(request.param)


# ---- chaos


def test_chaos_befalls_requests_too(setup: Setup) -> None:
    """Before they are sent, each attempt by itself, and for no longer than a server would be waited for."""
    integration = peer(circuit_breaker={"timeout": 0.05}, bulkhead={"max_concurrent": 1})
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200, text="ok")))
    with chaos(integration, error=ConnectionResetError) as plan, pytest.raises(ConnectionResetError) as caught:
        setup.get(transport)
    assert caught.value.__notes__[0] == "injected by failsoft.chaos"
    assert (plan.injected, len(setup.sent), counts(integration)["retries"]) == (3, 0, 2)
    with chaos(integration, latency=0.02):
        assert setup.get(transport).text == "ok"
    assert setup.limits[-1]["read"] < 0.035
    with chaos(integration, latency=5.0, rate=1.0), pytest.raises(setup.library.ReadTimeout) as late:
        setup.run(transport, lambda session: session.post("http://peer/"))
    assert isinstance(late.value, IntegrationTimeoutError)
    assert counts(integration)["timeouts"] == 1
    assert len(setup.sent) == 1
    with chaos(integration, outcome="not a response"):
        assert setup.get(transport).text == "ok"
    assert integration.load().in_flight == 0


# ---- what counts


def test_a_request_has_succeeded_when_its_body_has_ended(setup: Setup) -> None:
    integration = peer()
    seen: list[int] = []
    stream = setup.stream(b"a", b"b", before=lambda: seen.append(counts(integration)["calls"]))
    inner = setup.mock(lambda _: setup.library.Response(200, stream=stream))
    assert setup.get(setup.transport(integration, inner)).content == b"ab"
    assert seen == [0, 0]  # not before
    assert counts(integration)["calls"] == 1
    assert counts(integration)["failures"] == 0
    assert stream.closed


def test_a_body_that_breaks_is_a_failure_and_not_sent_for_again(setup: Setup) -> None:
    integration = peer()
    inner = setup.mock(
        lambda _: setup.library.Response(200, stream=setup.stream(b"a", setup.library.ReadError("broken")))
    )
    with pytest.raises(setup.library.ReadError):
        setup.get(setup.transport(integration, inner))
    assert len(setup.sent) == 1
    assert counts(integration)["failures"] == 1
    assert integration.status().failures == 1


@pytest.mark.parametrize("read", [False, None])
def test_a_body_left_early_counts_as_ignored(setup: Setup, read: bool | None) -> None:
    integration = peer()
    inner = setup.mock(lambda _: setup.library.Response(200, stream=setup.stream(b"a", b"b")))
    setup.stream_of(setup.transport(integration, inner), read)
    assert counts(integration) == {
        "calls": 0, "failures": 0, "ignored": 1, "retries": 0, "timeouts": 0, "rejected": 0
    }  # fmt: skip


def test_a_forgotten_response_gives_its_probe_back(setup: Setup) -> None:
    """Half-open admits one probe; one whose response is dropped must not keep the others out."""
    with FakeClock() as clock:
        integration = peer(
            circuit_breaker={"failure_threshold": 1, "reset_timeout": 1.0, "half_open_max_calls": 1},
            retry_policy={"max_retries": 0},
        )
        answers = iter([setup.library.Response(503)])
        inner = setup.mock(
            lambda _: next(answers, None) or setup.library.Response(200, stream=setup.stream(b"a", b"b"))
        )
        transport = setup.transport(integration, inner)
        assert setup.get(transport).status_code == 503
        with pytest.raises(CircuitOpenError):
            setup.get(transport)
        clock.advance(1.0)
        request = setup.library.Request("GET", "http://peer/")
        if setup.is_async:
            asyncio.run(transport.handle_async_request(request))
        else:
            transport.handle_request(request)
        gc.collect()
        assert integration.status().probes == 0
        assert counts(integration)["ignored"] == 1


def test_a_bulkhead_place_is_held_until_the_body_ends(setup: Setup) -> None:
    integration = peer(bulkhead={"max_concurrent": 1})
    inside: list[int] = []
    stream = setup.stream(b"a", before=lambda: inside.append(integration.load().in_flight))
    inner = setup.mock(lambda _: setup.library.Response(200, stream=stream))
    transport = setup.transport(integration, inner)
    setup.get(transport)
    assert inside == [1]
    assert integration.load().in_flight == 0


@pytest.mark.parametrize(("status", "failures"), [(404, 0), (422, 0), (301, 0), (503, 1), (500, 1), (408, 1), (429, 0)])
def test_statuses_are_returned_and_counted(setup: Setup, status: int, failures: int) -> None:
    integration = peer(retry_policy={"max_retries": 0})
    inner = setup.mock(lambda _: setup.library.Response(status, content=b"why"))
    response = setup.get(setup.transport(integration, inner))
    assert (response.status_code, response.content) == (status, b"why")
    assert counts(integration)["failures"] == failures
    assert counts(integration)["calls"] == 1


def test_no_free_connection_of_our_own_is_no_failure_of_theirs(setup: Setup) -> None:
    integration = peer(retry_policy={"max_retries": 0})

    def full(_: Any) -> Any:
        raise setup.library.PoolTimeout("full")

    with pytest.raises(setup.library.PoolTimeout):
        setup.get(setup.transport(integration, setup.mock(full)))
    assert counts(integration)["ignored"] == 1
    assert integration.status().failures == 0


def test_an_open_circuit_refuses_without_sending(setup: Setup) -> None:
    integration = peer()
    integration.force_open()
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200)))
    with pytest.raises(CircuitOpenError):
        setup.get(transport)
    assert not setup.sent
    assert counts(integration)["rejected"] == 1


def test_a_disabled_registry_is_a_bare_client(setup: Setup) -> None:
    registry = Registry()
    integration = registry.integration("peer", "external_api")
    registry.disable()
    integration.force_open()
    assert setup.get(setup.transport(integration, setup.mock(lambda _: setup.library.Response(503)))).status_code == 503
    assert len(setup.sent) == 1


# ---- what is sent again


def flaky(setup: Setup, times: int, what: Callable[[], Any]) -> Any:
    left = [times]

    def answer(request: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            return setup.library.Response(200, content=b"well")
        made = what()
        if isinstance(made, Exception):
            raise made
        return made

    return setup.mock(answer)


def test_a_failure_is_tried_again(setup: Setup) -> None:
    integration = peer()
    streams: list[Any] = []

    def unavailable() -> Any:
        streams.append(setup.stream(b"no"))
        return setup.library.Response(503, stream=streams[-1])

    transport = setup.transport(integration, flaky(setup, 2, unavailable))
    assert setup.get(transport).content == b"well"
    assert len(setup.sent) == 3
    assert counts(integration)["retries"] == 2
    assert all(stream.closed for stream in streams)  # or their connections would be lost to the pool


def test_the_last_bad_response_is_returned_whole(setup: Setup) -> None:
    integration = peer()
    transport = setup.transport(
        integration, setup.mock(lambda _: setup.library.Response(503, stream=setup.stream(b"no", b"pe")))
    )
    response = setup.get(transport)
    assert (response.status_code, response.content) == (503, b"nope")
    assert len(setup.sent) == 3
    assert counts(integration)["failures"] == 3


def test_a_response_outlives_the_refusal_of_another_try(setup: Setup) -> None:
    """The first failure opens the circuit; what is returned is the response, and it can be read."""
    integration = peer(circuit_breaker={"failure_threshold": 1})
    stream = setup.stream(b"no", b"pe")
    inner = setup.mock(lambda _: setup.library.Response(503, stream=stream))
    response = setup.get(setup.transport(integration, inner))
    assert (response.status_code, response.content) == (503, b"nope")
    assert counts(integration)["rejected"] == 1
    assert len(setup.sent) == 1


def test_retry_after_is_honoured(setup: Setup) -> None:
    with FakeClock() as clock:
        integration = peer()
        inner = flaky(setup, 1, lambda: setup.library.Response(429, headers={"Retry-After": "7"}))
        began = clock.now
        assert setup.get(setup.transport(integration, inner)).content == b"well"
        assert clock.now - began == pytest.approx(7.0)


def test_a_wait_that_cannot_fit_is_not_begun(setup: Setup) -> None:
    integration = peer()
    inner = flaky(setup, 1, lambda: setup.library.Response(429, headers={"Retry-After": "120"}))
    assert setup.get(setup.transport(integration, inner)).status_code == 429
    assert len(setup.sent) == 1


@pytest.mark.parametrize(
    ("method", "headers", "options", "sent"),
    [
        ("GET", {}, {}, 2),
        ("PUT", {}, {}, 2),
        ("POST", {}, {}, 1),
        ("PATCH", {}, {}, 1),
        ("POST", {"Idempotency-Key": "k"}, {}, 2),
        ("POST", {}, {"retry_methods": {"get", "post"}}, 2),
        ("GET", {}, {"retry": False}, 1),
    ],
)
def test_only_what_may_be_sent_twice_is(
    setup: Setup, method: str, headers: dict[str, str], options: dict[str, Any], sent: int
) -> None:
    transport = setup.transport(peer(), flaky(setup, 1, lambda: setup.library.ReadError("broken")), **options)
    with contextlib.suppress(setup.library.ReadError):
        setup.run(transport, lambda session: session.request(method, "http://peer/", headers=headers, content=b"x"))
    assert len(setup.sent) == sent


def test_what_was_never_sent_may_be_sent(setup: Setup) -> None:
    inner = flaky(setup, 1, lambda: setup.library.ConnectError("refused"))
    response = setup.run(setup.transport(peer(), inner), lambda session: session.post("http://peer/", content=b"x"))
    assert response.content == b"well"


def test_a_body_that_can_be_read_once_is_sent_once(setup: Setup) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    content: Any = pieces() if setup.is_async else iter([b"x"])
    transport = setup.transport(peer(), flaky(setup, 1, lambda: setup.library.ReadError("broken")))
    with pytest.raises(setup.library.ReadError):
        setup.run(transport, lambda session: session.put("http://peer/", content=content))
    assert len(setup.sent) == 1


# ---- what bounds it


def test_the_time_limits_are_the_least_of_all(setup: Setup) -> None:
    integration = peer(timeouts={"connect": 1.0, "read": 2.0, "write": 3.0, "overall": 20.0})
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200)))
    setup.get(transport, timeout=None)
    assert setup.limits[0] == {"connect": 1.0, "read": 2.0, "write": 3.0, "pool": pytest.approx(15.0, abs=0.5)}
    setup.get(transport, timeout=setup.library.Timeout(0.5, read=10.0))
    assert setup.limits[1] == {"connect": 0.5, "read": 2.0, "write": 0.5, "pool": 0.5}
    with deadline(0.25):
        setup.get(transport, timeout=None)
    assert all(0.0 < limit <= 0.25 for limit in setup.limits[2].values())


def test_the_request_keeps_its_own_time_limits(setup: Setup) -> None:
    """A redirect is made of it."""
    integration = peer(timeouts={"read": 2.0})
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200)))
    setup.get(transport, timeout=9.0)
    assert setup.sent[0].extensions["timeout"]["read"] == 9.0


def test_a_body_that_comes_too_late_is_a_timeout(setup: Setup) -> None:
    with FakeClock() as clock:
        integration = peer(timeouts={"overall": 1.0})
        stream = setup.stream(*[b"a"] * 9, before=lambda: clock.advance(0.3))
        transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200, stream=stream)))
        with pytest.raises(IntegrationTimeoutError) as caught:
            setup.get(transport)
        assert isinstance(caught.value, setup.library.ReadTimeout)  # who catches the client's own sees it too
        assert caught.value.request.url == "http://peer/"
        assert counts(integration)["timeouts"] == 1
        assert counts(integration)["failures"] == 1
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is IntegrationTimeoutError
        assert str(again) == str(caught.value)


def test_a_feed_goes_on_past_the_deadline(setup: Setup) -> None:
    with FakeClock() as clock:
        integration = peer(timeouts={"overall": 1.0})
        stream = setup.stream(*[b"data: x\n\n"] * 9, before=lambda: clock.advance(0.3))
        kind = {"Content-Type": "text/event-stream; charset=utf-8"}
        inner = setup.mock(lambda _: setup.library.Response(200, headers=kind, stream=stream))
        assert len(setup.get(setup.transport(integration, inner)).content) == 81
        assert counts(integration) == {
            "calls": 1, "failures": 0, "ignored": 0, "retries": 0, "timeouts": 0, "rejected": 0
        }  # fmt: skip
        with pytest.raises(IntegrationTimeoutError), deadline(1.0):  # but not past what somebody around it wants
            setup.get(setup.transport(integration, inner))


def test_the_server_is_told_how_long_we_wait(setup: Setup) -> None:
    integration = peer(timeouts={"overall": 2.0})
    inner = setup.mock(lambda _: setup.library.Response(200))
    setup.get(setup.transport(integration, inner))
    assert "x-envoy-expected-rq-timeout-ms" not in setup.sent[0].headers
    setup.get(setup.transport(integration, inner, send_deadline=True))
    assert 1000 < int(setup.sent[1].headers["x-envoy-expected-rq-timeout-ms"]) <= 2000
    setup.get(setup.transport(integration, inner, send_deadline="x-time-left"))
    assert 1000 < int(setup.sent[2].headers["x-time-left"]) <= 2000


def test_a_passed_deadline_sends_nothing(setup: Setup) -> None:
    transport = setup.transport(peer(), setup.mock(lambda _: setup.library.Response(200)))
    with deadline(0.0), pytest.raises(IntegrationTimeoutError):
        setup.get(transport)
    assert not setup.sent


def test_cancellation_passes_and_counts_as_ignored(origin: Origin) -> None:
    httpx = pytest.importorskip("httpx")
    integration = peer()

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncFailsoftTransport(integration)) as session:
            task = asyncio.create_task(session.get(f"{origin.url}/hang"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert counts(integration)["ignored"] == 1


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_who_is_cancelled_between_two_attempts_leaves_no_response_open(library: str) -> None:
    setup = Setup(f"{library} async")
    integration = peer(retry_policy={"initial_delay": 9.0, "max_delay": 9.0, "jitter": False})
    stream = setup.stream(b"no")
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(503, stream=stream)))

    async def main() -> None:
        async with setup.library.AsyncClient(transport=transport) as session:
            task = asyncio.create_task(session.get("http://peer/"))
            while not setup.sent:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert stream.closed


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_switched_connection_is_no_body_to_wait_for(library: str) -> None:
    """A WebSocket lives as long as it likes; its request has been answered."""
    module: Any = pytest.importorskip(library)
    integration = peer(bulkhead={"max_concurrent": 1})

    class Socket(Bytes, module.SyncByteStream):  # type: ignore[misc, name-defined]
        pass

    inner = module.MockTransport(lambda _: module.Response(101, stream=Socket([b"never read"])))
    with module.Client(transport=FailsoftTransport(integration, inner)) as session:
        with session.stream("GET", "http://peer.example/"):
            assert counts(integration)["calls"] == 1
            assert integration.load().in_flight == 0
    assert counts(integration)["ignored"] == 0


def test_a_stream_is_closed_where_its_generator_cannot_be() -> None:
    httpx = pytest.importorskip("httpx")
    bound = peer(bulkhead={"max_concurrent": 1})

    class Stubborn(Bytes, httpx.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                yield b"x"
            finally:
                raise RuntimeError("it does not end well")

    stream = Stubborn([])
    inner = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncFailsoftTransport(bound, inner)) as session:
            with pytest.raises(RuntimeError, match="it does not end well"):
                async with session.stream("GET", "http://peer.example/") as response:
                    await anext(response.aiter_raw())

    asyncio.run(main())
    assert stream.closed
    assert bound.load().in_flight == 0


def test_another_task_may_close_what_one_reads() -> None:
    """Its generator waits and cannot be closed, but ends with its stream."""
    library: Any = import_module("httpx")
    api = peer()

    class Open(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self) -> None:
            self.shut = asyncio.Event()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            await self.shut.wait()
            raise library.ReadError("closed")

        async def aclose(self) -> None:
            self.shut.set()

    async def main() -> None:
        transport = AsyncFailsoftTransport(api, library.MockTransport(lambda _: library.Response(200, stream=Open())))
        async with library.AsyncClient(transport=transport) as session:
            response = await session.send(session.build_request("GET", "http://peer/"), stream=True)

            async def read() -> None:
                async for _ in response.aiter_raw():
                    pass

            reading = asyncio.create_task(read())
            for _ in range(5):
                await asyncio.sleep(0)
            await response.aclose()
            with pytest.raises(library.ReadError):
                await reading

    asyncio.run(asyncio.wait_for(main(), 5.0))
    assert counts(api)["ignored"] == 1
    assert counts(api)["failures"] == 0


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("closing", [1, 5])
def test_a_body_closed_by_another_task_is_not_taken_for_whole(library: str, closing: int) -> None:
    """However far the closing has come when its reader asks for more."""
    module: Any = import_module(library)
    api = peer()

    class Slow(module.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def main() -> None:
        transport = AsyncFailsoftTransport(api, module.MockTransport(lambda _: module.Response(200, stream=Slow())))
        async with module.AsyncClient(transport=transport) as session:
            response = await session.send(session.build_request("GET", "http://peer/"), stream=True)
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"a"
            other = asyncio.create_task(response.aclose())
            for _ in range(closing):
                await asyncio.sleep(0)
            with pytest.raises(module.ReadError):
                await anext(pieces)
            await other

    asyncio.run(asyncio.wait_for(main(), 5.0))
    assert (counts(api)["calls"], counts(api)["ignored"]) == (0, 1)


def test_who_reads_while_another_thread_closes_has_met_no_failure() -> None:
    library: Any = import_module("httpx")
    api = peer()
    pieces: Any = None

    class Torn(library.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise library.ReadError("closed")

        def close(self) -> None:  # the other thread is told before this one has done
            with contextlib.suppress(library.ReadError):
                next(pieces)

    transport = FailsoftTransport(api, library.MockTransport(lambda _: library.Response(200, stream=Torn())))
    with library.Client(transport=transport) as session:
        response = session.send(session.build_request("GET", "http://peer/"), stream=True)
        pieces = response.iter_raw()
        next(pieces)
        response.close()
    assert (counts(api)["failures"], counts(api)["ignored"]) == (0, 1)


def test_a_hidden_hang_is_seen_by_the_breaker(origin: Origin) -> None:
    """The caller's own short timeout cancels us; after long enough that counts."""
    httpx = pytest.importorskip("httpx")
    integration = peer(circuit_breaker={"cancel_counts_after": 0.05})

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncFailsoftTransport(integration)) as session:
            await session.get(f"{origin.url}/ok")  # which makes the inner transport: that takes longer
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await session.get(f"{origin.url}/hang")

    asyncio.run(main())
    assert counts(integration)["failures"] == 1


# Who leaves a body before its end leaves generators of httpx's own to the collector, which trio minds.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_without_asyncio_the_limits_are_those_of_sync_code(origin: Origin, library: str) -> None:
    trio, module = pytest.importorskip("trio"), pytest.importorskip(library)
    integration = peer(timeouts={"overall": 0.2}, retry_policy={"max_retries": 0})

    async def main() -> None:
        async with module.AsyncClient(transport=AsyncFailsoftTransport(integration)) as session:
            assert (await session.get(f"{origin.url}/ok")).json() == {"ok": True}
            with pytest.raises(module.ReadTimeout):
                await session.get(f"{origin.url}/hang")
            with pytest.raises(IntegrationTimeoutError):
                await session.get(f"{origin.url}/drip")

    trio.run(main)
    assert counts(integration)["failures"] == 2


# ---- hosts


def test_each_host_may_have_a_shard(setup: Setup) -> None:
    integration = peer(circuit_breaker={"failure_threshold": 1}, retry_policy={"max_retries": 0})
    inner = setup.mock(lambda request: setup.library.Response(503 if request.url.host == "bad" else 200))
    transport = setup.transport(integration, inner, per_host=True)
    setup.get(transport, "http://bad:81/")
    setup.get(transport, "http://good/")
    states = {key: shard.breaker.state for key, shard in integration.shards.items()}
    assert states == {"bad:81": CircuitState.OPEN, "good": CircuitState.CLOSED}
    with pytest.raises(CircuitOpenError):
        setup.get(transport, "http://bad:81/")
    assert integration.metrics("GET").count == 2


def test_hosts_are_bounded_and_the_used_are_kept(setup: Setup) -> None:
    integration = peer()
    inner = setup.mock(lambda _: setup.library.Response(200))
    transport = setup.transport(integration, inner, per_host=True, max_hosts=2)

    def ask(session: Any) -> Any:
        async def awaited() -> None:
            for at in range(100):
                await session.get("http://kept/")
                await session.get(f"http://host{at}/")

        if setup.is_async:
            return awaited()
        for at in range(100):
            session.get("http://kept/")
            session.get(f"http://host{at}/")
        return None

    setup.run(transport, ask)
    gc.collect()
    assert "kept" in integration.shards
    assert integration.shards["kept"].metrics("GET").count == 100
    assert len(integration.shards) <= 8


def test_a_function_may_choose_the_integration(setup: Setup) -> None:
    registry = Registry()
    asked: list[str] = []

    def choose(host: str) -> Integration:
        asked.append(host)
        return registry.integration(host, "external_api")

    transport = setup.transport(choose, setup.mock(lambda _: setup.library.Response(200)))
    for host in ("a", "b", "a"):
        setup.get(transport, f"http://{host}/")
    assert asked == ["a", "b"]
    assert registry["a"].metrics("GET").count == 2


def test_methods_are_operations_unless_named(setup: Setup) -> None:
    integration = peer()
    inner = setup.mock(lambda _: setup.library.Response(200))
    setup.get(setup.transport(integration, inner))
    setup.get(setup.transport(integration, inner, operation="robots"))
    assert integration.operations == ("GET", "robots")


# ---- the rest


def test_what_it_is_told_is_checked() -> None:
    with pytest.raises(TypeError, match="integration must be"):
        FailsoftTransport(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="per_host"):
        FailsoftTransport(lambda host: peer(), per_host=True)
    with pytest.raises(TypeError, match="retry_methods"):
        FailsoftTransport(peer(), retry_methods="GET")
    with pytest.raises(ValueError, match="max_hosts"):
        FailsoftTransport(peer(), max_hosts=0)
    with pytest.raises(TypeError, match="must give an Integration"):
        FailsoftTransport(lambda host: None)._hosts.guard("peer", "GET", True)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_clients_in_one_go(origin: Origin, library: str) -> None:
    module, integration = pytest.importorskip(library), peer(timeouts={"connect": 1.0, "read": 2.0})
    with client(integration, module, http2=False, base_url=origin.url, verify=False) as session:
        assert session.timeout.read == 2.0
        assert session.get("/ok").json() == {"ok": True}
        assert session.get("/redirect", follow_redirects=True).json() == {"ok": True}
        assert session.get("/flaky/503/2/sync" + library).json() == {"ok": True}

    async def main() -> None:
        async with async_client(integration, module, base_url=origin.url, verify=False, operation="all") as session:
            assert (await session.get("/flaky/429/1/async" + library)).json() == {"ok": True}

    asyncio.run(main())
    assert integration.operations == ("GET", "all")


def test_many_at_once_leave_nothing_behind(setup: Setup, origin: Origin) -> None:
    integration = peer(bulkhead={"max_concurrent": 4, "max_wait": 5.0})
    transport = setup.transport(integration)

    def ask(session: Any) -> Any:
        if setup.is_async:

            async def awaited() -> Any:
                return await asyncio.gather(*[session.get(f"{origin.url}/ok") for _ in range(20)])

            return awaited()
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(session.get, [f"{origin.url}/ok"] * 20))

    began = time.monotonic()
    assert [response.status_code for response in setup.run(transport, ask)] == [200] * 20
    assert time.monotonic() - began < 10.0
    assert integration.load().in_flight == 0
    assert counts(integration)["calls"] == 20


# ---- chaos


def test_chaos_befalls_requests_as_it_does_calls(setup: Setup) -> None:
    integration = peer(retry_policy={"max_retries": 0})
    transport = setup.transport(integration, setup.mock(lambda _: setup.library.Response(200)))
    with chaos(integration, error=ConnectionResetError("chaos")) as plan, pytest.raises(ConnectionResetError):
        setup.get(transport)
    assert plan.injected == 1
    assert setup.sent == []
    assert counts(integration)["failures"] == 1
    with chaos(integration, latency=0.05):
        began = time.monotonic()
        assert setup.get(transport).status_code == 200
        assert time.monotonic() - began >= 0.05
    assert setup.get(transport).status_code == 200
    assert len(setup.sent) == 2
