"""The files for Grafana and Prometheus: well formed, and about metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from failsoft import CircuitState, Registry
from failsoft.export import files
from failsoft.export.prometheus import render
from failsoft.streams import StreamState
from failsoft.streams.watched import Watch

DURATION = re.compile(r"\[(\$__rate_interval|\d+[smh])\]")
SELECTOR = re.compile(r"(failsoft_\w+)\s*(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
TARGET = {"job", "instance"}
"""Labels that Prometheus adds."""


@pytest.fixture
def labels(source: Registry, ticks: Watch[int]) -> dict[str, set[str]]:
    """The labels of every metric that is really written, by the names of its samples."""
    found: dict[str, set[str]] = {}
    for name, told in re.findall(r"^(\w+)\{(.*)\} \S+$", render(source).decode(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', told))
    return found


def check(expression: str, labels: dict[str, set[str]]) -> None:
    assert "failsoft_" in expression
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    for name, selector in SELECTOR.findall(expression):
        assert name in labels, name
        for label, _how, value in MATCHER.findall(selector):
            assert label in labels[name] | TARGET, (name, label)
            if label == "state":
                assert set(value.split("|")) <= {*CircuitState, *StreamState}
    known = {*TARGET, "le"}.union(*labels.values())
    for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known
    for ranged in re.findall(r"(?:rate|increase)\((failsoft_\w+)(?:\{[^}]*\})?(\[[^\]]*\])", expression):
        name, span = ranged
        assert name.endswith(("_total", "_bucket", "_sum", "_count")), name  # of gauges it means nothing
        assert DURATION.fullmatch(span)


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(files.rules())["groups"]
    told: list[dict[str, Any]] = group["rules"]
    return told


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_about_metrics_that_there_are(rule: dict[str, Any], labels: dict[str, set[str]]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Failsoft[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    check(rule["expr"], labels)
    assert set(rule["annotations"]) == {"summary", "description"}
    for text in rule["annotations"].values():
        assert "{{ $labels.integration }}" in text
        assert text.count("{{") == text.count("}}")
        kept = {"job", "instance", "integration"}
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept


def test_rules_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 8


def panels() -> Iterator[dict[str, Any]]:
    yield from json.loads(files.dashboard())["panels"]


def test_the_dashboard_is_about_metrics_that_there_are(labels: dict[str, set[str]]) -> None:
    told = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert len(told) > 20
    for expression in told:
        check(expression, labels)
        assert 'integration=~"$integration"' in expression
    for variable in json.loads(files.dashboard())["templating"]["list"]:
        if variable["type"] == "query":
            check(variable["definition"], labels)


def test_panels_have_their_places() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        here = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not here & taken
        taken |= here


def test_every_metric_of_an_operation_is_shown_or_has_a_reason_not_to_be(labels: dict[str, set[str]]) -> None:
    shown = files.dashboard() + files.rules()
    silent = {name for name, its in labels.items() if "operation" in its and name not in shown}
    assert silent == {"failsoft_slow_calls_total", "failsoft_ignored_total", "failsoft_unrecorded_total"}
