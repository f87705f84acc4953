"""Files for the tools of HdrHistogram, read back by one of them."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import struct
import sysconfig
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsoft import LatencyHistogram, Registry
from failsoft.export import hdr
from failsoft.export.hdr_codec import decode, encode
from failsoft.testing import FakeClock

BUCKET = 1 / 64
CALLS = 5_000
RANKS = (1, 2, 50, 500, 1250, 2500, 3750, 4500, 4750, 4950, 4995, 4999, 5000)
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
needs_oracle = pytest.mark.skipif(FREE_THREADED, reason="hdrhistogram turns the GIL back on")


def decoded(word: str) -> Any:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram.decode(word)


def read_log(path: Path) -> dict[str, Any]:
    """The histograms of a log by their tags."""
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader

    reader = HistogramLogReader(str(path), HdrHistogram(1, 1 << 42, 3))
    found = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        found[histogram.tag] = histogram
    reader.close()
    return found


@needs_oracle
def test_a_log_is_read_back_within_a_bucket(clock: FakeClock, tmp_path: Path) -> None:
    source, draw = Registry(), random.Random(1)
    spreads = {"quick": (8.0, 0.5), "usual": (14.0, 1.0), "wild": (15.0, 3.0)}
    records = {}
    for name, (mu, sigma) in spreads.items():
        records[name] = record = source.integration(name, "cache").record("get")
        for _ in range(CALLS):
            record.record_ns(min(int(draw.lognormvariate(mu, sigma)), 2**42 - 1))
    clock.advance(12.5)
    path = tmp_path / "latencies.hlog"
    assert hdr.dump(source, path) == 3
    read = read_log(path)
    assert set(read) == {"quick.get", "usual.get", "wild.get"}
    for name, record in records.items():
        histogram = read[f"{name}.get"]
        assert histogram.total_count == CALLS
        for rank in RANKS:
            share = (rank - 0.3) / CALLS  # they round to a rank, and we take the next one
            (ours,) = record.quantiles((share,))
            theirs = histogram.get_value_at_percentile(share * 100) / 1e9
            assert theirs == pytest.approx(ours, rel=BUCKET, abs=2e-9)
        assert histogram.get_end_time_stamp() - histogram.get_start_time_stamp() == pytest.approx(12_500, abs=1)


@needs_oracle
@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2**42 - 1), st.integers(1, 2**40)), max_size=40))
def test_every_histogram_can_be_decoded(pairs: list[tuple[int, int]]) -> None:
    cells: dict[int, int] = {}
    for value, count in pairs:
        index = _step(value)
        cells[index] = cells.get(index, 0) + count
    histogram = decoded(encode(sorted(cells.items())))
    assert histogram.total_count == sum(cells.values())
    for value, count in cells.items():
        assert histogram.get_count_at_value(value) == count


def _step(value: int) -> int:
    """The lowest value that three digits do not tell from this one."""
    shift = max(value.bit_length() - 11, 0)
    return value >> shift << shift


@needs_oracle
def test_the_cells_of_a_full_histogram_arrive_one_by_one() -> None:
    histogram = LatencyHistogram()
    for octave in range(42):
        for n in range(64):
            histogram.record_ns((1 << octave) + (n << octave >> 6))
    cells = histogram.cells()
    counts = [item.count_at_value_iterated_to for item in decoded(encode(cells)).get_recorded_iterator()]
    assert counts == [count for _, count in cells]


def test_the_lines_of_a_log(clock: FakeClock) -> None:
    source = Registry()
    source.integration("old", "cache").record("get").record(0.25)
    clock.advance(100.0)
    source.integration("new", "cache").record("get")
    clock.advance(30.0)
    file = io.StringIO()
    hdr.dump(source, file)
    version, start, heading, *lines = file.getvalue().splitlines()
    assert version == "#[Histogram log format version 1.2]"
    assert re.fullmatch(r"#\[StartTime: \d+\.\d{3} \(seconds since epoch\), .*\]", start)
    assert heading.startswith('"StartTimestamp","Interval_Length","Interval_Max"')
    assert [line.rpartition(",")[0] for line in lines] == [
        "Tag=old.get,0.000,130.000,250.000",
        "Tag=new.get,100.000,30.000,0.000",
    ]
    recent = io.StringIO()
    hdr.dump(source, recent, recent=True)
    assert [line.rpartition(",")[0] for line in recent.getvalue().splitlines()[3:]] == [
        "Tag=old.get,0.000,60.000,0.000",
        "Tag=new.get,30.000,30.000,0.000",
    ]


@pytest.mark.parametrize("name", ["a,b", "a b", "a\nTag=x,0,1,2,y", "ü", "100%", "\ud800", "a\0b", "\u2028"], ids=ascii)
def test_a_tag_holds_any_name(name: str) -> None:
    source = Registry()
    source.integration(name, "cache").record("get").record_ns(1000)
    file = io.StringIO()
    hdr.dump(source, file)
    (line,) = file.getvalue().split("\n")[3:-1]
    tag, _start, _length, _most, word = line.split(",")
    assert unquote(tag.removeprefix("Tag=")) == name.encode("utf-8", "backslashreplace").decode() + ".get"
    assert not re.search(r"\s", tag)
    assert word.startswith("HISTF")


def test_percentiles_for_the_plotter(source: Registry) -> None:
    record = source["market"].recorded[0]
    file = io.StringIO()
    assert hdr.dump(source, file, format="hgrm", operation="market.quote") == 1
    heading, _, *lines = file.getvalue().splitlines()
    assert heading.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    table = [[float(number) for number in line.split()] for line in lines if not line.startswith("#")]
    shares = [row[1] for row in table]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert shares[:6] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    for value, share, passed, *inverse in table:
        assert value / 1e3 == pytest.approx(record.quantiles((share,))[0], abs=1e-6)
        assert passed >= share * record.count
        assert not inverse or inverse[0] == pytest.approx(1 / (1 - share), abs=0.01)
    told = dict(re.findall(r"(\w[\w ]*?)\s+=\s+([\d.]+)", file.getvalue()))
    assert float(told["Max"]) == pytest.approx(record.max * 1e3)
    assert float(told["Mean"]) == pytest.approx(record.mean * 1e3, abs=1e-3)
    assert int(told["Total count"]) == record.count


def test_an_operation_without_calls_is_a_file_all_the_same() -> None:
    source = Registry()
    source.integration("idle", "cache").record("get")
    for kind in hdr.FORMATS:
        file = io.StringIO()
        assert hdr.dump(source, file, format=kind) == 1
        assert file.getvalue()


def test_json_has_every_bucket(source: Registry) -> None:
    file = io.StringIO()
    hdr.dump(source, file, format="json", operation="market")
    (told,) = json.loads(file.getvalue())["operations"]
    record = source["market"].recorded[0]
    assert (told["integration"], told["operation"], told["count"]) == ("market", "quote", record.count)
    assert [tuple(cell) for cell in told["cells_ns"]] == record.cells()
    assert told["max_ns"] == pytest.approx(record.max * 1e9)


def test_what_cannot_be_written_is_told_before_anything_is(source: Registry, tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(ValueError, match="format must be one of hlog, hgrm, json, got 'pdf'"):
        hdr.dump(source, path, format="pdf")
    with pytest.raises(ValueError, match=r"got 'nobody'; it has market\.quote, db\.robots"):
        hdr.dump(source, path, operation="nobody")
    with pytest.raises(ValueError, match=r"operation must name one operation for an hgrm; there are market\.quote"):
        hdr.dump(source, path, format="hgrm")
    with pytest.raises(ValueError, match="there are none"):
        hdr.dump(Registry(), path, format="hgrm")
    assert not path.exists()


@given(st.lists(st.tuples(st.integers(0, 2**42 - 1), st.integers(1, 2**35)), max_size=30))
def test_what_was_encoded_is_decoded(pairs: list[tuple[int, int]]) -> None:
    cells: dict[int, int] = {}
    for value, count in pairs:
        cells[_step(value)] = cells.get(_step(value), 0) + count
    told = decode(encode(sorted(cells.items())))
    assert [(_step(value), count) for value, count in told] == sorted(cells.items())


@needs_oracle
@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_a_log_of_theirs_is_loaded(digits: int, tmp_path: Path) -> None:
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogWriter

    theirs = HdrHistogram(1, 1 << 40, digits)
    draw = random.Random(digits)
    for _ in range(1000):
        theirs.record_value(int(draw.lognormvariate(14, 2)))
    path = tmp_path / "theirs.hlog"
    with path.open("w") as file:
        writer = HistogramLogWriter(file)
        writer.output_log_format_version()
        writer.output_legend()
        writer.output_interval_histogram(theirs)
        writer.output_interval_histogram(theirs)
    (ours,) = hdr.load(path).values()
    assert ours.count == 2000
    for share in (0.1, 0.5, 0.9, 0.99):
        theirs_there = theirs.get_value_at_percentile(share * 100) / 1e9
        assert ours.quantiles((share,))[0] == pytest.approx(theirs_there, rel=BUCKET + 10**-digits)


def test_what_was_dumped_is_loaded(source: Registry) -> None:
    file = io.StringIO()
    hdr.dump(source, file)
    file.seek(0)
    loaded = hdr.load(file)
    assert set(loaded) == {"market.quote", "db.robots", "api.ask", "api[xetra].ask", "api[nyse].ask"}
    assert loaded["market.quote"].cells() == source["market"].recorded[0].cells()


GOOD = encode([(1000, 3)])
HEADER = struct.Struct(">iiiiqqd")


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()),
        st.tuples(st.integers(0, len(GOOD) - 1), st.sampled_from("Aa0+/=")).map(
            lambda change: GOOD[: change[0]] + change[1] + GOOD[change[0] + 1 :]
        ),
        st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]),
        st.binary(max_size=60).map(lambda body: _packed(body)),
        st.binary(max_size=120).map(
            lambda body: _packed(HEADER.pack(0x1C849313, len(body), 0, 3, 1, 1 << 42, 1.0) + body)
        ),
    )
)
def test_garbage_is_a_value_error(word: str) -> None:
    try:
        loaded = hdr.load(io.StringIO(f"Tag=x,0.0,1.0,1.0,{word}\n"))
    except ValueError as error:
        assert re.match("line [0-9]+ is no histogram of a log", str(error))
    else:
        assert all(isinstance(histogram.count, int) for histogram in loaded.values())


def _packed(body: bytes) -> str:
    squeezed = zlib.compress(body)
    return base64.b64encode(struct.pack(">ii", 0x1C849314, len(squeezed)) + squeezed).decode()


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(ValueError, match="line 1 is no histogram of a log: it is cut off, or too large"):
        hdr.load(io.StringIO(_packed(b"\0" * ((1 << 25) + 1)) + "\n"))


def test_more_than_can_be_counted() -> None:
    for cells in ([(1 << 43, 1)], [(5, 1 << 41)]):
        with pytest.raises(ValueError, match=r"line 1 is no histogram of a log: (ns|count) must be"):
            hdr.load(io.StringIO(encode(cells)))


def test_recording_one_value_many_times() -> None:
    histogram = LatencyHistogram()
    histogram.record_repeated(1000, 1 << 30)
    histogram.record_repeated(2000, 0)
    assert (histogram.count, histogram.max) == (1 << 30, 1e-6)
    assert histogram.cells() == [(histogram.cells()[0][0], 1 << 30)]
    for ns, count in ((1 << 42, 1), (1, (1 << 36) + 1)):
        with pytest.raises(ValueError):
            histogram.record_repeated(ns, count)
    with pytest.raises(OverflowError):
        histogram.record_repeated(-1, 1)
