"""Refuse NumPy files in a submission, and say exactly why, without loading them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
from numpy.lib import format as npy

from .problems import Refusal

SUFFIXES = (".npy", ".npz")
LARGEST = 1 << 26
_MAGIC = b"\x93NUMPY"


def refusals(path: str, data: bytes) -> list[tuple[str, str]]:
    """Return why a .npy or .npz is refused, as codes and messages: one of each, or two where its values are bad as well."""
    problems: list[tuple[str, str]] = []
    try:
        for part in [data] if path.lower().endswith(".npy") else _members(data):
            problems += _judge(part)
    except Refusal as refusal:
        problems.append((refusal.code, refusal.message))
    except Exception as error:  # a stranger's bytes make the libraries raise almost anything
        problems.append(("AF008", f"no readable array file ({type(error).__name__})"))
    specific_problems = [problem for problem in problems if problem[0] != "AF007"]
    return sorted(dict(specific_problems).items()) or [
        ("AF007", "arrays are not accepted; masks and probabilities are 8-bit PNG")
    ]


def _members(data: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        remaining_bytes = LARGEST
        # a few members are enough to say why the file is refused; an archive may list millions
        for info in archive.infolist()[:100]:
            if (
                info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                or info.file_size > remaining_bytes
            ):
                raise Refusal("AF011", f"a member claims {info.file_size} bytes")
            with archive.open(info) as stream:
                part = stream.read(remaining_bytes + 1)
            remaining_bytes -= len(part)
            yield part


def _judge(part: bytes) -> Iterator[tuple[str, str]]:
    stream = io.BytesIO(part)
    if not part.startswith(_MAGIC):
        raise Refusal("AF008", "holds something that is no array")
    major, _ = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        yield "AF012", "holds Python objects, which only pickle can load; pickle can run code"
        return
    body = part[stream.tell() :]
    # Python's integers, because the product of a stranger's shape may overflow NumPy's
    count = int(np.prod(shape, dtype=object))
    if count < 0 or count * dtype.itemsize != len(body):
        raise Refusal(
            "AF011" if count * dtype.itemsize > len(body) else "AF008",
            f"claims {count} values in {len(body)} bytes",
        )
    if dtype.kind == "f":
        values = np.frombuffer(body, dtype)
        if values.size and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            yield "AF009", "holds NaN, infinite values or values outside [0, 1]"
    yield "AF007", "holds plain numbers"
