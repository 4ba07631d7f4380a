"""An HDF5 archive: a benchmark's folder with HDF5 shards in place of Parquet, of which shard k of an attacked config
holds residuals to shard k of ``clean`` of the same split; ``clean`` itself may be without pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored

from .hdf5 import Content, format_of, hdf5_file_bytes
from .hdf5_read import Hdf5Shard, open_shard
from .residual import add_residual, encode_residual, residual


def pack_shard(
    config: str,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    originals: Mapping[str, ByteImage],
    *,
    content: Content,
) -> bytes:
    """Build the HDF5 shard of a Parquet shard's rows.

    Args:
        config: the config.
        split: its split.
        rows: of the Parquet shard, ``image`` and ``mask`` as encoded bytes.
        originals: by sample id, of residuals.
        content: ``residuals`` for an attacked config, ``images`` or ``none`` for the originals.
    Raises:
        AfbenchError: if a row cannot be decoded or its original is missing.
    """
    sizes = [(row["height"], row["width"]) for row in rows]
    image_format = format_of([row["image"] for row in rows], sizes)
    pictures: list[bytes] = []
    masks: list[bytes] = []
    if content == "images":
        pictures, masks = [row["image"] for row in rows], [row["mask"] for row in rows]
    for row in rows if content == "residuals" else ():
        try:
            original = originals[row["sample_id"]]
            attacked = decode_stored(row["image"], (row["height"], row["width"]))
            pictures.append(encode_residual(residual(attacked, original)))
        except (KeyError, BadSample, ValueError) as problem:
            raise AfbenchError(
                f"{row['sample_id']} of {config}, {split}: no residual can be made ({problem}); see `afbench verify`"
            ) from None
    return hdf5_file_bytes(
        config, split, rows, content=content, image_format=image_format, pictures=pictures, masks=masks
    )


def open_checked(folder: Path, path: str, config: str, split: str) -> Hdf5Shard:
    """Open the shard of a config and split; the caller closes it.

    Raises:
        AfbenchError: if it is refused, is another's, or lies outside of the folder.
    """
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise AfbenchError(f"'{folder / path}' is a link out of the archive")
    shard = open_shard(folder / path)
    if (shard.config, shard.split) != (config, split):
        shard.close()
        raise AfbenchError(
            f"'{folder / path}' is a shard of config {shard.config}, split {shard.split}, not of {config}, {split}"
        )
    return shard


def attacked_image(shard: Hdf5Shard, number: int, original: ByteImage) -> ByteImage:
    """Rebuild the image of a row of residuals, uint8 ``(H, W, 3)``.

    Raises:
        AfbenchError: if the residual is damaged or does not fit its original.
    """
    try:
        return add_residual(shard.picture(number), original)
    except ValueError as problem:
        raise AfbenchError(f"'{shard.path}', row {number}: {problem}") from None
