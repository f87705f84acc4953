"""`failsoft grafana`, `failsoft rules`, `failsoft dump`."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from failsoft import Registry
from failsoft.cli.commands import failsoft
from failsoft.export import files


@pytest.mark.parametrize(
    ("command", "text"), [("grafana", files.dashboard()), ("rules", files.rules())], ids=["grafana", "rules"]
)
def test_a_file_is_printed_or_written(command: str, text: str, tmp_path: Path) -> None:
    printed = CliRunner().invoke(failsoft, [command])
    assert (printed.exit_code, printed.output) == (0, text)
    path = tmp_path / "file"
    written = CliRunner().invoke(failsoft, [command, str(path)])
    assert (written.exit_code, written.output) == (0, "")
    assert path.read_text() == text


@pytest.fixture
def arena(source: Registry, monkeypatch: pytest.MonkeyPatch) -> str:
    """An arena by the name of "prod", whatever arenas there are."""

    def attach(name: str) -> Registry:
        if name != "prod":
            raise FileNotFoundError(f"there is no arena {name!r}")
        return source

    room = types.ModuleType("failsoft.arena")
    room.attach = attach  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failsoft.arena", room)
    return "prod"


def test_latencies_of_an_arena(arena: str, tmp_path: Path) -> None:
    printed = CliRunner().invoke(failsoft, ["dump", arena])
    assert printed.exit_code == 0
    assert printed.output.startswith("#[Histogram log format version 1.2]\n")
    assert "\nTag=market.quote," in printed.output
    path = tmp_path / "quote.hgrm"
    options = ["--format", "hgrm", "--operation", "market.quote", "--recent"]
    assert CliRunner().invoke(failsoft, ["dump", arena, str(path), *options]).exit_code == 0
    assert "#[Max " in path.read_text()


def test_what_is_wrong_is_a_sentence(arena: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for arguments, words in (
        (["dump", "other", str(path)], "cannot read arena 'other': there is no arena 'other'"),
        (["dump", arena, str(path), "--format", "hgrm"], "operation must name one operation"),
        (["dump", arena, str(path), "--operation", "nobody"], "it has market.quote"),
    ):
        said = CliRunner().invoke(failsoft, arguments)
        assert said.exit_code == 1
        assert words in said.output
    assert not path.exists()


def test_without_arenas_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("no room", name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    said = CliRunner().invoke(failsoft, ["dump", "prod"])
    assert said.exit_code == 1
    assert "cannot read arena 'prod'" in said.output
    assert "failsoft.export.hdr.dump()" in said.output
