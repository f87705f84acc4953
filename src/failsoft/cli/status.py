"""`failsoft status` and `failsoft explain`: one look, for probes and for people."""

from __future__ import annotations

import json
import sys

import click

from failsoft.cli.chosen import NoArena, Observing, arena_option, chosen
from failsoft.cli.output import let_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from failsoft.breakers import BreakerStatus
    from failsoft.cli.samples import IntegrationSample
    from failsoft.decisions import Explanation

HEALTHY, LIMITED, OPEN, UNKNOWN = range(4)
"""What `failsoft status` ends with."""


class Untold(click.ClickException):
    """How the breakers stand is not known."""

    exit_code = UNKNOWN


class Probe(Observing):
    """A command whose every exit code has a meaning: one that is called wrongly cannot tell, and says so."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        try:
            return super().parse_args(context, arguments)
        except click.UsageError as error:
            raise Untold(error.format_message()) from None


@click.command(cls=Probe)
@arena_option
@click.option("--integration", "name", help="Look at this one alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(arena: str | None, name: str | None, as_json: bool) -> None:
    """Tell how the breakers of an arena stand.

    \b
    Ends with
      0  all are CLOSED, and let every call go
      1  some are HALF_OPEN, METRICS_ONLY or DISABLED, or let go but a share
      2  some are OPEN or FORCED_OPEN
      3  it cannot be told: there is no such arena or integration
    """
    from failsoft.cli.samples import look, status_as_json
    from failsoft.cli.table import print_lines, width_of_output

    try:
        sample = look(chosen(arena))
    except NoArena as error:
        raise Untold(error.message) from None
    if name is not None:
        kept = tuple(one for one in sample.integrations if one.name == name)
        if not kept:
            raise Untold(_no_such(name, (one.name for one in sample.integrations)))
        sample = type(sample)(sample.arena, sample.at, sample.processes, kept)
    code = verdict(sample.integrations)
    try:
        if as_json:
            found = [{**status_as_json(one), "processes": len(one.slots)} for one in sample.integrations]
            alive = sum(one.alive for one in sample.processes)
            print(json.dumps({"arena": sample.arena, "code": code, "processes": alive, "integrations": found}))
        else:
            print_lines(lines_of(sample.integrations, width_of_output()))
            if not sample.integrations:
                print("no integrations")
        sys.stdout.flush()
    except BrokenPipeError:
        let_go()
    except OSError as error:
        raise Untold(f"standard output: {error.strerror}") from None
    raise SystemExit(code)


def verdict(integrations: Iterable[IntegrationSample]) -> int:
    """The worst that is to be told of any."""
    return max((_code(one.status) for one in integrations), default=HEALTHY)


def _code(breaker: BreakerStatus) -> int:
    if breaker.state in ("OPEN", "FORCED_OPEN"):
        return OPEN
    return HEALTHY if breaker.state == "CLOSED" and breaker.capacity >= 1.0 else LIMITED


_FIRST_TO_GO = ("PROCS", "FAILED", "LEVEL", "FOR", "RETRY IN")
"""Columns that a narrow terminal does without."""


def lines_of(integrations: Iterable[IntegrationSample], width: int | None = None) -> list[Text]:
    """A line of titles, and how each breaker stands and why. In `width` cells, if all but the names have room there."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    from failsoft.cli.inert import shown
    from failsoft.cli.table import COLOURS, NAME_LEAST

    known = sorted(integrations, key=lambda one: one.name)
    rows = [_cells(one) for one in known]
    names = [shown(one.name) for one in known]
    wide = max([NAME_LEAST, *map(cell_len, names)])
    why = max([len("WHY"), *(len(row["WHY"]) for row in rows)])
    kept = dict(_WIDTHS)
    for title in _FIRST_TO_GO:
        needed = sum(cells + 1 for cells in kept.values()) + why
        if width is None or wide + 1 + needed <= width:
            break
        del kept[title]
    if width is not None:
        wide = max(min(wide, width - 1 - sum(cells + 1 for cells in kept.values()) - why), NAME_LEAST)
    first = "INTEGRATION".ljust(wide)
    lines = [Text(" ".join([first, *_row(kept, {title: title for title in kept}), "WHY"]), style="bold")]
    for name, row in zip(names, rows, strict=True):
        line = Text(set_cell_size(name, wide) + " ")
        state, *others = _row(kept, row)
        line.append(state, style=COLOURS.get(row["STATE"], ""))
        line.append(" " + " ".join([*others, row["WHY"]]))
        lines.append(line)
    return lines


_WIDTHS = {"STATE": 12, "LEVEL": 6, "FOR": 7, "FAILED": 7, "RETRY IN": 8, "PROCS": 5}


def _row(widths: dict[str, int], cells: dict[str, str]) -> list[str]:
    """The first stands on the left of its column, as words do."""
    return [
        cells[title].ljust(width) if title == "STATE" else cells[title].rjust(width) for title, width in widths.items()
    ]


def _cells(one: IntegrationSample) -> dict[str, str]:
    from failsoft.cli.table import duration, percent

    status = one.status
    left = "-" if status.retry_after is None else duration(status.retry_after) if status.retry_after else "now"
    return {
        "STATE": str(status.state),
        "LEVEL": percent(status.capacity),
        "FOR": duration(status.age),
        "FAILED": "-" if status.failure_rate is None else percent(status.failure_rate),
        "RETRY IN": left,
        "PROCS": str(len(one.slots)),
        "WHY": (status.reason or "").replace("_", " "),
    }


@click.command(cls=Observing, short_help="Tell why an integration is in the state it is in.")
@click.argument("name")
@arena_option
def explain(name: str, arena: str | None) -> None:
    """Tell why the integration NAME is in the state it is in, with the last decisions of all processes about it."""
    found = chosen(arena)
    try:
        explanation = found.explain(name)
    except KeyError:
        raise click.ClickException(_no_such(name, (one.name for one in found.with_shards()))) from None
    print(inert(explanation))


def inert(explanation: Explanation) -> str:
    """An explanation whose names can do nothing to a terminal."""
    from failsoft.cli.inert import shown
    from failsoft.records import replace

    decisions = tuple(replace(one, text=shown(one.text, 400)) for one in explanation.decisions)
    return str(replace(explanation, integration=shown(explanation.integration), decisions=decisions))


def _no_such(name: str, there: Iterable[str]) -> str:
    from failsoft.cli.inert import shown

    known = ", ".join(shown(one) for one in sorted(there)[:50]) or "none"
    return f"no integration is named {shown(name)!r}; there are: {known}"


COMMANDS = (status, explain)
