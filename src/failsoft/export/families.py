"""The metrics that are exported: names, kinds and meanings. Prometheus and OpenTelemetry tell of the same ones.

An operation's numbers are since its start. `OperationMetrics` leaves out what came before a reset; a counter that
others subtract from must not. Per integration there is what its breaker, its budget and its load control tell. Streams
have an operation too, and numbers of their own.
"""

from __future__ import annotations

from .._core import EVENTS
from ..records import Record

COUNTER, GAUGE, INFO, HISTOGRAM = "counter", "gauge", "info", "histogram"

BY_OPERATION = ("integration", "operation")
BY_INTEGRATION = ("integration",)


class Family(Record):
    """One metric. `name` is without what the kind adds to it: "_total" to counters, "_info" to an info."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = BY_INTEGRATION
    unit: str = ""

    @property
    def sample(self) -> str:
        """The name of its samples."""
        return self.name + {COUNTER: "_total", INFO: "_info"}.get(self.kind, "")


BUILD = Family("failsoft_build", INFO, "The version that exports.", ("version",))
INTEGRATION = Family("failsoft_integration", INFO, "An integration and its type.", ("integration", "type"))
STATE = Family(
    "failsoft_breaker_state",
    GAUGE,
    "1 for the state that the breaker is in, 0 for the others.",
    ("integration", "state"),
)
TRANSITIONS = Family("failsoft_breaker_transitions", COUNTER, "Changes of the breaker's state, resets included.")
FAILURES_IN_A_ROW = Family(
    "failsoft_breaker_consecutive_failures", GAUGE, "Failures in a row, after a trip those that tripped it."
)
FAILURE_RATIO = Family(
    "failsoft_breaker_failure_ratio",
    GAUGE,
    "Share of the calls in the breaker's window that failed; absent below its minimum of calls.",
    unit="ratio",
)
WINDOW_CALLS = Family("failsoft_breaker_window_calls", GAUGE, "Calls in the breaker's window.")
PROBES = Family("failsoft_breaker_probes", GAUGE, "Half-open calls under way.")
STATE_AGE = Family("failsoft_breaker_state_age_seconds", GAUGE, "How long it has been in its state.", unit="seconds")
RETRY_AFTER = Family(
    "failsoft_breaker_retry_after_seconds",
    GAUGE,
    "Time until a call may go; absent where none is waited for.",
    unit="seconds",
)
CAPACITY = Family(
    "failsoft_capacity_ratio", GAUGE, "Share of the calls let go now; 0 while the breaker refuses.", unit="ratio"
)
DISABLED = Family("failsoft_guards_disabled", GAUGE, "1 where the guards have been made pass-throughs.")
BUDGET = Family("failsoft_retry_budget_balance", GAUGE, "Retries that may be made at once.")
BUDGET_FULL = Family("failsoft_retry_budget_full", GAUGE, "What the balance would be had none been made lately.")
BUDGET_RETRIES = Family("failsoft_retry_budget_retries", COUNTER, "Retries that the budget has granted.")
BUDGET_HEDGES = Family("failsoft_retry_budget_hedges", COUNTER, "Hedges that the budget has granted.")
BUDGET_REFUSED = Family("failsoft_retry_budget_refused", COUNTER, "Retries and hedges that the budget has refused.")
TOKENS = Family("failsoft_rate_limit_tokens", GAUGE, "Tokens that are there.")
BURST = Family("failsoft_rate_limit_burst", GAUGE, "Tokens that can be there at once.")
IN_FLIGHT = Family("failsoft_bulkhead_in_flight", GAUGE, "Calls under way.")
CONCURRENT_MOST = Family("failsoft_bulkhead_limit", GAUGE, "Calls that may be under way at once.")
THROTTLED = Family("failsoft_throttle_ratio", GAUGE, "Share of the calls that the throttle refuses.", unit="ratio")
WAITING = Family("failsoft_load_waiting", GAUGE, "Calls that wait for a token or a place.")

OF_INTEGRATIONS = (
    TRANSITIONS, FAILURES_IN_A_ROW, FAILURE_RATIO, WINDOW_CALLS, PROBES, STATE_AGE, RETRY_AFTER, CAPACITY, DISABLED,
    BUDGET, BUDGET_FULL, BUDGET_RETRIES, BUDGET_HEDGES, BUDGET_REFUSED, TOKENS, BURST, IN_FLIGHT, CONCURRENT_MOST,
    THROTTLED, WAITING,
)  # fmt: skip
"""Those with one number an integration, in the order of `Reading.standings`."""

_EVENTS = {
    "retries": "Attempts after the first.",
    "fallbacks": "Calls that a fallback answered.",
    "deduplicated": "Calls that shared the execution of another.",
    "rejected": "Calls that the gate refused: breaker, degraded mode or load control.",
    "timeouts": "Attempts that took longer than they may.",
    "ignored": "Attempts that ended without an outcome for the breaker.",
    "unrecorded": "Attempts whose outcome came when it did not count any more.",
    "hedges": "Second attempts beside a slow first one.",
}

OF_OPERATIONS = (
    Family("failsoft_calls", COUNTER, "Attempts that ended in success or failure.", BY_OPERATION),
    Family("failsoft_failures", COUNTER, "Those that failed by the breaker's rules.", BY_OPERATION),
    Family("failsoft_slow_calls", COUNTER, "Those that took longer than slow_call.", BY_OPERATION),
    *(
        Family(f"failsoft_{event}", COUNTER, _EVENTS.get(event, f"Events of kind {event}."), BY_OPERATION)
        for event in EVENTS
    ),
)
"""In the order of `Reading.numbers`."""

DURATION = Family(
    "failsoft_call_duration_seconds", HISTOGRAM, "How long those attempts took.", BY_OPERATION, unit="seconds"
)

_FLOWS = {
    "items": "Items that came.",
    "gaps": "Gaps in their sequence.",
    "missing": "Numbers missing in these gaps.",
    "duplicates": "Numbers that came again.",
    "disorder": "Numbers that came late.",
    "stale": "How often nothing came for stale_after seconds.",
    "reconnects": "Connections after the first that gave an item.",
    "dropped": "Items that a full buffer made room with.",
}

ITEM_AGE = Family(
    "failsoft_stream_item_age_seconds",
    GAUGE,
    "How long ago the last item came, to the one that waits longest; absent before the first.",
    BY_OPERATION,
    "seconds",
)
STREAMS = Family("failsoft_streams", GAUGE, "Streams that are in this state.", (*BY_OPERATION, "state"))

OF_STREAMS = (
    *(Family(f"failsoft_stream_{what}", COUNTER, help, BY_OPERATION) for what, help in _FLOWS.items()),
    ITEM_AGE,
)
"""In the order of `Reading.flows`."""

ALL = (BUILD, INTEGRATION, STATE, *OF_INTEGRATIONS, *OF_OPERATIONS, DURATION, STREAMS, *OF_STREAMS)
