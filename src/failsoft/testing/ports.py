"""A port that nobody listens on, and that no outgoing connection will be given."""

from __future__ import annotations

import contextlib
import random
import socket

HOST = "127.0.0.1"

PORTS = range(16_384, 32_768)
"""Below what kernels give to outgoing connections: a client that retries a dead port of that range may be given the
very port as its own, is then connected to itself, and holds the port against the server's return."""


class Unavailable(Exception):
    """What was asked for cannot be had here; says why."""


def free_port(host: str = HOST) -> int:
    """A port of `PORTS` that was free a moment ago. `Unavailable` where a hundred tries find none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise Unavailable(f"no free port was found from {PORTS.start} to {PORTS.stop - 1}")
