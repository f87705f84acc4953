"""What makes a breaker trip and close, in words: its settings, where they are known, and its last trip."""

from __future__ import annotations

from ..decisions import Decision
from .names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config import CircuitBreakerConfig


def rules(settings: CircuitBreakerConfig) -> list[str]:
    """The settings as an operator asks for them: what opens it, how long, what closes it, what a failure is."""
    opens = []
    if settings.failure_threshold is not None:
        opens.append(f"{settings.failure_threshold} failures in a row")
    if settings.failure_rate is not None:
        opens.append(f"{_percent(settings.failure_rate)} of the calls failing")
    if settings.slow_rate is not None:
        opens.append(f"{_percent(settings.slow_rate)} of the calls slower than {settings.slow_call:g} s")
    if settings.latency_quantile is not None:
        opens.append(f"p{settings.latency_quantile * 100:g} above {settings.latency_limit:g} s")
    window = f"{settings.window:g} s" if settings.count_window is None else f"{settings.count_window} calls"
    lines = [f"Opens on {' or '.join(opens)}."]
    if len(opens) > (settings.failure_threshold is not None):
        lines.append(f"Shares are of the last {window}, from {settings.minimum_calls} calls on.")
    grows = f", each time {settings.reset_growth:g} times as long" if settings.reset_growth > 1.0 else ""
    lines.append(
        f"Refuses for {settings.reset_timeout:g} s{grows}; then at most {settings.half_open_max_calls} probes at a "
        f"time, and {settings.success_threshold} successes in a row close it."
    )
    lines.append(f"An attempt may take {settings.timeout:g} s.")
    return lines


def last_trip(decisions: Iterable[Decision]) -> tuple[float, str] | None:
    """(seconds ago, why) of the last time it left CLOSED for OPEN, as far as the flight recorder reaches."""
    trips = [one for one in decisions if one.kind == "transition" and "CLOSED -> OPEN" in one.text]
    if not trips:
        return None
    last = min(trips, key=lambda one: one.age)
    return last.age, shown(last.text.partition(": ")[2] if last.operation is None else last.text, 300)


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"
