"""A run on one page: what each integration did, in one file of HTML to keep or to send.

    failsoft.report.write("run.html")           # now
    failsoft.report.at_exit("run.html")         # when the program ends

The file needs nothing beside it: no script, no other file, no network. docs/reports.md shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..alerts import Alerts

__all__ = ["at_exit", "html", "write"]

TITLE = "failsoft report"


def html(source: Any = None, *, title: str = TITLE, alerts: Alerts | None = None) -> str:
    """The page as a string. `source` is a `Registry`, the default one unless given, or what offers the same.

    With `alerts`, what they have told is on it too.
    """
    from .. import registry as registries
    from .page import page, read

    parts = read(registries.default if source is None else source)
    return page(parts, title, alerts.history if alerts is not None else ())


def write(
    path: str | os.PathLike[str], source: Any = None, *, title: str = TITLE, alerts: Alerts | None = None
) -> None:
    """Write the page to a file, whole or not at all. `OSError` where that cannot be done.

    A link is followed. What is no file, a pipe or /dev/stdout say, is written to as it is.
    """
    text = html(source, title=title, alerts=alerts).encode("utf-8", "backslashreplace")
    target = os.fsdecode(path)
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        with open(target, "wb") as file:
            file.write(text)
        return
    target = os.path.realpath(target)  # or a file would take the place of the link
    unfinished = f"{target}.{os.getpid()}.part"
    try:
        with open(unfinished, "wb") as file:
            file.write(text)
        os.replace(unfinished, target)
    except BaseException:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise


def at_exit(
    path: str | os.PathLike[str], source: Any = None, *, title: str = TITLE, alerts: Alerts | None = None
) -> Callable[[], None]:
    """Have the page written when the program ends. Returns what calls that off.

    It is written by the process that asked, not by its forked children. What goes wrong then is logged; the program's
    exit code stays as it is. Close a registry later than that: a closed one has nothing to tell.
    """
    import atexit

    from .. import forks

    generation, place = forks.generation, os.path.abspath(os.fsdecode(path))

    def last() -> None:
        if forks.generation != generation:
            return
        try:
            write(place, source, title=title, alerts=alerts)
        except Exception:
            from ..logs import complain

            complain("the report could not be written to %s", place)

    atexit.register(last)
    return lambda: atexit.unregister(last)
