"""What Prometheus reads: the same from both writers, understood by its own parsers, and never going back."""

from __future__ import annotations

import gc
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from failsoft import Bulkhead, LatencyHistogram, Registry, default_config, registry
from failsoft._core import EVENTS
from failsoft.export.buckets import DEFAULT, MOST, buckets_of
from failsoft.export.prometheus import CLASSIC, OPENMETRICS, collector, render, respond
from failsoft.export.reading import NAME_MOST
from failsoft.export.text import Writer
from failsoft.streams import StreamState, tally
from failsoft.streams.tally import NOTES_MOST
from failsoft.streams.watched import Watch
from failsoft.testing import FakeClock

from .conftest import BROKEN_AFTER, DURATIONS, SILENCE

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def flat(parsed: Iterator[Any]) -> Samples:
    """Every sample by name and labels; twice the same is an error."""
    found: Samples = {}
    for family in parsed:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def samples(source: Registry, **options: Any) -> Samples:
    classic = flat(parse_classic(render(source, **options).decode()))
    assert flat(parse_openmetrics(render(source, openmetrics=True, **options).decode())) == classic
    return classic


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_both_parsers_and_both_writers_agree(source: Registry) -> None:
    ours = samples(source)
    theirs = CollectorRegistry()
    theirs.register(collector(source))
    assert flat(parse_classic(exposition.generate_latest(theirs).decode())) == ours
    assert flat(parse_openmetrics(openmetrics_exposition.generate_latest(theirs).decode())) == ours
    assert len(ours) > 300


def test_one_that_has_gone_takes_no_other_along(source: Registry) -> None:
    """As an integration of an arena may, between its name and its numbers."""

    class Gone:
        name = family = "gone"
        type = "cache"
        passes_through = False

        def status(self) -> Any:
            raise KeyError(7)

    class Leaving:
        def with_shards(self) -> Iterator[Any]:
            yield Gone()
            yield from source.with_shards()

    leaving: Any = Leaving()
    assert samples(leaving) == samples(source)


def test_the_numbers_are_those_of_the_program(source: Registry) -> None:
    found = samples(source)
    quote = {"integration": "market", "operation": "quote"}
    robots = {"integration": "db", "operation": "robots"}
    assert value(found, "failsoft_calls_total", **quote) == len(DURATIONS)
    assert value(found, "failsoft_failures_total", **quote) == 0
    assert value(found, "failsoft_slow_calls_total", **quote) == 1
    assert value(found, "failsoft_call_duration_seconds_count", **quote) == len(DURATIONS)
    assert value(found, "failsoft_call_duration_seconds_sum", **quote) == pytest.approx(sum(DURATIONS), abs=1e-6)
    assert value(found, "failsoft_calls_total", **robots) == BROKEN_AFTER
    assert value(found, "failsoft_failures_total", **robots) == BROKEN_AFTER
    assert value(found, "failsoft_fallbacks_total", **robots) == 4
    assert value(found, "failsoft_rejected_total", **robots) > 0
    assert value(found, "failsoft_retries_total", **robots) == source["db"].metrics("robots").retries > 0
    assert value(found, "failsoft_calls_total", integration="api[nyse]", operation="ask") == 2
    assert value(found, "failsoft_integration_info", integration="idle", type="cache") == 1


