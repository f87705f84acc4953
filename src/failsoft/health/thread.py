"""Health checks in a program without a running asyncio loop: one daemon thread that starts them."""

from __future__ import annotations

import threading
from collections import deque

from .. import timers
from .changes import Outbox
from .checks import is_awaitable
from .hosts import PATIENCE, Host, soon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

    from .hosts import Job, Made
    from .runner import HealthRunner


class InThread(Host):
    """In one daemon thread. It gets an asyncio loop when the first async check or callback needs one."""

    private = True

    def __init__(self, runner: HealthRunner) -> None:
        super().__init__(runner)
        self._thread_of_ours = threading.Thread(target=self._live, name="failsoft-health", daemon=True)
        self._woken = threading.Event()
        self._asked: deque[tuple[Job, Made]] = deque()
        self._closing = threading.Lock()  # over _asked and _closed
        self._closed = False
        self._dead = False
        self._loop: AbstractEventLoop | None = None

    def begin(self) -> None:
        self._thread_of_ours.start()

    def alive(self) -> bool:
        return not self._dead

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread_of_ours

    def busy(self) -> bool:
        return self._thread_of_ours.is_alive() or super().busy()

    def wake(self) -> None:
        self._woken.set()  # before the loop is looked at; the thread makes the loop before it looks at this
        if self._loop is not None:
            soon(self._loop, self._halt)

    def end(self) -> None:
        self._ending = True
        self.wake()

    def send(self, outbox: Outbox) -> bool:
        return self._thread(None, self._tell, outbox)

    def _tell(self, outbox: Outbox) -> None:
        while (message := outbox.next()) is not None:
            try:
                answer = message()
            except BaseException:  # in a thread of ours nobody else is there to see it
                outbox.complain()
                continue
            if is_awaitable(answer):
                over = threading.Event()
                if self._spawn(self._await(outbox, answer), lambda task: task.add_done_callback(lambda _: over.set())):  # noqa: B023
                    over.wait()

    async def _await(self, outbox: Outbox, answer: Any) -> None:
        try:
            await answer
        except Exception:
            outbox.complain()

    def _spawn(self, job: Job, made: Made) -> bool:
        with self._closing:
            if self._closed:
                job.close()
                return False
            self._asked.append((job, made))
        self.wake()
        return True

    def _live(self) -> None:
        try:
            while True:
                self._woken.clear()
                if self._ending:
                    return
                self._take_jobs()
                self._wait(self._runner.step(self))
        finally:
            self._dead = True
            with self._closing:
                self._closed = True
            self._take_jobs()
            self._close_loop()

    def _take_jobs(self) -> None:
        while self._asked:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
            self._make(self._loop, *self._asked.popleft())

    def _wait(self, until: int | None) -> None:
        if self._loop is None:
            timers.current.wait_until(self._woken, until)
            return
        if self._woken.is_set():
            return
        call_off = None if until is None else timers.current.call_at(self._loop, until, self._halt)
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            pass  # of a task that a check has left behind; ours hand on no such thing
        finally:
            if call_off is not None:
                call_off()

    def _halt(self) -> None:
        if self._loop is not None and not self._dead:  # what is posted late must not stop the loop's own ending
            self._loop.stop()

    def _close_loop(self) -> None:
        loop = self._loop
        if loop is None:
            return
        import asyncio

        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
