"""A guarded callable is the bare one, as far as anybody can tell who calls it, binds it, looks at it or ships it."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import copy
import enum
import functools
import inspect
import operator
import os
import pickle
import pydoc
import subprocess
import sys
import traceback
import typing
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import failsoft
from failsoft import CircuitOpenError, CircuitState, Fallback, FallbackType, Integration, Registry

from ..ids import shown
from .conftest import Make

shipped = Registry().integration("shipped", "database")


def plain(a: int, b: int = 2, *rest: object, flag: bool = False, **named: object) -> tuple[object, ...]:
    """What is said of it."""
    return a, b, rest, flag, list(named.items())


def only_named(*, a: int, b: int = 5) -> tuple[int, int]:
    return a, b


def only_positional(a: int, b: int = 3, /) -> tuple[int, int]:
    return a, b


def swap_order(first: int, second: int) -> tuple[int, int]:
    return second, first


class Counter:
    """A callable object that has a state, and names that a guard has too."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int = 1, *, twice: bool = False) -> int:
        return step * (2 if twice else 1)

    def method(self, value: object) -> tuple[str, object]:
        return type(self).__name__, value

    @classmethod
    def made(cls, value: object) -> tuple[str, object]:
        return cls.__name__, value

    @staticmethod
    def fixed(value: object) -> object:
        return value


class Pair:
    def __init__(self, left: object, right: object = None) -> None:
        self.both = (left, right)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pair) and self.both == other.both

    __hash__ = None  # type: ignore[assignment]


@functools.singledispatch
def dispatched(value: object) -> str:
    return "object"


@dispatched.register
def _(value: int) -> str:
    return "int"


BIG = tuple(range(300))
BIG_NAMED = {f"name_{i}": i for i in range(300)}

CALLS: list[Any] = [
    pytest.param(plain, (1,), {}, id="defaults"),
    pytest.param(plain, (1, 2, 3, 4), {"flag": True, "z": 1, "a_": 2}, id="args and kwargs"),
    pytest.param(plain, (), {"b": 1, "a": 2}, id="by name"),
    pytest.param(plain, BIG, {}, id="300 positional"),
    pytest.param(plain, BIG, BIG_NAMED, id="300 positional and 300 named"),
    pytest.param(only_named, (), {"a": 1}, id="keyword-only"),
    pytest.param(only_positional, (1,), {}, id="positional-only"),
    pytest.param(swap_order, (), {"second": 2, "first": 1}, id="names in another order"),
    pytest.param(lambda value: value, ((),), {}, id="lambda"),
    pytest.param(lambda: None, (), {}, id="None"),
    pytest.param(Counter().method, (1,), {}, id="bound method"),
    pytest.param(Counter.method, (Counter(), 1), {}, id="unbound method"),
    pytest.param(Counter.made, (1,), {}, id="class method"),
    pytest.param(Counter.fixed, (1,), {}, id="static method"),
    pytest.param(Counter(), (3,), {"twice": True}, id="callable object"),
    pytest.param(Pair, (1,), {"right": 2}, id="class"),
    pytest.param(int, ("ff", 16), {}, id="builtin class"),
    pytest.param(dict, (), {"a": 1}, id="builtin class with names"),
    pytest.param(len, ([1, 2],), {}, id="builtin"),
    pytest.param(sorted, ([1, 3, 2],), {"reverse": True}, id="builtin with names"),
    pytest.param("a,b".split, (",",), {}, id="builtin method"),
    pytest.param(str.upper, ("a",), {}, id="method of a builtin class"),
    pytest.param((3).__add__, (4,), {}, id="slot of an object"),
    pytest.param(int.__add__, (3, 4), {}, id="slot of a class"),
    pytest.param(dict.fromkeys, ("ab",), {}, id="class method of a builtin class"),
    pytest.param(operator.itemgetter(1), ("ab",), {}, id="itemgetter"),
    pytest.param(functools.partial(plain, 1, flag=True), (9,), {"x": 0}, id="partial"),
    pytest.param(functools.partial(len), ("abc",), {}, id="partial of a builtin"),
    pytest.param(functools.lru_cache(plain), (1,), {}, id="lru_cache"),
    pytest.param(dispatched, (1,), {}, id="singledispatch"),
    pytest.param(mock.Mock(return_value=3), (1,), {"a": 2}, id="mock"),
    pytest.param(mock.MagicMock(return_value=3), (1,), {"a": 2}, id="magic mock"),
    # and what does not fit
    pytest.param(plain, (), {}, id="an argument missing"),
    pytest.param(plain, (1,), {"a": 2}, id="an argument twice"),
    pytest.param(only_named, (1,), {}, id="a name wanted"),
    pytest.param(only_positional, (), {"a": 1}, id="no name wanted"),
    pytest.param(len, (), {}, id="a builtin's argument missing"),
    pytest.param(Pair, (), {}, id="a class's argument missing"),
    pytest.param(Counter(), (1, 2), {}, id="an object's argument too many"),
    pytest.param(int, ("x",), {}, id="a builtin that raises"),
    pytest.param(operator.itemgetter(9), ("ab",), {}, id="an index out of range"),
]


