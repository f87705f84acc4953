"""Settings from a TOML file, with those from the environment over them.

    [integrations.binance]                    # in pyproject.toml: [tool.failsoft.integrations.binance]
    type = "market_data"                      # the one setting that every table needs
    health_check_interval = "5s"

    [integrations.binance.circuit_breaker]    # timeouts and retry_policy likewise
    reset_timeout = "250ms"
    failure_threshold = "none"
    failure_rate = 0.5

Settings are named as the fields of `IntegrationConfig` are. A duration is a number of seconds, or a string with a unit
(`config_values.parse_duration` has the grammar); "none" stands for None, where that is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .checks import refuse_unknown, shown
from .config import OPTIONAL, PARTS, IntegrationConfig, IntegrationType, default_config
from .config_values import read_value
from .config_variables import read_variables
from .records import field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Settings: TypeAlias = dict[str, object]  # by dotted name: "circuit_breaker.reset_timeout"

TOP = ("integrations", "alerts")
"""The tables that may be ours in a file. That of alerts is read by failsoft/alerts/files.py."""

_OWN = "failsoft.toml"
_SHARED = "pyproject.toml"


def load_config(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, IntegrationConfig]:
    """Read the settings of integrations by name, for `Registry.configure`.

    `path` is a `pyproject.toml` with a table `[tool.failsoft]`, or a file of any other name with `[integrations.NAME]`.
    Without it `failsoft.toml` in the current folder is read, or else a `pyproject.toml` there that has such a table, or
    else no file. What a table leaves out is the preset's of its `type`. Variables like
    `FAILSOFT_<NAME>__CIRCUIT_BREAKER__RESET_TIMEOUT=5s` override the file, which has to be right without them;
    `environ` is `os.environ` unless given. `FAILSOFT_<NAME>__TYPE` adds an integration that no file has.

    A file that cannot be read is an `OSError`, and `FileNotFoundError` where there is none at `path`. Whatever is wrong
    in a file is a `ValueError` that names the file and the setting, in the environment one that names the variable; an
    unknown name gets the nearest valid one.
    """
    file, tables = _look_around() if path is None else _look_into(path)
    settings = {name: _read_table(place, table) for name, (place, table) in tables.items()}
    loaded = {}
    for name, given in settings.items():
        try:
            loaded[name] = _build(given)
        except ValueError as error:
            raise ValueError(f"{tables[name][0]}.{error}") from None
    for name, overrides in read_variables(os.environ if environ is None else environ, settings).items():
        given = settings.get(name, {})
        try:
            loaded[name] = _build({**given, **{setting: value for setting, (_, value) in overrides.items()}})
        except ValueError as error:
            wrong = str(error).partition(" ")[0]  # every message begins with the setting it is about
            blamed = [overrides[wrong]] if wrong in overrides else overrides.values()
            place = ", ".join(variable for variable, _ in blamed) + (f" over {file}" if given else "")
            raise ValueError(f"{place}: {_dotted('integrations', name)}.{error}") from None
    return loaded


def _look_around() -> tuple[str, dict[str, tuple[str, object]]]:
    for name in (_OWN, _SHARED):
        try:
            file, place, own = open_settings(name)
        except FileNotFoundError:
            continue
        if own is not None:
            return file, _tables(place, own)
    return "", {}


def _look_into(path: str | os.PathLike[str]) -> tuple[str, dict[str, tuple[str, object]]]:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a string or a path, got {shown(path)}")
    file, place, own = open_settings(path)
    if own is None:
        raise ValueError(f"{file} has no table [tool.failsoft]")
    return file, _tables(place, own)


def open_settings(path: str | os.PathLike[str]) -> tuple[str, str, object]:
    """The file, the place in it that is ours, and what is there: None in a `pyproject.toml` without one."""
    import tomllib

    file = os.path.abspath(os.fsdecode(path))
    with open(file, "rb") as stream:
        try:
            document = tomllib.load(stream)
        except RecursionError:
            raise ValueError(f"{file} is nested too deeply to be read") from None
        except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
            raise ValueError(f"{file} is not valid TOML: {error}") from error
    if os.path.basename(file) != _SHARED:
        return file, f"{file}: ", document
    tool = document.get("tool")
    return file, f"{file}: tool.failsoft.", tool.get("failsoft") if isinstance(tool, dict) else None


def _tables(at: str, own: object) -> dict[str, tuple[str, object]]:
    """Where the table of each integration is, and the table, by name."""
    ours = _table(at.rstrip(".: "), own)
    refuse_unknown(ours, list(TOP), at, ValueError)
    place = f"{at}integrations"
    tables = _table(place, ours.get("integrations", {}))
    if "" in tables:
        raise ValueError(f"{place} must not have an empty name")
    return {name: (_dotted(place, name), table) for name, table in tables.items()}


def _read_table(place: str, value: object) -> Settings:
    table = _table(place, value)
    refuse_unknown(table, list(field_names(IntegrationConfig)), f"{place}.", ValueError, PARTS)
    if "type" not in table:
        raise ValueError(f"{place}.type is missing; it must be one of {', '.join(IntegrationType)}")
    settings: Settings = {}
    for name, value in table.items():
        where = f"{place}.{name}"
        if name not in PARTS:
            settings[name] = read_value(where, "", name, value)
            continue
        if value == "none" and name in OPTIONAL:
            settings[name] = None
            continue
        part = _table(where, value)
        refuse_unknown(part, list(field_names(PARTS[name])), f"{where}.", ValueError)
        for field, inner in part.items():
            settings[f"{name}.{field}"] = read_value(f"{where}.{field}", name, field, inner)
    return settings


def _build(settings: Settings) -> IntegrationConfig:
    changes: dict[str, Any] = {}
    for setting, value in settings.items():
        room, _, field = setting.rpartition(".")
        if room and changes.get(room) is None:
            changes[room] = {}
        (changes[room] if room else changes)[field] = value
    try:
        return default_config(changes["type"]).with_(**changes)
    except TypeError as error:  # for whoever wrote the file or the variable a wrong type is a wrong value
        raise ValueError(str(error)) from None


def _table(place: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a table, got {shown(value)}")
    return value


def _dotted(place: str, name: str) -> str:
    return f"{place}.{name if all(letter.isalnum() or letter in '-_' for letter in name) else repr(name)}"
