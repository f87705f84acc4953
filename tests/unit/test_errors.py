"""Errors: their fields however made, and their way between processes, into copies and through JSON."""

import copy
import enum
import json
import math
import pickle
import subprocess
import sys
import time
import traceback
from collections import OrderedDict
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import (
    CircuitOpenError,
    DegradedModeError,
    ErrorCategory,
    IntegrationError,
    IntegrationTimeoutError,
    IntegrationType,
    classify_error,
)
from failsoft.classify import retry_after_of

FIELDS = {
    "code": "DB_CIRCUIT_OPEN",
    "category": ErrorCategory.UNKNOWN,
    "message": "database refuses calls for 12.5 s",
    "details": {"failures": 5},
    "original_error": None,
    "timestamp": 1234567890.0,
    "retryable": True,
    "integration_type": IntegrationType.DATABASE,
    "integration_name": "database",
    "operation": "get_robots",
    "attempts": 0,
    "retry_after": 12.5,
    "reason": "5 consecutive failures",
}


DEGRADED = {**FIELDS, "code": "DB_DEGRADED", "capacity": 0.25}
KINDS = [IntegrationError, CircuitOpenError, DegradedModeError, IntegrationTimeoutError]


class Refusal:
    """Stands for the compiled one: it describes itself, and pickling it would be a mistake."""

    def __init__(self, fields):
        self.fields = fields
        self.asked = 0

    def describe(self):
        self.asked += 1
        return dict(self.fields)

    def __reduce__(self):
        raise AssertionError("a refusal must stay behind")


def refused(cls=CircuitOpenError):
    """Make an error as C does: allocated, not initialised, with the refusal as its only argument."""
    error = cls.__new__(cls)
    error.args = (Refusal(DEGRADED if cls is DegradedModeError else FIELDS),)
    return error


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


