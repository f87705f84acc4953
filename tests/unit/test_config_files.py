"""Settings from files and variables: what is read, what is refused, and what `Registry.configure` does with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from failsoft import (
    AdaptiveThrottle,
    Bulkhead,
    ChaosConfig,
    CircuitBreakerConfig,
    ErrorCategory,
    IntegrationConfig,
    IntegrationType,
    Jitter,
    RateLimit,
    Registry,
    RetryPolicy,
    Timeouts,
    default_config,
    load_config,
)
from failsoft.config import DURATIONS, PARTS
from failsoft.config_values import parse_duration
from failsoft.records import field_names

Write = Callable[..., Path]

BINANCE = """
[integrations.binance]
type = "market_data"
health_check_interval = 5

[integrations.binance.timeouts]
read = "250ms"
overall = 1.5

[integrations.binance.retry_policy]
jitter = false
retryable_errors = ["TIMEOUT", "NETWORK"]

[integrations.binance.circuit_breaker]
failure_threshold = "none"
failure_rate = 0.5
reset_timeout = "2m"
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith("FAILSOFT_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "failsoft.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


def one(setting: str, value: str, kind: str = "cache", more: str = "") -> str:
    """A file with one integration, and one setting besides its type."""
    return f'[integrations.db]\ntype = "{kind}"\n{setting} = {value}\n{more}'


def variable(setting: str) -> str:
    """The variable that sets it for `one`."""
    return f"FAILSOFT_DB__{setting.upper().replace('.', '__')}"


def read(config: IntegrationConfig, setting: str) -> object:
    value: object = config
    for name in setting.split("."):
        value = getattr(value, name)
    return value


def every(kind: str) -> list[str]:
    """The settings, by dotted name, whose annotation begins with `kind`."""
    rooms: list[tuple[str, type]] = [("", IntegrationConfig), *PARTS.items()]
    return [
        f"{room}.{field}".lstrip(".")
        for room, config in rooms
        for field in field_names(config)
        if str(config.__annotations__[field]).startswith(kind)
    ]


SECONDS = [setting for setting in every("float") if setting.rpartition(".")[2] in DURATIONS]
NUMBERS = [setting for setting in every("float") if setting not in SECONDS]
COUNTS = every("int")
OPTIONAL = every("float | None") + every("int | None")

NEEDS = {  # what must stand beside a setting for it to make sense
    "retry_policy.initial_delay": "retry_policy.max_delay = 60",
    "circuit_breaker.latency_limit": "circuit_breaker.latency_quantile = 0.5",
    "circuit_breaker.reset_max": "circuit_breaker.reset_timeout = 0.1",
    "rate_limit.burst": "rate_limit.rate = 1",
    "rate_limit.max_wait": "rate_limit.rate = 1",
    "bulkhead.max_wait": "bulkhead.max_concurrent = 1",
}


class TestFile:
    def test_what_is_given_is_read_and_the_rest_is_the_presets(self, write: Write) -> None:
        assert load_config(write(BINANCE)) == {
            "binance": default_config(IntegrationType.MARKET_DATA).with_(
                health_check_interval=5,
                timeouts={"read": 0.25, "overall": 1.5},
                retry_policy={"jitter": Jitter.NONE, "retryable_errors": {"TIMEOUT", "NETWORK"}},
                circuit_breaker={"failure_threshold": None, "failure_rate": 0.5, "reset_timeout": 120},
            )
        }

    @pytest.mark.parametrize("kind", IntegrationType)
    def test_a_type_alone_is_its_preset(self, write: Write, kind: IntegrationType) -> None:
        assert load_config(write(f'[integrations.it]\ntype = "{kind}"')) == {"it": default_config(kind)}

    def test_integrations_keep_the_order_of_the_file_and_their_names(self, write: Write) -> None:
        names = ["z", "database", "binance.us", "Binance 2", "börse", "-"]
        text = "".join(f'[integrations."{name}"]\ntype = "cache"\n' for name in names)
        assert list(load_config(write(text))) == names

    @pytest.mark.parametrize("text", ["", "# nothing\n", "[integrations]\n"])
    def test_a_file_without_integrations_is_none(self, write: Write, text: str) -> None:
        assert load_config(write(text)) == {}

    def test_a_path_may_be_relative_a_string_or_an_object(self, write: Write) -> None:
        path = write(BINANCE, "other.conf")
        assert list(load_config(path)) == list(load_config(str(path))) == list(load_config("other.conf")) == ["binance"]

    @pytest.mark.parametrize("wrong", [1, 1.5, [], object()])
    def test_a_path_of_another_type_is_refused(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"^path must be a string or a path, got "):
            load_config(wrong)

    def test_pyproject_has_them_in_its_tool_table(self, write: Write) -> None:
        text = BINANCE.replace("[integrations", "[tool.failsoft.integrations")
        path = write('[project]\nname = "mine"\n[tool.ruff]\nline-length = 100\n' + text, "pyproject.toml")
        assert load_config(path) == load_config(write(BINANCE))

    @pytest.mark.parametrize("text", ["", "[tool.ruff]\n", "tool = 5\n", BINANCE])
    def test_a_pyproject_asked_for_has_to_have_the_table(self, write: Write, text: str) -> None:
        with pytest.raises(ValueError, match=r"/pyproject\.toml has no table \[tool\.failsoft\]$"):
            load_config(write(text, "pyproject.toml"))

    def test_the_environment_is_not_read_when_another_is_given(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAILSOFT_BINANCE__HEALTH_CHECK_INTERVAL", "7")
        path = write(BINANCE)
        assert load_config(path)["binance"].health_check_interval == 7
        assert load_config(path, environ={})["binance"].health_check_interval == 5


class TestWhere:
    pyproject = '[tool.failsoft.integrations.shared]\ntype = "cache"\n'

    def test_nothing_is_found_in_an_empty_folder(self) -> None:
        assert load_config() == {}

    def test_failsoft_toml_goes_before_pyproject(self, write: Write) -> None:
        write(self.pyproject, "pyproject.toml")
        assert list(load_config()) == ["shared"]
        path = write(BINANCE)
        assert list(load_config()) == ["binance"]
        path.write_text("")
        assert load_config() == {}

    @pytest.mark.parametrize("text", ["", "[tool.ruff]\n", "tool = 5\n", BINANCE])
    def test_a_pyproject_of_others_is_passed_by(self, write: Write, text: str) -> None:
        write(text, "pyproject.toml")
        assert load_config() == {}

    def test_a_broken_file_is_not_passed_by(self, write: Write) -> None:
        write("[tool", "pyproject.toml")
        with pytest.raises(ValueError, match=r"/pyproject\.toml is not valid TOML: "):
            load_config()
        write("[integrations")
        with pytest.raises(ValueError, match=r"/failsoft\.toml is not valid TOML: "):
            load_config()

    def test_a_parent_folder_is_not_searched(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(BINANCE)
        (path.parent / "below").mkdir()
        monkeypatch.chdir(path.parent / "below")
        assert load_config() == {}

    def test_a_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere") as caught:
            load_config("nowhere.toml")
        assert caught.value.filename == str(tmp_path / "nowhere.toml")

    def test_a_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError) as caught:
            load_config(tmp_path)
        assert caught.value.filename == str(tmp_path)
        (tmp_path / "failsoft.toml").mkdir()
        with pytest.raises(IsADirectoryError, match=r"failsoft\.toml"):
            load_config()


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("integration = 1", r"integration is not a setting; did you mean 'integrations'\?"),
            ("[tool.failsoft]", r"tool is not a setting; it must be one of integrations"),
            ("integrations = 1", "integrations must be a table, got 1"),
            ("[[integrations]]", r"integrations must be a table, got \[\{\}\]"),
            ("[integrations]\ntype = 'cache'", "integrations.type must be a table, got 'cache'"),
            ("[[integrations.db]]", r"integrations\.db must be a table, got \[\{\}\]"),
            ("[integrations.'']\ntype = 'cache'", "integrations must not have an empty name"),
            ("[integrations.db]", "integrations.db.type is missing; it must be one of database, ai_service"),
            ("[integrations.db]\ntimeouts.read = 1", "integrations.db.type is missing"),
            ("[integrations.'a.b']", r"integrations\.'a\.b'\.type is missing"),
            ("[integrations.a.b]\ntype = 'cache'", "integrations.a.b is not a setting"),
            (one("kind", "1"), "integrations.db.kind is not a setting; it must be one of type, timeouts"),
            (one("jitter", "1"), r"integrations\.db\.jitter is not a setting; it is one of retry_policy$"),
            (one("timeout", "1"), r"integrations\.db\.timeout is not a setting; did you mean 'timeouts'\?"),
            (
                one("circuit_breaker.reset_timout", "1"),
                r"integrations\.db\.circuit_breaker\.reset_timout is not a setting; did you mean 'reset_timeout'\?",
            ),
            (one("circuit_breaker.resetTimeout", "1"), "did you mean 'reset_timeout'"),
            (one("timeouts.'read.x'", "1"), "is not a setting"),
            (one("health_check_interval", "5", "databas"), r"integrations\.db\.type must be .*mean 'database'\?"),
            ("[integrations.db]\ntype = 5", "integrations.db.type must be one of .*, got 5"),
            ("[integrations.db]\ntype = ['cache']", r"integrations\.db\.type must be one of .*, got \['cache'\]"),
            (one("timeouts", "5"), "integrations.db.timeouts must be a table, got 5"),
            (one("timeouts", "'5s'"), "integrations.db.timeouts must be a table, got '5s'"),
            (one("timeouts", "[{ read = 5 }]"), "integrations.db.timeouts must be a table, got"),
            (one("timeouts.read", "{ seconds = 5 }"), "integrations.db.timeouts.read must be a number of seconds"),
            (one("timeouts.read", "[5]"), r"integrations\.db\.timeouts\.read must be .*, got \[5\]"),
            (one("timeouts.read", "true"), "integrations.db.timeouts.read must be .*, got True"),
            (one("timeouts.read", "2026-01-07"), "integrations.db.timeouts.read must be .*, got datetime.date"),
            (one("timeouts.read", "nan"), "integrations.db.timeouts.read must be .*, got nan"),
            (one("timeouts.read", "-inf"), "integrations.db.timeouts.read must be .*, got -inf"),
            (one("timeouts.read", "1e400"), "integrations.db.timeouts.read must be .*, got inf"),
            (one("timeouts.read", "1" + "0" * 400), "integrations.db.timeouts.read must be .*, got 1000"),
            (one("timeouts.read", "-1"), "integrations.db.timeouts.read must be .*, got -1"),
            (one("retry_policy.max_retries", "3.0"), "retry_policy.max_retries must be an integer .*, got 3.0"),
            (one("retry_policy.max_retries", "'3'"), "retry_policy.max_retries must be an integer .*, got '3'"),
            (one("retry_policy.max_retries", "'3s'"), "retry_policy.max_retries must be an integer .*, got '3s'"),
            (one("retry_policy.max_retries", "'none'"), "retry_policy.max_retries must be an integer .*'none'"),
            (one("circuit_breaker.failure_rate", "'1s'"), "failure_rate must be a number from .*, got '1s'"),
            (one("retry_policy.jitter", "'ful'"), r"integrations\.db\.retry_policy\.jitter must .* mean 'full'\?"),
            (one("retry_policy.jitter", "1"), "integrations.db.retry_policy.jitter must be one of"),
            (one("retry_policy.retryable_errors", "'TIMEOUT'"), "retryable_errors must be a set .*, got 'TIMEOUT'"),
            (one("retry_policy.retryable_errors", "['TIMEOUTS']"), r"retryable_errors must .* mean 'TIMEOUT'\?"),
            (one("retry_policy.retryable_errors", "[['TIMEOUT']]"), "retryable_errors must be one of"),
            (one("circuit_breaker.trip_on", "{ TIMEOUT = true, x = 1 }"), "trip_on must be one of .*, got 'x'"),
            (one("retry_policy.initial_delay", "1"), r"initial_delay must be at most max_delay \(0.05\), got 1.0"),
            (one("circuit_breaker.latency_limit", "1"), "latency_quantile and latency_limit must be given together"),
        ],
    )
    def test_whatever_is_wrong_is_named_with_its_file_and_place(self, write: Write, text: str, message: str) -> None:
        path = write(text)
        with pytest.raises(ValueError, match=rf"^{path}: .*{message.removeprefix('integrations.db.')}") as caught:
            load_config(path)
        assert len(str(caught.value)) < 400
        if message.startswith("integrations.db."):
            assert str(caught.value).startswith(f"{path}: integrations.db.")

    def test_a_place_in_pyproject_begins_with_the_tool(self, write: Write) -> None:
        path = write('[tool.failsoft.integrations.db]\ntype = "cache"\ntimeouts.read = 0\n', "pyproject.toml")
        with pytest.raises(ValueError, match=rf"^{path}: tool\.failsoft\.integrations\.db\.timeouts\.read must be "):
            load_config(path)
        path.write_text("[tool]\nfailsoft = 5\n")
        with pytest.raises(ValueError, match=rf"^{path}: tool\.failsoft must be a table, got 5$"):
            load_config(path)
        path.write_text("[tool.failsoft.integration.db]\n")
        with pytest.raises(ValueError, match=rf"^{path}: tool\.failsoft\.integration is not a setting; did you mean"):
            load_config(path)

    @pytest.mark.parametrize(
        "text",
        [
            b"[integrations.b\xf6rse]\ntype = 'cache'",
            b"\xff\xfe[\x00",
            b"\x00",
            b"[integrations",
            b"a = 1\na = 2",
            b"a = " + b"9" * 5000,
            b"{}",
        ],
    )
    def test_what_is_not_toml_is_refused_with_its_file(self, write: Write, text: bytes) -> None:
        path = write(text)
        with pytest.raises(ValueError, match=rf"^{path} is not valid TOML: "):
            load_config(path)

    def test_a_file_made_to_exhaust_the_stack(self, write: Write) -> None:
        path = write("a = " + "[" * 100_000)
        with pytest.raises(ValueError, match=rf"^{path} is nested too deeply"):
            load_config(path)

    def test_one_wrong_integration_spoils_all(self, write: Write) -> None:
        with pytest.raises(ValueError, match="type is missing"):
            load_config(write(BINANCE + "[integrations.other]\n"))


UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
NONSENSE = [
    "", " ", "5", "ms", "s5", "5 s", " 5s", "5s ", "5s\n", "\n5s", "+5s", "-5s", "5.s", ".5s", "1.2.3s", "1e3s", "5S",
    "5MS", "5d", "5w", "5sec", "5 seconds", "1m30s", "5ss", "5\u00b5s", "\u0665s", "1.\u0665s", "5_0s", "5,0s", "0x5s",
    "nan", "inf", "nans", "infs", "None", "5s;", "5\x00s", "1" * 21 + "s", "1." + "1" * 21 + "s", "1" * 5000 + "s",
]  # fmt: skip


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("250ms", 0.25), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), ("500us", 0.0005), ("10ns", 1e-8)],
    )
    def test_units(self, write: Write, text: str, seconds: float) -> None:
        assert load_config(write(one("timeouts.read", f"'{text}'")))["db"].timeouts.read == seconds

    @pytest.mark.parametrize("setting", SECONDS)
    def test_every_duration_may_have_one(self, write: Write, setting: str) -> None:
        assert read(load_config(write(one(setting, "'9000ms'", more=NEEDS.get(setting, ""))))["db"], setting) == 9.0

    @pytest.mark.parametrize("setting", [*NUMBERS, *COUNTS, "retry_policy.jitter"])
    def test_nothing_else_may(self, write: Write, setting: str) -> None:
        with pytest.raises(ValueError, match=rf"integrations\.db\.{setting} must be .*, got '1s'"):
            load_config(write(one(setting, "'1s'", more=NEEDS.get(setting, ""))))

    @given(
        whole=st.integers(0, 10**20 - 1),
        part=st.from_regex("[0-9]{0,20}", fullmatch=True),
        unit=st.sampled_from([*UNITS]),
    )
    @example(whole=1, part="1", unit="m")
    @example(whole=0, part="29", unit="h")
    @example(whole=10**20 - 1, part="9" * 20, unit="h")
    def test_the_nearest_float_is_what_is_read(self, whole: int, part: str, unit: str) -> None:
        number = f"{whole}.{part}" if part else f"{whole}"
        assert parse_duration(number + unit) == float(Fraction(number) * UNITS[unit])

    @pytest.mark.parametrize("text", NONSENSE)
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"ns, us, ms, s, m, h"):
            parse_duration(text)

    @given(st.text(max_size=12) | st.text("0123456789.e+-_nusmh ", max_size=8))
    def test_nothing_but_the_grammar_is_read(self, text: str) -> None:
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = text[len(digits) :]
        whole, point, part = digits.partition(".")
        allowed = unit in UNITS and all(
            run.isascii() and run.isdigit() for run in ([whole, part] if point else [whole])
        )
        try:
            seconds = parse_duration(text)
        except ValueError:
            assert not allowed
        else:
            assert allowed
            assert 0 <= seconds < float("inf")

    @pytest.mark.parametrize("text", [text for text in NONSENSE if text.isprintable() and len(text) < 30])
    def test_nonsense_in_a_file_is_named_with_what_is_allowed(self, write: Write, text: str) -> None:
        path = write(one("circuit_breaker.reset_timeout", f"'{text}'"))
        with pytest.raises(ValueError) as caught:
            load_config(path)
        assert str(caught.value) == (
            f"{path}: integrations.db.circuit_breaker.reset_timeout must be a number of seconds, or a number with "
            f"a unit (ns, us, ms, s, m, h) such as '250ms', got {text!r}"
        )

    @pytest.mark.parametrize("text", ["0s", "0.1ns", "999999h"])
    def test_a_range_holds_with_units_too(self, write: Write, text: str) -> None:
        with pytest.raises(
            ValueError, match=r"db\.timeouts\.read must be a number of seconds from 1e-09 to 1000000000"
        ):
            load_config(write(one("timeouts.read", f"'{text}'")))


