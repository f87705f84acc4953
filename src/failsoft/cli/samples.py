"""One look at an arena: all its numbers, as records and as JSON.

A look with `split` reads each operation process by process and adds up what it has read, so its sums are exact: of a
process that is buried meanwhile no call is lost, and none is there twice.
"""

from __future__ import annotations

import math
import time

from failsoft.arena import DEPARTED, Arena, SharedIntegration, SharingProcess
from failsoft.metrics import OperationMetrics, read_metrics
from failsoft.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from failsoft._core import Operation
    from failsoft.breakers import BreakerStatus

LOOKS_MOST = 8
"""A look that meets a burial is taken again, so often at most."""


class OperationSample(Record):
    """An operation of an integration. `parts` is what each process has of it by its slot, without `split` empty."""

    name: str
    total: OperationMetrics
    parts: dict[int, OperationMetrics]


class IntegrationSample(Record):
    """An integration. `parts` is what each process has of it; its budgets have granted `retries` and `hedges`, and
    `refused` others."""

    name: str
    type: str
    status: BreakerStatus
    total: OperationMetrics
    parts: dict[int, OperationMetrics]
    operations: tuple[OperationSample, ...]
    slots: tuple[int, ...]
    retries: int
    hedges: int
    refused: int
    in_flight: int


class Sample(Record):
    """An arena at one moment, `at` in seconds of `time.monotonic`."""

    arena: str
    at: float
    processes: tuple[SharingProcess, ...]
    integrations: tuple[IntegrationSample, ...]

    def process(self, slot: int) -> SharingProcess | None:
        """Who has a slot."""
        return next((one for one in self.processes if one.slot == slot), None)


def look(arena: Arena, split: bool | Collection[str] = False) -> Sample:
    """Read an arena; the parts of each process of all integrations, of some by name, or of none."""
    for _ in range(LOOKS_MOST):
        burials = arena.burials()
        sample = _look(arena, split)
        if arena.burials() == burials:
            break
    return sample


def _look(arena: Arena, split: bool | Collection[str]) -> Sample:
    found = []
    for one in arena.with_shards():
        try:
            found.append(_integration(one, split if isinstance(split, bool) else one.name in split))
        except KeyError:
            continue  # it has gone from the arena since
    return Sample(arena.name, time.monotonic(), arena.processes(), tuple(found))


def _integration(one: SharedIntegration, split: bool) -> IntegrationSample:
    slots = one.slots
    names = one.operations
    if split:
        columns = {slot: one.observed(slot) for slot in (*slots, DEPARTED)}
        operations, total, parts = _added(names, columns, one.window)
    else:
        operations = tuple(
            OperationSample(name, read_metrics([(recorded, None)], one.window), {})
            for name, recorded in zip(names, one.recorded, strict=False)
        )
        total, parts = one.total(), {}
    retries, hedges, refused = one.retries()
    return IntegrationSample(
        one.name,
        str(one.type or "unknown"),
        one.status(),
        total,
        parts,
        operations,
        slots,
        retries,
        hedges,
        refused,
        one.in_flight(),
    )


def _added(
    names: tuple[str, ...], columns: dict[int, tuple[Operation, ...]], window: float
) -> tuple[tuple[OperationSample, ...], OperationMetrics, dict[int, OperationMetrics]]:
    """Of each operation what each process has, and the sums of just that."""

    def together(recorded: list[Operation]) -> OperationMetrics:
        return read_metrics([(one, None) for one in recorded], window)

    operations = tuple(
        OperationSample(
            name,
            together([column[at] for column in columns.values() if at < len(column)]),
            {slot: together([column[at]]) for slot, column in columns.items() if at < len(column)},
        )
        for at, name in enumerate(names)
    )
    everything = [recorded for column in columns.values() for recorded in column[: len(names)]]
    parts = {slot: together(list(column[: len(names)])) for slot, column in columns.items()}
    return operations, together(everything), parts


# ---- as JSON


def as_json(sample: Sample, before: Sample | None) -> dict[str, Any]:
    """A sample ready for JSON; rates are since `before`, None without."""
    earlier = {one.name: one for one in before.integrations} if before is not None else {}
    seconds = sample.at - before.at if before is not None else None
    found: dict[str, Any] = _plain(
        {
            "arena": sample.arena,
            "time": time.time() - (time.monotonic() - sample.at),
            "interval": seconds,
            "processes": [
                {"slot": one.slot, "pid": one.pid, "name": one.name, "age": one.age, "alive": one.alive}
                for one in sample.processes
            ],
            "integrations": [_one_as_json(one, earlier.get(one.name), seconds, sample) for one in sample.integrations],
        }
    )
    return found


def _one_as_json(
    one: IntegrationSample, before: IntegrationSample | None, seconds: float | None, sample: Sample
) -> dict[str, Any]:
    return {
        **status_as_json(one),
        "calls_per_second": per_second(one.total.count, before.total.count if before else None, seconds),
        "metrics": one.total.as_dict(),
        "budget": {"retries": one.retries, "hedges": one.hedges, "refused": one.refused},
        "in_flight": one.in_flight,
        "processes": _parts_as_json(one.parts, sample),
        "operations": [
            {
                "name": operation.name,
                "metrics": operation.total.as_dict(),
                "processes": _parts_as_json(operation.parts, sample),
            }
            for operation in one.operations
        ],
    }


def status_as_json(one: IntegrationSample) -> dict[str, Any]:
    """The breaker of an integration."""
    status = one.status
    return {
        "name": one.name,
        "type": one.type,
        "state": str(status.state),
        "reason": status.reason,
        "age": status.age,
        "capacity": status.capacity,
        "failures": status.failures,
        "failure_rate": status.failure_rate,
        "sample_size": status.sample_size,
        "retry_after": status.retry_after,
        "generation": status.generation,
        "probes": status.probes,
    }


def _parts_as_json(parts: dict[int, OperationMetrics], sample: Sample) -> list[dict[str, Any]]:
    """The part of each process; `pid` is None for those that are gone and buried, together."""
    found = []
    for slot, metrics in parts.items():
        process = sample.process(slot)
        if slot == DEPARTED and metrics == OperationMetrics(recent=OperationMetrics()):
            continue
        found.append({"slot": None if slot == DEPARTED else slot, "pid": process and process.pid, **metrics.as_dict()})
    return found


def per_second(count: int, before: int | None, seconds: float | None) -> float | None:
    """How many more a second; None where there is nothing to compare with."""
    if before is None or not seconds or seconds <= 0 or count < before:
        return None
    return (count - before) / seconds


def _plain(value: Any) -> Any:
    """JSON knows no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
