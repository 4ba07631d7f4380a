"""Lock a benchmark's folder: one process sets up and publishes, many of one plan make shards.

All locks are the system's (``flock``): they end with their process, whatever ended it, so none is ever stale.
``log/lock`` is held for moments: to look at the folder, to announce oneself, to publish. ``log/at-work.*`` is held by a
process as long as it makes shards of a plan. A lock below ``.afbench/locks`` is held for each shard in the making.

Processes that were told which shards are theirs (``loose``) do without: their locks may be missing, or not reach other
machines, as on some network file systems. They never take a process of another machine for dead, and sweep nothing.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, SoftFileLock, Timeout

from afbench.core import PartialError, UsageError
from afbench.files import sweep

from .manifests import LOG, WORK

WAIT_SECONDS = 60.0
"""How long a process waits for another one to set up or publish before it gives up with exit code 3."""
SHARD_LOCKS = "locks"
_POLL_SECONDS = 0.05
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without ``flock`` answer."""


class Worker(NamedTuple):
    """A process that makes shards now: who, and the fingerprint of its plan."""

    owner: str
    plan: str


@contextmanager
def locked(
    folder: Path, plan: str | None = None, *, wait: float | None = None, loose: bool = False
) -> Iterator[None]:
    """Hold a benchmark's folder alone; where nobody is at work, sweeps what killed runs left behind.

    Args:
        folder: of the benchmark; made if need be.
        plan: processes that make shards of this plan may go on meanwhile; without it there must be none.
        wait: seconds to wait for another holder; None for ``WAIT_SECONDS``.
        loose: go on where the file system has no locks, and sweep nothing.
    Raises:
        PartialError: if another process holds it, or makes shards of another plan; it is named.
        UsageError: if the folder cannot be made.
    """
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        (folder / LOG).mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out '{folder}' cannot be made: {error.strerror}") from None
    owner = folder / LOG / "owner"
    lock = FileLock(folder / LOG / "lock")
    try:
        _take(lock, WAIT_SECONDS if wait is None else wait, loose=loose)
    except Timeout:
        raise _held(folder, _read(owner) or "another process") from None
    try:
        owner.write_text(_this_process(), encoding="utf-8")
        workers = _workers(folder, loose=loose)
        for worker in workers:
            if worker.plan != plan:
                raise _held(folder, worker.owner)
        # a temporary file of a worker that lives must stay
        if not workers and not loose:
            sweep(folder)
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def written_alone(folder: Path, lock_path: Path) -> Iterator[None]:
    """Hold a folder that one command fills, by the lock file ``lock_path`` in it, until the end of the block.

    Raises:
        PartialError: if another process holds it.
        UsageError: if the folder cannot be made.
    """
    lock = FileLock(lock_path)
    try:
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        # where the file system has no locks, go on without
        _take(lock, 0, loose=True)
    except Timeout:
        raise _held(folder, "another process") from None
    except OSError as error:
        raise UsageError(f"--out '{folder}' cannot be made: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def at_work(folder: Path, plan: str, *, loose: bool = False) -> Iterator[None]:
    """Announce, while the folder is ``locked``, that this process makes shards of a plan until the end of the block."""
    path = folder / LOG / f"at-work.{os.uname().nodename}.{os.getpid()}"
    lock = FileLock(path.with_name(path.name + ".lock"))
    # locked before it is announced: an announcement without a lock is taken for that of a dead process
    _take(lock, 0, loose=loose)
    try:
        path.write_text(f"{plan}\n{_this_process()}", encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def shard_lock(folder: Path, name: str, *, loose: bool = False) -> Iterator[bool]:
    """Try to lock one shard: yield True if this process has it, False if another one does."""
    lock = FileLock(folder / WORK / SHARD_LOCKS / f"{name}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        _take(lock, 0, loose=loose)
    except (Timeout, FileNotFoundError):  # or the run was published, and its locks removed, this moment
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def other_workers(folder: Path) -> list[str]:
    """List the other processes that make shards in a folder now; forget those that were killed."""
    return [worker.owner for worker in _workers(folder) if worker.owner != _this_process().strip()]


def poll(done: Callable[[], bool], seconds: float = 1.0) -> bool:
    """Wait a little for something another process does."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _take(lock: FileLock, seconds: float, *, loose: bool) -> None:
    try:
        lock.acquire(timeout=seconds, poll_interval=_POLL_SECONDS)
    except NotImplementedError:
        if not loose:
            raise
    except OSError as error:
        if not loose or error.errno not in _NO_LOCKS:
            raise
    else:
        if loose and isinstance(lock, SoftFileLock):
            lock.release()  # filelock's stand-in outlives a killed process: it would lock out whoever comes next


def _workers(folder: Path, *, loose: bool = False) -> list[Worker]:
    workers = []
    for lock_path in sorted((folder / LOG).glob("at-work.*.lock")):
        lock = FileLock(lock_path)
        owner_path = lock_path.with_suffix("")
        try:
            _take(lock, 0, loose=loose)
        except Timeout:
            plan, _, owner = _read(owner_path).partition("\n")
            workers.append(Worker(owner or "another process", plan))
            continue
        if loose and not owner_path.name.startswith(f"at-work.{os.uname().nodename}."):
            lock.release()
            continue
        # nobody holds it: its process was killed, or ends this very moment
        owner_path.unlink(missing_ok=True)
        lock_path.unlink(missing_ok=True)
        lock.release()
    return workers


def _this_process() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _held(folder: Path, owner: str) -> PartialError:
    return PartialError(f"'{folder}' is being written by {owner}; wait for it, or give another --out")
