"""What processes that share an arena do, seen from outside: `attach("marketdata")`.

An `Arena` reads the file that they share, and nothing else: no process that is looked at does anything for it. It
offers what a `Registry` offers to whoever looks, so dashboards, exporters and alerts take either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ._core import STATES, ArenaReader, ArenaTrouble, Operation
from .breakers import BreakerStatus, BreakerSummary
from .config import CircuitBreakerConfig, CircuitState, IntegrationType
from .decisions import Decision, Explanation, decisions_of, limited_words
from .metrics import OperationMetrics, read_metrics
from .records import Record
from .switches import Switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .budgets import RetryBudgetStatus
    from .load import LoadStatus

TYPES = tuple(IntegrationType)
"""Types by the number that an arena knows them by."""

DEPARTED = 128
"""In place of a slot: the processes that are gone, whose slots are free again."""

NAME_MOST = 64
"""Characters of an arena's name."""

_WORDS = {
    "no_space": "its file system is full",
    "garbage": "it is no arena of failsoft, or was cut short; remove it if nothing uses it",
    "version": "it was made by another version of failsoft; processes that share must run the same",
    "layout": "it was made by another build of failsoft: with or without the GIL, or for another processor",
    "owner": "it belongs to another user, or others may open it; it must be yours, with mode 0600",
    "busy": "another process holds it locked, and may be stopped",
    "full": "all of its 128 places for processes are taken",
    "too_large": "this process has more to share than a place holds, 64 MiB",
}


class ArenaError(RuntimeError):
    """An arena cannot be shared or read. `reason` is one word for why; "system": the system refused."""

    def __init__(self, message: str, reason: str = "system") -> None:
        super().__init__(message)
        self.reason = reason


def trouble(path: str, error: ArenaTrouble) -> ArenaError:
    """The error for what the core says of a file."""
    reason, number = error.args
    words = os.strerror(number) if reason == "system" else _WORDS[reason]
    return ArenaError(f"the arena {path} cannot be used: {words}", reason)


def arena_path(name: str) -> str:
    """The file of an arena: in /dev/shm, else in the user's runtime directory; a name with a slash is a path itself."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a non-empty string, got {name!r}")
    if "\0" in name:
        raise ValueError(f"name must have no NUL character, got {name!r}")
    if "/" in name:
        return os.path.abspath(name)
    if not _plain(name):
        raise ValueError(
            f"name must be at most {NAME_MOST} ASCII letters, digits, '.', '_' or '-', not begin with '.' or '-', "
            f"or be a path with a '/', got {name!r}"
        )
    return os.path.join(_folder(), f"{_prefix()}{name}")


def _plain(name: str) -> bool:
    known = all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    return 0 < len(name) <= NAME_MOST and known and name[0] not in ".-"


def _prefix() -> str:
    return f"failsoft-{os.geteuid()}-"


def _folder() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in ("/dev/shm", runtime):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ArenaError("there is no place for an arena: neither /dev/shm nor XDG_RUNTIME_DIR can be written")


def arenas() -> tuple[str, ...]:
    """The names of the arenas that this user's processes share or have shared."""
    try:
        folder = _folder()
    except ArenaError:
        return ()
    prefix = _prefix()
    with os.scandir(folder) as files:  # others may write there too
        return tuple(sorted(file.name[len(prefix) :] for file in files if file.name.startswith(prefix) and _ours(file)))


def _ours(file: os.DirEntry[str]) -> bool:
    try:
        owner = file.stat(follow_symlinks=False).st_uid
    except OSError:  # removed since
        return False
    return owner == os.geteuid() and _plain(file.name.removeprefix(_prefix()))


def attach(name: str, *, controls: bool = False) -> Arena:
    """Read the arena of this name. `ArenaError` where there is none, or it cannot be read.

    With `controls=True` its breakers can be told what an operator says, as those of an `Integration`: `force_open` and
    the like, and `limit`. It holds for all processes with their next call, and their flight recorder has it; listeners
    to events hear of what their own process does.
    """
    return Arena(name, controls=controls)


class SharingProcess(Record):
    """A process that shares an arena, or did until it died: its pid, its name, seconds since it came."""

    slot: int
    pid: int
    name: str
    age: float
    alive: bool


