"""Errors: their fields however made, their way between processes, and our view of those of others."""

import asyncio
import concurrent.futures
import copy
import email.message
import errno
import http.client
import json
import pickle
import socket
import sqlite3
import ssl
import subprocess
import time
import traceback
import urllib.error
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import (
    CircuitOpenError,
    ErrorCategory,
    IntegrationError,
    IntegrationTimeoutError,
    IntegrationType,
    classify_error,
)
from failsoft.errors import never_sent, retry_after_of

FIELDS = {
    "code": "DB_CIRCUIT_OPEN",
    "category": ErrorCategory.UNKNOWN,
    "message": "database refuses calls for 12.5 s",
    "details": {"failures": 5},
    "original_error": None,
    "timestamp": 1234567890.0,
    "retryable": True,
    "integration_type": IntegrationType.DATABASE,
    "integration_name": "database",
    "operation": "get_robots",
    "attempts": 0,
    "retry_after": 12.5,
    "reason": "5 consecutive failures",
}


class Refusal:
    """Stands for the compiled one: it describes itself, and pickling it would be a mistake."""

    def __init__(self):
        self.asked = 0

    def describe(self):
        self.asked += 1
        return dict(FIELDS)

    def __reduce__(self):
        raise AssertionError("a refusal must stay behind")


def refused(cls=CircuitOpenError):
    """Make an error as C does: allocated, not initialised, with the refusal as its only argument."""
    error = cls.__new__(cls)
    error.args = (Refusal(),)
    return error


