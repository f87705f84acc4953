"""The fault proxy between real sockets: what a client sees of each fault."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from failsoft.testing import FaultProxy, Faults
from failsoft.testing.proxy import CONNECTIONS, address


class Echo:
    """A server that sends back what it gets, and then the end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self.reset_seen = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._sockets.append(connection)
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65_536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except ConnectionResetError:
            self.reset_seen.set()
        except OSError:
            pass
        finally:
            connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread that accepts would keep it open
        self._listener.close()
        for connection in self._sockets:
            connection.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    before = threads()
    with FaultProxy(echo.port, seed=1) as proxy:
        yield proxy
    assert threads() <= before  # other rooms may have proxies of their own


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("FaultProxy")}


def connected(proxy: FaultProxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=timeout)


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def test_without_faults_all_passes_both_ways_and_to_its_end(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 8000  # 2 MB: more than is held back anywhere
    with connected(proxy) as client:
        writer = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        writer.start()
        assert read(client, len(data)) == data
        assert client.recv(1) == b""
        writer.join()
    assert proxy.accepted == 1


def test_latency_is_that_of_each_piece_and_not_of_all_together(proxy: FaultProxy) -> None:
    proxy.set(latency=0.1)
    with connected(proxy) as client:
        began = time.monotonic()
        for _ in range(10):
            client.sendall(b"x")
            time.sleep(0.005)
        assert read(client, 10) == b"x" * 10
        took = time.monotonic() - began
    assert 0.1 <= took < 0.6


def test_latency_up_and_both_ways(proxy: FaultProxy) -> None:
    for direction, least in (("up", 0.05), ("both", 0.1)):
        with proxy.fault(latency=0.05, direction=direction), connected(proxy) as client:
            began = time.monotonic()
            client.sendall(b"x")
            read(client, 1)
            assert time.monotonic() - began >= least


def test_jitter_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.set(jitter=0.02)
    with connected(proxy) as client:
        sent = b"".join(bytes([n]) for n in range(50))
        for n in range(50):
            client.sendall(sent[n : n + 1])
            time.sleep(0.0005)
        assert read(client, 50) == sent


def test_a_black_hole_swallows_nothing_for_good(proxy: FaultProxy) -> None:
    with connected(proxy, timeout=0.1) as client:
        with proxy.fault(black_hole=True):
            client.sendall(b"late")
            with pytest.raises(TimeoutError):
                client.recv(4)
            with connected(proxy, timeout=0.05) as other:  # is accepted, as by a kernel whose process is frozen
                other.sendall(b"x")
                with pytest.raises(TimeoutError):
                    other.recv(1)
        client.settimeout(5.0)
        assert read(client, 4) == b"late"


def test_bandwidth(proxy: FaultProxy) -> None:
    proxy.set(bandwidth=200_000)
    with connected(proxy) as client:
        began = time.monotonic()
        client.sendall(b"x" * 40_000)
        assert len(read(client, 40_000)) == 40_000
        took = time.monotonic() - began
    assert 0.15 <= took < 2.0


def test_slices_come_one_by_one(proxy: FaultProxy) -> None:
    proxy.set(slice=3, slice_delay=0.15)
    with connected(proxy) as client:
        client.sendall(b"abcdefgh")
        pieces = []
        while sum(map(len, pieces)) < 8:
            pieces.append(client.recv(100))
    assert pieces == [b"abc", b"def", b"gh"]


def test_an_answer_is_truncated_in_good_order(proxy: FaultProxy) -> None:
    proxy.set(truncate_after=5)
    with connected(proxy) as client:
        client.sendall(b"12345678")
        assert read(client, 100) == b"12345"


def test_an_answer_is_reset_in_the_middle(proxy: FaultProxy) -> None:
    proxy.set(reset_after=5)
    with connected(proxy) as client:
        client.sendall(b"12345678")
        with pytest.raises(ConnectionResetError):
            while client.recv(100):
                pass


def test_a_connection_is_reset_at_once(proxy: FaultProxy) -> None:
    proxy.set(reset_after=0)
    with pytest.raises((ConnectionResetError, BrokenPipeError)), connected(proxy) as client:
        for _ in range(100):
            client.sendall(b"x")
            client.recv(1)
    proxy.clear()
    with connected(proxy) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_all_that_are_open_are_reset_on_both_sides(proxy: FaultProxy, echo: Echo) -> None:
    with connected(proxy) as one, connected(proxy) as other:
        for client in (one, other):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert proxy.open == 2
        proxy.reset()
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert echo.reset_seen.wait(5.0)


def test_refused_while_it_lasts_and_on_the_same_port_after(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        with proxy.fault(refuse=True):
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    connected(proxy)
            client.sendall(b"x")
            assert client.recv(1) == b"x"  # what is open stays
        with connected(proxy) as anew:
            anew.sendall(b"y")
            assert anew.recv(1) == b"y"


def test_it_may_begin_refused(echo: Echo) -> None:
    with FaultProxy(echo.port, refuse=True) as proxy:
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        proxy.clear()
        connected(proxy).close()


def test_a_slow_close(proxy: FaultProxy) -> None:
    proxy.set(slow_close=0.1)
    with connected(proxy) as client:
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b"x"
        began = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - began >= 0.09


def test_what_waits_goes_by_the_new_faults(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        with proxy.fault(latency=60.0):
            client.sendall(b"x")
            time.sleep(0.02)
        assert client.recv(1) == b"x"


def test_a_dead_target_resets(echo: Echo, proxy: FaultProxy) -> None:
    echo.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)), connected(proxy) as client:
        for _ in range(100):
            client.sendall(b"x")
            if not client.recv(1):
                break


def test_connections_are_bounded(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failsoft.testing.proxy.CONNECTIONS", 2)
    with connected(proxy) as one, connected(proxy) as two:
        for client in (one, two):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        with pytest.raises((ConnectionResetError, BrokenPipeError)), connected(proxy) as third:
            for _ in range(100):
                third.sendall(b"x")
                third.recv(1)
        assert proxy.open == 2


def test_a_sender_that_nobody_reads_from_is_held_back(proxy: FaultProxy) -> None:
    with proxy.fault(black_hole=True), connected(proxy, timeout=0.3) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.sendall(b"x" * 65_536)


def test_it_ends_with_connections_in_every_state(echo: Echo) -> None:
    proxy = FaultProxy(echo.port, latency=30.0)
    proxy.start()
    clients = [connected(proxy) for _ in range(5)]
    for client in clients:
        client.sendall(b"x" * 100_000)
    began = time.monotonic()
    proxy.close()
    proxy.close()
    assert time.monotonic() - began < 5.0
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    with proxy:  # and begins anew
        connected(proxy).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_holds_nothing_open(proxy: FaultProxy) -> None:
    """What it inherits would be listened to, and kept open, by nobody."""
    with connected(proxy) as client:
        client.sendall(b"a")
        assert read(client, 1) == b"a"
        until, go = os.pipe()
        awaited, ready = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
            child = os.fork()
        if child == 0:
            try:
                os.close(go)
                os.write(ready, b"x")  # by now it has let go of what it inherited
                proxy.close()  # it has nothing to close, and waits for nobody
                os._exit(3 if os.read(until, 1) == b"x" else 4)
            finally:
                os._exit(5)
        try:
            assert os.read(awaited, 1) == b"x"
            proxy.set(refuse=True)
            with pytest.raises(ConnectionRefusedError):
                connected(proxy).close()
            proxy.close()
            assert read(client, 1) == b""
        finally:
            os.write(go, b"x")
            ended = os.waitpid(child, 0)[1]
            for end in (until, go, awaited, ready):
                os.close(end)
        assert os.waitstatus_to_exitcode(ended) == 3


def test_what_it_cannot_be_told(echo: Echo) -> None:
    with pytest.raises(TypeError, match="latncy is not a setting; did you mean 'latency'"):
        FaultProxy(echo.port, latncy=1.0)
    with pytest.raises(ValueError, match="latency must be a number of seconds from 0"):
        FaultProxy(echo.port, latency=-1.0)
    with pytest.raises(ValueError, match="direction must be one of down, up, both"):
        Faults(direction="sideways")
    with pytest.raises(TypeError, match="black_hole must be True or False"):
        Faults(black_hole=1)  # type: ignore[arg-type]
    with FaultProxy(echo.port) as proxy:
        with pytest.raises(RuntimeError, match="runs already"):
            proxy.start()
        with pytest.raises(OSError):
            with FaultProxy(echo.port, port=proxy.port):
                pass


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (5432, ("127.0.0.1", 5432)), ("5432", ("127.0.0.1", 5432)), (":5432", ("127.0.0.1", 5432)),
        ("db:5432", ("db", 5432)), ("[::1]:80", ("::1", 80)), (("db", 5432), ("db", 5432)),
    ],
)  # fmt: skip
def test_addresses(given: object, wanted: tuple[str, int]) -> None:
    assert address(given) == wanted


@pytest.mark.parametrize("given", ["db", "db:", "", 0, 70_000, None, True, ("db",), "db:http"])
def test_what_is_no_address(given: object) -> None:
    with pytest.raises(ValueError, match="an address must be"):
        address(given)
