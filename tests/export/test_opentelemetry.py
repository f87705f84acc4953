"""What OpenTelemetry is told: metrics through the SDK and over OTLP, and events on the spans they happened in."""

from __future__ import annotations

import asyncio
import gzip
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from failsoft import CircuitOpenError, Fallback, FallbackType, Registry, events
from failsoft.export.opentelemetry import observe, span_events
from failsoft.streams.watched import Watch
from failsoft.testing import FakeClock

from .conftest import BROKEN_AFTER, DURATIONS, SEQUENCE, SILENCE


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    yield (reader := InMemoryMetricReader())
    reader.shutdown()


def numbers(reader: InMemoryMetricReader) -> dict[str, dict[tuple[str, ...], float]]:
    """By the name of the metric, and the values of attributes."""
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = {
                    tuple(map(str, (point.attributes or {}).values())): point.value for point in metric.data.data_points
                }
                assert len(points) == len(metric.data.data_points)
                found[metric.name] = points
    return found


def test_the_numbers_are_those_of_the_program(source: Registry, reader: InMemoryMetricReader) -> None:
    stop = observe(source, meter=MeterProvider([reader]).get_meter("test"))
    found = numbers(reader)
    assert found["failsoft.calls"]["market", "quote"] == len(DURATIONS)
    assert found["failsoft.failures"]["db", "robots"] == BROKEN_AFTER
    assert found["failsoft.fallbacks"]["db", "robots"] == 4
    assert found["failsoft.breaker.state"]["db", "OPEN"] == 1
    assert sum(found["failsoft.breaker.state"].values()) == sum(1 for _ in source.with_shards())
    assert found["failsoft.breaker.transitions"]["db",] == 1
    assert found["failsoft.capacity"]["market",] == 0.5
    assert found["failsoft.call.duration.sum"]["market", "quote"] == pytest.approx(sum(DURATIONS))
    p50, _p95, p99 = source["market"].recorded[0].recent.quantiles()
    assert found["failsoft.call.duration.quantile"]["market", "quote", "0.5"] == p50
    assert found["failsoft.call.duration.quantile"]["market", "quote", "0.99"] == p99
    assert found["failsoft.bulkhead.limit"] == {("api",): 3, ("api[xetra]",): 3, ("api[nyse]",): 3}
    stop()
    assert not numbers(reader)


def test_streams(source: Registry, ticks: Watch[int], reader: InMemoryMetricReader) -> None:
    observe(source, meter=MeterProvider([reader]).get_meter("test"))
    found = numbers(reader)
    assert found["failsoft.stream.items"] == {("market", "ticks"): len(SEQUENCE)}
    assert found["failsoft.stream.gaps"]["market", "ticks"] == 1
    assert found["failsoft.stream.item_age"]["market", "ticks"] == SILENCE
    assert found["failsoft.streams"]["market", "ticks", "stale"] == sum(found["failsoft.streams"].values()) == 1


def test_it_begins_anew_and_twice_is_once(source: Registry, reader: InMemoryMetricReader) -> None:
    """An SDK hears only the first instrument of a name, and adds up what one instrument is told twice."""
    meter = MeterProvider([reader]).get_meter("test")
    observe(source, meter=meter)()
    assert not numbers(reader)
    first, second = observe(source, meter=meter), observe(source, meter=meter)
    assert numbers(reader)["failsoft.calls"]["market", "quote"] == len(DURATIONS)
    first()
    assert numbers(reader)["failsoft.calls"]["market", "quote"] == len(DURATIONS)
    other = Registry()
    other.integration("else", "cache").record("get").record_ns(1000)
    observe(other, meter=meter)
    assert numbers(reader)["failsoft.calls"] == {**numbers(reader)["failsoft.calls"], ("else", "get"): 1}
    assert ("market", "quote") in numbers(reader)["failsoft.calls"]
    second()
    assert numbers(reader)["failsoft.calls"] == {("else", "get"): 1}


