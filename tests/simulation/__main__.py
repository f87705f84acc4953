"""The figures of docs/retries.md and docs/fleet.md: `python -m tests.simulation [retries|fleet]`.

Virtual minutes; some real ones where loads are large.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from . import fleet, scenarios

DEFAULT = {"share": 0.2, "floor": 10.0, "window": 10.0}


ALL: tuple[str, dict[str, Any]] = ("budget and breaker", {})


def main(which: list[str]) -> None:
    if not which or "retries" in which:
        outages()
        overloads()
        crowds()
        partials()
    if not which or "fleet" in which:
        fleets()


def fleets(hosts: int = 1_000, seeds: tuple[int, ...] = (1, 2)) -> None:
    every = f"{hosts:,} hosts, a round each {fleet.INTERVAL * 1e3:.0f} ms, seeds {', '.join(map(str, seeds))}"
    print(f"A fleet of {every}; {fleet.CONFIG.half_open_max_calls} probes allowed at a time:")
    for words, scenario, options in (
        ("outage of 12 s, each alone", fleet.outage, {"following": False}),
        ("outage of 12 s", fleet.outage, {}),
        ("the same, among trouble", fleet.storm, {}),
        ("one sick host", fleet.sick, {}),
        ("a quarter sick", fleet.sick, {"ill": hosts // 4}),
    ):
        found: list[fleet.Found] = [timed(scenario, hosts, seed=seed, **options) for seed in seeds]
        print(f"  {words:28}", "  ".join(f"{name} {spread(found, name)}" for name in FIGURES))


FIGURES = (
    "opened_after", "healed_after", "let_through", "longest_row", "probes", "over", "alone", "fleet_openings", "lost", "drift",
)  # fmt: skip


def spread(found: list[fleet.Found], name: str) -> str:
    """The least and the most of all seeds."""
    values = [value for value in (getattr(one, name) for one in found) if value is not None]
    if not values:
        return "-"
    least, most = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in (min(values), max(values)))
    return least if least == most else f"{least}..{most}"


def outages() -> None:
    print("Total outage for 30 s, 500 requests a second, max_retries=3, attempts per request at the last service:")
    for layers in (1, 3):
        for words, budget, breaker, rate in (
            ("plain retries", None, False, 500.0 if layers == 1 else 50.0),
            ("budget", DEFAULT, False, 500.0),
            ("budget and breaker", DEFAULT, True, 500.0),
        ):
            seconds = 30 if budget else 4
            outage = timed(scenarios.outage, rate, seconds, budget, layers=layers, breaker=breaker)
            most = outage.allowed / outage.requests
            print(
                f"  {layers} layer(s), {words:20} {outage.ratio:8.4f}  (allowed {most:.3f}, {outage.requests} requests)"
            )


def overloads() -> None:
    for share, ways in (
        (0.85, (("plain retries", {"budget": False, "breaker": False}), ("budget alone", {"breaker": False}), ALL)),
        (0.6, (("plain retries", {"budget": False, "breaker": False}), ("budget alone", {"breaker": False}), ALL)),
    ):
        print(
            f"10x overload for 2 s on open traffic at {share:.0%} of capacity (200 a second, 4 clients), 60 s watched:"
        )
        for words, options in ways:
            found: list[scenarios.Overload] = [
                timed(
                    scenarios.overload,
                    capacity=200,
                    clients=4,
                    seconds=67,
                    floor=2.0,
                    seed=seed,
                    share=share,
                    **options,
                )
                for seed in (1, 2, 3)
            ]
            back = "/".join("never" if one.recovered_after is None else f"{one.recovered_after} s" for one in found)
            good = sum(one.goodput for one in found) / len(found)
            last = sum(one.last for one in found) / len(found)
            wasted = sum(one.wasted for one in found) // len(found)
            print(
                f"  {words:20} back over 95 %: {back:17} goodput since {good:6.1%}, at the end {last:6.1%}, wasted {wasted}"
            )


def crowds() -> None:
    print("1,000 clients retry after a common outage of 4 s, arrivals in bins of 100 ms:")
    for jitter in ("none", "equal", "decorrelated", "full"):
        crowd = timed(scenarios.crowd, jitter)
        print(f"  jitter {jitter:13} peak {crowd.peak:5}  mean {crowd.mean:6.1f}  peak/mean {crowd.ratio:5.1f}")


def partials() -> None:
    print("1 of 10 shards down, 200 requests a second for 60 s:")
    for words, keyed in (("a breaker for each key", True), ("one breaker for all", False)):
        partial = timed(scenarios.partial, keyed=keyed, rate=200.0, seconds=60)
        print(
            f"  {words:24} healthy requests lost: {partial.lost} of {partial.healthy} ({partial.lost / partial.healthy:.1%})"
        )


def timed(scenario: Callable[..., Any], *args: Any, **options: Any) -> Any:
    began = time.perf_counter()
    found = scenario(*args, **options)
    spent = time.perf_counter() - began
    if spent > 60.0:
        print(f"  ({spent:.0f} s of real time)")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
