"""Asking whether calls may go at all, before waiting for something that only such a call needs: a connection of a pool.

A pool whose server is down lets everybody wait until its own limit. Its callers would rather hear of the open circuit.
"""

from __future__ import annotations

import contextlib

from ..config import CircuitState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..integrations import Integration


class _Open(BaseException):
    """The gate let us through: nothing is to be done behind it, and nothing to be counted."""


def _open() -> None:
    raise _Open


def refuse_while_open(integration: Integration, operation: str) -> None:
    """Raise what a guarded call would be refused with now, `CircuitOpenError` mostly, and call nothing.

    A refusal is counted under `operation`. While the circuit is closed this costs a look at its state; where calls may
    go as probes none of them is used up.
    """
    if integration.breaker.state is CircuitState.CLOSED:
        return
    with contextlib.suppress(_Open):
        integration.caller(operation, retry=False)(_open)
