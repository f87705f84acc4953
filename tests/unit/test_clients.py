"""What the errors of common clients mean, by the real classes as installed; packages that are not here are skipped.

The tables of tests/services and tests/adapters hold what those clients raise against real servers.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from failsoft import CircuitOpenError, ErrorCategory, IntegrationError, classify, classify_error, clients, plugins
from failsoft.classify import never_sent, retry_after_of

NAMED = {
    "httpx": {
        "TIMEOUT": "TimeoutException ConnectTimeout ReadTimeout WriteTimeout PoolTimeout",
        "NETWORK": "NetworkError ConnectError ReadError WriteError CloseError RemoteProtocolError ProxyError",
        "CLIENT_ERROR": "TooManyRedirects UnsupportedProtocol LocalProtocolError HTTPStatusError",
        "SERVER_ERROR": "DecodingError",
        "VALIDATION": "InvalidURL CookieConflict",
    },
    "httpx2": {
        "TIMEOUT": "TimeoutException ConnectTimeout ReadTimeout WriteTimeout PoolTimeout",
        "NETWORK": "NetworkError ConnectError ReadError WriteError CloseError RemoteProtocolError ProxyError SSEError",
        "CLIENT_ERROR": "TooManyRedirects UnsupportedProtocol LocalProtocolError HTTPStatusError",
        "SERVER_ERROR": "DecodingError",
        "VALIDATION": "InvalidURL CookieConflict",
    },
    "aiohttp": {
        "TIMEOUT": "SocketTimeoutError ConnectionTimeoutError ServerTimeoutError",
        "NETWORK": "ClientConnectorError ClientConnectorDNSError ClientOSError ServerDisconnectedError ClientPayloadError"
        " ClientConnectionResetError ClientProxyConnectionError ClientConnectorSSLError",
        "SERVER_ERROR": "ContentTypeError",
        "CLIENT_ERROR": "TooManyRedirects",
        "UNKNOWN": "ClientConnectorCertificateError ServerFingerprintMismatch",  # counts, and is not retried
        "VALIDATION": "InvalidURL InvalidUrlClientError NonHttpUrlClientError",
    },
    "requests.exceptions": {
        "TIMEOUT": "Timeout ReadTimeout ConnectTimeout",
        "NETWORK": "ConnectionError ProxyError ChunkedEncodingError SSLError",
        "SERVER_ERROR": "RetryError InvalidJSONError JSONDecodeError ContentDecodingError",
        "CLIENT_ERROR": "HTTPError TooManyRedirects",
        "VALIDATION": "InvalidURL MissingSchema InvalidSchema InvalidHeader",
    },
    "urllib3.exceptions": {
        "TIMEOUT": "ConnectTimeoutError ReadTimeoutError EmptyPoolError",
        "NETWORK": "NewConnectionError NameResolutionError ProtocolError IncompleteRead InvalidChunkLength ProxyError"
        " SSLError",
        "SERVER_ERROR": "ResponseError DecodeError",
        "VALIDATION": "LocationParseError LocationValueError InvalidHeader",
    },
    "redis.exceptions": {
        "TIMEOUT": "TimeoutError",
        "NETWORK": "ConnectionError",
        "RATE_LIMIT": "MaxConnectionsError",
        "SERVER_ERROR": "BusyLoadingError MasterDownError ClusterDownError TryAgainError ReadOnlyError OutOfMemoryError"
        " InvalidResponse",
        "CLIENT_ERROR": "ResponseError NoPermissionError AuthenticationError AuthorizationError WatchError LockError",
        "VALIDATION": "DataError",
    },
    "valkey.exceptions": {
        "TIMEOUT": "TimeoutError",
        "NETWORK": "ConnectionError",
        "RATE_LIMIT": "MaxConnectionsError",
        "SERVER_ERROR": "BusyLoadingError MasterDownError ClusterDownError TryAgainError ReadOnlyError OutOfMemoryError"
        " InvalidResponse",
        "CLIENT_ERROR": "ResponseError NoPermissionError AuthenticationError AuthorizationError WatchError LockError",
        "VALIDATION": "DataError",
    },
    "psycopg.errors": {
        "TIMEOUT": "QueryCanceled LockNotAvailable ConnectionTimeout",
        "NETWORK": "OperationalError ConnectionFailure ConnectionDoesNotExist",
        "SERVER_ERROR": "AdminShutdown TooManyConnections SerializationFailure DeadlockDetected InternalError DiskFull"
        " CannotConnectNow",
        "CLIENT_ERROR": "UniqueViolation UndefinedTable SyntaxError InvalidPassword ProgrammingError IntegrityError"
        " DivisionByZero",
        "VALIDATION": "DataError",
    },
    "psycopg_pool": {"TIMEOUT": "PoolTimeout", "RATE_LIMIT": "TooManyRequests", "VALIDATION": "PoolClosed"},
    "asyncpg.exceptions": {
        "TIMEOUT": "QueryCanceledError LockNotAvailableError",
        "NETWORK": "PostgresConnectionError ConnectionDoesNotExistError ConnectionFailureError",
        "SERVER_ERROR": "CannotConnectNowError AdminShutdownError TooManyConnectionsError InternalServerError"
        " DeadlockDetectedError SerializationError InsufficientResourcesError",
        "CLIENT_ERROR": "PostgresSyntaxError UniqueViolationError InvalidAuthorizationSpecificationError DataError",
    },
    "sqlalchemy.exc": {
        "TIMEOUT": "TimeoutError",
        "NETWORK": "DisconnectionError InterfaceError",
        "SERVER_ERROR": "OperationalError InternalError DatabaseError",
        "CLIENT_ERROR": "ProgrammingError IntegrityError NotSupportedError NoResultFound",
        "VALIDATION": "DataError StatementError CompileError ArgumentError",
    },
    "openai": {
        "TIMEOUT": "APITimeoutError",
        "NETWORK": "APIConnectionError WebSocketConnectionClosedError",
        "VALIDATION": "UnprocessableEntityError LengthFinishReasonError ContentFilterFinishReasonError",
        "SERVER_ERROR": "APIResponseValidationError APIError",
    },
    "anthropic": {
        "TIMEOUT": "APITimeoutError",
        "NETWORK": "APIConnectionError",
        "VALIDATION": "UnprocessableEntityError",
        "SERVER_ERROR": "APIResponseValidationError APIError",
        "CLIENT_ERROR": "EnforcedSpendLimitReachedError ContractSpendLimitReachedError",
    },
    "websockets.exceptions": {
        "NETWORK": "ConnectionClosedError InvalidMessage ProxyError",
        "SERVER_ERROR": "InvalidHandshake",
        "VALIDATION": "InvalidURI PayloadTooBig ProtocolError NegotiationError",
    },
    "nats.errors": {
        "TIMEOUT": "TimeoutError FlushTimeoutError DrainTimeoutError",
        "NETWORK": "NoServersError ConnectionClosedError ConnectionReconnectingError StaleConnectionError UnexpectedEOF"
        " OutboundBufferLimitError",
        "RATE_LIMIT": "SlowConsumerError",
        "SERVER_ERROR": "NoRespondersError",
        "CLIENT_ERROR": "AuthorizationError",
        "VALIDATION": "MaxPayloadError BadSubjectError JsonParseError",
    },
    "nats.js.errors": {
        "TIMEOUT": "FetchTimeoutError",
        "SERVER_ERROR": "ServiceUnavailableError ServerError",
        "CLIENT_ERROR": "BadRequestError NotFoundError",
    },
    "botocore.exceptions": {
        "TIMEOUT": "ConnectTimeoutError ReadTimeoutError",
        "NETWORK": "EndpointConnectionError ConnectionClosedError HTTPClientError SSLError ProxyConnectionError"
        " ResponseStreamingError IncompleteReadError",
        "CLIENT_ERROR": "NoCredentialsError",
        "VALIDATION": "ParamValidationError",
    },
}
"""By class alone, as an instance that carries nothing."""

CASES = [(module, name, category) for module, table in NAMED.items() for category, names in table.items() for name in names.split()]  # fmt: skip


def bare(cls: Any) -> Any:
    """An error of a class that nobody has told anything."""
    return cls.__new__(cls)


def load(module: str) -> Any:
    return pytest.importorskip(module, exc_type=ImportError)


@pytest.mark.parametrize(("module", "name", "category"), CASES, ids=[f"{module}.{name}" for module, name, _ in CASES])
def test_a_class_by_itself(module: str, name: str, category: str) -> None:
    assert classify_error(bare(getattr(load(module), name))) is ErrorCategory(category)


def test_every_rule_is_about_a_class_that_there_is() -> None:
    """A name that is misspelt, or has gone, would never be heard of."""
    missing = []
    for package, room in clients._ROOM_OF.items():
        try:
            importlib.import_module(package)
        except ImportError:
            continue
        for qualified in clients.rules_of(package):
            if qualified.partition(".")[0] != package:
                continue
            module, _, name = qualified.rpartition(".")
            if not hasattr(importlib.import_module(module), name) and qualified != "httpx.SSEError":
                missing.append(f"{qualified} ({room})")
    assert not missing


STATUSES = {429: "RATE_LIMIT", 503: "SERVER_ERROR", 504: "TIMEOUT", 408: "TIMEOUT", 404: "CLIENT_ERROR"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("client", ["httpx", "httpx2", "requests", "aiohttp", "openai", "anthropic", "websockets"])
def test_a_status_speaks(client: str, status: int) -> None:
    module = load(client)
    response = SimpleNamespace(status_code=status, headers={"Retry-After": "3"})
    if client == "requests":
        error: Any = module.HTTPError(response=response)
    elif client == "aiohttp":
        error = module.ClientResponseError(None, (), status=status, headers={"Retry-After": "3"})  # type: ignore[arg-type]
    elif client == "websockets":
        error = load("websockets.exceptions").InvalidStatus(response)
    else:
        error = bare(module.HTTPStatusError if client.startswith("httpx") else module.APIStatusError)
        error.response, error.status_code = response, status
    assert classify_error(error) is ErrorCategory(STATUSES[status])
    assert retry_after_of(error) == 3.0


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_sdk_hands_on_what_its_transport_raised(sdk: str) -> None:
    ours = CircuitOpenError("no", retry_after=4.0)
    error = bare(load(sdk).APIConnectionError)
    error.__cause__ = ours
    assert classify_error(error) is classify_error(ours) is ErrorCategory.UNKNOWN
    assert retry_after_of(error) == 4.0
    assert never_sent(error)
    httpx2 = load("httpx2")
    error.__cause__ = httpx2.ConnectError("refused")
    assert never_sent(error)
    error.__cause__ = httpx2.ReadError("broken")
    assert not never_sent(error)


def test_a_spent_quota_is_no_rate_limit() -> None:
    error = bare(load("openai").RateLimitError)
    error.response, error.status_code = SimpleNamespace(status_code=429, headers={}), 429
    assert classify_error(error) is ErrorCategory.RATE_LIMIT
    error.code = "insufficient_quota"
    assert classify_error(error) is ErrorCategory.CLIENT_ERROR
    error = bare(load("anthropic").EnforcedSpendLimitReachedError)
    error.response, error.status_code = SimpleNamespace(status_code=429, headers={}), 429
    assert classify_error(error) is ErrorCategory.CLIENT_ERROR


def test_a_ping_without_answer_is_a_timeout() -> None:
    websockets, frames = load("websockets.exceptions"), load("websockets.frames")
    ours = websockets.ConnectionClosedError(None, frames.Close(1011, "keepalive ping timeout"))
    assert classify_error(ours) is ErrorCategory.TIMEOUT
    theirs = websockets.ConnectionClosedError(frames.Close(1013, ""), None)
    assert classify_error(theirs) is ErrorCategory.SERVER_ERROR


GRPC = {
    "TIMEOUT": "DEADLINE_EXCEEDED",
    "NETWORK": "UNAVAILABLE",
    "RATE_LIMIT": "RESOURCE_EXHAUSTED",
    "SERVER_ERROR": "INTERNAL UNKNOWN DATA_LOSS ABORTED",
    "CLIENT_ERROR": "UNAUTHENTICATED PERMISSION_DENIED NOT_FOUND ALREADY_EXISTS FAILED_PRECONDITION UNIMPLEMENTED",
    "VALIDATION": "INVALID_ARGUMENT OUT_OF_RANGE CANCELLED",
}


@pytest.mark.parametrize(("category", "code"), [(each, code) for each, codes in GRPC.items() for code in codes.split()])
def test_codes_of_grpc(category: str, code: str) -> None:
    grpc, aio = load("grpc"), load("grpc.aio")
    metadata = aio.Metadata(("grpc-retry-pushback-ms", "250"))
    error = aio.AioRpcError(grpc.StatusCode[code], aio.Metadata(), metadata)
    assert classify_error(error) is ErrorCategory(category)
    assert retry_after_of(error) == 0.25
    assert classify_error(grpc.RpcError()) is ErrorCategory.UNKNOWN


@pytest.mark.parametrize(
    ("code", "status", "category"),
    [
        ("ThrottlingException", 400, "RATE_LIMIT"),
        ("SlowDown", 503, "RATE_LIMIT"),
        ("InternalError", 500, "SERVER_ERROR"),
        ("NoSuchKey", 404, "CLIENT_ERROR"),
        ("RequestTimeout", 400, "TIMEOUT"),
    ],
)
def test_codes_of_aws(code: str, status: int, category: str) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert classify_error(load("botocore.exceptions").ClientError(answer, "Get")) is ErrorCategory(category)


def test_sqlalchemy_asks_the_driver() -> None:
    exc, psycopg = load("sqlalchemy.exc"), load("psycopg.errors")
    import sqlite3

    def wrapping(cls: Any, driver: Exception, **options: Any) -> ErrorCategory:
        return classify_error(cls("SELECT 1", None, driver, **options))

    assert wrapping(exc.OperationalError, psycopg.QueryCanceled()) is ErrorCategory.TIMEOUT
    assert wrapping(exc.OperationalError, psycopg.OperationalError()) is ErrorCategory.NETWORK
    assert wrapping(exc.OperationalError, sqlite3.OperationalError("database is locked")) is ErrorCategory.TIMEOUT
    assert wrapping(exc.IntegrityError, psycopg.UniqueViolation()) is ErrorCategory.CLIENT_ERROR
    assert wrapping(exc.OperationalError, Exception("?")) is ErrorCategory.SERVER_ERROR
    lost = wrapping(exc.OperationalError, Exception("?"), connection_invalidated=True)
    assert lost is ErrorCategory.NETWORK
    asyncpg = load("asyncpg.exceptions")
    adapted = Exception("as the dialect wraps it")
    adapted.__cause__ = bare(asyncpg.SerializationError)
    assert wrapping(exc.OperationalError, adapted) is ErrorCategory.SERVER_ERROR


def test_urllib3_says_why_it_gave_up() -> None:
    urllib3 = load("urllib3.exceptions")

    def gave_up(reason: Exception) -> Exception:
        return urllib3.MaxRetryError(None, "/", reason)  # type: ignore[no-any-return]

    refused = gave_up(urllib3.NewConnectionError(None, "refused"))
    assert classify_error(refused) is ErrorCategory.NETWORK
    assert never_sent(refused)
    slow = gave_up(urllib3.ReadTimeoutError(None, "/", "slow"))
    assert classify_error(slow) is ErrorCategory.TIMEOUT
    assert not never_sent(slow)
    assert classify_error(gave_up(urllib3.ResponseError("too many 429 error responses"))) is ErrorCategory.RATE_LIMIT
    assert classify_error(gave_up(urllib3.ResponseError("too many 503 error responses"))) is ErrorCategory.SERVER_ERROR
    assert classify_error(gave_up(urllib3.ResponseError("too many redirects"))) is ErrorCategory.CLIENT_ERROR
    requests = load("requests.exceptions")
    wrapped = requests.ConnectionError(refused)
    assert classify_error(wrapped) is ErrorCategory.NETWORK
    assert never_sent(wrapped)


@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeout", "PoolTimeout"])
def test_what_had_no_connection_was_never_sent(name: str) -> None:
    for module in ("httpx", "httpx2"):
        assert never_sent(bare(getattr(load(module), name)))
        assert not never_sent(bare(load(module).ReadTimeout))


# ---- nothing is imported, and others may have their say


def test_classification_imports_no_client() -> None:
    """A class that only looks like httpx's is told by its name, and httpx stays where it is."""
    program = """
        import sys
        from failsoft import classify_error
        import failsoft.clients
        assert "failsoft.clients.http" not in sys.modules  # no table either, before there is an error
        mine = type("ReadTimeout", (Exception,), {"__module__": "httpx"})
        assert classify_error(mine()) == "UNKNOWN"
        base = type("TimeoutException", (Exception,), {"__module__": "httpx"})
        assert classify_error(type("ReadTimeout", (base,), {"__module__": "httpx"})()) == "TIMEOUT"
        assert classify_error(type("APIConnectionError", (Exception,), {"__module__": "openai"})()) == "NETWORK"
        assert not {"httpx", "httpx2", "openai", "aiohttp", "requests", "importlib.metadata"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets packages bring classifiers: {top package: the object its entry point names}."""

    def bring(**objects: str) -> None:
        found: dict[str, tuple[EntryPoint, ...]] = {
            name: (EntryPoint(name, value, plugins.GROUP),) for name, value in objects.items()
        }
        monkeypatch.setattr(plugins, "_found", found)
        monkeypatch.setattr(plugins, "_loaded", {})
        monkeypatch.setattr(classify, "_registered", {})
        monkeypatch.setattr(classify, "_rulings", {})

    return bring


