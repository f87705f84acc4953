"""Looks at a source every few seconds, follows each rule's alerts, and tells the sinks."""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable

from .. import forks, timers
from .. import registry as registries
from .._core import now_ns
from ..checks import LONGEST, number, shown
from ..logs import complain
from .deliveries import Delivery
from .notices import FLAPPING, RESOLVED, AlertsStatus, Notice, cut, key_of
from .observations import Observation, Reader
from .rules import AlertRule, condition_of, filled
from .silences import Silence, silence_of
from .sinks import sink_of
from .tracks import HELD, SILENCED, Track

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self, TypeAlias

    Whom: TypeAlias = tuple[str, str | None]
    Verdicts: TypeAlias = dict[tuple[str, Whom], tuple[bool | None, Observation]]

HISTORY_MOST = 256
"""Notices that are remembered, told or not."""

TRACKED_MOST = 10_000
"""Alerts that are followed at a time. A rule that holds for more than so many is a mistake."""

PATIENCE = 5.0
"""Seconds for which `close` waits for sinks, by default."""

PATIENCE_AT_EXIT = 1.0

_interval = number(float, 1e-3, LONGEST, " of seconds")
_flaps = number(int, 2, 1000)
_flap_window = number(float, 1e-3, LONGEST, " of seconds")