class Arena:
    """An arena that processes share, to look at. It may be opened before they come and kept when they are gone."""

    def __init__(self, name: str, *, controls: bool = False) -> None:
        self.name = name
        self.controls = controls
        self.path = arena_path(name)
        try:
            self._reader = ArenaReader(self.path, controls)
        except ArenaTrouble as error:
            there = ", ".join(arenas()) or "none"
            if error.args[0] == "system" and not os.path.exists(self.path):
                raise ArenaError(f"there is no arena {name!r}; there are: {there}", "missing") from None
            raise trouble(self.path, error) from None

    def __repr__(self) -> str:
        return f"<Arena {self.name!r} of {len(self.processes())} processes>"

    def processes(self) -> tuple[SharingProcess, ...]:
        """Who shares it: the living, and the dead whose place has not been taken since."""
        return tuple(SharingProcess(*one) for one in self._reader.processes())

    def burials(self) -> int:
        """A number that changes whenever the counts of a process that has died go from its slot to `DEPARTED`.

        Whoever reads several slots and wants each call once looks at it before and after, and reads again if it has
        changed.
        """
        return self._reader.burials()

    def with_shards(self) -> Iterator[SharedIntegration]:
        """Its integrations, those of keys among them as "name[key]".

        Processes that disagree about a breaker's settings have one each; the second is called "name (2)", and so on,
        and those that no process has any more come last.
        """
        met: dict[str, int] = {}
        members = self._reader.members()[::-1]  # the latest comes first there
        for place, name, kind, window in sorted(members, key=lambda member: (member[1], not self._used(member[0]))):
            met[name] = met.get(name, 0) + 1
            shown = name if met[name] == 1 else f"{name} ({met[name]})"
            yield SharedIntegration(self._reader, place, name, shown, kind, window)

    def _used(self, place: int) -> bool:
        try:
            return bool(self._reader.seats(place))
        except KeyError:
            return False

    def __iter__(self) -> Iterator[SharedIntegration]:
        return self.with_shards()

    def __len__(self) -> int:
        return len(self._reader.members())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return any(one.name == name for one in self.with_shards())

    def __getitem__(self, name: str) -> SharedIntegration:
        """The integration of this name. KeyError where there is none."""
        names = []
        for one in self.with_shards():
            if one.name == name:
                return one
            names.append(one.name)
        raise KeyError(f"no integration is named {name!r} in the arena {self.name!r}; there are {names}")

    def status(self, name: str) -> BreakerStatus:
        """The breaker of an integration, now. KeyError where none has this name."""
        return self[name].status()

    def summary(self) -> BreakerSummary:
        """How many breakers there are, and how many are CLOSED."""
        states: dict[CircuitState, int] = {}
        for one in self.with_shards():
            state = one.status().state
            states[state] = states.get(state, 0) + 1
        total, healthy = sum(states.values()), states.get(CircuitState.CLOSED, 0)
        return BreakerSummary(total, healthy, total - healthy, states)

    def explain(self, name: str) -> Explanation:
        """Why an integration is in the state it is in. Print it."""
        return self[name].explain()


