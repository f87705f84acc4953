"""A child of a fork counts for itself, from nothing, in a slot of its own, and has its parent's breakers."""

from __future__ import annotations

import fcntl

from failsoft.arena import arena_path, attach
from tests.sharing.conftest import Start


def test_a_child_counts_from_nothing_and_leaves_its_parents_counts_alone(arena: str, start: Start) -> None:
    parent = start()
    parent.run("g = guard(); [g() for _ in range(5)]; fail(g)")
    child = parent.run("answer = in_fork(lambda: [numbers(), g(), fail(g), numbers()])")
    assert child == [[0, 0, 0, 0, 0], "done", None, [2, 1, 0, 0, 0]]
    assert parent.run("answer = numbers()") == [6, 1, 0, 0, 0]
    assert attach(arena)["quotes"].metrics("job").count == 8
    parent.run("g()")
    assert parent.run("answer = numbers()") == [7, 1, 0, 0, 0]


def test_a_child_knows_nothing_of_what_its_parent_has_reset(start: Start) -> None:
    parent = start()
    parent.run("g = guard(); [g() for _ in range(5)]; failsoft.integration_metrics.reset('quotes'); g()")
    assert parent.run("answer = numbers()") == [1, 0, 0, 0, 0]
    assert parent.run("answer = in_fork(lambda: [numbers(), g(), g(), numbers()])") == [
        [0, 0, 0, 0, 0], "done", "done", [2, 0, 0, 0, 0],
    ]  # fmt: skip
    assert parent.run("answer = numbers()") == [1, 0, 0, 0, 0]


def test_a_trip_of_a_child_is_one_of_its_parent_and_the_other_way_round(start: Start) -> None:
    parent = start()
    parent.run("g = guard(); in_fork(lambda: fail(g, 3))")
    assert parent.run("answer = refused(g)")
    assert parent.run("answer = in_fork(lambda: refused(g))")


def test_children_of_children(arena: str, start: Start) -> None:
    parent = start()
    parent.run("g = guard(); g()")
    assert parent.run("answer = in_fork(lambda: [g(), in_fork(lambda: [g(), g(), numbers()]), numbers()])") == [
        "done", ["done", "done", [2, 0, 0, 0, 0]], [1, 0, 0, 0, 0],
    ]  # fmt: skip
    assert attach(arena)["quotes"].metrics("job").count == 4


def test_a_key_seen_first_in_a_child_is_shared_from_there(arena: str, start: Start) -> None:
    parent = start()
    parent.run("keyed = service().guard(lambda key: job(), key=lambda key: key, operation='get'); keyed('a')")
    parent.run("in_fork(lambda: [keyed('a'), keyed('b')])")
    counts = {one.name: one.total().count for one in attach(arena)}
    assert counts == {"quotes": 0, "quotes[a]": 2, "quotes[b]": 1}


def test_forks_while_other_threads_call_and_share(arena: str, start: Start) -> None:
    parent = start(shares=False)
    parent.run(
        f"""
        import threading
        done = False
        g = guard(threshold=60000)
        ran = [0, 0]
        def calls(at):
            while not done: g(); ran[at] += 1
        threads = [threading.Thread(target=calls, args=(at,)) for at in (0, 1)]
        threads.append(threading.Thread(target=failsoft.share, args=({arena!r},)))
        [t.start() for t in threads]
        children = [in_fork(lambda: [failsoft.share({arena!r}) is not None, [g() for _ in range(10)] and numbers()[0]])
                    for _ in range(10)]
        done = True
        [t.join() for t in threads]
        answer = children
        """
    )
    children = parent.run("answer = children")
    assert all(shared for shared, _ in children)
    own = parent.run("answer = [numbers()[0], sum(ran)]")
    assert own[0] == own[1]
    seen = attach(arena)["quotes"].metrics("job").count
    assert seen == own[0] + sum(count for _, count in children)
    assert [one.alive for one in attach(arena).processes() if one.pid == parent.pid] == [True]


def test_a_child_keeps_nothing_of_a_lock_that_its_parent_waits_for(arena: str, start: Start) -> None:
    """Or the lock would be the child's as long as it lives, if its parent were killed while holding it."""
    start().end()  # makes the file
    parent = start(shares=False)
    parent.run("g = guard(); g()")
    path = arena_path(arena)
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        answer = parent.run(
            f"""
            import threading, time
            def opened():
                found = []
                for descriptor in os.listdir("/proc/self/fd"):
                    try: found.append(os.readlink(f"/proc/self/fd/{{descriptor}}"))
                    except OSError: pass
                return found.count({path!r})
            thread = threading.Thread(target=failsoft.share, args=({arena!r},))
            thread.start()
            while not opened(): time.sleep(0.001)
            answer = in_fork(opened)
            """
        )
    parent.run("thread.join()")
    assert answer == 0
    assert [process.alive for process in attach(arena).processes() if process.pid == parent.pid] == [True]
    assert parent.run(f"answer = in_fork(lambda: [g(), failsoft.share({arena!r}) is not None])") == ["done", True]
    assert len(attach(arena).processes()) == 2  # the child, gone, has had one place


def test_what_fails_in_a_child_keeps_nothing_else_from_knowing_of_the_fork(arena: str, start: Start) -> None:
    parent = start()
    parent.run(
        """
        import sys
        from failsoft import forks
        class Fails:
            def forked(self): raise RuntimeError("can't start new thread")
        failing = [Fails() for _ in range(20)]
        [forks.remember(one) for one in failing]
        sys.unraisablehook = lambda _: None
        g = guard()
        in_fork(g)
        """
    )
    assert attach(arena)["quotes"].metrics("job").count == 1
