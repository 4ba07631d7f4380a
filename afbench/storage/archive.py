"""An HDF5 archive: a benchmark's folder with HDF5 shards in place of Parquet, of which shard k of an attacked config
holds residuals to shard k of ``clean`` of the same split; ``clean`` itself may be without pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored, encode_image

from .config_manifest import ConfigManifest
from .hdf5 import SUFFIX, Content, archive_bytes, format_of
from .hdf5_read import ArchiveShard, open_shard, reading_shard
from .manifests import CLEAN, ORIGINALS
from .residual import add_residual, encode_residual, residual


def is_archive(manifest: ConfigManifest) -> bool:
    """Return whether a config's manifest is of an archive."""
    return any(part.archive is not None for part in manifest.splits.values())


def archive_path(parquet_path: str) -> str:
    """Return the path in an archive that stands for the path of a Parquet shard."""
    return parquet_path.removesuffix(".parquet") + SUFFIX


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
    return archive_bytes(
        config, split, rows, content=content, image_format=image_format, pictures=pictures, masks=masks
    )


def open_checked(folder: Path, path: str, config: str, split: str) -> ArchiveShard:
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


def read_archive_rows(
    folder: Path, path: str, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard as Parquet would give them; pictures are decoded only where their columns are among ``columns``.

    Raises:
        AfbenchError: if the shard is refused, or pictures are asked for and the archive has no originals.
    """
    with reading_shard(folder / path) as shard:
        columns_to_read = set(columns) if columns else {*shard.columns, "image", "mask"}
        # columns need no originals, which the archive may lack
        if not columns_to_read & {"image", "mask"}:
            for number in range(len(shard)):
                yield {
                    name: value for name, value in shard.scalars(number).items() if name in columns_to_read
                }
            return
        if shard.config in ORIGINALS:
            base, rows_by_id = shard, dict[str, int]()
        else:
            base, rows_by_id = _originals_of(folder, path, shard)
        try:
            if not base.has_masks:
                raise AfbenchError(
                    f"'{folder}' is an archive without originals; `afbench restore` puts images together"
                )
            for number in range(len(shard)):
                row = shard.scalars(number)
                original_row = rows_by_id.get(row["sample_id"], number if base is shard else None)
                if original_row is None:
                    raise AfbenchError(f"{row['sample_id']} of '{path}' has no original in the archive")
                if "image" in columns_to_read:
                    row["image"] = _encoded(shard, number, base, original_row)
                if "mask" in columns_to_read:
                    row["mask"] = base.encoded(original_row, "mask_data")
                yield {name: value for name, value in row.items() if name in columns_to_read}
        finally:
            base.close()


def _originals_of(folder: Path, path: str, shard: ArchiveShard) -> tuple[ArchiveShard, dict[str, int]]:
    # shard k of every config holds the same samples, under the same name
    base = open_checked(folder, f"data/{CLEAN}/{Path(path).name}", CLEAN, shard.split)
    return base, {raw.decode(): number for number, raw in enumerate(base.columns["sample_id"])}


def _encoded(shard: ArchiveShard, number: int, base: ArchiveShard, original_row: int) -> bytes:
    if base is shard:
        return shard.encoded(number)
    image = attacked_image(shard, number, base.picture(original_row))
    return encode_image(image, "png" if shard.image_format == "png" else "webp")


def attacked_image(shard: ArchiveShard, number: int, original: ByteImage) -> ByteImage:
    """Rebuild the image of a row of residuals, uint8 ``(H, W, 3)``.

    Raises:
        AfbenchError: if the residual is damaged or does not fit its original.
    """
    try:
        return add_residual(shard.picture(number), original)
    except ValueError as problem:
        raise AfbenchError(f"'{shard.path}', row {number}: {problem}") from None
