"""The specification, feature by feature and example by example, in its own order.

Each test says by `seed(section, what)` what of the specification it runs; docs/seed.md is the table of them, and
test_table.py holds it against this file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

import failsoft
from failsoft import (
    CircuitOpenError,
    CircuitState,
    ErrorCategory,
    Fallback,
    FallbackType,
    IntegrationConfig,
    IntegrationError,
    IntegrationType,
    ai_fallbacks,
    create_integration_operation,
    database_fallbacks,
    default_config,
    enter_degraded_mode,
    exit_degraded_mode,
    fallback_manager,
    get_all_integration_health,
    get_circuit_breaker_status,
    get_circuit_breaker_summary,
    get_metrics_summary,
    integration_health_monitor,
    integration_metrics,
    is_degraded,
    reset_circuit_breaker,
    should_limit_operations,
    with_integration_resilience,
)
from failsoft.testing import FakeClock

seed = pytest.mark.seed

ROBOTS = [{"id": 1}, {"id": 2}]


class Database:
    """Answers, or raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    async def get_robots(self) -> list[dict[str, int]]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return ROBOTS


@pytest.fixture
def db() -> Database:
    return Database()


def quiet(**parts: Any) -> failsoft.Integration:
    """The database of the examples, without retries, so that each call is one attempt."""
    return failsoft.integration("database", IntegrationType.DATABASE, retry_policy={"max_retries": 0}, **parts)


def run(awaitable: Any) -> Any:
    async def main() -> Any:
        return await awaitable

    return asyncio.run(main())


def trip(times: int = 5) -> None:
    integration = failsoft.registry.default["database"]

    def fail() -> None:
        raise ConnectionError("gone")

    for _ in range(times):
        with pytest.raises(ConnectionError):
            integration.call(fail)


# ---- Architecture


@seed("Architecture", "Integration types")
def test_types() -> None:
    assert [kind.value for kind in IntegrationType] == [
        "database", "ai_service", "market_data", "cache", "external_api",
    ]  # fmt: skip


# ---- 1. Unified configuration


@seed("1. Unified configuration", "Example configuration, in its own camelCase and milliseconds")
def test_example_configuration() -> None:
    config = IntegrationConfig.from_millis(
        {
            "type": IntegrationType.DATABASE,
            "timeouts": {"connect": 5000, "read": 10000, "write": 15000, "overall": 30000},
            "retryPolicy": {
                "maxRetries": 3,
                "initialDelay": 500,
                "maxDelay": 10000,
                "backoffMultiplier": 2,
                "jitter": True,
                "retryableErrors": [ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR],
            },
            "circuitBreaker": {
                "failureThreshold": 5,
                "successThreshold": 2,
                "timeout": 30000,
                "halfOpenMaxCalls": 3,
                "resetTimeout": 60000,
            },
        }
    )
    assert config == default_config(IntegrationType.DATABASE)


@seed("1. Unified configuration", "Timeouts, retry policy, circuit breaker and health check interval, per type")
def test_each_type_has_its_settings() -> None:
    for kind in IntegrationType:
        config = default_config(kind)
        assert config.timeouts.connect < config.timeouts.overall
        assert config.retry_policy.max_retries >= 1
        assert config.circuit_breaker.failure_threshold is not None
        assert config.health_check_interval > 0


# ---- 2. Circuit breaker


@seed("2. Circuit breaker pattern", "CLOSED, OPEN, HALF_OPEN and the way between them")
def test_states(clock: FakeClock) -> None:
    database = quiet(degraded={"ramp": 0.0})
    assert database.status().state is CircuitState.CLOSED
    trip(4)
    assert database.status().state is CircuitState.CLOSED
    trip(1)  # failure_threshold consecutive failures
    assert database.status().state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):  # requests fail fast
        database.call(list)
    clock.advance(60.0)  # reset_timeout
    assert database.call(len, "ab") == 2
    assert database.status().state is CircuitState.HALF_OPEN
    assert database.call(len, "ab") == 2  # success_threshold consecutive successes
    assert database.status().state is CircuitState.CLOSED


@seed("2. Circuit breaker pattern", "Monitoring: getCircuitBreakerStatus")
def test_monitoring() -> None:
    quiet()
    trip()
    status = get_circuit_breaker_status("database")
    assert status.state == "OPEN"
    assert status.failures == 5
    assert status.failure_rate is None or 0 <= status.failure_rate <= 1
    reset_circuit_breaker("database")
    assert get_circuit_breaker_status("database").state == "CLOSED"


# ---- 3. Fallbacks


