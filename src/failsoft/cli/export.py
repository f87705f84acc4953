"""`failsoft grafana`, `failsoft rules` and `failsoft dump`: files for others to read."""

from __future__ import annotations

import click

from failsoft.cli.chosen import Observing, arena_option, chosen, refuse_arena

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


_FILE = click.argument("file", type=click.File("w", encoding="utf-8", lazy=True), default="-")


@click.command(short_help="Write a Grafana dashboard (JSON).")
@_FILE
def grafana(file: TextIO) -> None:
    """Write a Grafana dashboard (JSON) to FILE, or to the standard output."""
    from failsoft.export import files

    file.write(files.dashboard())


@click.command(short_help="Write Prometheus alert rules (YAML).")
@_FILE
def rules(file: TextIO) -> None:
    """Write Prometheus alert rules (YAML) to FILE, or to the standard output."""
    from failsoft.export import files

    file.write(files.rules())


@click.command(cls=Observing, short_help="Write latencies for the tools of HdrHistogram.")
@_FILE
@arena_option
@click.option("--format", "kind", type=click.Choice(["hlog", "hgrm", "json"]), default="hlog", show_default=True)
@click.option("--operation", help='One "integration.operation", or an "integration".  [default: all]')
@click.option("--recent", is_flag=True, help="The rolling window, rather than all since the start.")
def dump(file: TextIO, arena: str | None, kind: str, operation: str | None, recent: bool) -> None:
    """Write the latencies of the processes that share an arena to FILE, or to the standard output.

    An hlog is for HdrHistogram's log tools, with a tag for each operation; an hgrm, for its plotter, holds only one.
    """
    from failsoft.export import hdr

    refuse_arena(file.name)
    try:
        hdr.dump(chosen(arena), file, format=kind, operation=operation, recent=recent)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


COMMANDS = (grafana, rules, dump)
