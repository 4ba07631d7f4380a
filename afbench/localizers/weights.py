"""The user's own copies of published weights, found by name. No torch here."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from afbench.core import UsageError
from afbench.folders import weights_folder
from afbench.naming import did_you_mean
from afbench.resources import resource_json


@dataclass(frozen=True, kw_only=True)
class Registered:
    """Weights in the folder: the stored file, its network's ``weights_sha256``, and the file they came from."""

    name: str
    file: str
    weights_sha256: str
    origin: str
    origin_sha256: str
    added: str

    @property
    def path(self) -> Path:
        return weights_folder() / self.file


def registered(name: str) -> Registered | None:
    """Return the weights registered under a name, or None.

    Raises:
        UsageError: if their record or file is damaged.
    """
    record = weights_folder() / f"{name}.json"
    if not record.is_file():
        return None
    try:
        registration = Registered(**json.loads(record.read_text(encoding="utf-8")))
        legal = (
            registration.name == name
            and registration.file == f"{name}.safetensors"
            and registration.path.is_file()
        )
        legal = legal and bool(re.fullmatch(r"[0-9a-f]{64}", registration.weights_sha256))
    except (ValueError, TypeError, OSError):
        legal = False
    if not legal:
        raise UsageError(
            f"the record of weights '{record}' is damaged; `afbench weights remove {name}`, then add them again"
        )
    return registration


def list_weights() -> list[dict[str, Any]]:
    """List every published localizer: where to find its weights, ``registered`` (None without any) and ``problem``."""
    rows = []
    for name, row in resource_json("localizers").items():
        registration, problem = None, ""
        try:
            registration = registered(name)
        except UsageError as error:
            problem = str(error)
        card = {key: row[key] for key in ("title", "file", "where", "licence", "megabytes")}
        rows.append(
            {
                "name": name,
                **card,
                "sha256": row.get("sha256"),
                "registered": asdict(registration) if registration else None,
                "problem": problem,
            }
        )
    return rows


def remove_weights(name: str) -> bool:
    """Delete registered weights; False if there were none."""
    require_registrable(name)
    paths = [
        path
        for path in (weights_folder() / f"{name}.json", weights_folder() / f"{name}.safetensors")
        if path.exists()
    ]
    for path in paths:
        path.unlink()
    return bool(paths)


def require_registrable(name: str) -> None:
    """Refuse a name that is not a published localizer's.

    Raises:
        UsageError: with the published names.
    """
    published = resource_json("localizers")
    if name not in published:
        suggestion = did_you_mean("localizer", name, published)
        raise UsageError(
            f"'{name}' is no published localizer; {suggestion}weights can be added for: {', '.join(published)}"
        )
