"""What an operator may do from the dashboard, where `controls=True` says so: one action on one integration.

Each is a change of state or capacity like any other, so that listeners, the flight recorder and the ribbon show it; who
asked for it is logged, and listed on the page.
"""

from __future__ import annotations

import time

from ..arena import SharedIntegration
from ..logs import warn
from .names import identity, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any

    from ..arena import Arena
    from ..integrations import Integration
    from ..registry import Registry

REASON = "dashboard"
"""The reason of degraded modes that are entered here; those of others are not touched."""

ACTIONS = ("force_open", "force_closed", "disable", "metrics_only", "reset", "degrade", "restore")

AUDIT_MOST = 50


class Refused(ValueError):
    """The action cannot be carried out; the text says why. `status` is that of HTTP."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


def act(source: Registry | Arena, asked: Any, who: str, audit: deque[dict[str, Any]]) -> dict[str, Any]:
    """Do what was asked: {"id": ..., "action": ..., "capacity": 0 to 1 for "degrade"}. The audit's new line."""
    if not isinstance(asked, dict):
        raise Refused("the body must be a JSON object")
    action, id = asked.get("action"), asked.get("id")
    capacity: Any = asked.get("capacity")
    if action not in ACTIONS:
        raise Refused(f"action must be one of {', '.join(ACTIONS)}")
    if action == "degrade" and (type(capacity) not in (int, float) or not 0.0 <= capacity <= 1.0):
        raise Refused("capacity must be a number, 0 to 1")
    one = next((one for one in source.with_shards() if identity(one.name) == id), None)
    if one is None:
        raise Refused("there is no such integration", 404)
    said = action if action != "degrade" else f"degrade to {capacity * 100:.3g}%"
    line = {"at": round(time.time(), 3), "who": shown(who, 80), "integration": shown(one.name), "action": said}
    warn("an operator at the dashboard (%s): %s %s", line["who"], said, line["integration"])
    audit.append(line)
    _carry_out(source, one, action, capacity)
    return line


def _carry_out(source: Any, one: Integration | SharedIntegration, action: str, capacity: Any) -> None:
    if isinstance(one, SharedIntegration):
        if action in ("degrade", "restore"):
            one.limit(float(capacity) if action == "degrade" else 1.0)
        else:
            getattr(one, action)()
    elif action == "degrade":
        source.capacities.enter(one.family, float(capacity), REASON)
    elif action == "restore":
        source.capacities.exit(one.family, REASON)
    else:
        getattr(one, action)()
