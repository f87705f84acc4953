"""Settings: presets to the letter, validation that lets nothing odd through, and the seed's own objects."""

import copy
import math
import pickle
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import (
    CircuitBreakerConfig,
    CircuitState,
    ErrorCategory,
    FallbackType,
    IntegrationConfig,
    IntegrationType,
    Jitter,
    RetryPolicy,
    Timeouts,
    default_config,
)
from failsoft.records import field_names, replace, values

SEED_RETRYABLE = {ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR}
PARTS = {"timeouts": Timeouts, "retry_policy": RetryPolicy, "circuit_breaker": CircuitBreakerConfig}

SECONDS = [
    *((Timeouts, "timeouts", name) for name in ("connect", "read", "write", "overall")),
    *((RetryPolicy, "retry_policy", name) for name in ("initial_delay", "max_delay")),
    *(
        (CircuitBreakerConfig, "circuit_breaker", name)
        for name in ("timeout", "reset_timeout", "reset_max", "slow_call", "latency_limit", "window")
    ),
]
FRACTIONS = [
    (CircuitBreakerConfig, "circuit_breaker", name)
    for name in ("failure_rate", "slow_rate", "latency_quantile", "reset_jitter")
]
FACTORS = [
    (RetryPolicy, "retry_policy", "backoff_multiplier"),
    (CircuitBreakerConfig, "circuit_breaker", "reset_growth"),
]
COUNTS = [
    (RetryPolicy, "retry_policy", "max_retries"),
    *(
        (CircuitBreakerConfig, "circuit_breaker", name)
        for name in (
            "failure_threshold",
            "success_threshold",
            "half_open_max_calls",
            "minimum_calls",
            "count_window",
        )
    ),
]
NUMBERS = SECONDS + FRACTIONS + FACTORS + COUNTS


def test_enums_are_strings_spelled_as_in_the_seed():
    assert [*IntegrationType] == ["database", "ai_service", "market_data", "cache", "external_api"]
    assert {"CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY"} == set(CircuitState)
    assert all(category.name == category.value for category in ErrorCategory)
    assert [*FallbackType] == ["cache", "last_known", "simulated", "mock", "error_response", "custom"]
    assert [*Jitter] == ["full", "equal", "decorrelated", "none"]
    assert f"{CircuitState.HALF_OPEN}" == "HALF_OPEN"


@pytest.mark.parametrize(
    ("kind", "timeouts", "retries", "breaker", "health"),
    [
        ("database", (5, 10, 15, 30), (3, 0.5, 10, 2, Jitter.FULL), (5, 2, 30, 3, 60), 30),
        ("ai_service", (5, 30, 10, 60), (3, 1, 20, 1.5, Jitter.FULL), (3, 2, 30, 2, 60), 60),
        ("market_data", (2, 5, 2, 10), (2, 0.1, 2, 1.5, Jitter.FULL), (10, 5, 5, 5, 15), 10),
        ("cache", (1, 2, 2, 5), (1, 0.05, 0.05, 1, Jitter.NONE), (20, 10, 2, 10, 15), 60),
        ("external_api", (5, 15, 10, 30), (3, 0.5, 10, 2, Jitter.FULL), (5, 2, 15, 3, 30), 30),
    ],
)
def test_presets_to_the_letter(kind, timeouts, retries, breaker, health):
    config = default_config(IntegrationType(kind))
    assert config.type is IntegrationType(kind)
    assert values(config.timeouts) == timeouts
    assert values(config.retry_policy)[:5] == retries
    assert values(config.circuit_breaker)[:5] == breaker
    assert config.health_check_interval == health


@pytest.mark.parametrize("kind", IntegrationType)
def test_presets_agree_on_what_fails(kind):
    config = default_config(kind)
    retryable = config.retry_policy.retryable_errors
    limited = set() if kind is IntegrationType.DATABASE else {ErrorCategory.RATE_LIMIT}
    assert retryable == SEED_RETRYABLE | limited
    assert config.circuit_breaker.trip_on == SEED_RETRYABLE | {ErrorCategory.UNKNOWN}
    assert config.circuit_breaker.failure_rate is None


