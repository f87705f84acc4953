"""What somebody types who has not read the manual: it works, or the error says what to type instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import failsoft
from failsoft import CircuitBreaker, Fallback, FallbackType, Integration, IntegrationConfig, IntegrationType, Registry
from failsoft.breakers import _INNER as BREAKERS_OWN
from failsoft.integrations import _INNER as INTEGRATIONS_OWN
from failsoft.registry import _INNER as REGISTRIES_OWN


def quote(symbol: str = "BTC") -> float:
    return 64_000.0


async def feed() -> Any:
    yield {}


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def market(registry: Registry) -> Integration:
    return registry.integration("binance", "market_data")


SETTINGS = [
    ({"retries": 3}, "^retries is not a setting; did you mean 'retry_policy'\\?$"),
    ({"retry_policy": {"attempts": 3}}, r"^retry_policy\.attempts is not a setting; did you mean 'max_retries'\?$"),
    ({"retry_policy": {"retry_on": []}}, "did you mean 'retryable_errors'"),
    ({"circuit_breaker": {"threshold": 3}}, "did you mean 'failure_threshold'"),
    ({"circuit_breaker": {"fail_max": 3}}, "did you mean 'failure_threshold'"),
    ({"circuit_breaker": {"recovery_timeout": 3}}, "did you mean 'reset_timeout'"),
    ({"timeouts": {"total": 3}}, "did you mean 'overall'"),
    ({"rate_limit": {"per_second": 3}}, "did you mean 'rate'"),
    (
        {"rate_limit": 100},
        "^rate_limit must be a RateLimit, got 100; .* take a mapping of rate, burst, max_wait for one",
    ),
    ({"timeouts": 2}, "^timeouts must be a Timeouts, got 2; .* connect, read, write, overall"),
]


@pytest.mark.parametrize(("settings", "told"), SETTINGS, ids=[str(settings) for settings, _ in SETTINGS])
def test_a_setting_by_the_name_that_others_give_it(registry: Registry, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        registry.integration("z", "market_data", **settings)


OPTIONS = [
    ({"retries": 3}, "guard has no option 'retries'; .* retry_policy; retry=False is one attempt only"),
    ({"timeout": 1}, r"circuit_breaker\.timeout for an attempt, timeouts\.overall for a call"),
    ({"name": "x"}, "did you mean 'operation'"),
    ({"cache": True}, "guard has no option 'cache'; it has operation, fallbacks, dedupe"),
    ({"retry": 3}, "^retry must be True or False, got 3; .* retry_policy"),
    ({"idempotent": "no"}, "^idempotent must be True or False, got 'no'$"),
    ({"details": 3}, "^details must be a mapping, or a function of the arguments that makes one, got 3$"),
    ({"fallbacks": quote}, "^fallbacks must be a list of Fallback objects, got <function quote"),
    ({"fallbacks": failsoft.market_data_fallbacks.last_known()}, "^fallbacks must be a list of Fallback objects"),
    ({"fallbacks": [quote]}, r'^fallbacks must be Fallback objects, .*; Fallback\("custom", function\) makes one'),
]


@pytest.mark.parametrize(("options", "told"), OPTIONS, ids=[f"{n}-{next(iter(o))}" for n, (o, _) in enumerate(OPTIONS)])
def test_an_option_that_is_none(market: Integration, options: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        market.guard(quote, **options)


def test_a_name_in_the_place_of_the_function(market: Integration) -> None:
    with pytest.raises(TypeError, match="fn must be callable, got 'quote'; a name is given by operation='quote'"):
        market.guard("quote")  # type: ignore[call-overload]


def test_how_often_is_no_switch_of_a_caller_either(market: Integration) -> None:
    with pytest.raises(TypeError, match="retry must be True or False, got 3"):
        market.caller("x", retry=3)  # type: ignore[arg-type]


def test_what_a_function_gives_in_the_place_of_the_function(registry: Registry) -> None:
    async def robots() -> list[str]:
        return []

    given = robots()
    with pytest.raises(TypeError, match="operation must be a function, not what it gives, got <coroutine object"):
        failsoft.with_integration_resilience("database", "x", given, registry=registry)  # type: ignore[call-overload]
    assert given.cr_frame is None  # closed, or a warning would say that nobody has awaited it


def test_an_address_or_a_feed_in_the_place_of_what_connects(market: Integration) -> None:
    with pytest.raises(TypeError, match=r"got 'wss://x'; failsoft\.adapters\.websockets and \.nats connect"):
        market.stream("wss://x", stale_after=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give the function, for it is called for each connection"):
        market.stream(feed(), stale_after=1.0)


def test_a_breaker_without_a_rule(registry: Registry) -> None:
    with pytest.raises(ValueError, match=r"got None; metrics_only\(\) is for a breaker that never trips$"):
        registry.integration("db", "database", circuit_breaker={"failure_threshold": None})


def test_other_settings_are_told_by_their_fields(registry: Registry, market: Integration) -> None:
    with pytest.raises(ValueError) as refused:
        registry.integration("binance", "market_data", timeouts={"overall": 3.0}, rate_limit={"rate": 5.0})
    assert str(refused.value) == (
        "integration 'binance' has other settings already: timeouts.overall=10.0, not timeouts.overall=3.0; "
        "rate_limit=None, not rate_limit=RateLimit(rate=5.0, burst=None, max_wait=0.0); "
        "Integration.reconfigure changes them"
    )
    config = IntegrationConfig(IntegrationType.MARKET_DATA).with_(health_check_interval=3.0)
    with pytest.raises(ValueError, match=r"other settings: health_check_interval=10\.0, not .*=3\.0; Integration"):
        registry.configure({"binance": config})


def test_an_integration_in_the_place_of_its_name(registry: Registry, market: Integration) -> None:
    with pytest.raises(
        TypeError, match="name must be the name of an integration, a string, got <Integration 'binance'"
    ):
        registry.explain(market)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="no integration is named 'x'; none has been made yet"):
        Registry().status("x")


def test_a_fallback_the_wrong_way_round() -> None:
    with pytest.raises(TypeError, match="type and handler are swapped"):
        Fallback(quote, "mock")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^fallback\.type must be one of .*, got 'mok'; did you mean 'mock'\?$"):
        Fallback("mok", quote)  # type: ignore[arg-type]
    assert Fallback("mock", quote).type is FallbackType.MOCK  # type: ignore[arg-type]


def test_a_breaker_of_its_settings() -> None:
    breaker = CircuitBreaker(name="alone", failure_threshold=2, reset_timeout=5.0)
    assert (breaker.config.failure_threshold, breaker.config.reset_timeout) == (2, 5.0)
    for _ in range(2):
        breaker.failure(breaker.acquire())
    assert repr(breaker) == "<CircuitBreaker 'alone' OPEN>"
    assert repr(CircuitBreaker()) == "<CircuitBreaker CLOSED>"
    with pytest.raises(
        TypeError, match=r"^circuit_breaker\.fail_max is not a setting; did you mean 'failure_threshold'"
    ):
        CircuitBreaker(fail_max=3)


def test_tab_shows_what_users_want(registry: Registry, market: Integration) -> None:
    def shown(thing: object) -> set[str]:
        return {name for name in dir(thing) if not name.startswith("_")}

    assert shown(market) == {
        "abandoned", "acall", "attempt", "breaker", "budget", "call", "caller", "chaos", "config", "disable", "explain",
        "force_closed", "force_open", "guard", "load", "metrics", "metrics_only", "name", "operations", "reconfigure",
        "reset", "reset_metrics", "shards", "status", "stream", "type", "watch",
    }  # fmt: skip
    assert shown(market.breaker) == {
        "acquire", "attempt", "capacity", "config", "degraded", "disable", "failure", "force_closed", "force_open",
        "ignore", "metrics_only", "name", "reconfigure", "reset", "state", "status", "success",
    }  # fmt: skip
    assert shown(registry) == {
        "aclose", "close", "configure", "disable", "disabled", "enable", "explain", "health", "integration", "metrics",
        "status", "summary", "with_shards",
    }  # fmt: skip
    assert shown(failsoft) == {
        *failsoft.__all__, "adapters", "alerts", "arena", "dashboard", "events", "export", "report", "testing",
    }  # fmt: skip
    for thing, own in ((market, INTEGRATIONS_OWN), (market.breaker, BREAKERS_OWN), (registry, REGISTRIES_OWN)):
        assert [name for name in sorted(own) if name not in object.__dir__(thing)] == []


def test_every_public_name_has_a_docstring() -> None:
    assert [name for name in failsoft.__all__ if not getattr(failsoft, name).__doc__] == []


def test_rooms_are_there_by_their_names() -> None:
    code = "import failsoft; print(failsoft.adapters.httpx.__name__, failsoft.testing.servers.__name__, len(dir(failsoft.adapters)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split()[:2] == ["failsoft.adapters.httpx", "failsoft.testing.servers"]
    with pytest.raises(AttributeError, match=r"module 'failsoft\.adapters' has no attribute 'htpx'"):
        failsoft.adapters.htpx  # type: ignore[attr-defined]


def test_the_command_as_a_module() -> None:
    pytest.importorskip("click")
    told = subprocess.run([sys.executable, "-m", "failsoft", "--version"], capture_output=True, text=True, check=True)
    assert failsoft.__version__ in told.stdout


def test_a_notebook_shows_an_integration(market: Integration) -> None:
    assert "binance" in market._repr_html_()


WORKERS = """
import os, failsoft
from failsoft.alerts import Alerts, AlertRule
from failsoft.export import prometheus
everybody = failsoft.arena.attach(os.environ["FAILSOFT_ARENA"])
failsoft.integration("orders", "database")
reader, writer = os.pipe()
if os.fork() == 0:
    failsoft.registry.default["orders"].guard(len, operation="rows")("abc")
    os.write(writer, b"x")
    os._exit(0)
os.read(reader, 1)
page, _ = prometheus.respond(everybody, accept=None)
print([line for line in page.decode().splitlines() if line.startswith("failsoft_calls_total") and "rows" in line])
told = []
alerts = Alerts([AlertRule("traffic", when="calls > 0", operations="rows")], sinks=[told.append], source=everybody)
alerts.tick(); alerts.flush(); alerts.close()
print(len(told))
"""


def test_one_worker_tells_of_all(tmp_path: Path) -> None:
    """What docs/serving.md says of several workers: one scrape and one alert for what another process has done."""
    outside = {**os.environ, "FAILSOFT_ARENA": str(tmp_path / "shop")}
    done = subprocess.run([sys.executable, "-c", WORKERS], env=outside, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['failsoft_calls_total{integration=\"orders\",operation=\"rows\"} 1']", "1",
    ]  # fmt: skip
