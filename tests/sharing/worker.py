"""A process that shares an arena and does what a test tells it, a line of JSON at a time: code in, its `answer` out."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import traceback
from typing import Any

import failsoft
from failsoft import CircuitOpenError, Integration, registry


class Told(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


told = Told()


def service(name: str = "quotes", *, threshold: int = 3, reset: float = 60.0, **breaker: Any) -> Integration:
    """An integration that does not retry."""
    settings = {"failure_threshold": threshold, "reset_timeout": reset, **breaker}
    return registry.default.integration(
        name, "external_api", retry_policy={"max_retries": 0}, circuit_breaker=settings, degraded={"ramp": 0.0}
    )


def job(fails: bool = False) -> str:
    if fails:
        raise ConnectionError("down")
    return "done"


def guard(name: str = "quotes", **settings: Any) -> Any:
    return service(name, **settings).guard(job)


def fail(guarded: Any, times: int = 1) -> None:
    for _ in range(times):
        try:
            guarded(True)
        except Exception:
            pass


def refused(guarded: Any) -> bool:
    try:
        guarded()
    except CircuitOpenError:
        return True
    return False


def numbers(name: str = "quotes", operation: str = "job") -> list[int]:
    """What this process reports of an operation: count, errors, retries, fallbacks, rejected."""
    return counted(registry.default[name].metrics(operation))


def counted(metrics: Any) -> list[int]:
    return [metrics.count, metrics.error_count, metrics.retries, metrics.fallbacks, metrics.rejected]


def in_fork(work: Any) -> Any:
    """What `work` answers in a child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(work())
        except BaseException:
            answer = json.dumps(traceback.format_exc())
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = json.loads(file.read())
    os.waitpid(child, 0)
    return answer


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed by the way is no answer
    logging.getLogger("failsoft").addHandler(told)
    scope: dict[str, Any] = {**globals(), "failsoft": failsoft}
    for line in sys.stdin:
        scope["answer"] = None
        try:
            exec(json.loads(line), scope)
            answer = {"answer": scope["answer"]}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=out, flush=True)


def serve(descriptor: int) -> None:
    """Be the template of workers: for each two descriptors that come, fork one that reads and writes them."""
    link = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        said, files, _, _ = socket.recv_fds(link, 1, 2)
        if not said:
            os._exit(0)
        child = os.fork()
        if child == 0:
            link.close()
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for at, file in enumerate(files):
                os.dup2(file, at)
                os.close(file)
            sys.stdin = os.fdopen(0, closefd=False)
            main()
            return
        for file in files:
            os.close(file)
        link.send(child.to_bytes(4, "big"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
    else:
        main()
