"""aiohttp's middleware, requests' adapter and the clients of AI SDKs: where they differ from the transport of httpx."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from failsoft import (
    CircuitOpenError,
    ErrorCategory,
    Integration,
    IntegrationError,
    IntegrationTimeoutError,
    chaos,
    classify_error,
    deadline,
)
from failsoft.adapters.ai import ai_client

from .origin import Origin
from .test_httpx import counts, peer

# ---- aiohttp


def with_aiohttp(integration: Any, ask: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What `ask` gives for a session, and the middleware, which keeps shards alive."""
    aiohttp = pytest.importorskip("aiohttp")
    from failsoft.adapters.aiohttp import FailsoftMiddleware

    middleware = FailsoftMiddleware(integration, **options)

    async def main() -> Any:
        async with aiohttp.ClientSession(middlewares=(middleware,)) as session:
            return await ask(session), middleware

    return asyncio.run(main())


def test_aiohttp_reads_as_ever(origin: Origin) -> None:
    """Whatever way a body is read, the wrapper of its reader is not to be noticed."""
    integration = peer()

    async def ask(session: Any) -> None:
        async with session.get(f"{origin.url}/ok") as response:
            assert await response.json() == {"ok": True}
        ways: list[Callable[[Any], Any]] = [
            lambda content: content.iter_chunked(5),
            lambda content: content.iter_any(),
            lambda content: content,
        ]
        for way in ways:
            async with session.get(f"{origin.url}/feed/0.06") as response:
                text = b"".join([piece async for piece in way(response.content)])
                assert text.startswith(b"data: {")
                assert text.endswith(b"[DONE]\n\n")
                assert response.content.at_eof()
        async with session.get(f"{origin.url}/feed/0.06") as response:
            chunks = [chunk async for chunk, _ in response.content.iter_chunks()]
            assert b"".join(chunks) == text
        async with session.get(f"{origin.url}/feed/0.06") as response:
            assert await response.content.readline() + await response.content.readuntil(b"}") == text[: 1 + text.index(b"}", text.index(b"\n"))]  # fmt: skip
            assert await response.content.readexactly(3)

    with_aiohttp(integration, ask)
    assert counts(integration)["failures"] == 0
    assert counts(integration)["calls"] + counts(integration)["ignored"] == 6


def test_aiohttp_retries_by_policy_and_by_method(origin: Origin) -> None:
    integration = peer()

    async def ask(session: Any) -> list[int]:
        seen = []
        for method, path in (("GET", "/flaky/503/2/a"), ("POST", "/flaky/503/1/b"), ("PUT", "/flaky/429/1/c")):
            async with session.request(method, origin.url + path, data=b"x") as response:
                seen.append(response.status)
        return seen

    assert with_aiohttp(integration, ask)[0] == [200, 503, 200]
    assert counts(integration)["retries"] == 3
    assert integration.load_if_any() is None


def test_aiohttp_released_early_counts_as_ignored(origin: Origin) -> None:
    integration = peer(bulkhead={"max_concurrent": 1})

    async def ask(session: Any) -> None:
        async with session.get(f"{origin.url}/feed/1"):
            assert integration.load().in_flight == 1
        assert integration.load().in_flight == 0

    with_aiohttp(integration, ask)
    assert counts(integration)["ignored"] == 1


def test_aiohttp_refuses_and_keeps_deadlines(origin: Origin) -> None:
    integration = peer(timeouts={"overall": 2.0})

    async def ask(session: Any) -> None:
        async with session.get(f"{origin.url}/echo") as response:
            headers = (await response.json())["headers"]
            assert 1000 < int(headers["x-envoy-expected-rq-timeout-ms"]) <= 2000
        with deadline(0.2), pytest.raises(IntegrationTimeoutError):
            async with session.get(f"{origin.url}/drip") as response:
                await response.read()
        integration.force_open()
        with pytest.raises(CircuitOpenError):
            await session.get(f"{origin.url}/ok")

    with_aiohttp(integration, ask, send_deadline=True)
    assert counts(integration)["timeouts"] == 1


def test_aiohttp_by_host_and_through_a_redirect(origin: Origin) -> None:
    integration = peer()

    async def ask(session: Any) -> None:
        async with session.get(f"{origin.url}/redirect") as response:
            assert await response.json() == {"ok": True}

    _, _middleware = with_aiohttp(integration, ask, per_host=True)
    assert list(integration.shards) == [f"127.0.0.1:{origin.port}"]
    assert integration.metrics("GET").count == 2


# ---- requests


def with_requests(integration: Integration, **options: Any) -> Any:
    requests = pytest.importorskip("requests")
    from failsoft.adapters.requests import FailsoftAdapter

    session = requests.Session()
    session.mount("http://", FailsoftAdapter(integration, **options))
    return session


