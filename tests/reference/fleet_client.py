"""A client of the modelled store: as much of redis-py as failsoft asks of it, with a switch to pull."""

from __future__ import annotations

from typing import Any

from failsoft import _core

from .fleet_store import FleetStore


class Down(ConnectionError):
    """Nobody answers."""


class Memory:
    """The server. `error` is raised by whatever asks it, `answers` replaces its answers by key."""

    def __init__(self) -> None:
        self.store = FleetStore()
        self.error: Exception | None = None
        self.answers: dict[str, Any] = {}
        self.asked = 0
        self.connections = 0

    def client(self) -> Client:
        """As `failsoft.fleet(client=...)` wants it."""
        self.connections += 1
        return Client(self)

    def forget(self) -> None:
        """As a restart without persistence, or an eviction."""
        self.store = FleetStore()


class Client:
    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.commands: list[tuple[Any, ...]] = []

    def pipeline(self, transaction: bool) -> Client:
        assert not transaction
        return Client(self.memory)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.commands = []

    def execute_command(self, *command: Any) -> None:
        assert command[0] in ("EVAL", "EVALSHA")
        for part in command:
            if isinstance(part, str):
                part.encode()  # as it goes over the wire
        self.commands.append(command)

    def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self.memory.asked += 1
        if self.memory.error is not None:
            raise self.memory.error
        now = 1_700_000_000_000 + _core.now_ns() // 1_000_000
        return [
            self.memory.answers.get(key) or self.memory.store.run(key, arguments, now)
            for _, _, _, key, *arguments in self.commands
        ]

    def pubsub(self, **_options: Any) -> Any:
        raise Down("hints are not modelled")

    def close(self) -> None:
        return
