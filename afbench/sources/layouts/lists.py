"""A user's own list of images and masks, in any of the three forms of ``list_text``.

Names are relative to the list's folder or, if none of its images is there, to the folder above. Absolute paths of
another machine are read without their first folders, if files are found that way. A line is never guessed: if it can
be split in several ways, all files of exactly one of them must exist, or it is excluded. Where a list names the PNG that
its author made of a mask in NumPy's ``.npz``, that archive is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from afbench.core import UsageError
from afbench.sources.sample_names import relative_stem, sample_id
from afbench.sources.source_entry import SourceEntry

from .list_text import ListLine, Reading, read_lines
from .path_lookup import PathLookup, path_below_root
from .picture_files import quoted_names, settle
from .reroot import ABSOLUTE, foreign_prefix, without_prefix

EXPECTS = "one list (.txt, .csv or .json) of 'image mask [label]', 'image,mask[,jpg]' or [[image, mask], ...]"
SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".json")

_NO_LIST = re.compile(r"(readme|licen[cs]e|terms|citation|changelog)\b.*", re.IGNORECASE)


def entries(
    paths: Sequence[str], read_text: Callable[[str], str], *, root: Path | None = None
) -> list[SourceEntry]:
    """List the entries of the only list in a folder or, if it has none, of the list that lies highest below it.

    Raises:
        UsageError: if several lists lie on that level, or the list is malformed.
    """
    lists = [path for path in sorted(paths) if _may_be_list(path)]
    highest = min((path.count("/") for path in lists), default=0)
    # a release may carry further lists, such as splits, in its folders
    lists = [path for path in lists if path.count("/") == highest]
    if len(lists) > 1:
        raise UsageError(
            f"source list: {len(lists)} lists ({quoted_names(lists)}); give the path of one of them"
        )
    return entries_of(lists[0], paths, read_text, root=root) if lists else []


def _may_be_list(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and not _NO_LIST.fullmatch(name)


def entries_of(
    list_path: str, paths: Sequence[str], read_text: Callable[[str], str], *, root: Path | None = None
) -> list[SourceEntry]:
    """List the entries of one list; ``paths`` are the files below the root, or at least those in the folders it names.

    An absolute name is read as relative if it begins with the root's own path, or if it is a file below the root once
    a prefix is removed that the names have in common.

    Raises:
        UsageError: if the list is malformed, or none of its images is there.
    """
    lines = read_lines(list_path, read_text(list_path))
    files = PathLookup(paths)
    base = _base(list_path, lines, files, root)
    is_file = partial(_is_file, base, files)
    return _merge([(line, _entry(line, base, files)) for line in _relative(lines, root, base, is_file)])


def _is_file(base: str, files: PathLookup, name: str) -> bool:
    return _find_file(base, name, files) is not None


def _relative(
    lines: Sequence[ListLine], root: Path | None, base: str, is_file: Callable[[str], bool]
) -> Sequence[ListLine]:
    """Make absolute names below a folder relative to it; ``is_file`` tells whether a relative name is a file."""
    if root is not None:
        folder = root / base
        # a list may be written with the path of a link or with the path it leads to
        for path in dict.fromkeys((folder.absolute(), folder.resolve())):
            root_prefix = f"{path.as_posix().rstrip('/')}/"
            lines = _renamed(lines, root_prefix, root_prefix)

    def is_mask(name: str) -> bool:
        return any(map(is_file, _mask_candidates(name)))

    images, masks = _image_names(lines), _mask_names(lines)
    return _renamed(lines, foreign_prefix(images, is_file), foreign_prefix(masks, is_mask))


def _renamed(lines: Sequence[ListLine], of_images: str, of_masks: str) -> Sequence[ListLine]:
    """Remove a prefix from the names of images, and another from those of masks."""
    if not of_images and not of_masks:
        return lines
    return [
        line._replace(
            readings=tuple(
                Reading(
                    without_prefix(reading.image, of_images),
                    None if reading.mask is None else without_prefix(reading.mask, of_masks),
                )
                for reading in line.readings
            )
        )
        for line in lines
    ]


def _image_names(lines: Sequence[ListLine]) -> list[str]:
    return [reading.image for line in lines for reading in line.readings]


def _mask_names(lines: Sequence[ListLine]) -> list[str]:
    return [reading.mask for line in lines for reading in line.readings if reading.mask]


def _base(list_path: str, lines: Sequence[ListLine], files: PathLookup, root: Path | None) -> str:
    folder = list_path.rpartition("/")[0]
    tried = {
        base: _image_names(_relative(lines, root, base, partial(_is_file, base, files)))
        for base in (folder, folder.rpartition("/")[0])
    }
    for base, images in tried.items():
        if any(_find_file(base, image, files) for image in images):
            return base
    paths_in_root = [
        image for base, images in tried.items() for image in images if path_below_root(base, image)
    ]
    if not paths_in_root and (images := _image_names(lines)) and all(map(ABSOLUTE.match, images)):
        raise UsageError(
            f"list {list_path!r}: its paths are absolute (first: {images[0][:200]!r}), and no end of them is a file "
            "below the list's folder or the one above; make them relative to it, or put the list into the folder of the "
            "images"
        )
    if not paths_in_root:
        return folder
    raise UsageError(
        f"list {list_path!r}: no image it names is there (first: {paths_in_root[0]!r}), neither from its own folder nor from "
        "the folder above; give the folder its names begin in as the root"
    )


def _find_file(base: str, name: str, files: PathLookup) -> str | None:
    path = path_below_root(base, name)
    matches = files.find(path) if path else []
    return matches[0] if len(matches) == 1 else None


def _mask_candidates(name: str) -> list[str]:
    """List the files that may hold a mask, the one of its name first.

    IMDL-BenCo's lists of Fantastic Reality name PNGs that users make of the release's ``.npz`` masks, in the same folder or
    in one of its name with ``Png`` behind it.
    """
    if not name.lower().endswith(".png"):
        return [name]
    folder, slash, file_name = name[: -len(".png")].replace("\\", "/").rpartition("/")
    original_folder = folder[: -len("Png")] if folder.lower().endswith("png") else folder
    archives = (f"{parent}{slash}{file_name}.npz" for parent in (folder, original_folder))
    return list(dict.fromkeys([name, *archives]))


def _find_mask(base: str, name: str, files: PathLookup) -> str | None:
    candidates = (_find_file(base, candidate, files) for candidate in _mask_candidates(name))
    return next((path for path in candidates if path), None)


def _entry(line: ListLine, base: str, files: PathLookup) -> SourceEntry:
    reading = _readable_pair(line, base, files)
    if reading is None:
        detail = f"{line.position} can be split into image and mask in several ways"
        return SourceEntry(
            sample_id(line.position.replace(" ", "-")), None, problem="ambiguous_line", detail=detail
        )
    path = path_below_root(base, reading.image)
    if path is None:
        detail = f"{line.position} names {reading.image[:200]!r}"
        return SourceEntry(
            sample_id(relative_stem(reading.image)), None, problem="outside_root", detail=detail
        )
    image = _find_file(base, reading.image, files)
    entry_id = _entry_id(image or path, base)
    forged = line.label > 0 if line.label is not None else reading.mask is not None
    entry = SourceEntry(entry_id, image, label="forged" if forged else "authentic", group=entry_id)
    if image is None:
        return replace(entry, problem="missing_image", detail=f"{line.position} names {path!r}")
    if not forged and reading.mask is not None:
        detail = f"{line.position} says authentic by its label, and names a mask"
        return replace(entry, problem="ambiguous_line", detail=detail)
    return _with_mask(entry, line.position, base, reading.mask, files) if forged else entry


def _readable_pair(line: ListLine, base: str, files: PathLookup) -> Reading | None:
    complete_readings = [
        reading
        for reading in line.readings
        if _find_file(base, reading.image, files)
        and (reading.mask is None or _find_mask(base, reading.mask, files))
    ]
    if len(line.readings) == 1 or (line.certain and not complete_readings):
        return line.readings[0]
    return complete_readings[0] if len(complete_readings) == 1 else None


def _with_mask(
    entry: SourceEntry, position: str, base: str, mask: str | None, files: PathLookup
) -> SourceEntry:
    if mask is None:
        return replace(
            entry, problem="missing_mask", detail=f"{position} says forged by its label, without a mask"
        )
    path = path_below_root(base, mask)
    if path is None:
        return replace(entry, problem="outside_root", detail=f"{position} names {mask[:200]!r}")
    mask_path = _find_mask(base, mask, files)
    if mask_path is None:
        return replace(entry, problem="missing_mask", detail=f"{position} names {path!r}")
    rule = "npz" if mask_path.lower().endswith(".npz") else "white"
    return replace(entry, masks=(mask_path,), rule=rule, user_masks=True)


def _entry_id(path: str, base: str) -> str:
    return sample_id(relative_stem(path.removeprefix(f"{base}/") if base else path))


def _merge(parsed_lines: Sequence[tuple[ListLine, SourceEntry]]) -> list[SourceEntry]:
    """Merge lines that say the same of an image; exclude an image of which two lines say different things."""
    by_image: dict[str, tuple[ListLine, SourceEntry]] = {}
    rest: list[SourceEntry] = []
    for line, entry in parsed_lines:
        if entry.image is None:
            rest.append(entry)
            continue
        first, previous = by_image.setdefault(entry.image, (line, entry))
        if replace(previous, detail="") != replace(entry, detail=""):
            detail = f"{first.position} and {line.position} say different things"
            by_image[entry.image] = (
                first,
                replace(previous, masks=(), problem="ambiguous_mask", detail=detail),
            )
    return settle([*(entry for _, entry in by_image.values()), *rest])


class OpenList(NamedTuple):
    """A list given by its own path: the root of its names, the list's path below it, and the files in the folders it names."""

    root: Path
    list_path: str
    paths: list[str]


