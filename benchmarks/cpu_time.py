"""CPU time of two networks that take turns, for entries_cpu.py and originals.py."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

Call = Callable[[], object]


class Taken(NamedTuple):
    """Smallest milliseconds of two calls, the median of their ratios, the ratio of the smallest."""

    first_ms: float
    second_ms: float
    median: float
    min: float


def cpu_ms(call: Call) -> float:
    """CPU milliseconds of one call."""
    started = time.process_time()
    call()
    return 1e3 * (time.process_time() - started)


def in_turns(first: Call, second: Call, turns: int) -> Taken:
    """Time both `turns` times; who begins changes, and a turn before the first does not count."""
    times = []
    for turn in range(turns + 1):
        if turn % 2:
            times.append((cpu_ms(first), cpu_ms(second)))
        else:
            times.append((cpu_ms(second), cpu_ms(first))[::-1])
    pairs = times[1:]
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    return Taken(ours, theirs, median(a / b for a, b in pairs), ours / theirs)
