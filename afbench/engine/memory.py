"""Recognise that memory ran out, so that a run can go on with smaller batches."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable

import torch

from afbench.core import AfbenchError
from afbench.interrupts import raise_if_stopped

OnHalved = Callable[[tuple[int, int], int], None]
"""Called with a size (height, width) and the images per batch that it is now attacked with."""


class OutOfMemory(AfbenchError):
    """Not even one image by itself fits into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: torch's on a GPU or the CPU, or Python's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    pattern = r"out of memory|can't allocate memory|bad_alloc"
    return isinstance(error, RuntimeError) and re.search(pattern, str(error)) is not None


def fits(work: Callable[[], None]) -> bool:
    """Do some work and return True; if memory runs out, release what the work had taken and return False.

    Raises:
        Exception: whatever else goes wrong in the work.
    """
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        raise_if_stopped()
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # after the handler: until then the traceback keeps the tensors of the failed batch alive
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return False
