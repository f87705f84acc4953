"""A fleet: many hosts whose breakers know of each other, through a Redis or a Valkey.

Every call is decided by the breaker of its own process, with no I/O. One background thread tells the store what its
breakers do, and them what holds in the fleet. Without the store each host is as well protected as it would be alone.
See docs/fleet.md.
"""

from __future__ import annotations

import os
import random
import threading

from .. import forks
from .._core import now_ns
from ..records import Record
from .stores import connector
from .syncer import FleetBreakerStatus, Syncer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Literal, Self

    from ..registry import Registry
    from .stores import Connect

MODES = ("local", "shared-open", "shared-window")
PATIENCE = 2.0
"""Seconds that `close` waits for the thread."""


_running: set[Fleet] = set()
"""Those not closed: whoever drops his, or forks, has it all the same."""


class FleetStatus(Record):
    """A process in its fleet.

    `connected`: the store answered the last time it was asked; else `error` says why. `synced` is how many seconds ago
    it last did, None: never. `rounds` have gone well, `failed` not. `breakers` tells of each integration by name.
    """

    namespace: str
    mode: str
    member: str
    connected: bool
    error: str | None
    synced: float | None
    rounds: int
    failed: int
    breakers: Mapping[str, FleetBreakerStatus]


class Fleet:
    """This process's part in a fleet. Get it from `failsoft.fleet(url)`; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        *,
        mode: Literal["local", "shared-open", "shared-window"] = "shared-open",
        interval: float = 0.2,
        quorum: int | float = 0.5,
        namespace: str = "default",
        host: str | None = None,
        registry: Registry | None = None,
        client: Literal["redis", "valkey"] | Connect | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0.01 <= interval <= 60.0:
            raise ValueError(f"interval must be a number of seconds from 0.01 to 60, got {interval!r}")
        for name, text in (("namespace", namespace), ("host", "x" if host is None else host)):
            if not isinstance(text, str) or not text or set(text) & set("{}/"):
                raise ValueError(f"{name} must be a string without braces and slashes, and not empty, got {text!r}")
        from ..registry import default

        self.mode = mode
        self.namespace = namespace
        self.host = _name_of_host() if host is None else host
        self._interval = float(interval)
        self._quorum = _checked(quorum)
        self._registry = default if registry is None else registry
        if mode != "local" and any(other._registry is self._registry for other in _running):
            raise RuntimeError(
                "this registry is in a fleet already, and would be told what to do by two; close that one"
            )
        self._connect = connector(url, client)
        self._syncer = self._make()
        self._past: list[object] = []  # connections of a parent, which this process must not close
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin()
        forks.remember(self)

    def _make(self) -> Syncer:
        self.member = f"{self.host}/{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}"
        return Syncer(
            self._connect,
            self._registry,
            member=self.member,
            namespace=self.namespace,
            interval=self._interval,
            counts=self.mode == "shared-window",
            quorum=self._quorum,
        )

    def _begin(self) -> None:
        if self.mode != "local":
            arguments = (self._syncer, self._closed, self._interval)
            self._thread = threading.Thread(target=_live, args=arguments, name="failsoft-fleet", daemon=True)
            self._thread.start()
            _running.add(self)

    def status(self) -> FleetStatus:
        """What is known of the fleet now; asks nobody."""
        syncer = self._syncer
        synced = syncer.synced
        return FleetStatus(
            namespace=self.namespace,
            mode=self.mode,
            member=self.member,
            connected=bool(syncer.connected),
            error=syncer.error,
            synced=None if synced is None else (now_ns() - synced) / 1e9,
            rounds=syncer.rounds,
            failed=syncer.failed,
            breakers=syncer.breakers(),
        )

    def close(self) -> None:
        """Leave the fleet and end the thread. Breakers stay as they are, and each decides alone from now on."""
        self._closed.set()
        _running.discard(self)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def forked(self) -> None:
        """In a child: another member of the fleet, with a thread and connections of its own."""
        if self._closed.is_set():
            return
        self._past.append(self._syncer)
        self._closed = threading.Event()
        self._syncer = self._make()
        self._begin()


def fleet(
    url: str,
    *,
    mode: Literal["local", "shared-open", "shared-window"] = "shared-open",
    interval: float = 0.2,
    quorum: int | float = 0.5,
    namespace: str = "default",
    host: str | None = None,
    registry: Registry | None = None,
    client: Literal["redis", "valkey"] | Connect | None = None,
) -> Fleet:
    """Let the breakers of this process know of those of other hosts, through the Redis or Valkey at `url`.

        fleet = failsoft.fleet("redis://cache.internal:6379/0")

    - `mode`: "shared-open": a quorum of hosts that are open opens all, and one host probes for all. "shared-window":
      the fleet's counts of calls and failures trip it too. "local": neither told nor told of; off.
    - `interval`: seconds between two rounds with the store, 0.01 to 60. An opening reaches all within two of them.
    - `quorum`: how many hosts must be open: a number of them, or a share (a float up to 1.0) of those that have made
      the integration, and then at least two.
    - `namespace`: fleets of other namespaces in the same store are other fleets.
    - `host`: the name of this host, the machine's own by default. Processes of one host count once.
    - `registry`: whose integrations; those of the default one. One fleet a registry.
    - `client`: "redis" or "valkey", whichever is installed by default; or a function without arguments that makes a
      client, which brings its own timeouts: keep them short.

    ImportError without a client; ValueError for an address or a value that is none; RuntimeError for a registry that is
    in a fleet already.
    """
    return Fleet(
        url,
        mode=mode,
        interval=interval,
        quorum=quorum,
        namespace=namespace,
        host=host,
        registry=registry,
        client=client,
    )


def _live(syncer: Syncer, closed: threading.Event, interval: float) -> None:
    dice = random.Random(os.urandom(8))
    closed.wait(interval * dice.random())  # processes started together ask at different times
    while not closed.is_set():
        try:
            syncer.round()
            if syncer.wait(interval * dice.uniform(0.9, 1.0), closed):
                closed.wait(interval * dice.uniform(0.0, 0.25))  # all have heard it at once
        except Exception as error:  # nobody else is there to see it
            syncer.broken(error)
            closed.wait(interval)
    syncer.leave()


def _checked(quorum: int | float) -> int | float:
    whole = isinstance(quorum, int) and not isinstance(quorum, bool) and 1 <= quorum <= 1_000_000
    share = isinstance(quorum, float) and 0.0 < quorum <= 1.0
    if not whole and not share:
        raise ValueError(
            f"quorum must be a number of hosts from 1 on, or a share of them above 0.0 up to 1.0, got {quorum!r}"
        )
    return quorum


def _name_of_host() -> str:
    import socket

    return "".join(letter for letter in socket.gethostname() if letter not in "{}/") or "host"
