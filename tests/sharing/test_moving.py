"""What was there before `share()` goes on, with the breakers of all: guards of every kind, metrics, operators' words."""

from __future__ import annotations

import fcntl

from failsoft.arena import arena_path, attach
from tests.sharing.conftest import Start


def test_guards_of_every_kind_go_on_as_they_are(arena: str, start: Start) -> None:
    early, other = start(shares=False), start(shares=False)
    early.run(
        f"""
        import asyncio
        plain = service("plain").guard(job)
        async def later(fails=False): return job(fails)
        waits = service("async").guard(later)
        class Client:
            @service("method").guard
            def get(self, fails=False): return job(fails)
        keyed = service("keyed").guard(lambda key, fails=False: job(fails), key=lambda key, *rest: key, operation="get")
        def old(): return failsoft.with_integration_resilience("external_api", "old", job)
        client = Client()
        plain(), asyncio.run(waits()), client.get(), keyed("a"), old()
        failsoft.share({arena!r})
        """
    )
    names = ["async", "keyed", "keyed[a]", "method", "old", "plain"]
    assert [one.name for one in attach(arena)] == names
    other.run(
        f"""
        failsoft.share({arena!r})
        registry.default.integration("old", "external_api")
        [service(name) for name in ("plain", "async", "method", "keyed")]
        for name in ("plain", "async", "method", "old"): registry.default[name].force_open()
        """
    )
    assert early.run(
        """
        def no(call):
            try: call()
            except CircuitOpenError: return True
            return False
        answer = [no(plain), no(lambda: asyncio.run(waits())), no(client.get), no(lambda: keyed("a")), old().success]
        """
    ) == [True, True, True, False, False]
    assert early.run("answer = str(registry.default['old'].status().state)") == "FORCED_OPEN"
    counts = {one.name: one.total().count for one in attach(arena)}
    assert counts == {"async": 1, "keyed": 0, "keyed[a]": 2, "method": 1, "old": 1, "plain": 1}


def test_a_shard_of_a_key_trips_for_all(arena: str, start: Start) -> None:
    one, other = start(shares=False), start()
    make = "keyed = service().guard(lambda key, fails=False: job(fails), key=lambda key, *rest: key, operation='get')"
    one.run(f"{make}; keyed('a'), keyed('b'); failsoft.share({arena!r})")
    other.run(f"{make}; keyed('a')")
    one.run("[fail(lambda _: keyed('a', True)) for _ in range(3)]")
    assert other.run("answer = [refused(lambda: keyed('a')), refused(lambda: keyed('b'))]") == [True, False]
    assert attach(arena).status("quotes[a]").state == "OPEN"


def test_what_has_been_counted_before_counts_once(arena: str, start: Start) -> None:
    one = start(shares=False)
    one.run(f"g = guard(); g(); fail(g); failsoft.share({arena!r}); g()")
    assert attach(arena)["quotes"].metrics("job").count == 3
    assert one.run("answer = numbers()") == [3, 1, 0, 0, 0]
    later = start()
    later.run("g = guard(); fail(g)")
    assert attach(arena)["quotes"].metrics("job").error_count == 2


def test_what_an_operator_has_said_before_goes_for_all(arena: str, start: Start) -> None:
    for word, state in [("force_open", "FORCED_OPEN"), ("disable", "DISABLED"), ("metrics_only", "METRICS_ONLY")]:
        name = f"service-{word}"
        one, other = start(shares=False), start()
        other.run(f"g = guard({name!r})")
        one.run(f"g = guard({name!r}); service({name!r}).{word}(); failsoft.share({arena!r})")
        assert other.run(f"answer = str(service({name!r}).status().state)") == state


def test_a_process_that_comes_is_told_by_the_breaker_that_is_there(arena: str, start: Start) -> None:
    one, late = start(), start(shares=False)
    one.run("g = guard(); fail(g, 3)")
    late.run(f"g = guard(); fail(g, 2); g(); failsoft.share({arena!r})")
    assert late.run("answer = refused(g)")
    assert late.run("answer = str(service().explain())").count("CLOSED -> OPEN") == 1


def test_those_who_disagree_have_a_breaker_each_and_are_told_once(arena: str, start: Start) -> None:
    one, other = start(), start()
    one.run("g = guard(threshold=3)")
    other.run(
        "g = guard(threshold=4); service(threshold=4); h = service(threshold=4).guard(lambda: 1, operation='more')"
    )
    lines = other.run("answer = told.lines")
    assert len(lines) == 1
    assert "quotes" in lines[0]
    assert "1 other process has it with other settings" in lines[0]
    one.run("fail(g, 3)")
    assert other.run("answer = refused(g)") is False
    assert [(one.name, str(one.status().state)) for one in attach(arena)] == [
        ("quotes", "OPEN"),
        ("quotes (2)", "CLOSED"),
    ]


