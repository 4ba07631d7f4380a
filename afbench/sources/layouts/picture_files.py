"""Code for all layouts: find pictures among paths, pair images and masks by a key, make ids unique."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from afbench.sources.sample_names import is_picture, stem
from afbench.sources.source_entry import SourceEntry


@dataclass(frozen=True)
class Picture:
    """A file with a picture's suffix: its path, the folders from the root down to it, its name without the suffix."""

    path: str
    folders: tuple[str, ...]
    stem: str

    @property
    def folder(self) -> str:
        """Return the name of its folder in lower case; "" at the root."""
        return self.folders[-1].lower() if self.folders else ""


def pictures(paths: Iterable[str]) -> list[Picture]:
    """List every picture once, in the order of paths."""
    picture_paths = sorted({path for path in paths if is_picture(path)})
    return [Picture(path, tuple(path.split("/")[:-1]), stem(path)) for path in picture_paths]


def is_mask_folder(name: str) -> bool:
    """Tell whether a folder is named as one of masks: ``mask``, ``DSO-1-Fake-Images-Masks``, ``ground truth``, ``Gt``, ..."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return letters == "gt" or "mask" in letters or "groundtruth" in letters


def pair(
    images: Iterable[tuple[Hashable, SourceEntry]], masks: Iterable[tuple[Hashable, str, str]]
) -> list[SourceEntry]:
    """Give every image the one mask of its key.

    Args:
        images: key and entry, without masks; several images may have one key.
        masks: key, path, and the id that the mask gets if it belongs to no image.
    Returns:
        The images, and the remaining masks as ``missing_image``.
    """
    by_key: dict[Hashable, list[tuple[str, str]]] = {}
    for key, path, leftover_id in masks:
        by_key.setdefault(key, []).append((path, leftover_id))
    image_keys: set[Hashable] = set()
    paired: list[SourceEntry] = []
    for key, entry in images:
        image_keys.add(key)
        files = tuple(path for path, _ in by_key.get(key, ()))
        # two masks of one key are never united or chosen from: they may contradict each other
        if len(files) == 1:
            paired.append(replace(entry, masks=files))
        elif files:
            paired.append(replace(entry, problem="ambiguous_mask", detail=quoted_names(files)))
        else:
            paired.append(replace(entry, problem="missing_mask", detail="no mask of its name"))
    for key in by_key.keys() - image_keys:
        paired += [
            SourceEntry(leftover_id, None, (path,), problem="missing_image", detail=f"only its mask {path!r}")
            for path, leftover_id in by_key[key]
        ]
    return paired


def settle(entries: Iterable[SourceEntry]) -> list[SourceEntry]:
    """Sort by id, and make one ``ambiguous_name`` of images that share an id, since nothing tells which is meant.

    An entry without an image never takes the id of an image.
    """
    all_entries = list(entries)
    of_images = {entry.sample_id for entry in all_entries if entry.image}
    by_id: dict[str, list[SourceEntry]] = {}
    for entry in all_entries:
        # otherwise a mask without an image would make a good image of the same id ambiguous
        is_taken = not entry.image and entry.sample_id in of_images
        sample_id = f"{entry.sample_id}-without-image" if is_taken else entry.sample_id
        by_id.setdefault(sample_id, []).append(replace(entry, sample_id=sample_id))
    return [_single_entry(by_id[sample_id]) for sample_id in sorted(by_id)]


def _single_entry(candidates: Sequence[SourceEntry]) -> SourceEntry:
    images = [entry for entry in candidates if entry.image]
    if len(candidates) == 1 or not images:
        return candidates[0]
    forged = [entry for entry in images if entry.label == "forged"]
    names = [entry.image for entry in images if entry.image]
    return replace((forged or images)[0], masks=(), problem="ambiguous_name", detail=quoted_names(names))


def quoted_names(names: Sequence[str]) -> str:
    """Quote the first two names, and count the others."""
    remainder = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return " and ".join(repr(name) for name in names[:2]) + remainder
