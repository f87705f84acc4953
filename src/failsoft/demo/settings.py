"""What the demo changes in the presets, derived from its length, and how it says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from failsoft import IntegrationConfig, IntegrationType, default_config
from failsoft.records import Record, field_names

FEED = "feed"
QUOTES = "quotes"

MINIMUM_SECONDS = 6.0
"""Six faults, each with time to open a breaker and time to close it again, do not fit into less."""
MAXIMUM_SECONDS = 3600.0

_PRESET_LENGTH = 20.0


class Settings(NamedTuple):
    """The two integrations of the demo, and what the faults need to know of them."""

    feed: IntegrationConfig
    quotes: IntegrationConfig

    @property
    def slow_reply(self) -> float:
        """Seconds a slow reply takes: three times what an attempt may take."""
        return 3 * self.quotes.circuit_breaker.timeout


def derive(seconds: float) -> Settings:
    """Shorten the waits of both presets so that six outages fit into `seconds`.

    The floors keep a busy machine from looking like a broken server.
    """
    unit = seconds / _PRESET_LENGTH
    attempt = max(0.15, 0.25 * unit)
    reset = max(0.2, 0.4 * unit)
    return Settings(
        feed=default_config(IntegrationType.MARKET_DATA).with_(
            circuit_breaker={"failure_threshold": 5, "timeout": attempt, "reset_timeout": reset},
        ),
        quotes=default_config(IntegrationType.EXTERNAL_API).with_(
            timeouts={"overall": max(0.8, 2.0 * unit)},
            retry_policy={"initial_delay": 0.04, "max_delay": 0.2},
            circuit_breaker={"timeout": attempt, "reset_timeout": reset},
        ),
    )


class Difference(NamedTuple):
    setting: str
    preset: object
    chosen: object


def differences(config: IntegrationConfig) -> list[Difference]:
    """Every setting of `config` that is not its preset's, by its dotted name."""
    preset = dict(_flatten(default_config(config.type)))
    return [
        Difference(setting, preset[setting], chosen)
        for setting, chosen in _flatten(config)
        if chosen != preset[setting]
    ]


def _flatten(config: Record, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name in field_names(type(config)):
        value = getattr(config, name)
        if isinstance(value, Record):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
