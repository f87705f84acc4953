"""A gRPC server for tests, by the method: it may be run as a process of its own.

    rpc_server.py PORT

No protocol buffers: requests and responses are bytes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "quotes.Feed"
LONG = b"x" * 20_000


class Feed:
    """What it was asked is in `asked`: request, seconds that were left for it, metadata."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, float | None, dict[str, str]]] = []
        self.closing = threading.Event()

    def _note(self, request: bytes, context: Any) -> None:
        self.asked.append((request, context.time_remaining(), dict(context.invocation_metadata())))

    def get(self, request: bytes, context: Any) -> bytes:
        self._note(request, context)
        if request == b"hang":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(20.0)
        if request == b"limit":
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "7000"),))
        if request == b"down" and len(self.asked) % 2 == 0:
            return b"up"
        refusals = {
            b"limit": grpc.StatusCode.RESOURCE_EXHAUSTED,
            b"down": grpc.StatusCode.UNAVAILABLE,
            b"nothing": grpc.StatusCode.NOT_FOUND,
        }
        if request in refusals:
            context.abort(refusals[request], "no")
        return LONG if request == b"long" else b"price of " + request

    def watch(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._note(request, context)
        for number in range(3):
            yield b"%d" % number
            if request == b"broken":
                context.abort(grpc.StatusCode.INTERNAL, "no")
            if request == b"slow":
                time.sleep(0.05)
                self.closing.wait(0.5)

    def send(self, requests: Iterable[bytes], context: Any) -> bytes:
        return b",".join(requests)

    def talk(self, requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        yield from requests


def served(feed: Feed, port: int = 0) -> tuple[Any, int]:
    """A running server, and its port."""
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(feed.get),
        "Watch": grpc.unary_stream_rpc_method_handler(feed.watch),
        "Send": grpc.stream_unary_rpc_method_handler(feed.send),
        "Talk": grpc.stream_stream_rpc_method_handler(feed.talk),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


if __name__ == "__main__":
    running, _ = served(Feed(), int(sys.argv[1]))
    running.wait_for_termination()
