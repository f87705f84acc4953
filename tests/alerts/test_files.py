"""Rules in TOML, and `failsoft check`, which tells every mistake with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from failsoft import load_config
from failsoft.alerts import load_rules

GOOD = """
[integrations.binance]
type = "market_data"

[alerts.slow-quotes]
when = "p99 > 250ms and calls >= 20"
for = "30s"
resolve_after = 60
severity = "critical"
integrations = ["binance*", "kraken"]
operations = "quote"
summary = "{operation} is slow: {value}"

[alerts."open circuit"]
when = "state == OPEN"
"""

BAD = """
[alerts.fast]
when = "p98 > 250ms"
for = "30 s"
colour = "red"

[alerts.empty]

[alerts.wrong]
when = "calls > 1 and error_rate > 5"
severity = "page"
summary = "{nothing}"
operations = 5

[alerts.group]
when = "state == OPEN"
operations = "read"

[alert.typo]
when = "state == OPEN"
"""


def write(folder: Path, text: str, name: str = "failsoft.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_has_rules_beside_settings(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    slow, opened = load_rules(path)
    assert (slow.name, slow.for_, slow.resolve_after, slow.severity) == ("slow-quotes", 30.0, 60.0, "critical")
    assert (slow.integrations, slow.operations, slow.per) == (("binance*", "kraken"), ("quote",), "operation")
    assert (opened.name, opened.when, opened.per) == ("open circuit", "state == OPEN", "integration")
    assert list(load_config(path, environ={})) == ["binance"]


def test_pyproject_has_them_in_its_own_table(tmp_path: Path) -> None:
    path = write(tmp_path, '[tool.failsoft.alerts.held]\nwhen = "state == FORCED_OPEN"\n', "pyproject.toml")
    assert [rule.name for rule in load_rules(path)] == ["held"]
    with pytest.raises(ValueError, match=r"has no table \[tool.failsoft\]"):
        load_rules(write(tmp_path, "", "pyproject.toml"))


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        load_rules(write(tmp_path, BAD))
    said = str(caught.value)
    for words in (
        "line 3: alerts.fast.when: column 1: 'p98' is not a measure; did you mean 'p99'?\n    p98 > 250ms\n    ^",
        "line 4: alerts.fast.for: a duration must be a number of seconds, or a number with a unit",
        "line 5: alerts.fast.colour: is not a setting; it must be one of when, for,",
        'line 7: alerts.empty: needs when = "..."',
        "line 10: alerts.wrong.when: column 28: expected a share, as 0.05 or 5% after error_rate, got '5'",
        "line 11: alerts.wrong.severity: severity must be one of info, warning, critical, got 'page'",
        "line 12: alerts.wrong.summary: summary may have {integration}",
        "line 13: alerts.wrong.operations: operations must be a name, several names",
        "line 17: alerts.group.operations: operations must be None where a rule is about integrations",
        "alert: is not a setting; did you mean 'alerts'?",
    ):
        assert words in said
    assert "has 10 mistakes" in said


def run(*arguments: str) -> tuple[int, str, str]:
    from click.testing import CliRunner

    from failsoft.cli.commands import failsoft

    done = CliRunner().invoke(failsoft, ["check", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_check_says_that_all_is_right(tmp_path: Path) -> None:
    path = str(write(tmp_path, GOOD))
    assert run(path) == (0, f"{path}: 2 rules and 1 integration, all right\n", "")
    code, out, _ = run(path, "--json")
    assert (code, json.loads(out)) == (0, {"file": path, "rules": 2, "integrations": 1, "mistakes": []})


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    path = str(write(tmp_path, BAD))
    code, out, _ = run(path)
    assert code == 1
    assert f"{path}: line 3: alerts.fast.when: column 1: 'p98' is not a measure" in out
    code, out, _ = run(path, "--json")
    mistakes = json.loads(out)["mistakes"]
    assert code == 1
    assert {"line": 3, "place": "alerts.fast.when", "column": 1} in [
        {key: wrong[key] for key in ("line", "place", "column")} for wrong in mistakes
    ]


def test_names_in_a_file_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from failsoft.cli.commands import failsoft

    hostile = '[alerts."\\u001b]0;x\\u0007"]\nwhen = "p98 > 1"\n"b\\u001b[2J" = 3\n["\\u001b[31m"]\n'
    done = CliRunner().invoke(failsoft, ["check", str(write(tmp_path, hostile))], color=True)
    assert done.exit_code == 1
    assert r"alerts.\x1b]0;x\x07" in done.stdout
    assert not {"\x1b", "\x07"} & set(done.stdout)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "is not valid TOML"),
        ("alerts = 5", "alerts: must be a table of tables"),
        ("[alerts]\nopen = 5", "alerts.open: must be a table, got 5"),
        ('[alerts.""]\nwhen = "calls > 1"', "name must be 1 to 200 printable characters"),
        ("[alerts.a]\nwhen = 5", "alerts.a.when: must be a condition in a string, got 5"),
        ("[integrations.db]\ntype = 'nothing'", "integrations.db.type must be one of"),
        ("[integrations.db]\ntype = 'database'\ntimeout = 5", "integrations.db.timeout is not a setting"),
        ('[alerts.a]\nwhen = """calls >\n1 or\n\u202e"""', "means nothing here"),
    ],
)
def test_check_refuses(tmp_path: Path, text: str, words: str) -> None:
    code, out, _ = run(str(write(tmp_path, text)))
    assert code == 1
    assert words in out


def test_what_cannot_be_read_is_two(tmp_path: Path) -> None:
    assert run(str(tmp_path / "nothing.toml"))[0] == 2
    assert run(str(tmp_path))[0] == 2
    with pytest.raises(FileNotFoundError):
        load_rules(tmp_path / "nothing.toml")


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    assert load_rules(write(tmp_path, "")) == ()