def test_the_standing_of_each_integration(source: Registry) -> None:
    found = samples(source)
    status = source.status("db")
    for state in ("CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY"):
        assert value(found, "failsoft_breaker_state", integration="db", state=state) == (state == "OPEN")
        assert value(found, "failsoft_breaker_state", integration="market", state=state) == (state == "CLOSED")
    assert value(found, "failsoft_breaker_transitions_total", integration="db") == 1
    assert value(found, "failsoft_breaker_consecutive_failures", integration="db") == BROKEN_AFTER
    assert value(found, "failsoft_breaker_retry_after_seconds", integration="db") == status.retry_after
    assert value(found, "failsoft_capacity_ratio", integration="db") == 0
    assert value(found, "failsoft_capacity_ratio", integration="market") == 0.5
    assert value(found, "failsoft_guards_disabled", integration="db") == 0
    budget = source["db"].budget()
    assert budget is not None
    assert value(found, "failsoft_retry_budget_retries_total", integration="db") == budget.retries
    assert value(found, "failsoft_retry_budget_full", integration="db") == budget.full
    assert value(found, "failsoft_bulkhead_limit", integration="api") == 3
    assert value(found, "failsoft_rate_limit_burst", integration="api") == 5
    assert value(found, "failsoft_throttle_ratio", integration="api") == 0
    # What there is none of is absent, rather than a number that means nothing.
    for name in ("failsoft_breaker_retry_after_seconds", "failsoft_breaker_failure_ratio", "failsoft_bulkhead_limit"):
        assert (name, frozenset({("integration", "idle")})) not in found
    # Keys share the budget of their integration.
    assert ("failsoft_retry_budget_full", frozenset({("integration", "api[nyse]")})) not in found


def test_streams(source: Registry, ticks: Watch[int]) -> None:
    found = samples(source)
    labels = {"integration": "market", "operation": "ticks"}
    metrics = ticks.metrics()
    assert (metrics.items, metrics.gaps, metrics.missing) == (6, 1, 2)
    for field in ("items", "gaps", "missing", "duplicates", "disorder", "stale", "reconnects", "dropped"):
        assert value(found, f"failsoft_stream_{field}_total", **labels) == getattr(metrics, field)
    assert value(found, "failsoft_stream_item_age_seconds", **labels) == SILENCE
    for state in StreamState:
        assert value(found, "failsoft_streams", **labels, state=state) == (state is StreamState.STALE)


def test_what_a_stream_had_counted_stays_when_it_is_gone(clock: FakeClock) -> None:
    source = Registry()
    feed = source.integration("feed", "market_data")
    ticks = {"integration": "feed", "operation": "ticks"}
    for made in range(1, NOTES_MOST + 10):
        stream = feed.watch([1, 2, 3], operation="ticks")
        list(stream)
        if made in (1, 2, NOTES_MOST + 9):
            found = samples(source)
            assert value(found, "failsoft_stream_items_total", **ticks) == 3 * made
            assert value(found, "failsoft_streams", **ticks, state="live") == 1
    del stream
    found = samples(source)
    assert value(found, "failsoft_stream_items_total", **ticks) == 3 * made
    assert value(found, "failsoft_streams", **ticks, state="live") == 0
    assert ("failsoft_stream_item_age_seconds", frozenset(ticks.items())) not in found
    source.close()
    assert not any(name.startswith("failsoft_stream") for name, _ in samples(source))


def test_a_stream_that_is_not_whole_is_not_read(clock: FakeClock) -> None:
    """Another thread may look while one is being made; and who keeps the error keeps what was never made."""
    source = Registry()
    feed = source.integration("feed", "market_data")
    with pytest.raises(ValueError, match="close_timeout") as caught:
        feed.stream(lambda: iter(()), stale_after=1.0, close_timeout=-1.0)  # type: ignore[arg-type,return-value]
    assert caught.tb is not None
    assert not any(name.startswith("failsoft_stream") for name, _ in samples(source))


def test_notes_of_streams_do_not_pile_up(clock: FakeClock) -> None:
    """Though nobody ever exports."""
    feed = Registry().integration("feed", "market_data")
    for _ in range(3 * NOTES_MOST):
        feed.watch([], operation="ticks")
    assert len(tally._notes) <= NOTES_MOST + 1


def test_a_histogram_counts_what_is_at_or_below_each_bound(source: Registry) -> None:
    bounds = (0.0004, 0.001, 0.004, 0.1, 1.0, 60.0)
    found = samples(source, buckets=bounds)
    for bound in bounds:
        labels = {"integration": "market", "operation": "quote", "le": repr(bound)}
        below = sum(seconds <= bound for seconds in DURATIONS)
        assert value(found, "failsoft_call_duration_seconds_bucket", **labels) == below