class TwoArguments(Exception):
    """The classic that pickles and does not come back."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status_text = status


class TestConstructor:
    def test_the_seeds_error(self):
        original = TimeoutError("10 s")
        error = IntegrationError(
            "Database query timed out after 10s",
            category=ErrorCategory.TIMEOUT,
            details={"timeout": 10.0, "query": "SELECT * FROM robots"},
            original_error=original,
            timestamp=1234567890,
            integration_type=IntegrationType.DATABASE,
        )
        assert error.code == "DB_TIMEOUT"
        assert error.retryable
        assert error.original_error is error.__cause__ is original
        assert str(error) == error.message == "Database query timed out after 10s"
        assert error.args == (error.message,)
        assert error.to_dict() == {
            "type": "IntegrationError",
            "code": "DB_TIMEOUT",
            "category": "TIMEOUT",
            "message": "Database query timed out after 10s",
            "details": {"timeout": 10.0, "query": "SELECT * FROM robots"},
            "original_error": "TimeoutError('10 s')",
            "timestamp": 1234567890,
            "retryable": True,
            "integration_type": "database",
            "integration_name": None,
            "operation": None,
            "attempts": 0,
            "retry_after": None,
            "reason": None,
        }
        assert json.loads(json.dumps(error.to_dict())) == error.to_dict()

    def test_defaults(self):
        before = time.time()
        error = IntegrationError()
        assert before <= error.timestamp <= time.time()
        assert (error.code, error.category, str(error)) == ("INTEGRATION_UNKNOWN", ErrorCategory.UNKNOWN, "")
        assert error.details == {}
        assert not error.retryable

    @pytest.mark.parametrize(
        ("kind", "prefix"),
        [*zip(IntegrationType, ["DB", "AI", "MARKET", "CACHE", "API"], strict=True)],
    )
    @pytest.mark.parametrize("category", ErrorCategory)
    def test_codes(self, kind, prefix, category):
        assert IntegrationError("", category=category, integration_type=kind).code == f"{prefix}_{category}"
        assert CircuitOpenError("", integration_type=kind).code == f"{prefix}_CIRCUIT_OPEN"
        assert DegradedModeError("", integration_type=kind).code == f"{prefix}_DEGRADED"
        assert IntegrationTimeoutError("", integration_type=kind).code == f"{prefix}_TIMEOUT"

    @pytest.mark.parametrize("category", ErrorCategory)
    def test_what_may_pass_is_retryable(self, category):
        transient = category in {"TIMEOUT", "NETWORK", "SERVER_ERROR", "RATE_LIMIT"}
        assert IntegrationError(category=category).retryable is transient
        assert IntegrationError(category=category, retryable=not transient).retryable is not transient

    @pytest.mark.parametrize("cls", [CircuitOpenError, DegradedModeError])
    def test_a_refusal_knows_nothing_of_the_peer_and_may_be_another_time(self, cls):
        assert cls().category is ErrorCategory.UNKNOWN
        assert cls().retryable
        assert not cls(retryable=False).retryable

    def test_a_degraded_mode_says_its_capacity(self):
        error = DegradedModeError("one call in four", capacity=0.25, reason="recovering", details={"symbol": "BTC"})
        assert (error.capacity, error.reason, str(error)) == (0.25, "recovering", "one call in four")
        assert DegradedModeError().capacity is None
        assert not hasattr(CircuitOpenError(), "capacity")

    def test_fields_are_keywords(self):
        with pytest.raises(TypeError):
            IntegrationError("message", ErrorCategory.TIMEOUT)

    def test_details_are_copied(self):
        details = {"symbol": "BTC"}
        error = IntegrationError(details=details)
        details.clear()
        assert error.details == {"symbol": "BTC"}

    def test_without_an_original_error_the_context_stays_visible(self):
        def fail():
            try:
                raise KeyError("lost")
            except KeyError:
                raise IntegrationError("outer")  # noqa: B904 - the context is under test

        assert "KeyError: 'lost'" in "".join(traceback.format_exception(raised(fail)))

    def test_a_timeout_is_a_timeout(self):
        error = IntegrationTimeoutError("too late", timestamp=1)
        assert isinstance(error, TimeoutError)
        assert str(error) == "too late"
        assert error.category is ErrorCategory.TIMEOUT
        assert error.errno is None

    def test_repr(self):
        assert repr(CircuitOpenError("no")) == "CircuitOpenError('no', code='INTEGRATION_CIRCUIT_OPEN')"


class TestLazyFields:
    @pytest.mark.parametrize("name", FIELDS)
    def test_any_field_asks_the_refusal(self, name):
        assert getattr(refused(), name) == FIELDS[name]

    def test_a_degraded_mode_asks_for_its_capacity_too(self):
        error = refused(DegradedModeError)
        assert error.capacity == 0.25
        assert (error.code, error.args[0].asked) == ("DB_DEGRADED", 1)
        assert refused(DegradedModeError).to_dict() == {"type": "DegradedModeError", **DEGRADED}

    def test_only_a_degraded_mode_has_a_capacity(self):
        error = refused(CircuitOpenError)
        with pytest.raises(AttributeError, match="capacity"):
            error.capacity
        assert error.args[0].asked == 0

    def test_once(self):
        error = refused()
        refusal = error.args[0]
        assert refusal.asked == 0
        for name in FIELDS:
            getattr(error, name)
        assert (str(error), refusal.asked) == (FIELDS["message"], 1)

    def test_everything_else_works_without_the_constructor(self):
        assert str(refused()) == FIELDS["message"]
        assert repr(refused()) == f"CircuitOpenError({FIELDS['message']!r}, code='DB_CIRCUIT_OPEN')"
        assert refused().to_dict() == {"type": "CircuitOpenError", **FIELDS}
        assert FIELDS["message"] in "".join(traceback.format_exception(refused()))
        assert classify_error(refused()) is ErrorCategory.UNKNOWN
        assert retry_after_of(refused()) == 12.5

    @pytest.mark.parametrize("name", ["nothing", "describe", "__wrapped__", "mesage"])
    def test_other_names_do_not_ask(self, name):
        error = refused()
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(error, name)
        assert error.args[0].asked == 0
        assert (caught.value.name, caught.value.obj) == (name, error)

    @pytest.mark.parametrize("args", [(), ("text",), (Refusal,)])
    def test_without_a_refusal_a_field_is_what_a_bare_error_has(self, args):
        error = CircuitOpenError.__new__(CircuitOpenError)
        error.args = args
        if args == (Refusal,):  # the class itself, not one of its objects, does not describe
            assert not hasattr(type(Refusal), "describe")
        assert (error.code, error.category, error.attempts) == ("INTEGRATION_UNKNOWN", ErrorCategory.UNKNOWN, 0)

    def test_a_field_that_the_refusal_omits_is_what_a_bare_error_has(self):
        class Terse:
            def describe(self):
                return {"message": "no"}

        error = CircuitOpenError.__new__(CircuitOpenError)
        error.args = (Terse(),)
        assert str(error) == "no"
        assert error.code == "INTEGRATION_UNKNOWN"

    def test_a_field_set_before_the_first_look_stays(self):
        error = refused()
        error.attempts = 3
        assert (error.message, error.attempts) == (FIELDS["message"], 3)
        assert pickle.loads(pickle.dumps(error)).attempts == 3


def pickled(error):
    return pickle.loads(pickle.dumps(error))


def round_trips(error):
    yield from (pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    yield copy.copy(error)
    yield copy.deepcopy(error)


def filled(cls):
    """Make an error with every field set, by its constructor."""
    fields = {name: value for name, value in FIELDS.items() if name != "message"}
    return cls("no", **fields, **({"capacity": 0.25} if cls is DegradedModeError else {}))


IN_ANOTHER_PROCESS = """
import pickle, sys
from failsoft import CircuitOpenError, integration

