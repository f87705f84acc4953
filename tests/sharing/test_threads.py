"""A process that comes to an arena, and leaves it, while its threads count and take memory: nothing is lost or had twice.

Under the GIL no thread runs meanwhile. Without it all are stopped while the memory moves (csrc/python/alone.h).
"""

from __future__ import annotations

import sysconfig

from .conftest import Start

ROUNDS = 5 if sysconfig.get_config_var("Py_GIL_DISABLED") else 1
"""Processes: each moves but twice."""

WORK = """
    import random, threading, time
    from failsoft import LatencyHistogram, _core
    done, counted = False, []
    g = guard(threshold=60000)

    def takes(seed):
        rng, kept, wrong, calls = random.Random(seed), [], 0, 0
        while not done:
            g(); calls += 1
            mine = LatencyHistogram()
            for _ in range(seed + 1): mine.record_ns(1000 * seed + 1)
            kept.append(mine)
            if len(kept) > 20:
                one = kept.pop(rng.randrange(20))
                wrong += one.count != seed + 1
        wrong += sum(one.count != seed + 1 for one in kept)
        counted.append((calls, wrong))

    threads = [threading.Thread(target=takes, args=(seed,)) for seed in range(4)]
    [t.start() for t in threads]
    time.sleep(0.01)
    failsoft.share({arena!r})
    time.sleep(0.01)
    _core.part_arena()
    time.sleep(0.01)
    done = True
    [t.join() for t in threads]
    answer = [numbers()[0], sum(calls for calls, _ in counted), sum(wrong for _, wrong in counted)]
"""


def test_threads_lose_nothing_while_their_memory_moves(arena: str, start: Start) -> None:
    for _ in range(ROUNDS):
        process = start(shares=False)
        counted, called, wrong = process.run(WORK.format(arena=arena))
        assert counted == called
        assert wrong == 0
        process.end()
