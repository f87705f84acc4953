"""One run of a check, from `launch` to `ended`.

In between comes one of these: `settle` takes in what it came to, `give_up` counts it as failed when its time is over,
`drop` wants nothing of it any more. Whichever is first marks the run as settled, and the others let it be. A check has
at most one run, and no other begins before the check has returned, whatever became of this one.
"""

from __future__ import annotations

from functools import partial

from .._core import now_ns
from . import probes
from .checks import SECOND, Check, Outcome, failed, is_awaitable, outcome_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from threading import Thread
    from typing import Any

    from .hosts import Host
    from .runner import HealthRunner


class Run:
    """A run under way. `abandoned`: its time was up and it had not ended."""

    __slots__ = ("_dropped", "_permit", "_runner", "_started", "abandoned", "check", "settled", "task", "thread")

    def __init__(self, runner: HealthRunner, check: Check) -> None:
        self._runner = runner
        self._started = 0  # ns
        self._permit = 0
        self._dropped = False
        self.check = check
        self.settled = False
        self.abandoned = False
        self.task: Task[Any] | None = None
        self.thread: Thread | None = None

    def in_thread(self, host: Host) -> None:
        """The whole run of a sync check, in a thread of its own."""
        handed = False
        try:
            if not self._begin():
                return
            try:
                value = self.check.call()
            except BaseException as error:  # in a thread of ours nobody else is there to see it
                self.settle(failed(error, self._took()))
                return
            if is_awaitable(value):  # it is an async one after all
                self.check.is_async = True
                handed = not self.settled and host.spawn_run(self, self._finish(value))
                if not handed:
                    _close(value)
            else:
                self.settle(outcome_of(value, self._took()))
        finally:
            if not handed:
                self.ended()

    async def in_loop(self) -> None:
        """The whole run of an async check, in a task; `ended` comes with the task's end."""
        if self._begin():
            await self._finish(None)

    def _begin(self) -> bool:
        """Its time begins, unless it has been dropped before."""
        self._started = now_ns()
        permit = probes.permit_for(self.check)
        runner = self._runner
        with runner.lock:
            dropped, host = self.settled, runner.host
            if not dropped:
                self._permit = permit
                runner.expect(self, self._started + round(self.check.timeout * SECOND))
        if dropped:
            probes.give_back(self.check, permit)
        elif host is not None:
            host.wake()
        return not dropped

    async def _finish(self, value: Any) -> None:
        """Wait for what a check gave (None: call it first), and take it in."""
        from asyncio import CancelledError

        try:
            value = self.check.call() if value is None else value
            if is_awaitable(value):
                value = await value
        except CancelledError as error:
            if self.settled or (self.task is not None and self.task.cancelling()):
                raise
            self.settle(failed(error, self._took()))  # its own, not meant for us
        except Exception as error:
            self.settle(failed(error, self._took()))
        except BaseException as error:
            host = self._runner.host
            if host is None or not host.private:
                raise
            self.settle(failed(error, self._took()))
        else:
            self.settle(outcome_of(value, self._took()))

    def settle(self, outcome: Outcome) -> None:
        """Take in what it came to."""
        runner = self._runner
        with runner.lock:
            if self.settled:
                return
            self.settled = True
        if self._permit:
            breaker = self.check.integration.breaker
            (breaker.success if outcome.good else breaker.failure)(self._permit, now_ns() - self._started)
        with runner.lock:
            self._leave()
            if not self._dropped:
                runner.count(self.check, outcome)
        runner.send(self.check)

    def give_up(self, now: int) -> None:
        """Its time is over. With the runner's lock held, in the thread of the host."""
        self.settled = self.abandoned = True
        if self.task is not None:
            self.task.cancel()
        if self._permit:
            self.check.outbox.put(partial(self.check.integration.breaker.failure, self._permit, now - self._started))
        seconds = self.check.timeout
        self._runner.count(self.check, Outcome(False, seconds, f"no answer within {seconds:.3g} s"))

    def drop(self, host: Host | None) -> None:
        """Nobody wants to know any more."""
        with self._runner.lock:
            settled, self.settled, self._dropped = self.settled, True, True
        if not settled:
            probes.give_back(self.check, self._permit)
        if self.task is not None and host is not None:
            host.cancel(self.task)

    def ended(self, task: Task[Any] | None = None) -> None:
        """The check may run again."""
        if task is not None and not task.cancelled():
            task.exception()  # seen; what is raised here goes through the loop by itself
        with self._runner.lock:
            settled, self.settled = self.settled, True
            self._leave()
        if not settled:  # its loop has ended around it
            probes.give_back(self.check, self._permit)
        self._runner.hasten(self.check)

    def _leave(self) -> None:
        if self.check.run is self:
            self.check.run = None

    def hangs(self, now: int) -> Outcome | None:
        """What it counts as when it is long over and has not ended: given up, or left over from before a stop."""
        took = (now - self._started) / SECOND
        if not (self.abandoned or (self._dropped and took >= self.check.timeout)):
            return None
        return Outcome(False, None, f"no answer for {took:.3g} s; it has not ended, and is not run again until it has")

    def may_end(self) -> bool:
        """Whether anybody is left to end it: not if its loop was closed around it."""
        if self.task is None:
            return self.thread is not None and self.thread.is_alive()
        return not self.task.get_loop().is_closed()

    def _took(self) -> float:
        return (now_ns() - self._started) / SECOND


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