@pytest.mark.parametrize("setting", OPTIONAL)
def test_none_has_a_word_where_it_is_allowed(write: Write, setting: str) -> None:
    rule = "" if setting == "circuit_breaker.failure_rate" else "circuit_breaker.failure_rate = 0.5"
    rule += f"\n{NEEDS['rate_limit.burst']}" if setting == "rate_limit.burst" else ""
    assert read(load_config(write(one(setting, "'none'", more=rule)))["db"], setting) is None
    rule = NEEDS["rate_limit.burst"] if setting == "rate_limit.burst" else ""
    write(one("circuit_breaker.failure_rate", "0.5", more=rule))
    assert read(load_config(environ={variable(setting): "none"})["db"], setting) is None


class TestVariables:
    db = MappingProxyType({"FAILSOFT_DB__TYPE": "cache"})

    def test_they_go_before_the_file(self, write: Write) -> None:
        write(BINANCE)
        config = load_config(
            environ={
                "FAILSOFT_BINANCE__CIRCUIT_BREAKER__RESET_TIMEOUT": "5s",
                "FAILSOFT_BINANCE__HEALTH_CHECK_INTERVAL": "0.5",
            }
        )["binance"]
        assert config == load_config(environ={})["binance"].with_(
            circuit_breaker={"reset_timeout": 5}, health_check_interval=0.5
        )

    @pytest.mark.parametrize(
        ("setting", "text", "value"),
        [
            ("retry_policy.max_retries", "7", 7),
            ("retry_policy.max_retries", " 7 ", 7),
            ("circuit_breaker.failure_rate", "0.25", 0.25),
            ("circuit_breaker.failure_rate", "1", 1.0),
            ("retry_policy.backoff_multiplier", "1e1", 10.0),
            ("timeouts.read", "250ms", 0.25),
            ("timeouts.read", " 2.5 ", 2.5),
            ("retry_policy.jitter", "true", Jitter.FULL),
            ("retry_policy.jitter", "FALSE", Jitter.NONE),
            ("retry_policy.jitter", "1", Jitter.FULL),
            ("retry_policy.jitter", "0", Jitter.NONE),
            ("retry_policy.jitter", "none", Jitter.NONE),
            ("retry_policy.jitter", "decorrelated", Jitter.DECORRELATED),
            ("retry_policy.retryable_errors", "TIMEOUT, NETWORK", frozenset({"TIMEOUT", "NETWORK"})),
            ("retry_policy.retryable_errors", "TIMEOUT", frozenset({"TIMEOUT"})),
            ("circuit_breaker.trip_on", "", frozenset()),
            ("type", "ai_service", IntegrationType.AI_SERVICE),
        ],
    )
    def test_a_value_is_read_by_its_kind(self, setting: str, text: str, value: object) -> None:
        kept = read(load_config(environ={**self.db, variable(setting): text})["db"], setting)
        assert kept == value
        assert type(kept) is type(value)

    def test_every_setting_has_a_variable(self) -> None:
        for setting in every(""):
            if setting in PARTS:
                continue
            with pytest.raises(ValueError, match=rf"^{variable(setting)}\b.* must be "):
                load_config(environ={**self.db, variable(setting): "!"})

    def test_another_type_brings_its_preset_under_what_is_given(self, write: Write) -> None:
        write(one("timeouts.read", "1"))
        config = load_config(environ={"FAILSOFT_DB__TYPE": "database"})["db"]
        assert config == default_config(IntegrationType.DATABASE).with_(timeouts={"read": 1})

    def test_settings_that_need_each_other_come_together(self) -> None:
        limit, quantile = map(variable, ("circuit_breaker.latency_limit", "circuit_breaker.latency_quantile"))
        breaker = load_config(environ={**self.db, limit: "1ms", quantile: "0.5"})["db"].circuit_breaker
        assert (breaker.latency_limit, breaker.latency_quantile) == (0.001, 0.5)

    def test_a_type_adds_an_integration(self, write: Write) -> None:
        write(BINANCE)
        added = {"FAILSOFT_COIN_BASE2__TYPE": "market_data", "FAILSOFT_COIN_BASE2__TIMEOUTS__READ": "1s"}
        configs = load_config(environ=added)
        assert list(configs) == ["binance", "coin_base2"]
        assert configs["coin_base2"] == default_config(IntegrationType.MARKET_DATA).with_(timeouts={"read": 1})

    @pytest.mark.parametrize(
        ("name", "capitals"),
        [
            ("binance.us", "BINANCE_US"),
            ("binance -- us", "BINANCE_US"),
            ("-binance_us-", "BINANCE_US"),
            ("binance__us", "BINANCE_US"),
            ("Börse", "B_RSE"),
            ("s3", "S3"),
            ("3", "3"),
        ],
    )
    def test_how_a_name_is_spelled(self, write: Write, name: str, capitals: str) -> None:
        write(f"[integrations.'{name}']\ntype = 'cache'")
        assert load_config(environ={f"FAILSOFT_{capitals}__TIMEOUTS__READ": "9"})[name].timeouts.read == 9

    @pytest.mark.parametrize("names", [("a-b", "a_b"), ("a", "A"), ("a b", "-a.b-")])
    def test_two_names_with_the_same_variables(self, write: Write, names: tuple[str, str]) -> None:
        write("".join(f"[integrations.'{name}']\ntype = 'cache'\n" for name in names))
        with pytest.raises(ValueError, match=rf"'{names[0]}' and '{names[1]}' would both be set by FAILSOFT_A.*__"):
            load_config(environ={})

    def test_names_without_variables_may_be_many(self, write: Write) -> None:
        write("[integrations.'-']\ntype = 'cache'\n[integrations.'--']\ntype = 'cache'")
        assert list(load_config(environ={})) == ["-", "--"]
        with pytest.raises(ValueError, match=r"^FAILSOFT___TYPE: there is no integration"):
            load_config(environ={"FAILSOFT___TYPE": "cache"})

    @pytest.mark.parametrize(
        "name",
        ["FAILSOFT_DISABLED", "FAILSOFT_CLOCK", "FAILSOFT_ARENA", "FAILSOFT__ARENA", "FAILSOFT_", "FAILSOFT", "X_DB__Y",
         "failsoft_db__type", "XFAILSOFT_DB__TYPE", "__", ""],
    )  # fmt: skip
    def test_other_variables_are_left_alone(self, name: str) -> None:
        assert load_config(environ={name: "nonsense"}) == {}

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("DB__TIMEOUTS__REED", "1", r"^FAILSOFT_DB__TIMEOUTS__REED is not a setting; did you mean 'READ'\?$"),
            (
                "DB__CIRCUIT_BREAKER__ZZZ",
                "1",
                "^FAILSOFT_DB__CIRCUIT_BREAKER__ZZZ is not a setting; it must be one of F",
            ),
            ("DB__TIMEOUT__READ", "1", r"^FAILSOFT_DB__TIMEOUT__READ is not a setting; did you mean 'TIMEOUTS'\?$"),
            ("DB__TIMEOUTS__READ__X", "1", "^FAILSOFT_DB__TIMEOUTS__READ__X is not a setting; did you mean 'READ'"),
            ("DB__TIMEOUTS__", "1", "^FAILSOFT_DB__TIMEOUTS__ is not a setting; it must be one of CONNECT, "),
            ("DB__", "1", "^FAILSOFT_DB__ is not a setting; it must be one of TYPE, "),
            ("DB__timeouts__read", "1", "^FAILSOFT_DB__timeouts__read is not a setting"),
            (
                "DB__TIMEOUTS",
                "1",
                "^FAILSOFT_DB__TIMEOUTS is not one setting but several, such as .*TIMEOUTS__CONNECT$",
            ),
            ("DBB__TIMEOUTS__READ", "1", r"^FAILSOFT_DBB__TIMEOUTS__READ: there is no .* DBB; did you mean 'DB'\?$"),
            ("db__TIMEOUTS__READ", "1", r"^FAILSOFT_db__TIMEOUTS__READ: there is no .* db; did you mean 'DB'\?$"),
            ("_DB__TYPE", "cache", r"^FAILSOFT__DB__TYPE: there is no integration _DB; did you mean 'DB'\?$"),
            ("X__TIMEOUTS__READ", "1", "^FAILSOFT_X__TIMEOUTS__READ: there is no .* X; FAILSOFT_X__TYPE adds one$"),
            ("x__TYPE", "cache", "^FAILSOFT_x__TYPE: there is no integration x; FAILSOFT_X__TYPE adds one$"),
            ("DB__TYPE", "databas", r"^FAILSOFT_DB__TYPE.*: integrations\.db\.type must be .* mean 'database'\?$"),
            ("NEW__TYPE", "", r"^FAILSOFT_NEW__TYPE: integrations\.new\.type must be one of .*, got ''$"),
            ("DB__TIMEOUTS__READ", "", "^FAILSOFT_DB__TIMEOUTS__READ must be a number of seconds, or .*, got ''$"),
            (
                "DB__TIMEOUTS__READ",
                "5 parsecs",
                "^FAILSOFT_DB__TIMEOUTS__READ must be .*ns, us, ms, s, m, h.*, got '5 parsecs'$",
            ),
            ("DB__TIMEOUTS__READ", "none", "^FAILSOFT_DB__TIMEOUTS__READ must be .*, got 'none'$"),
            ("DB__TIMEOUTS__READ", "0", "^FAILSOFT_DB__TIMEOUTS__READ.*db.timeouts.read must be .*, got 0.0$"),
            ("DB__TIMEOUTS__READ", "nan", "^FAILSOFT_DB__TIMEOUTS__READ.*db.timeouts.read must be .*, got nan$"),
            ("DB__TIMEOUTS__READ", "-inf", "^FAILSOFT_DB__TIMEOUTS__READ.*db.timeouts.read must be .*, got -inf$"),
            ("DB__TIMEOUTS__READ", "9" * 5000, "^FAILSOFT_DB__TIMEOUTS__READ.*db.timeouts.read must be .*, got inf$"),
            ("DB__RETRY_POLICY__MAX_RETRIES", "3.0", "^FAILSOFT_DB__RETRY.* must be an integer, got '3.0'$"),
            ("DB__RETRY_POLICY__MAX_RETRIES", "3s", "^FAILSOFT_DB__RETRY.* must be an integer, got '3s'$"),
            ("DB__RETRY_POLICY__MAX_RETRIES", "9" * 5000, "^FAILSOFT_DB__RETRY.* must be an integer, got '999"),
            ("DB__RETRY_POLICY__MAX_RETRIES", "9" * 99, "^FAILSOFT_DB__RETRY.*max_retries must be an integer from 0"),
            ("DB__RETRY_POLICY__JITTER", "yes", "^FAILSOFT_DB__RETRY_POLICY__JITTER.* must be one of full, .*'yes'$"),
            ("DB__RETRY_POLICY__RETRYABLE_ERRORS", "TIMEOUT,", "ERRORS over .*retryable_errors must be .*, got ''$"),
            ("DB__CIRCUIT_BREAKER__TRIP_ON", "TIMEOUTS", r"trip_on must be .*; did you mean 'TIMEOUT'\?$"),
            (
                "DB__CIRCUIT_BREAKER__COUNT_WINDOW",
                "x",
                "^FAILSOFT_DB.*COUNT_WINDOW must be an integer, or 'none', got 'x'$",
            ),
            ("DB__CIRCUIT_BREAKER__FAILURE_RATE", "1s", "FAILURE_RATE must be a number, or 'none', got '1s'$"),
        ],
    )
    def test_whatever_is_wrong_is_named(self, write: Write, name: str, text: str, message: str) -> None:
        write(one("timeouts.write", "1"))
        with pytest.raises(ValueError, match=message) as caught:
            load_config(environ={f"FAILSOFT_{name}": text})
        assert len(str(caught.value)) < 400

    def test_a_contradiction_names_both_sides(self, write: Write) -> None:
        path = write(one("retry_policy.initial_delay", "'10ms'"))
        delay = "FAILSOFT_DB__RETRY_POLICY__MAX_DELAY"
        with pytest.raises(ValueError) as caught:
            load_config(environ={delay: "1ms"})
        assert str(caught.value) == (
            f"{delay} over {path}: integrations.db.retry_policy.initial_delay must be at most max_delay (0.001), got 0.01"
        )

    def test_the_file_has_to_be_right_by_itself(self, write: Write) -> None:
        path = write(one("timeouts.read", "0"))
        with pytest.raises(ValueError, match=f"^{path}: "):
            load_config(environ={"FAILSOFT_DB__TIMEOUTS__READ": "1"})

    @pytest.mark.parametrize("wrong", [5, None, True, b"5"])
    def test_an_environment_holds_strings(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"^FAILSOFT_DB__TIMEOUTS__READ must be a string, got "):
            load_config(environ={**self.db, "FAILSOFT_DB__TIMEOUTS__READ": wrong})


