"""The rounds of one process: look at every breaker, ask the store once, do what the answers say. One thread runs it."""

from __future__ import annotations

import time

from .. import events
from .._core import Breaker, now_ns
from ..config import CircuitBreakerConfig, CircuitState
from ..logs import warn
from ..records import Record
from . import protocol
from .protocol import Follower, Orders, Rules, View
from .stores import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event
    from typing import Any

    from ..breakers import CircuitBreaker
    from ..integrations import Integration
    from ..registry import Registry
    from .stores import Connect


class FleetBreakerStatus(Record):
    """What holds in the fleet for one integration, as last heard.

    `retry_after` is in seconds until the fleet probes, None while it is closed. `hosts` have it, `open_hosts` of them
    have opened by themselves. `probing`: this process is the one that may probe. `problem` is why it is not shared,
    None where it is.
    """

    state: CircuitState
    generation: int
    retry_after: float | None
    hosts: int
    open_hosts: int
    probing: bool
    problem: str | None


class Syncer:
    """All breakers of a registry, one store."""

    def __init__(
        self,
        connect: Connect,
        registry: Registry,
        *,
        member: str,
        namespace: str,
        interval: float,
        counts: bool,
        quorum: int | float,
    ) -> None:
        self.connected: bool | None = None  # before the first round
        self.error: str | None = None
        self.synced: int | None = None
        self.rounds = 0
        self.failed = 0
        self._connect = connect
        self._registry = registry
        self._member = member
        self._namespace = namespace
        self._channel = f"failsoft:{namespace}"
        self._interval = round(interval * 1e9)
        self._counts = counts
        self._quorum = quorum
        self._presence = max(5.0, 20.0 * interval)
        self._store: Store | None = None
        self._followers: dict[str, Follower] = {}
        self._followed: dict[str, CircuitBreaker] = {}
        self._rules: dict[str, tuple[CircuitBreakerConfig, Rules]] = {}
        self._problems: dict[str, str] = {}
        # Not a CircuitBreaker, which publishes its transitions: the fleet's own events tell of its store.
        self._breaker = Breaker(
            CircuitBreakerConfig(
                failure_threshold=2,
                success_threshold=1,
                half_open_max_calls=1,
                reset_timeout=max(0.5, 2.0 * interval),
                reset_growth=2.0,
                reset_max=max(2.0, 4.0 * interval),
                reset_jitter=0.5,
            ),
            f"fleet {namespace}",
        )

    def key(self, name: str) -> str:
        """Of the hash of one breaker; the braces are for clusters."""
        shown = name.encode("utf-8", "backslashreplace").decode()  # no client sends half a character
        return f"failsoft:{{{self._namespace}:{shown}}}"

    def round(self) -> bool:
        """Exchange what there is once. Whether the store answered."""
        permit = self._breaker.acquire()
        if not permit:
            return False
        integrations = {integration.name: integration for integration in self._registry.with_shards()}
        for name in self._followers.keys() - integrations.keys():
            for known in (self._followers, self._followed, self._rules, self._problems):
                known.pop(name, None)
        sent = now_ns()
        try:
            reports = [(self.key(name), self._report(one)) for name, one in integrations.items()]
            answers = self._ask(reports)
        except Exception as error:
            self._breaker.failure(permit)
            self._lost(error)
            return False
        except BaseException:
            self._breaker.ignore(permit)
            raise
        self._breaker.success(permit)
        self._back()
        for one, answer in zip(integrations.values(), answers, strict=True):
            self._hear(one, answer, sent)
        return True

    def _ask(self, reports: list[tuple[str, list[str]]]) -> list[Any]:
        if self._store is None:
            self._store = Store(self._connect, self._channel)
        answers = self._store.exchange(reports) if reports else []
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        trouble = errors if len(errors) == len(answers) else [error for error in errors if _is_of_the_store(error)]
        if trouble:
            raise trouble[0]
        return answers

    def _report(self, one: Integration) -> list[str]:
        follower = self._followers.get(one.name)
        if follower is None or self._followed[one.name] is not one.breaker:  # another of the same name
            follower = self._followers[one.name] = Follower(self._interval)
            self._followed[one.name] = one.breaker
        rules = self._rules_of(one)
        return follower.report(look(one.breaker), now_ns(), rules).arguments(rules, self._member, self._channel)

    def _rules_of(self, one: Integration) -> Rules:
        config = one.breaker.config
        known = self._rules.get(one.name)
        if known is None or known[0] is not config:
            made = protocol.rules_of(config, counts=self._counts, quorum=self._quorum, presence=self._presence)
            known = self._rules[one.name] = (config, made)
        return known[1]

    def _hear(self, one: Integration, raw: Any, sent: int) -> None:
        follower, rules = self._followers[one.name], self._rules[one.name][1]
        breaker = one.breaker
        try:
            if isinstance(raw, Exception):
                raise raw
            answer = protocol.read(raw)
        except Exception as error:  # this breaker's key is something else; the others' are not
            _release(breaker)
            self._tell(one.name, f"unreadable: {error}")
            return
        orders = follower.hear(answer, look(breaker), sent, now_ns(), rules)
        done = carry_out(orders, breaker)
        follower.carried(look(breaker), done)
        self._tell(one.name, _words(answer))

    def _tell(self, name: str, problem: str | None) -> None:
        before = self._problems.get(name)
        if before == problem:
            return
        if problem is None:
            del self._problems[name]
        else:
            self._problems[name] = problem
            if before is not None and before.partition(":")[0] == problem.partition(":")[0]:
                return  # the same in other words
            warn("%s is not shared in the fleet %r, its own breaker decides alone: %s", name, self._namespace, problem)
        events.publish(events.FleetChange(self._namespace, name, problem is None, problem, time.time()))

    def broken(self, error: Exception) -> None:
        """A round has failed for a reason that is not the store's."""
        self._lost(error)

    def _lost(self, error: Exception) -> None:
        self.failed += 1
        self.error = f"{type(error).__name__}: {error}"
        if self._store is not None:
            self._store.deaf()
        if self.connected is not False:
            self.connected = False
            warn("the fleet %r has lost its store, each breaker decides alone: %s", self._namespace, self.error)
            events.publish(events.FleetChange(self._namespace, None, False, self.error, time.time()))

    def _back(self) -> None:
        self.rounds += 1
        self.synced = now_ns()
        if self.connected is not True:
            again = self.connected is False
            self.connected, self.error = True, None
            if again:
                warn("the fleet %r has its store back", self._namespace)
            events.publish(events.FleetChange(self._namespace, None, True, None, time.time()))

    def wait(self, seconds: float, woken: Event) -> bool:
        """Until the next round. Whether something has changed in the fleet before."""
        if self._store is None or not self.connected:
            woken.wait(seconds)
            return False
        return self._store.wait(seconds, woken)

    def leave(self) -> None:
        """Tell the store that this process is gone, and let its breakers alone."""
        reports = []
        for integration in self._registry.with_shards():
            _release(integration.breaker)
            if integration.name in self._followers and integration.name in self._rules:
                if self._followers[integration.name].parts() is not None:
                    integration.breaker.let(0)  # the store gives the right to another at once
                rules = self._rules[integration.name][1]
                gone = protocol.Report(0, False, 0, protocol.LEAVE, 0, protocol.KEEP, 0, 0, 0, 0)
                reports.append((self.key(integration.name), gone.arguments(rules, self._member, self._channel)))
        if self._store is not None:
            if reports and self.connected:
                try:
                    self._store.exchange(reports)
                except Exception:  # then it is forgotten when it has not been seen for long
                    self.connected = False
            self._store.close()
        self.connected = False

    def breakers(self) -> dict[str, FleetBreakerStatus]:
        """What holds in the fleet, by integration."""
        now = now_ns()
        return {name: self._status(name, follower, now) for name, follower in list(self._followers.items())}

    def _status(self, name: str, follower: Follower, now: int) -> FleetBreakerStatus:
        heard = follower.answer
        return FleetBreakerStatus(
            state=CircuitState.OPEN if follower.open else CircuitState.CLOSED,
            generation=follower.generation,
            retry_after=max(follower.until - now, 0) / 1e9 if follower.open else None,
            hosts=heard.hosts if heard else 0,
            open_hosts=heard.open_hosts if heard else 0,
            probing=now < follower.let,
            problem=self._problems.get(name),
        )