class Alerts:
    """Rules at work: looks at a source every `interval` seconds, in one daemon thread, and tells the sinks.

        with Alerts(default_rules(), sinks=[LogSink(), SlackSink(url)]):
            ...

    `source` is a `Registry`, the default one unless given, or what offers the same. `sinks` are of
    failsoft/alerts/sinks.py, or functions of a `Notice`. Until `start()` there is no thread and nothing is read, and no
    guarded call ever knows of it.

    An alert is told once when it begins and once when it ends. One that has begun `flaps` times in the last
    `flap_window` seconds flaps: that is told once, and nothing more until it has calmed down (failsoft/alerts/tracks.py
    says exactly what is told when).

    `stop()` ends the thread and keeps what is known, so that `start()` goes on; `close()` also waits for the sinks. A
    forked child inherits rules and silences but neither thread nor alerts: it calls `start()` itself if it wants its
    own. Tests call `tick()`, with or without a FakeClock, in place of `start()`.
    """

    def __init__(
        self,
        rules: Iterable[AlertRule],
        sinks: Iterable[Any] = (),
        source: Any = None,
        interval: float = 5.0,
        *,
        flaps: int = 4,
        flap_window: float = 1800.0,
    ) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, AlertRule):
                raise TypeError(f"rules must be AlertRules, got {shown(rule)}")
        names = [rule.name for rule in self.rules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"rules must have names of their own, and two are {twice!r}")
        self.interval: float = _interval("interval", interval)  # type: ignore[assignment]
        self._flaps: int = _flaps("flaps", flaps)  # type: ignore[assignment]
        self._flap_window: float = _flap_window("flap_window", flap_window)  # type: ignore[assignment]
        self._source = source
        self._guards = registries.Registry()  # of the sinks, apart from what is observed
        self._guards.enable()
        self._deliveries = [Delivery(sink, self._guards) for sink in _with_own_names(sinks)]
        self._asked = [(rule, condition_of(rule)) for rule in self.rules]
        self._wanted = frozenset(asked.per for _, asked in self._asked)
        self._health = any("healthy" in asked.measures or not asked.measures for _, asked in self._asked)
        self._lock = forks.new_lock()  # over all below; neither a source, nor a rule, nor a sink is asked under it
        self._tracks: dict[tuple[str, Whom], Track] = {}
        self._silences: tuple[Silence, ...] = ()
        self._history: deque[Notice] = deque(maxlen=HISTORY_MOST)
        self._counts = dict.fromkeys(("looks", "sent", SILENCED, HELD, "rule_errors", "read_errors", "untracked"), 0)
        self._now = 0.0
        self._reader = Reader()
        self._looking = threading.Lock()  # a flag that one thread holds; nobody ever waits for it
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        forks.remember(self)

    def __repr__(self) -> str:
        return f"<Alerts {'running' if self.running else 'stopped'}, {len(self.rules)} rules>"

    # ---- its thread

    @property
    def running(self) -> bool:
        """Whether its thread looks."""
        return self._thread is not None

    def start(self) -> Self:
        """Begin to look; nothing if it does already. RuntimeError where the system gives no more threads."""
        with self._lock:
            if self._thread is not None:
                return self
            for delivery in self._deliveries:
                delivery.begin()
            woken = self._woken = threading.Event()
            thread = threading.Thread(target=self._live, args=(woken,), name="failsoft-alerts", daemon=True)
            thread.start()
            self._thread = thread
        _running.add(self)
        return self

    def stop(self, timeout: float = PATIENCE) -> None:
        """End the thread, and wait for it up to `timeout` seconds: a rule's function may hold it up."""
        with self._lock:
            thread, self._thread = self._thread, None
            woken, self._woken = self._woken, threading.Event()
            woken.set()
        _running.discard(self)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait until the sinks have been told, at most `timeout` seconds. Whether they have."""
        until = time.monotonic() + timeout
        return all(delivery.flush(until) for delivery in self._deliveries)

    def close(self, timeout: float = PATIENCE) -> bool:
        """`stop()`, and give the sinks up to `timeout` seconds. Whether all of them have been told."""
        self.stop(timeout)
        done = self.flush(timeout)
        for delivery in self._deliveries:
            delivery.end()
        return done

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def forked(self) -> None:
        """In a child, the thread and what was told are the parent's."""
        self._thread = None
        self._woken = threading.Event()
        self._looking = threading.Lock()
        self._reader = Reader()
        self._tracks = {}
        _running.discard(self)
        for delivery in self._deliveries:
            delivery.forget()

    def _live(self, woken: threading.Event) -> None:
        while True:
            woken.clear()  # before it is asked whether that was the end; a fake clock sets it too
            if self._woken is not woken:
                return
            try:
                self.tick()
            except BaseException:  # in a thread of ours nobody else is there to see it
                complain("alerts could not be looked at")
            timers.current.wait_until(woken, now_ns() + round(self.interval * 1e9))

    # ---- a look

    def tick(self, now: float | None = None) -> tuple[Notice, ...]:
        """Look once, at this moment (`now` in seconds of the monotonic clock; by default, what it shows).

        What was told, which the sinks get in threads of theirs. A look while another one is under way does nothing.
        """
        if now is not None and not math.isfinite(now):  # time would stand still after it
            raise ValueError(f"now must be a number of seconds, got {now!r}")
        looking = self._looking  # a rule may fork, and in the child the flag is another
        if not looking.acquire(blocking=False):
            return ()
        try:
            return self._tick(now_ns() / 1e9 if now is None else float(now))
        finally:
            looking.release()

    def _tick(self, now: float) -> tuple[Notice, ...]:
        now = self._now = max(now, self._now)
        verdicts = self._verdicts(now)
        with self._lock:
            self._counts["looks"] += 1
            self._silences = tuple(one for one in self._silences if one.until is None or now < one.until)
            notices = self._follow(verdicts, now, time.time())
        for notice in notices:
            for delivery in self._deliveries:
                delivery.put(notice)
        return notices

    def _verdicts(self, now: float) -> Verdicts:
        """What each rule says of each that it is for. Nothing, where the source cannot be read: there are no data."""
        source = registries.default if self._source is None else self._source
        try:
            seen = self._reader.read(source, now, self._wanted, self._health)
        except Exception:
            self._counted("read_errors")
            complain("alerts could not read %s", shown(source))
            return {}
        verdicts: Verdicts = {}
        followed = self._tracks  # changed by a look alone
        for rule, asked in self._asked:
            for_all = rule.integrations is None and rule.operations is None
            for observation in seen[asked.per]:
                if not (for_all or rule.is_for(observation)):
                    continue
                try:
                    verdict = asked.holds(observation)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # one that would end the program or its task ends no rule but itself
                    verdict = None
                    if self._counted("rule_errors") == 1:
                        complain("the rule %r raised; it tells nothing then", rule.name)
                key = rule.name, (observation.integration, observation.operation)
                if verdict or key in followed:  # what does not hold, and did not, is nothing to follow
                    known = verdicts.get(key)
                    if known is None or verdict or (known[0] is None and verdict is False):
                        verdicts[key] = verdict, observation  # of several streams of one name, the worst
        return verdicts

    def _counted(self, what: str) -> int:
        with self._lock:
            self._counts[what] += 1
            return self._counts[what]

    def _follow(self, verdicts: Verdicts, now: float, wall: float) -> tuple[Notice, ...]:
        rules = {rule.name: (rule, asked) for rule, asked in self._asked}
        for key, (verdict, _) in verdicts.items():
            if verdict and key not in self._tracks:
                if len(self._tracks) >= TRACKED_MOST:
                    self._counts["untracked"] += 1
                    continue
                self._tracks[key] = Track(rules[key[0]][0], key[1], self._flaps, self._flap_window)
        notices = []
        for key, track in tuple(self._tracks.items()):
            verdict, observation = verdicts.get(key, (None, None))
            track.see(verdict, observation, now, wall)
            kind = track.due(self._is_silenced(track, now), now)
            if kind in (SILENCED, HELD):
                self._counts[kind] += 1
            elif kind is not None:
                track.number += 1
                notices.append(_notice(kind, track, rules[key[0]][1], now, wall))
            if track.idle(now):
                del self._tracks[key]
        self._history.extend(notices)
        self._counts["sent"] += len(notices)
        return tuple(notices)

    # ---- silences

    def silence(
        self,
        rule: str | None = None,
        integration: str | None = None,
        operation: str | None = None,
        *,
        seconds: float | None = None,
        until: float | None = None,
        reason: str = "",
    ) -> Silence:
        """Tell nobody of alerts that match, for so many `seconds`, `until` a time (in seconds since the epoch, as
        `time.time()` gives), or, without either, until `unsilence`. Names may have "*" in them; None is any.

        What was told before is still resolved aloud. An alert that fires when the silence is over is told then.
        """
        if until is not None:
            if seconds is not None:
                raise TypeError("a silence is for so many seconds or until a time, and both are given")
            seconds = until - time.time()
            if not seconds > 0.0:
                raise ValueError(f"until must be a time to come in seconds since the epoch, got {until!r}")
        silence = silence_of(rule, integration, operation, seconds, reason, max(now_ns() / 1e9, self._now))
        with self._lock:
            self._silences = (*self._silences, silence)
        return silence

    def unsilence(self, silence: Silence) -> bool:
        """Take a silence back. Whether it was still in force."""
        with self._lock:
            left = tuple(one for one in self._silences if one is not silence)
            there = len(left) < len(self._silences)
            self._silences = left
        return there

    @property
    def silences(self) -> tuple[Silence, ...]:
        """Those in force at the last look, and later ones."""
        return self._silences

    def _is_silenced(self, track: Track, now: float) -> bool:
        return any(silence.covers(track.rule.name, *track.whom, now) for silence in self._silences)

    # ---- what there is to see

    def firing(self) -> tuple[str, ...]:
        """The keys of the alerts that fire now, silenced or not."""
        with self._lock:
            return tuple(key_of(track.rule.name, *track.whom) for track in self._tracks.values() if track.firing)

    @property
    def history(self) -> tuple[Notice, ...]:
        """The last notices, oldest first."""
        with self._lock:
            return tuple(self._history)

    def status(self) -> AlertsStatus:
        """How it stands."""
        with self._lock:
            tracks = tuple(self._tracks.values())
            return AlertsStatus(
                running=self.running,
                rules=len(self.rules),
                firing=sum(track.firing for track in tracks),
                pending=sum(track.pending is not None for track in tracks),
                **self._counts,
                sinks=tuple(delivery.status() for delivery in self._deliveries),
            )


