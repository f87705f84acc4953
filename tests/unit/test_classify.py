"""What we make of the errors of others: their category, the wait they ask for, and whether they were ever sent."""

import asyncio
import binascii
import concurrent.futures
import email.errors
import email.message
import errno
import ftplib
import gzip
import http.client
import imaplib
import io
import json
import logging
import lzma
import pickle
import smtplib
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import xml.etree.ElementTree
import xml.parsers.expat
import xml.sax
import xmlrpc.client
import zipfile
import zlib
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import (
    CircuitOpenError,
    DegradedModeError,
    ErrorCategory,
    IntegrationError,
    IntegrationTimeoutError,
    classify,
    classify_error,
    register_classifier,
)
from failsoft.classify import never_sent, retry_after_of


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch):
    """What a test registers is forgotten with it."""
    monkeypatch.setattr(classify, "_registered", {})
    monkeypatch.setattr(classify, "_rulings", {})


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
        (ssl.SSLCertVerificationError(1, "expired"), UNKNOWN),  # not retried, but it counts
        (ssl.SSLZeroReturnError(6, "closed"), NETWORK),
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
        (raised(lambda: zlib.decompress(b"rubbish")), SERVER_ERROR),
        (raised(lambda: gzip.decompress(b"rubbish")), SERVER_ERROR),
        (raised(lambda: gzip.decompress(gzip.compress(b"cut short")[:-4])), NETWORK),
        (raised(lambda: lzma.decompress(b"rubbish")), SERVER_ERROR),
        (raised(lambda: zipfile.ZipFile(io.BytesIO(b"rubbish"))), SERVER_ERROR),
        (raised(lambda: tarfile.TarFile(fileobj=io.BytesIO(b"rubbish"))), SERVER_ERROR),
        (raised(lambda: binascii.a2b_base64(b"a")), SERVER_ERROR),
        (raised(lambda: pickle.loads(b"rubbish")), SERVER_ERROR),
        (pickle.PicklingError(), VALIDATION),
        (raised(lambda: xml.etree.ElementTree.fromstring("<html><br></html>")), SERVER_ERROR),
        (raised(lambda: xml.parsers.expat.ParserCreate().Parse("<", True)), SERVER_ERROR),
        (raised(lambda: xml.sax.parseString("<", xml.sax.ContentHandler())), SERVER_ERROR),
        (raised(lambda: xmlrpc.client.loads("<")), SERVER_ERROR),
        (xmlrpc.client.ResponseError(), SERVER_ERROR),
        (xmlrpc.client.Fault(1, "<class 'KeyError'>:'x'"), CLIENT_ERROR),
        (xmlrpc.client.Fault(xmlrpc.client.METHOD_NOT_FOUND, "x"), CLIENT_ERROR),
        (xmlrpc.client.Fault(xmlrpc.client.INTERNAL_ERROR, "x"), SERVER_ERROR),
        (xmlrpc.client.Fault(xmlrpc.client.APPLICATION_ERROR, "x"), SERVER_ERROR),
        (xmlrpc.client.Fault("17", "x"), CLIENT_ERROR),
        (xmlrpc.client.ProtocolError("u", 503, "x", {}), SERVER_ERROR),
        (xmlrpc.client.ProtocolError("u", 429, "x", {}), RATE_LIMIT),
        (xmlrpc.client.ProtocolError("u", 403, "x", {}), CLIENT_ERROR),
        (xmlrpc.client.ProtocolError("u", -1, "x", {}), UNKNOWN),
        (email.errors.HeaderParseError(), SERVER_ERROR),
        (email.errors.MultipartInvariantViolationDefect(), SERVER_ERROR),
        (http.client.UnknownProtocol("HTTP/9"), SERVER_ERROR),
        (http.client.CannotSendRequest(), UNKNOWN),
        (asyncio.LimitOverrunError("no separator", 9), SERVER_ERROR),
        (smtplib.SMTPServerDisconnected("gone"), NETWORK),
        (smtplib.SMTPConnectError(421, "too busy"), SERVER_ERROR),
        (smtplib.SMTPDataError(452, "no room"), SERVER_ERROR),
        (smtplib.SMTPAuthenticationError(535, "no"), CLIENT_ERROR),
        (smtplib.SMTPSenderRefused(550, b"no", "me"), CLIENT_ERROR),
        (smtplib.SMTPRecipientsRefused({"a": (450, b"later"), "b": (451, b"later")}), SERVER_ERROR),
        (smtplib.SMTPRecipientsRefused({"a": (450, b"later"), "b": (550, b"no")}), CLIENT_ERROR),
        (smtplib.SMTPRecipientsRefused({}), UNKNOWN),
        (smtplib.SMTPRecipientsRefused({"a": "no", "b": ()}), UNKNOWN),
        (smtplib.SMTPResponseException(-1, "?"), UNKNOWN),
        (smtplib.SMTPNotSupportedError("STARTTLS"), CLIENT_ERROR),
        (smtplib.SMTPException("?"), UNKNOWN),
        (ftplib.error_temp("421 timeout"), SERVER_ERROR),
        (ftplib.error_perm("550 no such file"), CLIENT_ERROR),
        (ftplib.error_reply("125"), SERVER_ERROR),
        (ftplib.error_proto("rubbish"), SERVER_ERROR),
        (imaplib.IMAP4.abort("socket error: EOF"), NETWORK),
        (imaplib.IMAP4.error("LOGIN failed"), CLIENT_ERROR),
        (imaplib.IMAP4.readonly("x"), CLIENT_ERROR),
        (concurrent.futures.CancelledError(), UNKNOWN),
        (concurrent.futures.BrokenExecutor(), UNKNOWN),
        (struct.error("unpack requires a buffer of 4 bytes"), UNKNOWN),
        (IndexError(), UNKNOWN),
        (AttributeError(), UNKNOWN),
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