def look(breaker: CircuitBreaker) -> View:
    """The breaker now, as the protocol sees it."""
    state, reason, generation, _failures, probes, _totals, retry_after, _age, _capacity = breaker.read()
    left = 0 if retry_after is None else round(retry_after * 1e9)
    return View(state, reason, generation, left, probes, breaker.held_back, *breaker.totals())


def _release(breaker: CircuitBreaker) -> None:
    """Hold its probes back no longer. Where processes share it the others do, and if none does, that lapses soon."""
    if not breaker.shared:
        breaker.hold(0)


def carry_out(orders: Orders, breaker: CircuitBreaker) -> bool:
    """Do it, unless the breaker has moved on since it was looked at. Whether it was done."""
    done = True
    if orders.let is not None:
        breaker.let(orders.let)  # first: who is to probe is not held back in between
    if orders.held is not None:
        breaker.hold(orders.held)
    if orders.open_until is not None:
        done = breaker.open_until(orders.generation, max(orders.open_until, 0))
    if orders.close:
        done = breaker.close_with_fleet(orders.generation)
    return done


_TROUBLE = (
    "ReadOnly", "OutOfMemory", "BusyLoading", "MasterDown", "ClusterDown", "NoPermission", "TryAgain", "READONLY",
    "OOM", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOPERM", "NOREPLICAS", "MISCONF", "MOVED", "BUSY",
)  # fmt: skip
"""In the class or the words of an error: it is the store's, not that of one key."""


def _is_of_the_store(error: Exception) -> bool:
    words = f"{type(error).__name__} {error}"
    return any(word in words for word in _TROUBLE)


def _words(answer: protocol.Answer) -> str | None:
    if answer.problem == "differs":
        return f"other hosts have other settings of its breaker (theirs are {answer.theirs})"
    if answer.problem == "layout":
        theirs = answer.theirs or "unknown"
        return f"the store holds layout {theirs} of it, and this version of failsoft knows {protocol.LAYOUT}"
    return None