def test_each_collection_looks_anew(clock: FakeClock, reader: InMemoryMetricReader, monkeypatch: Any) -> None:
    source = Registry()
    record = source.integration("market", "cache").record("quote")
    observe(source, meter=MeterProvider([reader]).get_meter("test"))
    now = iter(range(1_000_000))
    monkeypatch.setattr("failsoft.export.opentelemetry.time.monotonic", lambda: next(now))
    for count in range(1, 4):
        record.record_ns(1000)
        assert numbers(reader)["failsoft.calls"]["market", "quote"] == count


def test_units_and_kinds(source: Registry, reader: InMemoryMetricReader) -> None:
    observe(source, meter=MeterProvider([reader]).get_meter("test"))
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert metrics["failsoft.breaker.state_age"].unit == "s"
    assert metrics["failsoft.call.duration.sum"].unit == "s"
    assert type(metrics["failsoft.calls"].data).__name__ == "Sum"
    assert metrics["failsoft.calls"].data.is_monotonic  # type: ignore[union-attr]
    assert type(metrics["failsoft.capacity"].data).__name__ == "Gauge"
    assert all(name == name.lower() and name.startswith("failsoft.") for name in metrics)


@pytest.fixture
def otlp() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP receiver: its address, and the bodies that have come."""
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/metrics", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_otlp_carries_it(otlp: tuple[str, list[bytes]]) -> None:
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    source = Registry()
    hostile = 'quo"te\n\ud800'
    for _ in range(3):
        source.integration("market", "cache").record(hostile).record_ns(1000)
    address, bodies = otlp
    provider = MeterProvider([PeriodicExportingMetricReader(exporter.OTLPMetricExporter(address), 1e9)])
    stop = observe(source, meter=provider.get_meter("test"))
    assert provider.force_flush()
    stop()
    provider.shutdown()
    request = ExportMetricsServiceRequest.FromString(bodies[0])
    metrics = {m.name: m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}
    (point,) = metrics["failsoft.calls"].sum.data_points
    assert point.as_int == 3
    assert {a.key: a.value.string_value for a in point.attributes} == {
        "failsoft.integration": "market",
        "failsoft.operation": 'quo"te\n\\ud800',
    }


def test_without_the_api_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.setitem(sys.modules, name, None)
    for function in (observe, span_events):
        with pytest.raises(ImportError, match=r"pip install 'failsoft\[opentelemetry\]'"):
            function()


# ---- spans


class Spans:
    """A tracer, and what it has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    def events(self, name: str) -> list[Any]:
        return [event for span in self._exporter.get_finished_spans() if span.name == name for event in span.events]


@pytest.fixture
def spans(clock: FakeClock) -> Iterator[Spans]:
    quiet = span_events()
    yield Spans()
    quiet()


def failing(source: Registry, name: str = "db", **options: Any) -> Callable[[], Any]:
    retry = {"max_retries": 1, "initial_delay": 0.01, "max_delay": 0.01, "jitter": False}
    breaker = {"failure_threshold": 2}
    integration = source.integration(name, "database", retry_policy=retry, circuit_breaker=breaker)

    @integration.guard(operation="robots", **options)
    def robots() -> None:
        raise ConnectionError("a secret in the text")

    return robots


