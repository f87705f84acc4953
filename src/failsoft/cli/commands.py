"""The command group, and the commands in it by their rooms. Each command loads what it needs when it runs."""

from __future__ import annotations

import click

from . import alerts, arenas, chaos, dashboard, demo, export, report, status, top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="failsoft")
def failsoft() -> None:
    """Integration hardening for Python."""


for room in (demo, top, status, arenas, dashboard, alerts, chaos, export, report):
    for command in room.COMMANDS:
        failsoft.add_command(command)
