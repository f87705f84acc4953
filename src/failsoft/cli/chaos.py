"""`failsoft chaos`: faults on purpose, for programs that are run as they are."""

from __future__ import annotations

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@click.group()
def chaos() -> None:
    """Faults on purpose. Inside a program: failsoft.chaos(name, ...)."""


@chaos.command()
@click.option("--listen", metavar="[HOST:]PORT", help="Where clients connect; a free port of this machine by default.")
@click.option("--to", required=True, metavar="[HOST:]PORT", help="The server behind it.")
@click.option("--latency", type=float, help="Seconds that each piece of data is late.")
@click.option("--jitter", type=float, help="Up to so many seconds more, at random.")
@click.option("--bandwidth", type=float, help="Bytes a second.")
@click.option("--slice", type=int, help="Hand data on in pieces of so many bytes.")
@click.option("--slice-delay", type=float, help="Seconds between the pieces.")
@click.option("--black-hole", is_flag=True, default=None, help="Hand on nothing, and keep connections open.")
@click.option("--truncate-after", type=int, metavar="BYTES", help="Close after so much of an answer.")
@click.option("--reset-after", type=int, metavar="BYTES", help="Reset (RST) after so much of an answer; 0: at once.")
@click.option("--slow-close", type=float, help="Seconds between an end of data and telling of it.")
@click.option("--direction", type=click.Choice(["down", "up", "both"]), help="The way slowed down; default: down.")
@click.option("--seed", type=int, help="The same jitter each time.")
@click.option("--seconds", type=float, help="End by itself after so long. Until Ctrl-C by default.")
def proxy(listen: str | None, to: str, seed: int | None, seconds: float | None, **faults: object) -> None:
    """Stand between a client and a server, and make the network between them a bad one.

    Prints where it listens, and how many connections there were at its end. It has no authentication: with a HOST that
    others can reach, so is the server behind it.
    """
    import threading

    from failsoft.testing.proxy import FaultProxy, address

    given = {name: value for name, value in faults.items() if value is not None}
    try:
        host, port = ("127.0.0.1", 0) if listen is None else address(listen)
        between = FaultProxy(address(to), host=host, port=port, seed=seed, **given)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    if seconds is not None and not 0.0 <= seconds <= threading.TIMEOUT_MAX:
        raise click.BadParameter(f"must be 0 or more, got {seconds}", param_hint="--seconds")
    try:
        between.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{between.port}: {error.strerror or error}") from error
    accepted = 0
    try:
        click.echo(f"listening on {host}:{between.port}, to {between.target[0]}:{between.target[1]}")
        threading.Event().wait(seconds)
    except KeyboardInterrupt:
        click.echo()
    finally:
        accepted = between.accepted
        between.close()
    click.echo(f"{accepted} connection{'' if accepted == 1 else 's'}")


@chaos.command(context_settings={"allow_interspersed_args": False})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--latency", metavar="DURATION", help='How long a call is held up: seconds, or "50ms".')
@click.option("--latency-most", metavar="DURATION", help="Then for any time between the two.")
@click.option("--error", metavar="CATEGORY", help="What calls fail with: TIMEOUT, NETWORK, SERVER_ERROR, ...")
@click.option("--rate", metavar="SHARE", help="The share of the calls that it befalls, 0 to 1; default: all.")
@click.option("--seed", metavar="INTEGER", help="The same calls each time.")
def run(name: str, command: tuple[str, ...], **faults: str | None) -> None:
    """Run COMMAND with faults in its calls of the integration NAME. Options come before NAME.

    By the environment: for programs that read their settings with failsoft.load_config(). Ends as COMMAND does; where a
    signal ended it, with 128 and the signal's number.
    """
    import os
    import subprocess

    from failsoft.config import ChaosConfig
    from failsoft.config_values import read_text
    from failsoft.config_variables import capitals

    command = command[1:] if command[0] == "--" else command
    if not command or command[0].startswith("-"):
        raise click.UsageError("options come before NAME, and behind it the command to run")
    if not capitals(name):
        raise click.UsageError(f"no variable of the environment can name the integration {name!r}")
    given = {field: text for field, text in faults.items() if text is not None}
    if not given.keys() & {"latency", "latency_most", "error"}:
        raise click.UsageError("nothing would befall it; give --latency or --error")
    try:
        read: dict[str, Any] = {
            field: read_text(f"--{field.replace('_', '-')}", "chaos", field, text) for field, text in given.items()
        }
        ChaosConfig(**read)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    variables = {f"FAILSOFT_{capitals(name)}__CHAOS__{field.upper()}": text for field, text in given.items()}
    try:
        ended = subprocess.run(command, env={**os.environ, **variables}, check=False)
    except OSError as error:
        raise click.ClickException(f"cannot run {command[0]}: {error.strerror or error}") from error
    except KeyboardInterrupt:  # it has heard of it, too
        raise SystemExit(130) from None
    raise SystemExit(ended.returncode if ended.returncode >= 0 else 128 - ended.returncode)


COMMANDS = (chaos,)
