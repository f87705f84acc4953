"""The parts of the demo that judge the rest: the tick book, the plan, the settings, the verdict."""

from __future__ import annotations

import pytest

pytest.importorskip("websockets")

from failsoft import IntegrationType, default_config
from failsoft.demo.book import TickBook, tick_handler
from failsoft.demo.faults import all_faults
from failsoft.demo.market import SYMBOLS, TICKS_PER_FRAME, Market, decode
from failsoft.demo.plan import plan
from failsoft.demo.report import span
from failsoft.demo.settings import MINIMUM_SECONDS, derive, differences
from failsoft.demo.summary import Latency, Outcome, Summary, Trip


def _deliver(book: TickBook, session: int, first: int, count: int) -> None:
    book.frame(session, first, count)
    on_tick = tick_handler(book)
    for sequence in range(first, first + count):
        on_tick("KO", 1.0, sequence)


def test_ticks_in_order_leave_no_gap() -> None:
    book = TickBook()
    book.reconnected()
    _deliver(book, 1, 240, 10)
    _deliver(book, 1, 250, 10)
    assert (book.arrived, book.handled, book.gaps, book.unexplained) == (20, 20, 0, 0)
    assert book.last_known("KO") == 1.0


def test_a_gap_after_a_reconnect_is_explained_and_measured() -> None:
    book = TickBook()
    book.reconnected()
    _deliver(book, 1, 0, 10)
    book.reconnected()
    _deliver(book, 1, 40, 10)
    assert (book.gaps, book.missed, book.unexplained) == (1, 30, 0)


def test_a_restarted_server_is_a_gap() -> None:
    book = TickBook()
    book.reconnected()
    _deliver(book, 1, 0, 10)
    book.reconnected()
    _deliver(book, 2, 0, 10)
    assert (book.gaps, book.missed, book.unexplained) == (1, 0, 0)


def test_a_gap_while_connected_is_a_lost_tick() -> None:
    book = TickBook()
    book.reconnected()
    _deliver(book, 1, 0, 10)
    _deliver(book, 1, 11, 10)
    assert (book.gaps, book.unexplained) == (0, 1)


def test_the_market_repeats_itself_for_a_seed() -> None:
    frame = Market(seed=7, session=1).next_frame()
    assert frame == Market(seed=7, session=1).next_frame()
    assert frame != Market(seed=8, session=1).next_frame()
    assert frame != Market(seed=7, session=2).next_frame()


def test_frames_are_numbered_without_a_hole() -> None:
    market = Market(seed=1, session=3)
    frames = [decode(market.next_frame()) for _ in range(3)]
    assert [frame.first for frame in frames] == [0, TICKS_PER_FRAME, 2 * TICKS_PER_FRAME]
    assert {frame.session for frame in frames} == {3}
    assert {symbol for frame in frames for symbol, _ in frame.ticks} <= set(SYMBOLS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "Expecting value"), ("[1,2]", "values to unpack"), ("[1,0,[[", "Expecting value"), (b"\xff", "decode")],
)
def test_what_is_not_a_frame_is_a_value_error(text: str | bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode(text)


@pytest.mark.parametrize("seconds", [MINIMUM_SECONDS, 20.0, 300.0])
def test_the_plan_fills_its_length(seconds: float) -> None:
    schedule = plan(all_faults(derive(seconds)), seconds)
    steps = sum(slot.hold + slot.rest for slot in schedule.slots)
    assert schedule.warm_up + steps + schedule.cool_down == pytest.approx(seconds)
    for before, after in zip(schedule.slots, schedule.slots[1:], strict=False):
        assert after.start == pytest.approx(before.start + before.hold + before.rest)


def test_every_fault_holds_longer_than_its_breakers_need() -> None:
    settings = derive(MINIMUM_SECONDS)
    for slot in plan(all_faults(settings), MINIMUM_SECONDS).slots:
        if slot.fault.opens:
            assert slot.hold > settings.quotes.circuit_breaker.timeout
            assert slot.rest > settings.quotes.circuit_breaker.reset_timeout


def test_differences_name_every_changed_setting() -> None:
    config = default_config(IntegrationType.CACHE)
    assert differences(config) == []
    changed = config.with_(retry_policy={"max_retries": 4}, health_check_interval=7.0)
    assert differences(changed) == [("retry_policy.max_retries", 1, 4), ("health_check_interval", 60.0, 7.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ns"), (2.1e-7, "210 ns"), (4.25e-6, "4.25 us"), (0.0312, "31.2 ms"), (12.0, "12 s")],
)
def test_span_chooses_the_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


_GOOD = Summary(
    seconds=8.0,
    seed=1,
    clock_source="fake",
    faults_planned=2,
    outcomes=(Outcome("slow replies", (Trip("quotes", 0.3, 0.2),), 0), Outcome("malformed frames", (), 12)),
    arrived=100,
    handled=100,
    flowing_seconds=4.0,
    gaps=1,
    missed=5,
    unexplained_gaps=0,
    bad_frames=12,
    quotes=9,
    fallbacks=3,
    unanswered=0,
    unhandled=(),
    handler=Latency(0.1, 0.2, 0.3),
    quote=Latency(1000.0, 2000.0, 3000.0),
    bare_ns=100.0,
    guard_overhead_ns=30.0,
)


def test_a_good_run_passes() -> None:
    assert _GOOD.passed
    result = _GOOD.to_dict()
    assert (result["opened"], result["recovered"], result["should_open"]) == (1, 1, 1)
    assert (result["time_to_open_s"], result["time_to_recover_s"]) == (0.3, 0.2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"handled": 99}, "1 ticks arrived and were not handled"),
        ({"arrived": 0, "handled": 0}, "no tick arrived"),
        ({"unexplained_gaps": 2}, "2 sequence gaps while connected"),
        ({"bad_frames": 0}, "no malformed frame was noticed"),
        ({"unhandled": ("KeyError('KO')",)}, "1 unhandled exceptions, first KeyError('KO')"),
        ({"faults_planned": 3}, "only 2 of 3 faults were injected"),
        (
            {"outcomes": (Outcome("SIGSTOP", (Trip("feed", None, None),), 0), _GOOD.outcomes[1])},
            "SIGSTOP: the breaker of feed did not open",
        ),
        (
            {"outcomes": (Outcome("SIGSTOP", (Trip("feed", 0.4, None),), 0), _GOOD.outcomes[1])},
            "SIGSTOP: the breaker of feed did not close again",
        ),
    ],
)
def test_a_bad_run_says_why(change: dict[str, object], complaint: str) -> None:
    assert _GOOD._replace(**change).failures == [complaint]  # type: ignore[arg-type]
