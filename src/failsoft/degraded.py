"""Degraded mode: only a share of the calls goes, decided by operators, by type or by name.

A trip and its recovery degrade an integration too, but that is the breaker's own business (see `DegradedPolicy` and
csrc/include/failsoft/degraded.h): here are the reasons people give. None of them undoes another. For one target the
newest word of each reason holds, of several reasons the lowest capacity does, and of an integration's own capacity, its
type's and its breaker's the lowest again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import events
from ._core import Dial
from .breakers import REFUSING
from .checks import number
from .config import CircuitState, IntegrationType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TypeAlias

    from .integrations import Integration
    from .registry import Registry

    Target: TypeAlias = IntegrationType | str

    _Key: TypeAlias = tuple[bool, str]

_capacity = number(float, 0.0, 1.0)

_GRAIN = 1e-9
"""How finely the gate tells capacities apart, at least."""


def _key(target: Target) -> _Key:
    """A type is a string too, and an integration may be named like one."""
    return isinstance(target, IntegrationType), str(target)


def _after_blocks(modes: list[DegradedMode]) -> int:
    """The place after the last one that a block holds."""
    return max((place + 1 for place, mode in enumerate(modes) if mode.held), default=0)


class DegradedMode:
    """One reason to work at a reduced capacity, from `enter_degraded_mode` on; as a `with` block it ends by itself."""

    def __init__(self, capacities: Capacities, target: Target, capacity: float, reason: str, *, spelled: bool) -> None:
        self._capacities = capacities
        self.target = target
        self.capacity = capacity
        self.reason = reason
        self.spelled = spelled  # the target came as a plain string, which may mean something else later
        self.held = False  # by a `with` block: it lasts as long as the block, whatever is entered meanwhile
        self.replaced: tuple[DegradedMode, ...] = ()  # what it took the place of, which a `with` block gives back

    def __repr__(self) -> str:
        return f"<DegradedMode {self.target!s} at {self.capacity:.3g} ({self.reason})>"

    def exit(self) -> None:
        """Take this reason back. Others stay in force."""
        self._capacities.drop(self.target, lambda mode: mode is self, self.reason)

    def __enter__(self) -> Self:
        self._capacities.hold(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exit()


class Capacities:
    """The reasons in force in a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._modes: dict[_Key, tuple[DegradedMode, ...]] = {}
        self._dials: dict[_Key, Dial] = {}

    def enter(self, target: Target, capacity: float, reason: str) -> DegradedMode:
        """Let only the share `capacity` of a target's calls go, for this reason."""
        share: float = _capacity("capacity", capacity)  # type: ignore[assignment]  # what its check gives
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"reason must be a non-empty string, got {reason!r}")
        spelled = not isinstance(target, IntegrationType)
        mode = DegradedMode(self, self._resolved(target), share, reason, spelled=spelled)

        def added(modes: tuple[DegradedMode, ...]) -> tuple[DegradedMode, ...]:
            same = [old for old in modes if old.reason == reason]
            mode.replaced = tuple(same[_after_blocks(same) :])
            for old in mode.replaced:
                old.replaced = ()
            return (*(old for old in modes if old not in mode.replaced), mode)

        self._change(mode.target, added, reason)
        return mode

    def drop(self, target: Target, which: Callable[[DegradedMode], bool], reason: str) -> bool:
        """Take reasons back. Whether there were any."""
        return self._change(target, lambda modes: tuple(mode for mode in modes if not which(mode)), reason)

    def hold(self, mode: DegradedMode) -> None:
        """Let a mode last as long as a `with` block; what it had replaced waits below it for the end of that."""

        def held(modes: tuple[DegradedMode, ...]) -> tuple[DegradedMode, ...]:
            mode.held, below, mode.replaced = True, mode.replaced, ()
            at = modes.index(mode) if mode in modes else len(modes)
            return (*modes[:at], *below, mode, *modes[at + 1 :])

        self._change(mode.target, held, mode.reason)

    def exit(self, target: Target, reason: str) -> bool:
        """Take a reason back, however often it was given. Whether it was in force."""
        resolved = self._resolved(target)
        there = self.drop(resolved, lambda mode: mode.reason == reason, reason)
        if isinstance(target, IntegrationType) or target not in IntegrationType.__members__.values():
            return there
        # Entered by this very word when no integration had the name yet, it is the type that it stands for.
        word = IntegrationType(target)
        return self.drop(word, lambda mode: mode.reason == reason and mode.spelled, reason) or there

    def clear(self) -> None:
        """Forget all reasons, when the registry closes. Guards go on working, and nobody could let go of them later."""
        self._modes.clear()
        for integration in self._registry:
            integration.limit(1.0)

    def capacity(self, target: Target) -> float:
        """What the reasons given for a target itself leave of it."""
        return min((mode.capacity for mode in self._in_force(target)), default=1.0)

    def limit(self, integration: Integration) -> float:
        """What the reasons for an integration and for its type leave of it."""
        return min(self.capacity(integration.family), self.capacity(integration.type))

    def reason(self, integration: Integration) -> str:
        """Why an integration is limited: the reason of the lowest capacity."""
        modes = (*self._in_force(integration.family), *self._in_force(integration.type))
        lowest = min(modes, key=lambda mode: mode.capacity, default=None)
        if lowest is None or integration.breaker.capacity < lowest.capacity - _GRAIN:
            return "recovering"
        return lowest.reason

    def is_degraded(self, target: Target) -> bool:
        """Whether fewer than all calls of a target go, for whatever reason."""
        one = self._one(target)
        return (self.capacity(one) if isinstance(one, IntegrationType) else one.status().capacity) < 1.0

    def limits_next(self, target: Target) -> bool:
        """Draw whether the next operation should be left out, from an account apart from the gate's."""
        one = self._one(target)
        key = _key(one if isinstance(one, IntegrationType) else one.name)
        dial = self._dials.get(key) or self._dials.setdefault(key, Dial())
        return not dial.admits(self._share_of_operations(one))

    def _share_of_operations(self, one: IntegrationType | Integration) -> float:
        if isinstance(one, IntegrationType):
            return self.capacity(one)
        status = one.status()
        # Somebody has to go and see whether it is back, and the gate says how many.
        waiting = status.state is CircuitState.HALF_OPEN or status.retry_after == 0.0
        return 1.0 if waiting and status.state in REFUSING else status.capacity

    def _in_force(self, target: Target) -> tuple[DegradedMode, ...]:
        """The newest of each reason."""
        return tuple({mode.reason: mode for mode in self._modes.get(_key(target), ())}.values())

    def _one(self, target: Target) -> IntegrationType | Integration:
        """An integration's name before a type's: `"database"` may be both, `IntegrationType.DATABASE` is the type."""
        if isinstance(target, IntegrationType):
            return target
        if not isinstance(target, str):
            raise TypeError(f"target must be an IntegrationType or the name of an integration, got {target!r}")
        try:
            return self._registry[target]
        except KeyError:
            if target in IntegrationType.__members__.values():
                return IntegrationType(target)
            known = sorted(integration.name for integration in self._registry)
            raise KeyError(f"{target!r} is neither an integration ({known}) nor a type") from None

    def _resolved(self, target: Target) -> Target:
        """What reasons are kept by: a key is limited with all the keys of its integration."""
        one = self._one(target)
        return one if isinstance(one, IntegrationType) else one.family

    def _change(
        self, target: Target, changed: Callable[[tuple[DegradedMode, ...]], tuple[DegradedMode, ...]], reason: str
    ) -> bool:
        with self._registry.lock:
            modes = self._modes.get(_key(target), ())
            previous = self.capacity(target)
            left = changed(modes)
            if left == modes:
                return False
            self._modes[_key(target)] = left
            capacity = self.capacity(target)
            for integration in self._registry:
                if _key(target) in (_key(integration.type), _key(integration.name)):
                    integration.limit(self.limit(integration))
            if capacity != previous:  # in line while nobody else can change it: listeners hear of it afterwards
                events.line_up(events.DegradedChange(target, capacity, previous, reason, time.time()))
        events.deliver()
        return True
