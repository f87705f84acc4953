"""The six faults: how each is made, what it looks like from outside, and which breakers it must open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from failsoft.demo import server
from failsoft.demo.process import ServerProcess
from failsoft.demo.settings import FEED, QUOTES, Settings

Action = Callable[[ServerProcess], Awaitable[None]]


class Fault(NamedTuple):
    """One way to break the server. `hold` and `rest` are shares of the scenario, not seconds."""

    title: str
    explanation: str
    inject: Action
    lift: Action
    opens: tuple[str, ...]
    """The integrations whose breakers must open, and close again once the fault is lifted."""
    hold: float
    rest: float


def all_faults(settings: Settings) -> tuple[Fault, ...]:
    """The faults in the order in which they are injected."""
    healthy = _switch(server.HEALTHY)
    limit = settings.quotes.circuit_breaker.timeout
    return (
        Fault(
            "slow replies",
            f"quotes take {settings.slow_reply:.2g} s; an attempt may take {limit:.2g} s",
            _switch(f"{server.SLOW} {settings.slow_reply}"),
            healthy,
            opens=(QUOTES,),
            hold=1.4,
            rest=1.0,
        ),
        Fault(
            "503 with Retry-After",
            "quotes are refused: come back in 1 s",
            _switch(f"{server.UNAVAILABLE} 1"),
            healthy,
            opens=(QUOTES,),
            hold=1.4,
            rest=1.0,
        ),
        Fault(
            "malformed frames",
            "every second frame of the feed is cut in half: bad data, no outage",
            _switch(server.MALFORMED),
            healthy,
            opens=(),
            hold=1.2,
            rest=0.4,
        ),
        Fault(
            "connection resets",
            "every connection, old or new, is dropped with RST",
            _switch(server.RESET),
            healthy,
            opens=(FEED, QUOTES),
            hold=1.6,
            rest=1.2,
        ),
        Fault(
            "SIGSTOP",
            "the server process is frozen: connections stay open, nobody answers",
            ServerProcess.pause,
            ServerProcess.resume,
            opens=(FEED, QUOTES),
            hold=2.2,
            rest=1.4,
        ),
        Fault(
            "SIGKILL and restart",
            "the server process is killed, and later started anew on another port",
            ServerProcess.kill,
            ServerProcess.start,
            opens=(FEED, QUOTES),
            hold=1.6,
            rest=1.6,
        ),
    )


def _switch(command: str) -> Action:
    async def action(process: ServerProcess) -> None:
        await process.switch(command)

    return action
