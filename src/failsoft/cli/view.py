"""What a user of `failsoft top` has chosen to see, and what each key changes of it. There is no terminal here."""

from __future__ import annotations

from rich.text import Text

from failsoft.cli.inert import shown
from failsoft.cli.rows import processes_of, rows_of
from failsoft.cli.table import SORTS, lines_of, number, sorted_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from failsoft.cli.rows import Row
    from failsoft.cli.samples import Sample

HELP = """\
  up, down, j, k     move            page up, page down, home, end
  enter, e           an integration's operations and processes; again: away with them
  E                  those of all
  <, >, left, right  sort by the column before, after
  n                  sort by name
  r                  turn the order around
  /                  only names that hold what you type; enter keeps it, escape drops it
  t                  the processes
  p, space           pause; again: go on
  +, -               look half as often, twice as often
  h, ?               this page
  q                  quit

  CALLS/S, RETRY/S, REJECT/S and FALLBACK are since the look before; latencies and ERRORS those of the rolling window;
  LEVEL is the share of calls that may go; NO BUDGET retries that the budgets have refused since the start.
"""

INTERVAL_LEAST, INTERVAL_MOST = 0.1, 60.0


class View:
    """The choices, and the screen that follows from them."""

    def __init__(self, interval: float = 1.0) -> None:
        self.interval = interval
        self.by = "name"
        self.reverse = False
        self.filter = ""
        self.typing = False
        self.paused = False
        self.help = False
        self.processes = False
        self.everything = False
        self.expanded: set[str] = set()
        self.cursor = 0
        self._top = 0
        self._page = 1
        self._names: list[str] = []  # of the integration that each row belongs to, as last shown

    @property
    def split(self) -> bool | set[str]:
        """What has to be read process by process."""
        return True if self.processes or self.everything else self.expanded

    def press(self, key: str) -> bool:
        """Take a key. False: the user wants to go."""
        if self.typing:
            self._type(key)
        elif self.help:
            self.help = False
            return key not in ("q", "ctrl-c")
        elif key in ("q", "ctrl-c"):
            return False
        else:
            self._choose(key)
        return True

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key in ("escape", "ctrl-c"):
            self.typing, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif key == "space":
            self.filter += " "
        elif len(key) == 1:
            self.filter += key
        self.cursor = 0

    def _choose(self, key: str) -> None:
        moves = {
            "up": -1, "k": -1, "down": 1, "j": 1, "page up": -self._page, "page down": self._page,
            "home": -len(self._names), "end": len(self._names),
        }  # fmt: skip
        if key in moves:
            self.cursor = max(0, min(self.cursor + moves[key], len(self._names) - 1))
        elif key in ("<", ",", "left"):
            self._sort(SORTS[(SORTS.index(self.by) - 1) % len(SORTS)])
        elif key in (">", ".", "right"):
            self._sort(SORTS[(SORTS.index(self.by) + 1) % len(SORTS)])
        elif key == "n":
            self._sort("name")
        elif key == "r":
            self.reverse = not self.reverse
        elif key == "/":
            self.typing = True
        elif key == "escape":
            self.filter = ""
        elif key == "t":
            self.processes, self.cursor = not self.processes, 0
        elif key in ("p", "space"):
            self.paused = not self.paused
        elif key == "E":
            self.everything, self.expanded = not self.everything, set()
        elif key in ("enter", "e") and self.cursor < len(self._names) and not self.processes:
            self.expanded ^= {self._names[self.cursor]}
        elif key in ("h", "?"):
            self.help = True
        elif key in ("+", "-"):
            longer = self.interval * (2.0 if key == "+" else 0.5)
            self.interval = max(INTERVAL_LEAST, min(longer, INTERVAL_MOST))

    def _sort(self, by: str) -> None:
        self.by = by
        self.reverse = by not in ("name", "state", "capacity")  # the largest first, but the least that is let go

    def rows(self, sample: Sample, before: Sample | None) -> list[Row]:
        """What is to be shown, filtered and sorted."""
        if self.processes:
            rows = processes_of(sample, before)
        else:
            names = {one.name for one in sample.integrations} if self.everything else self.expanded
            rows = rows_of(sample, before, names)
        wanted = self.filter.casefold()
        kept = [row for row in rows if wanted in (row.under or row.name).casefold()]
        return sorted_rows(kept, self.by, self.reverse)

    def lines(
        self, sample: Sample | None, before: Sample | None, width: int, height: int, told: str = ""
    ) -> list[Text]:
        """The screen: `height` lines at most, `width` cells at most. `told` is what is wrong, if anything is."""
        if self.help:
            lines = [Text("failsoft top: keys", style="bold"), Text(), *map(Text, HELP.splitlines())]
        else:
            rows = self.rows(sample, before) if sample is not None else []
            lines = [*self._head(sample, told), *self._body(rows, width, height - 2)]
        for line in lines:
            line.truncate(max(width, 1))
        return lines[: max(height, 1)]

    def _head(self, sample: Sample | None, told: str) -> list[Text]:
        first = Text("failsoft top", style="bold")
        if sample is not None:
            alive = sum(one.alive for one in sample.processes)
            states: dict[str, int] = {}
            for one in sample.integrations:
                states[str(one.status.state)] = states.get(str(one.status.state), 0) + 1
            standing = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
            first.append(f"  {shown(sample.arena)}  ", style="")
            first.append(f"{number(alive)} processes, integrations: {standing}", style="not bold")
        second = Text(f"every {self.interval:g} s  by {self.by}{', reversed' if self.reverse else ''}")
        if self.paused:
            second.append("  PAUSED", style="yellow")
        if self.typing or self.filter:
            second.append(f"  /{shown(self.filter)}{'_' if self.typing else ''}", style="cyan")
        if told:
            second.append(f"  {shown(told, 200)}", style="red")
        else:
            second.append("  h: help, q: quit", style="dim")
        return [first, second]

    def _body(self, rows: list[Row], width: int, height: int) -> list[Text]:
        room = max(height - 1, 1)
        self._page = room
        self._names = [row.under or row.name for row in rows]
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if self.cursor < self._top:
            self._top = self.cursor
        self._top = max(self._top, self.cursor - room + 1, 0)
        self._top = min(self._top, max(len(rows) - room, 0))
        seen = rows[self._top : self._top + room]
        first = "PROCESS" if self.processes else "INTEGRATION"
        return lines_of(seen, width=width, by=self.by, chosen=self.cursor - self._top, first=first)
