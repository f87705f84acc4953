"""Settings from variables of the environment.

    FAILSOFT_BINANCE__HEALTH_CHECK_INTERVAL=5s
    FAILSOFT_BINANCE__CIRCUIT_BREAKER__RESET_TIMEOUT=250ms

`FAILSOFT_<NAME>__<FIELD>` or `FAILSOFT_<NAME>__<ROOM>__<FIELD>`, all in capitals. NAME is the name of an integration
with each run of anything but ASCII letters and digits as one `_`, none at its ends. `FAILSOFT_<NAME>__TYPE` also adds
an integration that is not known, under NAME in lower case. Variables without a double underscore after the name, like
FAILSOFT_DISABLED, are not read here.

A value is what `int` or `float` read, a duration a number of seconds or one with a unit, as in a file. Categories are
separated by commas; nothing at all is no category. Jitter is its name, or true, false, 1 or 0. "none" stands for None,
where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .checks import nearest, refuse_unknown, shown
from .config import OPTIONAL, PARTS, IntegrationConfig
from .config_values import read_text
from .records import field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Overrides: TypeAlias = dict[str, tuple[str, object]]

_PREFIX = "FAILSOFT_"


def read_variables(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, Overrides]:
    """The variable and the value of each setting by its dotted name, by integration. `names` are those known."""
    known = _by_capitals(names)
    ours = []
    for variable in sorted(environ):
        name, levels, setting = variable.removeprefix(_PREFIX).partition("__")
        if not variable.startswith(_PREFIX) or not levels:
            continue
        ours.append((variable, name, setting))
        if setting == "TYPE" and name and name == capitals(name):
            known.setdefault(name, name.lower())
    found: dict[str, Overrides] = {}
    for variable, name, setting in ours:
        if name not in known:
            hint = nearest(capitals(name), list(known)) or f"; {_PREFIX}{capitals(name) or 'NAME'}__TYPE adds one"
            raise ValueError(f"{variable}: there is no integration {name}{hint}")
        text = environ[variable]
        if not isinstance(text, str):
            raise TypeError(f"{variable} must be a string, got {shown(text)}")
        room, field = _place(f"{_PREFIX}{name}__", setting)
        dotted = f"{room}.{field}" if room else field
        found.setdefault(known[name], {})[dotted] = variable, read_text(variable, room, field, text)
    return found


def _by_capitals(names: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in names:
        spelled = capitals(name)
        if not spelled:  # a name without a letter or digit, which no variable can spell
            continue
        if spelled in known:
            raise ValueError(
                f"integrations {known[spelled]!r} and {name!r} would both be set by {_PREFIX}{spelled}__...; "
                f"one of them needs another name"
            )
        known[spelled] = name
    return known


def capitals(name: str) -> str:
    """An integration's name as variables have it."""
    import re

    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").upper()


def _place(at: str, setting: str) -> tuple[str, str]:
    """The room and the field that the end of a variable names. `at` is what goes before it."""
    room, levels, field = setting.partition("__")
    rooms = {name.upper(): name for name in PARTS}
    if room not in rooms:
        refuse_unknown([setting], _fields(IntegrationConfig), at, ValueError)
        return "", setting.lower()
    fields = _fields(PARTS[rooms[room]])
    if not levels and rooms[room] in OPTIONAL:
        return "", rooms[room]  # to be none
    if not levels:
        raise ValueError(f"{at}{room} is not one setting but several, such as {at}{room}__{fields[0]}")
    refuse_unknown([field], fields, f"{at}{room}__", ValueError)
    return rooms[room], field.lower()


def _fields(config: type) -> list[str]:
    return [name.upper() for name in field_names(config)]
