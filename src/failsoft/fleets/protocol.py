"""What a host and the store say to each other about one breaker, and what the host makes of it. No I/O, no clock.

A round: `Follower.report` says what the host knows and wants, store.lua answers with what holds in the fleet,
`Follower.hear` turns that into `Orders` for the host's own breaker, and `Follower.carried` learns whether they were
carried out.
`fleets/syncer.py` drives it with a real store, tests/simulation with a modelled one.

The fleet's state of a breaker is {generation, open or closed, until when}. Generations are given out by the store alone
and only grow, so what is late is recognised: who knows of a later one is right, and of the same one open wins. A host
takes up each generation once: what its own breaker or its operator does afterwards is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import CircuitBreakerConfig
from ..records import Record

LAYOUT = "1"
"""Of the hash and of the script's arguments. Whoever finds another keeps away from it."""

NOTHING, OPEN, RECOVERED, REOPENED, LEAVE = range(5)
"""What a host says of its breaker: it opened by itself; as the prober of the fleet it closed, or opened again."""

KEEP, WANT, RELEASE = range(3)
"""What it says of the right to probe."""

MILLISECOND = 1_000_000
STANDING = ("FORCED_OPEN", "DISABLED", "METRICS_ONLY")
LONGEST = 86_400_000
"""Milliseconds: no wait of a fleet is longer, whatever its settings allow."""

LAST = (1 << 53) - 1
"""The highest generation: the numbers of the script are doubles."""


class Rules(Record):
    """What all hosts of a fleet must agree on about one breaker. Times in milliseconds."""

    least: int  # hosts that must be open, at least
    share: float  # of the hosts
    most: int  # longest wait
    timeout: int  # of a probe
    presence: int  # a host not seen for so long is gone
    window: int  # of the fleet's counts; 0: they do not matter
    threshold: int
    failure_rate: float
    slow_rate: float
    minimum: int
    wait: int  # after the fleet's counts have tripped it
    digest: str

    @property
    def arguments(self) -> list[str]:
        """As the script takes them."""
        return [
            str(self.least), repr(self.share), str(self.most), str(self.presence), str(self.window),
            str(self.threshold), repr(self.failure_rate), repr(self.slow_rate), str(self.minimum), str(self.wait),
        ]  # fmt: skip


def rules_of(config: CircuitBreakerConfig, *, counts: bool, quorum: int | float, presence: float) -> Rules:
    """The rules of a breaker with these settings; `counts`: the fleet's counts decide too."""
    from hashlib import blake2b

    share = quorum if isinstance(quorum, float) else 0.0
    longest = config.reset_timeout * (1.0 + config.reset_jitter)
    if config.reset_growth > 1.0:
        longest = LONGEST / 1e3 if config.reset_max is None else config.reset_max * (1.0 + config.reset_jitter)
    agreed = (
        counts, quorum, config.failure_threshold, config.success_threshold, config.timeout, config.half_open_max_calls,
        config.reset_timeout, config.reset_growth, config.reset_max, config.reset_jitter, config.failure_rate,
        config.slow_rate, config.slow_call, config.minimum_calls, config.window,
    )  # fmt: skip
    return Rules(
        least=2 if share else int(quorum),
        share=share,
        most=min(_millis(longest), LONGEST),
        timeout=_millis(config.timeout),
        presence=_millis(presence),
        window=_millis(config.window) if counts else 0,
        threshold=(config.failure_threshold or 0) if counts else 0,
        failure_rate=2.0 if config.failure_rate is None else config.failure_rate,
        slow_rate=2.0 if config.slow_rate is None else config.slow_rate,
        minimum=config.minimum_calls,
        wait=_millis(config.reset_timeout),
        digest=blake2b(repr(agreed).encode(), digest_size=8).hexdigest(),
    )


def _millis(seconds: float) -> int:
    return max(round(seconds * 1e3), 1)


class View(Record):
    """A host's own breaker at one moment. `left` is of its wait, in ns, 0 where none runs."""

    state: str
    reason: str | None
    generation: int
    left: int
    probes: int
    held_back: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class Report(Record):
    """What a host sends. Times in milliseconds."""

    generation: int
    open: bool
    known_left: int
    say: int
    left: int
    want: int
    lease: int
    calls: int
    failures: int
    slow: int

    def arguments(self, rules: Rules, member: str, channel: str) -> list[str]:
        """As the script takes them."""
        mine = (
            self.generation, int(self.open), self.known_left, self.say, self.left, self.want, self.lease, self.calls,
            self.failures, self.slow,
        )  # fmt: skip
        return [LAYOUT, rules.digest, member, channel, *map(str, mine), *rules.arguments]


class Answer(Record):
    """What holds in the fleet: `left` of the wait and `lease` of the right to probe in milliseconds.

    `problem` is why nothing is shared: "layout" or "differs", and `theirs` what was found there.
    """

    problem: str | None
    theirs: str
    generation: int
    open: bool
    left: int
    lease: int
    hosts: int
    open_hosts: int
    time: int


