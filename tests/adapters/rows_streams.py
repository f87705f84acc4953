"""The rows of feeds. What is counted of a feed is its connection, until its first item has come."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from importlib import import_module
from typing import Any, ClassVar

from failsoft import IntegrationType, deadline
from failsoft.testing.ports import HOST

from .behind import NatsBehind, QuotesBehind
from .matrix import Row

LATER = "The protocol has no way to say when to come back; that it has no room for more is the 503 here."
QUIET = "quiet"


class _Feed(Row):
    type = IntegrationType.MARKET_DATA
    in_flight = QUIET
    whole = True
    note = (
        "A feed that gives nothing for `stale_after` seconds is given up and connected anew. *At a deadline* is what a"
        " `deadline()` around its reader makes of it."
    )

    def prepare(self) -> None:
        import_module(self.name)

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        return asyncio.run(self.first(server, situation, integration))

    async def first(self, server: Any, situation: str, integration: Any) -> object:
        """The first item of a feed, which has one connection for each attempt that the policy allows."""
        limits, retries = integration.config.timeouts, integration.config.retry_policy.max_retries
        if situation == "well":  # it is frozen when the connection is there
            server.thaw()
        options = {"stale_after": limits.read, "max_reconnects": retries, "close_timeout": 0.1}
        with contextlib.ExitStack() as faults:
            async with deadline(limits.overall), self.feed(server, situation, integration, faults, options) as feed:
                return await self.item(server, situation, feed, faults)

    def feed(self, server: Any, situation: str, integration: Any, faults: contextlib.ExitStack, options: Any) -> Any:
        raise NotImplementedError

    async def item(self, server: Any, situation: str, feed: Any, faults: contextlib.ExitStack) -> object:
        return await anext(feed)

    def begin(self, server: Any, situation: str, faults: contextlib.ExitStack) -> None:
        """There is a connection: what is meant to happen to it does."""
        faults.enter_context(server.fault(situation))
        if situation == "well":
            server.freeze()


class Websockets(_Feed):
    name = "websockets"
    server = QuotesBehind

    def feed(self, server: Any, situation: str, integration: Any, faults: contextlib.ExitStack, options: Any) -> Any:
        from failsoft.adapters.websockets import stream

        def subscribe() -> list[str]:
            self.begin(server, situation, faults)
            return [] if situation == QUIET else ["quote"]

        path = {"429 + Retry-After": "429", "503": "503", "4xx": "404"}.get(situation, "")
        scheme = "wss" if situation == "TLS failure" else "ws"
        url = f"{scheme}://{HOST}:{server.port_for(situation)}/{path}"
        return stream(integration, url, subscribe=subscribe, **options)


class Nats(_Feed):
    name = "nats"
    server = NatsBehind
    impossible: ClassVar = {"429 + Retry-After": LATER}

    def feed(self, server: Any, situation: str, integration: Any, faults: contextlib.ExitStack, options: Any) -> Any:
        from failsoft.adapters.nats import stream

        port = server.port_for(situation)
        subjects = {"4xx": [server.FORBIDDEN], "503": ["quotes", "more"]}.get(situation, ["quotes"])
        secure = (
            {"tls": ssl.create_default_context(), "tls_handshake_first": True} if situation == "TLS failure" else {}
        )
        scheme = "tls" if secure else "nats"
        return stream(integration, f"{scheme}://{HOST}:{port}", subjects, connect_options=secure, **options)

    async def item(self, server: Any, situation: str, feed: Any, faults: contextlib.ExitStack) -> object:
        item = asyncio.ensure_future(anext(feed))
        try:
            while not feed.status().connections and not item.done():
                await asyncio.sleep(0.001)
            if not item.done():
                self.begin(server, situation, faults)
                if situation not in (QUIET, "well"):
                    await self._publish(server)
            return await item
        finally:
            item.cancel()
            await asyncio.wait([item])

    async def _publish(self, server: Any) -> None:
        import nats

        publisher = await nats.connect(server.url, allow_reconnect=False)
        await publisher.publish("quotes", b"x" * 20_000)
        await publisher.close()


ROWS: list[Row] = [Websockets(), Nats()]