def test_who_reconfigures_goes_alone_and_is_joined_by_who_follows(arena: str, start: Start) -> None:
    one, other = start(), start()
    for process in (one, other):
        process.run("g = guard(); g()")
    one.run("service().reconfigure(circuit_breaker={'failure_threshold': 2})")
    one.run("fail(g, 2)")
    assert other.run("answer = refused(g)") is False
    assert other.run("service().reconfigure(circuit_breaker={'failure_threshold': 2}); answer = refused(g)")
    seen = {one.name: (str(one.status().state), one.total().count) for one in attach(arena)}
    assert seen["quotes"] == ("OPEN", 5)
    assert one.run("answer = numbers()") == [3, 2, 0, 0, 0]
    assert other.run("answer = numbers()") == [2, 0, 0, 0, 1]


def test_integrations_and_operations_made_afterwards_are_shared(arena: str, start: Start) -> None:
    one, other = start(), start()
    one.run("a = service().guard(job, operation='first'); b = service().guard(job, operation='second')")
    other.run("b = service().guard(job, operation='second'); a = service().guard(job, operation='first')")
    one.run("a(), b(), b()")
    other.run("b()")
    seen = attach(arena)["quotes"]
    assert {name: seen.metrics(name).count for name in seen.operations} == {"first": 1, "second": 3}


