"""`failsoft status` and `failsoft explain`: one look, for probes and for people."""

from __future__ import annotations

import json

import click

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


class Probe(click.Command):
    """A command whose every exit code has a meaning: one that is called wrongly cannot tell, and says so."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        try:
            return super().parse_args(context, arguments)
        except click.UsageError as error:
            raise Untold(error.format_message()) from None


@click.command(cls=Probe)
@click.argument("arena", required=False)
@click.option("--integration", "name", help="Look at this one alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(arena: str | None, name: str | None, as_json: bool) -> None:
    """Tell how the breakers in ARENA stand.

    \b
    Ends with
      0  all are CLOSED, and let every call go
      1  some are HALF_OPEN, METRICS_ONLY or DISABLED, or let go but a share
      2  some are OPEN or FORCED_OPEN
      3  it cannot be told: there is no such arena or integration
    """
    from failsoft.cli.chosen import NoArena, chosen
    from failsoft.cli.samples import look, status_as_json
    from failsoft.cli.table import print_lines

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
    if as_json:
        found = [{**status_as_json(one), "processes": len(one.slots)} for one in sample.integrations]
        alive = sum(one.alive for one in sample.processes)
        print(json.dumps({"arena": sample.arena, "code": code, "processes": alive, "integrations": found}))
    else:
        print_lines(lines_of(sample.integrations))
    raise SystemExit(code)


def verdict(integrations: Iterable[IntegrationSample]) -> int:
    """The worst that is to be told of any."""
    return max((_code(one.status) for one in integrations), default=HEALTHY)


def _code(breaker: BreakerStatus) -> int:
    if breaker.state in ("OPEN", "FORCED_OPEN"):
        return OPEN
    return HEALTHY if breaker.state == "CLOSED" and breaker.capacity >= 1.0 else LIMITED


def lines_of(integrations: Iterable[IntegrationSample]) -> list[Text]:
    """A line of titles, and how each breaker stands and why."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    from failsoft.cli.inert import shown
    from failsoft.cli.table import COLOURS, NAME_LEAST, duration, percent

    known = sorted(integrations, key=lambda one: one.name)
    names = [shown(one.name) for one in known]
    width = max([NAME_LEAST, *map(cell_len, names)])
    titles = (
        f"{'INTEGRATION':<{width}} {'STATE':<12} {'LEVEL':>6} {'FOR':>7} {'FAILED':>7} {'RETRY IN':>8} {'PROCS':>5} WHY"
    )
    lines = [Text(titles, style="bold")]
    for one, name in zip(known, names, strict=True):
        status = one.status
        failed = "-" if status.failure_rate is None else percent(status.failure_rate)
        left = "-" if status.retry_after is None else duration(status.retry_after)
        line = Text(set_cell_size(name, width) + " ")
        line.append(f"{status.state:<12}", style=COLOURS.get(str(status.state), ""))
        line.append(
            f" {percent(status.capacity):>6} {duration(status.age):>7} {failed:>7} {left:>8} {len(one.slots):>5} "
            f"{(status.reason or '').replace('_', ' ')}"
        )
        lines.append(line)
    return lines


@click.command()
@click.argument("name")
@click.option("--arena", help="The arena; else the one that FAILSOFT_ARENA names, or the only one there is.")
def explain(name: str, arena: str | None) -> None:
    """Tell why the integration NAME is in the state it is in, with the last decisions of all processes about it."""
    from failsoft.cli.chosen import chosen

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
