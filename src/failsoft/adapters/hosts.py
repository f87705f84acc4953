"""Which guard stands before a request: by host, operation, and whether the request may be sent twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..checks import at_least_one
from ..forks import new_lock
from ..integrations import Integration
from ..wire import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ..course import AnyGuard

    Chooser: TypeAlias = Integration | Callable[[str], Integration]


IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2: to send these twice is as good as once."""

OPTIONS = ("per_host", "max_hosts", "operation", "retry", "retry_methods", "send_deadline")
"""What `Hosts` takes beside the integration, and every adapter for it, by name so that it can be looked up there."""

_KINDS = 4
"""Guards that a host has, more or less: some methods, replayable or not."""


class Hosts:
    """The guards of one adapter, made when they are first needed and kept for at most `max_hosts` hosts.

    `integration` is one for all requests, or a function of the host ("api.example.com", with ":8443" behind it where
    the port is not the scheme's own) that gives the one for it. `per_host` gives each host a shard of the one.
    `send_deadline` names the header that tells the server how long we will wait: True for the usual one.
    """

    def __init__(
        self,
        integration: Chooser,
        *,
        per_host: bool = False,
        max_hosts: int = 256,
        operation: str | None = None,
        retry: bool = True,
        retry_methods: Iterable[str] = IDEMPOTENT,
        send_deadline: bool | str = False,
    ) -> None:
        if not isinstance(integration, Integration) and not callable(integration):
            raise TypeError(f"integration must be an Integration or a function of the host, got {integration!r}")
        if per_host and not isinstance(integration, Integration):
            raise TypeError("per_host gives each host a shard of one integration; a function chooses by itself")
        if isinstance(retry_methods, str):
            raise TypeError(f"retry_methods must be several names of methods, got {retry_methods!r}")
        self.retry_methods = frozenset(method.upper() for method in retry_methods)
        self.deadline_header = (HEADER if send_deadline is True else send_deadline) or None
        self.by_host = per_host or not isinstance(integration, Integration)
        self._integration = integration
        self._per_host = per_host
        self._operation = operation
        self._retry = retry
        self._most = at_least_one("max_hosts", max_hosts) * _KINDS  # type: ignore[operator]  # what its check gives
        self._guards: dict[tuple[str, str, bool], AnyGuard] = {}
        self._changing = new_lock()

    def guard(self, host: str, method: str, replayable: bool) -> AnyGuard:
        """The guard for such a request. `host` is looked at only if `by_host`."""
        key = (host, method, replayable)
        guard = self._guards.get(key)
        if guard is None:
            return self._made(key)
        if len(self._guards) * 2 > self._most:  # only then is it worth knowing which was used last
            with self._changing:
                if self._guards.pop(key, None) is not None:
                    self._guards[key] = guard
        return guard

    def _made(self, key: tuple[str, str, bool]) -> AnyGuard:
        host, method, replayable = key
        integration = self._integration
        if not isinstance(integration, Integration):
            integration = integration(host)
            if not isinstance(integration, Integration):
                raise TypeError(f"the function must give an Integration for {host!r}, got {integration!r}")
        operation = self._operation or method
        guard: AnyGuard = integration.guard(_request, operation=operation, retry=self._retry, idempotent=replayable)
        if self._per_host:
            guard = integration.guard_for_key(guard, host)
        with self._changing:
            guard = self._guards.setdefault(key, guard)
            while len(self._guards) > self._most:
                del self._guards[next(iter(self._guards))]
        return guard


def _request(*_: Any) -> Any:
    """What the guards here are made before. They are asked for permits, and never called."""
    raise NotImplementedError


_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def host_of(scheme: str, host: str | None, port: int | None) -> str:
    """How a host is named here: the same whether an address has the scheme's own port in it or not."""
    return f"{host or ''}:{port}" if port is not None and port != _PORTS.get(scheme) else host or ""