class TwoArguments(Exception):
    """The classic that pickles and does not come back."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status_text = status


class TestConstructor:
    def test_the_seeds_error(self):
        original = TimeoutError("10 s")
        error = IntegrationError(
            "Database query timed out after 10s",
            category=ErrorCategory.TIMEOUT,
            details={"timeout": 10.0, "query": "SELECT * FROM robots"},
            original_error=original,
            timestamp=1234567890,
            integration_type=IntegrationType.DATABASE,
        )
        assert error.code == "DB_TIMEOUT"
        assert error.retryable
        assert error.original_error is error.__cause__ is original
        assert str(error) == error.message == "Database query timed out after 10s"
        assert error.args == (error.message,)
        assert error.to_dict() == {
            "code": "DB_TIMEOUT",
            "category": "TIMEOUT",
            "message": "Database query timed out after 10s",
            "details": {"timeout": 10.0, "query": "SELECT * FROM robots"},
            "original_error": "TimeoutError('10 s')",
            "timestamp": 1234567890,
            "retryable": True,
            "integration_type": "database",
            "integration_name": None,
            "operation": None,
            "attempts": 0,
            "retry_after": None,
            "reason": None,
        }
        assert json.loads(json.dumps(error.to_dict())) == error.to_dict()

    def test_defaults(self):
        before = time.time()
        error = IntegrationError()
        assert before <= error.timestamp <= time.time()
        assert (error.code, error.category, str(error)) == ("INTEGRATION_UNKNOWN", ErrorCategory.UNKNOWN, "")
        assert error.details == {}
        assert not error.retryable

    @pytest.mark.parametrize(
        ("kind", "prefix"),
        [*zip(IntegrationType, ["DB", "AI", "MARKET", "CACHE", "API"], strict=True)],
    )
    @pytest.mark.parametrize("category", ErrorCategory)
    def test_codes(self, kind, prefix, category):
        assert IntegrationError("", category=category, integration_type=kind).code == f"{prefix}_{category}"
        assert CircuitOpenError("", integration_type=kind).code == f"{prefix}_CIRCUIT_OPEN"
        assert IntegrationTimeoutError("", integration_type=kind).code == f"{prefix}_TIMEOUT"

    @pytest.mark.parametrize("category", ErrorCategory)
    def test_what_may_pass_is_retryable(self, category):
        transient = category in {"TIMEOUT", "NETWORK", "SERVER_ERROR", "RATE_LIMIT"}
        assert IntegrationError(category=category).retryable is transient
        assert IntegrationError(category=category, retryable=not transient).retryable is not transient

    def test_fields_are_keywords(self):
        with pytest.raises(TypeError):
            IntegrationError("message", ErrorCategory.TIMEOUT)

    def test_details_are_copied(self):
        details = {"symbol": "BTC"}
        error = IntegrationError(details=details)
        details.clear()
        assert error.details == {"symbol": "BTC"}

    def test_without_an_original_error_the_context_stays_visible(self):
        def fail():
            try:
                raise KeyError("lost")
            except KeyError:
                raise IntegrationError("outer")  # noqa: B904 - the context is under test

        assert "KeyError: 'lost'" in "".join(traceback.format_exception(raised(fail)))

    def test_a_timeout_is_a_timeout(self):
        error = IntegrationTimeoutError("too late", timestamp=1)
        assert isinstance(error, TimeoutError)
        assert str(error) == "too late"
        assert error.category is ErrorCategory.TIMEOUT
        assert error.errno is None

    def test_repr(self):
        assert repr(CircuitOpenError("no")) == "CircuitOpenError('no', code='INTEGRATION_CIRCUIT_OPEN')"


class TestLazyFields:
    @pytest.mark.parametrize("name", FIELDS)
    def test_any_field_asks_the_refusal(self, name):
        assert getattr(refused(), name) == FIELDS[name]

    def test_once(self):
        error = refused()
        refusal = error.args[0]
        assert refusal.asked == 0
        for name in FIELDS:
            getattr(error, name)
        assert (str(error), refusal.asked) == (FIELDS["message"], 1)

    def test_everything_else_works_without_the_constructor(self):
        assert str(refused()) == FIELDS["message"]
        assert repr(refused()) == f"CircuitOpenError({FIELDS['message']!r}, code='DB_CIRCUIT_OPEN')"
        assert refused().to_dict() == FIELDS
        assert FIELDS["message"] in "".join(traceback.format_exception(refused()))
        assert classify_error(refused()) is ErrorCategory.UNKNOWN
        assert retry_after_of(refused()) == 12.5

    @pytest.mark.parametrize("name", ["nothing", "describe", "__wrapped__", "mesage"])
    def test_other_names_do_not_ask(self, name):
        error = refused()
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(error, name)
        assert error.args[0].asked == 0
        assert (caught.value.name, caught.value.obj) == (name, error)

    @pytest.mark.parametrize("args", [(), ("text",), (Refusal,)])
    def test_without_a_refusal_a_field_is_what_a_bare_error_has(self, args):
        error = CircuitOpenError.__new__(CircuitOpenError)
        error.args = args
        if args == (Refusal,):  # the class itself, not one of its objects, does not describe
            assert not hasattr(type(Refusal), "describe")
        assert (error.code, error.category, error.attempts) == ("INTEGRATION_UNKNOWN", ErrorCategory.UNKNOWN, 0)

    def test_a_field_that_the_refusal_omits_is_what_a_bare_error_has(self):
        class Terse:
            def describe(self):
                return {"message": "no"}

        error = CircuitOpenError.__new__(CircuitOpenError)
        error.args = (Terse(),)
        assert str(error) == "no"
        assert error.code == "INTEGRATION_UNKNOWN"

    def test_a_field_set_before_the_first_look_stays(self):
        error = refused()
        error.attempts = 3
        assert (error.message, error.attempts) == (FIELDS["message"], 3)
        assert pickle.loads(pickle.dumps(error)).attempts == 3


def round_trips(error):
    yield from (pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    yield copy.copy(error)
    yield copy.deepcopy(error)


class TestPickling:
    @pytest.mark.parametrize("cls", [IntegrationError, CircuitOpenError, IntegrationTimeoutError])
    def test_every_field_comes_back(self, cls):
        error = cls("no", **{name: value for name, value in FIELDS.items() if name != "message"})
        error.add_note("seen at noon")
        for again in round_trips(error):
            assert type(again) is cls
            assert again.to_dict() == error.to_dict()
            assert (str(again), again.args) == ("no", ("no",))
            assert again.__notes__ == ["seen at noon"]

    @pytest.mark.parametrize("cls", [CircuitOpenError, IntegrationTimeoutError])
    def test_a_refusal_stays_behind(self, cls):
        for again in round_trips(refused(cls)):
            assert again.to_dict() == FIELDS
            assert again.args == (FIELDS["message"],)

    def test_the_original_error_comes_along(self):
        for again in round_trips(IntegrationError("no", original_error=KeyError("robots"))):
            assert type(again.original_error) is KeyError
            assert again.__cause__ is again.original_error

    @pytest.mark.parametrize("original", [TwoArguments(503, "down"), OSError(lambda: None)])
    def test_an_original_that_cannot_travel_degrades_to_its_repr(self, original):
        error = IntegrationError("no", original_error=original)
        again = pickle.loads(pickle.dumps(error))
        assert again.original_error == repr(original)
        assert again.__cause__ is None
        assert again.to_dict() == error.to_dict()
        assert error.original_error is original

    def test_only_the_details_that_cannot_travel_degrade(self):
        lock = (x for x in ())
        error = IntegrationError("no", details={"query": "SELECT 1", "cursor": lock, "more": {"a": lock, "b": 1}})
        details = pickle.loads(pickle.dumps(error)).details
        assert details == {"query": "SELECT 1", "cursor": repr(lock), "more": {"a": repr(lock), "b": 1}}

    def test_a_hostile_repr_does_not_stop_it(self):
        class Hostile:
            def __repr__(self):
                raise RuntimeError

        details = pickle.loads(pickle.dumps(IntegrationError(details={"x": Hostile()}))).details
        assert "Hostile" in details["x"]

    def test_a_subclass_with_another_constructor(self):
        again = pickle.loads(pickle.dumps(Renamed(7)))
        assert (type(again), again.number, str(again)) == (Renamed, 7, "number 7")


class Renamed(IntegrationError):
    def __init__(self, number):
        super().__init__(f"number {number}")
        self.number = number


def carrying(**attributes):
    """Make an error as client libraries do: a class of their own with attributes."""
    error = type("ClientError", (Exception,), {})("client")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def http_error(status, headers=None):
    message = email.message.Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return urllib.error.HTTPError("http://x", status, "status", message, None)


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


TIMEOUT, NETWORK, SERVER_ERROR = ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR
CLIENT_ERROR, RATE_LIMIT = ErrorCategory.CLIENT_ERROR, ErrorCategory.RATE_LIMIT
VALIDATION, UNKNOWN = ErrorCategory.VALIDATION, ErrorCategory.UNKNOWN


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (TimeoutError(), TIMEOUT),
        (socket.timeout("timed out"), TIMEOUT),  # noqa: UP041 - the spelling under test
        (asyncio.TimeoutError(), TIMEOUT),  # noqa: UP041
        (concurrent.futures.TimeoutError(), TIMEOUT),
        (subprocess.TimeoutExpired("ls", 1), TIMEOUT),
        (OSError(errno.ETIMEDOUT, "x"), TIMEOUT),
        (ConnectionError(), NETWORK),
        (ConnectionResetError(), NETWORK),
        (ConnectionRefusedError(), NETWORK),
        (BrokenPipeError(), NETWORK),
        (socket.gaierror(-2, "Name or service not known"), NETWORK),
        (socket.herror(1, "x"), NETWORK),
        (ssl.SSLError(1, "handshake"), NETWORK),
        (ssl.SSLCertVerificationError(1, "expired"), NETWORK),
        (ssl.SSLEOFError(8, "eof"), NETWORK),
        (EOFError(), NETWORK),
        (asyncio.IncompleteReadError(b"", 4), NETWORK),
        (http.client.IncompleteRead(b""), NETWORK),
        (http.client.RemoteDisconnected("gone"), NETWORK),
        (OSError(errno.ENETUNREACH, "x"), NETWORK),
        (OSError(errno.EHOSTUNREACH, "x"), NETWORK),
        (OSError(errno.ENOTCONN, "x"), NETWORK),
        (OSError("Multiple exceptions: [Errno 111] refused, [Errno 101] unreachable"), NETWORK),
        (raised(lambda: json.loads("<html>")), SERVER_ERROR),
        (raised(b"\xff".decode), SERVER_ERROR),
        (UnicodeError(), SERVER_ERROR),
        (http.client.BadStatusLine("?"), SERVER_ERROR),
        (http.client.LineTooLong("header"), SERVER_ERROR),
        (raised(lambda: "é".encode("ascii")), VALIDATION),
        (ValueError(), VALIDATION),
        (TypeError(), VALIDATION),
        (http.client.InvalidURL(), VALIDATION),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), CLIENT_ERROR),
        (sqlite3.OperationalError("database is locked"), UNKNOWN),
        (FileNotFoundError(errno.ENOENT, "x"), UNKNOWN),
        (PermissionError(errno.EACCES, "x"), UNKNOWN),
        (OSError(errno.ENOSPC, "x"), UNKNOWN),
        (OSError(), UNKNOWN),
        (OSError("a", "b"), UNKNOWN),
        (OSError([], "unhashable"), UNKNOWN),
        (KeyError("x"), UNKNOWN),
        (AssertionError(), UNKNOWN),
        (RuntimeError(), UNKNOWN),
        (ZeroDivisionError(), UNKNOWN),
        (Exception(), UNKNOWN),
        (asyncio.CancelledError(), UNKNOWN),
        (KeyboardInterrupt(), UNKNOWN),
    ],
    ids=repr,
)
def test_standard_library_errors(error, category):
    assert classify_error(error) is category
    assert classify_error(error) is category  # and once cached


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, CLIENT_ERROR),
        (401, CLIENT_ERROR),
        (404, CLIENT_ERROR),
        (408, TIMEOUT),
        (422, CLIENT_ERROR),
        (429, RATE_LIMIT),
        (500, SERVER_ERROR),
        (503, SERVER_ERROR),
        (504, TIMEOUT),
        (529, SERVER_ERROR),
        (599, SERVER_ERROR),
        (http.HTTPStatus.TOO_MANY_REQUESTS, RATE_LIMIT),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        http_error,
        lambda status: carrying(status=status),
        lambda status: carrying(status_code=status),
        lambda status: carrying(response=SimpleNamespace(status_code=status)),
        lambda status: carrying(response=SimpleNamespace(status=status)),
        lambda status: carrying(status="error", response=SimpleNamespace(status_code=status)),
    ],
)
def test_http_statuses(make, status, category):
    assert classify_error(make(status)) is category


@pytest.mark.parametrize("status", [None, True, 0, 200, 302, 399, 600, 1006, "503", 503.0, object()])
def test_what_is_not_an_error_status_is_ignored(status):
    assert classify_error(carrying(status=status, status_code=status)) is UNKNOWN


def test_one_class_with_several_statuses_is_not_cached_by_class():
    class StatusError(ValueError):
        pass

    verdicts = []
    for status in (429, 500, None, 404):
        error = StatusError()
        error.status = status
        verdicts.append(classify_error(error))
    assert verdicts == [RATE_LIMIT, SERVER_ERROR, VALIDATION, CLIENT_ERROR]


def test_a_status_on_a_plain_exception_counts():
    error = Exception()
    error.status_code = 503
    assert classify_error(error) is SERVER_ERROR


def test_a_class_derived_from_several_goes_by_the_first_known():
    reply = type("ReplyError", (OSError, json.JSONDecodeError), {})  # as requests' is
    assert classify_error(reply.__new__(reply)) is SERVER_ERROR
    refusal = type("ConnectorError", (OSError,), {})  # as aiohttp's is
    assert classify_error(refusal(errno.ECONNREFUSED, "x")) is NETWORK
    assert classify_error(refusal(errno.ETIMEDOUT, "x")) is TIMEOUT
    assert classify_error(type("QuoteTimeout", (TimeoutError,), {})()) is TIMEOUT


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        (TimeoutError(), TIMEOUT),
        (ConnectionRefusedError(), NETWORK),
        (socket.gaierror(-2, "x"), NETWORK),
        (ssl.SSLError(1, "x"), NETWORK),
        ("unknown url type: foo", UNKNOWN),
    ],
    ids=repr,
)
def test_a_urlerror_is_its_reason(reason, category):
    assert classify_error(urllib.error.URLError(reason)) is category


def test_a_group_is_what_its_members_agree_on():
    assert classify_error(ExceptionGroup("", [TimeoutError(), socket.timeout()])) is TIMEOUT  # noqa: UP041
    assert classify_error(ExceptionGroup("", [ExceptionGroup("", [BrokenPipeError()])])) is NETWORK
    assert classify_error(ExceptionGroup("", [TimeoutError(), BrokenPipeError()])) is UNKNOWN


@pytest.mark.parametrize("category", ErrorCategory)
def test_our_own_errors_keep_their_category(category):
    assert classify_error(IntegrationError(category=category)) is category
    assert classify_error(IntegrationTimeoutError(category=category)) is category


class Awkward(Exception):
    """Some clients raise from properties that are not set yet."""

    @property
    def response(self):
        raise RuntimeError("no response yet")

    status = status_code = headers = retry_after = request = response


def test_properties_that_raise_are_no_answer():
    assert classify_error(Awkward()) is UNKNOWN
    assert retry_after_of(Awkward()) is None
    assert not never_sent(Awkward())


def test_many_classes_do_not_pile_up():
    for number in range(2000):
        assert classify_error(type(f"Local{number}", (EOFError,), {})()) is NETWORK
    assert classify_error(TimeoutError()) is TIMEOUT


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.binary(), st.lists(st.integers())))
def test_any_status_gives_a_category(status):
    assert classify_error(carrying(status=status, response=status)) in ErrorCategory


NOW = 1_700_000_000


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (3, 3.0),
            (0, 0.0),
            (1.5, 1.5),
            ("2", 2.0),
            (1e300, 1e9),
            (-1, None),
            (float("nan"), None),
            (float("inf"), None),
            (10**400, None),
            (True, None),
            ("soon", None),
            (None, None),
            (lambda: 3, None),
        ],
    )
    def test_attribute(self, value, seconds):
        assert retry_after_of(carrying(retry_after=value)) == seconds

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry-After": "7"}, 7.0),
            ({"retry-after": "7"}, 7.0),
            ({"Retry-After": " 7 "}, 7.0),
            ({"Retry-After": "0"}, 0.0),
            ({"retry-after-ms": "250"}, 0.25),
            ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
            ({"Retry-After-Ms": "soon", "Retry-After": "1"}, 1.0),
            ({"Retry-After": "9" * 400}, None),
            ({"Retry-After": "-7"}, None),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": ""}, None),
            ({"Retry-After": "Fri, 99 Foo 2023 99:99:99 GMT"}, None),
            ({"X-Else": "7"}, None),
            ({}, None),
            (None, None),
            ([("Retry-After", "7")], None),
        ],
    )
    @pytest.mark.parametrize(
        "make",
        [
            lambda headers: carrying(headers=headers),
            lambda headers: carrying(response=SimpleNamespace(headers=headers)),
        ],
    )
    def test_headers(self, make, headers, seconds):
        assert retry_after_of(make(headers)) == seconds

    def test_the_headers_of_the_standard_library(self):
        assert retry_after_of(http_error(429, {"retry-AFTER": "7"})) == 7.0

    @pytest.mark.parametrize(("ahead", "seconds"), [(30, 30.0), (0, 0.0), (-30, None)])
    def test_a_date_is_measured_from_the_replys_own(self, ahead, seconds):
        headers = {"Date": formatdate(NOW, usegmt=True), "Retry-After": formatdate(NOW + ahead, usegmt=True)}
        assert retry_after_of(carrying(headers=headers)) == seconds

    def test_a_date_alone_is_measured_from_now(self):
        headers = {"Retry-After": formatdate(time.time() + 30, usegmt=True)}
        assert retry_after_of(carrying(headers=headers)) == pytest.approx(30, abs=2)

    def test_the_attribute_comes_first(self):
        assert retry_after_of(carrying(retry_after=1, headers={"Retry-After": "7"})) == 1
        assert retry_after_of(carrying(retry_after=None, headers={"Retry-After": "7"})) == 7
        assert retry_after_of(IntegrationError(retry_after=2.5)) == 2.5

    @given(st.text() | st.floats() | st.integers() | st.none() | st.binary())
    def test_any_value_gives_seconds_or_none(self, value):
        for error in (carrying(retry_after=value), carrying(headers={"Retry-After": value, "Date": value})):
            seconds = retry_after_of(error)
            assert seconds is None or 0 <= seconds <= 1e9


@pytest.mark.parametrize(
    ("error", "unsent"),
    [
        (ConnectionRefusedError(), True),
        (OSError(errno.ECONNREFUSED, "x"), True),
        (type("ConnectorError", (OSError,), {})(errno.ECONNREFUSED, "x"), True),
        (socket.gaierror(-2, "x"), True),
        (type("NameError", (socket.gaierror,), {})(-2, "x"), True),
        (CircuitOpenError("no"), True),
        (refused(), True),
        (urllib.error.URLError(ConnectionRefusedError()), True),
        (urllib.error.URLError(TimeoutError()), False),
        (urllib.error.URLError("no host given"), False),
        (http_error(503), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (IntegrationTimeoutError("x"), False),
        (IntegrationError("x", original_error=ConnectionRefusedError()), False),
        (OSError(errno.EHOSTUNREACH, "x"), False),
        (ValueError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_provably_never_left_is_never_sent(error, unsent):
    assert never_sent(error) is unsent