def test_requests_sends_again_for_a_body_that_broke(origin: Origin) -> None:
    integration = peer()
    with with_requests(integration) as session:
        assert session.get(f"{origin.url}/breaks/2/r").json() == {"ok": True}
        assert session.get(f"{origin.url}/flaky/503/2/r").json() == {"ok": True}
        assert session.post(f"{origin.url}/flaky/503/1/s").status_code == 503
        assert session.get(f"{origin.url}/redirect").json() == {"ok": True}
        assert session.get(f"{origin.url}/seen/ok").json() >= 1
    assert counts(integration)["retries"] == 4


def test_requests_keeps_its_connection(origin: Origin) -> None:
    with with_requests(peer(), pool_connections=1, pool_maxsize=1) as session:
        for _ in range(3):
            assert session.get(f"{origin.url}/ok").json() == {"ok": True}
        pools = session.adapters["http://"].poolmanager.pools
        assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118  # it is no mapping


def test_requests_decodes_as_ever() -> None:
    """A body of compressed pieces, some of which decode to nothing."""
    requests = pytest.importorskip("requests")
    import io

    from urllib3 import HTTPResponse

    from failsoft.adapters.requests import FailsoftAdapter

    text = b"hello " * 50_000
    packed = gzip.compress(text)

    class Adapter(FailsoftAdapter):
        def send_bare(self, request: Any, timeout: Any, options: Any) -> Any:
            raw = HTTPResponse(io.BytesIO(packed), {"Content-Encoding": "gzip"}, 200, preload_content=False)
            return self.build_response(request, raw)

    session = requests.Session()
    session.mount("http://", Adapter(peer()))
    assert session.get("http://peer/").content == text


def test_requests_streams_are_settled_by_their_head(origin: Origin) -> None:
    integration = peer()
    with with_requests(integration) as session:
        response = session.get(f"{origin.url}/feed/0.1", stream=True)
        assert counts(integration)["calls"] == 1
        assert b"".join(response.iter_content(None)).endswith(b"[DONE]\n\n")


def test_requests_limits_and_refusals(origin: Origin) -> None:
    requests = pytest.importorskip("requests")
    integration = peer(timeouts={"overall": 2.0}, retry_policy={"max_retries": 0})
    with with_requests(integration, send_deadline=True) as session:
        headers = session.get(f"{origin.url}/echo").json()["headers"]
        assert 1000 < int(headers["x-envoy-expected-rq-timeout-ms"]) <= 2000
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{origin.url}/hang", timeout=(1.0, 0.05))
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{origin.url}/hang", timeout=0.05)
        with deadline(0.1), pytest.raises(IntegrationTimeoutError):
            session.get(f"{origin.url}/drip")
        integration.force_open()
        with pytest.raises(CircuitOpenError):
            session.get(f"{origin.url}/ok")
    assert counts(integration)["timeouts"] == 3


# ---- AI SDKs


SDKS = ["openai", "anthropic"]


def sdk_client(sdk: str, integration: Integration, origin: Origin, path: str, *, is_async: bool = False) -> Any:
    module: Any = pytest.importorskip(sdk)
    name = {"openai": "OpenAI", "anthropic": "Anthropic"}[sdk]
    cls = getattr(module, f"Async{name}" if is_async else name)
    httpx2 = pytest.importorskip("httpx2")
    inner = (httpx2.AsyncHTTPTransport if is_async else httpx2.HTTPTransport)(verify=False)
    return ai_client(cls, integration, inner=inner, api_key="k", base_url=f"{origin.url}/{path}")


def ask(sdk: str, session: Any) -> Any:
    messages = [{"role": "user", "content": "hello"}]
    if sdk == "openai":
        return session.chat.completions.create(model="m", messages=messages)
    return session.messages.create(model="m", max_tokens=9, messages=messages)


def said(sdk: str, answer: Any) -> str:
    text: str = answer.choices[0].message.content if sdk == "openai" else answer.content[0].text
    return text


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_is_retried_by_us_alone(sdk: str, origin: Origin) -> None:
    integration = peer()
    with sdk_client(sdk, integration, origin, f"flaky/503/2/{sdk}") as session:
        assert said(sdk, ask(sdk, session)) == "hello"
    assert counts(integration)["calls"] == 3
    assert counts(integration)["retries"] == 2

    module: Any = pytest.importorskip(sdk)
    integration = peer(retry_policy={"max_retries": 0})
    with sdk_client(sdk, integration, origin, "503") as session, pytest.raises(module.InternalServerError):
        ask(sdk, session)
    assert counts(integration)["calls"] == 1


@pytest.mark.parametrize("sdk", SDKS)
def test_an_async_sdk(sdk: str, origin: Origin) -> None:
    integration = peer()

    async def main() -> None:
        async with sdk_client(sdk, integration, origin, f"flaky/429/1/{sdk}", is_async=True) as session:
            assert said(sdk, await ask(sdk, session)) == "hello"

    asyncio.run(main())
    assert counts(integration)["calls"] == 2
    assert counts(integration)["failures"] == 0