def answer_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[object, ...]:
    try:
        return "value", call(*args, **kwargs)
    except Exception as error:
        return type(error), error.args, str(error)


@pytest.fixture(params=["plain", "armed", "judged", "metrics only"])
def guard(request: pytest.FixtureRequest, make: Make) -> Callable[[Any], Any]:
    """`guard` by each of the ways that a call can take through it."""
    integration = make(retries=2)
    if request.param == "armed":
        return integration.guard(details=lambda *args, **kwargs: {"args": args})
    if request.param == "judged":
        return integration.guard(failure=lambda value: None)
    if request.param == "metrics only":
        integration.metrics_only()
    return integration.guard


# ---- calls


@pytest.mark.parametrize(("bare", "args", "kwargs"), CALLS)
def test_a_guarded_call_answers_as_the_bare_one(guard: Callable[[Any], Any], bare: Any, args: Any, kwargs: Any) -> None:
    guarded = guard(bare)
    for _ in range(3):
        assert answer_of(guarded, *args, **kwargs) == answer_of(bare, *args, **kwargs)


@pytest.mark.parametrize(("bare", "args", "kwargs"), CALLS)
def test_a_guard_of_a_guard_answers_as_the_bare_one(steady: Integration, bare: Any, args: Any, kwargs: Any) -> None:
    guarded = steady.guard(steady.guard(bare))
    assert answer_of(guarded, *args, **kwargs) == answer_of(bare, *args, **kwargs)


def test_values_come_back_as_themselves(steady: Integration) -> None:
    thing = object()
    assert steady.guard(lambda value: value)(thing) is thing
    for value in (None, NotImplemented, Ellipsis, False, StopIteration(1), ValueError, ValueError("no")):
        assert steady.guard(lambda value: value)(value) is value


def test_a_function_gets_a_dict_of_names_of_its_own(steady: Integration) -> None:
    given = {"a": 1}

    @steady.guard
    def greedy(**named: int) -> dict[str, int]:
        named["b"] = 2
        return named

    assert greedy(**given) == {"a": 1, "b": 2}
    assert given == {"a": 1}


def test_names_that_the_machinery_uses_are_free_for_the_function(make: Make) -> None:
    @make(retries=1).guard
    def take(
        self: int, fn: int, args: int, kwargs: int, guard: int, until: int, mode: int, operation: int
    ) -> list[int]:
        return [self, fn, args, kwargs, guard, until, mode, operation]

    names = ("self", "fn", "args", "kwargs", "guard", "until", "mode", "operation")
    assert take(**dict(zip(names, range(8), strict=True))) == list(range(8))
    assert take.outcome(**dict(zip(names, range(8), strict=True))).data == list(range(8))


def test_the_function_sees_its_caller_one_frame_up(steady: Integration) -> None:
    """So that `stacklevel`, loggers and `sys._getframe` users find who they look for."""

    @steady.guard
    def whose() -> object:
        return sys._getframe(1)

    assert whose() is sys._getframe()


