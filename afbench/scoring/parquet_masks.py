"""Read the masks of one localizer, source and config from a Parquet file, in a process of its own."""

from __future__ import annotations

import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from afbench.sandbox import MEMORY, memory_for, python_command

from .problems import Refusal

_FRAME = struct.Struct("<II")
_PROBLEM = 2**32 - 1
_WALL_SECONDS = 300.0


def read_parquet(
    data: bytes, *, max_rows: int, largest: int, memory: int = MEMORY
) -> Iterator[tuple[str, bytes]]:
    """Yield ``(sample_id, PNG bytes)`` in the file's order.

    Args:
        data: the file.
        max_rows: rows it may have.
        largest: bytes a mask may have.
        memory: address space that reading may take beside four times the file.
    Raises:
        Refusal: AF007 to AF009 and AF011, perhaps after some rows.
    """
    limits = str(max_rows), str(memory_for(len(data), memory))
    child = subprocess.Popen(
        python_command(f"{__package__}.parquet_child", *limits),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    # the child limits its own processor time, but could also wait forever
    watch = threading.Timer(_WALL_SECONDS, child.kill)
    watch.start()
    assert child.stdin and child.stdout
    try:
        with suppress(BrokenPipeError), child.stdin:
            child.stdin.write(data)  # the child reads all of it before it writes
        yield from _frames(child.stdout, largest)
        if child.wait() != 0:
            raise Refusal("AF011", "takes too much memory or time to read")
    finally:
        watch.cancel()
        child.kill()
        child.stdout.close()
        child.wait()


def _frames(stream: IO[bytes], largest: int) -> Iterator[tuple[str, bytes]]:
    while head := stream.read(_FRAME.size):
        if len(head) < _FRAME.size:
            return  # the child was stopped, and its exit status says so
        name_length, length = _FRAME.unpack(head)
        if name_length == _PROBLEM:
            raise Refusal(stream.read(5).decode(), stream.read(length).decode())
        if length > largest or name_length > 1024:
            raise Refusal("AF011", f"a row holds {name_length + length} bytes, at most {largest} are needed")
        name, mask = stream.read(name_length), stream.read(length)
        if len(name) + len(mask) < name_length + length:
            return
        yield name.decode(), mask
