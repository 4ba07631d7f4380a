"""What goes on beside an attack: threads that decode, encode and compare, and one piece of writing at a time.

Threads, not processes: Pillow, NumPy and SciPy let go of Python's lock while they work (docs/benchmarks has the figures).
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
"""``submit(work, *arguments)``: has it done, now or beside what follows."""
MOST_WORKERS = 16


def inline(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Do some work at once; what goes wrong in it is raised here."""
    done: Future[Any] = Future()
    done.set_result(work(*arguments))
    return done


def default_threads() -> int:
    """As many threads as there are cores this process may use, and not more than 16."""
    return min(MOST_WORKERS, usable_cores())


@contextmanager
def threads(workers: int) -> Iterator[Submit]:
    """A pool of threads; ``inline`` for 0. What has not begun when the block ends is not done."""
    if not workers:
        yield inline
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="afbench", initializer=leave_warnings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL|numpy|afbench")  # for the threads, which must not do it
        try:
            yield pool.submit
        finally:
            pool.shutdown(cancel_futures=True)


class Writer:
    """Does one piece of work after the other in the order they come, and holds up who brings one before the last is done.

    So at most one piece waits to be written, whatever the speed of the disk.
    """

    def __init__(self, submit: Submit) -> None:
        self.pieces = 0
        self._submit = submit
        self._last: Future[None] | None = None

    def put(self, work: Callable[[], None]) -> None:
        """Wait for the piece before, then have this one done.

        Raises:
            BaseException: whatever went wrong in the piece before.
        """
        self.flush()
        self.pieces += 1
        self._last = self._submit(work)

    def flush(self) -> None:
        """Wait until everything is done; raises what went wrong."""
        last, self._last = self._last, None
        if last is not None:
            try:
                last.result()
            except BaseException:
                self._last = None if last.done() else last  # a Ctrl-C hit us, not the work
                raise

    def settle(self) -> None:
        """Wait until everything is done, where something else has gone wrong already."""
        last, self._last = self._last, None
        if last is not None:
            wait([last])


@contextmanager
def writing(workers: int) -> Iterator[Writer]:
    """A writer with a thread of its own, or none where there are no ``workers``; all is written when the block ends."""
    with threads(min(1, workers)) as submit:
        writer = Writer(submit)
        try:
            yield writer
            writer.flush()
        finally:
            writer.settle()
