"""Deadlines on their way to another process, so that a server stops work that nobody waits for any more.

What travels is how long the caller will still wait, never a point in time: the clocks of the two hosts do not matter,
only the time on the way, which the receiver cannot see (see `margin`). It is rounded down, so that nobody is granted
more than there is.

The HTTP header is Envoy's `x-envoy-expected-rq-timeout-ms`, whole milliseconds: the one header for this that proxies
already write (Envoy and what is built on it, such as Istio, tell a server by it how long the request may take), so that
a server behind one has its deadline though the client knows nothing of failsoft. `grpc-timeout` is read too, and
written where it is asked for. Where several are there the least holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping

from ._core import limits, now_ns
from .checks import LONGEST
from .course import SECOND
from .deadlines import Deadline

__all__ = ["GRPC", "HEADER", "extract_deadline", "grpc_timeout", "inject_deadline", "parse_grpc_timeout"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = "x-envoy-expected-rq-timeout-ms"
GRPC = "grpc-timeout"

_MILLISECOND = 1_000_000
_UNITS = {"n": 1, "u": 1_000, "m": _MILLISECOND, "S": SECOND, "M": 60 * SECOND, "H": 3600 * SECOND}
"""ns in each unit of gRPC's: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"""

_WSGI = "http_"
"""What the names of headers begin with in a WSGI environment, where they have "_" for "-"."""

_LARGER = {"n": "u", "u": "m", "m": "S"}

_DIGITS_MOST = 8
"""Of a grpc-timeout."""

_NUMBER_MOST = 32
"""Characters of one. What is longer is no number of milliseconds anybody meant."""

_TEXT_MOST = 256
"""Characters of a header that are looked at."""


def inject_deadline(headers: MutableMapping[str, str], *, header: str = HEADER, margin: float = 0.0) -> None:
    """Write into `headers` how long the deadline in force leaves: nothing where there is none, "0" where it has passed.

    In whole milliseconds, rounded down; under `header="grpc-timeout"` as gRPC writes it. `margin` is in seconds and
    taken off for the way there and back, so that the server gives up before its caller does.
    """
    left = _left(margin)
    if left is not None:
        name = header.lower()
        for other in [key for key in headers if key != header and _text(key).lower() == name]:
            del headers[other]  # as it came from our own caller, say: there is one deadline
        headers[header] = _grpc(left) if header.lower() == GRPC else str(left // _MILLISECOND)


def extract_deadline(
    headers: Mapping[Any, Any] | Iterable[tuple[Any, Any]], *, header: str = HEADER, most: float = LONGEST
) -> Deadline:
    """The deadline that a request's headers tell, running from now; one without a limit where they tell none.

        with extract_deadline(request.headers):
            ...

    `headers` is a mapping, be it a WSGI environment, or pairs as of ASGI and gRPC metadata, of str or bytes; names in
    whatever case. Of several the least holds. What is no number, negative, or overlong counts as not there, and nobody
    is given more than `most` seconds. Never raises on account of what the headers hold.
    """
    if isinstance(most, bool) or not isinstance(most, (int, float)) or not 0.0 < most <= LONGEST:
        raise ValueError(f"most must be a number of seconds above 0 to {LONGEST:g}, got {most!r}")
    try:
        told = _told(headers, header.lower())
    except Exception:  # whatever the mapping is
        told = None
    return Deadline(None if told is None else min(told / SECOND, most), runs=True)


def grpc_timeout(*, margin: float = 0.0) -> str | None:
    """What the deadline in force leaves, as gRPC writes it: "250m". None where there is none, "0n" where it has passed.

    At most eight digits and a unit, rounded down. `margin` is in seconds, as for `inject_deadline`.
    """
    left = _left(margin)
    return None if left is None else _grpc(left)


def parse_grpc_timeout(text: str) -> float | None:
    """Seconds that a grpc-timeout tells; None where it is none."""
    ns = _from_grpc(text) if isinstance(text, str) else None
    return None if ns is None else ns / SECOND


def _left(margin: float) -> int | None:
    """ns that the deadline in force leaves."""
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0.0 <= margin <= LONGEST:
        raise ValueError(f"margin must be a number of seconds from 0 to {LONGEST:g}, got {margin!r}")
    around = limits()
    return None if around is None else max(around[0] - now_ns() - math.ceil(margin * SECOND), 0)


def _grpc(ns: int) -> str:
    unit = next(unit for unit, size in _UNITS.items() if ns // size < 10**_DIGITS_MOST)  # 1e9 s are 277778 hours
    count = ns // _UNITS[unit]
    while unit in _LARGER and count and count % 1000 == 0:  # as short as it is exact
        unit, count = _LARGER[unit], count // 1000
    return f"{count}{unit}"


def _from_grpc(text: str) -> int | None:
    digits, size = text[:-1], _UNITS.get(text[-1:])
    if size is None or len(digits) > _DIGITS_MOST or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits) * size


def _from_millis(text: str) -> int | None:
    return int(text) * _MILLISECOND if len(text) <= _NUMBER_MOST and text.isascii() and text.isdigit() else None


def _told(headers: Any, name: str) -> int | None:
    """ns that the headers grant, by the least of what they say."""
    found: list[int] = []
    for key, value in headers.items() if hasattr(headers, "items") else headers:
        field = _text(key).lower()
        if field.startswith(_WSGI):
            field = field.removeprefix(_WSGI).replace("_", "-")
        if field != name and field not in (HEADER, GRPC):
            continue
        read = _from_grpc if field == GRPC else _from_millis
        for one in value if isinstance(value, (list, tuple)) else (value,):
            ns = read(_text(one).strip())
            if ns is not None:
                found.append(ns)
    return min(found, default=None)


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value[: _TEXT_MOST + 1]).decode("latin-1")
    return value if isinstance(value, str) and len(value) <= _TEXT_MOST else ""
