"""`failsoft report`: a page of what other processes do."""

from __future__ import annotations

import click

from failsoft.cli.chosen import Observing, arena_option, chosen, refuse_arena


@click.command(cls=Observing, short_help="Write a report on an arena: one page of HTML.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="failsoft-report.html")
@arena_option
@click.option("--title", help="What stands at the top; the arena's name by default.")
def report(file: str, arena: str | None, title: str | None) -> None:
    """Write a report on the processes of an arena to FILE, one page of HTML that needs nothing beside it. "-" is the
    standard output.

    A program writes its own by `failsoft.report.write(path)`, or `failsoft.report.at_exit(path)` when it ends.
    """
    from failsoft.report import html, write

    refuse_arena(file)
    source = chosen(arena)
    title = title or f"failsoft report: {source.name}"
    if file == "-":
        click.echo(html(source, title=title).encode("utf-8", "backslashreplace"), nl=False)
        return
    try:
        write(file, source, title=title)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from error
    click.echo(file)


COMMANDS = (report,)