def sqlite_error(*statements, path=":memory:", uri=False):
    """What sqlite itself raises for the last of the statements."""
    connection = sqlite3.connect(path, timeout=0, uri=uri, isolation_level=None)
    try:
        for statement in statements[:-1]:
            connection.execute(statement)
        return raised(lambda: connection.execute(statements[-1]))
    finally:
        connection.close()


class TestSQLite:
    @pytest.mark.parametrize(
        ("statements", "category"),
        [
            (["SELEC 1"], CLIENT_ERROR),
            (["SELECT * FROM robots"], CLIENT_ERROR),
            (["CREATE TABLE r(x UNIQUE)", "INSERT INTO r VALUES (1)", "INSERT INTO r VALUES (1)"], CLIENT_ERROR),
            (["PRAGMA query_only = 1", "CREATE TABLE r(x)"], CLIENT_ERROR),
            (["PRAGMA max_page_count = 1", "CREATE TABLE r(x)"], SERVER_ERROR),
        ],
    )
    def test_a_statement(self, statements, category):
        assert classify_error(sqlite_error(*statements)) is category

    def test_a_lock_was_waited_for(self, tmp_path):
        path = str(tmp_path / "robots.db")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        error = sqlite_error("BEGIN IMMEDIATE", path=path)
        holder.close()
        assert str(error) == "database is locked"
        assert classify_error(error) is TIMEOUT

    def test_a_lock_of_a_table(self):
        shared = "file:shared?mode=memory&cache=shared"
        holder = sqlite3.connect(shared, uri=True, isolation_level=None)
        for statement in ("CREATE TABLE r(x)", "BEGIN", "INSERT INTO r VALUES (1)"):
            holder.execute(statement)
        error = sqlite_error("SELECT * FROM r", path=shared, uri=True)  # with an extended code
        holder.close()
        assert classify_error(error) is TIMEOUT

    def test_files(self, tmp_path):
        assert classify_error(raised(lambda: sqlite3.connect(tmp_path / "no" / "robots.db"))) is SERVER_ERROR
        (tmp_path / "rubbish.db").write_bytes(b"rubbish" * 1000)
        assert classify_error(sqlite_error("SELECT * FROM r", path=str(tmp_path / "rubbish.db"))) is UNKNOWN

    @pytest.mark.parametrize(
        ("words", "category"),
        [
            ("database is locked", TIMEOUT),
            ("database table is locked", TIMEOUT),
            ("interrupted", UNKNOWN),
            (7, UNKNOWN),
        ],
    )
    def test_one_made_by_hand(self, words, category):
        assert classify_error(sqlite3.OperationalError(words)) is category
        assert classify_error(sqlite3.OperationalError()) is UNKNOWN


