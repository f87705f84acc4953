"""What a scrape costs, and that a guard does not notice one: metrics of a thousand operations, as they are read.

Each operation has 50 latencies spread over a dozen octaves. Times are of the processor, so that neighbours on a shared
machine count less, the least of several; prometheus-client renders what our collector gives it. A scrape takes over
from the last one what has not changed: of a first one, and of one before which every operation was called, the times
stand beside.
"""

from __future__ import annotations

import collections
import functools
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from armed import armed, armed_integration, identity
from groups import Contest, Effort, Findings, Row, Study, Target
from measure import Subject
from run_one import benchmarked

from failsoft import Registry
from failsoft.export import prometheus
from failsoft.export.prometheus import collector, render

OPERATIONS = 1_000
CALLS = 50
SPREAD = (11.0, 2.0)  # of the logarithm: a median of 60 us, one in a hundred above 6 ms
SCRAPE = Target(cap=20.0)


@functools.cache
def source(per_integration: int) -> Registry:
    """A registry with OPERATIONS operations, so many in each integration."""
    registry, draw = Registry(), random.Random(1)
    for number in range(OPERATIONS // per_integration):
        integration = armed_integration(f"integration-{number}", registry)
        for operation in range(per_integration):
            record = integration.record(f"operation_{operation}")
            for _ in range(CALLS):
                record.record_ns(int(draw.lognormvariate(*SPREAD)))
    return registry


def collected(registry: Registry) -> Callable[[], object]:
    ours = collector(registry)
    return lambda: list(ours.collect())


def first(registry: Registry, scrape: Callable[[], object]) -> Callable[[], object]:
    """As if nobody had scraped before."""

    def fresh() -> object:
        prometheus._writers.pop(registry, None)
        return scrape()

    return fresh


def all_called(registry: Registry, scrape: Callable[[], object]) -> Callable[[], object]:
    """After a call of each operation, which costs a hundredth of it."""
    records = [record for integration in registry for record in integration.recorded]

    def busy() -> object:
        for record in records:
            record.record_ns(70_000)
        return scrape()

    return busy


def client_renders(registry: Registry) -> Callable[[], object]:
    from prometheus_client import CollectorRegistry, generate_latest

    theirs = CollectorRegistry()
    theirs.register(collector(registry))
    return lambda: generate_latest(theirs)


def apart() -> Registry:
    return source(1)


def together() -> Registry:
    return source(20)


FIGURES: dict[str, Callable[[], Callable[[], object]]] = {
    "render()": lambda: functools.partial(render, together()),
    "render(openmetrics=True)": lambda: functools.partial(render, together(), openmetrics=True),
    "collect()": lambda: collected(together()),
    "prometheus-client on collect()": lambda: client_renders(together()),
    "render, the first": lambda: first(together(), functools.partial(render, together())),
    "render, all called since": lambda: all_called(together(), functools.partial(render, together())),
    "collect, the first": lambda: lambda: list(collector(together()).collect()),
    "collect, all called since": lambda: all_called(together(), collected(together())),
    "render(), an integration each": lambda: functools.partial(render, apart()),
    "collect(), an integration each": lambda: collected(apart()),
}


def milliseconds(function: Callable[[], object], repetitions: int) -> float:
    """The least processor time of one."""
    least = float("inf")
    for _ in range(repetitions):
        began = time.process_time()
        function()
        least = min(least, time.process_time() - began)
    return least * 1e3


def find(effort: Effort) -> Findings:
    findings = Findings()
    for name, figure in FIGURES.items():
        try:
            function = figure()
        except ImportError as reason:
            findings.skipped[name] = str(reason)
            continue
        findings.values[name] = milliseconds(function, effort.repetitions)
    return findings


def alone() -> Mapping[str, object]:
    return {"f": armed(identity), "x": 1}


def observed() -> Mapping[str, object]:
    """A guard of a registry that has been scraped, with everything attached that can be."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from prometheus_client import CollectorRegistry, generate_latest

    from failsoft.export.opentelemetry import observe, span_events

    registry = Registry()
    guard = armed(identity, integration=armed_integration(registry=registry))
    theirs, reader = CollectorRegistry(), InMemoryMetricReader()
    theirs.register(collector(registry))
    observe(registry, meter=MeterProvider([reader]).get_meter("benchmark"))
    span_events()
    generate_latest(theirs)
    reader.get_metrics_data()
    return {"f": guard, "x": 1, "reader": reader, "theirs": theirs}


def watched() -> Mapping[str, object]:
    """A guard of a registry that the dashboard shows and alerts look at, both at work in threads of their own."""
    import threading
    from urllib.request import urlopen

    from failsoft import dashboard
    from failsoft.alerts import Alerts, default_rules

    registry = Registry()
    guard = armed(identity, integration=armed_integration(registry=registry))
    alerts = Alerts(default_rules(), sinks=[lambda notice: None], source=registry).start()
    told: list[str] = []
    heard = threading.Event()

    def ready(url: str) -> None:
        told.append(url)
        heard.set()

    serving = {"source": registry, "port": 0, "ready": ready}
    threading.Thread(target=dashboard.serve, kwargs=serving, daemon=True).start()
    if not heard.wait(10.0):
        raise RuntimeError("the dashboard does not come up")
    stream = urlopen(f"{told[0]}events", timeout=10.0)  # a visitor, without whom nothing would be looked at
    assert stream.readline()
    threading.Thread(target=collections.deque, args=(stream, 0), daemon=True).start()
    return {"f": guard, "x": 1, "alerts": alerts}


SUBJECTS = (
    Subject("guard", "f(x)", alone),
    Subject("guard, exporters attached", "f(x)", observed),
    Subject("guard, dashboard and alerts running", "f(x)", watched),
)

GROUPS = (
    Study(
        "export",
        tuple(Row(name, target=SCRAPE if "()" in name and "-" not in name else None, unit="ms") for name in FIGURES),
        find,
    ),
    Contest(
        "export, calls",
        SUBJECTS,
        tuple(Row(subject.name, "guard", Target(cap=1.05)) for subject in SUBJECTS[1:]),
    ),
)


@pytest.mark.parametrize("figure", FIGURES)
def test_scrapes(benchmark: Any, figure: str) -> None:
    benchmark.pedantic(FIGURES[figure](), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_calls(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
