"""A fleet on a real Valkey and a real Redis: processes as hosts, and a store that dies, hangs and comes back otherwise."""

from __future__ import annotations

import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import failsoft
from failsoft import CircuitState, Integration, Registry
from failsoft.fleets.stores import connector

from ..conftest import Score

if TYPE_CHECKING:
    from .servers import Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")

LIMIT = 20.0
INTERVAL = 0.1
SETTINGS: dict[str, Any] = {
    "failure_threshold": 5, "success_threshold": 1, "half_open_max_calls": 2, "timeout": 0.2, "reset_timeout": 1.0,
}  # fmt: skip


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    given: Server = request.getfixturevalue(f"{request.param}_server")
    return given


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """The client of the same name as the server."""
    name: str = request.node.callspec.params["server"]
    return name


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


def wait_for(what: Callable[[], object], limit: float = LIMIT) -> float:
    """Until it is so; how long that took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < limit, "it never came"
        time.sleep(0.002)
    return time.monotonic() - began


class Process:
    """tests/services/fleet_host.py, and what it has told."""

    def __init__(self, url: str, name: str, namespace: str, client: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("fleet_host.py")), url, name, namespace, str(INTERVAL)]
        self.process = subprocess.Popen([*command, client], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.changes: list[dict[str, Any]] = []
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def read(self, key: str) -> dict[str, Any]:
        while True:
            line = json.loads(self.lines.get(timeout=LIMIT))
            if key in line:
                return line
            self.changes.append(line)

    def send(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def ask(self, order: str, key: str) -> dict[str, Any]:
        self.send(order)
        return self.read(key)

    def close(self) -> None:
        if self.process.poll() is None:
            self.send("quit")
        self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def processes(server: Server, client: str, namespace: str) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        made = []
        for number in range(4):
            made.append(Process(f"redis://127.0.0.1:{server.port}", f"host{number}", namespace, client))
            stack.callback(made[-1].close)
        for one in made:
            one.read("ready")
        for one in made:
            wait_for(lambda one=one: one.ask("state", "hosts")["hosts"] == 4)
        yield made


def test_four_processes_open_together_and_outlive_their_store(
    processes: list[Process], server: Server, client: str, score: Score
) -> None:
    for one in processes[:2]:
        one.send("fail 5")
    for one in processes[:2]:
        assert one.read("went")["went"] == 5
    for one in processes:
        wait_for(lambda one=one: one.ask("state", "hosts") and any(each["state"] == "OPEN" for each in one.changes))
    opened = [next(each["at"] for each in one.changes if each["state"] == "OPEN") for one in processes]
    last_of_quorum = max(opened[:2])
    took = max(opened[2:]) - last_of_quorum
    score(
        "a fleet opens together", f"intervals from the quorum to all ({client})", round(took / INTERVAL, 2), "4 hosts"
    )
    assert [each["reason"] for one in processes[2:] for each in one.changes] == ["fleet", "fleet"]
    assert took < 2.0 * INTERVAL + 0.15  # that the scheduler of a busy machine may take

    for one in processes:
        one.send("succeed 0")
    for one in processes:
        one.read("went")
    closed: set[str] = set()
    while closed != {"CLOSED"}:
        for one in processes:
            one.send("try 0.1")
        for one in processes:
            one.read("went")
        closed = {one.ask("state", "hosts")["state"] for one in processes}

    server.kill()
    for one in processes:
        wait_for(lambda one=one: not one.ask("state", "hosts")["connected"])
    beyond = [one.ask("fail 50", "went")["went"] - 5 for one in processes]
    assert beyond == [0, 0, 0, 0]
    score("a fleet without its store", f"calls beyond the threshold, store killed ({client})", sum(beyond), "4 hosts")
    generation = processes[0].ask("state", "hosts")["generation"]
    server.revive()
    back = time.monotonic()
    for one in processes:
        wait_for(lambda one=one: one.ask("state", "hosts")["connected"])
    took = time.monotonic() - back
    score("a fleet without its store", f"seconds to resync ({client})", round(took, 2), "4 hosts")
    assert processes[0].ask("state", "hosts")["generation"] >= generation


class Proxy:
    """Hands on what comes, until it is told to swallow it."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.swallows = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        while True:
            try:
                ready, _, _ = select.select([self.listener, *peers], [], [], 0.5)
            except (OSError, ValueError):
                return
            for one in ready:
                if one is self.listener:
                    try:
                        near, far = one.accept()[0], socket.create_connection(("127.0.0.1", self.target))
                    except OSError:  # closed
                        return
                    peers[near], peers[far] = far, near
                    self.sockets += [near, far]
                    continue
                if one not in peers:
                    continue  # its other end has just gone
                if self.swallows:
                    time.sleep(0.005)
                    continue
                try:
                    data = one.recv(65536)
                    if data:
                        peers[one].sendall(data)
                        continue
                except OSError:
                    pass
                other = peers.pop(one)
                peers.pop(other, None)
                one.close()
                other.close()

    def close(self) -> None:
        self.listener.close()
        self.thread.join(2.0)
        for one in self.sockets:
            one.close()