@given(
    st.lists(st.integers(0, 2**42), max_size=50),
    st.lists(st.integers(0, 2**43), min_size=1, max_size=MOST).map(sorted),
)
def test_counts_below_any_bounds(values: list[int], bounds: list[int]) -> None:
    histogram = LatencyHistogram()
    for ns in values:
        histogram.record_ns(ns)
    for view in (histogram, histogram.recent):
        counts, count, summed = view.counts_below(bounds)
        assert (count, len(counts)) == (len(values), len(bounds))
        assert summed == sum(min(ns, 2**42 - 1) for ns in values)
        assert list(counts) == sorted(counts)
        for bound, below in zip(bounds, counts, strict=True):
            assert sum(ns <= bound for ns in values) <= below <= sum(ns <= bound + bound // 64 for ns in values)


def test_counts_below_refuses_nonsense() -> None:
    histogram = LatencyHistogram()
    with pytest.raises(ValueError, match="ascend"):
        histogram.counts_below((2, 1))
    with pytest.raises(ValueError, match="at most 64"):
        histogram.counts_below(range(65))
    with pytest.raises(OverflowError):
        histogram.counts_below((-1,))
    assert histogram.counts_below(()) == ((), 0, 0)


class Busy:
    """An operation that is called after each look at it."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __getattr__(self, name: str) -> Any:
        def look(*args: Any) -> Any:
            told = getattr(self._record, name)(*args)
            self._record.record_ns(1000)
            return told

        return look


def test_the_numbers_of_a_histogram_are_of_one_look(clock: FakeClock) -> None:
    source = Registry()
    market = source.integration("market", "cache")
    busy = Busy(market.record("quote"))

    class Source:
        name, family, type, operations, recorded, passes_through = (
            "market",
            "market",
            "cache",
            ("quote",),
            (busy,),
            False,
        )
        status, budget, load_if_any = market.status, market.budget, market.load_if_any

        def with_shards(self) -> Any:
            return iter((self,))

    quote = {"integration": "market", "operation": "quote"}
    for read in (
        lambda: flat(parse_classic(render(Source()).decode())),  # type: ignore[arg-type]
        lambda: flat(parse_openmetrics(render(Source(), openmetrics=True).decode())),  # type: ignore[arg-type]
        lambda: flat(collector(Source()).collect()),  # type: ignore[arg-type]
    ):
        found = read()
        count = value(found, "failsoft_call_duration_seconds_count", **quote)
        assert value(found, "failsoft_call_duration_seconds_bucket", **quote, le="+Inf") == count
        assert value(found, "failsoft_call_duration_seconds_bucket", **quote, le="0.001") == count
        assert value(found, "failsoft_call_duration_seconds_sum", **quote) * 1e9 == pytest.approx(count * 1000)
    assert count > 0


HOSTILE = {
    "quotes": 'a"b',
    "backslashes": "a\\b\\n\\",
    "lines": "a\nb\r\nc\u2028d\x85e",
    "a sample": 'x"} 1\nfailsoft_calls_total{integration="y',
    "NUL": "a\0b",
    "right to left": "\u202eabc",
    "markup": "<script>alert(1)</script>",
    "percent": "100%s %d %%",
    "braces": "{0} {}",
    "blanks": "  ",
    "emoji": "\U0001f4a5",
    "a lone surrogate": "a\ud800b",
    "a megabyte": "é" * 1_000_000,
}


@pytest.mark.parametrize("name", list(HOSTILE.values()), ids=list(HOSTILE))
def test_hostile_names_are_but_labels(name: str, clock: FakeClock) -> None:
    source = Registry()
    source.integration(name, "cache").record(name)
    found = samples(source)
    (labels,) = (dict(labels) for sample, labels in found if sample == "failsoft_calls_total")
    if len(name) > NAME_MOST:
        assert labels["integration"][:100] == labels["operation"][:100] == name[:100]
        assert len(labels["integration"]) == NAME_MOST
    else:
        shown = name.encode("utf-8", "backslashreplace").decode()
        assert labels == {"integration": shown, "operation": shown}
    theirs = CollectorRegistry()
    theirs.register(collector(source))
    assert flat(parse_classic(exposition.generate_latest(theirs).decode())) == found
    assert not {sample for sample, _ in found if not sample.startswith("failsoft_")}


def test_names_that_look_alike_are_two_series(clock: FakeClock) -> None:
    source = Registry()
    api = source.integration("api", "external_api")
    guard = api.guard(lambda key: key, operation="ask", key=lambda key: key)
    guard(1), guard("1")
    source.integration("long" * 1000 + "a", "cache")
    source.integration("long" * 1000 + "b", "cache")
    found = samples(source)
    calls = {dict(labels)["integration"]: n for (name, labels), n in found.items() if name == "failsoft_calls_total"}
    assert {name: n for name, n in calls.items() if n} == {"api[1]": 1, "api[1] (2)": 1}
    assert sum(name == "failsoft_integration_info" for name, _ in found) == 5


def test_registering_twice_is_an_error_and_another_registry_is_none(source: Registry) -> None:
    one, other, ours = CollectorRegistry(), CollectorRegistry(), collector(source)
    one.register(ours)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        one.register(ours)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        one.register(collector(Registry()))
    other.register(ours)
    assert exposition.generate_latest(one) == exposition.generate_latest(other)


def test_what_is_described_is_what_is_collected(source: Registry) -> None:
    ours = collector(source)
    described = {(metric.name, metric.type, metric.unit) for metric in ours.describe()}
    assert {(metric.name, metric.type, metric.unit) for metric in ours.collect()} <= described


def test_without_a_source_the_default_registry_is_read_as_it_is_then() -> None:
    theirs = CollectorRegistry()
    theirs.register(collector())
    registry.default.close()
    assert "failsoft_calls_total" not in exposition.generate_latest(theirs).decode()
    registry.default.integration("later", "cache").record("get")
    try:
        assert (
            'failsoft_calls_total{integration="later",operation="get"} 0.0'
            in exposition.generate_latest(theirs).decode()
        )
        assert b'integration="later",operation="get"' in render()
    finally:
        registry.default.close()
    assert b"later" not in render()  # a series ends with what it told of


def test_an_empty_source_is_a_page_all_the_same() -> None:
    assert (
        flat(parse_classic(render(Registry()).decode())).keys()
        == flat(parse_openmetrics(render(Registry(), openmetrics=True).decode())).keys()
    )


def test_a_reset_of_metrics_takes_nothing_back(source: Registry) -> None:
    before = samples(source)
    source.metrics.reset()
    assert source["market"].metrics("quote").count == 0
    assert samples(source) == before


def test_a_loop_of_scrapes_forgets_what_has_gone(clock: FakeClock) -> None:
    source = Registry()
    guard = source.integration("api", "cache").guard(lambda key: key, operation="ask", key=lambda key: key, max_keys=2)
    ours = collector(source)
    for key in range(6):
        guard(key)
        shown = {
            sample.labels["integration"]
            for metric in ours.collect()
            for sample in metric.samples
            if sample.labels.get("operation")
        }
        assert len(shown) <= 3
    assert len(ours._histograms) <= 3


def test_a_page_is_the_same_with_and_without_one_before_it(source: Registry, clock: FakeClock) -> None:
    """What is kept from scrape to scrape is never older than the page."""
    ours = collector(source)
    ask = source["api"].guard(lambda key: key, operation="ask too", key=lambda key: key, max_keys=2)

    def fails() -> None:
        raise ConnectionError("gone")

    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: source["market"].record("quote").record_ns(70_000),
        lambda: source["market"].record("another"),
        lambda: source["idle"].record("one").note(EVENTS.index("timeouts")),
        lambda: clock.advance(7.0),
        lambda: source["market"].force_open(),
        lambda: source["market"].reset(),
        lambda: source.integration("new", "cache", bulkhead=Bulkhead(4)).record("first"),
        lambda: source["new"].reconfigure(default_config("cache")),
        lambda: source["new"].guard(fails, operation="fails").outcome(),
        *(lambda key=key: ask(key) for key in "abcab"),  # type: ignore[misc]
        source.disable,
        source.close,
        lambda: source.integration("market", "cache").record("quote"),  # of the names of one that has gone
        lambda: source["market"].record("quote").record_ns(10),
    ]
    for change in changes:
        change()
        for openmetrics in (False, True):
            assert render(source, openmetrics=openmetrics) == Writer(buckets_of(DEFAULT)).page(
                source, openmetrics=openmetrics
            )
        kept, fresh = list(ours.collect()), list(collector(source).collect())
        assert kept == fresh
        if change in changes[-4:]:  # parsers take their time
            assert flat(iter(kept)) == samples(source)
        for metric in kept:  # whoever asks may do with them as he likes
            metric.samples.clear()


def test_of_one_name_and_sum_but_other_durations(clock: FakeClock) -> None:
    """A key that went and came back has counted anew, whatever it had come to before."""
    source = Registry()
    bounds = (1e-6, 2e-6, 3e-6)
    for durations in ((1_000, 3_000), (2_000, 2_000)):
        record = source.integration("api", "cache").record("ask")
        for ns in durations:
            record.record_ns(ns)
        found = samples(source, buckets=bounds)
        for bound in bounds:
            labels = {"integration": "api", "operation": "ask", "le": repr(bound)}
            below = sum(ns <= bound * 1e9 for ns in durations)
            assert value(found, "failsoft_call_duration_seconds_bucket", **labels) == below
        source.close()


def test_what_is_kept_keeps_no_source_alive(clock: FakeClock) -> None:
    source = Registry()
    source.integration("api", "cache").record("ask")
    render(source)
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, CLASSIC),
        ("", CLASSIC),
        ("*/*", CLASSIC),
        ("text/html,application/xhtml+xml", CLASSIC),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0", CLASSIC),
        ("application/openmetrics-text;version=2.0.0", CLASSIC),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", CLASSIC),
        ("application/openmetrics-text;q=x;;;=,", CLASSIC),
        ("," * 1000, CLASSIC),
    ],
    ids=str,
)
def test_the_format_is_what_was_asked_for(accept: str | None, content_type: str) -> None:
    page, told = respond(Registry(), accept)
    assert told == content_type
    assert page.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


@pytest.mark.parametrize(
    ("buckets", "words"),
    [
        ((), "1 to 64"),
        ((math.inf,), "1 to 64"),
        (tuple(n + 1.0 for n in range(65)), "1 to 64"),
        ((0.0, 1.0), r"buckets\[0\]"),
        ((1.0, 1.0), r"buckets\[1\]"),
        ((2.0, 1.0), r"buckets\[1\]"),
        ((1.0, math.nan), r"buckets\[1\]"),
        ((1.0, 1e6), r"buckets\[1\]"),
    ],
    ids=str,
)
def test_bounds_are_checked(buckets: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render(Registry(), buckets=buckets)
    with pytest.raises(ValueError, match=words):
        collector(Registry(), buckets=buckets)


def test_the_default_bounds_hold_those_of_prometheus_client() -> None:
    from prometheus_client import Histogram

    assert set(Histogram.DEFAULT_BUCKETS) - {math.inf} <= set(DEFAULT)
    assert list(DEFAULT) == sorted(DEFAULT)


def test_without_prometheus_client_there_is_render(monkeypatch: pytest.MonkeyPatch, source: Registry) -> None:
    page = render(source)
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'failsoft\[prometheus\]'"):
        collector(source)
    assert render(source) == page
