"""Names and numbers as they go into a page. Whatever a name holds, it is text there and nothing else."""

from __future__ import annotations

from ..checks import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..decisions import Decision

LONGEST = 160
"""Characters of a name or a value that are shown."""

_MARKS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def inert(thing: object, longest: int = LONGEST) -> str:
    """A thing in words: cut, escaped for text and attributes, and what cannot be seen or turns text round shown as a
    code."""
    text = thing if isinstance(thing, str) else shown(thing)
    cut = text[: longest - 1] + "\u2026" if len(text) > longest else str(text)
    if not cut.isprintable():
        cut = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in cut)
    return cut.translate(_MARKS)


def latency(seconds: float) -> str:
    """Seconds with the unit that suits them; a dash for none."""
    if seconds != seconds:
        return "\u2013"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("\u00b5s", 1e-6)):
        if seconds >= size * 0.9995:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0 s"


def percent(share: float | None) -> str:
    """A share of 0 to 1; a dash for none."""
    return "\u2013" if share is None else f"{share * 100:.3g}%"


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def times(decision: Decision) -> str:
    """How often a decision was made, where it was more than once."""
    return f" ({count(decision.count)} times)" if decision.count > 1 else ""


def span(seconds: float) -> str:
    """How long ago, or how long, as one would say it."""
    if seconds < 60.0:
        return latency(seconds)
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
