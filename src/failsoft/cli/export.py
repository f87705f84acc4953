"""`failsoft grafana`, `failsoft rules` and `failsoft dump`: files for others to read."""

from __future__ import annotations

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


_FILE = click.argument("file", type=click.File("w", encoding="utf-8", lazy=True), default="-")


@click.command()
@_FILE
def grafana(file: TextIO) -> None:
    """Write a Grafana dashboard (JSON) to FILE, or to the standard output."""
    from failsoft.export import files

    file.write(files.dashboard())


@click.command()
@_FILE
def rules(file: TextIO) -> None:
    """Write Prometheus alert rules (YAML) to FILE, or to the standard output."""
    from failsoft.export import files

    file.write(files.rules())


@click.command()
@click.argument("arena")
@_FILE
@click.option("--format", "kind", type=click.Choice(["hlog", "hgrm", "json"]), default="hlog", show_default=True)
@click.option("--operation", help='One "integration.operation", or an "integration".  [default: all]')
@click.option("--recent", is_flag=True, help="The rolling window, rather than all since the start.")
def dump(arena: str, file: TextIO, kind: str, operation: str | None, recent: bool) -> None:
    """Write the latencies of the processes that share ARENA to FILE, or to the standard output.

    An hlog is for HdrHistogram's log tools, with a tag for each operation; an hgrm, for its plotter, holds only one.
    """
    from failsoft.cli.chosen import chosen
    from failsoft.export import hdr

    try:
        hdr.dump(chosen(arena), file, format=kind, operation=operation, recent=recent)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


COMMANDS = (grafana, rules, dump)