@seed("3. Fallback strategies", "Priority: cache, last known, simulated, mock, error response")
def test_priorities() -> None:
    quiet()
    asked: list[str] = []

    def empty(kind: FallbackType) -> Fallback:
        def handler() -> None:
            asked.append(kind.value)
            raise LookupError(kind)

        return Fallback(kind, handler)

    def fail() -> None:
        raise ConnectionError("gone")

    last = database_fallbacks.error_response("try again later")
    kinds = [FallbackType.MOCK, FallbackType.CACHE, FallbackType.SIMULATED, FallbackType.LAST_KNOWN]
    result = with_integration_resilience(
        IntegrationType.DATABASE, "database", fail, fallbacks=[last, *map(empty, kinds)]
    )
    assert asked == ["cache", "last_known", "simulated", "mock"]
    assert result.fallback_type is FallbackType.ERROR_RESPONSE
    assert not result.success
    assert result.data["error"] == "try again later"


@seed("3. Fallback strategies", "Usage: fallbackManager.executeWithFallback")
def test_execute_with_fallback(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    quiet()
    cache = {"robots_list": ROBOTS}

    async def main() -> Any:
        result = await fallback_manager.execute_with_fallback(
            integration_type=IntegrationType.DATABASE,
            integration_name="database",
            primary_operation=lambda: db.get_robots(),
            fallbacks=[
                database_fallbacks.cache_first("robots_list", cache.get),
                database_fallbacks.mock_data([]),
            ],
        )
        if result.fallback_used:
            print(f"Fallback used: {result.fallback_type}")
        return result

    assert not asyncio.run(main()).fallback_used
    db.error = ConnectionError("gone")
    result = asyncio.run(main())
    assert result.success
    assert result.data == ROBOTS
    assert isinstance(result.error, IntegrationError)  # the primary error is kept
    assert capsys.readouterr().out == "Fallback used: cache\n"
    cache.clear()
    assert asyncio.run(main()).fallback_type is FallbackType.MOCK


# ---- 4. Degraded mode


@seed("4. Degraded mode", "Enters when the circuit breaker trips, and ramps back")
def test_a_trip_degrades(clock: FakeClock) -> None:
    database = quiet()
    assert not is_degraded("database")
    trip()
    assert is_degraded("database")
    clock.advance(60.0)
    for _ in range(2):
        database.call(list)
    assert get_circuit_breaker_status("database").state == "CLOSED"
    assert get_circuit_breaker_status("database").capacity == pytest.approx(0.5)
    clock.advance(10.0)
    assert not is_degraded("database")


@seed("4. Degraded mode", "Limits operations to a percentage, exactly")
def test_partial_functionality() -> None:
    service = failsoft.integration("model", IntegrationType.AI_SERVICE)
    answer = service.guard(lambda: "here", fallbacks=[ai_fallbacks.canned("later")])
    for capacity in (0.5, 0.25):
        enter_degraded_mode(IntegrationType.AI_SERVICE, capacity)
        answers = [answer() for _ in range(400)]
        assert abs(answers.count("here") - 400 * capacity) <= 1
    exit_degraded_mode(IntegrationType.AI_SERVICE)
    assert [answer() for _ in range(100)].count("here") == 100


@seed("4. Degraded mode", "Usage: enterDegradedMode, isDegraded, shouldLimitOperations, exitDegradedMode")
def test_degraded_usage() -> None:
    enter_degraded_mode(IntegrationType.AI_SERVICE, 0.75)

    def operation() -> Any:
        if is_degraded(IntegrationType.AI_SERVICE) and should_limit_operations(IntegrationType.AI_SERVICE):
            return {"data": None, "message": "Service degraded, please try again later"}
        return {"data": 42}

    answers = [operation()["data"] for _ in range(100)]
    assert abs(answers.count(42) - 75) <= 1
    exit_degraded_mode(IntegrationType.AI_SERVICE)
    assert not is_degraded(IntegrationType.AI_SERVICE)
    assert operation() == {"data": 42}


# ---- 5. Health monitoring


@seed("5. Health monitoring", "Health check API: registerHealthCheck")
def test_register_health_check(clock: FakeClock) -> None:
    alerts: list[str] = []
    up = SimpleNamespace(answer=True)

    async def check() -> dict[str, object]:
        start = time.monotonic()
        return {"success": up.answer, "latency": time.monotonic() - start}

    def on_health_change(status: Any) -> None:
        if not status.healthy:
            alerts.append(f"Database is unhealthy: {status}")

    integration_health_monitor.register_health_check(
        integration_type=IntegrationType.DATABASE,
        integration_name="database",
        check=check,
        interval=30.0,
        timeout=10.0,
        on_health_change=on_health_change,
    )

    async def main() -> None:
        async with integration_health_monitor:
            for answer in (True, False):
                up.answer = answer
                for _ in range(10):
                    clock.advance(35.0)
                    for _ in range(5):
                        await asyncio.sleep(0)

    asyncio.run(main())
    status = get_all_integration_health()["database"]
    assert len(alerts) == 1
    assert "Database is unhealthy" in alerts[0]
    assert not status.healthy
    assert status.consecutive_failures > 1
    assert status.consecutive_successes == 0
    assert 0 < status.error_rate < 1


@seed("5. Health monitoring", "Latency with p50, p95, p99 percentiles, error rate, consecutive successes and failures")
def test_health_from_traffic() -> None:
    database = quiet()
    for _ in range(50):
        database.call(len, "ab")
    health = get_all_integration_health()["database"]
    assert health.healthy
    assert 0 < health.p50_latency <= health.p95_latency <= health.p99_latency
    assert health.error_rate == 0.0


# ---- 6. Standardized errors


@seed("6. Standardized error responses", "Error categories")
def test_categories() -> None:
    assert [category.value for category in ErrorCategory] == [
        "TIMEOUT", "RATE_LIMIT", "NETWORK", "SERVER_ERROR", "CLIENT_ERROR", "VALIDATION", "UNKNOWN",
    ]  # fmt: skip


@seed("6. Standardized error responses", "Error format")
def test_error_format() -> None:
    database = quiet()

    @database.guard(details={"timeoutMs": 10000, "query": "SELECT * FROM robots"})
    def get_robots() -> None:
        raise TimeoutError("Database query timed out after 10s")

    before = time.time()
    error = get_robots.outcome().error
    assert error is not None
    assert error.code == "DB_TIMEOUT"
    assert error.category is ErrorCategory.TIMEOUT
    assert "Database query timed out after 10s" in error.message
    assert error.details["timeoutMs"] == 10000
    assert error.details["query"] == "SELECT * FROM robots"
    assert isinstance(error.original_error, TimeoutError)
    assert before <= error.timestamp <= time.time()
    assert error.retryable
    assert error.integration_type is IntegrationType.DATABASE
    assert json.loads(json.dumps(error.to_dict()))["code"] == "DB_TIMEOUT"


# ---- 7. Operation metrics


@seed("7. Operation metrics", "Metrics API: getMetrics")
def test_get_metrics() -> None:
    database = quiet()
    answers = iter([*range(245), *[ConnectionError("gone")] * 5])

    @database.guard(operation="getRobots")
    def get_robots() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    for _ in range(250):
        get_robots.outcome()
    metrics = integration_metrics.get_metrics("database", "getRobots")
    assert metrics.count == 250
    assert metrics.avg_latency > 0
    assert 0 < metrics.p95_latency <= metrics.p99_latency
    assert metrics.error_count == 5
    assert metrics.error_rate == pytest.approx(0.02)


@seed("7. Operation metrics", "Request deduplication")
def test_deduplication(db: Database) -> None:
    get_robots = quiet().guard(db.get_robots, dedupe=True)

    async def main() -> list[Any]:
        return await asyncio.gather(*(get_robots() for _ in range(20)))

    assert asyncio.run(main()) == [ROBOTS] * 20
    assert db.calls == 1
    assert get_robots.metrics().deduplicated == 19


# ---- Usage examples


@seed("Usage examples", "Basic resilient operation")
def test_basic(db: Database, capsys: pytest.CaptureFixture[str]) -> None:
    quiet()

    async def main() -> None:
        result = await with_integration_resilience(
            IntegrationType.DATABASE,
            "database",
            lambda: db.get_robots(),
        )
        if result.success:
            print("Operation succeeded:", result.data)
            print("Metrics:", result.metrics)
        else:
            print("Operation failed:", result.error)
            print("Retryable:", result.error.retryable)

    asyncio.run(main())
    assert "Operation succeeded: [{'id': 1}, {'id': 2}]\nMetrics: OperationMetrics(count=1" in capsys.readouterr().out
    db.error = ConnectionError("gone")
    asyncio.run(main())
    assert capsys.readouterr().out == "Operation failed: <lambda>: gone\nRetryable: True\n"


@seed("Usage examples", "Operation with fallbacks")
def test_with_fallbacks(db: Database) -> None:
    quiet()
    db.error = ConnectionError("gone")
    cache: dict[str, Any] = {}

    async def main() -> Any:
        return await with_integration_resilience(
            IntegrationType.DATABASE,
            "database",
            lambda: db.get_robots(),
            fallbacks=[
                database_fallbacks.cache_first("robots", cache.get),
                database_fallbacks.mock_data([]),
            ],
        )

    result = asyncio.run(main())
    assert (result.success, result.data, result.fallback_type) == (True, [], FallbackType.MOCK)


@seed("Usage examples", "Create reusable operation")
def test_reusable(db: Database) -> None:
    get_robots_with_resilience = create_integration_operation(
        IntegrationType.DATABASE,
        "database",
        db.get_robots,
    )
    for _ in range(3):
        assert run(get_robots_with_resilience()).data == ROBOTS


@seed("Usage examples", "Health dashboard")
def test_health_dashboard(capsys: pytest.CaptureFixture[str]) -> None:
    quiet().call(len, "ab")
    failsoft.integration("model", IntegrationType.AI_SERVICE).force_open()
    assert set(get_all_integration_health()) == {"database", "model"}
    summary = get_circuit_breaker_summary()
    print(f"Total: {summary.total}, Healthy: {summary.healthy}, Unhealthy: {summary.unhealthy}")
    for name, data in get_metrics_summary().items():
        print(f"{name}: {data.avg_latency * 1000:.0f} ms avg, {data.error_rate * 100:.0f} % error rate")
    assert capsys.readouterr().out == ("Total: 2, Healthy: 1, Unhealthy: 1\ndatabase.len: 0 ms avg, 0 % error rate\n")


# ---- Configuration


@pytest.mark.parametrize(
    ("kind", "timeouts", "retries", "multiplier", "jitter", "opens", "closes", "interval"),
    [
        (IntegrationType.DATABASE, (5, 10, 15, 30), 3, 2.0, "full", 5, 2, 30),
        (IntegrationType.AI_SERVICE, (5, 30, 10, 60), 3, 1.5, "full", 3, 2, 60),
        (IntegrationType.MARKET_DATA, (2, 5, 2, 10), 2, 1.5, "full", 10, 5, 10),
        (IntegrationType.CACHE, (1, 2, 2, 5), 1, 1.0, "none", 20, 10, 60),
    ],
)
@seed("Configuration", "Integration-specific settings: database, AI service, market data, cache")
def test_presets(
    kind: IntegrationType,
    timeouts: tuple[float, ...],
    retries: int,
    multiplier: float,
    jitter: str,
    opens: int,
    closes: int,
    interval: float,
) -> None:
    config = default_config(kind)
    limits = config.timeouts
    assert (limits.connect, limits.read, limits.write, limits.overall) == timeouts
    policy, breaker = config.retry_policy, config.circuit_breaker
    assert (policy.max_retries, policy.backoff_multiplier, policy.jitter) == (retries, multiplier, jitter)
    assert (breaker.failure_threshold, breaker.success_threshold) == (opens, closes)
    assert config.health_check_interval == interval


# ---- Benefits, dashboard, best practices


@seed("Monitoring dashboard", "The six key metrics")
def test_key_metrics() -> None:
    database = quiet()
    get = database.guard(lambda: 1, operation="get", fallbacks=[database_fallbacks.mock_data(0)])
    get()
    trip()
    get()
    enter_degraded_mode("database", 0.25)
    health = get_all_integration_health()["database"]
    metrics = get_metrics_summary()["database.get"]
    assert not health.healthy  # 1. health status
    assert get_circuit_breaker_summary().states == {CircuitState.OPEN: 1}  # 2. breaker states
    assert 0 < health.error_rate <= 1  # 3. error rates
    assert metrics.p99_latency >= metrics.p50_latency > 0  # 4. latency
    assert metrics.fallbacks == 1  # 5. fallback usage
    assert is_degraded("database")  # 6. degraded mode, and at what level
    assert get_circuit_breaker_status("database").capacity == 0.0


@seed("Best practices", "Log all integration errors with context")
def test_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    database = quiet()

    @database.guard(details={"query": "SELECT 1"})
    def query() -> None:
        raise ConnectionError("gone")

    with caplog.at_level(logging.WARNING, "failsoft"), pytest.raises(ConnectionError):
        query()
    (record,) = caplog.records
    assert record.__dict__["integration"] == "database"
    assert record.__dict__["code"] == "DB_NETWORK"
    assert record.__dict__["details"]["query"] == "SELECT 1"


@seed("Benefits", "Debugging: why is it in the state it is in")
def test_explain() -> None:
    quiet()
    trip()
    assert "CLOSED -> OPEN" in str(failsoft.explain("database"))
