"""A guarded callable against the bare one: whatever its signature, however it is called and however it ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsoft import Fallback, FallbackType, Registry, database_fallbacks

from ..conftest import Score
from .shapes import ENDS, calls, function, looks, seen, signatures

integration = Registry().integration(
    "compared", "database", retry_policy={"max_retries": 0}, circuit_breaker={"failure_threshold": 60_000}
)
retrying = Registry().integration(
    "retrying", "database", retry_policy={"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0},
    circuit_breaker={"failure_threshold": 60_000},
)  # fmt: skip
switched_off = Registry()
switched_off.disable()


def refuse(*_: object, **__: object) -> object:
    raise LookupError("no fallback")


WAYS: dict[str, Callable[..., Any]] = {
    "guard": integration.guard,
    "once": integration.guard(retry=False, operation="once"),
    "judged": integration.guard(failure=lambda value: None, operation="judged"),
    "keyed": integration.guard(key=lambda *args, **kwargs: len(args), operation="keyed"),
    "deduplicated": integration.guard(dedupe=True, operation="deduplicated"),
    "detailed": integration.guard(details=lambda *args, **kwargs: {}, operation="detailed"),
    "disabled": switched_off.integration("off", "database").guard,
    "of a guard": lambda fn: integration.guard(integration.guard(fn)),
    "by call": lambda fn: functools.partial(integration.call, fn),
}
FRAMES = {"deduplicated": 4, "of a guard": 0, "by call": 1}
"""How many frames of ours a traceback may show; one elsewhere, where Python code of ours has called the function."""

ASYNC_FRAMES = {"deduplicated": 12}


def bound(wrap: Callable[..., Any], fn: Any, how: str) -> Any:
    """`fn` as it is found: by itself, or in a class."""
    if how == "function":
        return wrap(fn)
    if how == "partial":
        return functools.partial(wrap(fn), 7)
    attribute = {"method": wrap(fn), "class method": classmethod(wrap(fn)), "static method": staticmethod(wrap(fn))}[
        how
    ]
    holder = type("Holder", (), {"call": attribute, "__repr__": lambda self: "Holder", "__eq__": lambda *_: True,
                                 "__hash__": lambda self: 1})  # fmt: skip
    return holder().call


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", list(WAYS))
@given(
    parameters=signatures(),
    call=calls,
    end=st.sampled_from(ENDS),
    how=st.sampled_from(["function", "function", "method", "class method", "static method", "partial"]),
)
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
def test_any_call_of_any_function(way: str, is_async: bool, parameters: str, call: Any, end: str, how: str) -> None:
    compare(way, is_async, parameters, call, end, how)


def compare(way: str, is_async: bool, parameters: str, call: Any, end: str, how: str) -> None:
    if way == "by call" and (is_async or how != "function"):
        return
    args, kwargs = call
    fn = function(parameters, end, is_async=is_async)
    expected, frames = seen(bound(lambda fn: fn, fn, how), args, kwargs, is_async=is_async)
    actual, seen_frames = seen(bound(WAYS[way], fn, how), args, kwargs, is_async=is_async)
    if "Holder" not in repr(expected):
        assert actual == expected
    else:
        assert repr(actual) == repr(expected) or actual[0] == expected[0]
    most = (ASYNC_FRAMES if is_async else FRAMES).get(way, 1)
    extra = len(seen_frames) - len(frames)
    assert 0 <= extra <= most, (frames, seen_frames)


@pytest.mark.deep
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", list(WAYS))
def test_very_many_calls_of_very_many_functions(way: str, is_async: bool, score: Score) -> None:
    @given(
        parameters=signatures(),
        call=calls,
        end=st.sampled_from(ENDS),
        how=st.sampled_from(["function", "function", "method", "class method", "static method", "partial"]),
    )
    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    def check(parameters: str, call: Any, end: str, how: str) -> None:
        compare(way, is_async, parameters, call, end, how)

    check()
    score(
        "a guarded callable equals the bare one",
        "differences",
        0,
        f"500 {'async' if is_async else 'sync'} {way} calls",
    )


@given(parameters=signatures(), is_async=st.booleans())
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_any_function_looks_as_it_did(parameters: str, is_async: bool) -> None:
    fn = function(parameters, "return", is_async=is_async)
    assert looks(integration.guard(fn)) == looks(fn)
    assert looks(functools.partial(integration.guard(fn)).func) == looks(fn)


def annotated(a: int, b: str = "b", *args: float, c: list[int], **kwargs: bytes) -> tuple[int, ...]:
    """What it does."""
    return (a,)


def test_its_source_file_and_annotations_are_the_functions() -> None:
    guard = integration.guard(annotated)
    assert inspect.getsource(guard) == inspect.getsource(annotated)
    assert inspect.unwrap(guard) is annotated
    assert inspect.get_annotations(guard, eval_str=True) == inspect.get_annotations(annotated, eval_str=True)
    assert inspect.signature(guard) == inspect.signature(annotated)


@pytest.mark.parametrize("count", [254, 255, 256, 300, 5000])
@pytest.mark.parametrize("way", list(WAYS))
def test_hundreds_of_arguments(way: str, count: int) -> None:
    def take(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int]]:
        return args, kwargs

    positional, named = tuple(range(count)), {f"name{n}": n for n in range(count)}
    assert WAYS[way](take)(*positional, **named) == (positional, named)
    assert WAYS[way](take)(*positional) == (positional, {})


@pytest.mark.parametrize("way", ["guard", "once", "judged", "detailed"])
def test_a_function_with_hundreds_of_named_parameters(way: str) -> None:
    names = ", ".join(f"p{n}" for n in range(300))
    space: dict[str, Any] = {}
    exec(f"def wide({names}, *, last=0): return p0 + p299 + last", space)
    guard = WAYS[way](space["wide"])
    assert guard(*range(300), last=1) == 300
    assert guard(**{f"p{n}": n for n in range(300)}) == 299
    with pytest.raises(TypeError, match="missing 300 required positional arguments"):
        guard()


BUILTINS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (len, ("abc",), {}), (len, (), {}), (len, (1,), {}), (sorted, ([3, 1],), {"reverse": True}), (int, ("z",), {"base": 36}),
    (int, ("z",), {}), (print, (), {"nonsense": 1}), (dict, (), {"a": 1}), (max, (1, 2), {"key": lambda n: -n}),
    (str.join, (",", ["a", "b"]), {}), ("text".split, ("x",), {}), (divmod, (1, 0), {}), (next, (iter(()),), {}),
    (next, (iter(()), 5), {}), (getattr, (1, "nothing"), {}), (type, (1,), {}), (object, (), {}), (bytes.fromhex, ("zz",), {}),
    (functools.reduce, (lambda a, b: a + b, [1, 2, 3]), {}), ([].append, (1,), {}), (__import__, ("no such module",), {}),
]  # fmt: skip


@pytest.mark.parametrize("way", ["guard", "judged", "keyed", "detailed", "disabled", "of a guard"])
@pytest.mark.parametrize("which", range(len(BUILTINS)))
def test_builtins(which: int, way: str) -> None:
    fn, args, kwargs = BUILTINS[which]
    expected, frames = seen(fn, args, kwargs, is_async=False)
    actual, seen_frames = seen(WAYS[way](fn), args, kwargs, is_async=False)
    assert actual == expected or fn is object
    assert seen_frames == frames


# ---- tracebacks


def test_a_traceback_has_no_frame_of_ours() -> None:
    """Of an exception that is not retried: all of the way is compiled."""

    def fail() -> None:
        raise KeyError("k")

    async def fail_async() -> None:
        raise KeyError("k")

    for way in ("guard", "once", "judged", "keyed", "detailed", "of a guard", "disabled"):
        assert seen(WAYS[way](fail), (), {}, is_async=False)[1] == seen(fail, (), {}, is_async=False)[1]
        assert seen(WAYS[way](fail_async), (), {}, is_async=True)[1][-1:] == ["fail_async"]
        ours = [name for name in seen(WAYS[way](fail_async), (), {}, is_async=True)[1] if name not in ASYNCIO]
        assert ours == ["fail_async"], way


ASYNCIO = ("run", "run_until_complete")


def test_a_traceback_of_a_retried_call_is_that_of_its_last_attempt() -> None:
    def fail() -> None:
        raise ConnectionError("gone")

    ended, frames = seen(retrying.guard(fail), (), {}, is_async=False)
    assert ended[1][0] is ConnectionError
    assert frames[-1] == "fail"
    assert len(frames) <= 2
    falling = retrying.guard(fail, fallbacks=[Fallback(FallbackType.MOCK, refuse)], operation="falling")
    ended, frames = seen(falling, (), {}, is_async=False)
    assert ended[1][0] is ConnectionError
    assert len(frames) <= 2


# ---- generators, which a block guards from inside


def bare_generator(steps: list[str]) -> Any:
    for step in steps:
        try:
            got = yield step
            if step == "raise":
                raise KeyError(got)
            if step == "return":
                return got
        except ValueError as error:
            yield f"caught {error}"
    return "end"


def guarded_generator(steps: list[str]) -> Any:
    with integration.attempt():
        return (yield from bare_generator(steps))


a_step = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([None, 1, "x"])),
    st.tuples(
        st.just("throw"), st.sampled_from([ValueError("v"), KeyError("k"), GeneratorExit(), KeyboardInterrupt()])
    ),
    st.tuples(st.just("close"), st.none()),
)


def transcript(generator: Any, steps: list[tuple[str, Any]]) -> list[object]:
    told: list[object] = []
    for verb, value in [("send", None), *steps, ("close", None)]:
        try:
            if verb == "send":
                told.append(generator.send(value))
            elif verb == "throw":
                told.append(generator.throw(type(value)(*value.args)))
            else:
                told.append(generator.close())
        except StopIteration as stop:
            told.append(("stopped", stop.value))
        except BaseException as error:
            told.append((type(error), str(error)))
    return told


@given(ways=st.lists(st.sampled_from(["go", "raise", "return"]), max_size=3), steps=st.lists(a_step, max_size=5))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_a_generator_with_a_block_in_it(ways: list[str], steps: list[Any]) -> None:
    assert transcript(guarded_generator(ways), steps) == transcript(bare_generator(ways), steps)
    assert integration.status().probes == 0


# ---- what functools puts on top


def test_functools_on_top_of_every_way() -> None:
    for way, wrap in WAYS.items():
        if way == "by call":
            continue

        class Holder:
            def __init__(self) -> None:
                self.made = 0

            @functools.cached_property
            def cached(self, wrap: Any = wrap) -> int:
                return int(wrap(self.make)())

            def make(self) -> int:
                self.made += 1
                return self.made

            add = wrap(lambda self, a, b=2: (a, b))
            add_to_one = functools.partialmethod(add, 1)

            @functools.singledispatchmethod
            @wrap
            def kind(self, value: object) -> str:
                return "object"

            @kind.register(int)
            @wrap
            def _(self, value: int) -> str:
                return "int"

        holder = Holder()
        assert (holder.cached, holder.cached) == (1, 1)
        assert holder.add_to_one() == (1, 2)
        assert holder.add_to_one(b=3) == (1, 3)
        assert (holder.kind("x"), holder.kind(1)) == ("object", "int")

        @functools.wraps(annotated)
        def outer(*args: Any, wrap: Any = wrap, **kwargs: Any) -> Any:
            return wrap(annotated)(*args, **kwargs)

        assert outer(1, c=[]) == (1,)
        cached = functools.lru_cache(wrap(lambda value: object()))
        assert cached(1) is cached(1)
        dispatched = functools.singledispatch(wrap(lambda value: "object"))
        dispatched.register(int, wrap(lambda value: "int"))
        assert (dispatched("x"), dispatched(1)) == ("object", "int")


def test_remembering_and_falling_back_give_what_the_bare_function_gives() -> None:
    guard = integration.guard(annotated, fallbacks=[database_fallbacks.last_known()], operation="remembering")
    assert guard(1, c=[]) == annotated(1, c=[])
    assert looks(guard)["signature"] == looks(annotated)["signature"]


# ---- types

TYPED = """
from failsoft import Integration
def check(integration: Integration) -> None:
    @integration.guard
    def plain(a: int, *, b: str = "") -> list[int]: return [a]
    @integration.guard(retry=False)
    async def fetch(a: int) -> bytes: return b""
    class Client:
        @integration.guard
        def get(self, key: str) -> float: return 1.0
        @integration.guard
        async def aget(self, key: str) -> float: return 1.0
    reveal_type(plain(1, b="x"))
    reveal_type(plain.outcome(1).data)
    reveal_type(Client().get("x"))
    async def main() -> None:
        reveal_type(await fetch(1))
        reveal_type(await Client().aget("x"))
    plain("wrong")
    Client().get(5)
    fetch()
"""


@pytest.mark.deep
def test_types_are_the_bare_ones(tmp_path: Any) -> None:
    api = pytest.importorskip("mypy.api")
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    said, _, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(tmp_path), str(path)])
    revealed = [line.partition('"')[2].partition('"')[0] for line in said.splitlines() if "Revealed" in line]
    assert revealed[0] == "list[int]" or revealed[0] == "builtins.list[builtins.int]"
    assert [each.rpartition(".")[2] for each in revealed[2:]] == ["float", "bytes", "float"]
    assert sum("error:" in line for line in said.splitlines()) == 4, said  # one for the coroutine that is not awaited
