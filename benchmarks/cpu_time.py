"""CPU time of two networks that take turns, for entries_cpu.py and originals.py."""

import ctypes
import sys
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


def keep_memory() -> None:
    """Have glibc keep freed memory instead of handing it back only to ask for it again.

    Asking again costs a forward pass nothing or a fifth of its time, as it happens, which is more
    than most of the differences measured here.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, size in ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 25)):  # trim, pad, mmap
            libc.mallopt(option, size)


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
