"""One host of a fleet, as a process of its own: does what it is told line by line, and tells what happens to its breaker.

fail N | succeed N | try SECONDS | state | quit
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import failsoft

url, name, namespace, interval, client = sys.argv[1:]
registry = failsoft.Registry()
market = registry.integration(
    "market",
    "external_api",
    circuit_breaker={
        "failure_threshold": 5, "success_threshold": 2, "half_open_max_calls": 2, "timeout": 0.3, "reset_timeout": 1.0,
    },
    degraded={"ramp": 0.0},
)  # fmt: skip
well = True


@market.guard(retry=False)
def quote() -> None:
    if not well:
        raise ConnectionRefusedError


def tell(**what: object) -> None:
    line = json.dumps({"at": time.monotonic(), **what}) + "\n"
    os.write(1, line.encode())  # whole: the fleet's thread tells too


def call(times: int) -> int:
    """How many of so many calls got through the gate."""
    went = 0
    for _ in range(times):
        try:
            quote()
            went += 1
        except failsoft.CircuitOpenError:
            pass
        except ConnectionRefusedError:
            went += 1
    return went


failsoft.subscribe(lambda event: tell(state=event.state, reason=event.reason), failsoft.events.Transition)
with failsoft.fleet(
    url, registry=registry, host=name, namespace=namespace, interval=float(interval), client=client
) as fleet:
    tell(ready=True)
    for line in sys.stdin:
        order, _, number = line.partition(" ")
        if order in ("fail", "succeed"):
            well = order == "succeed"
            tell(went=call(int(number)))
        elif order == "try":
            end = time.monotonic() + float(number)
            went = 0
            while time.monotonic() < end:
                went += call(1)
                time.sleep(0.005)
            tell(went=went)
        elif order.strip() == "state":
            status = fleet.status()
            of = status.breakers.get("market")
            tell(
                state=market.breaker.state,
                connected=status.connected,
                hosts=of.hosts if of else 0,
                generation=of.generation if of else 0,
            )
        else:
            break
with contextlib.suppress(BrokenPipeError):
    tell(done=True)
