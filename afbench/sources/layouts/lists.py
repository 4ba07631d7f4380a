"""A user's own list of images and masks, in any of the three forms of ``list_text``.

Names are relative to the list's folder or, if none of its images is there, to the folder above; absolute ones of
another machine where their tails are there. A line is never guessed at: if it can be split in several ways, the one way whose files are all there is meant, or it is excluded.
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
from afbench.sources.entry import Entry
from afbench.sources.names import relative_stem, sample_id

from .files import settle, some
from .list_text import Line, Reading, read_lines
from .places import Places, place
from .reroot import ABSOLUTE, foreign_prefix, without_prefix

EXPECTS = "one list (.txt, .csv or .json) of 'image mask [label]', 'image,mask[,jpg]' or [[image, mask], ...]"
SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".json")

_NO_LIST = re.compile(r"(readme|licen[cs]e|terms|citation|changelog)\b.*", re.IGNORECASE)


def entries(
    paths: Sequence[str], read_text: Callable[[str], str], *, root: Path | None = None
) -> list[Entry]:
    """What the only list of a folder names; in its folders, the list that lies highest.

    Raises:
        UsageError: if several lists lie there, or the list is malformed.
    """
    lists = [path for path in sorted(paths) if _may_be_list(path)]
    highest = min((path.count("/") for path in lists), default=0)
    lists = [path for path in lists if path.count("/") == highest]
    if len(lists) > 1:
        raise UsageError(f"source list: {len(lists)} lists ({some(lists)}); give the path of one of them")
    return entries_of(lists[0], paths, read_text, root=root) if lists else []


def _may_be_list(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and not _NO_LIST.fullmatch(name)


def entries_of(
    list_path: str, paths: Sequence[str], read_text: Callable[[str], str], *, root: Path | None = None
) -> list[Entry]:
    """What one list names; paths are those of the files below the root, or at least in the folders it names.

    Absolute names are read as relative where they begin with the root's own path, or where their tails, behind a
    prefix that they have in common, are below the root.

    Raises:
        UsageError: if the list is malformed, or none of its images is there.
    """
    lines = read_lines(list_path, read_text(list_path))
    files = Places(paths)
    base = _base(list_path, lines, files, root)
    there = partial(_is_there, base, files)
    return _merge([(line, _entry(line, base, files)) for line in _relative(lines, root, base, there)])


def _is_there(base: str, files: Places, name: str) -> bool:
    return _found(base, name, files) is not None


def _relative(
    lines: Sequence[Line], root: Path | None, base: str, there: Callable[[str], bool]
) -> Sequence[Line]:
    """The lines with absolute names below a folder made relative to it; ``there`` tells of a relative name whether it
    is a file."""
    if root is not None:
        folder = root / base
        for path in dict.fromkeys((folder.absolute(), folder.resolve())):
            own = f"{path.as_posix().rstrip('/')}/"
            lines = _renamed(lines, own, own)
    images, masks = _images(lines), _masks(lines)
    return _renamed(lines, foreign_prefix(images, there), foreign_prefix(masks, there))


def _renamed(lines: Sequence[Line], of_images: str, of_masks: str) -> Sequence[Line]:
    """The lines with a prefix taken off the names of images, and another off those of masks."""
    if not of_images and not of_masks:
        return lines
    return [
        line._replace(
            readings=tuple(
                Reading(
                    without_prefix(one.image, of_images),
                    None if one.mask is None else without_prefix(one.mask, of_masks),
                )
                for one in line.readings
            )
        )
        for line in lines
    ]


def _images(lines: Sequence[Line]) -> list[str]:
    return [reading.image for line in lines for reading in line.readings]


def _masks(lines: Sequence[Line]) -> list[str]:
    return [reading.mask for line in lines for reading in line.readings if reading.mask]


def _base(list_path: str, lines: Sequence[Line], files: Places, root: Path | None) -> str:
    folder = list_path.rpartition("/")[0]
    tried = {
        base: _images(_relative(lines, root, base, partial(_is_there, base, files)))
        for base in (folder, folder.rpartition("/")[0])
    }
    for base, images in tried.items():
        if any(_found(base, image, files) for image in images):
            return base
    inside = [image for base, images in tried.items() for image in images if place(base, image)]
    if not inside and (images := _images(lines)) and all(map(ABSOLUTE.match, images)):
        raise UsageError(
            f"list {list_path!r}: its paths are absolute (first: {images[0][:200]!r}), and no end of them is a file "
            "below the list's folder or the one above; make them relative to it, or put the list into the folder of the "
            "images"
        )
    if not inside:
        return folder
    raise UsageError(
        f"list {list_path!r}: no image it names is there (first: {inside[0]!r}), neither from its own folder nor from "
        "the folder above; give the folder its names begin in as the root"
    )


def _found(base: str, name: str, files: Places) -> str | None:
    path = place(base, name)
    found = files.find(path) if path else []
    return found[0] if len(found) == 1 else None


def _entry(line: Line, base: str, files: Places) -> Entry:
    reading = _chosen(line, base, files)
    if reading is None:
        told = f"{line.where} can be split into image and mask in several ways"
        return Entry(sample_id(line.where.replace(" ", "-")), None, problem="ambiguous_line", detail=told)
    path = place(base, reading.image)
    if path is None:
        outside = f"{line.where} names {reading.image[:200]!r}"
        return Entry(sample_id(relative_stem(reading.image)), None, problem="outside_root", detail=outside)
    image = _found(base, reading.image, files)
    known_as = _known_as(image or path, base)
    forged = line.label > 0 if line.label is not None else reading.mask is not None
    entry = Entry(known_as, image, label="forged" if forged else "authentic", group=known_as)
    if image is None:
        return replace(entry, problem="missing_image", detail=f"{line.where} names {path!r}")
    if not forged and reading.mask is not None:
        told = f"{line.where} says authentic by its label, and names a mask"
        return replace(entry, problem="ambiguous_line", detail=told)
    return _with_mask(entry, line.where, base, reading.mask, files) if forged else entry


def _chosen(line: Line, base: str, files: Places) -> Reading | None:
    there = [
        reading
        for reading in line.readings
        if _found(base, reading.image, files) and (reading.mask is None or _found(base, reading.mask, files))
    ]
    if len(line.readings) == 1 or (line.certain and not there):
        return line.readings[0]
    return there[0] if len(there) == 1 else None


def _with_mask(entry: Entry, where: str, base: str, mask: str | None, files: Places) -> Entry:
    if mask is None:
        return replace(
            entry, problem="missing_mask", detail=f"{where} says forged by its label, without a mask"
        )
    path = place(base, mask)
    if path is None:
        return replace(entry, problem="outside_root", detail=f"{where} names {mask[:200]!r}")
    found = _found(base, mask, files)
    if found is None:
        return replace(entry, problem="missing_mask", detail=f"{where} names {path!r}")
    return replace(entry, masks=(found,), rule="npz" if found.lower().endswith(".npz") else "white")


def _known_as(path: str, base: str) -> str:
    return sample_id(relative_stem(path.removeprefix(f"{base}/") if base else path))


def _merge(found: Sequence[tuple[Line, Entry]]) -> list[Entry]:
    """A line that says the same again is the same sample; one that says otherwise of an image takes both out."""
    by_image: dict[str, tuple[Line, Entry]] = {}
    rest: list[Entry] = []
    for line, entry in found:
        if entry.image is None:
            rest.append(entry)
            continue
        first, before = by_image.setdefault(entry.image, (line, entry))
        if replace(before, detail="") != replace(entry, detail=""):
            told = f"{first.where} and {line.where} say different things"
            by_image[entry.image] = (first, replace(before, masks=(), problem="ambiguous_mask", detail=told))
    return settle([*(entry for _, entry in by_image.values()), *rest])


class OpenList(NamedTuple):
    """A list given by its own path: the root its names begin in, its path below it, and the files in the folders
    it names."""

    root: Path
    list_path: str
    paths: list[str]


def open_list(file: Path, text: str) -> OpenList:
    """Find the root of a list that the user named itself, without walking through everything that lies there.

    Raises:
        UsageError: if the list is malformed.
    """
    here = file.absolute()
    lines = read_lines(here.name, text)
    for root in (here.parent, here.parent.parent):
        there = partial(_is_below, root)
        readings = [reading for line in _relative(lines, root, "", there) for reading in line.readings]
        names = [name for reading in readings for name in reading if name]
        folders = {path.rpartition("/")[0] for name in names if (path := place("", name))}
        paths = [path for folder in sorted(folders) for path in _files_in(root, folder)]
        files = Places(paths)
        if any(_found("", reading.image, files) for reading in readings):
            return OpenList(root, here.relative_to(root).as_posix(), sorted(paths))
    return OpenList(here.parent, here.name, [])


def _is_below(root: Path, name: str) -> bool:
    path = place("", name)
    try:
        return path is not None and (root / path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _files_in(root: Path, folder: str) -> list[str]:
    try:
        with os.scandir(root / folder) as found:
            return [f"{folder}/{one.name}" if folder else one.name for one in found if one.is_file()]
    except OSError:  # a folder the list names and nobody has; its images are reported one by one
        return []
