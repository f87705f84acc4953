"""Deadlines as headers: what is written, what is read, and what is not believed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsoft import deadline, extract_deadline, grpc_timeout, inject_deadline, parse_grpc_timeout, remaining
from failsoft.testing import FakeClock
from failsoft.wire import HEADER

SIZES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


# ---- writing


def test_nothing_is_written_where_no_deadline_is_in_force() -> None:
    headers: dict[str, str] = {}
    inject_deadline(headers)
    with deadline(None):
        inject_deadline(headers)
        assert grpc_timeout() is None
    assert headers == {}


@pytest.mark.parametrize(
    ("seconds", "margin", "millis", "grpc"),
    [
        (0.25, 0.0, "250", "250m"),
        (0.2509, 0.0, "250", "250900u"),
        (0.25, 0.05, "200", "200m"),
        (0.25, 0.0500001, "199", "199999u"),
        (0.25, 1.0, "0", "0n"),
        (0.0, 0.0, "0", "0n"),
        (0.0009, 0.0, "0", "900u"),
        (7200.0, 0.0, "7200000", "7200S"),
    ],
)
def test_what_remains_is_written_rounded_down(seconds: float, margin: float, millis: str, grpc: str) -> None:
    headers = {"accept": "*/*"}
    metadata: dict[str, str] = {}
    with deadline(seconds):
        inject_deadline(headers, margin=margin)
        inject_deadline(metadata, header="grpc-timeout", margin=margin)
        assert grpc_timeout(margin=margin) == grpc
    assert headers == {"accept": "*/*", HEADER: millis}
    assert metadata == {"grpc-timeout": grpc}


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf, True, "1"])
def test_a_margin_is_a_time(margin: Any) -> None:
    with pytest.raises(ValueError, match="margin must be a number of seconds"):
        inject_deadline({}, margin=margin)


# ---- reading


@pytest.mark.parametrize(
    "headers",
    [
        {HEADER: "250"},
        {HEADER.title(): " 250 "},
        {HEADER.upper(): ["900", "250"]},
        {"grpc-timeout": "250m"},
        {HEADER: "900", "grpc-timeout": "250m"},
        [(HEADER.encode(), b"250"), (b"accept", b"*/*")],
        [(HEADER, "250"), (HEADER, "900")],
        {HEADER: "garbage", "Grpc-Timeout": "250m"},
    ],
)
def test_a_deadline_is_read_and_runs_from_then(headers: Any, clock: FakeClock) -> None:
    told = extract_deadline(headers)
    clock.advance(0.05)
    with told as d:
        assert d.remaining() == remaining() == pytest.approx(0.2)
        clock.advance(0.2)
        assert d.expired


class Hostile(dict[str, str]):
    def items(self) -> Any:
        raise RuntimeError("no")


NONSENSE = [
    "", " ", "-1", "+1", "1.5", "1e3", "0x10", "NaN", "inf", "1_000", "\u0663", "\u00b2", "250m", "9" * 40, "1\x00", "1,2",
    b"\xff", None, 250, object(), [], {},
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_counts_as_not_there(value: Any) -> None:
    for headers in ({HEADER: value}, [(HEADER, value)], {value: "1"} if isinstance(value, str) else {}):
        assert extract_deadline(headers).remaining() is None


@pytest.mark.parametrize("headers", [{}, [], None, 1, Hostile(), [1], [("a",)], "abc", object()])
def test_what_is_no_headers_tells_nothing(headers: Any) -> None:
    with extract_deadline(headers) as d:
        assert d.remaining() is None
        assert remaining() is None


def test_nobody_is_given_more_than_the_most() -> None:
    assert extract_deadline({HEADER: "9" * 30}, most=60.0).remaining() == 60.0
    assert extract_deadline({HEADER: "9" * 30}).remaining() == 1e9
    assert extract_deadline({HEADER: "1000"}, most=60.0).remaining() == 1.0
    for most in (0.0, -1.0, math.nan, 1e10):
        with pytest.raises(ValueError, match="most must be a number of seconds"):
            extract_deadline({}, most=most)


def test_no_time_left_is_no_time_left() -> None:
    with extract_deadline({HEADER: "0"}) as d:
        assert d.expired


def test_another_header_may_be_agreed_on() -> None:
    headers: dict[str, str] = {}
    with deadline(0.25):
        inject_deadline(headers, header="X-Budget-Ms")
    assert headers == {"X-Budget-Ms": "250"}
    assert extract_deadline(headers, header="x-budget-ms").remaining() == 0.25
    assert extract_deadline(headers).remaining() is None


@settings(max_examples=40)
@given(st.text() | st.binary(), st.text() | st.binary())
def test_nothing_raises(name: str | bytes, value: str | bytes) -> None:
    for headers in ({HEADER: value}, {"grpc-timeout": value}, {name: value}):
        left = extract_deadline(headers).remaining()
        assert left is None or 0.0 <= left <= 1e9


# ---- gRPC's text


@settings(max_examples=40)
@given(st.floats(0.0, 1e9))
def test_grpc_text_never_grants_more_and_little_less(seconds: float) -> None:
    with deadline(seconds) as d:
        text, left = grpc_timeout(), d.remaining()
    assert text is not None
    assert left is not None
    assert text[:-1].isdigit()
    assert 1 <= len(text) - 1 <= 8
    parsed = parse_grpc_timeout(text)
    assert parsed is not None
    assert parsed <= left
    # A count that fits no finer unit has five digits at least (99,999,999 s are 1,666,666 min), or is exact.
    assert left - parsed <= max(left * 1e-3, 1e-9)


@settings(max_examples=40)
@given(st.integers(0, 99_999_999), st.sampled_from(sorted(SIZES)))
def test_grpc_text_is_read_by_its_unit(count: int, unit: str) -> None:
    assert parse_grpc_timeout(f"{count}{unit}") == pytest.approx(count * SIZES[unit])


@pytest.mark.parametrize(
    "text", ["", "m", "250", "250x", "-1m", "1.5S", "123456789n", "1 m", " 1m", "\u0663m", "1mm", None, 5]
)
def test_what_is_no_grpc_text_is_none(text: Any) -> None:
    assert parse_grpc_timeout(text) is None


def test_a_header_may_have_any_name() -> None:
    name = "x-the-time-that-is-left-for-this-request-in-milliseconds"
    headers: dict[str, str] = {}
    with deadline(1.0):
        inject_deadline(headers, header=name)
    assert extract_deadline(headers, header=name).remaining() is not None


def test_it_is_read_from_a_wsgi_environment(clock: FakeClock) -> None:
    environment = {"wsgi.input": object(), "HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS": "250", "HTTP_HOST": "here"}
    assert extract_deadline(environment).remaining() == 0.25


def test_what_was_written_in_another_case_is_replaced() -> None:
    headers = {"X-Envoy-Expected-Rq-Timeout-Ms": "60000", "Accept": "*/*"}
    with deadline(1.0):
        inject_deadline(headers)
    assert set(headers) == {HEADER, "Accept"}


@pytest.mark.parametrize("most", [True, 0.0, -1.0, "1"])
def test_the_most_is_a_time(most: Any) -> None:
    with pytest.raises(ValueError, match="most must be"):
        extract_deadline({}, most=most)
