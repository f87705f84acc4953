"""`guard(enforce="thread")`: each attempt of a blocking function in a thread of ours, which its caller leaves in time.

Nothing can stop a thread. A call whose time is up is abandoned: its caller gets an `IntegrationTimeoutError`, and the
work goes on, with all its effects, until it ends by itself. Abandoned calls are listed, and there is a cap on them.

A thread serves one call at a time and is kept a while for the next. There are as many as callers wait, and abandoned
calls beside them; all are daemons, so that neither the interpreter's exit nor a registry's close waits for one.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from types import MethodType

from . import forks, timers
from ._core import EVENTS, frame, now_ns, remaining, set_frame
from .answers import ATTEMPT_TIMEOUT
from .config import ErrorCategory
from .course import SECOND
from .errors import IntegrationError, IntegrationTimeoutError
from .functions import dress, is_coroutine_function, name_of
from .guards import binds
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .integrations import Integration

ABANDONED_MOST = 64
"""Calls of one integration that may go on unwatched. While there are as many, no further one is begun."""

IDLE_MOST = 16
"""Threads kept for the next call."""

IDLE_SECONDS = 10.0
"""How long one waits for it. Real seconds, whatever clock the rest goes by: it decides nothing."""

REJECTED = EVENTS.index("rejected")


class AbandonedCall(Record):
    """A call that goes on though its caller has left: the operation's name, and seconds since the call began."""

    operation: str
    age: float


class _Job:
    """One call on its way through a thread."""

    __slots__ = (
        "_arguments",
        "_context",
        "_frame",
        "_function",
        "began",
        "done",
        "error",
        "left",
        "operation",
        "runs",
        "value",
    )

    def __init__(self, operation: str, function: Callable[..., Any], arguments: tuple[Any, Any]) -> None:
        self.operation = operation
        self.began = now_ns()
        self.done = threading.Event()
        self.runs = False
        self.left: dict[_Job, int] | None = None  # where it is listed while it runs, once its caller has gone
        self.value: Any = None
        self.error: BaseException | None = None
        self._function: Callable[..., Any] | None = function
        self._arguments: tuple[Any, Any] | None = arguments
        self._context = contextvars.copy_context()
        self._frame = frame()

    def run(self) -> None:
        assert self._function is not None
        assert self._arguments is not None
        args, kwargs = self._arguments
        with _lock:
            self.runs = True
            if self.left is not None:  # its caller was interrupted as the thread started
                self.left[self] = forks.generation
        set_frame(self._frame)
        try:
            self.value = self._context.run(self._function, *args, **kwargs)
        except BaseException as error:  # its caller's, whatever it is
            self.error = error
        finally:
            set_frame(_NO_FRAME)
            self._function = self._arguments = None
            del args, kwargs

    def finish(self) -> None:
        with _lock:
            self.done.set()
            if self.left is None:
                return
            self.left.pop(self, None)
        self.value = self.error = None  # nobody will ask; what goes with them may be code of the user's

    def abandon(self, calls: dict[_Job, int]) -> bool:
        """Leave it to itself. False: it has just finished."""
        with _lock:
            if self.done.is_set():
                return False
            self.left = calls
            if self.runs:
                calls[self] = forks.generation
            return True


_NO_FRAME = 2**64 - 1
"""FS_FOREVER of csrc."""

_lock = forks.new_lock()  # over a job's end, and what has been abandoned

_idle: dict[_Worker, None] = {}  # the last one to wait is the first to be asked: popping and putting are atomic


class _Worker:
    """A thread that waits for jobs, and goes when none has come for a while."""

    __slots__ = ("_job", "_wake")

    def __init__(self, job: _Job) -> None:
        self._job: _Job | None = job
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._work, name=f"failsoft {job.operation}", daemon=True).start()

    def give(self, job: _Job) -> None:
        self._job = job
        self._wake.release()

    def _work(self) -> None:
        while True:
            job, self._job = self._job, None
            assert job is not None
            job.run()
            stays = len(_idle) < IDLE_MOST
            if stays:
                _idle[self] = None  # before its caller goes on: it may have the next call at once
            job.finish()
            del job
            if not stays:
                return
            if not self._wake.acquire(timeout=IDLE_SECONDS):
                if _idle.pop(self, _GONE) is not _GONE:
                    return
                self._wake.acquire()  # somebody was quicker, and has a job for us


_GONE = object()


def _start(job: _Job) -> None:
    try:
        worker, _ = _idle.popitem()
    except KeyError:
        _Worker(job)
    else:
        worker.give(job)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not come along


