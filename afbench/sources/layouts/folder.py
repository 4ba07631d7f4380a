"""A user's own images and masks, in two folders or in one; paired by relative stem, never by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from afbench.sources.sample_names import is_picture, relative_stem, sample_id
from afbench.sources.sample_names import stem as stem_of
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, settle

EXPECTS = (
    "images/*.png (or forged/, tampered/, fake/, input/, probe/; or .jpg, .tif, .bmp, .webp) and masks/ (or gt/, groundtruth/) "
    "with the same stems, with _mask or _gt behind or not; or x.png beside x_mask.png or x_gt.png"
)

IMAGE_FOLDERS = ("images", "image", "tp")
FORGED_FOLDERS = (
    "input",
    "inputs",
    "forged",
    "forgery",
    "forgeries",
    "tampered",
    "fake",
    "fakes",
    "fake_img",
    "probe",
)
"""Names that count only if no folder of ``IMAGE_FOLDERS`` has masks: below such a folder they may mean anything."""

MASK_ENDINGS = ("_mask", "_gt", "")
"""A mask carries the stem of its image, with or without one of these behind it."""


class _Stems(NamedTuple):
    """Files by their path without the suffix, relative to the folder of images or masks."""

    images: dict[str, list[str]]
    masks: dict[str, list[str]]


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """Pair every image with the mask of the same relative stem.

    Images without a mask, masks without an image and ambiguous names are listed with the reason for their exclusion.
    """
    pairings = [_stems(paths, IMAGE_FOLDERS), _stems(paths, FORGED_FOLDERS), _stems_of_one_folder(paths)]
    complete = [pairing for pairing in pairings if pairing.images and pairing.masks]
    # without any mask at all, what has images says best what is missing
    images, masks = next(
        iter([*complete, *(pairing for pairing in pairings[:2] if pairing.images), _Stems({}, {})])
    )
    listed_entries: list[SourceEntry] = []
    matches = _matches(images, masks)
    for stem, image_paths in images.items():
        listed_entries.append(
            _entry(stem, image_paths, [path for match in matches[stem] for path in masks[match]])
        )
    matched_stems = {match for mask_stems in matches.values() for match in mask_stems}
    listed_ids = {entry.sample_id for entry in listed_entries}
    for stem in sorted(masks.keys() - matched_stems):
        entry_id = sample_id(stem)
        if entry_id not in listed_ids:
            listed_ids.add(entry_id)
            detail = "a mask without an image of its stem"
            listed_entries.append(
                SourceEntry(entry_id, None, tuple(masks[stem]), problem="missing_image", detail=detail)
            )
    return settle(listed_entries) if images else []


def _matches(images: Mapping[str, object], masks: Mapping[str, object]) -> dict[str, list[str]]:
    """Find the masks' stems for each image's stem: the same, or else one that differs in case only and fits no other image."""
    matches = {
        # a mask of an image's very own name belongs to that image alone
        stem: [
            stem + ending
            for ending in MASK_ENDINGS
            if stem + ending in masks and not (ending and stem + ending in images)
        ]
        for stem in images
    }
    matched_masks = {mask for mask_stems in matches.values() for mask in mask_stems}
    unmatched_masks: dict[str, list[str]] = {}
    for mask in sorted(masks.keys() - matched_masks):
        unmatched_masks.setdefault(mask.lower(), []).append(mask)
    folded = Counter(stem.lower() for stem in images)
    for stem, mask_stems in matches.items():
        low = stem.lower()
        if not mask_stems and folded[low] == 1:
            endings = [ending for ending in MASK_ENDINGS if not (ending and low + ending in folded)]
            mask_stems += [mask for ending in endings for mask in unmatched_masks.get(low + ending, ())]
    return matches


def _entry(stem: str, images: list[str], masks: list[str]) -> SourceEntry:
    entry_id, same_stem = sample_id(stem), "another file has the same stem"
    if len(images) > 1:
        return SourceEntry(entry_id, images[0], group=entry_id, problem="ambiguous_name", detail=same_stem)
    if len(masks) > 1:
        return SourceEntry(entry_id, images[0], group=entry_id, problem="ambiguous_mask", detail=same_stem)
    if not masks:
        detail = "no mask of its stem, with _mask or _gt behind it or without"
        return SourceEntry(entry_id, images[0], group=entry_id, problem="missing_mask", detail=detail)
    rule = "npz" if masks[0].lower().endswith(".npz") else "white"
    return SourceEntry(entry_id, images[0], (masks[0],), rule=rule, group=entry_id, user_masks=True)


def _stems(paths: Sequence[str], image_folders: Sequence[str]) -> _Stems:
    """Collect the files in folders of images and of masks, on the highest level that has such folders.

    Folders named ``images`` and ``masks`` count alone where they exist."""
    files = [file for path in sorted(set(paths)) if (file := _file_in_role(path, image_folders))]
    highest_level = min((len(file.parents) for file in files), default=0)
    files = [file for file in files if len(file.parents) == highest_level]
    plain = {(file.parents, file.folder) for file in files if file.folder in ("images", "masks")}
    stems = _Stems({}, {})
    for file in files:
        masks = is_mask_folder(file.folder)
        best = "masks" if masks else "images"
        if file.folder == best or (file.parents, best) not in plain:
            kind = stems.masks if masks else stems.images
            kind.setdefault("/".join((*file.parents, *file.relative_parts)), []).append(file.path)
    return stems


def _stems_of_one_folder(paths: Sequence[str]) -> _Stems:
    """Collect images whose masks lie in the same folder and end in ``_mask`` or ``_gt`` after the image's stem."""
    by_stem: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        if is_picture(path):
            by_stem.setdefault(relative_stem(path), []).append(path)
    stems = _Stems({}, {})
    folded = {stem.lower() for stem in by_stem}
    for stem, files in by_stem.items():
        low = stem.lower()
        ending = next((suffix for suffix in MASK_ENDINGS[:2] if low.endswith(suffix)), None)
        masked = any(low + suffix in folded for suffix in MASK_ENDINGS[:2])
        of_mask = ending is not None and (low.removesuffix(ending) in folded or not masked)
        (stems.masks if of_mask else stems.images)[stem] = files
    return stems


class _FileInRole(NamedTuple):
    """A picture or mask: the folders above its folder of images or masks, that folder in lower case, and its path below."""

    path: str
    parents: tuple[str, ...]
    folder: str
    relative_parts: tuple[str, ...]


def _file_in_role(path: str, image_folders: Sequence[str]) -> _FileInRole | None:
    *folders, _ = path.split("/")
    names = [folder.lower() for folder in folders]
    position = next(
        (position for position, name in enumerate(names) if name in image_folders or is_mask_folder(name)),
        None,
    )
    if position is None:
        return None
    archive = is_mask_folder(names[position]) and path.lower().endswith(".npz")
    if not is_picture(f"{path}.png" if archive else path):
        return None
    return _FileInRole(
        path, tuple(folders[:position]), names[position], (*folders[position + 1 :], stem_of(path))
    )
