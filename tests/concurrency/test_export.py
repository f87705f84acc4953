"""Scrapes while calls go on: no counter goes back, and the numbers of one histogram are of one moment."""

from __future__ import annotations

import re
import sysconfig
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from failsoft import Registry
from failsoft.export.prometheus import collector, render

THREADS = 3
SECONDS = 1.0
PATIENCE = 30.0
MOVES = 20
NS = 1000
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
COUNTING = ("_total", "_bucket", "_count", "_sum")


def writers(source: Registry, stop: threading.Event) -> list[threading.Thread]:
    """Threads that call through guards, and record durations of NS alone."""
    # Slices of a few milliseconds, so that many turn while somebody reads.
    short = {"circuit_breaker": {"window": 0.05, "failure_threshold": 50}}
    integration = source.integration("busy", "cache", **short)
    steady = integration.record("steady")

    @integration.guard(operation="shaky", retry=False)
    def shaky(fails: bool) -> None:
        if fails:
            raise ConnectionError

    def work() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            steady.record_ns(NS)
            try:
                shaky(n % 3 == 0)
            except Exception:
                pass

    return [threading.Thread(target=work) for _ in range(THREADS)]


LINE = re.compile(r"^(failsoft_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="(\w[^"]*|\+Inf)"')
FULL = 50
"""One in so many scrapes is read by the parsers of prometheus-client, which take a hundred times as long as writing it."""


def scrape(source: Registry, theirs: CollectorRegistry, turn: int) -> Iterator[tuple[str, dict[str, str], float]]:
    if turn % FULL > 2:
        for name, labels, value in LINE.findall(render(source).decode()):
            yield name, dict(LABEL.findall(labels)), float(value)
        return
    if turn % FULL == 0:
        families = parse_classic(render(source).decode())
    elif turn % FULL == 1:
        families = parse_openmetrics(render(source, openmetrics=True).decode())
    else:
        families = parse_classic(exposition.generate_latest(theirs).decode())
    for family in families:
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def test_no_counter_goes_back_and_histograms_are_whole() -> None:
    source, stop, theirs = Registry(), threading.Event(), CollectorRegistry()
    theirs.register(collector(source))
    threads = writers(source, stop)
    for thread in threads:
        thread.start()
    before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    scrapes, moved = 0, 0
    try:
        began = time.monotonic()
        # On a busy machine many scrapes in a row find nothing new.
        while time.monotonic() < began + (SECONDS if moved >= MOVES else PATIENCE):
            now = {
                (name, frozenset(labels.items())): value
                for name, labels, value in scrape(source, theirs, scrapes)
                if name.endswith(COUNTING)
            }
            scrapes += 1
            for key, value in before.items():
                assert now[key] >= value, (key, value, now[key])
            moved += before != now
            before = now
            for operation in ("steady", "shaky"):
                whole(now, operation)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert moved >= MOVES


def whole(now: dict[tuple[str, frozenset[tuple[str, str]]], float], operation: str) -> None:
    labels = {("integration", "busy"), ("operation", operation)}
    name = "failsoft_call_duration_seconds"
    count, summed = now[f"{name}_count", frozenset(labels)], now[f"{name}_sum", frozenset(labels)]
    bounds = {
        dict(key)["le"]: value for (sample, key), value in now.items() if sample == f"{name}_bucket" and labels <= key
    }
    assert bounds.pop("+Inf") == count
    cumulative = [bounds[le] for le in sorted(bounds, key=float)]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] <= count
    if operation == "steady":
        # Without the GIL, a call of each thread may be half in it.
        assert summed * 1e9 == pytest.approx(count * NS, abs=THREADS * NS if FREE_THREADED else 0.5)
