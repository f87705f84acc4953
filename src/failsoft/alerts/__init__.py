"""Alerts in the program itself: rules over what is observed, told to sinks when they begin and when they end.

    from failsoft.alerts import Alerts, LogSink, default_rules

    with Alerts(default_rules(), sinks=[LogSink()]):
        ...

docs/alerts.md shows how. Nothing here is loaded, and nothing runs, until it is asked for.
"""

from __future__ import annotations

from .engine import Alerts
from .files import load_rules
from .language import ConditionError
from .notices import AlertsStatus, Notice, SinkStatus
from .observations import Observation
from .rules import AlertRule
from .silences import Silence
from .sinks import CallbackSink, LogSink, SlackSink, WebhookSink, slack_payload
from .standard import default_rules

__all__ = [
    "AlertRule",
    "Alerts",
    "AlertsStatus",
    "CallbackSink",
    "ConditionError",
    "LogSink",
    "Notice",
    "Observation",
    "Silence",
    "SinkStatus",
    "SlackSink",
    "WebhookSink",
    "default_rules",
    "load_rules",
    "slack_payload",
]