class Host:
    """A host in this process."""

    def __init__(self, port: int, name: str, namespace: str, client: str, **options: Any) -> None:
        self.registry = Registry()
        self.market: Integration = self.registry.integration("market", "external_api", circuit_breaker=SETTINGS)
        self.fleet = failsoft.fleet(
            f"redis://127.0.0.1:{port}", registry=self.registry, host=name, namespace=namespace, client=client,
            **{"interval": 0.05, "quorum": 1, **options},
        )  # fmt: skip

    def fail(self, times: int = 50) -> int:
        went = 0
        for _ in range(times):
            if permit := self.market.breaker.acquire():
                went += 1
                self.market.breaker.failure(permit)
        return went

    def probe(self) -> None:
        if permit := self.market.breaker.acquire():
            self.market.breaker.success(permit)

    @property
    def state(self) -> CircuitState:
        return self.market.breaker.state

    @property
    def connected(self) -> bool:
        return self.fleet.status().connected


@pytest.fixture
def hosts() -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(*arguments: Any, **options: Any) -> Host:
        made.append(Host(*arguments, **options))
        wait_for(lambda: made[-1].connected)
        return made[-1]

    yield make
    for host in made:
        host.fleet.close()


def hang(server: Server, proxy: Proxy) -> Callable[[], None]:
    server.freeze()
    return server.revive


def part(server: Server, proxy: Proxy) -> Callable[[], None]:
    proxy.swallows = True

    def heal() -> None:
        proxy.swallows = False

    return heal


def follow_nobody(server: Server, proxy: Proxy) -> Callable[[], None]:
    """As a primary that has become a replica."""
    control = connector(f"redis://127.0.0.1:{server.port}", None)()
    control.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: control.execute_command("REPLICAOF", "NO", "ONE")


def fill(server: Server, proxy: Proxy) -> Callable[[], None]:
    control = connector(f"redis://127.0.0.1:{server.port}", None)()
    control.config_set("maxmemory", "1")
    return lambda: control.config_set("maxmemory", "0")


@pytest.mark.parametrize(
    "trouble", [hang, part, follow_nobody, fill], ids=["stopped", "partitioned", "read-only", "full"]
)
def test_in_trouble_with_the_store_a_host_is_protected_and_comes_back(
    server: Server,
    client: str,
    namespace: str,
    hosts: Callable[..., Host],
    trouble: Callable[..., Callable[[], None]],
    request: pytest.FixtureRequest,
    score: Score,
) -> None:
    proxy = Proxy(server.port)
    try:
        one, other = (hosts(proxy.port, name, namespace, client) for name in "ab")
        heal = trouble(server, proxy)
        try:
            wait_for(lambda: not one.connected and not other.connected)
            beyond = one.fail() - 5
            assert beyond == 0
            assert other.state == "CLOSED"
        finally:
            heal()
        took = wait_for(lambda: other.state == "OPEN")  # one still is open, and says so
        assert one.connected
        assert other.connected
        what = request.node.callspec.id
        score("a fleet without its store", f"calls beyond the threshold ({what})", beyond, "of 50")
        score("a fleet without its store", f"seconds to resync ({what})", round(took, 2))
    finally:
        proxy.close()


