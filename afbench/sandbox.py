"""Bound the memory and time that reading a stranger's file may take: in a process of its own, which limits itself.

Every size inside a Parquet file is a claim: a page of a few bytes may make a reader allocate gigabytes.
"""

from __future__ import annotations

import resource
import sys

MEMORY = 1 << 31
"""Bytes of address space that reading may take, beside four times the file; the libraries alone take a third of it."""
TOO_MUCH = "takes too much memory to read"


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of afbench in another process."""
    # -P keeps the working directory, a stranger's perhaps, out of the child's imports
    return [sys.executable, "-P", "-m", module, *arguments]


def memory_for(size: int, spare: int = MEMORY) -> int:
    """Return the address space for a file of ``size`` bytes: an honest one may take memory by its size."""
    return spare + 4 * size


def limit(*, memory: int, seconds: int) -> None:
    """Bound this process: its address space, and its processor time from now on. A second call may only change the time."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + seconds, resource.RLIM_INFINITY))


def lacks_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out; Arrow says so by its own error or only in the message."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "ArrowMemoryError" or "alloc" in str(error)
    )