def test_threads_that_share_at_the_same_moment_take_one_slot(arena: str, start: Start) -> None:
    start().end()  # makes the file
    one = start(shares=False)
    with open(arena_path(arena), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one.run(
            f"""
            import threading, time
            g = guard(); g()
            threads = [threading.Thread(target=failsoft.share, args=({arena!r},)) for _ in range(8)]
            [t.start() for t in threads]
            time.sleep(0.1)
            """
        )
    one.run("[t.join() for t in threads]")
    assert [process.pid for process in attach(arena).processes() if process.alive] == [one.pid]
    assert attach(arena)["quotes"].total().count == 1


def test_again_with_the_same_name_nothing_happens_and_another_name_is_refused(arena: str, start: Start) -> None:
    one = start()
    assert one.run(f"answer = failsoft.share({arena!r}).name") == arena
    assert one.run(
        f"""
        try: failsoft.share({arena!r} + "-other")
        except failsoft.ArenaError as error: answer = [error.reason, str(error)]
        """
    ) == ["other", f"this process shares the arena {arena!r} already, and cannot share '{arena}-other' too"]
    assert len(attach(arena).processes()) == 1


def test_the_environment_shares_at_import(arena: str, start: Start) -> None:
    one = start(shares=False, FAILSOFT_ARENA=arena)
    one.run("pass")
    assert [process.pid for process in attach(arena).processes()] == [one.pid]
    one.run("g = guard(); g()")
    assert attach(arena)["quotes"].total().count == 1
    one.end()
    assert [process.alive for process in attach(arena).processes()] == [False]
    assert attach(arena)["quotes"].total().count == 1


def test_a_bad_name_in_the_environment_is_logged_and_nothing_is_shared(start: Start) -> None:
    one = start(shares=False, FAILSOFT_ARENA="no name!")
    assert one.run("answer = registry.default.sharing is None")


def test_who_reconfigures_while_an_operation_waits_to_be_named(arena: str, start: Start) -> None:
    one = start()
    thresholds = one.run(
        f"""
        import fcntl, threading, time
        from failsoft.arena import arena_path
        g = guard(); g(); quotes = service()
        file = open(arena_path({arena!r}), "r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        made = []
        def name(): made.append(service().guard(job, operation="later"))
        def change(): service().reconfigure(circuit_breaker={{"failure_threshold": 2}})
        threads = [threading.Thread(target=name), threading.Thread(target=change)]
        threads[0].start(); time.sleep(0.05); threads[1].start(); time.sleep(0.05)
        early = quotes.config.circuit_breaker.failure_threshold
        fcntl.flock(file, fcntl.LOCK_UN)
        [thread.join() for thread in threads]
        made[0](), g()
        answer = [early, quotes.config.circuit_breaker.failure_threshold]
        """
    )
    assert thresholds == [3, 2]
    seen = attach(arena)["quotes"]
    assert {name: seen.metrics(name).count for name in seen.operations} == {"job": 2, "later": 1}
    one.run("fail(g, 2)")
    assert one.run("answer = refused(made[0])")


def test_what_a_degraded_mode_leaves_is_left_to_all_and_the_last_word_holds(arena: str, start: Start) -> None:
    one, other = start(), start()
    for process in (one, other):
        process.run("g = guard()")
    one.run("failsoft.enter_degraded_mode('quotes', 0.5)")
    assert other.run("answer = service().status().capacity") == 0.5
    other.run("failsoft.enter_degraded_mode('quotes', 0.2); failsoft.exit_degraded_mode('quotes')")
    assert one.run("answer = service().status().capacity") == 1.0
    late = start(shares=False)
    late.run("g = guard(); failsoft.enter_degraded_mode('quotes', 0.25)")
    late.run(f"failsoft.share({arena!r})")
    assert one.run("answer = service().status().capacity") == 0.25


def test_budgets_and_load_control_are_seen_also_if_they_come_later(arena: str, start: Start) -> None:
    one = start()
    inside = one.run(
        f"""
        from failsoft.arena import attach
        early = registry.default.integration("early", "database", bulkhead={{"max_concurrent": 2}})
        late = registry.default.integration("late", "database", retry_budget=None)
        late.reconfigure(retry_budget=failsoft.RetryBudget(share=0.5), bulkhead=failsoft.Bulkhead(2))
        answer = []
        for each in (early, late):
            each.reconfigure(retry_policy={{"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0}})
            answer.append(each.guard(lambda: attach({arena!r})[each.name].in_flight(), operation="inside")())
            fail(each.guard(job), 2)
        """
    )
    assert inside == [1, 1]
    assert {one.name: one.retries() for one in attach(arena)} == {"early": (2, 0, 0), "late": (2, 0, 0)}


def test_faults_are_injected_by_whoever_says_so_for_as_long_as_he_does(arena: str, start: Start) -> None:
    one, other, third = start(), start(), start(shares=False)
    begin = "quotes = guard(); plan = failsoft.chaos('quotes', outcome='chaos').start()"
    one.run(begin)
    other.run(begin)
    third.run(f"{begin}; failsoft.share({arena!r})")
    one.run("plan.stop()")
    assert [process.run("answer = quotes()") for process in (one, other, third)] == ["done", "chaos", "chaos"]
    other.kill()
    third.run("registry.default['quotes'].reconfigure(circuit_breaker={'failure_threshold': 4})")
    assert third.run("answer = quotes()") == "chaos"
    third.run("registry.default['quotes'].reconfigure(circuit_breaker={'failure_threshold': 3})")
    one.run("keyed = service().guard(lambda key: 'done', key=lambda key: key, operation='get'); keyed('a')")
    third.run("keyed = service().guard(lambda key: 'done', key=lambda key: key, operation='get')")
    assert [process.run("answer = keyed('a')") for process in (one, third)] == ["done", "chaos"]


def test_calls_for_keys_go_on_while_others_wait_for_a_process_that_is_stopped(arena: str, start: Start) -> None:
    one = start()
    waited = one.run(
        f"""
        import fcntl, threading, time
        from failsoft.arena import arena_path
        quotes = service()
        keyed = quotes.guard(lambda key: key, key=lambda key: key, operation="get")
        keyed("a"), keyed("b")
        file = open(arena_path({arena!r}), "r+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        change = threading.Thread(target=lambda: quotes.reconfigure(circuit_breaker={{"failure_threshold": 2}}))
        change.start(); time.sleep(0.05)
        began = time.monotonic()
        keyed("c")
        answer = time.monotonic() - began
        fcntl.flock(file, fcntl.LOCK_UN)
        change.join()
        """
    )
    assert waited < 0.5
    assert one.run("answer = [one.breaker.shared for one in registry.default.with_shards()]") == [
        True,
        True,
        True,
        False,
    ]


def test_a_key_that_is_forgotten_is_not_told_to_be_silent(arena: str, start: Start) -> None:
    """The arena still knows it, though nobody is there to call it."""
    from failsoft.alerts import AlertRule, Alerts

    one = start()
    one.run("by = service('alpha').guard(lambda k: k, operation='quote', key=lambda k: k, max_keys=1)")
    one.run("by(1), by(2), by(3)")
    alerts = Alerts([AlertRule("silent", when="calls == 0")], source=attach(arena))
    assert alerts.tick() == ()