came = pickle.load(sys.stdin.buffer)
database = integration("database", "database")
database.force_open()
try:
    database.guard(print, operation="say")()
except CircuitOpenError as error:
    error.add_note("from afar")
    refused = error
pickle.dump((came, came.__cause__, came.__notes__, refused, sys.modules.get("asyncio")), sys.stdout.buffer)
"""


class TestPickling:
    @pytest.mark.parametrize("cls", KINDS)
    def test_every_field_comes_back(self, cls):
        error = filled(cls)
        error.add_note("seen at noon")
        for again in round_trips(error):
            assert type(again) is cls
            assert again.to_dict() == error.to_dict()
            assert (str(again), again.args) == ("no", ("no",))
            assert again.__notes__ == ["seen at noon"]

    @pytest.mark.parametrize("cls", [CircuitOpenError, DegradedModeError, IntegrationTimeoutError])
    def test_a_refusal_stays_behind(self, cls):
        for again in round_trips(refused(cls)):
            assert again.to_dict() == refused(cls).to_dict()
            assert again.args == (FIELDS["message"],)

    def test_the_original_error_comes_along(self):
        for again in round_trips(IntegrationError("no", original_error=KeyError("robots"))):
            assert type(again.original_error) is KeyError
            assert again.__cause__ is again.original_error

    def test_so_does_another_cause(self):
        error = CircuitOpenError("no", original_error=KeyError("robots"))
        error.__cause__ = LookupError("why")
        for again in round_trips(error):
            assert (repr(again.original_error), repr(again.__cause__)) == ("KeyError('robots')", "LookupError('why')")

    def test_a_cause_that_cannot_travel_does_not(self):
        error = CircuitOpenError("no")
        error.__cause__ = TwoArguments(503, "down")
        assert pickled(error).__cause__ is None
        assert copy.copy(error).__cause__ is error.__cause__

    @pytest.mark.parametrize("original", [TwoArguments(503, "down"), OSError(lambda: None)])
    def test_an_original_that_cannot_travel_degrades_to_its_repr(self, original):
        error = IntegrationError("no", original_error=original)
        again = pickle.loads(pickle.dumps(error))
        assert again.original_error == repr(original)
        assert again.__cause__ is None
        assert again.to_dict() == error.to_dict()
        assert error.original_error is original

    def test_only_the_details_that_cannot_travel_degrade(self):
        lock = (x for x in ())
        error = IntegrationError("no", details={"query": "SELECT 1", "cursor": lock, "more": {"a": lock, lock: 1}})
        details = pickle.loads(pickle.dumps(error)).details
        assert details == {"query": "SELECT 1", "cursor": repr(lock), "more": {"a": repr(lock), repr(lock): 1}}

    def test_a_hostile_repr_does_not_stop_it(self):
        class Hostile:
            def __repr__(self):
                raise RuntimeError

        details = pickle.loads(pickle.dumps(IntegrationError(details={"x": Hostile()}))).details
        assert "Hostile" in details["x"]

    def test_a_subclass_with_another_constructor(self):
        for again in round_trips(Renamed(7)):
            assert (type(again), again.number, str(again)) == (Renamed, 7, "number 7")

    def test_an_error_that_holds_itself(self):
        inner, details = IntegrationError("in"), {}
        details["again"] = details
        error = IntegrationError("no", details={"error": inner, "loop": details})
        inner.original_error = error
        assert pickled(error).details["error"].original_error.message == "no"
        deep = copy.deepcopy(error)
        assert deep.details["error"].original_error is deep
        assert deep.details["loop"]["again"] is deep.details["loop"]

    def test_a_long_chain_of_errors_costs_no_more_than_it_is_long(self):
        error = IntegrationError("0")
        for number in range(1, 200):
            error = IntegrationError(str(number), original_error=error)
        assert len(pickle.dumps(error)) < 20_000
        assert pickled(error).original_error.original_error.message == "197"

    def test_a_shallow_copy_shares_what_a_deep_one_copies(self):
        original, cursor = TwoArguments(503, "down"), (x for x in ())
        error = IntegrationError("no", original_error=original, details={"cursor": cursor, "more": [1]})
        shallow, deep = copy.copy(error), copy.deepcopy(error)
        assert shallow.details is error.details
        assert deep.details == error.details
        assert deep.details["more"] is not error.details["more"]
        for again in (shallow, deep):  # what cannot be copied is shared
            assert again.original_error is again.__cause__ is original
            assert again.details["cursor"] is cursor

    def test_to_another_process_and_back(self):
        error = DegradedModeError(
            "half", capacity=0.5, original_error=KeyError("robots"), details={"gen": (x for x in ())}
        )
        error.add_note("seen at noon")
        done = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS], input=pickle.dumps(error), stdout=subprocess.PIPE, check=True
        )
        came, cause, notes, refusal, asyncio = pickle.loads(done.stdout)
        assert came.to_dict() == error.to_dict()
        assert (repr(cause), notes, came.capacity) == ("KeyError('robots')", ["seen at noon"], 0.5)
        assert type(refusal) is CircuitOpenError
        assert (refusal.code, refusal.operation, refusal.reason) == ("DB_CIRCUIT_OPEN", "say", "operator")
        assert refusal.__notes__ == ["from afar"]
        assert asyncio is None  # errors need nothing heavy to travel


class Renamed(IntegrationError):
    def __init__(self, number):
        super().__init__(f"number {number}")
        self.number = number


class Color(enum.IntEnum):
    RED = 1


class Price(float):
    """As numpy's: a float of its own kind."""

    def __repr__(self):
        return "Price(...)"


