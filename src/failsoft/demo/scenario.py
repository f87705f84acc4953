"""The rehearsal itself: start a server and its consumers, break the server in every planned way, add up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from failsoft import CircuitState, IntegrationType, OperationMetrics, Registry, _core, registry
from failsoft.demo.book import TickBook
from failsoft.demo.feed import Feed
from failsoft.demo.gauges import Gauges
from failsoft.demo.overhead import measure
from failsoft.demo.plan import Plan, Slot
from failsoft.demo.process import ServerProcess
from failsoft.demo.quotes import Quotes
from failsoft.demo.screens import Screen
from failsoft.demo.settings import FEED, QUOTES, Settings
from failsoft.demo.summary import Latency, Outcome, Summary, Trip
from failsoft.demo.watch import Watch

_GRACE = 5.0
"""Seconds that a busy machine gets on top of the plan for a breaker to move."""
_POLL = 0.01
_REFRESH = 0.2


async def rehearse(plan: Plan, settings: Settings, seed: int, screen: Screen) -> Summary:
    """Run the whole demo and return what happened. Raises `ServerFailed` when the server cannot even start.

    It ends early at the first fault that was not survived: the verdict would not change.
    """
    # The kernel ends a server that outlives every step at its longest.
    lifetime = plan.seconds + 2 * _GRACE * len(plan.slots) + 60.0
    async with ServerProcess(seed, lifetime) as server:
        rehearsal = _Rehearsal(plan, settings, seed, screen, server)
        outcomes = await rehearsal.run()
    return rehearsal.add_up(outcomes)


class _Rehearsal:
    """The parts of one run, and the clock that they share."""

    def __init__(self, plan: Plan, settings: Settings, seed: int, screen: Screen, server: ServerProcess) -> None:
        self._plan = plan
        self._settings = settings
        self._seed = seed
        self._screen = screen
        self._server = server
        self._watch = Watch()
        self._unhandled: list[str] = []
        self._book = TickBook()
        # With FAILSOFT_ARENA it can be watched from outside, `failsoft dashboard` for one.
        self._registry = registry.default if registry.default.sharing is not None else Registry()
        market = self._registry.integration(FEED, IntegrationType.MARKET_DATA, settings.feed)
        api = self._registry.integration(QUOTES, IntegrationType.EXTERNAL_API, settings.quotes)
        self._feed = Feed(market, lambda: server.address, self._book, seed)
        self._quotes = Quotes(api, lambda: server.address, self._book)
        self._gauges = Gauges((*self._feed.guards, self._quotes.quote))
        self._started = time.monotonic()
        self._told = 0

    async def run(self) -> list[Outcome]:
        outcomes = []
        asyncio.get_running_loop().set_exception_handler(self._note_unhandled)
        with self._watch.watching(), self._screen.running(self._plan.seconds):
            async with self._background(self._feed.run(), self._quotes.run(), self._narrate()):
                await asyncio.sleep(self._plan.warm_up)
                for slot in self._plan.slots:
                    outcome = await self._survive(slot)
                    outcomes.append(outcome)
                    if not outcome.survived:
                        break
                else:
                    self._screen.step("cool-down")
                    await asyncio.sleep(self._plan.cool_down)
            self._tell()
        return outcomes

    def add_up(self, outcomes: list[Outcome]) -> Summary:
        """Call it when server and consumers are gone: it also measures, and wants the machine to itself."""
        overhead = measure(self._settings.feed)
        quote = self._quotes.quote.metrics()
        self._registry.close()
        return Summary(
            seconds=self._plan.seconds,
            seed=self._seed,
            clock_source=_core.clock_source(),
            faults_planned=len(self._plan.slots),
            outcomes=tuple(outcomes),
            arrived=self._book.arrived,
            handled=self._book.handled,
            flowing_seconds=self._feed.flowing_seconds,
            gaps=self._book.gaps,
            missed=self._book.missed,
            unexplained_gaps=self._book.unexplained,
            bad_frames=self._feed.bad_frames,
            quotes=self._quotes.asked,
            fallbacks=quote.fallbacks,
            unanswered=self._quotes.unanswered,
            unhandled=tuple(self._unhandled),
            handler=_latency(self._feed.on_tick.metrics()),
            quote=_latency(quote),
            bare_ns=overhead.bare_ns,
            guard_overhead_ns=overhead.guard_overhead_ns,
        )

    async def _survive(self, slot: Slot) -> Outcome:
        """Inject one fault, wait for its breakers to open, lift it, wait for them to close."""
        fault, watch = slot.fault, self._watch
        self._step(fault.title, fault.explanation)
        bad_frames = self._feed.bad_frames
        injected = time.monotonic()
        await fault.inject(self._server)

        def opened(integration: str) -> float | None:
            return watch.first(integration, CircuitState.OPEN, since=injected)

        await _until(lambda: all(map(opened, fault.opens)), slot.hold)
        self._step(f"after {fault.title}", "the fault is lifted")
        lifted = time.monotonic()
        await fault.lift(self._server)
        await _until(lambda: all(map(watch.closed_again, fault.opens)), slot.rest)

        trips = []
        for integration in fault.opens:
            opened_at, closed_at = opened(integration), watch.closed_again(integration)
            trips.append(
                Trip(
                    integration,
                    None if opened_at is None else opened_at - injected,
                    None if opened_at is None or closed_at is None else max(0.0, closed_at - lifted),
                )
            )
        return Outcome(fault.title, tuple(trips), self._feed.bad_frames - bad_frames)

    @asynccontextmanager
    async def _background(self, *jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run `jobs` beside the body and cancel them at its end; one that failed before is noted."""
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(error, Exception):
                    self._unhandled.append(repr(error))

    async def _narrate(self) -> None:
        while True:
            self._screen.show(self._gauges.read(), min(self._elapsed(), self._plan.seconds))
            self._tell()
            await asyncio.sleep(_REFRESH)

    def _step(self, title: str, explanation: str) -> None:
        self._tell()
        self._screen.step(title)
        self._screen.say(f"  {self._elapsed():5.1f} s  {title}: {explanation}")

    def _tell(self) -> None:
        """Say which breakers have changed since the last time."""
        news = self._watch.changes[self._told :]
        self._told += len(news)
        for change in news:
            why = f" ({change.reason})" if change.reason else ""
            moved = f"{change.integration}: {change.previous} -> {change.state}"
            self._screen.say(f"  {change.at - self._started:5.1f} s      {moved}{why}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _note_unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._unhandled.append(f"{context['message']}: {context.get('exception')!r}")


async def _until(reached: Callable[[], bool], planned: float) -> None:
    """Wait for `planned` seconds, and then for `reached`, though not longer than the grace."""
    clock = asyncio.get_running_loop().time
    started = clock()
    while (elapsed := clock() - started) < planned or (not reached() and elapsed < planned + _GRACE):
        await asyncio.sleep(_POLL)


def _latency(metrics: OperationMetrics) -> Latency:
    return Latency(metrics.p50_latency * 1e6, metrics.p95_latency * 1e6, metrics.p99_latency * 1e6)