@pytest.mark.parametrize("sdk", SDKS)
def test_an_open_circuit_shows_through_an_sdk(sdk: str, origin: Origin) -> None:
    """anthropic wraps it, openai does not."""
    module: Any = pytest.importorskip(sdk)
    integration = peer()
    integration.force_open()
    expected = (CircuitOpenError, module.APIConnectionError)
    with sdk_client(sdk, integration, origin, "ok") as session, pytest.raises(expected) as caught:
        ask(sdk, session)
    assert isinstance(caught.value, CircuitOpenError) or isinstance(caught.value.__cause__, CircuitOpenError)
    assert classify_error(caught.value) is ErrorCategory.UNKNOWN


def test_a_streamed_answer_of_an_sdk(origin: Origin) -> None:
    integration = peer(timeouts={"overall": 0.2})
    with sdk_client("openai", integration, origin, "feed/0.4") as session:
        stream = session.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        pieces = [piece.choices[0].delta.content for piece in stream]
    assert pieces == ["hello"] * 20  # longer than the deadline: it is a feed
    assert counts(integration)["calls"] == 1
    assert counts(integration)["failures"] == 0


def test_what_ai_client_gives_itself_is_not_given_to_it() -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(TypeError, match="max_retries"):
        ai_client(openai.OpenAI, peer(), api_key="k", max_retries=5)
    with pytest.raises(TypeError, match="must be a client"):
        ai_client(dict, peer())


def test_ai_client_makes_clients_of_classes_of_the_users_own() -> None:
    openai = pytest.importorskip("openai")
    for base in (openai.OpenAI, openai.AsyncOpenAI):
        own = type("Own", (base,), {"__module__": __name__})
        assert type(ai_client(own, peer(), api_key="k")) is own


# ---- chaos


def test_chaos_befalls_aiohttp_and_requests_too() -> None:
    integration = peer(circuit_breaker={"failure_threshold": 10})

    async def ask(session: Any) -> None:
        with pytest.raises(IntegrationError, match="chaos: SERVER_ERROR"):
            await session.get("http://127.0.0.1:1/")

    with chaos(integration, error="SERVER_ERROR") as plan:
        with_aiohttp(integration, ask)
        with with_requests(integration) as session, pytest.raises(IntegrationError, match="chaos: SERVER_ERROR"):
            session.get("http://127.0.0.1:1/")
    assert plan.injected == 6


# ---- hosts


def test_a_host_is_the_same_with_and_without_its_schemes_port() -> None:
    """The breaker of one host must not be two."""
    seen: list[str] = []
    closed = peer()
    closed.force_open()

    def by_host(host: str) -> Integration:
        seen.append(host)
        return closed

    with with_requests(by_host) as session:  # type: ignore[arg-type]
        for port in ("", ":80", ":8080"):
            with pytest.raises(CircuitOpenError):
                session.get(f"http://quotes.example{port}/")
    assert list(dict.fromkeys(seen)) == ["quotes.example", "quotes.example:8080"]
    seen.clear()

    async def ask(session: Any) -> None:
        for port in ("", ":443", ":80"):
            with pytest.raises(CircuitOpenError):
                await session.get(f"https://quotes.example{port}/")

    with_aiohttp(by_host, ask)
    assert list(dict.fromkeys(seen)) == ["quotes.example", "quotes.example:80"]


# ---- imports


def test_nothing_is_imported_with_failsoft() -> None:
    program = """
        import sys
        import failsoft
        assert not [name for name in sys.modules if name.startswith(("failsoft.adapters", "failsoft.clients."))]
        import failsoft.adapters.httpx, failsoft.adapters.ai
        assert not {"httpx", "httpx2", "openai", "aiohttp", "asyncio"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)


@pytest.mark.parametrize("library", ["aiohttp", "requests"])
def test_a_missing_library_is_named_with_the_extra(library: str) -> None:
    program = f"""
        import sys
        sys.modules["{library}"] = None
        try:
            import failsoft.adapters.{library}
        except ImportError as error:
            assert "pip install 'failsoft[http]'" in str(error), error
        else:
            raise AssertionError
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)


# ---- all of them


@pytest.mark.parametrize(
    "adapter",
    [
        "httpx.FailsoftTransport",
        "httpx.AsyncFailsoftTransport",
        "aiohttp.FailsoftMiddleware",
        "requests.FailsoftAdapter",
    ],
)
def test_what_an_adapter_takes_can_be_looked_up(adapter: str) -> None:
    """By `help()` and editors; each has all options, with the same defaults."""
    from failsoft.adapters.hosts import OPTIONS, Hosts

    room, _, name = adapter.partition(".")
    pytest.importorskip(room)
    takes = inspect.signature(getattr(importlib.import_module(f"failsoft.adapters.{room}"), name)).parameters
    meant = inspect.signature(Hosts).parameters
    assert set(OPTIONS) == set(meant) - {"integration"}
    assert {option: takes[option] for option in OPTIONS} == {option: meant[option] for option in OPTIONS}