def _notice(kind: str, track: Track, asked: Any, now: float, wall: float) -> Notice:
    rule, seen = track.rule, track.observation
    integration, operation = track.whom
    words = asked.words(seen)
    if kind == FLAPPING:
        words = f"it begins and ends again and again; {words}"
    places = {
        "integration": cut(integration), "operation": cut(operation or ""), "value": asked.words(seen),
        "rule": rule.name, "severity": rule.severity, "state": (seen.state if seen else None) or "",
    }  # fmt: skip
    return Notice(
        kind=kind,
        rule=rule.name,
        severity=rule.severity,
        integration=integration,
        operation=operation,
        condition=asked.text,
        values=asked.values(seen),
        words=words,
        summary=filled(rule.summary, places),
        reason=track.reason if kind == RESOLVED else None,
        since=track.since,
        lasted=now - track.began,
        timestamp=wall,
        number=track.number,
    )


def _with_own_names(sinks: Iterable[Any]) -> list[Any]:
    made, names = [], set()
    for given in sinks:
        sink = sink_of(given)
        if sink.name in names:
            raise ValueError(f"sinks must have names of their own, and two are {shown(sink.name)}; give one name=")
        names.add(sink.name)
        made.append(sink)
    return made


_running: weakref.WeakSet[Alerts] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for alerts in tuple(_running):
        alerts.close(PATIENCE_AT_EXIT)
