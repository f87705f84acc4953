"""What is simulated: a server with a queue, processes that call it through guards, and open traffic on them."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from failsoft import Integration, Registry

Act = Callable[[], Awaitable[Any]]


class Down(ConnectionRefusedError):
    """Nobody listens."""


class Server:
    """`workers` requests at a time, each takes `service` seconds; the others queue, as many as come.

    It does not know who has given up: what was asked for is worked on, also for a client that is gone, which is how an
    overload feeds on itself.
    """

    def __init__(self, workers: int, service: float) -> None:
        self.workers = workers
        self.service = service
        self.arrivals: list[float] = []
        self.down = False
        self.wasted = 0
        self._busy = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    async def handle(self) -> None:
        self.arrivals.append(self._loop.time())
        if self.down:
            raise Down("down")
        done: asyncio.Future[None] = self._loop.create_future()
        if self._busy < self.workers:
            self._begin(done)
        else:
            self._queue.append(done)
        await done

    def _begin(self, done: asyncio.Future[None]) -> None:
        self._busy += 1
        self._loop.call_later(self.service, self._end, done)

    def _end(self, done: asyncio.Future[None]) -> None:
        self._busy -= 1
        if done.done():
            self.wasted += 1
        else:
            done.set_result(None)
        if self._queue:
            self._begin(self._queue.popleft())


class Process:
    """One of the programs that call the server: a registry of its own, as another process would have."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.registry = Registry()
        self.integration: Integration = self.registry.integration("server", "external_api", **settings)
        seed_backoff(self.integration, seed)


def seed_backoff(integration: Integration, seed: int) -> None:
    """Let its jitter be the same at every run."""
    from failsoft._core import Backoff

    policy = integration.config.retry_policy
    integration.backoff = Backoff(
        policy.initial_delay, policy.max_delay, policy.backoff_multiplier, str(policy.jitter), seed=seed
    )


@contextmanager
def processes(count: int, seed: int, **settings: Any) -> Iterator[list[Process]]:
    made = [Process(seed * 10_000 + number, **settings) for number in range(count)]
    try:
        yield made
    finally:
        for process in made:
            process.registry.close()


class Requests:
    """How the requests of users went, by the second they came in."""

    def __init__(self, began: float, seconds: int) -> None:
        self.began = began
        self.offered = [0] * seconds
        self.good = [0] * seconds

    async def one(self, act: Act) -> None:
        second = int(asyncio.get_running_loop().time() - self.began)
        inside = second < len(self.offered)
        if inside:
            self.offered[second] += 1
        try:
            await act()
        except Exception:
            return
        if inside:
            self.good[second] += 1

    def goodput(self, first: int, last: int) -> float:
        """Share of the requests of these seconds that were answered."""
        offered = sum(self.offered[first:last])
        return sum(self.good[first:last]) / offered if offered else 1.0


async def open_load(
    acts: list[Act], rate: Callable[[float], float], seconds: float, seed: int, requests: Requests
) -> None:
    """Poisson arrivals at `rate(seconds since the start)` a second, each at one of the `acts`, who ever waits for what."""
    loop, dice = asyncio.get_running_loop(), random.Random(seed)
    began = loop.time()
    running: set[asyncio.Task[None]] = set()
    at = 0.0
    while True:
        at += dice.expovariate(rate(at))
        if at >= seconds:
            break
        await asyncio.sleep(max(began + at - loop.time(), 0.0))
        task = loop.create_task(requests.one(dice.choice(acts)))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
