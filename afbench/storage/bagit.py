"""Write BagIt files, the form in which archives and libraries keep a folder with its checksums.

``data/`` is a bag's payload as it is a benchmark's, so that no file moves: all others are tag files. What is written
follows from MANIFEST.json alone, without dates, and is therefore the same wherever and whenever it is written.

Source: RFC 8493, BagIt 1.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afbench.files import commit_if_changed

from .file_list import read_listing
from .manifests import TOP

BAG_FILES = ("bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt")
PAYLOAD = "data/"

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def write_bag(folder: Path) -> list[str]:
    """Write the BagIt files of a folder that has a MANIFEST.json; a croissant.json in it becomes part of the bag.

    Returns:
        The names of the files.
    Raises:
        AfbenchError: if MANIFEST.json is damaged, or a file cannot be written.
    """
    croissant = folder / "croissant.json"
    tag_files = {croissant.name: croissant.read_bytes()} if croissant.is_file() else {}
    files = bag_files(folder, tag_files)
    for name, data in files.items():
        commit_if_changed(folder / name, data)
    return list(files)


def bag_files(folder: Path, tag_files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files that ``write_bag`` writes, by name; ``tag_files`` are tag files that MANIFEST.json does not list.

    Raises:
        AfbenchError: if MANIFEST.json is damaged.
    """
    listing = read_listing(folder)
    payload = {path: entry for path, entry in listing.items() if path.startswith(PAYLOAD)}
    top = (folder / TOP).read_bytes()
    files = {
        "bagit.txt": _DECLARATION,
        "bag-info.txt": _info(payload, top),
        "manifest-sha256.txt": _lines({path: entry["sha256"] for path, entry in payload.items()}),
    }
    tags = {path: entry["sha256"] for path, entry in listing.items() if path not in payload}
    tags |= {
        name: hashlib.sha256(data).hexdigest()
        for name, data in (files | {TOP: top} | dict(tag_files)).items()
    }
    return {**files, "tagmanifest-sha256.txt": _lines(tags)}


def _info(payload: Mapping[str, Mapping[str, Any]], top: bytes) -> bytes:
    size = sum(entry["bytes"] for entry in payload.values())
    lines = {
        "External-Description": "Adversarial forgery-localization benchmark made with afbench, see README.md",
        "External-Identifier": f"sha256:{hashlib.sha256(top).hexdigest()}",  # which benchmark: the hash of its list
        "Payload-Oxum": f"{size}.{len(payload)}",
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items()).encode()


def _lines(hashes: Mapping[str, str]) -> bytes:
    """Write one line per file, in order of paths; these are plain names, in which nothing needs escaping."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(hashes.items())).encode()
