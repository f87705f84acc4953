"""For tests of code that uses failsoft.

    FakeClock      time that moves only when told
    Script         a dependency that answers and fails as written down
    EventLog       the events there were
    no_backoff     retries that do not wait
    isolated       the default registry, empty for a while
    FaultProxy     a TCP proxy that makes a network slow, lossy and dead
    servers        real servers from wheels: Valkey, PostgreSQL, NATS

`failsoft.chaos` injects faults into guarded calls; the pytest plugin has a fixture for each of these. Each room is
loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .clock import FakeClock
    from .event_log import EventLog
    from .isolation import isolated
    from .proxy import FaultProxy, Faults
    from .script import Script, ScriptEnded
    from .waits import no_backoff

_ROOMS = {
    "FakeClock": "clock", "EventLog": "event_log", "FaultProxy": "proxy", "Faults": "proxy", "Script": "script",
    "ScriptEnded": "script", "isolated": "isolation", "no_backoff": "waits",
}  # fmt: skip

__all__ = ["EventLog", "FakeClock", "FaultProxy", "Faults", "Script", "ScriptEnded", "isolated", "no_backoff"]


if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        if name == "servers":
            return import_module(".servers", __name__)
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
