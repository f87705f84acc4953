"""Which arena a command looks at."""

from __future__ import annotations

import os

import click

from failsoft.arena import Arena, ArenaError, arenas, attach
from failsoft.cli.inert import shown


class NoArena(click.ClickException):
    """There is none to look at, or it cannot be read."""


def chosen(name: str | None) -> Arena:
    """The arena of this name, else that of FAILSOFT_ARENA, else the only one there is. NoArena says why not."""
    name = name or os.environ.get("FAILSOFT_ARENA") or only_one()
    try:
        return attach(name)
    except (ArenaError, ValueError) as error:
        raise NoArena(shown(str(error), 2000)) from None


def only_one() -> str:
    """The name of the only arena there is. NoArena: there are none, or several."""
    there = arenas()
    if len(there) == 1:
        return there[0]
    if there:
        raise NoArena("which arena? There are " + ", ".join(shown(name) for name in there))
    raise NoArena("no process of yours shares an arena; failsoft.share(name) or FAILSOFT_ARENA=name makes one")
