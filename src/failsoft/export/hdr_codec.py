"""One histogram as HdrHistogram writes it into logs, and reads it: the compressed V2 encoding, in base64.

Written from the format alone (encodeIntoCompressedByteBuffer of https://github.com/HdrHistogram/HdrHistogram), since
hdrhistogram's C codec turns the GIL of a free-threaded Python back on. Three significant digits: finer than our own
buckets, each of which falls into one of theirs.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable, Iterator

_DIGITS = 3
_SUB_BITS = 10  # of the half of the 2048 linear steps that three digits take
_LOWEST, _HIGHEST = 1, 1 << 42

_COOKIE, _COMPRESSED = 0x1C849313, 0x1C849314
_BODY_MOST = 1 << 25
"""Bytes of one that are unpacked: more than all steps of five digits take."""

_SHIFT_MOST = 63

_OUTER, _HEADER = struct.Struct(">ii"), struct.Struct(">iiiiqqd")


def encode(cells: Iterable[tuple[int, int]]) -> str:
    """(value in ns, count) pairs, ascending, as one word."""
    payload, expected = bytearray(), 0
    for value, count in cells:
        index = _index(value)
        zeros = index - expected
        if zeros:
            _put(payload, -zeros if zeros > 1 else 0)
        _put(payload, count)
        expected = index + 1
    if not payload:
        _put(payload, 0)
    body = _HEADER.pack(_COOKIE, len(payload), 0, _DIGITS, _LOWEST, _HIGHEST, 1.0) + payload
    packed = zlib.compress(body)
    return base64.b64encode(_OUTER.pack(_COMPRESSED, len(packed)) + packed).decode()


def decode(word: str) -> list[tuple[int, int]]:
    """(middle of a step in HdrHistogram's unit, count) pairs, ascending. ValueError for what is no such word."""
    try:
        raw = base64.b64decode(word, validate=True)
        cookie, length = _OUTER.unpack_from(raw)
        if cookie & ~0xF0 != _COMPRESSED & ~0xF0 or length != len(raw) - _OUTER.size:
            raise ValueError("it is no compressed V2 histogram")
        inflating = zlib.decompressobj()
        body = inflating.decompress(raw[_OUTER.size :], _BODY_MOST)
        if not inflating.eof:
            raise ValueError("it is cut off, or too large")
        cookie, length, offset, digits, lowest, _highest, ratio = _HEADER.unpack_from(body)
    except (binascii.Error, zlib.error, struct.error, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if cookie & ~0xF0 != _COOKIE & ~0xF0 or length != len(body) - _HEADER.size:
        raise ValueError("it is no V2 histogram")
    if not 0 <= digits <= 5 or lowest < 1 or offset != 0 or ratio != 1.0:
        raise ValueError(f"digits {digits}, lowest value {lowest}, offset {offset} or ratio {ratio} is out of range")
    half = max((2 * 10**digits - 1).bit_length() - 1, 0)
    return [_middle(index, count, half, lowest.bit_length() - 1) for index, count in _counts(body[_HEADER.size :])]


def _middle(index: int, count: int, half: int, unit: int) -> tuple[int, int]:
    shift = max((index >> half) - 1, 0)
    step = shift + unit
    if step > _SHIFT_MOST:
        raise ValueError("it holds values above the range")
    return ((index - (shift << half)) << step) + ((1 << step) >> 1), count


def _counts(payload: bytes) -> Iterator[tuple[int, int]]:
    """Indices and what is counted there, without the zeros."""
    at = index = 0
    while at < len(payload):
        number = bits = 0
        for place in range(9):
            if at >= len(payload):
                raise ValueError("it ends within a number")
            byte = payload[at]
            at += 1
            whole = place == 8
            number |= (byte if whole else byte & 0x7F) << bits
            if whole or byte < 0x80:
                break
            bits += 7
        count = (number >> 1) ^ -(number & 1)
        if count < 0:
            index -= count
        else:
            if count:
                yield index, count
            index += 1


def _index(value: int) -> int:
    """Where HdrHistogram counts a value, at three digits and a unit of 1."""
    shift = max(value.bit_length() - _SUB_BITS - 1, 0)
    return (shift << _SUB_BITS) + (value >> shift)


def _put(payload: bytearray, number: int) -> None:
    """Zigzag, then seven bits a byte, the last of nine bytes whole."""
    left = (number << 1) ^ (number >> 63)
    for _ in range(8):
        if left < 0x80:
            payload.append(left)
            return
        payload.append(left & 0x7F | 0x80)
        left >>= 7
    payload.append(left)
