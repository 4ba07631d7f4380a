"""Find the files that ship with the package: in the wheel, or in a checkout of the repository."""

import json
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def resource_path(relative: str) -> Path:
    """Find ``manifests/...`` or ``DATASET_CARD.md``.

    A wheel carries them under ``afbench/_shipped``; an editable install finds them beside the package.
    """
    packaged = _PACKAGE / "_shipped" / relative
    return packaged if packaged.exists() else _PACKAGE.parent / relative


def resource_json(folder: str) -> dict[str, dict[str, Any]]:
    """Read every ``manifests/<folder>/*.json``, by file name without its suffix, in order."""
    paths = sorted(resource_path(f"manifests/{folder}").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
