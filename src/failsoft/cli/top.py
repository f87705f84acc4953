"""`failsoft top`: what processes that share an arena do, at a glance and all the time.

`rich`, which the demo has anyway, draws the screen, and keyboard.py reads the keys: for one table, a framework of
widgets would bring a second loop and an import that takes longer than a look.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time

import click

from failsoft.cli.chosen import Observing, arena_option, chosen
from failsoft.cli.output import let_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from failsoft.arena import Arena
    from failsoft.cli.samples import Sample


@click.command(cls=Observing)
@arena_option
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option(
    "--once", is_flag=True, help="Print one table and end; rates are over one interval, with --interval 0 none."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a look, each on a line of its own.")
def top(arena: str | None, interval: float, once: bool, as_json: bool) -> None:
    """Watch the processes that share an arena.

    It is read from outside: no process that is watched does anything for it, and one that is stopped or killed holds
    nothing up. Press h for the keys.
    """
    least = 0.0 if once else 0.1
    if not math.isfinite(interval) or not least <= interval <= 3600:
        raise click.BadParameter(f"must be from {least:g} to 3600 seconds, got {interval:g}", param_hint="--interval")
    found = chosen(arena)
    try:
        if once:
            _once(found, interval, as_json)
        elif as_json:
            _lines_of_json(found, interval)
        elif sys.stdin.isatty() and sys.stdout.isatty() and not _is_dumb():
            watch(found, interval)
        else:
            raise click.UsageError("this is no terminal that can be drawn on; use --once or --json")
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        let_go()


def _is_dumb() -> bool:
    """A terminal without a cursor to move (TERM=dumb): nothing would be seen of a screen."""
    from rich.console import Console

    return Console().is_dumb_terminal


def _once(arena: Arena, interval: float, as_json: bool) -> None:
    from failsoft.cli.samples import as_json as to_json
    from failsoft.cli.samples import look

    before = None
    if interval:
        before = look(arena)
        time.sleep(interval)
    sample = look(arena, split=as_json)
    if as_json:
        print(json.dumps(to_json(sample, before)), flush=True)
    else:
        print_table(sample, before)


def _lines_of_json(arena: Arena, interval: float) -> None:
    from failsoft.cli.samples import as_json as to_json
    from failsoft.cli.samples import look

    before, due = None, time.monotonic()
    while True:
        sample = look(arena, split=True)
        print(json.dumps(to_json(sample, before)), flush=True)
        before = sample
        due = max(due + interval, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0.0))


def print_table(sample: Sample, before: Sample | None) -> None:
    """One table to standard output: as wide as it is in a file, as wide as the terminal in a terminal."""
    from failsoft.cli.rows import rows_of
    from failsoft.cli.table import lines_of, print_lines, width_of_output

    rows = sorted(rows_of(sample, before), key=lambda row: row.name)
    print_lines(lines_of(rows, width=width_of_output()))
    if not rows:
        print("no integrations")


def watch(arena: Arena, interval: float) -> None:
    """A table that changes in place, until the user quits."""
    from rich.console import Console, Group
    from rich.live import Live

    from failsoft.cli.keyboard import Keyboard
    from failsoft.cli.view import View

    view, console, watched = View(interval), Console(highlight=False), Watched(arena)
    with Keyboard(sys.stdin.fileno()) as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                if not view.paused:
                    watched.look(view.split)
                due = time.monotonic() + view.interval
            width, height = console.size
            lines = view.lines(watched.sample, watched.before, width, height, watched.told)
            live.update(Group(*lines), refresh=True)
            pressed = keyboard.wait(due - time.monotonic())
            if pressed is None:
                return
            split, span = view.split, view.interval
            split = set(split) if isinstance(split, set) else split
            for key in pressed:
                if not view.press(key):
                    return
            if view.interval != span:
                due = time.monotonic() + view.interval
            if view.split != split and not view.paused:
                watched.detail(view.split)


class Watched:
    """The last two looks at an arena that may be removed, and made anew, while it is watched."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.before: Sample | None = None
        self.sample: Sample | None = None
        self.told = ""
        self._file = _file_of(arena.path)

    def look(self, split: bool | set[str]) -> None:
        """Look again."""
        from failsoft.cli.samples import look

        self._follow()
        self.before, self.sample = self.sample, look(self.arena, split)

    def detail(self, split: bool | set[str]) -> None:
        """The same moment in more detail, as nearly as may be: what it is compared with stays."""
        from failsoft.cli.samples import look

        self.sample = look(self.arena, split)

    def _follow(self) -> None:
        """Processes that come share the file of this name; we may still look at one that has none any more."""
        from failsoft.arena import ArenaError, attach

        file = _file_of(self.arena.path)
        if file == self._file:
            self.told = ""
            return
        try:
            self.arena = attach(self.arena.name)
        except ArenaError:
            self.told = "the arena has been removed"
            return
        self._file, self.before, self.sample, self.told = file, None, None, ""


def _file_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


COMMANDS = (top,)
