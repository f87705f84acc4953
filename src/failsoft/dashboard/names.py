"""Names as a page may show them. They are users' text: of any length, with any character."""

from __future__ import annotations

from hashlib import sha256
from unicodedata import category

MOST = 160
"""Characters of a name that are shown."""

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories that are not seen, or change how what is around them reads: controls, marks of direction, surrogates."""


def shown(text: object, most: int = MOST) -> str:
    """At most so many characters, each visible: controls as their pictures, what has none as U+FFFD."""
    words = text if type(text) is str else str(text)
    return "".join(map(_seen, words[:most])) + ("…" if len(words) > most else "")


def _seen(character: str) -> str:
    if " " <= character <= "~":
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    return "\ufffd" if category(character) in _UNSEEN else character


def identity(name: str) -> str:
    """What stands for a name in addresses: the same tomorrow, short whatever the name."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
