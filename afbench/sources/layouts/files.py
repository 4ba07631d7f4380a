"""What the layouts share: pictures among paths, masks joined to images by a key, one entry for each id."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from afbench.sources.entry import Entry
from afbench.sources.names import is_picture, stem


@dataclass(frozen=True)
class Picture:
    """A file with an image suffix: its path, the folders above it from the root down, its name to the last dot."""

    path: str
    folders: tuple[str, ...]
    stem: str

    @property
    def folder(self) -> str:
        """Name of the folder it lies in, in lower case; empty at the root."""
        return self.folders[-1].lower() if self.folders else ""


def pictures(paths: Iterable[str]) -> list[Picture]:
    """Every picture once, in order of path."""
    found = sorted({path for path in paths if is_picture(path)})
    return [Picture(path, tuple(path.split("/")[:-1]), stem(path)) for path in found]


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says masks: ``mask``, ``DSO-1-Fake-Images-Masks``, ``ground truth``, ``Gt``, ..."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return letters == "gt" or "mask" in letters or "groundtruth" in letters


def pair(images: Iterable[tuple[Hashable, Entry]], masks: Iterable[tuple[Hashable, str, str]]) -> list[Entry]:
    """Give every image the one mask of its key.

    Args:
        images: key and entry, without masks; several images may have one key.
        masks: key, path, and the id under which a mask is listed that belongs to no image.
    Returns:
        The images, and the masks that are left over as ``missing_image``.
    """
    by_key: dict[Hashable, list[tuple[str, str]]] = {}
    for key, path, leftover_id in masks:
        by_key.setdefault(key, []).append((path, leftover_id))
    used: set[Hashable] = set()
    found: list[Entry] = []
    for key, entry in images:
        used.add(key)
        files = tuple(path for path, _ in by_key.get(key, ()))
        if len(files) == 1:
            found.append(replace(entry, masks=files))
        elif files:
            found.append(replace(entry, problem="ambiguous_mask", detail=some(files)))
        else:
            found.append(replace(entry, problem="missing_mask", detail="no mask of its name"))
    for key in by_key.keys() - used:
        found += [
            Entry(leftover_id, None, (path,), problem="missing_image", detail=f"only its mask {path!r}")
            for path, leftover_id in by_key[key]
        ]
    return found


def settle(entries: Iterable[Entry]) -> list[Entry]:
    """Sort by id; images that share one become a single ``ambiguous_name``, since nobody can tell which is meant.

    What has no image of its own never takes an image's id from it.
    """
    everything = list(entries)
    of_images = {entry.sample_id for entry in everything if entry.image}
    by_id: dict[str, list[Entry]] = {}
    for entry in everything:
        taken = not entry.image and entry.sample_id in of_images
        sample_id = f"{entry.sample_id}-without-image" if taken else entry.sample_id
        by_id.setdefault(sample_id, []).append(replace(entry, sample_id=sample_id))
    return [_one(by_id[sample_id]) for sample_id in sorted(by_id)]


def _one(same: Sequence[Entry]) -> Entry:
    images = [entry for entry in same if entry.image]
    if len(same) == 1 or not images:
        return same[0]
    forged = [entry for entry in images if entry.label == "forged"]
    names = [entry.image for entry in images if entry.image]
    return replace((forged or images)[0], masks=(), problem="ambiguous_name", detail=some(names))


def some(names: Sequence[str]) -> str:
    """The first two names, quoted, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return " and ".join(repr(name) for name in names[:2]) + more