def open_list(file: Path, text: str) -> OpenList:
    """Find the root of a list given by its path, without listing all folders below it.

    Raises:
        UsageError: if the list is malformed.
    """
    list_file = file.absolute()
    lines = read_lines(list_file.name, text)
    for root in (list_file.parent, list_file.parent.parent):
        is_file = partial(_is_below, root)
        readings = [reading for line in _relative(lines, root, "", is_file) for reading in line.readings]
        images, masks = (reading.image for reading in readings), (reading.mask for reading in readings)
        names = [*images, *(name for mask in masks if mask for name in _mask_candidates(mask))]
        folders = {path.rpartition("/")[0] for name in names if (path := path_below_root("", name))}
        paths = [path for folder in sorted(folders) for path in _files_in(root, folder)]
        files = PathLookup(paths)
        if any(_find_file("", reading.image, files) for reading in readings):
            return OpenList(root, list_file.relative_to(root).as_posix(), sorted(paths))
    return OpenList(list_file.parent, list_file.name, [])


def _is_below(root: Path, name: str) -> bool:
    path = path_below_root("", name)
    try:
        return path is not None and (root / path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _files_in(root: Path, folder: str) -> list[str]:
    try:
        with os.scandir(root / folder) as children:
            return [
                f"{folder}/{child.name}" if folder else child.name for child in children if child.is_file()
            ]
    except OSError:  # a folder the list names and nobody has; its images are reported one by one
        return []
