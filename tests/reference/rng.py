"""The generator behind the jitter, so that a seeded sequence can be foretold on any machine.

xoshiro256++ by Blackman and Vigna, its four words drawn from the seed by splitmix64; both as published at
https://prng.di.unimi.it.
"""

from __future__ import annotations

from collections.abc import Iterator

WORD = 2**64 - 1


def splitmix64(state: int) -> Iterator[int]:
    """Words drawn from a counter that starts at `state`."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & WORD
        word = state
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
        yield word ^ (word >> 31)


def rotate_left(word: int, by: int) -> int:
    """The bits of a word, turned."""
    return (word << by | word >> (64 - by)) & WORD


def xoshiro256(words: list[int]) -> Iterator[int]:
    """The ++ variant of the generator, from a state of four words."""
    s = list(words)
    while True:
        yield (rotate_left((s[0] + s[3]) & WORD, 23) + s[0]) & WORD
        shifted = s[1] << 17 & WORD
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotate_left(s[3], 45)


def units(seed: int) -> Iterator[float]:
    """Numbers in [0, 1) from the top 53 bits of each word."""
    seeds = splitmix64(seed)
    for word in xoshiro256([next(seeds) for _ in range(4)]):
        yield (word >> 11) / 2**53
