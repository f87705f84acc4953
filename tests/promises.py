"""What failsoft promises, and the tests that hold it to that: the rows of docs/reliability.md, in their order.

`by` names test files, tests ("file::test") or C programs ("c:name"); a row without any says in `missing` why it is not
covered. A row marked `must` would stop a release. Figures come from the tests themselves: what they report by `score`
under a sentence that begins with one of `figures`. A row `elsewhere` is shown by another command (`missing` says which), whose figures
must all be 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One row."""

    sentence: str
    by: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    must: bool = True
    missing: str = ""
    elsewhere: bool = False


CONFORMANCE, PROPERTY, ANOMALIES = "tests/conformance/test_", "tests/property/test_", "tests/anomalies/test_"
THREADS = "tests/concurrency/test_breaker_threads.py"

ROOMS: dict[str, tuple[Promise, ...]] = {
    "The state machine": (
        Promise(
            "Every admitted call ends once, as success, failure or ignored, and gives its permit back.",
            ("c:breaker_calls", "c:breaker_walk", f"{ANOMALIES}allocations.py", f"{PROPERTY}breaker.py", f"{THREADS}"),
            ("permits are conserved",),
        ),
        Promise(
            "A probe that is cancelled, at whatever await, frees its permit.",
            (f"{ANOMALIES}cancellation.py", f"{CONFORMANCE}cancelled.py"),
            ("cancelling a probe",),
        ),
        Promise(
            "No kind of outcome of the last probe wedges a breaker half-open.",
            (f"{PROPERTY}breaker.py", "c:breaker_explored", f"{ANOMALIES}callbacks.py"),
            ("a breaker recovers", "the breaker closes again"),
        ),
        Promise(
            "A late answer never opens or closes a newer state.",
            ("c:breaker_explored", f"{PROPERTY}guard.py", f"{PROPERTY}breaker.py"),
            ("each change is a row of the table", "all interleavings of the breaker", "the core takes every row"),
        ),
        Promise(
            "A stampede at the end of a wait never lets more probes go than allowed.",
            (f"{THREADS}::test_a_stampede_at_the_end_of_the_wait_never_exceeds_the_cap", "c:breaker_threads"),
        ),
        Promise(
            "A probe that never returns, its thread dead or stopped, holds nothing longer than its lease.",
            ("c:breaker_explored", f"{PROPERTY}breaker.py"),
            ("the breaker closes again from every state",),
        ),
        Promise(
            "Each opening is told once, however many failures come after it.",
            (f"{THREADS}::test_each_opening_is_told_once", "c:breaker_explored"),
        ),
        Promise(
            "Rates are those of exactly the window; below the minimum of calls there is none.",
            (f"{PROPERTY}window.py", f"{PROPERTY}breaker.py", "c:window", "c:window_explored", "c:rates_explored"),
            ("all interleavings of the windows", "all interleavings of the breaker, its rates", "core and model agree"),
        ),
        Promise(
            "An open breaker always comes to probe, and a recovered dependency always ends closed.",
            ("c:breaker_explored", "c:breaker_calls"),
            ("a breaker recovers", "the breaker closes again"),
        ),
        Promise(
            "Retries, hedges, batches, blocks and streams pass the same gate as calls.",
            (f"{CONFORMANCE}hedges.py", f"{CONFORMANCE}batches.py", f"{CONFORMANCE}streams.py", f"{PROPERTY}guard.py"),
        ),
        Promise(
            "A refusal is no failure and no latency sample, and ends the retries.",
            (f"{PROPERTY}guard.py", f"{CONFORMANCE}recovery.py", f"{CONFORMANCE}decisions.py"),
            must=False,
        ),
        Promise(
            "What an operator says is never lost to traffic.",
            (f"{THREADS}::test_an_operator_is_not_overruled_by_traffic", "c:breaker_explored"),
            must=False,
        ),
        Promise(
            "Settings changed under traffic: calls that are out end by the old ones, and nothing is lost; a breaker that moves, to "
            "other settings or to where processes share it, goes on where it was.",
            (f"{CONFORMANCE}reconfigure.py", "c:move_explored"),
            ("all interleavings of the breaker, one that moves",),
            must=False,
        ),
        Promise(
            "Windows of one call, thresholds of one and of 100 %, waits of nothing: the smallest breakers, through all short "
            "histories.",
            (f"{PROPERTY}breaker.py::test_every_short_history_of_every_small_breaker",),
        ),
    ),
    "Python": (
        Promise(
            "A listener, classifier, judge, fallback, key or log handler that raises changes nobody's result.",
            (f"{ANOMALIES}callbacks.py", f"{CONFORMANCE}events.py", f"{CONFORMANCE}hostile.py"),
            (),
        ),
        Promise(
            "No lock of ours is held while code of users runs.",
            (f"{CONFORMANCE}hostile.py", f"{CONFORMANCE}dedupe.py", f"{THREADS}"),
        ),
        Promise(
            "Ctrl-C, at any bytecode, goes on its way and holds nothing.",
            (f"{ANOMALIES}interrupts.py",),
            ("Ctrl-C is never lost",),
        ),
        Promise(
            "SystemExit, GeneratorExit, MemoryError and RecursionError pass as they are, with traceback, context and notes.",
            ("tests/differential", f"{CONFORMANCE}guard_sync.py", f"{CONFORMANCE}guard_async.py"),
        ),
        Promise(
            "Guards nested to the recursion limit end in a RecursionError.",
            (f"{ANOMALIES}collector.py", f"{CONFORMANCE}guard_sync.py"),
            ("a guard takes little of the stack",),
        ),
        Promise(
            "Collections and finalisers that call the same guard, at every allocation.",
            (f"{ANOMALIES}collector.py", f"{CONFORMANCE}hostile.py"),
        ),
        Promise(
            "Coroutines and streams that are closed, thrown into, abandoned or never started leave nothing.",
            (
                *(f"{CONFORMANCE}leaks.py", f"{CONFORMANCE}guard_async.py", f"{CONFORMANCE}streams.py"),
                f"{ANOMALIES}cancellation.py",
            ),
        ),
        Promise("A refused coroutine is closed, without a warning.", (f"{CONFORMANCE}guard_async.py",)),
        Promise(
            "A guarded coroutine is a coroutine, step by step.", (f"{CONFORMANCE}guard_async.py", "tests/differential")
        ),
        Promise(
            "A deadline that races an answer has one outcome, and a cancellation from outside is never swallowed.",
            (f"{CONFORMANCE}deadline_queue.py", f"{ANOMALIES}cancellation.py"),
            ("outer cancellations are never swallowed",),
        ),
        Promise(
            "Methods, partials, builtins and callable objects behave guarded as bare.",
            ("tests/differential", f"{CONFORMANCE}guard_sync.py"),
            ("a guarded callable equals the bare one",),
            must=False,
        ),
        Promise(
            "A forked child can use everything, and jitters by itself.",
            (f"{ANOMALIES}processes.py", f"{CONFORMANCE}hostile.py"),
            ("forked processes jitter",),
        ),
        Promise(
            "Settings and errors travel between processes; live state never does.",
            (f"{ANOMALIES}processes.py", "tests/unit/test_errors.py", "tests/unit/test_records.py"),
            must=False,
        ),
        Promise(
            "The interpreter can end with calls in flight.",
            (f"{ANOMALIES}processes.py",),
            ("interpreters end with calls in flight",),
        ),
        Promise("A subinterpreter is refused in words.", (f"{ANOMALIES}processes.py",), must=False),
        Promise(
            "A thread that dies with a permit costs no more than its lease.",
            ("c:breaker_explored", f"{PROPERTY}breaker.py"),
        ),
        Promise(
            "Deadlines belong to one loop: several, in threads, closed and anew, on asyncio and uvloop.",
            (f"{CONFORMANCE}deadline_queue.py", f"{ANOMALIES}loops.py"),
            must=False,
        ),
        Promise(
            "The same without the GIL, many threads at once, under a sanitizer of threads.",
            (),
            ("the sanitizers of threads",),
            missing="each run covers the build it runs on; on a free-threaded one also run `python tests/sanitized.py threads`, and "
            "`pytest --parallel-threads=4 --skip-thread-unsafe=True tests/unit tests/conformance` (pytest-run-parallel), "
            "which leaves out the tests whose fixtures, a fake clock or a registry, the threads would share",
            elsewhere=True,
        ),
        Promise(
            "No byte is touched that is not the module's, under sanitizers of addresses and of undefined behaviour.",
            (),
            ("the sanitizers of addresses",),
            missing="run `python tests/sanitized.py addresses`",
            elsewhere=True,
        ),
        Promise(
            "Memory that runs out, at whatever allocation, gives the true result or a MemoryError.",
            (f"{ANOMALIES}allocations.py",),
            ("running out of memory",),
        ),
        Promise(
            "What the tests of the core would not notice: mutants of it that none of them kills.",
            ("c:breaker",),
            ("mutants of the core",),
            must=False,
        ),
        Promise("Calls leave no reference behind.", (f"{CONFORMANCE}leaks.py",)),
        Promise(
            "A listener may call the breaker that tells it.", (f"{CONFORMANCE}events.py", f"{CONFORMANCE}hostile.py")
        ),
    ),
    "Numbers and time": (
        Promise("Steps of the wall clock move nothing.", (f"{ANOMALIES}clocks.py",), ("steps of the wall clock",)),
        Promise(
            "A counter that goes backwards or disagrees gives no negative latency, is counted, and is left for good.",
            ("c:clock", f"{ANOMALIES}clocks.py"),
            ("a counter that jumps", "all interleavings of the clock"),
        ),
        Promise(
            "However long nothing happened, the window is empty then.",
            (f"{PROPERTY}breaker.py::test_idle_for_ages_then_one_call", "c:window"),
        ),
        Promise(
            "NaN, infinity, negative, huge and odd values are refused by name, and nothing is half-changed.",
            ("tests/unit/test_config.py", "tests/unit/test_config_files.py", f"{PROPERTY}config_inputs.py"),
        ),
        Promise(
            "Counters saturate, and a generation may wrap.",
            (f"{PROPERTY}breaker.py::test_a_wait_is_kept_however_many_generations_have_passed", "c:breaker"),
        ),
        Promise("Delays and deadlines saturate.", (f"{PROPERTY}backoff.py", "c:backoff")),
        Promise("Quantiles are within 0.79 %.", (f"{PROPERTY}histogram.py", "c:histogram")),
        Promise(
            "Slices add up to the whole.",
            (f"{PROPERTY}histogram.py", "c:histogram", "c:histogram_threads", "c:histogram_explored", "c:observe"),
            ("all interleavings of the histogram",),
        ),
        Promise(
            "Jitter keeps its range, and the same seed gives the same delays.",
            (f"{PROPERTY}backoff.py", "c:rng"),
            must=False,
        ),
        Promise(
            "The timer wheel is never early, and late by a tick at most.",
            ("c:wheel", f"{CONFORMANCE}deadline_queue.py", f"{ANOMALIES}loops.py"),
            ("deadlines are never early",),
        ),
    ),
    "Load and ecology": (
        Promise(
            "Retries add at most the budget to a total outage, through three layers of services too.",
            ("tests/simulation/test_storms.py",),
            ("retries under a total outage", "all interleavings of the retry budget"),
        ),
        Promise(
            "After an overload goodput comes back, and with plain retries it does not.",
            ("tests/simulation/test_storms.py",),
            ("recovery after an overload",),
        ),
        Promise("A thousand clients do not return together.", ("tests/simulation/test_storms.py",), ("a crowd",)),
        Promise(
            "One dead shard costs the others nothing.",
            ("tests/simulation/test_storms.py",),
            ("a dead shard",),
            must=False,
        ),
        Promise(
            "A hedge is charged to the budget, its loser is cancelled, and nothing is hedged unasked.",
            (f"{CONFORMANCE}hedges.py",),
            must=False,
        ),
        Promise(
            "Who waits for a place is served in order; no wake-up and no place is lost, by cancellation neither.",
            (
                *("tests/concurrency/test_load.py", f"{CONFORMANCE}bulkhead.py", f"{CONFORMANCE}rate_limit.py"),
                *("c:load", "c:load_explored"),
            ),
            ("all interleavings of load control",),
        ),
        Promise(
            "A million operation names stay within bounds.",
            ("tests/soak/test_soak.py", f"{CONFORMANCE}metrics.py"),
            ("a million names",),
        ),
        Promise("Memory, descriptors, threads and timers stay flat.", ("tests/soak/test_soak.py",), ("soak",)),
        Promise(
            "Metrics read while they are written never decrease and agree.",
            (f"{PROPERTY}histogram.py", "c:histogram_threads", f"{CONFORMANCE}metrics.py"),
        ),
        Promise(
            "Settings are read and never run; what is unknown is refused.",
            ("tests/unit/test_config_files.py", "tests/unit/test_config.py", f"{PROPERTY}config_inputs.py"),
            must=False,
        ),
        Promise("A wheel imports without a compiler.", ("tests/packaging/test_wheel.py",), must=False),
        Promise(
            "A dependency that flaps does not make the breaker flap faster than its waits.",
            (f"{PROPERTY}breaker.py",),
            must=False,
        ),
    ),
    "Processes and hosts": (
        Promise(
            "A process killed between any two stores leaves a whole arena, counted to within the call that it died in.",
            ("c:shared", "c:shared_stepped"),
            ("a process killed between any two stores",),
        ),
        Promise(
            "A trip in one process refuses the very next call in every other; probes are those of all together.",
            ("c:shared", "tests/sharing"),
        ),
        Promise(
            "A file that is garbage, cut short, of another version, build, owner or boot, or a file system that is full: an "
            "error that says so, or breakers of the process's own and a warning; never a signal.",
            ("c:shared", "tests/sharing"),
        ),
        Promise(
            "A slot is never taken from a process that lives, whatever pids come back.",
            ("c:shared", "tests/sharing"),
        ),
        Promise("A forked child writes no word of its parent's slot.", ("c:shared", "tests/sharing")),
        Promise(
            "A forked child whose breakers have been given away before it has a slot uses breakers of its own.",
            ("c:members",),
        ),
        Promise(
            "A process that is stopped holds nobody up, and its lock no thread but the one that waits for it.",
            (
                "tests/sharing/test_trips.py::test_a_stopped_process_holds_nobody_up",
                "tests/sharing/test_files.py::test_other_threads_go_on_while_one_waits_for_a_locked_file",
                "tests/sharing/test_files.py::test_a_key_waits_but_milliseconds_for_a_locked_file",
            ),
        ),
        Promise(
            "Threads that count and take memory while their process comes to an arena, or leaves it, lose nothing.",
            ("tests/sharing/test_threads.py",),
        ),
        Promise(
            "Random words in the file crash nobody who reads it from outside.",
            ("c:shared",),
            ("random words in the file",),
            must=False,
        ),
        Promise(
            "What `failsoft top` adds up is what the processes report.",
            ("tests/sharing/test_top_sums.py",),
        ),
        Promise(
            "Hosts share a breaker through Redis or Valkey, one of them probes for all, and without the store each is as well protected as alone.",
            (
                "c:breaker_fleet",
                f"{CONFORMANCE}fleet.py",
                "tests/services/test_fleet.py",
                "tests/services/test_fleet_store.py",
                "tests/simulation/test_fleet.py",
            ),
            (
                "a fleet",
                "one host probes",
                "without the store",
                "a host that joins",
                "the store's script",
                "a call in a fleet",
            ),
        ),
        Promise(
            "No call speaks to the store or waits for it, and what goes out to it is bounded.",
            (
                "tests/services/test_fleet.py::test_the_call_path_does_not_feel_it",
                f"{CONFORMANCE}fleet.py::test_many_changes_at_once_are_one_hint",
                f"{CONFORMANCE}fleet.py::test_a_store_that_is_down_is_not_asked_all_the_time",
            ),
            ("a call in a fleet",),
        ),
        Promise(
            "A fleet that was split heals to what was said last, and nothing forgotten comes back.",
            (
                f"{CONFORMANCE}fleet.py::test_when_it_is_back_the_later_generation_holds",
                f"{CONFORMANCE}fleet.py::test_what_was_forgotten_does_not_come_back",
                f"{CONFORMANCE}fleet.py::test_a_late_word_of_a_former_prober_is_dropped",
                "tests/simulation/test_fleet.py::test_partitions_kills_and_a_store_that_forgets",
            ),
            must=False,
        ),
    ),
    "Seen from outside": (
        Promise(
            "Hostile names are inert: in the dashboard, metrics, logs of latencies, reports and terminals.",
            ("tests/dashboard", "tests/export", "tests/report", "tests/sharing"),
        ),
        Promise(
            "Scraped counters never decrease, and a histogram's sum, count and buckets agree, under load.",
            ("tests/export/test_prometheus.py", "tests/concurrency/test_export.py"),
        ),
        Promise(
            "The dashboard answers this machine alone, or who has its token; it is told to do something by POST alone and from its own "
            "pages alone; it asks nobody else for anything, and sends away who does not read.",
            tuple(f"tests/dashboard/test_{name}.py" for name in ("gate", "controls", "stream", "assets", "command")),
        ),
        Promise(
            "An alert is told once when it begins and once when it ends, and a sink that hangs holds up nobody.",
            ("tests/alerts",),
            must=False,
        ),
        Promise(
            "Each client adapter meets each fault with the category, the effect and the deadline that its table says.",
            ("tests/adapters/test_matrix.py",),
            must=False,
        ),
    ),
    "Not covered": (
        Promise(
            "That each lock is needed: a test that fails where it is taken away.",
            missing="the mutants of the core take away compare-and-swaps, orders and fences, file by file; of the locks of Python objects "
            "those of registry, breakers, events and queues have storms of threads, and none of them, nor the critical sections of "
            "`csrc/python`, is taken away by a mutant",
        ),
        Promise(
            "Two releases side by side on one arena or one store.",
            missing="there is one so far; a file of another version or build is refused in words, which is tested",
            must=False,
        ),
        Promise(
            "Days of real traffic.",
            missing="the soak takes minutes of real time and days of a fake clock; FAILSOFT_SOAK=seconds lets it take longer",
        ),
        Promise(
            "Processors older than the one that ran this.",
            missing="the module is compiled for the oldest of its architecture and asks for nothing more while it runs; that has not been "
            "tried under an emulator. There is no second implementation in Python that could differ",
            must=False,
        ),
        Promise(
            "C11 orders beyond what x86 shows, by a checker of weak memory.",
            missing="the explorer knows release, acquire and one total order for breaker, windows, recorder, load control, budget and "
            "clock; lists of free blocks, the directory of a shared arena and the extension have a sanitizer of threads and no such checker; what a thread reads "
            "by an address it has read (a column of cells) is ordered by that on all processors and by no rule of C11",
        ),
    ),
}
