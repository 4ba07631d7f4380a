"""Keep freed memory in the process instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER = 2**31 - 1
_LARGEST = (1 << 30, 32 << 20)
"""Bytes of a block that comes from the heap; the second is the most that older releases of glibc take."""


def keep_freed_memory() -> bool:
    """Have glibc reuse freed blocks instead of handing each back to the system.

    Every gradient allocates the same large blocks and frees them. As it comes, malloc returns them each time, and the system
    zeroes the next ones page by page: up to almost half of a gradient's time on a CPU (docs/benchmarks). A process keeps
    its peak instead. For processes of our own, not inside somebody's notebook.

    Returns:
        False where the C library is another, or the environment already says what malloc shall do.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
