"""A user's list of samples whose masks are the other way round than those of the rest: one sample id a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from afbench.core import BadSample, UsageError

from .entry_reader import read_bytes
from .mask_rules import INVERTED
from .source_entry import SourceEntry

MAX_BYTES = 2**24
"""Largest list that is read."""


def read_exceptions(path: Path) -> list[str]:
    """Read the sample ids of a list; empty lines and lines that begin with ``#`` are left out.

    Raises:
        UsageError: if it cannot be read, names no sample, or one twice.
    """
    file = path.expanduser().absolute()
    try:
        text = read_bytes(file.parent, file.name, limit=MAX_BYTES).decode("utf-8-sig")
    except BadSample as problem:
        raise UsageError(f"list '{path}' cannot be read: {problem.detail or problem.reason}") from None
    except UnicodeDecodeError:
        raise UsageError(f"list '{path}' is no text in UTF-8; expected one sample id a line") from None
    lines = [line.strip() for line in text.splitlines()]
    sample_ids = [line for line in lines if line and not line.startswith("#")]
    if not sample_ids:
        raise UsageError(
            f"list '{path}' names no sample; expected one sample id a line, as `afbench index --json` prints them"
        )
    sample_id, count = Counter(sample_ids).most_common(1)[0]
    if count > 1:
        raise UsageError(f"list '{path}' names sample {sample_id!a} {count} times")
    return sample_ids


def invert_exceptions(entries: Sequence[SourceEntry], sample_ids: Sequence[str]) -> list[SourceEntry]:
    """Return the entries with the masks of the named samples the other way round.

    Raises:
        UsageError: if a name is of no sample, or of one without a mask.
    """
    masked_ids = {entry.sample_id for entry in entries if entry.label == "forged" and entry.masks}
    named = set(sample_ids)
    unknown = [sample_id for sample_id in sample_ids if sample_id not in masked_ids]
    if unknown:
        plural = "s" * (len(unknown) > 1)
        raise UsageError(
            f"--invert-listed names {len(unknown)} sample{plural} that the source has no forged image with a mask of, first "
            f"{unknown[0][:200]!a}; ids are those of `afbench index --json`"
        )
    return [
        replace(entry, rule=f"{entry.rule}{INVERTED}") if entry.sample_id in named else entry
        for entry in entries
    ]