class Torn(OrderedDict):
    def items(self):
        raise RuntimeError("changed during iteration")

    def __repr__(self):
        return "torn"


def said(value):
    """What a strict reader of JSON gets for a value in `details`."""
    error = IntegrationError("no", details={"value": value})
    text = json.dumps(error.to_dict(), allow_nan=False)
    assert json.loads(text) == error.to_dict()
    return json.loads(text)["details"]["value"]


class TestJSON:
    @pytest.mark.parametrize("cls", KINDS)
    def test_there_and_back(self, cls):
        error = filled(cls)
        error.original_error = KeyError("robots")
        said = json.loads(json.dumps(error.to_dict(), allow_nan=False))
        assert said["type"] == cls.__name__
        again = IntegrationError.from_dict(said)
        assert type(again) is cls
        assert again.to_dict() == error.to_dict()
        assert again.original_error == "KeyError('robots')"
        assert again.__cause__ is None
        assert again.category is error.category
        assert again.integration_type is IntegrationType.DATABASE
        assert again.details == error.details
        assert (str(again), again.args) == ("no", ("no",))
        assert type(cls.from_dict(said)) is cls
        assert pickled(again).to_dict() == again.to_dict()

    @pytest.mark.parametrize(
        ("value", "there"),
        [
            (None, None),
            (True, True),
            ("é\ud800", "é\ud800"),
            (ErrorCategory.TIMEOUT, "TIMEOUT"),
            (Color.RED, 1),
            (2**600, 2**600),
            (Price(1.5), 1.5),
            (math.nan, "nan"),
            (-math.inf, "-inf"),
            (b"x", "b'x'"),
            ({1}, "{1}"),
            (KeyError("x"), "KeyError('x')"),
            ((0.5, (1, math.inf)), [0.5, [1, "inf"]]),
            ({"a": {1: [b"x"], None: 2, "b": {}}}, {"a": {"1": ["b'x'"], "None": 2, "b": {}}}),
            (MappingProxyType({"a": 1}), {"a": 1}),
            (Torn(a=1), "torn"),
        ],
        ids=repr,
    )
    def test_details(self, value, there):
        assert said(value) == there

    def test_an_int_too_long_to_print(self):
        assert isinstance(said(10**5000), str)

    def test_a_hostile_repr(self):
        class Hostile:
            def __repr__(self):
                raise RuntimeError

        assert "Hostile" in said(Hostile())

    def test_what_holds_itself_is_followed_once(self):
        wide = {}
        wide.update({str(number): wide for number in range(50)})
        assert set(said(wide).values()) == {repr(wide)}

    def test_what_is_nested_without_end_is_cut(self):
        deep = []
        for _ in range(100_000):
            deep = [deep]
        assert len(json.dumps(said(deep))) < 1_000_000
        del deep

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
        )
    )
    def test_any_details_can_be_said(self, value):
        said(value)
        error = IntegrationError("no", details={"value": value}, timestamp=0)
        assert IntegrationError.from_dict(error.to_dict()).to_dict() == error.to_dict()

    def test_a_number_that_is_none_is_not_said(self):
        error = DegradedModeError(capacity=math.nan, retry_after=math.inf, timestamp=math.nan)
        said = json.loads(json.dumps(error.to_dict(), allow_nan=False))
        assert (said["capacity"], said["retry_after"], said["timestamp"]) == (None, None, 0.0)
        assert IntegrationError.from_dict(said).retry_after is None

    def test_a_derived_class_goes_by_the_name_of_ours(self):
        class VenueClosed(CircuitOpenError):
            pass

        assert VenueClosed().to_dict()["type"] == "CircuitOpenError"
        assert Renamed(7).to_dict()["type"] == "IntegrationError"
        with pytest.raises(ValueError, match="type must be a class of failsoft's own"):
            VenueClosed.from_dict(VenueClosed().to_dict())

    def test_what_is_left_out_is_unknown(self):
        error = IntegrationError.from_dict({"type": "DegradedModeError", "message": "no"})
        assert (error.message, error.code, error.details, error.capacity) == ("no", "INTEGRATION_UNKNOWN", {}, None)
        error.details["mine"] = 1
        assert IntegrationError.from_dict({"type": "IntegrationError"}).details == {}

    @pytest.mark.parametrize("name", [None, 7, [], "", "KeyError", "Renamed", "failsoft.errors.CircuitOpenError"])
    def test_an_unknown_type_is_refused(self, name):
        with pytest.raises(ValueError, match=r"type must be one of IntegrationError, CircuitOpenError, .*, got"):
            IntegrationError.from_dict({**FIELDS, "type": name})

    def test_a_class_reads_itself_alone(self):
        with pytest.raises(ValueError, match="type must be one of CircuitOpenError, got 'IntegrationTimeoutError'"):
            CircuitOpenError.from_dict({"type": "IntegrationTimeoutError"})

    @pytest.mark.parametrize("field", ["capacity", "Message", "originalError", "__class__", "args", 7])
    def test_an_unknown_field_is_refused(self, field):
        with pytest.raises(ValueError, match=f"{field!r} is not a field of CircuitOpenError; it has code, category"):
            IntegrationError.from_dict({"type": "CircuitOpenError", field: 1})

    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("code", None, "of type str"),
            ("message", 7, "of type str"),
            ("category", "TIMEDOUT", "one of TIMEOUT, RATE_LIMIT"),
            ("category", None, "one of TIMEOUT"),
            ("category", ["TIMEOUT"], "one of TIMEOUT"),
            ("integration_type", "DATABASE", "one of database"),
            ("details", [], "of type dict"),
            ("original_error", {}, "of type str"),
            ("timestamp", None, "a finite number"),
            ("timestamp", True, "a finite number"),
            ("timestamp", math.nan, "a finite number"),
            ("retry_after", math.inf, "a finite number"),
            ("retry_after", "7", "a finite number"),
            ("retryable", 1, "of type bool"),
            ("attempts", True, "of type int"),
            ("attempts", 1.5, "of type int"),
            ("capacity", 1.01, "a number from 0 to 1"),
            ("capacity", -0.1, "a number from 0 to 1"),
        ],
    )
    def test_a_value_out_of_place_is_refused(self, field, value, allowed):
        with pytest.raises(ValueError, match=f"{field} must be {allowed}") as caught:
            IntegrationError.from_dict({"type": "DegradedModeError", field: value})
        assert repr(value) in str(caught.value)

    @pytest.mark.parametrize("state", [None, [], "{}", 7])
    def test_what_is_no_mapping_is_a_type_error(self, state):
        with pytest.raises(TypeError, match="mapping"):
            IntegrationError.from_dict(state)
