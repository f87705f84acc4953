"""Names as a terminal may have them: whatever is in one, it moves no cursor, hides nothing and turns no line around."""

from __future__ import annotations

import unicodedata

_BACKWARDS = {"R", "AL", "AN"}


def shown(name: str, most: int = 48) -> str:
    """A name in at most so many characters, each of which stands still.

    What is no letter, digit or sign is written as Python would, `\\x1b`. So are letters that are read from right to
    left and marks that stand on others, for they would move what is beside them.
    """
    pieces: list[str] = []
    length = 0
    for character in name:
        piece = character if _stands(character) else _escaped(character)
        if length + len(piece) > most:
            return _cut("".join(pieces), most)
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces)


def _stands(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or (
        character.isprintable()
        and not unicodedata.combining(character)
        and unicodedata.category(character)[0] != "M"
        and unicodedata.bidirectional(character) not in _BACKWARDS
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "replace").decode("ascii")


def _cut(text: str, most: int) -> str:
    return text[: most - 1] + "…"
