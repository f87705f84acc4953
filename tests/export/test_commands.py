"""`failsoft grafana`, `failsoft rules`, `failsoft dump`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

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


def test_latencies_of_an_arena(arena_left: str, tmp_path: Path) -> None:
    printed = CliRunner().invoke(failsoft, ["dump", "--arena", arena_left])
    assert printed.exit_code == 0
    assert printed.output.startswith("#[Histogram log format version 1.2]\n")
    assert "\nTag=market.quote," in printed.output
    path = tmp_path / "quote.hgrm"
    options = ["--format", "hgrm", "--operation", "market.quote", "--recent"]
    assert CliRunner().invoke(failsoft, ["dump", "--arena", arena_left, str(path), *options]).exit_code == 0
    assert "#[Max " in path.read_text()


def test_what_is_wrong_is_a_sentence(arena_left: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for arguments, words in (
        (["dump", "--arena", "other", str(path)], "there is no arena 'other'"),
        (["dump", "--arena", arena_left, str(path), "--format", "hgrm"], "operation must name one operation"),
        (["dump", "--arena", arena_left, str(path), "--operation", "nobody"], "it has market.quote"),
    ):
        said = CliRunner().invoke(failsoft, arguments)
        assert said.exit_code == 1
        assert words in said.output
    assert not path.exists()
