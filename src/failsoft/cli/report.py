"""`failsoft report`: a page of what other processes do."""

from __future__ import annotations

import contextlib
import importlib

import click


@click.command()
@click.argument("file", type=click.Path(dir_okay=False), default="failsoft-report.html")
@click.option("--arena", required=True, help="The arena that the observed processes share.")
@click.option("--title", help="What stands at the top; the arena's name by default.")
def report(file: str, arena: str, title: str | None) -> None:
    """Write a report on the processes of an arena to FILE, one page of HTML that needs nothing beside it.

    A program writes its own by `failsoft.report.write(path)`, or `failsoft.report.at_exit(path)` when it ends.
    """
    from failsoft.report import write

    try:
        attach = importlib.import_module("failsoft.arena").attach
    except (ImportError, AttributeError) as error:
        raise click.ClickException(
            "this build of failsoft has no shared arenas to read; "
            "in the observed program call failsoft.report.at_exit(path)"
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            source = attach(arena)
            if hasattr(source, "close"):
                stack.callback(source.close)
            write(file, source, title=title or f"failsoft report: {arena}")
        except (OSError, ValueError, KeyError) as error:
            raise click.ClickException(f"no report on {arena}: {error}") from error
    click.echo(file)


COMMANDS = (report,)
