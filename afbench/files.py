"""Write files atomically: a file is there completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .core import AfbenchError
from .failpoints import reach

_TEMPORARY = re.compile(r".+\.tmp\.[A-Za-z0-9_.-]+\.[0-9]+")


def sha256_file(path: Path) -> str:
    """Hash a file without reading it into memory at once."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file to write; after the block it takes the name ``path``, after an error it is deleted.

    Every file that a program may look for is written through here, so that nobody meets one that is half there.

    Args:
        path: in a folder that exists.
        durable: wait until the file and its name are on the disk. Without it a crash of the machine may leave an
            empty file; a killed process leaves none.
    Raises:
        OSError: if the disk is full or fails.
    """
    temporary = path.with_name(f"{path.name}.tmp.{socket.gethostname()}.{threading.get_native_id()}")
    try:
        reach("commit.write")
        yield temporary
        if durable:
            reach("commit.fsync")
            _flush(temporary)
        reach("commit.replace")
        os.replace(temporary, path)
        reach("commit.done")
        if durable:
            _flush(path.parent)
    except BaseException:
        # the first error is the one to report
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def commit_bytes(path: Path, data: bytes, *, durable: bool = True) -> str:
    """Write a file and its folder atomically; where it must be durable, read it back before it takes its name.

    Returns:
        The sha256 of what is now in the file.
    Raises:
        AfbenchError: if the disk is full or fails; what was there before is there still.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=durable) as temporary:
            temporary.write_bytes(data)
            if durable and sha256_file(temporary) != sha256:
                raise OSError("the bytes read back differ from what was written")
    except OSError as error:
        raise AfbenchError(
            f"cannot write '{path}': {error.strerror or error}; what was committed before is intact, run again to resume"
        ) from None
    return sha256


def commit_json(path: Path, value: Any) -> str:
    """Write JSON with sorted keys, atomically; returns its sha256."""
    return commit_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Encode JSON as everything stored is: sorted keys, two spaces, a final newline."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def commit_if_changed(path: Path, data: bytes) -> None:
    """Commit a file unless it already holds these bytes, so that a finished run touches nothing."""
    if not path.is_file() or path.read_bytes() != data:
        commit_bytes(path, data)


def sweep(folder: Path) -> int:
    """Remove temporary files of runs that were killed, at any depth; returns how many."""
    orphans = [path for path in folder.rglob("*.tmp.*") if _TEMPORARY.fullmatch(path.name) and path.is_file()]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