@pytest.mark.parametrize("kind", [kind for kind in IntegrationType if kind != "database"])
def test_a_hung_attempt_leaves_time_for_a_retry_except_in_the_seeds_database(kind):
    config = default_config(kind)
    assert config.circuit_breaker.timeout <= config.timeouts.overall / 2
    database = default_config(IntegrationType.DATABASE)
    assert database.circuit_breaker.timeout == database.timeouts.overall


def test_default_config_takes_a_name():
    assert default_config("cache") is default_config(IntegrationType.CACHE)


@pytest.mark.parametrize("wrong", ["databse", "DATABASE", ErrorCategory.TIMEOUT])
def test_an_unknown_type_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^type must be one of database, .*, got "):
        default_config(wrong)


def test_a_misspelt_type_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'database'"):
        default_config("databse")


@pytest.mark.parametrize("wrong", [None, 1, b"database", IntegrationType])
def test_a_type_must_be_a_string(wrong):
    with pytest.raises(TypeError, match=r"^type must be one of"):
        IntegrationConfig(wrong)


@pytest.mark.parametrize(("part", "room", "name"), NUMBERS)
@pytest.mark.parametrize("wrong", [-1, -(10**400), 10**400, pytest.param(10**5000, id="unprintable")])
def test_a_number_out_of_range_is_refused(part, room, name, wrong):
    with pytest.raises(ValueError, match=rf"^{room}\.{name} must be an? (integer|number).* from .* to .*, got "):
        part(**{name: wrong})


@pytest.mark.parametrize(("part", "room", "name"), SECONDS + FRACTIONS + FACTORS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -0.5, -5e-324])
def test_a_float_out_of_range_is_refused(part, room, name, wrong):
    with pytest.raises(ValueError, match=rf"^{room}\.{name} must be a number.* from .* to .*, got "):
        part(**{name: wrong})


@pytest.mark.parametrize(("part", "room", "name"), NUMBERS)
@pytest.mark.parametrize("wrong", [True, False, "5", Decimal(5), Fraction(5), 5j, b"5", [5], object()])
def test_a_number_of_another_type_is_refused(part, room, name, wrong):
    with pytest.raises(TypeError, match=rf"^{room}\.{name} must be an? (integer|number).* from .* to .*, got "):
        part(**{name: wrong})


@pytest.mark.parametrize(("part", "room", "name"), COUNTS)
def test_a_count_refuses_floats(part, room, name):
    with pytest.raises(TypeError, match=rf"^{room}\.{name} must be an integer .*, got 3.0$"):
        part(**{name: 3.0})


OPTIONAL = {"failure_threshold", "failure_rate", "slow_rate", "slow_call", "latency_quantile"}
OPTIONAL |= {"latency_limit", "count_window", "reset_max"}


@pytest.mark.parametrize(("part", "room", "name"), [row for row in NUMBERS if row[2] not in OPTIONAL])
def test_none_is_refused_where_a_value_is_needed(part, room, name):
    with pytest.raises(TypeError, match=rf"^{room}\.{name} must be .*, got None$"):
        part(**{name: None})


@pytest.mark.parametrize(
    ("part", "name", "least", "most"),
    [
        (Timeouts, "overall", 1e-9, 1e9),
        (RetryPolicy, "max_retries", 0, 2**31 - 1),
        (RetryPolicy, "initial_delay", 0, 10),
        (RetryPolicy, "backoff_multiplier", 1, 1e6),
        (CircuitBreakerConfig, "failure_threshold", 1, 65535),
        (CircuitBreakerConfig, "success_threshold", 1, 65535),
        (CircuitBreakerConfig, "half_open_max_calls", 1, 64),
        (CircuitBreakerConfig, "reset_timeout", 0, 1e9),
        (CircuitBreakerConfig, "failure_rate", 1e-9, 1),
        (CircuitBreakerConfig, "count_window", 10, 1024),
        (CircuitBreakerConfig, "window", 1e-3, 1e9),
        (CircuitBreakerConfig, "reset_growth", 1, 1e6),
        (CircuitBreakerConfig, "reset_jitter", 0, 1),
    ],
)
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(part, name, least, most):
    for value in (least, most):
        assert getattr(part(**{name: value}), name) == value
    step = 1 if isinstance(most, int) else most / 1e6
    for value in (least - 1, most + step):
        with pytest.raises(ValueError, match=name):
            part(**{name: value})


