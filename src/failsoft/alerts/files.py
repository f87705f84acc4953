"""Rules in a TOML file, beside the settings of integrations:

    [alerts.slow-quotes]                      # in pyproject.toml: [tool.failsoft.alerts.slow-quotes]
    when = "p99 > 250ms and calls >= 20"
    for = "30s"
    severity = "critical"
    integrations = ["binance*"]

Settings are those of `AlertRule`, `for` without its underscore; durations are numbers of seconds, or strings with a
unit. The table's name is the rule's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..checks import nearest, shown
from ..config_files import TOP, open_settings
from ..config_values import parse_duration
from ..records import Record
from .language import ConditionError
from .rules import AlertRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIELDS = {
    "when": "when", "for": "for_", "resolve_after": "resolve_after", "no_data": "no_data", "severity": "severity",
    "integrations": "integrations", "operations": "operations", "summary": "summary",
}  # fmt: skip
"""What a table may have, and what it is to `AlertRule`. `per` is for functions, which TOML has none of."""

_DURATIONS = ("for", "resolve_after", "no_data")


class Mistake(Record):
    """One thing wrong in a file: `line` (from 1; None where nobody can tell), the dotted `place`, and the `problem`.

    `text` and `column` (from 1) are the condition in which it is, where it is in one.
    """

    line: int | None
    place: str
    problem: str
    text: str | None = None
    column: int | None = None

    def __str__(self) -> str:
        at = f"line {self.line}: " if self.line is not None else ""
        said = f"{at}{self.place}: {self.problem}" if self.place else f"{at}{self.problem}"
        if self.text is None or self.column is None or not self.text.isprintable():
            return said
        return f"{said}\n    {self.text}\n    {' ' * (self.column - 1)}^"


def load_rules(path: str | os.PathLike[str]) -> tuple[AlertRule, ...]:
    """The rules of a file, in its order; none where it has no table `alerts`.

    `OSError` where it cannot be read. A ValueError tells every mistake in it, each with its place.
    """
    rules, mistakes = read_rules(path)
    if mistakes:
        many = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ValueError("\n".join([f"{os.fsdecode(path)} has {many}", *map(str, mistakes)]))
    return tuple(rules)


def read_rules(path: str | os.PathLike[str]) -> tuple[list[AlertRule], list[Mistake]]:
    """The rules of a file that are right, and what is wrong with the others. `OSError` where it cannot be read."""
    try:
        file, place, own = open_settings(path)
    except ValueError as error:
        return [], [Mistake(None, "", str(error))]
    if own is None:
        return [], [Mistake(None, "", f"{file} has no table [tool.failsoft]")]
    prefix = place.partition(": ")[2]
    with open(file, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    if not isinstance(own, dict):
        return [], [Mistake(_line(lines, prefix.rstrip("."), None), prefix.rstrip("."), "must be a table")]
    rules, mistakes = [], []
    for name in own:
        if name not in TOP:
            near = nearest(name, list(TOP)) or f"; it must be one of {', '.join(TOP)}"
            mistakes.append(
                Mistake(_line(lines, f"{prefix}{name}", None), f"{prefix}{name}", f"is not a setting{near}")
            )
    tables = own.get("alerts", {})
    if not isinstance(tables, dict):
        return [], [Mistake(_line(lines, f"{prefix}alerts", None), f"{prefix}alerts", "must be a table of tables")]
    for name, table in tables.items():
        at = f"{prefix}alerts.{name}"
        wrong = list(_wrong(name, table))
        if not wrong:
            rules.append(AlertRule(name, **_settings(table)))
        for field, problem, where in wrong:
            line = _line(lines, at, field)
            mistakes.append(Mistake(line, f"{at}.{field}" if field else at, problem, *(where or (None, None))))
    return rules, mistakes


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    given = {}
    for field, value in table.items():
        given[_FIELDS[field]] = parse_duration(value) if field in _DURATIONS and isinstance(value, str) else value
    return given


def _wrong(name: str, table: object) -> Iterator[tuple[str, str, tuple[str, int] | None]]:
    """What is wrong in one table: the field ("" for the whole), the problem, and the place in a condition.

    Every field is tried by itself, so that all mistakes are told at once.
    """
    if not isinstance(table, dict):
        yield "", f"must be a table, got {shown(table)}", None
        return
    if "when" not in table:
        yield "", 'needs when = "...", the condition', None
    known: dict[str, Any] = {}
    for field, value in table.items():
        if field not in _FIELDS:
            near = nearest(field, list(_FIELDS)) or f"; it must be one of {', '.join(_FIELDS)}"
            yield field, f"is not a setting{near}", None
        elif field == "when" and not isinstance(value, str):
            yield field, f"must be a condition in a string, got {shown(value)}", None
        else:
            known[field] = value
    alone = "state == OPEN" if "operations" not in known else "calls > 0"
    for field, value in known.items():
        trial = {"when": known.get("when", alone)} if field == "operations" else {"when": alone}
        try:
            AlertRule("rule", **_settings({**trial, field: value}))
        except ConditionError as error:
            if field == "when":
                yield field, str(error).partition(", in when=")[0], error.place
        except (TypeError, ValueError) as error:
            yield field, str(error), None
    try:
        AlertRule(name, when=alone)
    except ValueError as error:
        yield "", str(error), None


def _line(lines: list[str], table: str, field: str | None) -> int | None:
    """Where a table begins, or a field of it: by looking, as TOML's reader does not tell."""
    parts = re.escape(table.rpartition(".")[0]), re.escape(table.rpartition(".")[2])
    head = rf"{parts[0]}\." if parts[0] else ""
    header = re.compile(rf"""\s*\[\s*{head}["']?{parts[1]}["']?\s*[\].]""")
    start = next((at for at, line in enumerate(lines) if header.match(line)), None)
    if start is None or field is None or field == "":
        return None if start is None else start + 1
    entry = re.compile(rf"""\s*["']?{re.escape(field)}["']?\s*=""")
    for at in range(start + 1, len(lines)):
        if lines[at].lstrip().startswith("["):
            break
        if entry.match(lines[at]):
            return at + 1
    return start + 1
