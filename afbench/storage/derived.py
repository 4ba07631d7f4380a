"""Write and check the files that follow from MANIFEST.json: those of BagIt and Croissant.

MANIFEST.json does not list them, since BagIt's list it. They stay inside the closed world all the same: where one is
there, it must hold exactly what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .bagit import BAG_FILES, bag_files, write_bag
from .croissant import CROISSANT_FILE, croissant_bytes, write_croissant

DERIVED_FILES = (CROISSANT_FILE, *BAG_FILES)


def write_derived(folder: Path) -> list[str]:
    """Write croissant.json, then the BagIt files around it; returns their names.

    Raises:
        AfbenchError: if a manifest is damaged, or a file cannot be written.
    """
    return [write_croissant(folder), *write_bag(folder)]


def derived_files(folder: Path) -> dict[str, bytes]:
    """Return what ``write_derived`` writes, by name; write nothing.

    Raises:
        AfbenchError: if a manifest is damaged.
    """
    croissant = {CROISSANT_FILE: croissant_bytes(folder)}
    return croissant | bag_files(folder, croissant)


def may_be_unlisted(path: str) -> bool:
    """Return whether a path may lie in a benchmark unlisted: derived files, and files that a download from the Hub adds."""
    return path in DERIVED_FILES or path == ".gitattributes" or path.startswith(".cache/huggingface/")


def stale_derived(folder: Path) -> Iterator[str]:
    """Yield the names of derived files that exist and do not hold what follows from MANIFEST.json.

    Raises:
        AfbenchError: if a manifest is damaged.
    """
    names = [name for name in DERIVED_FILES if (folder / name).is_file()]
    if not names:
        return
    expected = {CROISSANT_FILE: croissant_bytes(folder)}
    expected |= bag_files(folder, {name: expected[name] for name in expected if name in names})
    for name in names:
        if (folder / name).read_bytes() != expected[name]:
            yield name
