"""The store of a fleet, Redis or Valkey, by the client that is installed: short timeouts, no retries, no state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event
    from typing import Any

    Connect = Callable[[], Any]

TIMEOUT = 0.1
"""Seconds for a connection, and for an answer. What is slower is taken for down."""

SCRIPT = Path(__file__).with_name("store.lua").read_text()


def connector(url: str, client: str | Connect | None) -> Connect:
    """What makes a client of the store. ImportError where none is installed."""
    if client is not None and not isinstance(client, str):
        if not callable(client):
            raise TypeError(
                f'client must be "redis", "valkey", a function that makes a client, or None, got {client!r}'
            )
        return client
    if client not in (None, "redis", "valkey"):
        raise ValueError(f'client must be "redis", "valkey", a function that makes a client, or None, got {client!r}')
    from importlib import import_module

    for name in ("redis", "valkey") if client is None else (client,):
        try:
            module, retry, backoff = (import_module(name + part) for part in ("", ".retry", ".backoff"))
        except ImportError:
            continue
        scheme, separator, rest = url.partition("://")
        if separator and scheme in ("redis", "rediss", "valkey", "valkeys"):  # each client knows its own name only
            url = name + ("s" if scheme.endswith("ss") or scheme == "valkeys" else "") + separator + rest
        made = partial(
            (module.Redis if name == "redis" else module.Valkey).from_url,
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=retry.Retry(backoff.NoBackoff(), 0),
        )
        made().close()  # an address that is none is an error now
        return made
    missing = "a client of the store" if client is None else client
    raise ImportError(f"a fleet needs {missing}: pip install 'failsoft[fleet]', or valkey")


class Store:
    """One client, and a subscription to what others have changed."""

    def __init__(self, connect: Connect, channel: str) -> None:
        from hashlib import sha1

        self._client = connect()
        self._digest = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
        self._channel = channel
        self._hints: Any = None

    def exchange(self, reports: Sequence[tuple[str, list[str]]]) -> list[Any]:
        """Run the script on each (key, arguments), in one go: an answer each, or its error. Raises if none answers."""
        answers = self._run([("EVALSHA", self._digest, 1, key, *arguments) for key, arguments in reports])
        lost = [place for place, answer in enumerate(answers) if _is_unknown(answer)]
        if lost:
            # It was restarted. Not SCRIPT LOAD, which proxies and access rules refuse; the first EVAL is one.
            again: list[tuple[Any, ...]] = []
            for place in lost:
                key, arguments = reports[place]
                how = ("EVALSHA", self._digest) if again else ("EVAL", SCRIPT)
                again.append((*how, 1, key, *arguments))
            for place, answer in zip(lost, self._run(again), strict=True):
                answers[place] = answer
        return answers

    def _run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def wait(self, seconds: float, woken: Event) -> bool:
        """Wait for so long, less if something has changed in the fleet. Whether it has. `woken` ends it soon."""
        end = time.monotonic() + seconds
        try:
            if self._hints is None:
                hints = self._client.pubsub(ignore_subscribe_messages=True)
                hints.subscribe(self._channel)
                self._hints = hints
            while (left := end - time.monotonic()) > 0.0 and not woken.is_set():
                message = self._hints.get_message(timeout=min(left, TIMEOUT))
                if message is not None and message["type"] == "message":
                    self._drain()
                    return True
        except Exception:  # only a hint: the next round asks anyway
            self.deaf()
            woken.wait(max(end - time.monotonic(), 0.0))
        return False

    def _drain(self) -> None:
        """Drop the hints that wait behind one: one round hears of all. A few thousand, lest it never ends."""
        for _ in range(4096):
            if self._hints.get_message(timeout=0.0) is None:
                return

    def deaf(self) -> None:
        """Drop the subscription: it may hang on a server that is no longer the store."""
        hints, self._hints = self._hints, None
        _close(hints)

    def close(self) -> None:
        """Drop all connections."""
        self.deaf()
        _close(self._client)


def _close(one: Any) -> None:
    if one is not None:
        try:
            one.close()
        except Exception:
            return


def _is_unknown(answer: object) -> bool:
    return isinstance(answer, Exception) and (type(answer).__name__ == "NoScriptError" or "NOSCRIPT" in str(answer))
