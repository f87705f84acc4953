"""Four failures, each met with failsoft as it is and with plain retries. Each answers with its figures."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from .loop import run
from .model import Act, Down, Requests, Server, open_load, processes

RETRY = {"max_retries": 3, "initial_delay": 0.1, "max_delay": 1.0}
NO_BREAKER = {"failure_threshold": 60_000}


class Outage(NamedTuple):
    requests: int
    attempts: int
    allowed: float  # attempts: each layer adds share of what it is asked, floor * (seconds + window) at most

    @property
    def ratio(self) -> float:
        return self.attempts / self.requests


def outage(
    rate: float, seconds: int, budget: dict[str, float] | None, layers: int = 1, breaker: bool = False, seed: int = 1
) -> Outage:
    """A server that is down all the time. The requests go through `layers` services, each of which retries."""

    async def main() -> Outage:
        settings: dict[str, Any] = {"retry_policy": RETRY, "retry_budget": budget}
        if not breaker:
            settings["circuit_breaker"] = NO_BREAKER
        with processes(layers, seed, **settings) as services:
            server = Server(1, 0.001)
            server.down = True
            act: Act = server.handle
            for service in services:
                act = service.integration.guard(act, operation="call")
            requests = Requests(asyncio.get_running_loop().time(), seconds)
            await open_load([act], lambda _: rate, seconds, seed, requests)
            offered = sum(requests.offered)
            most = budget or {"share": float(RETRY["max_retries"]), "floor": 0.0, "window": 0.0}
            lasted, allowed = asyncio.get_running_loop().time() - requests.began, float(offered)
            for _ in range(layers):
                allowed += most["share"] * allowed + most["floor"] * (lasted + most["window"])
            return Outage(offered, len(server.arrivals), allowed)

    return run(main())


class Overload(NamedTuple):
    recovered_after: int | None  # seconds from the end of the trigger until goodput is back over 95 % for good
    goodput: float  # of all requests from the end of the trigger on
    last: float  # goodput of the last ten seconds
    requests: int
    attempts: int
    wasted: int  # requests served for nobody
    curve: list[float]  # goodput by the second


def overload(
    *,
    budget: bool = True,
    breaker: bool = True,
    capacity: int = 50,
    share: float = 0.85,
    clients: int = 3,
    factor: float = 10.0,
    trigger: int = 2,
    seconds: int = 45,
    floor: float = 0.5,
    seed: int = 1,
) -> Overload:
    """Open traffic near capacity, and `factor` times as much of it from second 5 on, for `trigger` seconds."""

    async def main() -> Overload:
        settings: dict[str, Any] = {
            "retry_policy": RETRY,
            "timeouts": {"overall": 4.0},
            "circuit_breaker": {"timeout": 0.5, "reset_timeout": 2.0, "failure_rate": 0.5},
            "degraded": {"ramp_from": 0.1, "ramp": 5.0},
            "retry_budget": {"share": 0.2, "floor": floor, "window": 10.0},
        }
        if not budget:
            settings["retry_budget"] = None
        if not breaker:
            settings["circuit_breaker"] = {"timeout": 0.5, **NO_BREAKER}
        workers = max(1, capacity // 50)
        with processes(clients, seed, **settings) as made:
            server = Server(workers, workers / capacity)
            acts: list[Act] = [client.integration.guard(server.handle, operation="call") for client in made]
            requests = Requests(asyncio.get_running_loop().time(), seconds)
            usual, start = capacity * share, 5

            def rate(at: float) -> float:
                return usual * factor if start <= at < start + trigger else usual

            await open_load(acts, rate, seconds, seed, requests)
            after = start + trigger
            curve = [requests.goodput(second, second + 1) for second in range(seconds)]
            return Overload(
                recovery(requests, after, seconds),
                requests.goodput(after, seconds),
                requests.goodput(seconds - 10, seconds),
                sum(requests.offered),
                len(server.arrivals),
                server.wasted,
                curve,
            )

    return run(main())


def recovery(requests: Requests, after: int, seconds: int, span: int = 5) -> int | None:
    """Seconds until every span from then on has a goodput over 95 %."""
    back = None
    for second in range(seconds - span, after - 1, -1):
        if requests.goodput(second, second + span) < 0.95:
            break
        back = second - after
    return back


class Crowd(NamedTuple):
    clients: int
    arrivals: int
    peak: int  # in one bin
    mean: float

    @property
    def ratio(self) -> float:
        return self.peak / self.mean


def crowd(jitter: str, *, clients: int = 1000, bin_width: float = 0.1, outage: float = 4.0, seed: int = 1) -> Crowd:
    """All clients lose the server in the same instant, each with one call under way, and retry until it is back."""

    async def main() -> Crowd:
        settings: dict[str, Any] = {
            "retry_policy": {
                "max_retries": 8, "initial_delay": 0.5, "max_delay": 10.0, "backoff_multiplier": 2.0, "jitter": jitter,
            },
            "circuit_breaker": NO_BREAKER,
        }  # fmt: skip
        with processes(clients, seed, **settings) as made:
            loop = asyncio.get_running_loop()
            server = Server(clients, 0.001)
            server.down = True
            loop.call_later(outage, setattr, server, "down", False)
            began = loop.time()
            calls = [client.integration.guard(server.handle, operation="call")() for client in made]
            await asyncio.gather(*calls, return_exceptions=True)
            retries = [at - began for at in server.arrivals[clients:]]  # the first attempts are the common outage
            bins = [0] * (int(max(retries) / bin_width) + 1)
            for at in retries:
                bins[int(at / bin_width)] += 1
            return Crowd(clients, len(retries), max(bins), len(retries) / len(bins))

    return run(main())


class Partial(NamedTuple):
    healthy: int
    lost: int  # of the healthy
    sick: int
    sick_attempts: int


def partial(*, keyed: bool = True, keys: int = 10, rate: float = 100.0, seconds: int = 20, seed: int = 1) -> Partial:
    """One of `keys` shards is down. With a breaker for each key, or one for all of them."""

    async def main() -> Partial:
        with processes(1, seed, retry_policy=RETRY, circuit_breaker={"failure_rate": 0.2}) as (client,):
            server = Server(keys, 0.002)
            attempts = [0] * keys

            async def call(shard: int) -> None:
                attempts[shard] += 1
                if shard == 0:
                    raise Down("this shard is down")
                await server.handle()

            guard = client.integration.guard(call, key=(lambda shard: shard) if keyed else None)
            began = asyncio.get_running_loop().time()
            all_requests = [Requests(began, seconds) for _ in range(keys)]
            loads = [
                open_load([_bound(guard, shard)], lambda _: rate / keys, seconds, seed + shard, all_requests[shard])
                for shard in range(keys)
            ]
            await asyncio.gather(*loads)
            healthy = all_requests[1:]
            offered = sum(sum(one.offered) for one in healthy)
            good = sum(sum(one.good) for one in healthy)
            return Partial(offered, offered - good, sum(all_requests[0].offered), attempts[0])

    return run(main())


def _bound(guard: Any, shard: int) -> Act:
    return lambda: guard(shard)
