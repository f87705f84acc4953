"""The retry budget of an integration, as numbers to look at. The budget itself is csrc/include/failsoft/budget.h."""

from __future__ import annotations

from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .integrations import Integration

_NOTICED = 0.5
"""Less than this owed is nothing to tell of: the last retry is some windows ago."""


class RetryBudgetStatus(Record):
    """How many retries and hedges an integration may still make, read at one moment.

    `balance` retries may be made at once. It would be `full` had none been made lately, which is what a window of
    `window` seconds brings: `share` of its calls (0.2: one retry for five calls) and `floor` a second. `retries` and
    `hedges` have been granted since the start, `refused` were not.
    """

    balance: float
    full: float
    share: float
    floor: float
    window: float
    retries: int
    hedges: int
    refused: int

    @property
    def spent(self) -> int:
        """What has been granted since the start, retries and hedges together."""
        return self.retries + self.hedges

    def __str__(self) -> str:
        refused = f"; {self.refused} refused so far" if self.refused else ""
        left, full = (f"{max(number, 0.0):.3g}" for number in (self.balance, self.full))
        return f"{left} of {full} retries left in the budget{refused}"


def budget_status(integration: Integration) -> RetryBudgetStatus | None:
    """Read the budget of an integration; a key's is that of the integration it belongs to. None: it has none."""
    budget, settings = integration.retry_budget, integration.config.retry_budget
    if budget is None or settings is None:
        return None
    balance, full, *counts = budget.read(integration.breaker)
    return RetryBudgetStatus(balance, full, settings.share, settings.floor, settings.window, *counts)


def budget_words(integration: Integration) -> str | None:
    """The same for an explanation, None where nothing has been taken lately."""
    status = budget_status(integration)
    return str(status) if status is not None and status.full - status.balance >= _NOTICED else None
