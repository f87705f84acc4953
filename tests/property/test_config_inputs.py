"""Settings in every way they may come, broken in every way: only the documented errors, each naming its place, nothing changed
by halves, and what is accepted can be written down and read again.

Inputs are sentences of a grammar with words of other places in them, cut and spliced as text. `python tests/fuzz.py` drives the same tests
by coverage.
"""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from failsoft import (
    CircuitOpenError,
    ErrorCategory,
    IntegrationConfig,
    IntegrationType,
    Jitter,
    Registry,
    default_config,
    load_config,
)
from failsoft.config import PARTS
from failsoft.portable import copied, picklable, plain
from failsoft.records import field_names, replace

ROOMS = ["", *PARTS]
SETTINGS = [
    f"{room}.{field}".lstrip(".") for room in ROOMS for field in field_names(PARTS.get(room, IntegrationConfig))
]
NAMES = ["db", "binance", "börse", "a b", "", "_", "x" * 70, "db.db", "DB"]

NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 0.5, 1e-9, 1e9, 1e-10, 1e10, -0.0, 2**31 - 1, 2**31, 2**63, 2**64, 65535, 65536]),
    st.integers(-3, 100),
    st.floats(),
    st.integers(),
)
WORDS = st.one_of(
    st.sampled_from([*IntegrationType, *ErrorCategory, *Jitter]),
    st.sampled_from(["none", "None", "true", "false", "inf", "nan", "", " ", "5s", "250ms", "1.5h", "-1s", "1e400"]),
    st.sampled_from(["9" * 40, "0x10", "1_0", "\u0663", "TIMEOUT,NETWORK", "TIMEOUT,", "\0", "\ud800"]),
)
VALUES = st.recursive(
    NUMBERS | WORDS | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def in_toml(value: object) -> str:
    """A value as TOML has it; None as no file can say it is not among them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple, frozenset)):
        return f"[{', '.join(map(in_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_toml(str(key))} = {in_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps("none" if value is None else str(value))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file: tables of known names with any values, and sometimes bytes cut out, doubled or put in."""
    lines = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
        lines.append(f"[integrations.{json.dumps(name)}]")
        if draw(st.integers(0, 9)):
            lines.append(f'type = "{draw(st.sampled_from(IntegrationType))}"')
        for setting in draw(st.lists(st.sampled_from(SETTINGS), max_size=4, unique=True)):
            lines.append(f"{setting} = {in_toml(draw(VALUES))}")
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
        text = text[:at] + draw(st.binary(max_size=4) | st.just(text[at : at + 2 * length])) + text[at + length :]
    return text


VARIABLES = st.dictionaries(
    st.builds(
        "FAILSOFT_{}__{}".format,
        st.sampled_from(["DB", "BINANCE", "B_RSE", "A_B", "X", "", "db"]),
        st.sampled_from([setting.upper().replace(".", "__") for setting in SETTINGS]) | st.text("ABC_", max_size=4),
    ),
    WORDS | NUMBERS.map(str) | st.text(max_size=6),
    max_size=3,
)

short = settings(
    max_examples=settings().max_examples // 3,  # each is many settings
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


def written(configs: dict[str, IntegrationConfig]) -> str:
    lines = []
    for name, config in configs.items():
        lines += [f"[integrations.{json.dumps(name, ensure_ascii=False)}]"]
        for room in ROOMS:
            part: Any = config if not room else getattr(config, room)
            if part is None:
                lines.append(f'{room} = "none"')
                continue
            for field in field_names(type(part)):
                if room or field not in PARTS:
                    lines.append(f"{room}.{field} = ".lstrip(".") + in_toml(getattr(part, field)))
    return "\n".join(lines)


@short
@given(files(), VARIABLES)
@example(b'[integrations.db]\ntype = "cache"\nretry_policy = "none"', {})
@example(b"a = " + b"[" * 5000, {})
@example(
    b"[integrations.db]\ntype = 'cache'",
    {"FAILSOFT_DB__BULKHEAD__MAX_CONCURRENT": "5", "FAILSOFT_DB__BULKHEAD": "none"},
)
def test_files_and_variables(tmp_path: Path, text: bytes, variables: dict[str, str]) -> None:
    path = tmp_path / "failsoft.toml"
    path.write_bytes(text)
    before = dict(variables)
    try:
        loaded = load_config(path, environ=variables)
    except ValueError as error:
        said = str(error)
        assert type(error) is ValueError
        assert str(path) in said or any(name in said for name in variables) or "FAILSOFT_" in said, said
        assert len(said) < 1000
        return
    finally:
        assert variables == before
    path.write_text(written(loaded), encoding="utf-8")
    assert load_config(path, environ={}) == loaded
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    with closing(Registry()) as registry:
        registry.configure(loaded)
        for name, config in loaded.items():
            assert registry.integration(name, config.type).config == config


def camel(setting: str) -> str:
    first, *rest = setting.split("_")
    return first + "".join(map(str.title, rest))


@st.composite
def millis(draw: st.DrawFn) -> dict[object, object]:
    """One of the seed's objects, with any values and sometimes a wrong name."""
    given: dict[object, object] = {}
    if draw(st.integers(0, 9)):
        given["type"] = draw(st.sampled_from(IntegrationType) | VALUES)
    for setting in draw(st.lists(st.sampled_from(SETTINGS), max_size=4, unique=True)):
        room, _, field = setting.rpartition(".")
        value = draw(VALUES | st.none())
        if not room:
            given.setdefault(camel(field), value)
        elif isinstance(part := given.setdefault(camel(room), {}), dict):
            part[camel(field)] = value
    if draw(st.integers(0, 9)) == 0:
        given[draw(st.text(max_size=4) | st.integers() | st.none())] = 1
    return given


@short
@given(millis())
@example({"type": ["database"]})
@example({"type": "cache", "retryPolicy": {"retryableErrors": [["TIMEOUT"]]}})
def test_objects_in_milliseconds(given: dict[object, object]) -> None:
    before = copy.deepcopy(given)
    known = {setting.rpartition(".")[2] for setting in SETTINGS} | {str(name) for name in given}
    try:
        config = IntegrationConfig.from_millis(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        assert type(error) in (TypeError, ValueError)
        said = str(error)
        assert any(name in said for name in known), said
        assert len(said) < 1000
        return
    finally:
        assert repr(given) == repr(before)
    assert replace(config) == config == pickle.loads(pickle.dumps(config))
    assert config.with_() == config


class Hostile:
    """Whatever is asked of it, it raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __reduce__ = __iter__ = __len__ = __hash__ = __deepcopy__ = __repr__  # type: ignore[assignment]
    __eq__ = __repr__  # type: ignore[assignment]


def around(inner: object) -> list[object]:
    itself: list[object] = [inner]
    itself.append(itself)
    return itself


ANYTHING = st.recursive(
    VALUES | st.none() | st.binary(max_size=4) | st.builds(Hostile) | st.just(print) | st.builds(lambda: lambda: None),
    lambda inner: (
        st.builds(around, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


@short
@given(st.dictionaries(st.text(max_size=3), ANYTHING, max_size=3))
def test_details_of_an_error_travel_whatever_they_are(details: dict[str, object]) -> None:
    again = plain(details)
    assert json.loads(json.dumps(again, allow_nan=False)) == again
    assert plain(again) == again
    pickle.loads(pickle.dumps(picklable(details)))
    assert list(copied(details, {})) == list(details)
    error = CircuitOpenError("open", details=details)
    assert list(pickle.loads(pickle.dumps(error)).details) == list(details)
    json.dumps(error.to_dict(), allow_nan=False)


@short
@given(millis())
def test_a_configuration_half_wrong_lays_nothing_down(given: dict[object, object]) -> None:
    try:
        config = IntegrationConfig.from_millis(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return
    with closing(Registry()) as registry:
        with pytest.raises(TypeError, match=r"^configs\['wrong'\] must be an IntegrationConfig"):
            registry.configure({"db": config, "wrong": given})  # type: ignore[dict-item]
        assert registry.integration("db", config.type).config == default_config(config.type)
