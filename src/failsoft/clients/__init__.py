"""What the errors of common clients mean, by the qualified names of classes, as `standard.py`.

A table is read with the first error of one of its packages, and no package is ever imported for it. Where the names say
less than the instance knows, a rule is a function of the error. tests/unit/test_clients.py holds the tables against the
real classes, tests/services and tests/adapters against real servers.
"""

from __future__ import annotations

from ..standard import peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..standard import Rule

_ROOMS = {
    "http": ("httpx", "httpx2", "aiohttp", "requests", "urllib3", "websockets"),
    "databases": ("psycopg", "psycopg_pool", "psycopg2", "asyncpg", "sqlalchemy", "redis", "valkey"),
    "services": ("openai", "anthropic", "grpc", "nats", "botocore"),
}

_ROOM_OF = {package: room for room, packages in _ROOMS.items() for package in packages}

_WRAPPERS = frozenset({"openai.APIConnectionError", "anthropic.APIConnectionError"})
"""Classes in which an SDK wraps whatever its transport has raised, ours included."""

_REFUSED_BEHIND = frozenset({"redis.exceptions.ConnectionError", "valkey.exceptions.ConnectionError"})
"""Classes for what happens while connecting and afterwards alike, raised while the socket's own error is handled."""

_NOTHING_SENT = frozenset({
    "httpx.ConnectError", "httpx.ConnectTimeout", "httpx.PoolTimeout",
    "httpx2.ConnectError", "httpx2.ConnectTimeout", "httpx2.PoolTimeout",
    "aiohttp.client_exceptions.ClientConnectorError", "aiohttp.client_exceptions.ConnectionTimeoutError",
    "requests.exceptions.ConnectTimeout",
    "urllib3.exceptions.ConnectTimeoutError", "urllib3.exceptions.EmptyPoolError",
    "botocore.exceptions.ConnectTimeoutError", "botocore.exceptions.EndpointConnectionError",
    "psycopg_pool.PoolTimeout", "psycopg_pool.TooManyRequests",
})  # fmt: skip
"""There was no connection that anything could have been sent on."""


def knows(package: str) -> bool:
    """Whether there is a table for a package."""
    return package in _ROOM_OF


def rules_of(package: str) -> Mapping[str, Rule]:
    """The table that a known package's classes are in, by their qualified names."""
    from importlib import import_module

    rules: Mapping[str, Rule] = import_module(f".{_ROOM_OF[package]}", __name__).RULES
    return rules


def wrapped(error: BaseException, names: list[str]) -> BaseException | None:
    """What an error with classes of these names stands for, where it only hands that on."""
    if not _WRAPPERS.isdisjoint(names):
        return error.__cause__
    if not _REFUSED_BEHIND.isdisjoint(names):
        return error.__context__ if isinstance(error.__context__, ConnectionRefusedError) else None
    first = error.args[0] if error.args else None
    if "requests.exceptions.ConnectionError" in names:
        return first if isinstance(first, Exception) else None
    if "urllib3.exceptions.MaxRetryError" in names:
        reason = peek(error, "reason")
        return reason if isinstance(reason, Exception) else None
    return None


def nothing_sent(names: list[str]) -> bool:
    """Whether an error with classes of these names says that there was no connection."""
    return not _NOTHING_SENT.isdisjoint(names)
