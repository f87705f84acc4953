"""Files that cannot be shared: each has its reason, and by choice a warning and breakers of one's own."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from failsoft.arena import ArenaError, arena_path, arenas, attach
from tests.sharing.conftest import Process, Start

TRY = """
    g = guard()
    try: answer = failsoft.share({name!r}) and "shared"
    except failsoft.ArenaError as error: answer = error.reason
"""
WARN = "answer = [failsoft.share({name!r}, on_error='warn') is None, told.lines]"


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))
    path.chmod(0o600)


def short_garbage(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o600)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def other_version(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("=I", 99))


def other_layout(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(12)
        file.write(struct.pack("=I", 99))


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, 12345)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    aside = path.with_name(path.name + "-aside")
    path.rename(aside)
    path.symlink_to(aside)


BROKEN = [
    (garbage, "garbage"), (short_garbage, "garbage"), (truncated, "garbage"), (other_version, "version"),
    (other_layout, "layout"), (open_to_others, "owner"), (of_another_user, "owner"), (folder, "system"), (link, "system"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_every_reason(spoil: Callable[[Path], None], reason: str, arena: str, start: Start) -> None:
    path = Path(arena_path(arena))
    maker = start()
    maker.end()
    spoil(path)
    try:
        one = start(shares=False)
        assert one.run(TRY.format(name=arena)) == reason
        none, lines = one.run(WARN.format(name=arena))
        assert none
        assert len(lines) == 1
        assert "breakers are not shared" in lines[0]
        assert one.run("answer = [g(), fail(g, 3), refused(g)]") == ["done", None, True]
        with pytest.raises(ArenaError) as caught:
            attach(arena)
        assert caught.value.reason == (reason if spoil is not folder else "garbage")  # which one may read, not write
        assert one.run(f"answer = failsoft.share({arena + '-b'!r}).name") == arena + "-b"  # nothing has stuck
        assert [process.pid for process in attach(arena + "-b").processes()] == [one.pid]
        assert attach(arena + "-b")["quotes"].total().count == 4
    finally:
        if path.is_dir():
            path.rmdir()
        for name in (f"{arena}-aside", f"{arena}-b"):
            Path(arena_path(name)).unlink(missing_ok=True)


def test_a_locked_file(arena: str, start: Start) -> None:
    start().run("g = guard()")
    one, other = start(shares=False), start(shares=False)
    with open(arena_path(arena), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one.send(TRY.format(name=arena))
        other.send(WARN.format(name=arena))
        assert attach(arena).processes()  # whoever looks needs no lock
        assert one.answer() == "busy"
        assert other.answer()[0]
    assert one.run(TRY.format(name=arena)) == "shared"


@pytest.mark.parametrize(
    "work", ["failsoft.share({name!r})", "service().guard(job, operation='more')"], ids=["share", "name"]
)
def test_other_threads_go_on_while_one_waits_for_a_locked_file(work: str, arena: str, start: Start) -> None:
    start().end()  # makes the file
    one = start(shares="share" not in work)
    one.run("g = guard()")
    with open(arena_path(arena), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        longest = one.run(
            f"""
            import threading, time
            thread = threading.Thread(target=lambda: {work.format(name=arena)})
            thread.start()
            longest, last = 0.0, time.monotonic()
            end = last + 0.3
            while last < end:
                time.sleep(0.001)
                now = time.monotonic(); longest = max(longest, now - last); last = now
            answer = [thread.is_alive(), longest]
            """
        )
    one.run("thread.join()")
    assert longest[0]
    assert longest[1] < 0.25


def test_a_key_waits_but_milliseconds_for_a_locked_file(arena: str, start: Start) -> None:
    one = start()
    one.run("keyed = service().guard(lambda key: job(), key=lambda key: key, operation='get'); keyed('a')")
    with open(arena_path(arena), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        took = one.run("import time; began = time.monotonic(); keyed('b'); answer = time.monotonic() - began")
    assert took < 1.0
    assert "quotes[b]" not in attach(arena)
    assert "holds it locked" in one.run("answer = told.lines[0]")


def test_an_arena_that_is_missing() -> None:
    with pytest.raises(ArenaError, match="there is no arena 'nobody-ever'") as caught:
        attach("nobody-ever")
    assert caught.value.reason == "missing"


@pytest.mark.parametrize("name", ["", None, 5])
def test_no_name(name: object) -> None:
    with pytest.raises(TypeError, match="non-empty string"):
        attach(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a b", ".hidden", "-x", "x" * 65, "é", "a\0b", "/tmp/a\0b"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="name must"):
        attach(name)


def test_a_path_is_a_name(arena: str, tmp_path: Path, start: Start) -> None:
    one = start(shares=False)
    path = str(tmp_path / "arena")
    one.run(f"failsoft.share({path!r}); guard()()")
    assert attach(path)["quotes"].total().count == 1
    assert arena not in arenas()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_all_places_are_taken(arena: str, start: Start) -> None:
    first = start()
    first.run(
        """
        import time
        children = []
        for _ in range(127):
            child = os.fork()
            if child == 0:
                time.sleep(120)
                os._exit(0)
            children.append(child)
        """
    )
    late = start(shares=False)
    deadline = 0
    while len(attach(arena).processes()) < 128 and deadline < 1000:
        deadline += 1
        late.run("import time; time.sleep(0.01)")
    assert sum(one.alive for one in attach(arena).processes()) == 128
    assert late.run(TRY.format(name=arena)) == "full"
    assert late.run("answer = [fail(g, 3), refused(g)]") == [None, True]
    first.run("g = guard('later'); fail(g, 3)")
    assert (
        first.run("answer = in_fork(lambda: [refused(g), numbers('later')])")[0] is True
    )  # no place, but the breakers
    first.run("import signal; os.kill(children[0], signal.SIGKILL); os.waitpid(children[0], 0)")
    assert late.run(TRY.format(name=arena)) == "shared"


ROOM = 'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"'


@pytest.fixture
def tiny() -> Callable[[str], Process]:
    """A worker whose /dev/shm is its own, and tiny."""
    try:
        works = subprocess.run(
            ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /dev/shm"], capture_output=True
        )
    except OSError as error:
        pytest.skip(f"no unshare here: {error}")
    if works.returncode:
        pytest.skip(f"no namespace of one's own here: {works.stderr.decode(errors='replace').strip()}")

    def tiny(size: str) -> Process:
        return Process(None, before=("unshare", "-rm", "sh", "-c", ROOM.format(size=size), "sh"))

    return tiny


def test_a_file_system_that_is_full_at_once(tiny: Callable[[str], Process]) -> None:
    one = tiny("64k")
    try:
        assert one.run(TRY.format(name="small")) == "no_space"
        none, lines = one.run(WARN.format(name="small"))
        assert none
        assert "its file system is full" in lines[0]
        assert one.run("answer = [g(), numbers()]") == ["done", [1, 0, 0, 0, 0]]
    finally:
        one.away()


def test_a_file_system_that_fills_is_an_error_and_counting_goes_on(tiny: Callable[[str], Process]) -> None:
    one = tiny("1500k")
    try:
        assert one.run(TRY.format(name="small")) == "shared"
        one.run(
            """
            guards, errors = [], []
            for number in range(4000):
                try: made = guard(f"service-{number}"); made()
                except MemoryError as error: errors.append(str(error)); break
                else: guards.append(made)
            """
        )
        made, errors, lines = one.run("answer = [len(guards), errors, told.lines[:3]]")
        assert made > 10
        assert errors or any("full" in line for line in lines)
        one.run("[[g() for g in guards] for _ in range(3)]; [fail(guards[0], 3)]")
        assert one.run("answer = [refused(guards[0]), numbers('service-0')[:2], numbers('service-9')]") == [
            True, [7, 3], [4, 0, 0, 0, 0],
        ]  # fmt: skip
        assert one.run("answer = in_fork(lambda: [refused(guards[0]), guards[5]()])") == [True, "done"]
    finally:
        one.away()
