"""Read the closed list of files, MANIFEST.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError

from .manifests import TOP, read_json, require_benchmark, safe_path

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_listing(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read every file that MANIFEST.json lists, with its ``bytes`` and ``sha256``, by path.

    Raises:
        UsageError: if there is no MANIFEST.json.
        AfbenchError: if it is damaged, or names a path outside the folder.
    """
    require_benchmark(folder)
    files = read_json(folder / TOP).get("files")
    if not isinstance(files, dict):
        raise AfbenchError(f"'{folder / TOP}' is damaged: it has no list of files")
    # by hand: the schema takes 150 us an entry, and every picture of an export is one; `verify` has the time
    for path, entry in files.items():
        safe_path(path)
        if not (
            isinstance(entry, dict) and type(entry.get("bytes")) is int and _is_sha256(entry.get("sha256"))
        ):
            raise AfbenchError(f"'{folder / TOP}' is damaged: '{path}' has no size or no sha256")
    return files


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
