"""Health checks: something that is called now and then to see whether a dependency is well."""

from __future__ import annotations

from collections.abc import Callable

from ..checks import at_least_one, duration
from ..config import IntegrationType
from ..functions import is_generator_function
from .status import HealthStatus, from_traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from ..registry import Registry
    from .runner import HealthRunner

SHORTEST = 0.001
"""Least seconds between checks."""


class HealthMonitor:
    """The health of a registry's integrations, by checks that it runs, and by their traffic where nobody checks.

        monitor.register_health_check(
            integration_type=IntegrationType.DATABASE, integration_name="database", check=lambda: db.ping())
        monitor.start()

    `start()` puts the checks into the asyncio loop that is running, or, without one, into one daemon thread; `stop()`
    ends them, and both may be called at any time and again. `with monitor:` and `async with monitor:` do both. A forked
    child inherits the checks but not what runs them: it calls `start()` itself.

    Async checks run in that loop; in a thread, in a private loop of it. A sync check runs in a daemon thread of its own
    while it lasts, so that one that hangs holds up nothing else. Health checks are not traffic: a check that fails does
    not count in a CLOSED breaker, is in no metrics and costs calls nothing. See `register_health_check` for the one
    that serves as a probe.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._runner: HealthRunner | None = None

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<HealthMonitor {state}, {len(self._runner.checks) if self._runner else 0} checks>"

    def register_health_check(
        self,
        *,
        integration_type: IntegrationType | str,
        integration_name: str,
        check: Callable[[], Any],
        interval: float | None = None,
        timeout: float | None = None,
        on_health_change: Callable[[HealthStatus], Any] | None = None,
        healthy_after: int = 1,
        unhealthy_after: int = 2,
        probe: bool = False,
    ) -> Callable[[], None]:
        """Check an integration every `interval` seconds from now on, in place of its former check if it had one.

        Returns the function that ends it. Parameters:

        - `integration_type`, `integration_name`: the integration, which is made by its preset if there is none yet.
        - `check`: a function without arguments, sync or async. It returns a bool, None for success, a mapping
          `{"success": bool, "latency": seconds}` or an object with such attributes; without a `latency` its own is
          measured, and an `error` of them is kept as the last error. An exception is a failed check, and so is
          anything else that it returns.
        - `interval`: seconds from one check to the next, give or take 10 %; the integration's `health_check_interval`
          by default. The first comes within a tenth of it. While a check is under way no other of it begins.
        - `timeout`: seconds after which a check has failed; the lesser of interval and read timeout by default. An
          async check is cancelled. A sync one cannot be: it is left alone, and until it has ended it is not run again
          but counts as failed anew with each interval.
        - `on_health_change`: called with a `HealthStatus` once for each change, sync or async, with nothing locked: in
          the loop that the checks run in, or in a thread of its own; `events.HealthChange` is published there too. The
          first verdict is a change only if it is unhealthy. What it raises is logged once and changes nothing.
        - `healthy_after`, `unhealthy_after`: so many results in a row make the verdict.
        - `probe`: let the check be what finds out whether an open breaker may close, rather than calls of users. When
          the breaker's wait is over the check comes at once, and under a half-open permit: its results then count in
          the breaker, and while it is HALF_OPEN they come a second apart (or an interval, if that is shorter). Calls
          of users are kept out for that long, at most for two intervals and timeouts: a monitor that has died holds
          no breaker open.
        """
        if not callable(check):
            raise TypeError(f"check must be callable without arguments, got {check!r}")
        if is_generator_function(check):
            raise TypeError(f"check must not be a generator function, got {check!r}")
        if on_health_change is not None and not callable(on_health_change):
            raise TypeError(f"on_health_change must be callable with a HealthStatus, got {on_health_change!r}")
        if not isinstance(probe, bool):
            raise TypeError(f"probe must be True or False, got {probe!r}")
        every = None if interval is None else _seconds("interval", interval)
        if every is not None and every < SHORTEST:
            raise ValueError(f"interval must be at least {SHORTEST} s, got {every!r}")
        within = None if timeout is None else _seconds("timeout", timeout)
        up, down = _count("healthy_after", healthy_after), _count("unhealthy_after", unhealthy_after)
        integration = self._registry.integration(integration_name, integration_type)
        from .checks import Check

        if every is None:
            every = max(integration.config.health_check_interval, SHORTEST)
        registered = Check(
            integration,
            check,
            interval=every,
            timeout=min(every, integration.config.timeouts.read) if within is None else within,
            on_change=on_health_change,
            healthy_after=up,
            unhealthy_after=down,
            probe=probe,
        )
        runner = self._made()
        runner.add(registered)
        return lambda: runner.remove(registered)

    def _made(self) -> HealthRunner:
        from .runner import HealthRunner  # a program without checks need not load what runs them

        with self._registry.lock:
            if self._runner is None:
                self._runner = HealthRunner()
            return self._runner

    @property
    def running(self) -> bool:
        """Whether checks are being run."""
        return self._runner is not None and self._runner.running

    def start(self) -> None:
        """Begin to run the checks, in the running asyncio loop or else in a daemon thread; nothing if they run."""
        self._made().start()

    def stop(self) -> None:
        """End all checks, timers, tasks and threads, and wait up to a second for what is under way.

        Called in the loop that the checks run in it cannot wait: there tasks are cancelled, and `astop()` waits for
        them. A sync check that hangs is left alone in its daemon thread.
        """
        if self._runner is not None:
            self._runner.stop()

    async def astop(self) -> None:
        """`stop()` for a running loop, which goes on while this waits."""
        if self._runner is not None:
            await self._runner.astop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    def clear(self) -> None:
        """`stop()`, and forget the checks."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()

    async def aclear(self) -> None:
        """`astop()`, and forget the checks."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.astop()

    def get_health(self, integration_name: str) -> HealthStatus:
        """The health of an integration, now. KeyError where none has this name."""
        integration = self._registry[integration_name]
        runner = self._runner
        if runner is not None:
            with runner.lock:
                check = runner.checks.get(integration_name)
                if check is not None and check.integration is integration:
                    return check.status()
        return from_traffic(integration)

    def checked(self) -> dict[str, HealthStatus]:
        """The health of those integrations that have a check, by name."""
        runner = self._runner
        if runner is None:
            return {}
        with runner.lock:
            return {name: check.status() for name, check in runner.checks.items()}

    def get_all_health(self) -> dict[str, HealthStatus]:
        """The health of every integration of the registry, by name."""
        return {integration.name: self.get_health(integration.name) for integration in self._registry}


def _seconds(field: str, value: object) -> float:
    seconds: float = duration(field, value)  # type: ignore[assignment]
    return seconds


def _count(field: str, value: object) -> int:
    count: int = at_least_one(field, value)  # type: ignore[assignment]
    return count