class SharedIntegration(Switches):
    """An integration of an arena, as all processes that share it have it together."""

    passes_through = False
    shards: Mapping[object, object] = {}

    def __init__(self, reader: ArenaReader, place: int, own_name: str, shown: str, kind: int, window: float) -> None:
        self._reader = reader
        self._place = place
        self._own_name = own_name
        self.name = self.family = shown
        self.type = TYPES[min(kind, len(TYPES) - 1)]  # a number beyond is nobody's of ours
        self.window = window

    def __repr__(self) -> str:
        return f"<SharedIntegration {self.name!r} {self.type} {self.status().state}>"

    def status(self) -> BreakerStatus:
        """The breaker that they share, now. The rates are over the calls of all."""
        read, minimum = self._reader.read(self._place)
        state, reason, generation, failures, probes, (calls, failed, _slow), retry_after, age, capacity = read
        rate = failed / calls if calls and calls >= minimum else None
        return BreakerStatus(
            CircuitState(state), failures, rate, calls, retry_after, reason, generation, probes, age, capacity
        )

    @property
    def settings(self) -> CircuitBreakerConfig | None:
        """What its breaker goes by, as far as an arena knows: not what a failure is. None where it makes no sense."""
        try:
            return CircuitBreakerConfig(window=self.window, **self._reader.settings(self._place))
        except (TypeError, ValueError):
            return None

    @property
    def numbered(self) -> dict[int, str]:
        """The names of its operations by the numbers that the core knows them by."""
        return self._reader.labels(self._place)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of its operations, in the order of their numbers."""
        return tuple(name for _, name in sorted(self.numbered.items()))

    @property
    def recorded(self) -> tuple[Operation, ...]:
        """What all processes have recorded of each operation, those that are gone included."""
        return tuple(self._reader.observe(self._place, number, None) for number in sorted(self.numbered))

    def observed(self, slot: int) -> tuple[Operation, ...]:
        """The same of the process in one slot alone; of those that are gone and buried where it is `DEPARTED`."""
        return tuple(self._reader.observe(self._place, number, slot) for number in sorted(self.numbered))

    def metrics(self, operation: str, *, slot: int | None = None) -> OperationMetrics:
        """The numbers of an operation: of all processes and those that are gone, or of the one in a slot.

        KeyError where it was never guarded.
        """
        for number, name in self.numbered.items():
            if name == operation:
                return read_metrics([(self._reader.observe(self._place, number, slot), None)], self.window)
        raise KeyError(f"{self.name!r} has no operation {operation!r}; it has {sorted(self.operations)}")

    def total(self, *, slot: int | None = None) -> OperationMetrics:
        """The numbers of all its operations together: of everybody, or of the process in one slot."""
        return read_metrics([(self._reader.observe(self._place, None, slot), None)], self.window)

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of the processes that use it."""
        return tuple(self._reader.seats(self._place))

    @property
    def capacity(self) -> float:
        """The share of calls (0 to 1) let go now by limit and ramp, whatever the state."""
        return self._reader.capacity(self._place)

    def decisions(self) -> list[tuple[int, int, int, int, float, int, int, int, int, int]]:
        """The flight recorder that they share: see Breaker.decisions."""
        return self._reader.decisions(self._place)

    def retries(self) -> tuple[int, int, int]:
        """Retries and hedges that the budgets of its processes have granted, and that they have refused."""
        parts = [self._reader.budget(self._place, slot) for slot in self.slots]
        known = [part for part in parts if part is not None]
        return sum(part[1] for part in known), sum(part[2] for part in known), sum(part[3] for part in known)

    def in_flight(self) -> int:
        """Calls under way, of the processes that bound them."""
        return sum(part[0] for slot in self.slots if (part := self._reader.load(self._place, slot)) is not None)

    def budget(self) -> RetryBudgetStatus | None:
        """None: each process has a budget of its own; see `retries`."""
        return None

    def load_if_any(self) -> LoadStatus | None:
        """None: each process bounds its own load; see `in_flight`."""
        return None

    def explain(self) -> Explanation:
        """Why it is in the state it is in: its numbers and the last decisions of all processes. Print it."""
        capacity = self.capacity
        limited = limited_words(capacity, "degraded, or coming back") if capacity < 1.0 else None
        return Explanation(self.name, self.status(), self._in_words(), limited)

    def _in_words(self) -> tuple[Decision, ...]:
        """The decisions that make sense: anybody may have written the others."""
        names = self.numbered
        told: list[Decision] = []
        for recorded in self.decisions():
            try:
                told += decisions_of(names, [recorded])
            except (IndexError, ValueError, OverflowError):  # no such kind, state or reason; a number that is none
                continue
        return tuple(told)

    def limit(self, capacity: float) -> None:
        """Let only this share (0 to 1) of the calls of all processes go, until somebody says otherwise."""
        if not 0.0 <= capacity <= 1.0:
            raise ValueError(f"capacity must be a number from 0 to 1, got {capacity!r}")
        for place in self._family():
            self._reader.limit(place, capacity)

    def _switch(self, state: CircuitState) -> None:
        """Of all processes; those for keys too."""
        for place in self._family():
            self._reader.force(place, STATES.index(state))

    def _family(self) -> list[int]:
        """Its own place, and those of its keys."""
        if not self._reader.controls:
            raise ArenaError("the arena was opened to be looked at; attach(name, controls=True)", "read_only")
        keys = f"{self._own_name}["
        return [self._place, *(place for place, name, *_ in self._reader.members() if name.startswith(keys))]
