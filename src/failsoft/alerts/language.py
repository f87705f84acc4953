"""The conditions of rules: a small language of comparisons, read by the parser below and by nothing else.

    condition  = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" condition ")" | comparison
    comparison = measure ( "==" | "!=" | ">" | ">=" | "<" | "<=" ) value
    value      = number [ "%" | "ns" | "us" | "ms" | "s" | "m" | "h" ] | word

    error_rate > 5% and calls >= 20
    type == market_data and (p99 > 250ms or avg > 100ms)

A measure is one of `measures.MEASURES`. A share is a number from 0 to 1 or a percentage, a duration has always its
unit, and words are what the measure can be, in capitals or not. There is no arithmetic, and there are no functions.

A measure may have no value at the moment, as an operation without calls has no error rate. Such a comparison is
neither true nor false, and so is what depends on it: `and` is false all the same where another part is, and `or` true.

The number of calls is 0 then, and can be asked for: `calls == 0`. Where it says how many it takes to judge by something
else, as in `error_rate > 5% and calls >= 20`, none at all is no data either: what fired has not recovered by that.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from ..checks import nearest, shown
from ..config_values import parse_duration
from .measures import INTEGRATION, MEASURES, OPERATION, STREAM, TRUTH, TRUTHS, WORD, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Verdict: TypeAlias = bool | None

LONGEST_TEXT = 1000
"""Characters of a condition."""

DEEPEST = 32
"""Parentheses and negations in one another."""

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_JOINTS = ("and", "or", "not")


class ConditionError(ValueError):
    """A condition that cannot be read: `text` is the condition, `column` (from 1) where the mistake is."""

    def __init__(self, problem: str, text: str, column: int) -> None:
        super().__init__(f"column {column}: {problem}")
        self.text = text
        self.column = column

    @property
    def place(self) -> tuple[str, int]:
        """The condition, and the column in it."""
        return self.text, self.column

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self).partition(": ")[2], self.text, self.column)


def _restore(problem: str, text: str, column: int) -> ConditionError:
    return ConditionError(problem, text, column)


class Comparison:
    """One measure against one value."""

    __slots__ = ("_compare", "_value", "measure")

    def __init__(self, measure: str, compare: Callable[[Any, Any], bool], value: object) -> None:
        self.measure = measure
        self._compare = compare
        self._value = value

    def holds(self, observation: object) -> Verdict:
        """Whether it does; None where the measure has no value."""
        seen = getattr(observation, self.measure)
        if seen is None:
            return None
        return self._compare(str(seen).upper() if isinstance(self._value, str) else seen, self._value)

    def measures(self) -> tuple[str, ...]:
        """What it looks at."""
        return (self.measure,)


class Joined:
    """Several conditions by "and" (`settles` is False: one that is false settles it) or by "or" (True)."""

    __slots__ = ("_parts", "_settles")

    def __init__(self, parts: list[Node], settles: bool) -> None:
        self._parts = parts
        self._settles = settles

    def holds(self, observation: object) -> Verdict:
        """By its parts; None where those without a value could change the answer."""
        unknown = too_few = False
        for part in self._parts:
            verdict = part.holds(observation)
            if verdict is self._settles:
                if verdict or not _for_want_of_calls(part, observation):
                    return verdict
                too_few = True  # which settles it unless what was to be judged by them has no value
            unknown = unknown or verdict is None
        if unknown:
            return None
        return False if too_few else not self._settles

    def measures(self) -> tuple[str, ...]:
        """What its parts look at, each once."""
        return tuple(dict.fromkeys(name for part in self._parts for name in part.measures()))


def _for_want_of_calls(part: Node, observation: object) -> bool:
    """Whether a part that is false asks for calls, and there are none."""
    return part.measures() == ("calls",) and getattr(observation, "calls", None) == 0


class Negated:
    """The contrary of a condition."""

    __slots__ = ("_part",)

    def __init__(self, part: Node) -> None:
        self._part = part

    def holds(self, observation: object) -> Verdict:
        """None stays None."""
        verdict = self._part.holds(observation)
        return None if verdict is None else not verdict

    def measures(self) -> tuple[str, ...]:
        """What it looks at."""
        return self._part.measures()


if TYPE_CHECKING:
    Node: TypeAlias = Comparison | Joined | Negated


class Condition:
    """A condition that has been read."""

    __slots__ = ("_root", "measures", "per", "text")

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.measures = root.measures()
        self.per = per_of(self.measures)
        self._root = root

    def __repr__(self) -> str:
        return f"<Condition {self.text!r}>"

    def holds(self, observation: object) -> Verdict:
        """Whether it does; None where there are no data to tell by."""
        return self._root.holds(observation)

    def values(self, observation: object) -> dict[str, object]:
        """What it looked at, by name."""
        return {name: getattr(observation, name) for name in self.measures}

    def words(self, observation: object) -> str:
        """The same in words."""
        return ", ".join(f"{name} {words_of(name, value)}" for name, value in self.values(observation).items())


def per_of(measures: tuple[str, ...]) -> str:
    """What a condition over these is looked at for each of: the narrowest of what its measures are known of."""
    kinds = {MEASURES[name].per for name in measures}
    return STREAM if STREAM in kinds else OPERATION if OPERATION in kinds else INTEGRATION


def parse(text: str) -> Condition:
    """Read a condition. ConditionError, a ValueError, names the column and what may stand there."""
    if not isinstance(text, str):
        raise TypeError(f"a condition must be a string, got {shown(text)}")
    if len(text) > LONGEST_TEXT:
        raise ConditionError(f"a condition has at most {LONGEST_TEXT} characters, got {len(text)}", text, LONGEST_TEXT)
    return _Parser(text).condition()


class _Token:
    __slots__ = ("column", "kind", "text")

    def __init__(self, kind: str, text: str, column: int) -> None:
        self.kind = kind
        self.text = text
        self.column = column


def _tokens(text: str) -> list[_Token]:
    import re

    pattern = re.compile(
        r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?(?:%|[A-Za-z]+)?)|(?P<word>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign>[<>=!]=|[<>=()]))"
    )
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        found = pattern.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ConditionError(f"{text[at]!r} means nothing here", text, at + 1)
        kind = found.lastgroup or ""
        tokens.append(_Token(kind, found[kind], found.start(kind) + 1))
        at = found.end()
    tokens.append(_Token("end", "", end + 1))
    return tokens


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._deep = 0

    def condition(self) -> Condition:
        root = self._any()
        if self._next.kind != "end":
            raise self._wrong("'and', 'or' or the end", self._next)
        read = Condition(self._text, root)
        streams = [name for name in read.measures if MEASURES[name].per == STREAM]
        operations = [name for name in read.measures if MEASURES[name].per == OPERATION]
        if streams and operations:
            problem = f"{streams[0]} is of a stream and {operations[0]} of an operation: a condition is about one"
            column = next(token.column for token in self._tokens if token.text.lower() == operations[0])
            raise ConditionError(problem, self._text, column)
        return read

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _taken(self, word: str) -> bool:
        if self._next.text.lower() != word:
            return False
        self._at += 1
        return True

    def _wrong(self, expected: str, token: _Token) -> ConditionError:
        got = f"got {shown(token.text)}" if token.text else "the condition ends"
        return ConditionError(f"expected {expected}, {got}", self._text, token.column)

    def _any(self) -> Node:
        parts = [self._all()]
        while self._taken("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Joined(parts, True)

    def _all(self) -> Node:
        parts = [self._one()]
        while self._taken("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Joined(parts, False)

    def _one(self) -> Node:
        self._deep += 1
        if self._deep > DEEPEST:
            raise ConditionError(f"more than {DEEPEST} parentheses in one another", self._text, self._next.column)
        node = self._inner()
        self._deep -= 1
        return node

    def _inner(self) -> Node:
        if self._taken("not"):
            return Negated(self._one())
        if self._taken("("):
            node = self._any()
            if not self._taken(")"):
                raise self._wrong("'and', 'or' or ')'", self._next)
            return node
        return self._comparison()

    def _comparison(self) -> Comparison:
        token = self._take()
        name = token.text.lower()
        if token.kind != "word" or name in _JOINTS:
            raise self._wrong(f"a measure ({', '.join(MEASURES)})", token)
        if name not in MEASURES:
            near = nearest(name, list(MEASURES)) or f"; it must be one of {', '.join(MEASURES)}"
            raise ConditionError(f"{shown(token.text)} is not a measure{near}", self._text, token.column)
        compare = self._compare(name)
        return Comparison(name, _COMPARISONS[compare], self._value(name))

    def _compare(self, name: str) -> str:
        token = self._take()
        if token.text == "=":
            raise ConditionError("'=' compares nothing; write '=='", self._text, token.column)
        ordered = MEASURES[name].kind not in (WORD, TRUTH)
        allowed = list(_COMPARISONS) if ordered else ["==", "!="]
        if token.text not in allowed:
            raise self._wrong(f"one of {' '.join(allowed)} after {name}", token)
        return token.text

    def _value(self, name: str) -> object:
        measure, token = MEASURES[name], self._take()
        text = token.text
        try:
            match measure.kind:
                case "word" if token.kind == "word" and text.upper() in (word.upper() for word in measure.words):
                    return text.upper()
                case "truth" if text.lower() in TRUTHS:
                    return text.lower() == "true"
                case "number" if token.kind == "number":
                    return float(text)
                case "share" if token.kind == "number":
                    return _share(text)
                case "duration" if token.kind == "number":
                    return parse_duration(text)
        except ValueError:
            pass
        raise self._wrong(f"{measure.form} after {name}", token)


def _share(text: str) -> float:
    share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if share > 1.0:
        raise ValueError(text)
    return share