@pytest.mark.parametrize(("status", "category"), [(304, CLIENT_ERROR), (302, CLIENT_ERROR), (200, UNKNOWN)])
def test_what_urllib_makes_of_a_redirect_is_an_answer(status, category):
    assert classify_error(http_error(status)) is category


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
        (ssl.SSLCertVerificationError(1, "x"), UNKNOWN),
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
        (DegradedModeError("no"), True),
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


class VenueError(Exception):
    def __init__(self, code=0):
        super().__init__(code)
        self.code = code


class Throttled(VenueError):
    pass


def logged(caplog):
    return [record for record in caplog.records if record.name == "failsoft"]


class TestRegistry:
    @pytest.mark.parametrize("classifier", [NETWORK, "NETWORK", lambda error: NETWORK, lambda error: "NETWORK"])
    def test_a_category_or_a_function(self, classifier):
        assert classify_error(VenueError()) is UNKNOWN
        unregister = register_classifier(VenueError, classifier)
        assert classify_error(VenueError()) is classify_error(Throttled()) is NETWORK
        assert classify_error(KeyError()) is UNKNOWN
        unregister()
        assert classify_error(VenueError()) is classify_error(Throttled()) is UNKNOWN

    def test_a_function_sees_the_error(self):
        seen = []
        register_classifier(
            VenueError, lambda error: seen.append(error) or ("RATE_LIMIT" if error.code == 17 else None)
        )
        errors = [VenueError(17), VenueError(0), Throttled(17)]
        assert [classify_error(error) for error in errors] == [RATE_LIMIT, UNKNOWN, RATE_LIMIT]
        assert seen == errors

    def test_it_comes_before_the_built_in_rules(self):
        register_classifier(ConnectionError, lambda error: CLIENT_ERROR if error.args == ("banned",) else None)
        register_classifier(urllib.error.HTTPError, lambda error: SERVER_ERROR if error.code == 404 else None)
        assert classify_error(ConnectionResetError("banned")) is CLIENT_ERROR
        assert classify_error(ConnectionResetError()) is NETWORK
        assert [classify_error(http_error(status)) for status in (404, 429, 400)] == [
            SERVER_ERROR,
            RATE_LIMIT,
            CLIENT_ERROR,
        ]
        register_classifier(sqlite3.OperationalError, VALIDATION)
        assert classify_error(sqlite3.OperationalError("database is locked")) is VALIDATION

    def test_the_most_derived_class_wins_whoever_came_first(self):
        register_classifier(Throttled, RATE_LIMIT)
        register_classifier(VenueError, SERVER_ERROR)
        register_classifier(Exception, CLIENT_ERROR)
        assert [classify_error(error) for error in (Throttled(), VenueError(), KeyError())] == [
            RATE_LIMIT,
            SERVER_ERROR,
            CLIENT_ERROR,
        ]

    def test_the_latest_wins_for_one_class(self):
        register_classifier(VenueError, SERVER_ERROR)
        latest = register_classifier(VenueError, CLIENT_ERROR)
        assert classify_error(VenueError()) is CLIENT_ERROR
        latest()
        latest()  # once more is no harm
        assert classify_error(VenueError()) is SERVER_ERROR

    def test_none_leaves_it_to_the_next(self):
        asked = []
        register_classifier(Exception, lambda error: asked.append("any"))
        register_classifier(VenueError, TIMEOUT)
        register_classifier(VenueError, lambda error: asked.append("latest"))
        register_classifier(Throttled, lambda error: asked.append("derived"))
        assert classify_error(Throttled()) is TIMEOUT
        assert asked == ["derived", "latest"]
        assert classify_error(KeyError()) is UNKNOWN
        assert asked == ["derived", "latest", "any"]

    def test_what_is_inside_is_asked_about_too(self):
        register_classifier(VenueError, TIMEOUT)
        assert classify_error(ExceptionGroup("", [Throttled(), TimeoutError()])) is TIMEOUT
        assert classify_error(urllib.error.URLError(VenueError())) is TIMEOUT
        register_classifier(ExceptionGroup, VALIDATION)
        assert classify_error(ExceptionGroup("", [Throttled()])) is VALIDATION

    def test_our_own_errors_keep_their_category(self):
        register_classifier(Exception, lambda error: VALIDATION)
        register_classifier(TimeoutError, VALIDATION)
        for error in (IntegrationTimeoutError(), DegradedModeError(), CircuitOpenError(category=NETWORK)):
            assert classify_error(error) is error.category

    @pytest.mark.parametrize(
        "fault", [KeyError("in the classifier"), 7, "NETWORKS", True, [], ErrorCategory, b"NETWORK"]
    )
    def test_a_faulty_one_is_reported_once_and_not_heard(self, fault, caplog):
        def classifier(error):
            if isinstance(fault, Exception):
                raise fault
            return fault

        register_classifier(VenueError, SERVER_ERROR)
        register_classifier(VenueError, classifier)
        with caplog.at_level(logging.ERROR, "failsoft"):
            for _ in range(3):
                assert classify_error(VenueError(17)) is SERVER_ERROR
        (record,) = logged(caplog)
        assert "classifier <function" in record.getMessage()
        assert "VenueError(17)" in record.getMessage()
        assert record.exc_info

    def test_each_faulty_one_is_reported(self, caplog):
        for _ in range(2):
            register_classifier(VenueError, lambda error: 1 / 0)
        classify_error(VenueError())
        assert len(logged(caplog)) == 2

    def test_a_log_that_fails_is_no_harm(self):
        def fail(record):
            raise RuntimeError("full")

        log = logging.getLogger("failsoft")
        log.addFilter(fail)
        try:
            register_classifier(VenueError, lambda error: 1 / 0)
            assert classify_error(VenueError()) is UNKNOWN
        finally:
            log.removeFilter(fail)

    def test_one_that_asks_about_the_same_error_again_comes_to_an_end(self, caplog):
        register_classifier(VenueError, classify_error)
        assert classify_error(VenueError()) is UNKNOWN

    def test_one_that_registers_another_is_not_under_a_lock(self):
        def classifier(error):
            register_classifier(VenueError, TIMEOUT)
            return NETWORK

        register_classifier(VenueError, classifier)
        assert classify_error(VenueError()) is NETWORK
        assert classify_error(VenueError()) is TIMEOUT

    def test_a_ruling_made_while_something_is_registered_does_not_stay(self):
        class Naming(type):
            """A class that is asked for its name, and by then the user has registered a classifier."""

            @property
            def __module__(cls):
                if cls.__name__ == "Late" and not registered:
                    registered.append(register_classifier(Exception, TIMEOUT))
                return "venue"

        registered = []
        late = Naming("Late", (Exception,), {})
        assert classify_error(late()) is UNKNOWN  # begun before
        assert registered
        assert classify_error(late()) is TIMEOUT

    def test_nothing_that_several_threads_register_or_take_back_is_lost(self):
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        start, half = threading.Barrier(4, timeout=30), threading.Barrier(4, timeout=30)
        counts = []

        def register():
            start.wait()
            unregister = [register_classifier(VenueError, TIMEOUT) for _ in range(400)]
            half.wait()
            counts.append(len(classify._registered[VenueError]))
            half.wait()
            for one in unregister:
                one()

        threads = [threading.Thread(target=register) for _ in range(4)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert counts == [1600] * 4
        assert not classify._registered

    @pytest.mark.parametrize("kind", [NETWORK, "VenueError", VenueError(), (VenueError,), int, KeyboardInterrupt, None])
    def test_what_is_no_class_of_exceptions_is_refused(self, kind):
        with pytest.raises(TypeError, match="exception_type must be a class derived from Exception, got"):
            register_classifier(kind, NETWORK)

    @pytest.mark.parametrize("kind", [IntegrationError, DegradedModeError])
    def test_our_own_classes_are_refused(self, kind):
        with pytest.raises(TypeError, match="must not be one of failsoft's"):
            register_classifier(kind, NETWORK)

    def test_what_is_no_classifier_is_refused(self):
        async def classifier(error):
            raise AssertionError

        for nothing in (None, 7, [NETWORK], classifier):
            with pytest.raises(TypeError, match="classifier must be a category or a plain function, got"):
                register_classifier(VenueError, nothing)
        with pytest.raises(ValueError, match=r"classifier must be one of TIMEOUT, RATE_LIMIT, .*, got 'NETWORKS'"):
            register_classifier(VenueError, "NETWORKS")
        assert not classify._registered