def test_names_on_spans_can_be_sent(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that cannot encode one name loses all the spans that it sends with it."""
    monkeypatch.setattr(logging.getLogger("failsoft"), "propagate", False)  # nor could a report of this test be sent
    robots = failing(Registry(), name="\ud800" + "M" * 100_000)
    with spans.tracer.start_as_current_span("first"), pytest.raises(ConnectionError):
        robots()
    told = [value for event in spans.events("first") for value in event.attributes.values() if isinstance(value, str)]
    assert any(name.startswith("\\ud800MMM") for name in told)
    assert all(len(name.encode()) < 400 for name in told)


def test_events_are_on_the_span_they_happened_in(spans: Spans) -> None:
    mock = Fallback(FallbackType.MOCK, list)
    robots = failing(Registry(), fallbacks=[mock])
    with spans.tracer.start_as_current_span("first"):
        robots()
    with spans.tracer.start_as_current_span("second"):
        robots()
    first, second = spans.events("first"), spans.events("second")
    assert [event.name for event in first] == ["failsoft.retry", "failsoft.transition", "failsoft.fallback"]
    assert [event.name for event in second] == ["failsoft.refusal", "failsoft.fallback"]
    assert dict(first[0].attributes) == {
        "failsoft.integration": "db",
        "failsoft.operation": "robots",
        "failsoft.attempt": 2,
        "failsoft.delay": 0.01,
        "failsoft.category": "NETWORK",
        "error.type": "ConnectionError",
    }
    assert first[1].attributes["failsoft.previous"] == "CLOSED"
    assert first[1].attributes["failsoft.state"] == "OPEN"
    assert first[1].attributes["failsoft.reason"] == "consecutive_failures"
    assert first[2].attributes["failsoft.type"] == "mock"
    assert second[0].attributes["failsoft.state"] == "OPEN"
    assert second[0].attributes["failsoft.retry_after"] > 0
    assert "secret" not in str([event.attributes for event in (*first, *second)])


def test_without_a_recording_span_nothing_is_noted(spans: Spans) -> None:
    robots = failing(Registry())
    with pytest.raises(ConnectionError):
        robots()
    with pytest.raises(CircuitOpenError):
        robots()


def test_tasks_have_spans_of_their_own(spans: Spans) -> None:
    source = Registry()

    async def work(name: str) -> None:
        integration = source.integration(name, "database", retry_policy={"max_retries": 2, "initial_delay": 0.01})

        @integration.guard(operation="robots")
        async def robots() -> None:
            await asyncio.sleep(0)
            raise ConnectionError

        with spans.tracer.start_as_current_span(name):
            with pytest.raises(ConnectionError):
                await robots()

    async def main() -> None:
        await asyncio.gather(*(work(f"db{n}") for n in range(5)))

    asyncio.run(main())
    for n in range(5):
        assert [event.attributes["failsoft.integration"] for event in spans.events(f"db{n}")] == [f"db{n}"] * 2


def test_a_thread_that_delivers_for_others_keeps_their_events_off_its_span(spans: Spans) -> None:
    """One thread is held up in a listener, and will deliver what others leave in the queue for it."""
    source, held, go_on = Registry(), threading.Event(), threading.Event()

    def slow(event: Any) -> None:
        if event.integration == "slow":
            held.set()
            assert go_on.wait(10)

    unsubscribe = events.subscribe(slow, events.Transition)
    slow_robots, quick_robots = failing(source, "slow"), failing(source, "quick")

    def call(robots: Callable[[], Any], name: str) -> None:
        with spans.tracer.start_as_current_span(name), pytest.raises(ConnectionError):
            robots()

    thread = threading.Thread(target=call, args=(slow_robots, "slow"))
    thread.start()
    assert held.wait(10)
    call(quick_robots, "quick")
    go_on.set()
    thread.join()
    unsubscribe()
    for name in ("slow", "quick"):
        assert {event.attributes["failsoft.integration"] for event in spans.events(name)} == {name}
        assert [event.name for event in spans.events(name)] == ["failsoft.retry", "failsoft.transition"]


def test_when_it_has_ended_nothing_listens(clock: FakeClock) -> None:
    kinds = (events.Refusal, events.Retry, events.Transition, events.FallbackUsed)
    assert not any(map(events.listening, kinds))
    quiet = span_events()
    assert all(map(events.listening, kinds))
    quiet()
    assert not any(map(events.listening, kinds))


def test_a_span_that_raises_changes_nothing(spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    robots = failing(Registry())
    with spans.tracer.start_as_current_span("first") as span:
        monkeypatch.setattr(type(span), "add_event", lambda *_: 1 / 0)
        with pytest.raises(ConnectionError):
            robots()
    assert "ZeroDivisionError" in caplog.text
