"""Read the originals of an archive published without them from the user's own copies of the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afbench.core import AfbenchError, BadSample, ByteImage, ReadOptions, Sample, Source, UsageError
from afbench.images import pixel_sha256
from afbench.sources import SourceOptions, open_source
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import AUTHENTIC, CLEAN, splits_of

from .store import Row, Store


class CopyStore:
    """Reads an archive's rows, and their pixels from the user's own copies of the sources, each checked by hash."""

    def __init__(self, archive: Store, roots: Mapping[str, str | None]) -> None:
        """Open the sources.

        Raises:
            UsageError: if the archive has no such source, or a root does not hold it.
        """
        self.configs: Mapping[str, ConfigManifest] = archive.configs
        self._archive = archive
        self._sources = open_copies(archive.configs, roots)
        self._known = {name: known_ids(source) for name, source in self._sources.items()}
        self._last: tuple[Row, Sample] | None = None

    def holds_images(self, config: str, split: str) -> bool:
        return split in self._sources

    def rows(self, config: str, split: str) -> Sequence[Row]:
        """List the archive's rows."""
        return self._archive.rows(config, split)

    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage:
        """Read an original, uint8 RGB ``(H, W, 3)``.

        Raises:
            AfbenchError: if the copy lacks it or holds other pixels.
        """
        return self._sample(row).image

    def mask(self, row: Row) -> ByteImage:
        """Read a mask, uint8 ``(H, W)``, 255 where forged.

        Raises:
            AfbenchError: as ``image``.
        """
        return self._sample(row).mask

    def _sample(self, row: Row) -> Sample:
        # an item asks for the image and then for its mask: both come from one read
        if self._last is None or self._last[0] != row:
            try:
                self._last = (row, read_original(self._sources[row.source], row, self._known[row.source]))
            except BadSample as problem:
                raise AfbenchError(f"{row.sample_id} of your copy of {row.source}: {problem}") from None
        return self._last[1]


def open_copies(configs: Mapping[str, ConfigManifest], roots: Mapping[str, str | None]) -> dict[str, Source]:
    """Open the user's copies of an archive's sources.

    Raises:
        UsageError: if the archive has no such source, or a root does not hold it.
    """
    split_names = sorted({split for manifest in configs.values() for split in manifest.splits})
    seeds = {manifest.provenance["seed"] for manifest in configs.values() if manifest.provenance}
    authentic = splits_of(configs, AUTHENTIC)
    copies = {}
    for name, root in roots.items():
        if name not in split_names:
            raise UsageError(f"the archive has no source '{name}'; its sources: {', '.join(split_names)}")
        part = next(manifest.splits[name] for manifest in configs.values() if name in manifest.splits)
        part = configs[CLEAN].splits.get(name, part)
        options = SourceOptions(authentic=name in authentic, read=ReadOptions.from_json(part.read))
        # only this source has no end; the others are opened whole, so that every sample can be found
        limit = configs[CLEAN].splits[name].samples if name == "synthetic" else None
        copies[name] = open_source(
            name,
            root,
            seed=min(seeds, default=0),
            limit=limit,
            options=options,
            layout=part.layout,
        )
    return copies


def known_ids(source: Source) -> frozenset[str]:
    """Return every id of a source, forged or authentic."""
    return frozenset((*source.ids, *source.authentic))


def read_original(source: Source, row: Row, source_ids: frozenset[str]) -> Sample:
    """Read the sample that a row of ``clean`` or ``authentic`` describes.

    Raises:
        BadSample: ``missing_original`` if the source lacks it or cannot use it, ``other_original`` or ``other_mask`` if
            its decoded pixels differ.
    """
    if row.sample_id not in source_ids:
        raise BadSample("missing_original", "no sample of this name")
    try:
        sample = source.read(row.sample_id)
    except (BadSample, AfbenchError) as problem:
        raise BadSample("missing_original", str(problem)) from None
    if pixel_sha256(sample.image) != row.image_sha256:
        raise BadSample("other_original", "its pixels are not those that were attacked")
    if pixel_sha256(sample.mask) != row.mask_sha256:
        raise BadSample("other_mask", "its mask is not the one of the benchmark")
    return sample
