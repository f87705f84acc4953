"""The rows of gRPC."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, ClassVar

from failsoft.testing.ports import HOST

from .behind import RpcBehind
from .matrix import Row

METHOD = "/quotes.Feed/Get"
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
ASKED = {"429 + Retry-After": b"limit", "503": b"down", "4xx": b"nothing", "in flight": b"hang"}
ONE_CODE = "gRPC gives one code, UNAVAILABLE, to all that may go well another time."


class Grpc(Row):
    name = "grpc"
    server = RpcBehind
    in_flight = "in flight"
    whole = True
    differs: ClassVar = dict.fromkeys(("503", "malformed", "TLS failure"), ("NETWORK", "failure", ONE_CODE))

    def prepare(self) -> None:
        import_module("grpc")

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        import grpc

        from failsoft.adapters.grpc import FailsoftInterceptor

        interceptor = FailsoftInterceptor(integration, retry_methods=[METHOD])
        with server.fault(situation), self.channel(grpc, server, situation) as bare:
            return grpc.intercept_channel(bare, interceptor).unary_unary(METHOD)(ASKED.get(situation, b"long"))

    def channel(self, api: Any, server: Any, situation: str, **options: Any) -> Any:
        import grpc

        target = f"{HOST}:{server.port_for(situation)}"
        if situation == "TLS failure":
            return api.secure_channel(target, grpc.ssl_channel_credentials(), OPTIONS, **options)
        return api.insecure_channel(target, OPTIONS, **options)


class AsyncGrpc(Grpc):
    name = "grpc async"
    deep = True  # most of it is as in the sync one; test_grpc.py has what is not

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        return asyncio.run(self._get(server, situation, integration))

    async def _get(self, server: Any, situation: str, integration: Any) -> object:
        import grpc.aio

        from failsoft.adapters.grpc import async_interceptors

        through = async_interceptors(integration, retry_methods=[METHOD])
        async with self.channel(grpc.aio, server, situation, interceptors=through) as channel:
            with server.fault(situation):
                return await channel.unary_unary(METHOD)(ASKED.get(situation, b"long"))


ROWS: list[Row] = [Grpc(), AsyncGrpc()]
