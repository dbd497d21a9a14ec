"""Memory that is handed back and asked for again: the largest noise of a timing on a CPU."""

import ctypes
import sys


def keep_memory() -> None:
    """Have glibc keep freed memory (up to 1 GiB) from now on; elsewhere nothing is done.

    Pages that are asked for anew cost a forward pass nothing or a fifth of its time, as it happens,
    and a small network another share than a large one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, size in ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 25)):  # trim, pad, mmap
            libc.mallopt(option, size)
