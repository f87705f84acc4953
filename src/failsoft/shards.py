"""The integrations of keys: behind `guard(key=...)` each venue, shard or host has a breaker and numbers of its own."""

from __future__ import annotations

from weakref import WeakValueDictionary

from .kinds import CircuitState
from .switches import STANDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from .integrations import Integration
    from .registry import Registry


class Shards:
    """Those of one integration, by key. One lives as long as a guard for its key is kept."""

    __slots__ = ("_known", "_registry")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: WeakValueDictionary[Hashable, Integration] = WeakValueDictionary()

    def all(self) -> dict[Hashable, Integration]:
        """Those there are now."""
        if not len(self._known):
            return {}
        with self._registry.lock:  # new ones wait so long
            while True:
                try:
                    return dict(self._known.items())
                except RuntimeError:  # without the GIL, those that nobody keeps go while we look
                    continue

    def of(self, parent: Integration, key: Hashable) -> Integration:
        """The one of a key of `parent`, whose shards these are; made when first asked for."""
        registry = self._registry
        with registry.lock:
            known = self._known.get(key)
        if known is not None:
            return known
        shard = parent.for_key(key)
        standing = _standing(parent)
        if standing is not None:
            shard._switch(standing)  # tells listeners, so no lock is held
        with registry.lock:
            known = self._known.get(key)
            if known is not None:  # another thread was quicker
                return known
            if shard.config is not parent.config:
                shard.hold_to(parent.config)
            shard.limit(registry.capacities.limit(parent))
            shard.breaker.mark_chaos(bool(parent.chaos))
            self._known[key] = shard
        if registry.sharing is not None and parent.breaker.shared:
            from .sharing import KEY_PATIENCE

            registry.sharing.join(shard, patience=KEY_PATIENCE)
        now = _standing(parent)
        if now != standing:  # an operator has spoken meanwhile, and may not have seen it
            shard._switch(now or CircuitState.CLOSED)
        return shard


def _standing(integration: Integration) -> CircuitState | None:
    """What an operator has said to stay."""
    state = integration.breaker.state
    return state if state in STANDING else None