def read(answer: Sequence[bytes | str | int]) -> Answer:
    """An answer of the script. ValueError for anything else."""
    try:
        kind = _text(answer[0])
        if kind == "ok":
            generation, is_open, left, lease, hosts, open_hosts, time = (int(part) for part in answer[1:])
            # Believed, too much would be told to all who ask, and no generation could follow.
            if 0 <= generation < LAST and is_open in (0, 1) and 0 <= left <= LONGEST and 0 <= lease <= 1 << 43:
                return Answer(None, "", generation, is_open == 1, left, lease, hosts, open_hosts, time)
        if kind in ("layout", "differs"):
            return Answer(kind, _text(answer[1]), 0, False, 0, 0, 0, 0, int(answer[2]))
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"the store answered {answer!r}") from error
    raise ValueError(f"the store answered {answer!r}")


def _text(part: bytes | str | int) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


class Orders(Record):
    """What a host's breaker is to do if it still is in the `generation` looked at.

    `open_until`, `held` and `let` are points in time in ns; None: leave it as it is. Only who was let to
    probe says when that ends: processes that share a breaker follow the fleet each.
    """

    generation: int
    open_until: int | None = None
    close: bool = False
    held: int | None = None
    let: int | None = None


class Follower:
    """One host's side of one breaker. Times in ns of a clock of its own."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.patience = max(10 * interval, 2_000 * MILLISECOND)
        self.generation = 0
        self.open = False
        self.until = 0
        self.let = 0
        self.answer: Answer | None = None
        self._taken_up = (0, False)
        self._followed = 0
        self._held_back = 0
        self._is_let = False
        self._calls = 0
        self._seen: View | None = None

    def report(self, view: View, now: int, rules: Rules) -> Report:
        """What to tell the store."""
        say, left = self._word(view)
        self._seen = view
        return Report(
            generation=self.generation,
            open=self.open,
            known_left=_up(self.until - now) if self.open else 0,
            say=say,
            left=_up(left),
            want=self._wish(view, now),
            lease=rules.timeout + _up(2 * self.interval) + 1_000,
            calls=view.calls,
            failures=view.failures,
            slow=view.slow,
        )

    def _word(self, view: View) -> tuple[int, int]:
        if view.state in STANDING:
            return NOTHING, 0
        if not self.open:
            return (OPEN, view.left) if view.state in ("OPEN", "HALF_OPEN") else (NOTHING, 0)
        if view.generation == self._followed:
            return NOTHING, 0
        if view.state == "CLOSED" and view.reason == "recovered":
            return RECOVERED, 0
        if view.state == "OPEN" and view.reason != "fleet":
            return REOPENED, view.left
        return NOTHING, 0

    def _wish(self, view: View, now: int) -> int:
        due = self.open and (view.state == "HALF_OPEN" or (view.state == "OPEN" and view.left == 0))
        busy = view.probes > 0 or view.calls != self._calls
        if due and (view.held_back != self._held_back or (self.let and busy)):
            return WANT
        return RELEASE if self.let and now >= self.let and view.probes == 0 else KEEP

    def hear(self, answer: Answer, view: View, sent: int, now: int, rules: Rules) -> Orders:
        """What to do about an answer to the last report, which was `sent` then."""
        self.answer = answer
        if answer.problem is not None:
            self.let = 0
            return Orders(view.generation, held=0, let=self._let_of(0))
        if answer.generation < self.generation:  # overtaken by another
            return Orders(view.generation)
        if self._seen is not None:
            self._held_back, self._calls = self._seen.held_back, self._seen.calls
        self.generation, self.open = answer.generation, answer.open
        self.until = now + answer.left * MILLISECOND if answer.open else 0
        # Counted from when it was asked for, and so long before its end that every probe has ended by then: no other
        # host is let go while one is out.
        end = sent + (answer.lease - rules.timeout) * MILLISECOND - self.interval
        self.let = max(end, 1) if answer.lease else 0
        return self._orders(view, now)

    def _orders(self, view: View, now: int) -> Orders:
        generation, was_open = self._taken_up
        news = self.generation > generation or (self.generation == generation and self.open and not was_open)
        standing = view.state in STANDING
        refusing = view.state in ("OPEN", "HALF_OPEN")
        opens = news and self.open and not standing
        # Who has opened on evidence of his own since then stays open.
        own = view.state == "OPEN" and view.generation != self._followed and view.reason != "fleet"
        closes = news and not self.open and was_open and refusing and not own
        held = now + self.patience if self.open and (opens or refusing) else 0
        let = self._let_of(self.let if held else 0)
        return Orders(view.generation, self.until if opens else None, closes, held, let)

    def parts(self) -> int | None:
        """What `let` is to be when it follows no longer, as of `Orders`."""
        return self._let_of(0)

    def _let_of(self, until: int) -> int | None:
        was, self._is_let = self._is_let, until > 0
        return until if was or until else None

    def carried(self, view: View, done: bool) -> None:
        """Whether the orders were carried out, and how the breaker stands since. If not, they come again."""
        if done and (self.generation, self.open) != self._taken_up:
            self._taken_up = (self.generation, self.open)
            self._followed = view.generation


def _up(ns: int) -> int:
    """In milliseconds, rounded up; 0 for what is past."""
    return max(-(-ns // MILLISECOND), 0)
