"""Which arena a command looks at: `--arena NAME`, the same for all of them."""

from __future__ import annotations

import os

import click

from failsoft.cli.inert import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from failsoft.arena import Arena


class NoArena(click.ClickException):
    """There is none to look at, or it cannot be read."""


class Observing(click.Command):
    """A command that looks at an arena, and says how one is named to whoever names it otherwise."""

    allow_extra_args = True

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        rest = super().parse_args(context, arguments)
        if context.args and not context.resilient_parsing:
            extra = shown(context.args[0])
            context.fail(f"unexpected argument {extra!r}; the arena to look at is named by --arena NAME")
        return rest


arena_option = click.option(
    "--arena",
    metavar="NAME",
    help="The arena to look at; else the one that FAILSOFT_ARENA names, or the only one there is.",
)


def chosen(name: str | None) -> Arena:
    """The arena of this name, else that of FAILSOFT_ARENA, else the only one there is. NoArena says why not."""
    from failsoft.arena import ArenaError, attach

    name = name_of(name)
    try:
        return attach(name)
    except (ArenaError, ValueError, TypeError) as error:
        raise NoArena(shown(str(error), 2000)) from None


def refuse_arena(file: str) -> None:
    """UsageError for a file to write to that is an arena, as one is named who takes the first argument for it."""
    from failsoft.arena import ArenaError, attach

    try:
        attach(file)
    except (ArenaError, ValueError, TypeError):
        return
    raise click.UsageError(
        f"{shown(file)} is an arena: --arena {shown(file)} names it; a file of that name here is ./{shown(file)}"
        if "/" not in file
        else f"{shown(file, 2000)} is an arena, and not written to; --arena names the one to look at"
    )


def name_of(name: str | None) -> str:
    """The name of the arena to look at. NoArena: nobody says which, and there are none or several."""
    return name if name is not None else os.environ.get("FAILSOFT_ARENA") or only_one()


def only_one() -> str:
    """The name of the only arena there is. NoArena: there are none, or several."""
    from failsoft.arena import arenas

    there = arenas()
    if len(there) == 1:
        return there[0]
    if there:
        raise NoArena("which arena? There are " + ", ".join(shown(name) for name in there) + "; say --arena NAME")
    raise NoArena("no process of yours shares an arena; failsoft.share(name) or FAILSOFT_ARENA=name makes one")