def test_evicted_and_foreign_keys(server: Server, client: str, namespace: str, hosts: Callable[..., Host]) -> None:
    one, other = (hosts(server.port, name, namespace, client) for name in "ab")
    control = connector(f"redis://127.0.0.1:{server.port}", client)()
    key = f"failsoft:{{{namespace}:market}}"
    one.fail()
    wait_for(lambda: other.state == "OPEN")
    generation = other.fleet.status().breakers["market"].generation
    control.delete(key)
    late = hosts(server.port, "c", namespace, client)
    wait_for(lambda: late.state == "OPEN")
    assert late.fleet.status().breakers["market"].generation == generation
    wait, known = late.market.breaker.status().retry_after, other.market.breaker.status().retry_after
    assert wait is not None
    assert known is not None
    assert abs(wait - known) < 0.15
    control.delete(key)
    control.hset(key, mapping={"v": "99"})
    wait_for(lambda: one.fleet.status().breakers["market"].problem)
    assert "layout 99" in str(one.fleet.status().breakers["market"].problem)
    control.delete(key)
    control.set(key, "something else")
    wait_for(lambda: not one.connected)
    control.delete(key)
    wait_for(lambda: one.connected and other.connected and not one.fleet.status().breakers["market"].problem)
    assert late.fleet.status().breakers["market"].generation >= generation


def test_a_change_is_heard_before_the_next_round(
    server: Server, client: str, namespace: str, hosts: Callable[..., Host], score: Score
) -> None:
    one = hosts(server.port, "a", namespace, client)
    other = hosts(server.port, "b", namespace, client, interval=2.0, quorum=1)
    time.sleep(0.1)  # it has subscribed
    one.fail()
    took = wait_for(lambda: other.state == "OPEN")
    score("a fleet hears of a change", f"seconds, with an interval of 2 s ({client})", round(took, 3))
    assert took < 1.5


def test_a_child_is_a_member_of_its_own(server: Server, client: str, namespace: str) -> None:
    code = f"""
import os, sys, time, warnings
warnings.simplefilter("ignore")
import failsoft
registry = failsoft.Registry()
registry.integration("market", "external_api")
fleet = failsoft.fleet("redis://127.0.0.1:{server.port}", registry=registry, namespace="{namespace}", client="{client}", interval=0.05)
def rounds(of):
    end = time.monotonic() + 15
    while fleet.status().rounds < of and time.monotonic() < end: time.sleep(0.01)
    return fleet.status()
parent = rounds(3).member
child = os.fork()
if child == 0:
    status = rounds(3)
    ok = status.connected and status.member != parent and status.rounds >= 3 and status.failed == 0
    fleet.close()
    os._exit(0 if ok else 1)
_, ended = os.waitpid(child, 0)
now = rounds(fleet.status().rounds + 3)
print(ended, now.connected, now.failed, now.member == parent)
fleet.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", "True", "0", "True"], done.stderr


def test_the_call_path_does_not_feel_it(
    server: Server, client: str, namespace: str, hosts: Callable[..., Host], score: Score
) -> None:
    """The 99th percentile of a guarded call with a fleet, a fleet whose store hangs, and none. No more than a report."""

    def p99(integration: Integration) -> int:
        guard, clock = integration.guard(int, operation="call"), time.perf_counter_ns
        took = []
        for _ in range(40_000):
            began = clock()
            guard()
            took.append(clock() - began)
        return sorted(took)[len(took) * 99 // 100]

    alone = Registry().integration("market", "external_api", circuit_breaker=SETTINGS)
    with_fleet = hosts(server.port, "a", namespace, client).market
    bare, shared = (min(p99(one) for _ in range(2)) for one in (alone, with_fleet))
    server.freeze()
    try:
        frozen = min(p99(with_fleet) for _ in range(2))
    finally:
        server.revive()
    for what, took in (("store well", shared), ("store frozen", frozen)):
        score("a call in a fleet", f"added p99, ns ({client}, {what})", took - bare, f"{bare} ns without")
    assert max(shared, frozen) < bare + 20_000
