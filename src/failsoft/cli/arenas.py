"""`failsoft arenas`: which arenas there are on this host, and away with one."""

from __future__ import annotations

import fcntl
import json
import os

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@click.command(short_help="List the arenas on this host, or remove one.")
@click.option("--remove", metavar="NAME", help="Remove this one; refused while a process that shares it is alive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an arena.")
def arenas(remove: str | None, as_json: bool) -> None:
    """List the arenas that your processes share or have shared, with who is in them and what they take."""
    from failsoft.arena import arenas as there

    if remove is not None:
        _remove(remove)
        return
    rows = [_about(name) for name in there()]
    for row in rows:
        print(json.dumps(row) if as_json else _line(row))
    if not rows and not as_json:
        print("none")


def _about(name: str) -> dict[str, Any]:
    from failsoft.arena import ArenaError, arena_path, attach

    row: dict[str, Any] = {"name": name, "path": arena_path(name), "bytes": 0, "processes": [], "integrations": 0}
    try:
        row["bytes"] = os.stat(row["path"]).st_blocks * 512
        arena = attach(name)
    except (OSError, ArenaError, ValueError) as error:
        return {**row, "error": getattr(error, "reason", "system")}
    alive = [one.pid for one in arena.processes() if one.alive]
    return {**row, "processes": alive, "integrations": len(arena)}


def _line(row: dict[str, Any]) -> str:
    from failsoft.cli.inert import shown

    if "error" in row:
        return f"{shown(row['name']):<24} cannot be read: {row['error']}"
    pids = " ".join(map(str, row["processes"])) or "none"
    size, integrations = f"{row['bytes'] / 2**20:.1f} MiB", f"{row['integrations']} integrations"
    return f"{shown(row['name']):<24} {size:>10}  {integrations}  alive: {pids}"


def _remove(name: str) -> None:
    """Under the lock of the file, so nobody comes in between; whoever waits for it is told that it is gone."""
    from failsoft.arena import ArenaError, arena_path, attach
    from failsoft.cli.inert import shown

    try:
        path = arena_path(name)
        arena = attach(name)
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (OSError, ArenaError, ValueError) as error:
        raise click.ClickException(shown(str(error), 2000)) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alive = [str(one.pid) for one in arena.processes() if one.alive]
        if alive:
            raise click.ClickException(f"{shown(name)} is shared by processes that are alive: {' '.join(alive)}")
        os.unlink(path)
    except BlockingIOError:
        raise click.ClickException(f"{shown(name)} is locked: a process is just coming or going") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be removed: {error.strerror}") from None
    finally:
        os.close(file)


COMMANDS = (arenas,)
