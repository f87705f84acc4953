"""Records behave as frozen, slotted dataclasses do."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from failsoft.records import KW_ONLY, Record, replace


class Point(Record):
    x: int
    y: int = 2
    _: KW_ONLY
    name: str = "p"


class Even(Record):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


def test_fields_come_by_position_name_or_default() -> None:
    assert Point(1) == Point(x=1, y=2) == Point(1, 2, name="p")
    assert repr(Point(1)) == "Point(x=1, y=2, name='p')"


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ((), {}, "needs x"),
        ((1, 2, "q"), {}, "2 positional arguments, got 3"),
        ((1,), {"x": 2}, "two values for 'x'"),
        ((1,), {"z": 2}, "no field 'z'; it has x, y, name"),
    ],
)
def test_wrong_arguments_are_named(args: tuple[int, ...], kwargs: dict[str, int], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        Point(*args, **kwargs)


def test_it_is_frozen_and_has_no_dict() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert not hasattr(point, "__dict__")


def test_equality_goes_by_class_and_value() -> None:
    assert Point(1) != Point(2)
    assert Even(2) != (2,)
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_copies_and_pickles_are_equal() -> None:
    point = Point(1, name="q")
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == copy.copy(point) == point


def test_replace_checks_again() -> None:
    assert replace(Point(1), y=5) == Point(1, 5)
    with pytest.raises(ValueError, match="odd"):
        replace(Even(2), number=3)


def test_it_matches_patterns_and_shows_its_signature() -> None:
    match Point(1):
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert list(inspect.signature(Point).parameters) == ["x", "y", "name"]
    assert inspect.signature(Point).parameters["name"].kind is inspect.Parameter.KEYWORD_ONLY
