"""`failsoft check`: is a file of settings right?"""

from __future__ import annotations

import json
import sys

import click


@click.command(short_help="Check a file of alert rules and settings.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def check(file: str, as_json: bool) -> None:
    """Check the alert rules and the settings of integrations in FILE, a TOML file.

    Prints each mistake with its place. Exits with 0 if there is none, 1 if there are any, 2 if the file cannot be read.
    """
    from failsoft.alerts.files import Mistake, read_rules
    from failsoft.cli.inert import shown
    from failsoft.config_files import load_config

    configs: dict[str, object] = {}
    try:
        rules, mistakes = read_rules(file)
        readable = all(mistake.place for mistake in mistakes)
        if readable:
            try:
                configs.update(load_config(file, environ={}))
            except ValueError as error:
                place, _, problem = str(error).partition(" ")
                if not any(str(mistake.place) in str(error) for mistake in mistakes):
                    mistakes.append(Mistake(None, "", f"{place} {problem}"))
    except OSError as error:
        click.echo(f"failsoft: {file} cannot be read: {error.strerror}", err=True)
        sys.exit(2)
    if as_json:
        told = [
            {"line": wrong.line, "place": wrong.place, "problem": wrong.problem, "column": wrong.column}
            for wrong in mistakes
        ]
        click.echo(json.dumps({"file": file, "rules": len(rules), "integrations": len(configs), "mistakes": told}))
    else:
        for wrong in mistakes:  # names in a file are whoever's that wrote it
            click.echo(f"{file}: " + "\n".join(shown(line, 2000) for line in str(wrong).split("\n")))
        if not mistakes:
            click.echo(f"{file}: {_counted(len(rules), 'rule')} and {_counted(len(configs), 'integration')}, all right")
    sys.exit(1 if mistakes else 0)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


COMMANDS = (check,)