@given(value=st.floats(1e-9, 1e9) | st.integers(1, 10**9))
def test_a_duration_is_kept_as_a_float(value):
    kept = Timeouts(read=value).read
    assert type(kept) is float
    assert kept == value


@given(value=st.floats() | st.integers() | st.booleans() | st.none() | st.text() | st.decimals())
def test_nothing_odd_is_accepted_silently(value):
    try:
        kept = [
            RetryPolicy(initial_delay=value, max_delay=1e9).initial_delay,
            Timeouts(connect=value).connect,
        ]
    except (TypeError, ValueError):
        return
    assert isinstance(value, (int, float))
    assert all(type(number) is float and 0 <= number <= 1e9 for number in kept)


def test_negative_zero_is_stored_as_zero():
    assert math.copysign(1, RetryPolicy(initial_delay=-0.0).initial_delay) == 1


def test_an_error_survives_a_value_that_cannot_be_shown():
    class Hostile:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(TypeError, match=r"timeouts\.read must be .*, got a Hostile that cannot be shown"):
        Timeouts(read=Hostile())


def test_an_error_does_not_print_a_page():
    with pytest.raises(TypeError) as caught:
        Timeouts(read="x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("given_as", "kept"),
    [
        (True, Jitter.FULL),
        (False, Jitter.NONE),
        ("equal", Jitter.EQUAL),
        (Jitter.DECORRELATED, Jitter.DECORRELATED),
    ],
)
def test_jitter_may_be_given_as_in_the_seed(given_as, kept):
    assert RetryPolicy(jitter=given_as).jitter is kept


@pytest.mark.parametrize(("wrong", "error"), [("ful", ValueError), (1, TypeError), (None, TypeError)])
def test_another_jitter_is_refused(wrong, error):
    with pytest.raises(error, match=r"^retry_policy\.jitter must be one of full, equal"):
        RetryPolicy(jitter=wrong)


