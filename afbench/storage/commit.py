"""Write files so that they are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError

from .failpoints import reach

_TEMPORARY = re.compile(r".+\.tmp\.[A-Za-z0-9_.-]+\.[0-9]+")


def sha256_file(path: Path) -> str:
    """Hash a file without reading it into memory at once."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commit_bytes(path: Path, data: bytes) -> str:
    """Write a file atomically: temporary file, fsync, read back, rename, fsync the folder.

    Returns:
        The sha256 of what is now in the file.
    Raises:
        AfbenchError: if the disk is full or fails; nothing but a temporary file can remain, and it is removed.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    temporary = path.with_name(f"{path.name}.tmp.{socket.gethostname()}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reach("commit.write")
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            reach("commit.fsync")
            os.fsync(stream.fileno())
        if sha256_file(temporary) != sha256:
            raise OSError("the bytes read back differ from what was written")
        reach("commit.replace")
        os.replace(temporary, path)
        reach("commit.done")
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
