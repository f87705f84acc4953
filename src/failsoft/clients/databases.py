"""What the errors of database clients mean: psycopg, asyncpg, SQLAlchemy, redis and valkey.

PostgreSQL's drivers carry the server's SQLSTATE, whose first two
characters are a class (PostgreSQL manual, appendix A); an error without one was raised before the server said anything.
tests/services/test_client_errors.py holds the table against real servers.
"""

from __future__ import annotations

from ..config import ErrorCategory
from ..standard import peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..standard import Rule

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
    "25P04": ErrorCategory.TIMEOUT,  # transaction_timeout
    "F0": ErrorCategory.SERVER_ERROR,  # its configuration
    "HV": ErrorCategory.SERVER_ERROR,  # of what is behind it: foreign data
    # What was asked for: the statement, its data, rights, order or size, or an exception raised by a function (P0, 38).
    **dict.fromkeys(
        (
            "0A", "10", "20", "21", "22", "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B",
            "3D", "3F", "42", "44", "54", "55", "P0",
        ),
        ErrorCategory.CLIENT_ERROR,
    ),
}  # fmt: skip


def _of_postgres(error: object) -> ErrorCategory | None:
    state = peek(error, "sqlstate") or peek(error, "pgcode")  # psycopg 2 has the latter
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) if isinstance(state, str) else None


def _of_postgres_connection(error: object) -> ErrorCategory | None:
    """Without a SQLSTATE the connection has been lost, or was never made."""
    return _of_postgres(error) or ErrorCategory.NETWORK


def _postgres_or(category: ErrorCategory) -> Rule:
    """By the SQLSTATE; without one, what the class means."""
    return lambda error: _of_postgres(error) or category


def _sqlalchemy_or(category: ErrorCategory) -> Rule:
    """By the state of the connection, then by the driver's own error, then by the class."""

    def rule(error: object) -> ErrorCategory:
        if peek(error, "connection_invalidated") is True:
            return ErrorCategory.NETWORK
        driver = peek(error, "orig")
        return (_of_driver(driver) if isinstance(driver, BaseException) else None) or category

    return rule


def _of_driver(error: BaseException) -> ErrorCategory | None:
    """An async driver's error comes wrapped once more."""
    from ..classify import classify_error

    if (known := _of_postgres(error)) is not None:
        return known
    for each in (error, error.__cause__):
        if each is not None and (category := classify_error(each)) is not ErrorCategory.UNKNOWN:
            return category
    return None


def _sqlalchemy() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "TimeoutError": ErrorCategory.TIMEOUT,  # no connection of the pool was free
        "DisconnectionError": ErrorCategory.NETWORK,
        "InterfaceError": _sqlalchemy_or(ErrorCategory.NETWORK),
        "DBAPIError": _sqlalchemy_or(ErrorCategory.SERVER_ERROR),
        "ProgrammingError": _sqlalchemy_or(ErrorCategory.CLIENT_ERROR),
        "IntegrityError": _sqlalchemy_or(ErrorCategory.CLIENT_ERROR),
        "NotSupportedError": _sqlalchemy_or(ErrorCategory.CLIENT_ERROR),
        "DataError": _sqlalchemy_or(ErrorCategory.VALIDATION),
        "NoResultFound": ErrorCategory.CLIENT_ERROR,
        "MultipleResultsFound": ErrorCategory.CLIENT_ERROR,
        "StatementError": ErrorCategory.VALIDATION,
        "CompileError": ErrorCategory.VALIDATION,
        "ArgumentError": ErrorCategory.VALIDATION,
        "InvalidRequestError": ErrorCategory.VALIDATION,
    }
    return {f"sqlalchemy.exc.{name}": rule for name, rule in rules.items()}


def _redis(module: str) -> dict[str, Rule]:
    return {
        f"{module}.exceptions.TimeoutError": ErrorCategory.TIMEOUT,
        f"{module}.exceptions.ConnectionError": ErrorCategory.NETWORK,
        f"{module}.exceptions.MaxConnectionsError": ErrorCategory.RATE_LIMIT,  # of our own pool
        # The server answered that it cannot now.
        f"{module}.exceptions.BusyLoadingError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.ClusterDownError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.ClusterError": ErrorCategory.SERVER_ERROR,  # its moves have no end
        f"{module}.exceptions.SlotNotCoveredError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.MasterDownError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.OutOfMemoryError": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.ReadOnlyError": ErrorCategory.SERVER_ERROR,  # a replica since the failover
        f"{module}.exceptions.TryAgainError": ErrorCategory.SERVER_ERROR,
        # It answered, and the command is to blame.
        f"{module}.exceptions.AuthenticationError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.AuthorizationError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.ResponseError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.WatchError": ErrorCategory.CLIENT_ERROR,  # a conflict; the whole transaction is retried
        f"{module}.exceptions.LockError": ErrorCategory.CLIENT_ERROR,
        f"{module}.exceptions.InvalidResponse": ErrorCategory.SERVER_ERROR,
        f"{module}.exceptions.DataError": ErrorCategory.VALIDATION,
    }


RULES: dict[str, Rule] = {
    "psycopg.Error": _of_postgres,
    "psycopg.OperationalError": _of_postgres_connection,
    "psycopg.errors.ConnectionTimeout": ErrorCategory.TIMEOUT,
    "psycopg.InternalError": _postgres_or(ErrorCategory.SERVER_ERROR),
    "psycopg.ProgrammingError": _postgres_or(ErrorCategory.CLIENT_ERROR),
    "psycopg.IntegrityError": _postgres_or(ErrorCategory.CLIENT_ERROR),
    "psycopg.NotSupportedError": _postgres_or(ErrorCategory.CLIENT_ERROR),
    "psycopg.DataError": _postgres_or(ErrorCategory.VALIDATION),  # without the server having seen it
    "psycopg_pool.PoolTimeout": ErrorCategory.TIMEOUT,
    "psycopg_pool.TooManyRequests": ErrorCategory.RATE_LIMIT,  # for a connection of the pool
    "psycopg_pool.PoolClosed": ErrorCategory.VALIDATION,
    "psycopg2.Error": _of_postgres,
    "psycopg2.OperationalError": _of_postgres_connection,
    "asyncpg.exceptions._base.PostgresError": _of_postgres,
    **_sqlalchemy(),
    **_redis("redis"),
    **_redis("valkey"),
}