SMALL = st.integers(1, 60) | st.floats(0.001, 60)
CONFIGS = st.builds(
    IntegrationConfig,
    st.sampled_from(IntegrationType),
    timeouts=st.builds(Timeouts, SMALL, SMALL, SMALL, SMALL),
    retry_policy=st.builds(
        RetryPolicy,
        st.integers(0, 9),
        max_delay=st.floats(1, 60),
        jitter=st.sampled_from(Jitter) | st.booleans(),
        retryable_errors=st.sets(st.sampled_from(ErrorCategory)),
    ),
    circuit_breaker=st.builds(
        CircuitBreakerConfig,
        failure_threshold=st.none() | st.integers(1, 9),
        failure_rate=st.floats(0.1, 1),
        slow_call=st.none() | SMALL,
        count_window=st.none() | st.integers(10, 99),
        reset_max=st.none() | st.floats(60, 1e9),
        trip_on=st.sets(st.sampled_from(ErrorCategory)),
    ),
    health_check_interval=SMALL,
    rate_limit=st.none() | st.builds(RateLimit, SMALL, st.none() | st.integers(1, 9), SMALL),
    bulkhead=st.none() | st.builds(Bulkhead, st.integers(1, 9), SMALL),
    throttle=st.none() | st.builds(AdaptiveThrottle, st.floats(1, 9), st.floats(0.1, 0.9), st.integers(1, 99)),
    chaos=st.none()
    | st.builds(
        ChaosConfig,
        st.floats(0, 9),
        st.none() | st.floats(9, 99),
        st.none() | st.sampled_from(ErrorCategory),
        seed=st.none() | st.integers(0, 99),
    ),
)


