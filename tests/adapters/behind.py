"""Servers behind a proxy that makes their network fail, and a listener that answers in another language."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar, Self

from failsoft.testing import FaultProxy
from failsoft.testing.ports import HOST, free_port
from failsoft.testing.servers import Nats, Postgres, Server, Valkey

__all__ = ["NatsBehind", "PostgresBehind", "QuotesBehind", "RpcBehind", "ValkeyBehind"]

FAULTS: dict[str, dict[str, Any]] = {
    "black hole": {"black_hole": True},
    "reset mid-body": {"reset_after": 4000},
    "drip": {"slice": 1, "slice_delay": 0.02},
    "truncated body": {"truncate_after": 4000},
}
"""What the proxy does in a situation. The answers asked for are longer than that."""


class Behind(Server):
    """A server, a proxy before it, and two listeners: one that answers rubbish, one whose certificate nobody trusts."""

    greeting = b""
    """What is said before a handshake of TLS."""
    rubbish: ClassVar[bytes]
    """An answer that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_port = free_port()  # where nobody listens
        self.proxy = FaultProxy((HOST, self.port))
        self.authority = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.enter_context(self.proxy)
        self.rubbish_port = self._stack.enter_context(_listening(self._answer_rubbish))
        self.tls_port = self._stack.enter_context(_listening(self._tls()))
        self._fill()
        return self

    def close(self) -> None:
        self._stack.close()
        super().close()

    def revive(self) -> None:
        super().revive()
        self.proxy.set(black_hole=False, reset_after=None, truncate_after=None, slice=None)
        self._fill()

    def port_for(self, situation: str) -> int:
        """Where to connect to for a situation."""
        ports = {"refused": self.closed_port, "malformed": self.rubbish_port, "TLS failure": self.tls_port}
        return self.proxy.port if situation in FAULTS else ports.get(situation, self.port)

    def fault(self, situation: str) -> Any:
        """A context in which the network fails as the situation asks."""
        return self.proxy.fault(**FAULTS[situation]) if situation in FAULTS else contextlib.nullcontext()

    def _fill(self) -> None:
        """Put there what is asked for, with other means than those that are tested."""

    def _answer_rubbish(self, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(self.rubbish)
        while connection.recv(4096):
            pass

    def _tls(self) -> Any:
        import ssl

        import trustme

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert(HOST).configure_cert(context)
        self.authority = str(self.home / "another.pem")
        trustme.CA().cert_pem.write_to_path(self.authority)

        def answer(connection: socket.socket) -> None:
            if self.greeting:
                connection.recv(8)
                connection.sendall(self.greeting)
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        return answer


class ValkeyBehind(Behind, Valkey):
    rubbish = b"I am a teapot\r\n"

    def _fill(self) -> None:
        value = b"x" * 20_000
        words = [b"CONFIG SET maxmemory 0\r\n", b"SET long %s\r\n" % value, b"SET short 1\r\n", b"DEL list\r\n", b"LPUSH list 1\r\n"]  # fmt: skip
        with socket.create_connection((HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"".join(words))
            said = b""
            while said.count(b"\r\n") < len(words):
                said += connection.recv(4096)


class PostgresBehind(Behind, Postgres):
    greeting = b"S"
    rubbish = b"R\0\0\0\x08\0\0\0\x63"  # a way to authenticate that nobody knows

    def url_for(self, situation: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://{self.USER}@{HOST}:{self.port_for(situation)}/postgres"


class NatsBehind(Behind, Nats):
    """One that takes one subscription of a client, and forbids a subject."""

    FORBIDDEN = "secret"
    rubbish = b"I am a teapot\r\n"

    def _prepare(self) -> None:
        super()._prepare()
        (self.home / "settings").write_text(
            f"max_subscriptions: 1\nno_auth_user: anybody\n"
            f'authorization {{ users = [{{ user: anybody, password: x, permissions: {{ subscribe: {{ deny: "{self.FORBIDDEN}" }} }} }}] }}\n'
        )

    def _command(self) -> list[str]:
        return [*super()._command(), "--config", str(self.home / "settings")]

    def _answer_rubbish(self, connection: socket.socket) -> None:
        connection.sendall(self.rubbish)  # it is the server that begins
        connection.recv(1)


class QuotesBehind(Behind):
    """A websockets server: see quotes_server.py."""

    rubbish = b"\xff\xff\xff\xff"  # a frame with an opcode that is none

    def _command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("quotes_server.py")), str(self.port)]

    def _answer_rubbish(self, connection: socket.socket) -> None:
        """Switch protocols as asked, and then speak none."""
        import base64
        import hashlib

        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += connection.recv(4096)
        key = next(line.partition(b": ")[2] for line in said.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        connection.sendall(head + accept + b"\r\n\r\n" + self.rubbish)
        connection.recv(1)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"GET /404 HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 ")
        return False


class RpcBehind(Behind):
    """A gRPC server: see rpc_server.py."""

    rubbish = b"HTTP/1.1 400 Bad Request\r\n\r\n"

    def _command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("rpc_server.py")), str(self.port)]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return bool(connection.recv(4096))
        return False


@contextlib.contextmanager
def _listening(answer: Any) -> Any:
    """A port of loopback each of whose connections is given to `answer`, in a thread."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(5.0)
                    threading.Thread(target=_served, args=(answer, connection), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5.0)


def _served(answer: Any, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        answer(connection)
