"""How values look in a notebook, and a histogram in matplotlib."""

from __future__ import annotations

import subprocess
import sys

import pytest

from failsoft import IntegrationConfig, LatencyHistogram, Registry, default_config
from failsoft.testing import FakeClock

from .test_report import Page, inert, run


def test_metrics_and_status_have_cards() -> None:
    registry = Registry()
    with FakeClock() as clock:
        run(registry, clock)
        db = registry["db"]
        for value, words in (
            (db.metrics("read"), ["since the start", "lately", "p99", "4 ms", "fallbacks"]),
            (db.status(), ["CLOSED", "failure rate", "capacity", "50%"]),
            (db.explain(), ["db", "too many failures in a row", "ago"]),
            (db.config, ["IntegrationConfig", "circuit_breaker"]),
        ):
            page = Page(value._repr_html_())
            inert(page)
            for word in words:
                assert word in page.words, word
            assert len(value._repr_html_()) < 12_000
    registry.close()


def test_no_calls_are_no_latency() -> None:
    registry = Registry()
    db = registry.integration("db", "database")
    db.guard(lambda: None, operation="read")
    page = Page(db.metrics("read")._repr_html_())
    assert page.words.count("\u2013") == 10  # mean, three percentiles and the rate, ever and lately
    registry.close()


def test_keys_are_listed_up_to_a_bound() -> None:
    registry = Registry()
    market = registry.integration("venues", "market_data")
    quote = market.guard(lambda venue: 1, operation="quote", key=lambda venue: venue)
    for number in range(30):
        quote(f"<{number}>")
    page = Page(market.status()._repr_html_())
    inert(page)
    assert "<3>" in page.words
    assert "10 more keys" in page.words
    registry.close()


def test_a_histogram_has_a_curve() -> None:
    histogram = LatencyHistogram()
    assert "no values yet" in histogram._repr_html_()
    for number in range(1, 1001):
        histogram.record(number / 1e6)
    for view in (histogram, histogram.recent):
        page = Page(view._repr_html_())
        inert(page)
        assert "1,000" in page.words
        assert [tag for tag, _ in page.tags].count("svg") == 1


def test_cards_cost_an_import_nothing() -> None:
    code = (
        "import sys, failsoft; failsoft.LatencyHistogram(); failsoft.default_config('database')\n"
        "rooms = [name for name in sys.modules if name.startswith(('failsoft.report', 'failsoft.alerts', 'matplotlib'))]\n"
        "print(rooms, 'html' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[] False\n"


def test_a_plot_by_matplotlib() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    histogram = LatencyHistogram()
    empty = histogram.plot()
    assert len(empty.lines) == 0
    for number in range(1, 1001):
        histogram.record(number / 1e6)
    _, ax = pyplot.subplots()
    assert histogram.plot(ax, "since the start") is ax
    assert histogram.recent.plot(ax, label="lately") is ax
    assert [line.get_label() for line in ax.lines] == ["since the start", "lately"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["50%", "90%", "99%", "99.9%"]
    assert ax.get_yscale() == "log"
    assert max(ax.lines[0].get_ydata()) == pytest.approx(1e-3, rel=0.008)
    ax.figure.canvas.draw()
    pyplot.close("all")


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'failsoft\[plot\]'"):
        LatencyHistogram().plot()


def test_configs_still_are_what_they_were() -> None:
    assert isinstance(default_config("database"), IntegrationConfig)
    assert "_repr_html_" not in IntegrationConfig.__match_args__
