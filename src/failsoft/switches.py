"""What an operator says: the same words to a breaker, to an integration, and to one that several processes share."""

from __future__ import annotations

from .kinds import CircuitState

STANDING = (CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.METRICS_ONLY)
"""The states that stay until an operator says otherwise."""


class Switches:
    """Puts a breaker into a state by hand, and with it whatever belongs to it."""

    __slots__ = ()

    def force_open(self) -> None:
        """Refuse every call until an operator says otherwise."""
        self._switch(CircuitState.FORCED_OPEN)

    def force_closed(self) -> None:
        """Close the breaker now, as if nothing had happened."""
        self._switch(CircuitState.CLOSED)

    def disable(self) -> None:
        """Let every call go past the breaker; it counts nothing."""
        self._switch(CircuitState.DISABLED)

    def metrics_only(self) -> None:
        """Let every call go and count, but never trip."""
        self._switch(CircuitState.METRICS_ONLY)

    def reset(self) -> None:
        """Close the breaker now, with fresh counts: the seed's name for `force_closed`."""
        self._switch(CircuitState.CLOSED)

    def _switch(self, state: CircuitState) -> None:
        raise NotImplementedError
