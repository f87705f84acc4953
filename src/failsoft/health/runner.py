"""When the checks of a monitor run; how a run goes is in `health_runs.py`, and where in `health_hosts.py`.

What is due lies in one heap: the next run of every check, and the end of the time that each run under way has. A host
calls `step` when the first of them is due, and after every `wake`. No code of the user's, and nothing that publishes
events, is called under the lock.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable

from .. import events
from .._core import now_ns
from ..timers import running_loop
from . import probes
from .checks import Check, Outcome
from .hosts import PATIENCE, Host, InLoop
from .runs import Run
from .thread import InThread

PATIENCE_AT_EXIT = 0.2


class HealthRunner:
    """The schedule of a monitor's checks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.checks: dict[str, Check] = {}
        self.host: Host | None = None
        self._heap: list[tuple[int, int, Check | Run]] = []
        self._order = itertools.count()
        self._unsubscribe: Callable[[], None] | None = None
        _runners.add(self)

    # ---- what the monitor asks for

    @property
    def running(self) -> bool:
        """Whether there is a host. One whose loop was closed is none."""
        host = self.host
        return host is not None and host.alive()

    def add(self, check: Check) -> None:
        """Take a check in, in place of another of its integration."""
        with self.lock:
            former = self.checks.get(check.integration.name)
            self.checks[check.integration.name] = check
            host = self.host
            if host is not None:
                self._push(check, now_ns() + check.first_wait())
        if former is not None:
            self._drop(former, host)
        if host is not None:
            self._watch(check)
            host.wake()

    def remove(self, check: Check) -> None:
        """Run it no more, unless another has taken its place already."""
        with self.lock:
            if self.checks.get(check.integration.name) is not check:
                return
            del self.checks[check.integration.name]
            host = self.host
        self._drop(check, host)

    def start(self) -> None:
        """Run the checks in the loop that runs here, or else in a thread."""
        loop = running_loop()
        with self.lock:
            if self.host is not None and self.host.alive():
                return
            host: Host = InThread(self) if loop is None else InLoop(self, loop)
            stale, self.host = self.host, host
            self._heap.clear()
            for check in self.checks.values():
                if check.run is not None and not check.run.may_end():
                    check.run = None
                if stale is not None:
                    check.outbox.stopped()
                self._push(check, now_ns() + check.first_wait())
            checks = tuple(self.checks.values())
        try:
            host.begin()
        except BaseException:
            self.end()
            raise
        for check in checks:
            self._watch(check)
            self.send(check)

    def stop(self, patience: float = PATIENCE) -> None:
        """End it, and wait for what is under way if this is not the loop it runs in."""
        host = self.end()
        if host is None or host.is_here():
            return
        until = time.monotonic() + patience
        while host.busy() and time.monotonic() < until:
            time.sleep(0.001)

    async def astop(self) -> None:
        """End it, and wait for what is under way."""
        import asyncio

        host = self.end()
        until = time.monotonic() + PATIENCE
        while host is not None and host.busy() and time.monotonic() < until:
            await asyncio.sleep(0.001)

    def end(self) -> Host | None:
        """Tell everything to end; gives the host there was, which may take a moment."""
        with self.lock:
            host, self.host = self.host, None
            unsubscribe, self._unsubscribe = self._unsubscribe, None
            self._heap.clear()
            checks = tuple(self.checks.values())
            runs = [check.run for check in checks if check.run is not None]
            for check in checks:
                check.due = None
        if unsubscribe is not None:
            unsubscribe()
        if host is None:
            return None
        for run in runs:
            run.drop(host)
        for check in checks:
            probes.release(check)
        host.end()
        return host

    # ---- what hosts call

    def step(self, host: Host) -> int | None:
        """Start what is due, give up what has run too long. When to come again (ns); None: when woken."""
        launched: list[Run] = []
        told: list[Check] = []
        with self.lock:
            if host is not self.host:
                return None
            now = now_ns()
            while self._heap and self._heap[0][0] <= now:
                when, _, item = heapq.heappop(self._heap)
                if isinstance(item, Run):
                    if not item.settled:
                        item.give_up(now)
                        told.append(item.check)
                elif item.due == when:
                    self._push(item, now + item.wait())
                    if item.run is None:
                        item.run, item.launched = Run(self, item), now
                        launched.append(item.run)
                    elif (failure := item.run.hangs(now)) is not None:
                        self.count(item, failure)
                        told.append(item)
            until = self._heap[0][0] if self._heap else None
        for run in launched:
            host.launch(run)
        for check in told:
            self.send(check)
        return until

    # ---- the schedule; with the lock held

    def expect(self, run: Run, when: int) -> None:
        """Give up a run when the time has come (ns)."""
        heapq.heappush(self._heap, (when, next(self._order), run))

    def _push(self, check: Check, when: int) -> None:
        check.due = when
        heapq.heappush(self._heap, (when, next(self._order), check))

    def count(self, check: Check, outcome: Outcome) -> None:
        """Take a result in, and note the change if it makes one."""
        if check.count(outcome):
            check.outbox.change(check.status(), outcome.error)

    # ---- and without

    def send(self, check: Check) -> None:
        """Have somebody tell what has been noted."""
        host = self.host
        if host is not None:
            check.outbox.send(host)

    def _drop(self, check: Check, host: Host | None) -> None:
        """Forget its next run, and what the one under way will come to."""
        with self.lock:
            check.due, run = None, check.run
        if run is not None:
            run.drop(host)
        probes.release(check)

    def _watch(self, check: Check) -> None:
        """For a check that serves as a probe: keep the half-open breaker for it, and learn when it is wanted."""
        if not check.probe:
            return
        with self.lock:
            unheard = self._unsubscribe is None and self.host is not None
            if unheard:
                self._unsubscribe = events.subscribe(self._heard, events.Transition)
        probes.reserve(check)
        self.hasten(check)

    def _heard(self, event: events.Transition) -> None:
        check = self.checks.get(event.integration)
        if check is not None and check.probe:
            self.hasten(check)

    def hasten(self, check: Check) -> None:
        """Run it sooner where its breaker wants a probe sooner."""
        wanted = probes.wanted(check)
        with self.lock:
            host = self.host
            if host is None or wanted is None or check.due is None:
                return
            when = max(wanted, probes.earliest(check))
            if when >= check.due:
                return
            self._push(check, when)
        host.wake()

    def forget(self) -> None:
        """In the child of a fork: threads, loops and runs are the parent's."""
        self.lock = threading.Lock()
        if self.host is not None:
            _of_the_parent.append(self.host)
        self.host = None
        self._heap = []
        for check in self.checks.values():
            check.run = check.due = None
            check.outbox.forget()
            probes.release(check)


_runners: weakref.WeakSet[HealthRunner] = weakref.WeakSet()
_of_the_parent: list[Host] = []
"""What a fork left here: closing such a loop would take its sockets out of the parent's selector."""


@atexit.register
def _stop_all() -> None:
    for runner in tuple(_runners):
        runner.stop(PATIENCE_AT_EXIT)


def _forget_all() -> None:
    for runner in tuple(_runners):
        runner.forget()


os.register_at_fork(after_in_child=_forget_all)
