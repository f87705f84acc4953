"""Many items as one call: what a loop over them would cost is paid once.

    with guard.many(len(prices)) as batch:
        for price in prices:
            ...

A batch passes the gate once, whole or not at all: one look at the breaker, n tokens of the rate limiter, one place of
the bulkhead. It is one attempt: nothing is retried, and no fallback answers. Its end is n calls of the operation:

- no exception: n successes, each of an n-th of the time, or of what `record_many` has said of it;
- an exception: as a guard would take it for a call, n times over in the numbers and the rates, for otherwise a batch
  that fails would weigh an n-th of one that does not. In the row of consecutive failures it is one;
- `fail(k)`: k of the n have failed. In the row the others come first, and then one failure.
"""

from __future__ import annotations

from ._core import now_ns
from .attempts import Block, outcome_of, tell
from .course import FAILED, TIMEOUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from .course import AnyGuard


MOST = 2**26
"""Items of one batch: as many as a cell of the histogram has room for at once."""


class Batch(Block):
    """n items as one guarded call, a `with` or `async with` block; used once."""

    __slots__ = ("_failed", "_recorded", "_slow", "_sum", "n")

    def __init__(self, guard: AnyGuard, n: int) -> None:
        super().__init__(guard)
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an integer, 1 or more, got {n!r}")
        limit = guard._recovery.integration.config.rate_limit
        most = MOST if limit is None else min(limit.tokens, MOST)
        if not 1 <= n <= most:
            why = "" if most == MOST else ", as many as rate_limit lets go at once"
            raise ValueError(f"n must be an integer from 1 to {most}{why}, got {n}")
        self.n = n
        self._failed = 0
        self._recorded = 0  # items whose durations are known
        self._sum = 0  # of those, in ns
        self._slow = 0  # of those

    def __enter__(self) -> Self:
        self._enter(self.n)
        return self

    async def __aenter__(self) -> Self:
        await self._enter_async(self.n)
        return self

    def record_many(self, durations: Buffer) -> None:
        """Say how long items took: a contiguous buffer of int64 ns, such as a NumPy array.

        They are recorded at once. The others of the n share the rest of the time. More than n in all, or a negative
        one, is a ValueError.
        """
        count, total, slow = self._guard._record_many(self._permit, self.n - self._recorded, durations)
        self._recorded += count
        self._sum += total
        self._slow += slow

    def fail(self, count: int = 1) -> None:
        """So many more of the n items have failed."""
        left = self.n - self._failed
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"count must be an integer from 0 to {left}, got {count!r}")
        if not 0 <= count <= left:
            raise ValueError(f"count must be an integer from 0 to {left}, got {count}")
        self._failed += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=False)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=True)

    def _settle(self, error: BaseException | None, *, patient: bool) -> None:
        took = now_ns() - self._started
        guard, n = self._guard, self.n
        self._place = None
        recovery = guard._recovery
        outcome, timed_out = outcome_of(recovery, error, took if error is not None else took // n, patient=patient)
        failed = n if outcome == FAILED else self._failed
        if failed == n:
            outcome = FAILED
        if timed_out:
            recovery.record.note(TIMEOUTS, n)
        rest = max(took - self._sum, 0)
        guard._settle_batch(self._permit, outcome, n - self._recorded, failed, self._slow, rest)
        tell(recovery, error)
