"""`failsoft dashboard`: see what guarded processes do, in a browser."""

from __future__ import annotations

import os

import click

from failsoft.cli.chosen import Observing, arena_option, name_of


@click.command(cls=Observing)
@arena_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port to listen on; 0: any that is free.",
)
@click.option("--controls", is_flag=True, help="Let visitors force, disable, reset and degrade.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="A file that holds the token.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name to be visited under; repeatable.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
def dashboard(
    arena: str | None,
    host: str,
    port: int,
    controls: bool,
    token_file: str | None,
    hosts: tuple[str, ...],
    interval: float,
) -> None:
    """Show what the processes that share an arena do, in a browser.

    It listens on this machine alone and changes nothing. For another address a token is needed; it may also be in
    FAILSOFT_DASHBOARD_TOKEN.
    """
    try:
        from failsoft.dashboard import serve
        from failsoft.dashboard.server import NotSafe
    except ImportError as missing:
        raise click.ClickException(f"{missing}; run: pip install 'failsoft[dashboard]'") from missing
    from failsoft.dashboard.source import NamedArena

    name = name_of(arena)
    try:
        source = NamedArena(name, controls=controls)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--arena") from error
    try:
        serve(
            source,  # type: ignore[arg-type]  # read as an arena is
            host=host,
            port=port,
            controls=controls,
            token=_token(token_file),
            hosts=hosts,
            interval=interval,
            ready=lambda url: click.echo(
                f"failsoft dashboard of the arena {name!r}: {url} ({'controls on' if controls else 'read-only'})"
            ),
        )
    except NotSafe as error:
        raise click.ClickException(
            f"{error}: --token-file FILE. To make one:\n"
            '  (umask 077; python -c "import secrets; print(secrets.token_urlsafe())" > token)'
        ) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("FAILSOFT_DASHBOARD_TOKEN") or None
    with open(file, encoding="utf-8") as opened:
        return opened.read(4096).strip()


COMMANDS = (dashboard,)
