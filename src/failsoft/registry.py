"""The registry that keeps one integration of each name, and what is common to all of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping

from ._core import disable_guard, faces
from .breakers import BreakerStatus, BreakerSummary
from .checks import at_least_one
from .config import CircuitState, IntegrationConfig, IntegrationType, default_config, differences
from .degraded import Capacities
from .forks import new_lock
from .guards import build
from .integrations import Integration
from .logs import warn
from .metrics import OVERFLOW, IntegrationMetrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterator
    from typing import Any

    from .course import AnyGuard
    from .decisions import Explanation
    from .health import HealthMonitor
    from .recovery import Recovery
    from .sharing import Sharing

_INNER = frozenset({"capacities", "has_room", "lock", "sharing", "tell_overflow", "watched"})
"""What our own rooms ask of a registry. Who presses Tab is not looking for it."""


class Registry:
    """A set of integrations by name. Module functions use a default one; tests make their own.

    At most `max_operations` operations get numbers of their own, those of keys (`guard(key=...)`) apart; later ones are
    counted together, each integration's as "(overflow)", and the first of them is logged as a warning.
    `FAILSOFT_DISABLED=1` in the environment makes every guard of a new registry a pass-through; `disable()` does the
    same at any time, and `enable()` undoes it.
    """

    def __init__(self, *, max_operations: int = 1024) -> None:
        self.lock = new_lock()  # over the tables below; never held while user code runs
        self.disabled = os.environ.get("FAILSOFT_DISABLED", "") not in ("", "0")
        self._integrations: dict[str, Integration] = {}
        self._configured: dict[str, IntegrationConfig] = {}  # replaced whole, so it may be read without the lock
        self._guards: list[weakref.ref[AnyGuard]] = []
        at_least_one("max_operations", max_operations)
        self._max_operations = max_operations
        self._operations = 0
        self._overflow_told = False
        self.capacities = Capacities(self)
        self.metrics = IntegrationMetrics(self)
        self._health: HealthMonitor | None = None
        self.sharing: Sharing | None = None
        """Its part in an arena that other processes share; None: breakers are this process's own."""

    def __repr__(self) -> str:
        return f"<Registry of {len(self)} integrations{', disabled' if self.disabled else ''}>"

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INNER]

    def integration(
        self,
        name: str,
        type: IntegrationType | str,
        config: IntegrationConfig | None = None,
        **overrides: Any,
    ) -> Integration:
        """Get or make the integration of this name.

        Without `config` the settings of `configure` hold, or else the preset of `type`; `overrides` replace parts of
        them, or single fields by mappings: `integration("db", "database", circuit_breaker={"reset_timeout": 5.0})`.
        The same name with another type or other settings is a `ValueError`.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty string, got {name!r}")
        if isinstance(name, IntegrationType) or (not _is_type(type) and _is_type(name)):
            raise TypeError(f"name and type are swapped: integration({str(type)!r}, {str(name)!r})")
        configured = self._configured.get(name)
        if config is None and configured is not None and configured.type != type:
            raise ValueError(f"integration {name!r} is configured as {configured.type} and cannot be {type} too")
        chosen = config if config is not None else configured
        settings = _settings(IntegrationType(type) if _is_type(type) else type, chosen, overrides)
        asked, made = config is not None or bool(overrides), False
        with self.lock:
            known = self._integrations.get(name)
            if known is None and self._configured.get(name) is configured:
                known = Integration(self, name, settings)
                self._integrations[name] = known
                known.limit(self.capacities.limit(known))
                if self.sharing is None:
                    return known
                made = True
        if made and known is not None:
            self.sharing.join(known)  # type: ignore[union-attr]  # waits for other processes, so no lock is held
            return known
        if known is None:  # configured since it was looked up
            return self.integration(name, type, config, **overrides)
        if known.type != settings.type:
            raise ValueError(f"integration {name!r} is {known.type} already and cannot be {settings.type} too")
        if asked and known.config != settings:
            raise ValueError(
                f"integration {name!r} has other settings already: {differences(known.config, settings)}; "
                "Integration.reconfigure changes them"
            )
        return known

    def configure(self, configs: Mapping[str, IntegrationConfig]) -> None:
        """Lay down settings by name, which `integration` takes when it makes one without an explicit `config`.

            registry.configure(load_config())

        Names configured before and not named now keep theirs. A name that is made already and has other settings is a
        `ValueError`, and then nothing is laid down: `Integration.reconfigure` changes what runs.
        """
        if not isinstance(configs, Mapping):
            raise TypeError(f"configs must map names to IntegrationConfig, got {configs!r}")
        configs = dict(configs)
        for name, config in configs.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"name must be a non-empty string, got {name!r}")
            if not isinstance(config, IntegrationConfig):
                raise TypeError(f"configs[{name!r}] must be an IntegrationConfig, got {config!r}")
        with self.lock:
            for name, config in configs.items():
                known = self._integrations.get(name)
                if known is None or known.config == config:
                    continue
                if known.type != config.type:
                    raise ValueError(f"integration {name!r} is {known.type} already and cannot be {config.type} too")
                raise ValueError(
                    f"integration {name!r} is made already, with other settings: {differences(known.config, config)}; "
                    "Integration.reconfigure changes them"
                )
            self._configured = {**self._configured, **configs}

    def __getitem__(self, name: str) -> Integration:
        """The integration of this name, or the shard of one, "name[key]". KeyError where there is none."""
        if not isinstance(name, str):
            raise TypeError(f"name must be the name of an integration, a string, got {name!r}")
        known = self._integrations.get(name)
        if known is None:
            known = next((shard for shard in self.with_shards() if shard.name == name), None)
        if known is None:
            there = f"there are {sorted(self._integrations)}" if self._integrations else "none has been made yet"
            raise KeyError(f"no integration is named {name!r}; {there}")
        return known

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._integrations or any(shard.name == name for shard in self.with_shards())
        )

    def __iter__(self) -> Iterator[Integration]:
        return iter(tuple(self._integrations.values()))

    def with_shards(self) -> Iterator[Integration]:
        """The integrations, each followed by those of its keys."""
        for integration in self:
            yield integration
            yield from integration.shards.values()

    def __len__(self) -> int:
        return len(self._integrations)

    def __bool__(self) -> bool:
        return True  # an empty registry is one all the same: `registry or default` must not swap it

    def status(self, name: str) -> BreakerStatus:
        """The breaker of an integration, now. KeyError where none has this name."""
        return self[name].status()

    def summary(self) -> BreakerSummary:
        """How many breakers there are, those of keys included, and how many are CLOSED."""
        states: dict[CircuitState, int] = {}
        for integration in self.with_shards():
            state = integration.breaker.state
            states[state] = states.get(state, 0) + 1
        total, healthy = sum(states.values()), states.get(CircuitState.CLOSED, 0)
        return BreakerSummary(total, healthy, total - healthy, states)

    def explain(self, name: str) -> Explanation:
        """Why an integration is in the state it is in. Print it. KeyError where none has this name."""
        return self[name].explain()

    def has_room(self) -> bool:
        """Count one more operation with numbers of its own, if there may be one."""
        if self._operations >= self._max_operations:
            return False
        self._operations += 1
        return True

    def tell_overflow(self, integration: str, operation: str) -> None:
        """Log, the first time, that an operation has no numbers of its own. Not under the lock: handlers are users'."""
        with self.lock:
            told, self._overflow_told = self._overflow_told, True
        if not told:
            warn(
                "more than %d operations: %s.%s and all that come after are counted together, each integration's as %r",
                self._max_operations, integration, operation, OVERFLOW,
            )  # fmt: skip

    @property
    def health(self) -> HealthMonitor:
        """Its health checks, and what they and the traffic tell."""
        from .health import HealthMonitor

        with self.lock:
            if self._health is None:
                self._health = HealthMonitor(self)
            return self._health

    def disable(self) -> None:
        """Turn every guard of this registry into a pass-through."""
        self._switch(True)

    def enable(self) -> None:
        """Put the guards back to work."""
        self._switch(False)

    def close(self) -> None:
        """End what it has started and forget integrations and settings. Guards already made go on working.

        That is health checks with their thread or tasks, and the tasks of shared calls (`dedupe=`), which it cancels.
        """
        if self._health is not None:
            self._health.clear()
        self._cancel_shared_calls()
        self._forget()

    async def aclose(self) -> None:
        """The same, from a running loop, which goes on while this waits for what is under way."""
        import asyncio

        if self._health is not None:
            await self._health.aclear()
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        here = [task for task in self._cancel_shared_calls() if task.get_loop() is loop and task is not me]
        if here:
            await asyncio.wait(here)
        self._forget()

    def _cancel_shared_calls(self) -> list[Task[Any]]:
        with self.lock:
            guards = [guard for ref in self._guards if (guard := ref()) is not None]
        flights = [guard._recovery.flights for guard in guards if guard._recovery.flights is not None]
        return [task for each in flights for task in each.cancel()]

    def _forget(self) -> None:
        with self.lock:
            self.capacities.clear()
            self._integrations.clear()
            self._configured = {}
            self._guards.clear()
            if self is default:
                faces.clear()
            self._operations = 0
            self._overflow_told = False

    def watched(self, fn: Callable[..., Any], recovery: Recovery, *, shared: bool) -> Any:
        """A guard before `fn` that `disable` and `enable` reach."""
        guard = build(fn, recovery, shared=shared, disabled=self.disabled)
        with self.lock:
            if len(self._guards) % 256 == 255:
                self._guards = [ref for ref in self._guards if ref() is not None]
            self._guards.append(weakref.ref(guard))
            if self.disabled != guard._disabled:  # somebody has switched while it was made
                disable_guard(guard, self.disabled)
        recovery.integration.keep(guard)
        return guard

    def _switch(self, disabled: bool) -> None:
        with self.lock:
            self.disabled = disabled
            guards = [ref() for ref in self._guards]
        for guard in guards:
            if guard is not None:
                disable_guard(guard, disabled)


def _is_type(value: object) -> bool:
    return isinstance(value, str) and value in IntegrationType.__members__.values()


def _settings(
    type: IntegrationType | str, config: IntegrationConfig | None, overrides: dict[str, Any]
) -> IntegrationConfig:
    if config is None:
        config = default_config(type)  # type: ignore[arg-type]
    elif not isinstance(config, IntegrationConfig):
        raise TypeError(f"config must be an IntegrationConfig, got {config!r}")
    elif config.type != type:
        raise ValueError(f"config is for {config.type}, not for {type}")
    return config.with_(**overrides) if overrides else config


default = Registry()
"""The registry of the module functions."""
