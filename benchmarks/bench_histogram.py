"""Latencies recorded one by one and by the million, and quantiles read back; against the usual sketches.

Every quantile query follows one more record, so that no answer can come from a cache.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from groups import Contest, Row, Target
from measure import Subject
from run_one import benchmarked
from sketches import OURS, PEERS, Sketch, latencies

import failsoft

STREAM = 1_000
BATCH = 1_000_000
FILLED = 100_000
QUANTILES = (0.5, 0.95, 0.99)

Setup = Callable[[], Mapping[str, object]]


def prometheus() -> Any:
    import prometheus_client

    return prometheus_client.Histogram("latency", "seconds", registry=prometheus_client.CollectorRegistry())


def recording(sketch: Sketch) -> Subject:
    def setup() -> Mapping[str, object]:
        return {"record": getattr(sketch.make(), sketch.record), "values": sketch.stream(STREAM)}

    return Subject(f"{sketch.name}, record", EACH, setup, STREAM)


def batching(sketch: Sketch) -> Subject:
    def setup() -> Mapping[str, object]:
        values: object = array("q", latencies(BATCH))
        if not sketch.integers:
            import numpy  # these sketches take nothing else by the million

            values = numpy.array(latencies(BATCH), dtype=numpy.float64)
        return {"record": getattr(sketch.make(), sketch.batch or ""), "values": values}

    return Subject(f"{sketch.name}, a million at once", "record(values)", setup, BATCH)


def asking(sketch: Sketch, name: str = "", view: Callable[[Any], Any] = lambda sketch: sketch) -> Subject:
    def setup() -> Mapping[str, object]:
        filled = sketch.filled(FILLED)
        return {
            "record": getattr(filled, sketch.record),
            "v": sketch.stream(1)[0],
            "query": getattr(view(filled), sketch.query),
            "qs": tuple(quantile * sketch.scale for quantile in QUANTILES),
        }

    query = "query(qs)" if sketch.at_once else "for q in qs:\n    query(q)"
    return Subject(name or f"{sketch.name}, three quantiles", f"record(v)\n{query}", setup)


EACH = "for v in values:\n    record(v)"
NO_OP = Subject("builtin no-op", EACH, lambda: {"record": callable, "values": latencies(STREAM)}, STREAM)
SECONDS = Subject(
    "failsoft, record in seconds",
    EACH,
    lambda: {"record": failsoft.LatencyHistogram().record, "values": [ns / 1e9 for ns in latencies(STREAM)]},
    STREAM,
)
PROMETHEUS = Subject(
    "prometheus-client, record",
    EACH,
    lambda: {"record": prometheus().observe, "values": [ns / 1e9 for ns in latencies(STREAM)]},
    STREAM,
)
RECENT = asking(OURS, "failsoft, three recent quantiles", lambda histogram: histogram.recent)

RECORD = (NO_OP, recording(OURS), SECONDS, *(recording(peer) for peer in PEERS), PROMETHEUS)
MILLION = tuple(batching(sketch) for sketch in (OURS, *PEERS) if sketch.batch)
READING = (asking(OURS), RECENT, *(asking(peer) for peer in PEERS))


def against_ours(subjects: tuple[Subject, ...], figure: str) -> list[Row]:
    return [Row(subject.name, figure, peer=True) for subject in subjects if not subject.name.startswith("failsoft")]


GROUPS = (
    Contest(
        "histogram record",
        RECORD,
        (
            Row("failsoft, record", "builtin no-op", Target(cap=1.5)),
            Row("failsoft, record in seconds", "builtin no-op"),
            *against_ours(RECORD[1:], "failsoft, record"),
        ),
    ),
    Contest(
        "histogram batch",
        MILLION,
        (
            Row("failsoft, a million at once", target=Target(cap=2.5), unit="ns"),
            *against_ours(MILLION, "failsoft, a million at once"),
        ),
    ),
    Contest(
        "histogram quantiles",
        READING,
        (
            Row("failsoft, three quantiles", target=Target(cap=600.0), unit="ns"),
            Row("failsoft, three recent quantiles", target=Target(cap=600.0), unit="ns"),
            Row(
                "hdrhistogram, three quantiles",
                "failsoft, three quantiles",
                Target(cap=300.0, at_least=True),
                peer=True,
            ),
            *against_ours(READING[3:], "failsoft, three quantiles"),
        ),
    ),
)


@pytest.mark.parametrize("subject", [*RECORD, *MILLION, *READING], ids=lambda subject: subject.name)
def test_histogram(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
