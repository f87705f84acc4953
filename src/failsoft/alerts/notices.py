"""What somebody is told, and what is known of alerts and of who told whom."""

from __future__ import annotations

from collections.abc import Mapping

from ..records import Record, field_names
from .measures import span

FIRING, RESOLVED, FLAPPING = "firing", "resolved", "flapping"
"""What a notice is of."""

LONGEST_NAME = 200
"""Characters of a name in what is sent."""


LONGEST_KEY = 400
"""Characters of an alert's key that are kept; longer ones end in a checksum."""


class Notice(Record):
    """One thing to tell: an alert fires, is resolved, or has begun to flap.

    `key` names the alert, the same each time, and `number` counts its notices, so that `id` is of this one alone.
    `condition` is what was asked, `values` what was seen by measure (shares from 0 to 1, durations in seconds), and
    `words` the same for people. `reason` is why it ends, "recovered" or "no data", None for others. `since` and
    `timestamp` are in seconds since the epoch, `lasted` in seconds.
    """

    kind: str
    rule: str
    severity: str
    integration: str
    operation: str | None
    condition: str
    values: Mapping[str, object]
    words: str
    summary: str
    reason: str | None
    since: float
    lasted: float
    timestamp: float
    number: int

    @property
    def key(self) -> str:
        """What is the same for all notices of one alert."""
        return key_of(self.rule, self.integration, self.operation)

    @property
    def id(self) -> str:
        """What is of this notice alone, for receivers that get it twice."""
        return f"{self.key}/{self.since:.3f}/{self.number}"

    def as_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON, names and texts cut where they are longer than anybody reads."""
        fields: dict[str, object] = {name: getattr(self, name) for name in field_names(Notice)}
        fields = {name: cut(value) if isinstance(value, str) else value for name, value in fields.items()}
        return {**fields, "values": dict(self.values), "key": self.key, "id": self.id}

    def __str__(self) -> str:
        whom = plain(self.integration) + (f".{plain(self.operation)}" if self.operation else "")
        after = f" after {span(self.lasted)}, {self.reason}" if self.kind == RESOLVED else ""
        return f"{self.kind}: {self.rule}: {plain(self.summary) or whom} ({plain(self.words)}){after}"


def key_of(rule: str, integration: str, operation: str | None) -> str:
    """What names an alert."""
    key = f"{rule}/{integration}" + (f"/{operation}" if operation else "")
    if len(key) <= LONGEST_KEY:
        return key
    from zlib import crc32

    return f"{key[:LONGEST_KEY]}#{crc32(key.encode(errors='replace')):08x}"


def cut(text: str) -> str:
    """A text that is no longer than anybody reads."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def plain(text: str) -> str:
    """The same on one line: what cannot be seen, or would begin another line of a log, is a code."""
    short = cut(text)
    if short.isprintable():
        return short
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in short)


class SinkStatus(Record):
    """How notices fared with one sink: `sent`, `failed` for good, `dropped` as the queue was full, and `waiting`."""

    name: str
    sent: int
    failed: int
    dropped: int
    waiting: int


class AlertsStatus(Record):
    """How alerts stand, read at one moment; counts are since the start.

    `firing` and `pending` are how many alerts are so now. Of the notices, `sent` were handed to the sinks, `silenced`
    and `held` (for an alert that flaps) were not. `rule_errors` counts functions of rules that raised, `read_errors`
    looks at a source that did, and `untracked` alerts beyond the most that are kept apart.
    """

    running: bool
    rules: int
    firing: int
    pending: int
    looks: int
    sent: int
    silenced: int
    held: int
    rule_errors: int
    read_errors: int
    untracked: int
    sinks: tuple[SinkStatus, ...]
