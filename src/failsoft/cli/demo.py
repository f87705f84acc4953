"""`failsoft demo`: a rehearsal against a server that fails in six ways."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import click


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="How long the rehearsal should take.")
@click.option("--seed", default=1, show_default=True, help="Seeds the prices and the reconnect delays.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def demo(seconds: float, seed: int, as_json: bool) -> None:
    """Live through six real faults of a market-data server.

    Exits with 0 only if every breaker that a fault had to open did open and recovered, and nothing that
    arrived was dropped.
    """
    from failsoft.demo.faults import all_faults
    from failsoft.demo.plan import plan
    from failsoft.demo.process import ServerFailed
    from failsoft.demo.report import announcement, conclusion, verdict
    from failsoft.demo.scenario import rehearse
    from failsoft.demo.screens import choose_screen
    from failsoft.demo.settings import MAXIMUM_SECONDS, MINIMUM_SECONDS, derive

    if not MINIMUM_SECONDS <= seconds <= MAXIMUM_SECONDS:
        raise click.BadParameter(
            f"six faults need between {MINIMUM_SECONDS:g} and {MAXIMUM_SECONDS:g} seconds, got {seconds:g}",
            param_hint="--seconds",
        )
    if os.name != "posix":
        raise click.ClickException("the demo freezes a process by POSIX signals, which are missing here")
    settings = derive(seconds)
    schedule = plan(all_faults(settings), seconds)
    screen = choose_screen(silent=as_json)
    for line in announcement(schedule, settings, seed):
        screen.say(line)
    try:
        summary = asyncio.run(rehearse(schedule, settings, seed, screen))
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(summary.to_dict()))
    else:
        for line in conclusion(summary):
            screen.say(line)
        click.secho(verdict(summary), fg="green" if summary.passed else "red", bold=True)
    sys.exit(0 if summary.passed else 1)


COMMANDS = (demo,)
