"""How the value of a setting is written outside Python, in a file or in a variable."""

from __future__ import annotations

from collections.abc import Callable

from .checks import shown
from .config import DURATIONS, PARTS, IntegrationConfig

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_FORMS = {
    "int": "an integer",
    "float": "a number",
    "duration": f"a number of seconds, or a number with a unit ({', '.join(_NANOSECONDS)}) such as '250ms'",
}
_NONE = "none"
_OR_NONE = " | None"  # how the annotation of an optional setting ends
_SWITCHES = {"true": True, "false": False, "1": True, "0": False}


def parse_duration(text: str) -> float:
    """Read a duration with its unit; the float nearest to it, in seconds. ValueError for anything else.

        duration = digits ["." digits] unit        digits = 1 to 20 of "0" to "9"
        unit     = "ns" | "us" | "ms" | "s" | "m" | "h"

    Nothing stands before, between or after: no sign, no space, no exponent, no second unit, no capitals.
    """
    import re

    found = re.fullmatch(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?(ns|us|ms|s|m|h)", text)
    if found is None:
        raise ValueError(f"a duration must be {_FORMS['duration']}, got {shown(text)}")
    whole, part, unit = found.groups("")
    seconds: float = int(whole + part) * _NANOSECONDS[unit] / 10 ** (9 + len(part))  # of integers: rounded once
    return seconds


def read_value(where: str, room: str, field: str, value: object) -> object:
    """A value as TOML has it. `IntegrationConfig` is left to check what is no duration with a unit and not "none"."""
    kind = _kind(room, field)
    if not isinstance(value, str):
        return value
    if value == _NONE and kind.endswith(_OR_NONE):
        return None
    return _read(where, kind, value, parse_duration) if kind.startswith("duration") else value


def read_text(where: str, room: str, field: str, text: str) -> object:
    """A value as a variable has it. `IntegrationConfig` is left to check what can be read but is not allowed."""
    kind = _kind(room, field)
    text = text.strip()
    if text == _NONE and kind.endswith(_OR_NONE):
        return None
    match kind.removesuffix(_OR_NONE):
        case "int":
            return _read(where, kind, text, int)
        case "float":
            return _read(where, kind, text, float)
        case "duration":
            return _read(where, kind, text, _seconds)
        case "Jitter | bool":
            return _SWITCHES.get(text.lower(), text)
        case "frozenset[ErrorCategory]":
            return [item.strip() for item in text.split(",")] if text else []
    return text


def _kind(room: str, field: str) -> str:
    """What a setting holds: its annotation, with "duration" where the number is one of seconds."""
    kind: str = (PARTS[room] if room else IntegrationConfig).__annotations__[field]
    return kind.replace("float", "duration") if field in DURATIONS else kind


def _read(where: str, kind: str, text: str, reader: Callable[[str], object]) -> object:
    try:
        return reader(text)
    except ValueError:
        form = _FORMS[kind.removesuffix(_OR_NONE)] + (f", or '{_NONE}'" if kind.endswith(_OR_NONE) else "")
        raise ValueError(f"{where} must be {form}, got {shown(text)}") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_duration(text)
