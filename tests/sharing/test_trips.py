"""What trips one process trips all that share its arena, with the very next call; probes are probes of all."""

from __future__ import annotations

import signal
import time

import pytest

from failsoft.arena import attach
from tests.sharing.conftest import Start, wait_for


def test_a_trip_in_one_refuses_the_very_next_call_in_another(arena: str, start: Start) -> None:
    one, other = start(command=True), start(command=True)
    one.run("g = guard()")
    other.run("g = guard(); g()")
    one.run("fail(g, 3)")
    assert other.run("answer = [refused(g), numbers()]") == [True, [1, 0, 0, 0, 1]]
    assert attach(arena).status("quotes").state == "OPEN"
    other.run("service().reset()")
    assert one.run("answer = refused(g)") is False


def test_failures_of_several_processes_in_a_row_trip_together(start: Start) -> None:
    one, other = start(), start()
    for process in (one, other):
        process.run("g = guard(threshold=4)")
    for process in (one, other, one):
        process.run("fail(g)")
    assert other.run("answer = str(service(threshold=4).status().state)") == "CLOSED"
    other.run("fail(g)")
    assert one.run("answer = refused(g)")


def test_the_failure_rate_is_that_of_all(start: Start) -> None:
    one, other = start(), start()
    settings = "threshold=1000, failure_rate=0.5, minimum_calls=20"
    for process in (one, other):
        process.run(f"g = guard({settings})")
    one.run("[g() for _ in range(12)]")
    other.run("fail(g, 11)")
    assert one.run("answer = refused(g)") is False
    other.run("fail(g, 2)")
    assert one.run("answer = refused(g)")


@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_trips_its_parent(kind: str, arena: str, start: Start) -> None:
    parent = start(FAILSOFT_ARENA=arena)  # where a child is a new program, it shares as the environment says
    parent.run("g = guard(); g()")
    parent.run(
        f"""
        import multiprocessing
        from tests.sharing.jobs import trip
        child = multiprocessing.get_context({kind!r}).Process(target=trip)
        child.start(); child.join(); answer = child.exitcode
        """
    )
    assert parent.run("answer = [refused(g), numbers()]") == [True, [1, 0, 0, 0, 1]]
    assert attach(arena)["quotes"].metrics("job").error_count == 3


def test_probes_of_all_processes_together_are_as_many_as_one_may_have(arena: str, start: Start) -> None:
    workers = [start() for _ in range(4)]
    settings = "reset=0.05, half_open_max_calls=2, success_threshold=2"
    for worker in workers:
        worker.run(f"b = service({settings}).breaker; g = guard({settings})")
    workers[0].run("fail(g, 3)")
    time.sleep(0.06)
    permits = [
        worker.run("held = [p for p in (b.acquire() for _ in range(5)) if p]; answer = len(held)") for worker in workers
    ]
    assert sum(permits) == 2
    assert attach(arena).status("quotes").probes == 2
    workers[[many > 0 for many in permits].index(True)].run("[b.ignore(p) for p in held]")
    assert sum(worker.run("answer = len([p for p in (b.acquire() for _ in range(5)) if p])") for worker in workers) in (
        1,
        2,
    )


def test_a_process_killed_with_a_probe_under_way_gives_it_back_and_its_counts_stay(arena: str, start: Start) -> None:
    one, other = start(), start()
    settings = "reset=0.05, half_open_max_calls=1, success_threshold=1, timeout=0.3"
    for process in (one, other):
        process.run(f"b = service({settings}).breaker; g = guard({settings})")
    other.run("[g() for _ in range(5)]")
    one.run("g(); fail(g, 3)")
    time.sleep(0.06)
    assert one.run("answer = b.acquire() > 0")
    assert other.run("answer = refused(g)")
    one.kill()
    wait_for(lambda: not other.run("answer = refused(g)"))
    assert attach(arena).status("quotes").state == "CLOSED"
    seen = attach(arena)["quotes"]
    assert [seen.metrics("job").count, seen.metrics("job").error_count] == [10, 3]
    start().run(f"g = guard({settings}); g()")  # takes the place of the dead
    assert len(attach(arena).processes()) == 2
    seen = attach(arena)["quotes"]
    assert [seen.metrics("job").count, seen.metrics("job").error_count] == [11, 3]


def test_a_stopped_process_holds_nobody_up(arena: str, start: Start) -> None:
    one, other = start(), start()
    one.run("g = guard(); fail(g)")
    one.kill(signal.SIGSTOP)
    other.run("g = guard(); fail(g, 2)")
    assert other.run("answer = refused(g)")
    assert attach(arena)["quotes"].metrics("job").error_count == 3
    one.kill(signal.SIGCONT)
    assert one.run("answer = refused(g)")


def test_a_process_that_leaves_a_fleet_lets_those_follow_on_that_share_its_breaker(start: Start) -> None:
    one = start()
    assert one.run(
        """
        import time
        from failsoft.fleets.syncer import Syncer
        from tests.reference.fleet_client import Memory
        memory, breaker = Memory(), service(reset=0.05).breaker
        first, second, third = (
            Syncer(memory.client, registry.default, member=f"host/{n}", namespace="n", interval=0.2, counts=False, quorum=1)
            for n in range(3)
        )
        [one.round() for one in (first, second, third)]
        [breaker.failure(breaker.acquire()) for _ in range(3)]
        time.sleep(0.3)  # the store counts again
        [one.round() for one in (first, second, third)]
        time.sleep(0.06)
        first.leave()
        answer = [str(breaker.state), bool(breaker.acquire())]
        second.round()  # and is let
        answer.append(second.breakers()["quotes"].probing)
        second.leave()
        answer.append(bool(breaker.acquire()))
        """
    ) == ["OPEN", False, True, False]
