"""Running out of memory: tell it from other failures, and go on with smaller launches."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable

import torch

from afbench.core import AfbenchError
from afbench.interrupts import raise_if_stopped

OnHalved = Callable[[tuple[int, int], int], None]
"""Told the size (height, width) and the images per launch it is now attacked with."""


class OutOfMemory(AfbenchError):
    """Not even one image at a time fits."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's ways of saying so, on a GPU and on the CPU, and for Python's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = r"out of memory|can't allocate memory|bad_alloc"
    return isinstance(error, RuntimeError) and re.search(told, str(error)) is not None


def fits(work: Callable[[], None]) -> bool:
    """Do some work; False if memory ran out, with what it had taken given back.

    Raises:
        Exception: whatever else goes wrong in it.
    """
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        raise_if_stopped()
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # after the handler: until then the traceback keeps the tensors of the failed launch alive
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return False
