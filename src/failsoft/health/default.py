"""The health of the integrations that module functions act on: those of the default registry."""

from __future__ import annotations

from .. import registry as registries
from .status import HealthStatus

integration_health_monitor = registries.default.health


def get_all_integration_health() -> dict[str, HealthStatus]:
    """The health of every integration by name: by its health check, or by its traffic where it has none."""
    return integration_health_monitor.get_all_health()
