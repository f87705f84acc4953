"""The screen of `failsoft top`: what keys change of it, what fits, and that names are inert; and once on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from failsoft.arena import Arena, arena_path
from tests.sharing.conftest import Start, environment

pytest.importorskip("click")
pytest.importorskip("rich")

from failsoft.cli.inert import shown
from failsoft.cli.keyboard import words_of
from failsoft.cli.rows import rows_of
from failsoft.cli.samples import Sample, look
from failsoft.cli.status import lines_of as status_lines
from failsoft.cli.table import columns_for, duration, number, percent
from failsoft.cli.top import Watched
from failsoft.cli.view import View


@pytest.fixture
def sample(arena: str, start: Start) -> Sample:
    one, other = start(), start()
    one.run("g = guard('alpha'); [g() for _ in range(30)]; h = guard('beta', threshold=9); fail(h, 4); g()")
    other.run("g = guard('alpha'); g(); h = guard('gamma'); fail(h, 3)")
    return look(Arena(arena), split=True)


def text(view: View, sample: Sample, width: int = 140, height: int = 30) -> list[str]:
    return [line.plain for line in view.lines(sample, None, width, height)]


def names(view: View, sample: Sample) -> list[str]:
    return [row.name for row in view.rows(sample, None)]


def test_what_is_shown(sample: Sample) -> None:
    head, choices, titles, *rows = text(View(), sample)
    assert "2 processes" in head
    assert "2 CLOSED, 1 OPEN" in head
    assert "every 1 s  by name" in choices
    assert titles.split()[:3] == ["INTEGRATION", "STATE", "LEVEL"]
    assert [row.split()[:3] for row in rows] == [
        ["alpha", "CLOSED", "100%"], ["beta", "CLOSED", "100%"], ["gamma", "OPEN", "0%"],
    ]  # fmt: skip


def test_keys_sort_filter_expand_and_quit(sample: Sample) -> None:
    view = View()
    assert names(view, sample) == ["alpha", "beta", "gamma"]
    assert view.press("r")
    assert names(view, sample) == ["gamma", "beta", "alpha"]
    for _ in range(7):
        view.press("right")
    assert view.by == "errors"
    assert names(view, sample)[-1] == "alpha"
    view.press("n")
    for key in ["/", "e", "T", "a", "enter"]:
        view.press(key)
    assert names(view, sample) == ["beta"]
    view.press("escape")
    text(view, sample)
    view.press("down")
    view.press("up")
    view.press("enter")
    assert view.split == {"alpha"}
    assert names(view, sample)[:2] == ["alpha", "job"]
    assert sum(name.startswith("pid ") for name in names(view, sample)) == 2
    view.press("t")
    assert len(names(view, sample)) == 2
    view.press("p")
    assert view.paused
    view.press("h")
    assert any("sort by name" in line for line in text(view, sample))
    assert view.press("x")
    assert not view.press("q")


def test_quit_is_a_letter_while_one_types() -> None:
    view = View()
    for key in ["/", "q", "space", "backspace"]:
        assert view.press(key)
    assert view.filter == "q"


def test_it_fits_whatever_the_size(sample: Sample) -> None:
    view = View()
    for key in ("", "E", "t", "h"):
        view.press(key)
        for width in (1, 20, 40, 80, 200):
            for height in (1, 2, 3, 5, 24):
                lines = view.lines(sample, None, width, height)
                assert len(lines) <= height
                assert all(line.cell_len <= width for line in lines)


def test_the_row_under_the_cursor_is_always_seen(sample: Sample) -> None:
    view = View()
    for _ in range(3):
        assert len(text(view, sample, height=4)) == 4
        view.press("down")
    assert text(view, sample, height=4)[-1].startswith("gamma")
    view.press("home")
    assert text(view, sample, height=4)[-1].startswith("alpha")


def test_narrow_tables_keep_state_and_rate() -> None:
    assert [column.field for column in columns_for(40)] == ["state", "rate"]
    assert len(columns_for(None)) == 12


HOSTILE = "\x1b[2J\x07\r\n\u202eabc\u2066\u200b\u05d0e\u0301\ud800\x9b31m"


def test_names_are_inert() -> None:
    harmless = shown(HOSTILE, 200)
    assert harmless.isprintable()
    assert harmless.isascii()
    assert len(shown("a" * 1_000_000)) == 48
    assert len(shown("\u202e" * 1_000_000)) <= 48
    assert shown("Zürich 日本") == "Zürich 日本"


def test_hostile_names_of_integrations_and_operations(arena: str, start: Start) -> None:
    one = start()
    one.run(
        """
        hostile = "\\x1b[2J\\x07\\r\\n\\u202eabc\\u200b\\u05d0\\ud800"
        g = service(hostile).guard(job, operation=hostile + "!")
        fail(g)
        long = service("x" * 1_000_000).guard(job, operation="y" * 1_000_000); long()
        odd = service("short").guard(job, operation="y" * 1_000_000); odd()
        """
    )
    assert "is longer than 1024 bytes" in one.run("answer = told.lines[-1][-300:]")
    view = View()
    view.press("E")
    lines = text(view, look(Arena(arena), split=True))
    assert all(line.isprintable() for line in lines)
    assert sum("\\x1b[2J" in line for line in lines) == 2
    assert any(line.startswith("short") for line in lines)
    command = str(Path(sys.executable).with_name("failsoft"))
    for options in (["top", "--arena", arena, "--once", "--interval", "0"], ["status", "--arena", arena]):
        done = subprocess.run([command, *options], capture_output=True, env=environment())
        assert all(32 <= byte < 127 or byte == 10 or byte > 0xA0 for byte in done.stdout.replace("…".encode(), b""))


@pytest.mark.parametrize("width", [200, 80, 60, 50])
def test_status_fits_a_narrow_terminal(width: int, arena: str, start: Start) -> None:
    start().run("g = guard('quotes'); fail(g, 3); h = guard('prices-of-everything'); h()")
    titles, first, second = (line.plain.rstrip() for line in status_lines(look(Arena(arena)).integrations, width))
    assert max(map(len, (titles, first, second))) <= width
    assert titles.startswith("INTEGRATION")
    assert "STATE" in titles
    assert first.startswith("prices-of-")
    assert "OPEN" in second
    assert second.endswith("consecutive failures")
    assert ("PROCS" in titles) == (width >= 100)


def test_keys_as_terminals_send_them() -> None:
    assert words_of("\x1b[A\x1bOBq\r /\x7f\x1b") == ["up", "down", "q", "enter", "space", "/", "backspace", "escape"]
    assert words_of("\x1b[15~\x01é") == ["unknown", "unknown", "é"]


def test_numbers_as_they_are_written() -> None:
    assert [duration(value) for value in (0.0, 8.7e-7, 0.00125, 0.9996, 31.2, 4000)] == [
        "0ns", "870ns", "1.25ms", "1s", "31.2s", "67min",
    ]  # fmt: skip
    assert [number(value) for value in (0, 0.2, 17, 12345, 1.2e6)] == ["0", "0.2", "17", "12,345", "1.2M"]
    assert [percent(value) for value in (0, 0.003, 0.123, 1)] == ["0%", "0.3%", "12%", "100%"]


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, arena: str) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            command = str(Path(sys.executable).with_name("failsoft"))
            os.execve(
                command,
                [command, "top", "--arena", arena, "--interval", "0.1"],
                environment(TERM="xterm", COLUMNS="", LINES=""),
            )
        self.resize(24, 120)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        self.seen = ""
        os.write(self._file, keys.encode())

    def until(self, so: Callable[[str], bool]) -> None:
        end = time.monotonic() + 10
        while not so(self.seen):
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self._file], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._file, 65536).decode("utf-8", "replace")
                except OSError:
                    return

    def ended(self) -> int:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                os.close(self._file)
                return os.waitstatus_to_exitcode(status)
            if select.select([self._file], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._file, 65536).decode("utf-8", "replace")
                except OSError:
                    time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("it does not end")


def test_on_a_terminal(arena: str, start: Start) -> None:
    one = start()
    one.run("g = guard('alpha'); g()")
    terminal = Terminal(arena)
    terminal.until(lambda seen: "alpha" in seen and "\x1b[?1049h" in seen)
    one.run("fail(g, 3)")
    terminal.until(lambda seen: "OPEN" in seen.replace("HALF_OPEN", ""))
    terminal.press("\r")
    terminal.until(lambda seen: f"pid {one.pid}" in seen)
    terminal.press("h")
    terminal.until(lambda seen: "sort by name" in seen)
    terminal.press("x")
    terminal.resize(10, 50)
    terminal.until(lambda seen: "alpha" in seen and "REJECT" not in seen[seen.rindex("INTEGRATION") :])
    terminal.press("q")
    assert terminal.ended() == 0
    assert "\x1b[?1049l" in terminal.seen  # the screen that was there before


def test_terminated_it_leaves_the_terminal_as_it_was(arena: str, start: Start) -> None:
    start().run("guard('alpha')()")
    terminal = Terminal(arena)
    terminal.until(lambda seen: "alpha" in seen)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended() == 0
    assert "\x1b[?1049l" in terminal.seen


def test_an_arena_that_is_removed_and_made_anew_is_followed(arena: str, start: Start) -> None:
    start().run("g = guard('alpha'); g()")
    watched = Watched(Arena(arena))
    watched.look(False)
    Path(arena_path(arena)).unlink()
    watched.look(False)
    assert watched.told == "the arena has been removed"
    assert [one.name for one in watched.sample.integrations] == ["alpha"] if watched.sample else False
    start().run("g = guard('beta'); g()")
    watched.look(True)
    assert watched.told == ""
    assert watched.before is None
    assert watched.sample is not None
    assert [one.name for one in watched.sample.integrations] == ["beta"]


def test_rates_are_differences_and_unknown_at_first(arena: str, start: Start) -> None:
    one = start()
    one.run("g = guard('alpha'); [g() for _ in range(30)]")
    first = look(Arena(arena))
    one.run("[g() for _ in range(20)]")
    second = look(Arena(arena))
    assert rows_of(first, None)[0].rate is None
    assert rows_of(second, first)[0].rate == pytest.approx(20 / (second.at - first.at))
