"""The operations of an integration by name, and what their calls come to."""

from __future__ import annotations

from ._core import Operation
from .metrics import OVERFLOW, Baseline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._core import Breaker
    from .registry import Registry


class Operations:
    """What the calls of each named operation are recorded in.

    `bounded`: beyond the registry's `max_operations` new ones are recorded together. Keys have the operations of the
    integration they belong to, so theirs are not counted.
    """

    __slots__ = ("_baselines", "_bounded", "_breaker", "_records", "_registry", "_window")

    def __init__(self, registry: Registry, breaker: Breaker, window: float, *, bounded: bool) -> None:
        self._registry = registry
        self._breaker = breaker
        self._window = window
        self._bounded = bounded
        self._records: dict[str, Operation] = {}
        self._baselines: dict[str, Baseline] = {}

    def record(self, operation: str) -> tuple[Operation, str, bool]:
        """What an operation is recorded in, the name that stands for it there, and whether that is new."""
        if not isinstance(operation, str) or not operation:
            raise TypeError(f"operation must be a non-empty string, got {operation!r}")
        with self._registry.lock:
            known = self._records.get(operation)
            if known is not None:
                return known, operation, False
            full = self._bounded and not self._registry.has_room()
            counted = OVERFLOW if full else operation
            known = self._records.get(counted)
            if known is not None:
                return known, counted, False
            record = Operation(self._window)
            record.number = len(self._records) + 1
            self._breaker.adopt(record)
            self._records[counted] = record
            return record, counted, True

    def counted_as(self, operation: str) -> str:
        """The name that an operation's calls are counted under."""
        return operation if operation in self._records else OVERFLOW

    def named(self) -> tuple[tuple[str, Operation], ...]:
        """By name, in the order they were made in."""
        return tuple(self._records.items())

    def numbers(self, operation: str) -> tuple[tuple[Operation, Baseline | None], ...]:
        """What is known of an operation, and since when it counts: one, or none where it was never recorded."""
        record = self._records.get(operation)
        return () if record is None else ((record, self._baselines.get(operation)),)

    def reset(self, operation: str | None) -> None:
        """Count an operation anew, or all of them."""
        for name, record in self.named():
            if operation in (None, name):
                self._baselines[name] = Baseline(record)

    def forget_baselines(self) -> None:
        """They were taken of counts that are no longer there."""
        self._baselines.clear()

    def missing(self, integration: str, operation: str) -> KeyError:
        """The error for an operation that was never recorded."""
        overflow = f"; what came after was counted under {OVERFLOW!r}" if OVERFLOW in self._records else ""
        return KeyError(f"{integration!r} has no operation {operation!r}; it has {sorted(self._records)}{overflow}")
