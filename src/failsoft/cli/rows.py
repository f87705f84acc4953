"""The lines of the table of `failsoft top`, as numbers: one an integration, under it its operations and processes."""

from __future__ import annotations

from failsoft.arena import DEPARTED
from failsoft.cli.samples import per_second
from failsoft.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from failsoft.cli.samples import IntegrationSample, Sample
    from failsoft.metrics import OperationMetrics


class Row(Record):
    """One line. None stands for what cannot be told: rates in the first look, a state where there is none.

    Latencies in seconds and `errors` (0 to 1) are those of the rolling window; `rate`, `retries` and `rejected` are a
    second, and `fallbacks` a share of the calls, since the look before. `unpaid` is how many retries the budgets have
    refused since the start, `processes` how many use it.
    """

    name: str
    under: str | None = None
    state: str | None = None
    capacity: float | None = None
    rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    errors: float | None = None
    fallbacks: float | None = None
    retries: float | None = None
    unpaid: int | None = None
    rejected: float | None = None
    processes: int | None = None


def rows_of(sample: Sample, before: Sample | None, expanded: Collection[str] = ()) -> list[Row]:
    """The lines of all integrations in the order of the sample, each followed by its parts if it is expanded."""
    earlier = {one.name: one for one in before.integrations} if before is not None else {}
    seconds = sample.at - before.at if before is not None else None
    rows = []
    for one in sample.integrations:
        was = earlier.get(one.name)
        rows.append(
            _row(
                one.name, None, one.total, was.total if was else None, seconds,
                state=str(one.status.state), capacity=one.status.capacity, unpaid=one.refused, processes=len(one.slots),
            )
        )  # fmt: skip
        if one.name in expanded:
            rows += _expanded(one, was, sample, seconds)
    return rows


def processes_of(sample: Sample, before: Sample | None) -> list[Row]:
    """A line for each process, over all that it uses; it needs looks with `split`."""
    seconds = sample.at - before.at if before is not None else None
    rows = []
    for process in sample.processes:
        now = [one.parts[process.slot] for one in sample.integrations if process.slot in one.parts]
        was = [one.parts[process.slot] for one in before.integrations if process.slot in one.parts] if before else []
        rows.append(
            Row(
                f"{process.pid} {process.name}",
                state="alive" if process.alive else "gone",
                rate=_rate(now, was, "count", seconds),
                errors=_share(sum(one.recent.error_count for one in now if one.recent),
                              sum(one.recent.count for one in now if one.recent)),
                fallbacks=_answered(now, was),
                retries=_rate(now, was, "retries", seconds),
                rejected=_rate(now, was, "rejected", seconds),
            )
        )  # fmt: skip
    return rows


def _expanded(
    one: IntegrationSample, was: IntegrationSample | None, sample: Sample, seconds: float | None
) -> list[Row]:
    operations = {operation.name: operation.total for operation in was.operations} if was else {}
    rows = [
        _row(operation.name, one.name, operation.total, operations.get(operation.name), seconds)
        for operation in one.operations
    ]
    for slot, part in one.parts.items():
        process = sample.process(slot)
        name = f"pid {process.pid} {process.name}" if process is not None else f"slot {slot}"
        if slot == DEPARTED:
            if not part.count and not part.rejected:
                continue
            name = "(gone)"
        rows.append(_row(name, one.name, part, was.parts.get(slot) if was else None, seconds))
    return rows


def _row(
    name: str,
    under: str | None,
    metrics: OperationMetrics,
    before: OperationMetrics | None,
    seconds: float | None,
    *,
    state: str | None = None,
    capacity: float | None = None,
    unpaid: int | None = None,
    processes: int | None = None,
) -> Row:
    lately = metrics.recent
    known = lately is not None and lately.count > 0
    was = [before] if before is not None else []
    return Row(
        name,
        under,
        state,
        capacity,
        _rate([metrics], was, "count", seconds),
        lately.p50_latency if lately and known else None,
        lately.p95_latency if lately and known else None,
        lately.p99_latency if lately and known else None,
        lately.error_rate if lately and known else None,
        _answered([metrics], was),
        _rate([metrics], was, "retries", seconds),
        unpaid,
        _rate([metrics], was, "rejected", seconds),
        processes,
    )


def _sum(parts: list[OperationMetrics], field: str) -> int:
    return sum(getattr(part, field) for part in parts)


def _rate(
    now: list[OperationMetrics], before: list[OperationMetrics], field: str, seconds: float | None
) -> float | None:
    return per_second(_sum(now, field), _sum(before, field) if before else None, seconds)


def _answered(now: list[OperationMetrics], before: list[OperationMetrics]) -> float | None:
    """The share of calls that a fallback answered. A call is not counted as such: it is attempts less repeated ones."""

    def more(field: str) -> int:
        return _sum(now, field) - _sum(before, field)

    if not before:
        return None
    calls = more("count") + more("rejected") - more("retries") - more("hedges")
    answered = more("fallbacks")
    return _share(answered, max(calls, answered))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 and part >= 0 else None
