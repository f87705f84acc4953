"""What Grafana and Prometheus load: a dashboard and alert rules over the metrics of failsoft.export.prometheus."""

from __future__ import annotations


def dashboard() -> str:
    """A Grafana dashboard as JSON. Import it; its data source is asked for."""
    return _read("grafana.json")


def rules() -> str:
    """Alert rules for Prometheus as YAML, for `rule_files`."""
    return _read("rules.yaml")


def _read(name: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath(name).read_text(encoding="utf-8")
