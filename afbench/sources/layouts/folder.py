"""A user's own images and masks: in folders side by side, or in one; paired by relative stem, never by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from afbench.sources.entry import Entry
from afbench.sources.names import is_picture, relative_stem, sample_id
from afbench.sources.names import stem as stem_of

from .files import is_mask_folder, settle

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
"""Looked for where no folder is called as ``IMAGE_FOLDERS`` and has masks: below one of those they may mean anything."""

MASK_ENDINGS = ("_mask", "_gt", "")
"""A mask carries the stem of its image, with or without one of these behind it."""


class _Stems(NamedTuple):
    """Files by path without the last suffix, relative to their folder."""

    images: dict[str, list[str]]
    masks: dict[str, list[str]]


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Pair every image with the mask of the same relative stem.

    An image without a mask, a mask without an image, and names that cannot be told apart keep their reason.
    """
    every = [_stems(paths, IMAGE_FOLDERS), _stems(paths, FORGED_FOLDERS), _beside(paths)]
    whole = [one for one in every if one.images and one.masks]
    # without any mask at all, what has images says best what is missing
    images, masks = next(iter([*whole, *(one for one in every[:2] if one.images), _Stems({}, {})]))
    found: list[Entry] = []
    matches = _matches(images, masks)
    for stem, same in images.items():
        found.append(_entry(stem, same, [path for match in matches[stem] for path in masks[match]]))
    used = {match for some in matches.values() for match in some}
    listed = {entry.sample_id for entry in found}
    for stem in sorted(masks.keys() - used):
        known_as = sample_id(stem)
        if known_as not in listed:
            listed.add(known_as)
            detail = "a mask without an image of its stem"
            found.append(Entry(known_as, None, tuple(masks[stem]), problem="missing_image", detail=detail))
    return settle(found) if images else []


def _matches(images: Mapping[str, object], masks: Mapping[str, object]) -> dict[str, list[str]]:
    """Stems of masks by stem of image: exactly, else in any case where no other image can be meant."""
    found = {
        # a mask of an image's very own name belongs to that image alone
        stem: [
            stem + ending
            for ending in MASK_ENDINGS
            if stem + ending in masks and not (ending and stem + ending in images)
        ]
        for stem in images
    }
    used = {match for some in found.values() for match in some}
    left: dict[str, list[str]] = {}
    for mask in sorted(masks.keys() - used):
        left.setdefault(mask.lower(), []).append(mask)
    folded = Counter(stem.lower() for stem in images)
    for stem, some in found.items():
        low = stem.lower()
        if not some and folded[low] == 1:
            endings = [ending for ending in MASK_ENDINGS if not (ending and low + ending in folded)]
            some += [mask for ending in endings for mask in left.get(low + ending, ())]
    return found


def _entry(stem: str, images: list[str], masks: list[str]) -> Entry:
    known_as, twice = sample_id(stem), "another file has the same stem"
    if len(images) > 1:
        return Entry(known_as, images[0], group=known_as, problem="ambiguous_name", detail=twice)
    if len(masks) > 1:
        return Entry(known_as, images[0], group=known_as, problem="ambiguous_mask", detail=twice)
    if not masks:
        detail = "no mask of its stem, with _mask or _gt behind it or without"
        return Entry(known_as, images[0], group=known_as, problem="missing_mask", detail=detail)
    rule = "npz" if masks[0].lower().endswith(".npz") else "white"
    return Entry(known_as, images[0], (masks[0],), rule=rule, group=known_as)


def _stems(paths: Sequence[str], image_folders: Sequence[str]) -> _Stems:
    """What lies in folders of images and of masks, of the highest level that has either; in ``images`` and ``masks``
    alone where folders of these names are there."""
    found = [one for path in sorted(set(paths)) if (one := _place(path, image_folders))]
    highest = min((len(one.above) for one in found), default=0)
    found = [one for one in found if len(one.above) == highest]
    plain = {(one.above, one.folder) for one in found if one.folder in ("images", "masks")}
    stems = _Stems({}, {})
    for one in found:
        masks = is_mask_folder(one.folder)
        best = "masks" if masks else "images"
        if one.folder == best or (one.above, best) not in plain:
            kind = stems.masks if masks else stems.images
            kind.setdefault("/".join((*one.above, *one.below)), []).append(one.path)
    return stems


def _beside(paths: Sequence[str]) -> _Stems:
    """Images whose masks lie in the same folder, told by ``_mask`` or ``_gt`` behind the image's own stem."""
    every: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        if is_picture(path):
            every.setdefault(relative_stem(path), []).append(path)
    stems = _Stems({}, {})
    folded = {stem.lower() for stem in every}
    for stem, same in every.items():
        low = stem.lower()
        ending = next((one for one in MASK_ENDINGS[:2] if low.endswith(one)), None)
        masked = any(low + one in folded for one in MASK_ENDINGS[:2])
        of_mask = ending is not None and (low.removesuffix(ending) in folded or not masked)
        (stems.masks if of_mask else stems.images)[stem] = same
    return stems


class _Place(NamedTuple):
    """A picture or mask: the folders above the folder of its kind, that folder in lower case, and its stem below."""

    path: str
    above: tuple[str, ...]
    folder: str
    below: tuple[str, ...]


def _place(path: str, image_folders: Sequence[str]) -> _Place | None:
    *folders, _ = path.split("/")
    names = [folder.lower() for folder in folders]
    at = next((at for at, name in enumerate(names) if name in image_folders or is_mask_folder(name)), None)
    if at is None:
        return None
    archive = is_mask_folder(names[at]) and path.lower().endswith(".npz")
    if not is_picture(f"{path}.png" if archive else path):
        return None
    return _Place(path, tuple(folders[:at]), names[at], (*folders[at + 1 :], stem_of(path)))
