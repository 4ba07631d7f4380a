"""Code for all CASIA releases: names that tell kind and photographs, corrected names, masks that end in ``_gt``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .photograph_groups import group_photographs
from .picture_files import Picture, is_mask_folder, pair, pictures, settle
from .release_faults import duplicates, renames

KINDS = {"s": "copy_move", "d": "splice"}
"""S: the pasted part is from the same photograph; D: from a different one."""

_GT = re.compile(r"_gt\d?$", re.IGNORECASE)
_PHOTOGRAPH = re.compile(r"(?<=_)([a-z]{3})_?(\d{3,6})(?=_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Release:
    """How one release names its files. Patterns match corrected stems; the sister release's names begin with ``sister_prefix``."""

    name: str
    forged: re.Pattern[str]
    authentic: re.Pattern[str]
    folders: tuple[str, ...]
    sister_prefix: str


def read_release(release: Release, paths: Sequence[str]) -> list[SourceEntry]:
    """Pair a release's forged images and masks by corrected stem, and list its authentic images."""
    forged: list[tuple[str, SourceEntry]] = []
    masks: dict[str, list[Picture]] = {}
    other_entries: list[SourceEntry] = []
    homes: dict[str, str] = {}
    for picture in pictures(paths):
        stem = corrected(release.name, _GT.sub("", picture.stem))
        key, entry_id = stem.lower(), sample_id(stem)
        match = release.forged.fullmatch(stem)
        # masks first: without its ``_gt`` a mask is named like its image
        if _is_mask(picture):
            if match:
                masks.setdefault(key, []).append(picture)
        elif match:
            forged.append((key, SourceEntry(entry_id, picture.path, kind=KINDS[match[1].lower()])))
            homes[key] = picture.folder
        elif release.authentic.fullmatch(stem):
            other_entries.append(SourceEntry(entry_id, picture.path, label="authentic"))
        # both CASIA releases may lie below one root; the other's images are no faults of this one
        elif picture.folder in release.folders and not key.startswith(release.sister_prefix):
            detail = f"no name of {release.name}"
            other_entries.append(SourceEntry(entry_id, picture.path, problem="unknown_name", detail=detail))
    if not forged and not masks:
        return []
    matching_masks = [
        (key, mask.path, sample_id(corrected(release.name, _GT.sub("", mask.stem))))
        for key, candidates in masks.items()
        for mask in _best(candidates, homes.get(key, ""))
    ]
    return _grouped(release.name, settle([*pair(forged, matching_masks), *other_entries]))


def _is_mask(picture: Picture) -> bool:
    """Tell a mask by ``_gt``, or else by a PNG in a folder of masks: no image of the releases is a PNG."""
    in_masks = any(map(is_mask_folder, picture.folders)) and picture.path.lower().endswith(".png")
    return in_masks or bool(_GT.search(picture.stem))


def corrected(release: str, stem: str) -> str:
    """Return the stem a file should have: a wrong name of the release is corrected, a corrected copy is left as it is."""
    stem = renames(release).get(stem.lower(), stem)
    return re.sub(r"\.(\d{4,5})$", r"_\1", stem)


def photographs(stem: str) -> list[str]:
    """Return the photographs a stem names: pla5 and pla23 for ``Sp_D_CND_A_pla0005_pla0023_0281``, pla5 for ``Au_pla_0005``."""
    return [f"{scene.lower()}{int(number)}" for scene, number in _PHOTOGRAPH.findall(stem)]


def _best(masks: list[Picture], home: str) -> list[Picture]:
    """Choose among the masks of one stem: those in a folder named like the image's, and of these those with a plain ``_gt``."""
    for preferred in (
        [mask for mask in masks if mask.folder == home],
        [mask for mask in masks if mask.stem.lower().endswith("_gt")],
    ):
        masks = [mask for mask in masks if mask in preferred] or masks
    return masks


def _grouped(release: str, entries: list[SourceEntry]) -> list[SourceEntry]:
    """Give each entry the group of its photographs, and exclude authentic photographs that are there twice."""
    first_stems = duplicates(release)
    ids_in_release = {entry.sample_id.lower() for entry in entries}
    photograph_ids = {entry.sample_id: photographs(entry.sample_id) for entry in entries}
    # a photograph under two names must not be on both sides of a split
    duplicate_links = [photographs(first) + photographs(second) for second, first in first_stems.items()]
    groups = group_photographs([*photograph_ids.values(), *duplicate_links])
    grouped_entries = []
    for entry in entries:
        ids = photograph_ids[entry.sample_id]
        grouped = replace(entry, group=groups[ids[0]] if ids else entry.sample_id)
        first = first_stems.get(entry.sample_id.lower())
        if first in ids_in_release and not entry.problem:
            grouped = replace(grouped, problem="duplicate_content", detail=f"the photograph of {first}")
        grouped_entries.append(grouped)
    return grouped_entries
