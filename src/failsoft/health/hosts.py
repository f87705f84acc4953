"""Where health checks run: in the asyncio loop of the program, or (`health_thread.py`) in one thread of our own.

Either way a sync check, which may hang, runs in a daemon thread of its own that lasts no longer than the check; not in
the loop's executor, whose threads a program waits for when it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine

from .. import timers
from .changes import Outbox
from .checks import failed, is_awaitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from .runner import HealthRunner
    from .runs import Run

    Job: TypeAlias = Coroutine[Any, Any, None]
    Made: TypeAlias = Callable[[Task[None]], None]

PATIENCE = 1.0
"""Seconds that stopping waits for checks and callbacks under way to end."""


class Host:
    """What both have in common: threads for what may block, tasks for what does not."""

    private = False
    """Whether the loop is ours, so that an exit raised in it has no business further out."""

    def __init__(self, runner: HealthRunner) -> None:
        self._runner = runner
        self._threads: dict[threading.Thread, Run | None] = {}
        self._tasks: set[Task[None]] = set()
        self._ending = False

    # ---- what each has of its own

    def begin(self) -> None:
        raise NotImplementedError

    def alive(self) -> bool:
        raise NotImplementedError

    def wake(self) -> None:
        """Step soon. From any thread."""
        raise NotImplementedError

    def end(self) -> None:
        """Begin to end. From any thread."""
        raise NotImplementedError

    def is_here(self) -> bool:
        """Whether the caller is what the host runs in, and waiting for it would be for ever."""
        raise NotImplementedError

    def send(self, outbox: Outbox) -> bool:
        """Have somebody tell what waits in it, one thing after the other. False: it cannot be."""
        raise NotImplementedError

    def _spawn(self, job: Job, made: Made) -> bool:
        """Make a task of a coroutine, from any thread. False: there is no loop any more, and it is closed."""
        raise NotImplementedError

    # ----

    def launch(self, run: Run) -> None:
        """Run a check. In the thread of the host."""
        if run.check.is_async:
            self.spawn_run(run, run.in_loop())
        elif not self._thread(run, run.in_thread, self):
            run.settle(failed(RuntimeError("no thread could be started for the check"), 0.0))
            run.ended()

    def spawn_run(self, run: Run, job: Job) -> bool:
        """Make a task of what is to become of a run. `ended` comes with its end, even if it never begins."""

        def made(task: Task[None]) -> None:
            run.task = task
            task.add_done_callback(run.ended)
            if run.settled:
                task.cancel()

        return self._spawn(job, made)

    def cancel(self, task: Task[Any]) -> None:
        """Cancel a task, from any thread."""
        loop = task.get_loop()
        if timers.running_loop() is loop:
            task.cancel()
        else:
            soon(loop, task.cancel)

    def busy(self) -> bool:
        """Whether anything but the caller, and checks that were given up, is still on its way."""
        here = threading.current_thread()
        return self._has_tasks() or any(
            thread.is_alive() and thread is not here and not (run is not None and run.abandoned)
            for thread, run in tuple(self._threads.items())
        )

    def _has_tasks(self) -> bool:
        here = None
        if timers.running_loop() is not None:
            from asyncio import current_task

            here = current_task()
        return any(task is not here for task in tuple(self._tasks) if not task.get_loop().is_closed())

    def _thread(self, run: Run | None, target: Callable[..., None], *args: object) -> bool:
        for thread in tuple(self._threads):
            if not thread.is_alive():
                self._threads.pop(thread, None)
        thread = threading.Thread(target=target, args=args, name="failsoft-health-check", daemon=True)
        if run is not None:
            run.thread = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives none, or the interpreter is on its way out
            return False
        self._threads[thread] = run
        return True

    def _make(self, loop: AbstractEventLoop, job: Job, made: Made) -> None:
        task = loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        made(task)
        if self._ending:  # whoever waits for its end still learns of it
            task.cancel()


class InLoop(Host):
    """In the loop of the program: one timer, and a task for each async check while it runs."""

    def __init__(self, runner: HealthRunner, loop: AbstractEventLoop) -> None:
        super().__init__(runner)
        self._loop = loop
        self._call_off: Callable[[], None] | None = None

    def begin(self) -> None:
        self._tick()

    def alive(self) -> bool:
        return not self._loop.is_closed()

    def is_here(self) -> bool:
        return timers.running_loop() is self._loop

    def wake(self) -> None:
        if self.is_here():
            self._tick()
        else:
            soon(self._loop, self._tick)

    def end(self) -> None:
        if self.is_here():
            self._end_here()
        else:
            soon(self._loop, self._end_here)

    def send(self, outbox: Outbox) -> bool:
        def told(task: Task[None]) -> None:
            if task.cancelled() or task.exception() is not None:
                outbox.stopped()

        return self._spawn(self._tell(outbox), lambda task: task.add_done_callback(told))

    async def _tell(self, outbox: Outbox) -> None:
        while (message := outbox.next()) is not None:
            try:
                answer = message()
                if is_awaitable(answer):
                    await answer
            except Exception:
                outbox.complain()

    def _tick(self) -> None:
        if self._ending or self._loop.is_closed():
            return
        if self._call_off is not None:
            self._call_off()
            self._call_off = None
        until = self._runner.step(self)
        if until is not None:
            self._call_off = timers.current.call_at(self._loop, until, self._tick)

    def _end_here(self) -> None:
        self._ending = True
        if self._call_off is not None:
            self._call_off()
        for task in tuple(self._tasks):
            task.cancel()

    def _spawn(self, job: Job, made: Made) -> bool:
        if self.is_here():
            self._make(self._loop, job, made)
        elif not soon(self._loop, self._make, self._loop, job, made):
            job.close()
            return False
        return True


def soon(loop: AbstractEventLoop, call: Callable[..., object], *args: Any) -> bool:
    """Have a loop call something, from any thread. False where the loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True
