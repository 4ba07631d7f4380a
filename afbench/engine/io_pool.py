"""Open threads that decode, encode and compare images while an attack computes, and one that writes.

Threads, not processes: Pillow, NumPy and SciPy release Python's lock while they work (docs/benchmarks has the figures).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from afbench.cores import usable_cores
from afbench.images import leave_warnings

Submit = Callable[..., "Future[Any]"]
"""``submit(work, *arguments)``: do the work at once or in another thread; the future holds its result."""
MOST_WORKERS = 16


def inline(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Do some work at once, in this thread; raises what goes wrong in it."""
    done: Future[Any] = Future()
    done.set_result(work(*arguments))
    return done


def default_threads() -> int:
    """Return how many threads to use: one for each core this process may use, at most 16."""
    return min(MOST_WORKERS, usable_cores())


@contextmanager
def threads(workers: int) -> Iterator[Submit]:
    """Open a pool of threads, or ``inline`` for 0 workers; when the block ends, work that has not begun is cancelled."""
    if not workers:
        yield inline
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="afbench", initializer=leave_warnings)
    with warnings.catch_warnings():
        # here, for all threads: Python's filters belong to the process, and threads changing them would race
        warnings.filterwarnings("ignore", module="PIL|numpy|afbench")
        try:
            yield pool.submit
        finally:
            pool.shutdown(cancel_futures=True)


class SerialWriter:
    """Writes one piece after the other, in order; whoever brings a piece waits until the previous one is written.

    So at most one piece waits to be written, whatever the speed of the disk.
    """

    def __init__(self, submit: Submit) -> None:
        self.pieces = 0
        self._submit = submit
        self._last: Future[None] | None = None

    def put(self, work: Callable[[], None]) -> None:
        """Wait until the previous piece is written, then start to write this one.

        Raises:
            BaseException: whatever went wrong in the previous piece.
        """
        self.flush()
        self.pieces += 1
        self._last = self._submit(work)

    def flush(self) -> None:
        """Wait until everything is written; raises what went wrong."""
        last, self._last = self._last, None
        if last is not None:
            try:
                last.result()
            except BaseException:
                self._last = None if last.done() else last  # a Ctrl-C hit us, not the work
                raise

    def settle(self) -> None:
        """Wait until everything is written and raise nothing: something else has gone wrong already."""
        last, self._last = self._last, None
        if last is not None:
            wait([last])


@contextmanager
def writing(workers: int) -> Iterator[SerialWriter]:
    """Open a writer with its own thread, or without one for 0 ``workers``; all is written when the block ends."""
    with threads(min(1, workers)) as submit:
        writer = SerialWriter(submit)
        try:
            yield writer
            writer.flush()
        finally:
            writer.settle()
