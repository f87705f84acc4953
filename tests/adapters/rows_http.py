"""The rows of HTTP clients and of what speaks through them."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from failsoft import IntegrationType

from .matrix import Row
from .origin import Origin

PATHS = {
    "well": "ok",
    "refused": "ok",
    "black hole": "hang",
    "reset mid-body": "reset",
    "drip": "drip",
    "truncated body": "truncated",
    "429 + Retry-After": "429",
    "503": "503",
    "4xx": "404",
    "malformed": "malformed",
    "TLS failure": "ok",
}

RUBBISH = "The client raises the same for a connection that breaks off and for an answer that it cannot parse."
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def url_of(server: Origin, situation: str) -> str:
    base = {"refused": server.closed_url, "TLS failure": server.tls_url}.get(situation, server.url)
    return f"{base}/{PATHS[situation]}"


@cache
def trust() -> ssl.SSLContext:
    """Made once: it takes long, and every client would make its own."""
    return ssl.create_default_context()


class _Http(Row):
    server = Origin
    library: ClassVar[str]

    def prepare(self) -> None:
        import_module(self.library)
        trust()


class Httpx(_Http):
    differs: ClassVar = {"malformed": ("NETWORK", "failure", RUBBISH)}

    def __init__(self, library: str) -> None:
        self.name = self.library = library  # type: ignore[misc]  # of the instance here

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.httpx import FailsoftTransport

        library = import_module(self.library)
        transport = FailsoftTransport(integration, library.HTTPTransport(verify=trust()))
        with library.Client(transport=transport, timeout=None) as client:
            return client.get(url_of(server, situation)).status_code


class AsyncHttpx(Httpx):
    def __init__(self, library: str) -> None:
        super().__init__(library)
        self.name = f"{library} async"  # type: ignore[misc]

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.httpx import AsyncFailsoftTransport

        library = import_module(self.library)

        async def get() -> object:
            transport = AsyncFailsoftTransport(integration, library.AsyncHTTPTransport(verify=trust()))
            async with library.AsyncClient(transport=transport, timeout=None) as client:
                return (await client.get(url_of(server, situation))).status_code

        return asyncio.run(get())


class Aiohttp(_Http):
    name = library = "aiohttp"
    repeats: ClassVar = {
        "server SIGKILL": "aiohttp sends an idempotent request again, once, where the server closes the connection without"
        " a word. Both count."
    }

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        import aiohttp

        from failsoft.adapters.aiohttp import FailsoftMiddleware, client_timeout

        async def get() -> object:
            async with aiohttp.ClientSession(
                middlewares=(FailsoftMiddleware(integration),), timeout=client_timeout(integration)
            ) as session:
                async with session.get(url_of(server, situation)) as response:
                    await response.read()
                    return response.status

        return asyncio.run(get())


class Requests(_Http):
    name = library = "requests"

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        import requests

        from failsoft.adapters.requests import FailsoftAdapter

        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, FailsoftAdapter(integration))
            return session.get(url_of(server, situation)).status_code


class Sdk(_Http):
    """An AI SDK; `ask` makes its call."""

    type = IntegrationType.AI_SERVICE
    differs: ClassVar = {"malformed": ("NETWORK", "failure", RUBBISH)}

    def __init__(self, library: str, *, is_async: bool) -> None:
        self.library = library  # type: ignore[misc]
        self.is_async = is_async
        self.name = f"{library} async" if is_async else library  # type: ignore[misc]

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        import httpx2

        from failsoft.adapters.ai import ai_client

        cls: Any = getattr(import_module(self.library), ("Async" if self.is_async else "") + NAMES[self.library])
        inner = (httpx2.AsyncHTTPTransport if self.is_async else httpx2.HTTPTransport)(verify=trust())
        client = ai_client(cls, integration, inner=inner, api_key="k", base_url=url_of(server, situation))
        if self.is_async:
            return asyncio.run(self._ask_async(client))
        with client:
            return self._ask(client)

    def _ask(self, client: Any) -> Any:
        if self.library == "openai":
            return client.chat.completions.create(**ASK)
        return client.messages.create(max_tokens=9, **ASK)

    async def _ask_async(self, client: Any) -> object:
        async with client:
            return await self._ask(client)


NAMES = {"openai": "OpenAI", "anthropic": "Anthropic"}

ROWS: list[Row] = [
    Httpx("httpx"),
    AsyncHttpx("httpx"),
    Httpx("httpx2"),
    AsyncHttpx("httpx2"),
    Aiohttp(),
    Requests(),
    Sdk("openai", is_async=False),
    Sdk("openai", is_async=True),
    Sdk("anthropic", is_async=False),
    Sdk("anthropic", is_async=True),
]
