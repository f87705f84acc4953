"""How hard hypothesis tries: a quick, repeatable pass by default, a long random one by `pytest --deep`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=100,
    stateful_step_count=50,
    deadline=None,  # the machine may be busy with other suites
    derandomize=True,
    report_multiple_bugs=False,  # shrinking one is enough to wait for
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep",
    parent=settings.get_profile("quick"),
    max_examples=1_000,
    stateful_step_count=100,
    derandomize=False,
    print_blob=True,
)


def pytest_configure(config: pytest.Config) -> None:
    """A hook, since this file may be imported before anybody has read the options."""
    settings.load_profile("deep" if config.getoption("--deep") else "quick")