def flat(config: IntegrationConfig) -> dict[str, object]:
    """All settings of the parts that are on."""
    off = {room for room in PARTS if getattr(config, room) is None}
    settings = [setting for setting in every("") if setting not in PARTS and setting.partition(".")[0] not in off]
    return {setting: read(config, setting) for setting in settings}


def in_toml(value: object) -> str:
    if isinstance(value, frozenset):
        return f"[{', '.join(map(in_toml, sorted(value)))}]"
    if value is None or isinstance(value, str):
        return f'"{value or "none"}"'
    return repr(value)


def in_text(value: object) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return "none" if value is None else str(value)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=CONFIGS)
def test_every_configuration_can_be_written_in_a_file_and_in_variables(
    tmp_path: Path, config: IntegrationConfig
) -> None:
    path = tmp_path / "failsoft.toml"
    lines = [f"{setting} = {in_toml(value)}" for setting, value in flat(config).items()]
    path.write_text("\n".join(["[integrations.db]", *lines]))
    assert load_config(path, environ={}) == {"db": config}
    path.write_text("[integrations.db]\ntype = 'database'\n")
    variables = {variable(setting): in_text(value) for setting, value in flat(config).items()}
    assert load_config(path, environ=variables) == {"db": config}


class TestConfigure:
    slow = default_config(IntegrationType.DATABASE).with_(timeouts={"overall": 99})
    fast = default_config(IntegrationType.CACHE).with_(timeouts={"overall": 1})

    def test_an_integration_takes_its_settings(self, registry: Registry) -> None:
        registry.configure({"db": self.slow})
        assert "db" not in {integration.name for integration in registry}
        db = registry.integration("db", "database")
        assert db.config == self.slow
        assert registry.integration("db", IntegrationType.DATABASE) is db
        assert registry.integration("other", "database").config == default_config(IntegrationType.DATABASE)

    def test_from_a_file(self, registry: Registry, write: Write) -> None:
        registry.configure(load_config(write(BINANCE)))
        binance = registry.integration("binance", "market_data")
        assert (binance.config.circuit_breaker.reset_timeout, binance.config.timeouts.read) == (120, 0.25)

    def test_overrides_apply_on_top(self, registry: Registry) -> None:
        registry.configure({"db": self.slow})
        db = registry.integration("db", "database", timeouts={"read": 7})
        assert db.config == self.slow.with_(timeouts={"read": 7})
        assert registry.integration("db", "database", timeouts={"read": 7}) is db
        with pytest.raises(ValueError, match="'db' has other settings already"):
            registry.integration("db", "database", timeouts={"read": 8})

    def test_an_explicit_config_goes_before(self, registry: Registry) -> None:
        registry.configure({"db": self.slow})
        preset = default_config(IntegrationType.DATABASE)
        assert registry.integration("db", "database", preset).config == preset

    def test_a_later_call_adds_and_replaces(self, registry: Registry) -> None:
        registry.configure({"db": self.fast, "cache": self.fast})
        registry.configure({"db": self.slow})
        assert registry.integration("db", "database").config == self.slow
        assert registry.integration("cache", "cache").config == self.fast

    @pytest.mark.parametrize("type", ["cache", IntegrationType.CACHE, "databse"])
    def test_another_type_is_refused(self, registry: Registry, type: str) -> None:
        registry.configure({"db": self.slow})
        with pytest.raises(ValueError, match=f"integration 'db' is configured as database and cannot be {type} too"):
            registry.integration("db", type)
        assert len(registry) == 0

    def test_the_same_settings_again_are_fine(self, registry: Registry) -> None:
        db = registry.integration("db", "database", self.slow)
        registry.configure({"db": self.slow.with_()})
        assert registry.integration("db", "database") is db

    def test_all_or_nothing(self, registry: Registry) -> None:
        registry.integration("db", "database")
        with pytest.raises(ValueError, match=r"integration 'db' is made already.*Integration\.reconfigure"):
            registry.configure({"before": self.fast, "db": self.slow, "after": self.fast})
        with pytest.raises(ValueError, match="integration 'db' is database already and cannot be cache too"):
            registry.configure({"before": self.fast, "db": self.fast, "after": self.fast})
        assert registry["db"].config == default_config(IntegrationType.DATABASE)
        for name in ("before", "after"):
            assert registry.integration(name, "cache").config == default_config(IntegrationType.CACHE)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (None, "configs must map names to IntegrationConfig, got None"),
            ([("db", slow)], "configs must map names"),
            ({"ok": slow, "db": {}}, r"configs\['db'\] must be an IntegrationConfig, got {}"),
            ({"ok": slow, "db": "database"}, r"configs\['db'\] must be an IntegrationConfig"),
            ({"ok": slow, "": slow}, "name must be a non-empty string, got ''"),
            ({"ok": slow, 5: slow}, "name must be a non-empty string, got 5"),
        ],
    )
    def test_another_type_of_argument_is_refused_whole(self, registry: Registry, wrong: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            registry.configure(wrong)
        assert registry.integration("ok", "database").config == default_config(IntegrationType.DATABASE)

    def test_settings_that_come_while_one_is_being_made_are_not_lost(self, registry: Registry) -> None:
        class Meanwhile(Mapping[str, float]):
            def __iter__(self) -> Iterator[str]:
                registry.configure({"db": TestConfigure.slow})
                return iter(["read"])

            def __getitem__(self, name: str) -> float:
                return 7.0

            def __len__(self) -> int:
                return 1

        db = registry.integration("db", "database", timeouts=Meanwhile())
        assert db.config == self.slow.with_(timeouts={"read": 7})

    def test_what_is_given_is_copied(self, registry: Registry) -> None:
        configs = {"db": self.slow}
        registry.configure(configs)
        configs.clear()
        assert registry.integration("db", "database").config == self.slow

    def test_closing_forgets(self, registry: Registry) -> None:
        registry.configure({"db": self.slow})
        registry.close()
        assert registry.integration("db", "database").config == default_config(IntegrationType.DATABASE)


def test_importing_it_loads_no_parser() -> None:
    code = "import sys; before = set(sys.modules); import failsoft.config_files; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "failsoft.config_files" in done.stdout.split()
    assert {"tomllib", "re", "difflib", "pathlib", "datetime"}.isdisjoint(done.stdout.split())
