"""The misbehaving HTTP server as a process that can be frozen, killed and brought back."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from failsoft.testing.ports import free_port
from tests.services.servers import HOST, Server, Unavailable

__all__ = ["Origin", "Unavailable"]


class Origin(Server):
    """See origin_server.py for what its paths do."""

    def __init__(self) -> None:
        super().__init__()
        self.tls_port = free_port()
        self.closed_port = free_port()  # where nobody listens

    def _prepare(self) -> None:
        import trustme

        trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(self.home / "server.pem"))
        self._script = Path(__file__).with_name("origin_server.py")

    def _command(self) -> list[str]:
        return [sys.executable, str(self._script), str(self.port), str(self.tls_port), str(self.home)]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def tls_url(self) -> str:
        """Its certificate is trusted by nobody."""
        return f"https://{HOST}:{self.tls_port}"

    @property
    def closed_url(self) -> str:
        return f"http://{HOST}:{self.closed_port}"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
        return False
