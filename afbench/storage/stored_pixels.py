"""Decode the images and masks of a benchmark's rows; one that is damaged is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, BadSample, ByteImage, Sample
from afbench.images import decode_stored


def stored_picture(folder: Path, row: Mapping[str, Any], column: str = "image") -> ByteImage:
    """Decode the image, uint8 ``(H, W, 3)``, or the mask, uint8 ``(H, W)``, of a row of the benchmark in ``folder``.

    Raises:
        AfbenchError: if it is damaged, or of another size than its row says, where the row says it.
    """
    size = (row["height"], row["width"]) if "height" in row and "width" in row else None
    try:
        return decode_stored(row[column], size)
    except BadSample as problem:
        raise AfbenchError(
            f"'{folder}' is damaged: {column} of {row['sample_id']}: {problem}; see `afbench verify {folder}`"
        ) from None


def stored_sample(folder: Path, row: Mapping[str, Any]) -> Sample:
    """Decode an original with its mask.

    Raises:
        AfbenchError: if one of them is damaged.
    """
    return Sample(
        row["sample_id"],
        stored_picture(folder, row),
        stored_picture(folder, row, "mask"),
        row.get("group", ""),
        row.get("kind", ""),
    )
