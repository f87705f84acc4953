"""The course of an alert, whatever comes: what is told is in order, and has an end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from failsoft.alerts import AlertRule, Observation
from failsoft.alerts.notices import FIRING, FLAPPING, RESOLVED
from failsoft.alerts.tracks import Track

SEEN = Observation("db", "database", state="OPEN")
STEPS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans(), st.integers(0, 40)), max_size=60)


@given(STEPS, st.integers(0, 30), st.integers(0, 30), st.integers(0, 100), st.integers(2, 4))
def test_what_is_told_begins_once_and_ends_once(
    steps: list[tuple[bool | None, bool, int]], for_: int, resolve_after: int, no_data: int, flaps: int
) -> None:
    rule = AlertRule("a", when="state == OPEN", for_=for_, resolve_after=resolve_after, no_data=no_data)
    track = Track(rule, ("db", None), flaps, 200.0)
    now, told, told_flapping = 0.0, False, False
    # Then it is well for long enough, and nothing silences it.
    for verdict, silenced, passed in [*steps, *[(False, False, 60)] * 8]:
        now += passed
        before = track.firing
        track.see(verdict, SEEN, now, now)
        if track.firing and not before:
            assert verdict is True
        kind = track.due(silenced, now)
        if kind in (FIRING, FLAPPING):
            assert not silenced
            assert track.firing or track.flaps(now)
            assert not told or (kind == FLAPPING and not told_flapping)
            told, told_flapping = True, kind == FLAPPING
        elif kind == RESOLVED:
            assert told
            assert not track.firing
            told = False
        if not track.flaps(now):
            told_flapping = False
    assert not track.firing
    assert not told
    assert track.idle(now)


@given(STEPS)
def test_without_delays_and_silences_it_is_told_at_once(steps: list[tuple[bool | None, bool, int]]) -> None:
    track = Track(AlertRule("a", when="state == OPEN", no_data=1e9), ("db", None), 1000, 1.0)
    now, shown = 0.0, False
    for verdict, _, passed in steps:
        now += passed
        track.see(verdict, SEEN, now, now)
        kind = track.due(False, now)
        assert kind == (FIRING if verdict and not shown else RESOLVED if verdict is False and shown else None)
        shown = shown if verdict is None else verdict