@pytest.mark.parametrize(("part", "name"), [(RetryPolicy, "retryable_errors"), (CircuitBreakerConfig, "trip_on")])
class TestCategories:
    def test_any_iterable_of_names_will_do(self, part, name):
        kept = getattr(part(**{name: ["TIMEOUT", ErrorCategory.NETWORK, "TIMEOUT"]}), name)
        assert kept == frozenset({ErrorCategory.TIMEOUT, ErrorCategory.NETWORK})
        assert type(kept) is frozenset
        assert all(type(category) is ErrorCategory for category in kept)
        assert getattr(part(**{name: ()}), name) == frozenset()

    @pytest.mark.parametrize("wrong", ["TIMEOUT", ErrorCategory.TIMEOUT, None, 1, [1], b"TIMEOUT"])
    def test_another_type_is_refused(self, part, name, wrong):
        with pytest.raises(TypeError, match=name):
            part(**{name: wrong})

    def test_an_unknown_category_gets_the_nearest(self, part, name):
        with pytest.raises(ValueError, match=rf"{name} must be one of .*did you mean 'TIMEOUT'"):
            part(**{name: ["TIMEOUTS"]})


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        (
            RetryPolicy,
            {"initial_delay": 11},
            r"retry_policy\.initial_delay must be at most max_delay \(10.0\)",
        ),
        (CircuitBreakerConfig, {"slow_rate": 0.5}, r"circuit_breaker\.slow_rate needs slow_call"),
        (CircuitBreakerConfig, {"latency_quantile": 0.99}, "latency_quantile and latency_limit .* together"),
        (CircuitBreakerConfig, {"latency_limit": 1}, "latency_quantile and latency_limit .* together"),
        (CircuitBreakerConfig, {"failure_threshold": None}, r"circuit_breaker\.failure_threshold needs"),
        (CircuitBreakerConfig, {"failure_threshold": None, "slow_call": 1}, "failure_threshold needs"),
        (
            CircuitBreakerConfig,
            {"count_window": 9},
            r"count_window must be at least minimum_calls \(10\), got 9",
        ),
        (
            CircuitBreakerConfig,
            {"reset_max": 59},
            r"reset_max must be at least reset_timeout \(60.0\), got 59",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(part, settings, message):
    with pytest.raises(ValueError, match=message):
        part(**settings)


@pytest.mark.parametrize(
    "rule",
    [
        {"failure_rate": 0.5},
        {"slow_rate": 0.5, "slow_call": 1},
        {"latency_quantile": 0.99, "latency_limit": 1},
    ],
)
def test_another_rule_may_replace_the_seeds(rule):
    assert CircuitBreakerConfig(failure_threshold=None, **rule).failure_threshold is None


def test_an_attempt_may_be_allowed_longer_than_the_whole():
    config = default_config(IntegrationType.CACHE).with_(circuit_breaker={"timeout": 100})
    assert config.circuit_breaker.timeout == 100


def test_the_options_of_a_breaker_go_by_keyword():
    with pytest.raises(TypeError):
        CircuitBreakerConfig(5, 2, 30, 3, 60, 0.5)


@pytest.mark.parametrize("kind", IntegrationType)
def test_a_part_left_out_is_the_presets(kind):
    timeouts = Timeouts(1, 1, 1, 1)
    assert IntegrationConfig(kind) == default_config(kind)
    assert IntegrationConfig(type=kind.value, timeouts=timeouts) == default_config(kind).with_(timeouts=timeouts)


@pytest.mark.parametrize("room", PARTS)
@pytest.mark.parametrize("wrong", [None, {}, 5, Timeouts])
def test_a_part_of_another_type_is_refused(room, wrong):
    with pytest.raises(TypeError, match=f"^{room} must be a {PARTS[room].__name__}, got "):
        IntegrationConfig(IntegrationType.CACHE, **{room: wrong})


@pytest.mark.parametrize("wrong", [0, -1, math.nan, 10**400])
def test_the_health_check_interval_is_checked(wrong):
    with pytest.raises(ValueError, match=r"^health_check_interval must be a number of seconds"):
        IntegrationConfig(IntegrationType.CACHE, health_check_interval=wrong)


class TestWith:
    config = default_config(IntegrationType.DATABASE)

    def test_single_fields_of_parts(self):
        changed = self.config.with_(
            retry_policy={"max_retries": 5}, circuit_breaker={"reset_timeout": 1}, health_check_interval=7
        )
        assert changed.retry_policy == replace(self.config.retry_policy, max_retries=5)
        assert changed.circuit_breaker == CircuitBreakerConfig(reset_timeout=1)
        assert changed.health_check_interval == 7
        assert changed.timeouts is self.config.timeouts

    def test_whole_parts(self):
        assert self.config.with_(timeouts=Timeouts(overall=3)).timeouts.overall == 3

    def test_the_original_stays(self):
        self.config.with_(timeouts={"overall": 3})
        assert self.config == default_config(IntegrationType.DATABASE)

    def test_no_change_is_equal(self):
        assert self.config.with_() == self.config
        assert self.config.with_(timeouts={}) == self.config

    def test_changes_are_checked(self):
        with pytest.raises(ValueError, match=r"retry_policy\.max_retries must be .*, got -1"):
            self.config.with_(retry_policy={"max_retries": -1})
        with pytest.raises(TypeError, match="timeouts must be a Timeouts, got 5"):
            self.config.with_(timeouts=5)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"timeout": 1}, "^timeout is not a setting; did you mean 'timeouts'"),
            ({"retry_policy": {"max_retry": 1}}, r"^retry_policy\.max_retry is not .*mean 'max_retries'"),
            (
                {"circuit_breaker": {"zzz": 1}},
                r"^circuit_breaker\.zzz is not a setting; it must be one of failure",
            ),
            ({"timeouts": {1: 1}}, r"^timeouts\.1 is not a setting"),
        ],
    )
    def test_unknown_names_are_refused(self, changes, message):
        with pytest.raises(TypeError, match=message):
            self.config.with_(**changes)