class Broker(Exception):
    """An error of a package that brings a classifier."""

    code = 17


Broker.__module__ = "acme.errors"


def judge(error: Broker) -> str | None:
    return "RATE_LIMIT" if error.code == 17 else None


def test_a_package_may_bring_a_classifier(installed: Any) -> None:
    installed(acme=f"{__name__}:judge")
    error = Broker()
    assert classify_error(error) is ErrorCategory.RATE_LIMIT
    error.code = 18
    assert classify_error(error) is ErrorCategory.UNKNOWN
    error.status = 503  # type: ignore[attr-defined]
    assert classify_error(error) is ErrorCategory.SERVER_ERROR


def test_what_the_user_registers_comes_first(installed: Any) -> None:
    installed(acme=f"{__name__}:judge")
    unregister = classify.register_classifier(Broker, "NETWORK")
    assert classify_error(Broker()) is ErrorCategory.NETWORK
    unregister()
    assert classify_error(Broker()) is ErrorCategory.RATE_LIMIT


@pytest.mark.parametrize("broken", ["no_such_module_at_all:judge", f"{__name__}:no_such_name", f"{__name__}:GRPC"])
def test_a_broken_one_is_told_of_once(installed: Any, caplog: pytest.LogCaptureFixture, broken: str) -> None:
    installed(acme=broken)
    with caplog.at_level(logging.ERROR, "failsoft"):
        assert classify_error(Broker()) is ErrorCategory.UNKNOWN
        assert classify_error(type("Other", (Broker,), {"__module__": "acme"})()) is ErrorCategory.UNKNOWN
    assert len(caplog.records) == 1
    assert broken in caplog.text


def test_one_for_another_package_is_not_loaded(installed: Any) -> None:
    installed(other="no_such_module_at_all:judge", failsoft=f"{__name__}:judge")
    assert classify_error(Broker()) is ErrorCategory.UNKNOWN
    assert classify_error(IntegrationError()) is ErrorCategory.UNKNOWN


def test_entry_points_of_installed_packages_are_found(tmp_path: Any) -> None:
    package = tmp_path / "acme_failsoft-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-failsoft\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[failsoft.classifiers]\nacme = acme_failsoft:classify\n")
    (tmp_path / "acme_failsoft.py").write_text("def classify(error): return 'TIMEOUT'\n")
    program = """
        import sys
        from failsoft import classify_error
        class Error(Exception): __module__ = "acme.errors"
        assert "acme_failsoft" not in sys.modules
        assert classify_error(Error()) == "TIMEOUT"
    """
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30, env=environment)