def test_each_call_is_counted_once(steady: Integration) -> None:
    @steady.guard
    def divide(by: int) -> float:
        return 1 / by

    for _ in range(10):
        divide(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            divide(0)
    numbers = divide.metrics()
    assert (numbers.count, numbers.error_count) == (13, 3)


def test_a_call_within_a_call_of_the_same_guard(steady: Integration) -> None:
    @steady.guard
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    assert factorial(20) == 2432902008176640000
    assert factorial.metrics().count == 21


# ---- exceptions


class Told(Exception):
    def __init__(self, one: object, *, two: object = None) -> None:
        super().__init__(one)
        self.two = two


def dressed(error: BaseException) -> BaseException:
    error.add_note("a note")
    error.__cause__ = KeyError("cause")
    error.extra = [1]  # type: ignore[attr-defined]
    return error


ERRORS = [
    ValueError("v"),
    KeyError(("a", "tuple")),
    OSError(2, "no", "file"),
    ConnectionError("gone"),
    TimeoutError("late"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    StopIteration(5),
    StopAsyncIteration(),
    RuntimeError(),
    MemoryError(),
    AssertionError(("x", 1)),
    ImportError("m", name="n", path="p"),
    Told(1, two=2),
    ExceptionGroup("group", [ValueError(1), OSError(2)]),
    failsoft.IntegrationError("theirs", attempts=3),
    CircuitOpenError("somebody else's breaker"),
    failsoft.IntegrationTimeoutError("theirs"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError("stop"),
    BaseExceptionGroup("group", [KeyboardInterrupt()]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_passes_unchanged(steady: Integration, error: BaseException) -> None:
    """Itself, with its notes, cause, context and attributes, and the frames that the bare call would show."""
    error = dressed(copy.copy(error))
    error.__traceback__ = None

    def fail() -> None:
        raise error

    seen: list[tuple[object, ...]] = []
    for call in (fail, steady.guard(fail), steady.guard(fail, retry=False, idempotent=False)):
        error.__traceback__ = error.__context__ = None
        try:
            try:
                raise LookupError("before")
            except LookupError:
                call()
        except BaseException as caught:
            assert caught is error
            frames = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
            state = {name: value for name, value in vars(caught).items() if name != "__notes__"}
            seen.append((frames, caught.__notes__, caught.__cause__, repr(caught.__context__), state, caught.args))
    bare, guarded, armed = seen
    assert guarded == bare
    assert armed == bare


def test_an_exception_adds_at_most_one_frame(make: Make) -> None:
    """Also where retries and fallbacks have been tried on the way."""

    def fail() -> None:
        raise ConnectionError("gone")

    def also() -> None:
        raise ConnectionError("gone too")

    guard = make(retries=2).guard(fail, fallbacks=[Fallback(FallbackType.CACHE, also)])
    with pytest.raises(ConnectionError) as caught:
        guard()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "fail"
    assert len(names) <= 3
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_exception_raised_while_another_is_handled_keeps_its_context(make: Make) -> None:
    @make(retries=1).guard
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ConnectionError("second")  # noqa: B904

    with pytest.raises(ConnectionError) as caught:
        fail()
    assert repr(caught.value.__context__) == "KeyError('first')"
    with pytest.raises(ConnectionError) as caught:
        try:
            raise LookupError("outside")
        except LookupError:
            fail()
    assert repr(caught.value.__context__.__context__) == "LookupError('outside')"  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_counts_for_nothing(make: Make, error: type[BaseException]) -> None:
    integration = make(retries=2, threshold=1)
    asked: list[object] = []
    calls: list[object] = []

    @integration.guard(fallbacks=[Fallback(FallbackType.CACHE, lambda: asked.append(1))])
    def stop() -> None:
        calls.append(1)
        raise error

    for _ in range(3):
        with pytest.raises(error):
            stop()
        with pytest.raises(error):
            stop.outcome()
    assert len(calls) == 6
    assert not asked
    assert integration.status().state is CircuitState.CLOSED
    assert stop.metrics().count == 0


def test_the_exception_being_handled_is_the_callers_again_afterwards(steady: Integration) -> None:
    @steady.guard
    def quiet() -> None:
        with contextlib.suppress(ValueError):
            raise ValueError("inside")

    @steady.guard
    def loud() -> None:
        raise OSError("inside")

    try:
        raise KeyError("mine")
    except KeyError as mine:
        quiet()
        assert sys.exc_info()[1] is mine
        with contextlib.suppress(OSError):
            loud()
        assert sys.exc_info()[1] is mine
    assert sys.exc_info() == (None, None, None)


# ---- recursion


def descend_forever(integration: Integration) -> None:
    @integration.guard
    def deeper(n: int) -> int:
        return deeper(n + 1) + 1

    with pytest.raises(RecursionError):
        deeper(0)
    assert integration.guard(lambda: 1)() == 1


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What could only be said on stderr."""
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: said.append(what.exc_value))
    return said


def test_recursion_ends_in_recursion_error(make: Make, unraisable: list[Any]) -> None:
    descend_forever(make(retries=2))


def test_recursion_to_the_limit_says_nothing_on_stderr(steady: Integration, unraisable: list[Any]) -> None:
    """The innermost call has no frames left for the policies; that is no news for anybody."""
    descend_forever(steady)
    assert not unraisable


def test_recursion_by_way_of_a_builtin(steady: Integration, unraisable: list[Any]) -> None:
    @steady.guard
    def deeper() -> int:
        return max([1], key=lambda _: deeper())

    with pytest.raises(RecursionError):
        deeper()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 guards no C stack: functools.partial crashes there too")
def test_recursion_beyond_the_c_stack_is_an_error_too(steady: Integration, unraisable: list[Any]) -> None:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        descend_forever(steady)
    finally:
        sys.setrecursionlimit(usual)


# ---- methods


def holders(bare: Any, guarded: Any) -> tuple[Any, Any]:
    return type("Holder", (), {"call": bare})(), type("Holder", (), {"call": guarded})()


ATTRIBUTES: list[Any] = [
    pytest.param(lambda *args: [type(arg).__name__ for arg in args], id="function"),
    pytest.param(len, id="builtin"),
    pytest.param(functools.partial(lambda *args: len(args), 1), id="partial"),
    pytest.param(Counter(), id="callable object"),
    pytest.param(Counter().method, id="bound method"),
    pytest.param(Counter.made, id="bound class method"),
    pytest.param(functools.lru_cache(lambda *args: len(args)), id="lru_cache"),
    pytest.param(Pair, id="class"),
    pytest.param(operator.itemgetter(0), id="itemgetter"),
    pytest.param(object.__repr__, id="slot of a class"),
]


@pytest.mark.parametrize("bare", ATTRIBUTES)
@pytest.mark.parametrize("wrap", [None, classmethod, staticmethod], ids=["as it is", "classmethod", "staticmethod"])
@pytest.mark.parametrize("args", [(), ("a",)], ids=["", "a"])
@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")
def test_an_attribute_of_a_class_binds_as_the_bare_one(steady: Integration, bare: Any, wrap: Any, args: Any) -> None:
    guarded = steady.guard(bare)
    if wrap:
        orders = [wrap(guarded), steady.guard(wrap(bare))]
        bare = wrap(bare)
    else:
        orders = [guarded]
    for order in orders:
        was, now = holders(bare, order)
        assert shape(answer_of(now.call, *args)) == shape(answer_of(was.call, *args))
        assert shape(answer_of(type(now).call, *args)) == shape(answer_of(type(was).call, *args))


def shape(answer: tuple[object, ...]) -> tuple[object, ...]:
    """Without the addresses of objects, which no two classes share."""
    if answer[0] != "value":
        return answer[0], str(answer[-1]).split(" at 0x")[0]
    value = answer[1]
    if isinstance(value, Pair):
        return tuple(type(part).__name__ for part in value.both)
    return (str(value).split(" at 0x")[0],)


class Base:
    def __init__(self, integration: Integration | None = None) -> None:
        self.kept = "mine"

    @shipped.guard
    def method(self, a: int, *, b: int = 2) -> tuple[str, int, int]:
        """Of a method."""
        return self.kept, a, b

    @shipped.guard
    @classmethod
    def of_class(cls, a: int) -> tuple[str, int]:
        return cls.__name__, a

    @classmethod
    @shipped.guard
    def of_class_too(cls, a: int) -> tuple[str, int]:
        return cls.__name__, a

    @shipped.guard
    @staticmethod
    def static(a: int) -> int:
        return a

    @staticmethod
    @shipped.guard
    def static_too(a: int) -> int:
        return a

    @property
    @shipped.guard
    def shown(self) -> str:
        return self.kept

    @functools.cached_property
    @shipped.guard  # type: ignore[arg-type]
    def found(self) -> list[str]:
        return [self.kept]

    doubled = functools.partialmethod(method, 7)  # type: ignore[arg-type]

    @shipped.guard
    def __getitem__(self, key: object) -> object:
        return key

    @shipped.guard
    def __call__(self) -> str:
        return "called"

    @shipped.guard
    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, *_: object) -> None:
        pass


class Derived(Base):
    @shipped.guard
    def method(self, a: int, *, b: int = 2) -> tuple[str, int, int]:
        return super().method(a + 1, b=b)


def test_methods_of_a_class() -> None:
    base, derived = Base(), Derived()
    assert base.method(1) == ("mine", 1, 2)
    assert derived.method(1, b=3) == ("mine", 2, 3)
    assert Base.method(derived, 5) == ("mine", 5, 2)
    assert (Base.of_class(1), base.of_class(1), Derived.of_class(1)) == (("Base", 1), ("Base", 1), ("Derived", 1))
    assert (Base.of_class_too(1), derived.of_class_too(1)) == (("Base", 1), ("Derived", 1))
    assert (Base.static(1), base.static(2), Base.static_too(3), base.static_too(4)) == (1, 2, 3, 4)
    assert base.shown == "mine"
    assert base.found is base.found
    assert base.doubled() == ("mine", 7, 2)
    assert base["key"] == "key"
    assert base() == "called"
    with base as entered:
        assert entered == "entered"


def test_bound_methods_are_equal_as_bare_ones_are() -> None:
    one, other = Base(), Base()
    assert one.method == one.method
    assert hash(one.method) == hash(one.method)
    assert one.method != other.method
    assert {one.method, one.method, other.method} == {one.method, other.method}
    assert one.method.__self__ is one
    assert one.method.__func__ is Base.__dict__["method"]
    assert inspect.ismethod(one.method)
    assert weakref.WeakMethod(one.method)() == one.method


def test_slots_and_class_attributes_do_not_mind(steady: Integration) -> None:
    class Slotted:
        __slots__ = ("value",)

        @steady.guard
        def read(self) -> object:
            return self.value

    slotted = Slotted()
    slotted.value = 3
    assert slotted.read() == 3
    method = slotted.read
    del slotted
    assert method() == 3


def test_abstract_methods_stay_abstract(steady: Integration) -> None:
    class Abstract(abc.ABC):
        @steady.guard
        @abc.abstractmethod
        def outside(self) -> None: ...

        @abc.abstractmethod
        @steady.guard
        def inside(self) -> None: ...

    assert Abstract.__abstractmethods__ == {"outside", "inside"}


def test_a_guard_in_an_enum_is_a_method(steady: Integration) -> None:
    class Color(enum.Enum):
        RED = 1

        @steady.guard
        def shout(self) -> str:
            return self.name + "!"

    assert Color.RED.shout() == "RED!"
    assert list(Color) == [Color.RED]


# ---- looks


guarded_plain = shipped.guard(plain)


def test_it_has_the_looks_of_the_function() -> None:
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__wrapped__"):
        expected = plain if name == "__wrapped__" else getattr(plain, name)
        assert getattr(guarded_plain, name) == expected
    assert inspect.signature(guarded_plain) == inspect.signature(plain)
    assert inspect.unwrap(guarded_plain) is plain
    assert inspect.getdoc(guarded_plain) == "What is said of it."
    assert inspect.getsource(guarded_plain) == inspect.getsource(plain)
    assert typing.get_type_hints(guarded_plain) == typing.get_type_hints(plain)
    assert "What is said of it." in pydoc.render_doc(guarded_plain)
    assert inspect.isroutine(guarded_plain)
    assert callable(guarded_plain)
    assert repr(plain) in repr(guarded_plain)
    for question in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isclass, inspect.iscoroutine):
        assert not question(guarded_plain)


def test_methods_have_the_looks_of_methods() -> None:
    assert str(inspect.signature(Base().method)) == "(a: 'int', *, b: 'int' = 2) -> 'tuple[str, int, int]'"
    assert inspect.signature(Base.of_class) == inspect.signature(Base.of_class_too)
    assert list(inspect.signature(Base.static).parameters) == ["a"]
    assert Base().method.__name__ == "method"
    assert Base().method.__doc__ == "Of a method."
    assert Base.method.__qualname__ == "Base.method"


def test_its_looks_are_there_whichever_is_asked_for_first(steady: Integration) -> None:
    def looked_at() -> int:
        """Seen."""
        return 1

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        asked = steady.guard(looked_at)
        asked.own = 1  # type: ignore[attr-defined]
        assert getattr(asked, name) == getattr(looked_at, name)
        assert {**vars(asked)} == {**vars(steady.guard(looked_at)), "own": 1}


def test_its_looks_can_be_changed_without_the_function_noticing(steady: Integration) -> None:
    def bare() -> int:
        """Of the function."""
        return 1

    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        guarded, before = steady.guard(bare), getattr(bare, name)
        setattr(guarded, name, "changed")
        assert getattr(guarded, name) == vars(guarded)[name] == "changed"
        assert getattr(bare, name) == before
        delattr(guarded, name)
        assert name not in vars(guarded)
        with pytest.raises(AttributeError, match=name):
            delattr(guarded, name)


def test_its_dict_can_be_replaced_before_anybody_has_looked(steady: Integration) -> None:
    guarded = steady.guard(lambda: 1, operation="replaced")
    guarded.__dict__ = {"own": 1}
    assert vars(guarded) == {"own": 1}
    with pytest.raises(AttributeError, match="has no attribute '__name__'"):
        _ = guarded.__name__
    assert guarded() == 1


def test_attributes_of_the_function_are_there_at_once(steady: Integration) -> None:
    def marked() -> int:
        return 1

    marked.mark = "here"  # type: ignore[attr-defined]
    guarded = steady.guard(marked)
    del marked.mark  # type: ignore[attr-defined]
    assert guarded.mark == "here"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "bare", [len, functools.partial(plain, 1), Counter(), Counter().method, Pair, lambda: 0, mock.Mock()], ids=shown
)
def test_any_callable_has_a_name_and_its_own_signature(steady: Integration, bare: Any) -> None:
    guarded = steady.guard(bare)
    assert isinstance(guarded.__name__, str)
    assert isinstance(guarded.__qualname__, str)
    assert guarded.__doc__ == bare.__doc__
    assert guarded.operation == guarded.__name__
    assert inspect.signature(guarded) == inspect.signature(bare)
    assert guarded.__wrapped__ is bare


def test_attributes_of_the_function_are_there_and_more_can_be_set(steady: Integration) -> None:
    def fn() -> None: ...

    fn.mark = [1]  # type: ignore[attr-defined]
    guarded = steady.guard(fn)
    assert guarded.mark is fn.mark  # type: ignore[attr-defined]
    guarded.other = 2
    assert guarded.other == 2
    assert not hasattr(fn, "other")
    guarded.__name__ = "renamed"
    assert guarded.__name__ == "renamed"
    with pytest.raises(AttributeError):
        guarded.missing


def test_attributes_of_a_callable_do_not_hide_the_guards_own(steady: Integration) -> None:
    """Clients have a `metrics` or an `outcome` of their own, and a guard of one has to work all the same."""

    class Client:
        def __init__(self) -> None:
            self.outcome = self.metrics = self.integration = self.operation = "the client's"

        def __call__(self) -> int:
            return 1

    guarded = steady.guard(Client())
    assert guarded() == 1
    assert guarded.integration is steady
    assert guarded.operation == "Client"
    assert guarded.outcome().data == 1
    assert guarded.metrics().count == 2
    assert guarded.outcome().metrics.count == 3


REMOTE = """
import failsoft

class Remote:
    def __getattr__(self, name): return Remote()
    def __call__(self, *args): return args

dependency = failsoft.Registry().integration("x", "database")
for options in ({}, {"operation": "ask"}):
    guarded = dependency.guard(Remote(), **options)
    assert guarded(1, 2) == (1, 2)
    assert guarded.outcome(1).data == (1,)
    assert guarded.operation == guarded.__name__ == options.get("operation", "Remote")
    assert type(guarded.__qualname__) is str
"""


def test_clients_that_answer_to_any_name_can_be_guarded() -> None:
    """Proxies of remote objects, as in xmlrpc.client, have a `__func__` and all else that anybody looks for."""
    command = [sys.executable, "-W", "error", "-c", REMOTE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr


def test_the_guard_says_whose_it_is(steady: Integration) -> None:
    guarded = steady.guard(plain, operation="quote")
    assert guarded.integration is steady
    assert guarded.operation == "quote"
    assert guarded.__name__ == "plain"
    assert "quote" in steady.operations
    with pytest.raises(AttributeError):
        guarded.__wrapped__ = len
    with pytest.raises(AttributeError):
        guarded.operation = "other"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_by_reference(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(guarded_reference, protocol)) is guarded_reference
    assert pickle.loads(pickle.dumps(Base.method, protocol)) is Base.method
    bound = pickle.loads(pickle.dumps(Base().method, protocol))
    assert bound(1) == ("mine", 1, 2)


@shipped.guard
def guarded_reference() -> int:
    return 1


def test_a_local_guard_pickles_as_little_as_a_local_function(steady: Integration) -> None:
    @steady.guard
    def local() -> None: ...

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(local)
    with pytest.raises(pickle.PicklingError):  # the name leads to the bare one
        pickle.dumps(steady.guard(plain))


def test_copies_are_itself() -> None:
    assert copy.copy(guarded_reference) is guarded_reference
    assert copy.deepcopy(guarded_reference) is guarded_reference
    assert copy.deepcopy({"a": [guarded_reference]}) == {"a": [guarded_reference]}


def test_it_can_be_referred_to_weakly_hashed_and_compared(steady: Integration) -> None:
    guarded = steady.guard(plain)
    assert weakref.ref(guarded)() is guarded
    assert {guarded: 1}[guarded] == 1
    assert guarded == guarded
    assert guarded != steady.guard(plain)
    assert guarded != plain
    assert bool(guarded)


def test_nobody_makes_or_breaks_one_by_hand(steady: Integration) -> None:
    guarded = steady.guard(plain)
    for kind in (type(guarded), type(steady.guard(len)), failsoft._core.Guard, failsoft._core.AsyncGuard):
        for make in (kind, functools.partial(object.__new__, kind), lambda kind=kind: kind.__new__(kind)):
            with pytest.raises(TypeError):
                make()
        with pytest.raises(TypeError):
            type("Sub", (kind,), {})


def test_functools_goes_on_top(steady: Integration) -> None:
    calls: list[int] = []

    @functools.lru_cache
    @steady.guard
    def cached(n: int) -> int:
        calls.append(n)
        return n

    assert (cached(1), cached(1), calls) == (1, 1, [1])

    @functools.singledispatch
    @steady.guard
    def kind(value: object) -> str:
        return "object"

    @kind.register
    @steady.guard
    def _(value: int) -> str:
        return "int"

    kind.register(str)(steady.guard(lambda value: "str"))
    assert (kind(None), kind(1), kind("a")) == ("object", "int", "str")
    assert functools.partial(steady.guard(plain), 1)(2) == plain(1, 2)
    assert functools.reduce(steady.guard(operator.add), range(5)) == 10
    assert sorted("bA", key=steady.guard(str.lower)) == ["A", "b"]
    assert list(map(steady.guard(len), ["a", "bc"])) == [1, 2]

    @functools.wraps(cached)
    def around() -> None: ...

    assert around.__name__ == "cached"


def test_what_wraps_a_guard_is_what_it_is(steady: Integration) -> None:
    """`functools.wraps` copies the wrapped one's attributes: a mark among them must not make a sync function async."""

    async def bare() -> None: ...

    for wrapped in (bare, steady.guard(bare)):

        @functools.wraps(wrapped)
        def around() -> None: ...

        assert not inspect.iscoroutinefunction(around)
        assert inspect.signature(around) == inspect.signature(bare)


# ---- refused


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


class Generating:
    def method(self) -> Iterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1

    @classmethod
    def of_class(cls) -> Iterator[int]:
        yield 1


class AsyncGenerating:
    async def __call__(self) -> Any:
        yield 1


@pytest.mark.parametrize(
    "fn",
    [
        generator,
        async_generator,
        functools.partial(generator),
        functools.partial(functools.partial(async_generator)),
        Generating().method,
        Generating.of_class,
        Generating.__dict__["of_class"],
        staticmethod(generator),
        Generating(),
        AsyncGenerating(),
        lambda: (yield),
    ],
    ids=shown,
)
def test_generator_functions_are_refused_by_the_name_of_what_serves(steady: Integration, fn: Any) -> None:
    for guard in (steady.guard, steady.guard(operation="x")):
        with pytest.raises(TypeError, match=r"generator function.*attempt"):
            guard(fn)


def test_a_function_that_uses_up_a_generator_is_none(steady: Integration) -> None:
    """What counts is what a call returns, not what `__wrapped__` leads to."""

    @functools.wraps(generator)
    def listed() -> list[int]:
        return list(generator())

    assert steady.guard(listed)() == [1]


@pytest.mark.parametrize("fn", [1, "len", [], property(plain), object()], ids=shown)
def test_what_cannot_be_called_is_refused(steady: Integration, fn: Any) -> None:
    with pytest.raises(TypeError, match="callable"):
        steady.guard(fn)


@pytest.mark.parametrize(
    "options",
    [{"operation": 3}, {"failure": 3}, {"fallbacks": [len]}, {"fallbacks": 3}, {"unknown": 1}],
    ids=shown,
)
def test_wrong_options_are_refused_at_once(steady: Integration, options: Any) -> None:
    with pytest.raises(TypeError):
        steady.guard(plain, **options)


# ---- switched off


def test_a_disabled_registry_leaves_the_bare_functions(registry: Registry, make: Make) -> None:
    integration = make(retries=3, threshold=1)
    calls: list[int] = []

    @integration.guard(fallbacks=[Fallback(FallbackType.MOCK, lambda: "mock")], failure=lambda _: "TIMEOUT")
    def fail() -> None:
        calls.append(1)
        raise ConnectionError("gone")

    registry.disable()
    late = integration.guard(len)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            fail()
    assert (len(calls), fail.metrics().count, integration.status().state) == (3, 0, "CLOSED")
    assert late("ab") == 2
    assert late.metrics().count == 0
    integration.force_open()
    assert late("ab") == 2
    registry.enable()
    assert fail() == "mock"
    with pytest.raises(CircuitOpenError):
        late("ab")


def test_a_disabled_registry_refuses_no_outcome(registry: Registry, make: Make) -> None:
    integration = make()
    integration.force_open()
    guarded = integration.guard(len)
    registry.disable()
    assert guarded.outcome("ab").data == 2
    result = guarded.outcome(3)
    assert not result.success
    assert isinstance(result.error.original_error, TypeError)
    assert guarded.metrics().count == guarded.metrics().rejected == 0


def test_a_disabled_registry_refuses_no_attempt(registry: Registry, make: Make) -> None:
    integration = make()
    integration.force_open()
    registry.disable()
    with integration.attempt("body"):
        pass
    assert integration.metrics("body").count == 0


def test_a_disabled_registry_refuses_no_async_call(registry: Registry, make: Make) -> None:
    integration = make()
    integration.force_open()

    @integration.guard
    async def answer() -> int:
        return 1

    registry.disable()
    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(answer()) == 1
    assert asyncio.run(answer.outcome()).data == 1


OFF = """
import asyncio, failsoft
market = failsoft.integration("m", "market_data")
guarded = market.guard(len)
market.force_open()
"""


@pytest.mark.parametrize(
    "check",
    [
        "assert guarded('ab') == 2 and guarded.metrics().count == 0",
        "assert guarded.outcome('ab').data == 2",
        "with market.attempt(): pass",
        "assert failsoft.with_integration_resilience('market_data', 'm', lambda: 3).data == 3",
        "assert market.call(len, 'ab') == 2",
        "async def f(): return 4\nassert asyncio.run(market.guard(f)()) == 4",
    ],
    ids=["call", "outcome", "attempt", "with_integration_resilience", "integration.call", "await"],
)
def test_the_environment_switches_all_off(check: str) -> None:
    command = [sys.executable, "-W", "error", "-c", OFF + check]
    environment = os.environ | {"FAILSOFT_DISABLED": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_and_guarding_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Registry().integration("x", "cache").guard(plain)(1)