SEED = {
    "type": "database",
    "timeouts": {"connect": 5000, "read": 10000, "write": 15000, "overall": 30000},
    "retryPolicy": {
        "maxRetries": 3,
        "initialDelay": 500,
        "maxDelay": 10000,
        "backoffMultiplier": 2,
        "jitter": True,
        "retryableErrors": ["TIMEOUT", "NETWORK", "SERVER_ERROR"],
    },
    "circuitBreaker": {
        "failureThreshold": 5,
        "successThreshold": 2,
        "timeout": 30000,
        "halfOpenMaxCalls": 3,
        "resetTimeout": 60000,
    },
}


class TestFromMillis:
    def test_the_seeds_example_is_the_database_preset(self):
        assert IntegrationConfig.from_millis(SEED) == default_config(IntegrationType.DATABASE)

    def test_the_seeds_example_may_be_spelled_with_our_enums(self):
        retryable = [ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR]
        spelled = {**SEED, "type": IntegrationType.DATABASE}
        spelled["retryPolicy"] = {**SEED["retryPolicy"], "retryableErrors": retryable}
        assert IntegrationConfig.from_millis(spelled) == default_config(IntegrationType.DATABASE)

    def test_every_number_of_the_seeds_object_is_read(self):
        config = IntegrationConfig.from_millis(
            {
                "type": IntegrationType.AI_SERVICE,
                "timeouts": {"connect": 1001, "read": 1002, "write": 1003, "overall": 1004},
                "retryPolicy": {
                    "maxRetries": 7,
                    "initialDelay": 0,
                    "maxDelay": 1005.5,
                    "backoffMultiplier": 1.25,
                    "jitter": False,
                    "retryableErrors": (ErrorCategory.RATE_LIMIT, "UNKNOWN"),
                },
                "circuitBreaker": {
                    "failureThreshold": 8,
                    "successThreshold": 9,
                    "timeout": 1006,
                    "halfOpenMaxCalls": 10,
                    "resetTimeout": 1007,
                },
                "healthCheckInterval": 1008,
            }
        )
        assert config == IntegrationConfig(
            IntegrationType.AI_SERVICE,
            Timeouts(1.001, 1.002, 1.003, 1.004),
            RetryPolicy(7, 0.0, 1.0055, 1.25, Jitter.NONE, {ErrorCategory.RATE_LIMIT, ErrorCategory.UNKNOWN}),
            CircuitBreakerConfig(8, 9, 1.006, 10, 1.007),
            1.008,
        )

    def test_what_is_left_out_is_the_presets(self):
        assert IntegrationConfig.from_millis({"type": "cache"}) == default_config(IntegrationType.CACHE)
        changed = IntegrationConfig.from_millis({"type": IntegrationType.CACHE, "timeouts": {"read": 250}})
        assert changed == default_config(IntegrationType.CACHE).with_(timeouts={"read": 0.25})

    def test_every_option_has_a_camel_case_name_and_every_duration_is_milliseconds(self):
        config = IntegrationConfig.from_millis(
            {
                "type": "market_data",
                "healthCheckInterval": 1500,
                "circuitBreaker": {
                    "failureThreshold": None,
                    "failureRate": 0.5,
                    "slowRate": 0.25,
                    "slowCall": 20,
                    "latencyQuantile": 0.99,
                    "latencyLimit": 40,
                    "minimumCalls": 7,
                    "window": 30_000,
                    "countWindow": 100,
                    "resetGrowth": 2,
                    "resetMax": 120_000,
                    "resetJitter": 0.5,
                    "tripOn": ["RATE_LIMIT"],
                },
            }
        )
        assert config.health_check_interval == 1.5
        assert config.circuit_breaker == replace(
            default_config(IntegrationType.MARKET_DATA).circuit_breaker,
            failure_threshold=None,
            failure_rate=0.5,
            slow_rate=0.25,
            slow_call=0.02,
            latency_quantile=0.99,
            latency_limit=0.04,
            minimum_calls=7,
            window=30,
            count_window=100,
            reset_growth=2,
            reset_max=120,
            reset_jitter=0.5,
            trip_on={"RATE_LIMIT"},
        )

    def test_the_object_stays(self):
        settings = copy.deepcopy(SEED)
        IntegrationConfig.from_millis(settings)
        assert settings == SEED

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "^type is missing; it must be one of database, "),
            ({"type": "databas"}, "^type must be .*did you mean 'database'"),
            (
                {"type": "cache", "retry_policy": {}},
                "^retry_policy is not a setting; did you mean 'retryPolicy'",
            ),
            ({"type": "cache", "timeouts": {"conect": 1}}, r"^timeouts\.conect is not .* mean 'connect'"),
            ({"type": "cache", "circuitBreaker": {"resetTimeOut": 1}}, "did you mean 'resetTimeout'"),
            ({"type": "cache", "timeouts": {"read": 0}}, r"^timeouts\.read must be .*, got 0.0"),
            ({"type": "cache", "timeouts": {"read": math.nan}}, r"^timeouts\.read must be .*, got nan"),
            ({"type": "cache", "timeouts": {"read": 10**400}}, r"^timeouts\.read must be "),
            ({"type": "cache", "timeouts": {"read": 1e300}}, r"^timeouts\.read must be "),
        ],
    )
    def test_wrong_values_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            IntegrationConfig.from_millis(settings)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (None, "^settings must be a Mapping, got None"),
            ([], "^settings must be a Mapping"),
            ({"type": "cache", "timeouts": [1]}, "^timeouts must be a Timeouts"),
            ({"type": "cache", "timeouts": {"read": "250"}}, r"^timeouts\.read must be .*, got '250'"),
            ({"type": "cache", "timeouts": {"read": True}}, r"^timeouts\.read must be .*, got True"),
            ({"type": "cache", "timeouts": {"read": Decimal(1)}}, r"^timeouts\.read must be "),
        ],
    )
    def test_wrong_types_are_refused(self, settings, message):
        with pytest.raises(TypeError, match=message):
            IntegrationConfig.from_millis(settings)

    @given(st.integers(1, 10**12))
    def test_milliseconds_become_the_nearest_seconds(self, millis):
        config = IntegrationConfig.from_millis({"type": "cache", "timeouts": {"overall": millis}})
        assert config.timeouts.overall == millis / 1000


@pytest.mark.parametrize("kind", IntegrationType)
class TestValues:
    def test_frozen(self, kind):
        config = default_config(kind)
        for part in (config, config.timeouts, config.retry_policy, config.circuit_breaker):
            name = field_names(type(part))[0]
            with pytest.raises(AttributeError, match="frozen"):
                setattr(part, name, 1)
            assert not hasattr(part, "__dict__")

    def test_equal_by_value_and_hashable(self, kind):
        config = default_config(kind)
        same = config.with_(timeouts={"connect": config.timeouts.connect})
        assert same is not config
        assert same == config
        assert hash(same) == hash(config)
        assert config != config.with_(health_check_interval=1234)

    def test_config_travels(self, kind):
        config = default_config(kind)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(config, protocol)) == config
        assert copy.deepcopy(config) == copy.copy(config) == config


def test_importing_the_package_imports_nothing_heavy():
    lines = "import sys, failsoft; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout
    assert not {
        "asyncio",
        "ssl",
        "json",
        "urllib.error",
        "http.client",
        "email.utils",
        "difflib",
        "numpy",
    } & {*loaded.split()}