class Abandoned:
    """The calls of one integration that go on though nobody waits for them."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[_Job, int] = {}  # oldest first, with the process's generation

    def jobs(self) -> list[_Job]:
        with _lock:
            parents = [job for job, generation in self._calls.items() if generation != forks.generation]
            for job in parents:
                del self._calls[job]
            jobs = list(self._calls)
        parents.clear()  # not under the lock: what goes with them may be code of the user's
        return sorted(jobs, key=lambda job: job.began)

    def told(self) -> tuple[AbandonedCall, ...]:
        """What `Integration.abandoned` gives."""
        now = now_ns()
        return tuple(AbandonedCall(job.operation, max(now - job.began, 0) / SECOND) for job in self.jobs())

    def call(self, fn: Callable[..., Any], by: _By, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `fn` in a thread, and wait for it as long as the deadline in force allows."""
        patience = remaining()
        if patience is None or by.integration.passes_through:
            return fn(*args, **kwargs)
        if len(self._calls) >= ABANDONED_MOST:
            self._refuse(by)
        job = _Job(by.operation, fn, (args, kwargs))
        try:
            try:
                _start(job)
            except RuntimeError as error:  # the system gives no more threads, or the interpreter is at its end
                raise by.refusal(f"no thread for it: {error}", "no thread", "NO_THREAD") from error
            if not timers.current.wait(job.done, patience) and job.abandon(self._calls):
                raise _left(by, patience)
        except BaseException:  # an interrupt too
            job.abandon(self._calls)
            raise
        value, raised = job.value, job.error
        job.value = job.error = None  # its traceback holds the job, and this frame
        try:
            if raised is not None:
                raise raised
            return value
        finally:
            raised = None

    def _refuse(self, by: _By) -> None:
        jobs = self.jobs()
        if len(jobs) < ABANDONED_MOST:
            return
        oldest, age = jobs[0].operation, (now_ns() - jobs[0].began) / SECOND
        raise by.refusal(
            f"{len(jobs)} abandoned calls of {by.integration.name} still run, the oldest ({oldest}) for {age:.3g} s",
            "too many abandoned calls",
            "ABANDONED_CALLS",
            abandoned=len(jobs),
            oldest=oldest,
            oldest_age=age,
        )


class _By:
    """Whose calls these are."""

    __slots__ = ("integration", "operation", "record")

    def __init__(self, integration: Integration, operation: str) -> None:
        self.integration = integration
        self.operation = operation
        self.record = integration.record(operation)

    def refusal(self, why: str, reason: str, code: str, **details: object) -> IntegrationError:
        """The error of a call that is not begun, counted."""
        self.record.note(REJECTED)
        integration = self.integration
        prefix = IntegrationError(integration_type=integration.type).code.partition("_")[0]
        return IntegrationError(
            f"{self.operation}: not called, {why}",
            # The one outcome that is neither failure nor success of the peer, which was not asked.
            category=ErrorCategory.VALIDATION,
            code=f"{prefix}_{code}",
            retryable=True,
            integration_type=integration.type,
            integration_name=integration.name,
            operation=self.operation,
            reason=reason,
            details=details,
        )


def _left(by: _By, seconds: float) -> IntegrationTimeoutError:
    integration = by.integration
    return IntegrationTimeoutError(
        f"{by.operation}: no answer within {seconds:.3g} s; the call was left in its thread and goes on there",
        integration_type=integration.type,
        integration_name=integration.name,
        operation=by.operation,
        reason=ATTEMPT_TIMEOUT,
    )


def enforced(fn: Callable[..., Any], integration: Integration, operation: str | None, abandoned: Abandoned) -> Any:
    """A function like `fn` whose calls are left in their thread when their time is up."""
    if is_coroutine_function(fn):
        raise TypeError(f'enforce="thread" is for blocking functions; {fn!r} is async, and is cancelled in time anyway')
    by = _By(integration, operation or name_of(fn))
    wrapper = (_Binding if binds(fn) else _InThread)(fn, by, abandoned)
    dress(wrapper, fn, by.operation)
    return wrapper


class _InThread:
    """What the guard calls in place of `fn`. It does not bind to instances, as what it stands for does not."""

    def __init__(self, fn: Callable[..., Any], by: _By, abandoned: Abandoned) -> None:
        self.__wrapped__ = fn
        self._by = by
        self._abandoned = abandoned

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._abandoned.call(self.__wrapped__, self._by, args, kwargs)


class _Binding(_InThread):
    """The same for functions, which become methods in a class."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)
