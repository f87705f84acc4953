"""Keys of a terminal as words, without waiting for enter."""

from __future__ import annotations

import os
import re
import select
import signal
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

_SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|[\s\S]")
_WORDS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b[H": "home", "\x1b[F": "end", "\x1b[1~": "home", "\x1b[4~": "end", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\r": "enter", "\n": "enter", " ": "space", "\x7f": "backspace", "\x08": "backspace", "\x1b": "escape",
    "\x03": "ctrl-c", "\x04": "ctrl-c",
}  # fmt: skip


def words_of(text: str) -> list[str]:
    """The keys in what a terminal has sent. What is no key of ours is a word that nobody asks for."""
    return [_WORDS.get(found, found if found.isprintable() else "unknown") for found in _SEQUENCE.findall(text)]


class Keyboard:
    """A terminal that gives each key as it comes, and wakes up when its size changes. A context manager."""

    def __init__(self, file: int = 0) -> None:
        self._file = file

    def __enter__(self) -> Self:
        self._before: list[Any] = termios.tcgetattr(self._file)
        tty.setcbreak(self._file, termios.TCSANOW)
        mode = termios.tcgetattr(self._file)
        mode[6][termios.VSUSP] = b"\0"  # stopped in mid-screen, it would leave the terminal as it is
        termios.tcsetattr(self._file, termios.TCSANOW, mode)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        self._resized = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._ended = signal.signal(signal.SIGTERM, _end)
        self._waker = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._waker)
        signal.signal(signal.SIGWINCH, self._resized)
        signal.signal(signal.SIGTERM, self._ended)
        os.close(self._woken)
        os.close(self._wake)
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> list[str] | None:
        """The keys that come within so many seconds, none if the size changes first; None: the terminal is gone."""
        ready, _, _ = select.select([self._file, self._woken], [], [], max(seconds, 0.0))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._file not in ready:
            return []
        try:
            sent = os.read(self._file, 4096)
        except OSError:
            return None
        return words_of(sent.decode("utf-8", "replace")) if sent else None


def _end(*_: object) -> None:
    raise SystemExit(0)
