"""What the errors of common clients mean: psycopg, asyncpg, redis and valkey, websockets and nats.

By the qualified names of classes, as `standard.py`. PostgreSQL's drivers carry the server's SQLSTATE, whose first two
characters are a class (PostgreSQL manual, appendix A); an error without one was raised before the server said anything.
tests/services/test_client_errors.py holds the table against real servers.
"""

from __future__ import annotations

from .config import ErrorCategory
from .standard import peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .standard import Rule

_SQLSTATES = {
    "57014": ErrorCategory.TIMEOUT,  # query_canceled: statement_timeout
    "55P03": ErrorCategory.TIMEOUT,  # lock_not_available: lock_timeout, NOWAIT
    "25006": ErrorCategory.SERVER_ERROR,  # read_only_sql_transaction: the primary has become a standby
    "08": ErrorCategory.NETWORK,  # connection exception
    "40": ErrorCategory.SERVER_ERROR,  # transaction rollback: serialization failure, deadlock
    "53": ErrorCategory.SERVER_ERROR,  # insufficient resources: too many connections, disk full
    "57": ErrorCategory.SERVER_ERROR,  # operator intervention: shutting down, starting up
    "58": ErrorCategory.SERVER_ERROR,  # system error
    "XX": ErrorCategory.SERVER_ERROR,  # internal error
    **dict.fromkeys(("0A", "22", "23", "26", "28", "3D", "3F", "42", "44"), ErrorCategory.CLIENT_ERROR),
}


def _of_postgres(error: object) -> ErrorCategory | None:
    state = peek(error, "sqlstate") or peek(error, "pgcode")  # psycopg 2 has the latter
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) if isinstance(state, str) else None


def _of_postgres_connection(error: object) -> ErrorCategory | None:
    """Without a SQLSTATE the connection has been lost, or was never made."""
    return _of_postgres(error) or ErrorCategory.NETWORK


def _redis(module: str) -> dict[str, Rule]:
    return {
        f"{module}.exceptions.TimeoutError": ErrorCategory.TIMEOUT,
        f"{module}.exceptions.ConnectionError": ErrorCategory.NETWORK,
        # The server answered that it cannot now.
        f"{module}.exceptions.BusyLoadingError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.ClusterDownError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.MasterDownError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.OutOfMemoryError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.ReadOnlyError": ErrorCategory.SERVER_ERROR,  # a replica since the failover
        f"{module}.exceptions.TryAgainError": ErrorCategory.SERVER_ERROR,
        # It answered, and the command is to blame.
        f"{module}.exceptions.AuthenticationError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.ResponseError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.DataError": ErrorCategory.VALIDATION,
    }


_CLOSE_CODES = {
    1007: ErrorCategory.VALIDATION,  # what we sent was not UTF-8
    1008: ErrorCategory.CLIENT_ERROR,  # policy violation: not allowed, mostly
    1011: ErrorCategory.SERVER_ERROR,
    1012: ErrorCategory.SERVER_ERROR,  # it restarts
    1013: ErrorCategory.SERVER_ERROR,  # it is too busy
}
"""RFC 6455, 7.4.1, and the IANA registry of close codes, as the peer gave them."""


def _of_websocket(error: object) -> ErrorCategory:
    """By the code that the peer closed with; without one the connection has broken off."""
    code = peek(peek(error, "rcvd"), "code")
    return _CLOSE_CODES.get(code, ErrorCategory.NETWORK) if isinstance(code, int) else ErrorCategory.NETWORK


def _nats(category: ErrorCategory, *names: str) -> dict[str, Rule]:
    return dict.fromkeys((f"nats.errors.{name}" for name in names), category)


RULES: dict[str, Rule] = {
    "psycopg.Error": _of_postgres,
    "psycopg.OperationalError": _of_postgres_connection,
    "psycopg.errors.ConnectionTimeout": ErrorCategory.TIMEOUT,
    "psycopg_pool.PoolTimeout": ErrorCategory.TIMEOUT,
    "psycopg2.Error": _of_postgres,
    "psycopg2.OperationalError": _of_postgres_connection,
    "asyncpg.exceptions._base.PostgresError": _of_postgres,
    "websockets.exceptions.ConnectionClosed": _of_websocket,
    "websockets.exceptions.InvalidMessage": ErrorCategory.NETWORK,  # broken off in the handshake
    **_nats(ErrorCategory.TIMEOUT, "TimeoutError"),
    **_nats(
        ErrorCategory.NETWORK,
        "NoServersError",
        "ConnectionClosedError",
        "ConnectionReconnectingError",
        "StaleConnectionError",
        "UnexpectedEOF",
        "OutboundBufferLimitError",
    ),
    **_nats(ErrorCategory.SERVER_ERROR, "NoRespondersError"),
    **_nats(ErrorCategory.CLIENT_ERROR, "AuthorizationError"),
    **_redis("redis"),
    **_redis("valkey"),
}
