"""The user's own copies of published weights: checked once, kept as safetensors, found by name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, UsageError
from afbench.folders import weights_folder
from afbench.shipped import shipped_json


@dataclass(frozen=True)
class Registered:
    """Weights in the folder: our file and its network's ``weights_sha256``, and the file they came from."""

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
    """Weights registered under a name, or None.

    Raises:
        UsageError: if their record or file is damaged.
    """
    record = weights_folder() / f"{name}.json"
    if not record.is_file():
        return None
    try:
        found = Registered(**json.loads(record.read_text(encoding="utf-8")))
        legal = found.name == name and found.file == f"{name}.safetensors" and found.path.is_file()
        legal = legal and bool(re.fullmatch(r"[0-9a-f]{64}", found.weights_sha256))
    except (ValueError, TypeError, OSError):
        legal = False
    if not legal:
        raise UsageError(
            f"the record of weights '{record}' is damaged; `afbench weights remove {name}`, then add them again"
        )
    return found


def list_weights() -> list[dict[str, Any]]:
    """Every published localizer: where its weights are, ``registered`` (None if they are not here) and ``problem``."""
    rows = []
    for name, row in shipped_json("localizers").items():
        here, problem = None, ""
        try:
            here = registered(name)
        except UsageError as error:
            problem = str(error)
        about = {key: row[key] for key in ("title", "file", "where", "licence", "megabytes")}
        rows.append(
            {
                "name": name,
                **about,
                "sha256": row.get("sha256"),
                "registered": asdict(here) if here else None,
                "problem": problem,
            }
        )
    return rows


def require_registrable(name: str) -> None:
    """Refuse a name that is no published localizer.

    Raises:
        UsageError: with the names that are.
    """
    published = shipped_json("localizers")
    if name not in published:
        raise UsageError(
            f"'{name}' is no published localizer; weights can be added for: {', '.join(published)}"
        )


def add_weights(name: str, file: Path, *, overwrite: bool = False) -> Registered:
    """Check a released checkpoint against the network and keep it as safetensors.

    Raises:
        UsageError: if the file is missing, unsafe, damaged or of another network, or other weights are registered.
    """
    require_registrable(name)
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from .checkpoint import state_sha256
    from .load import filled_network

    network = filled_network(name, file)
    found = Registered(
        name,
        f"{name}.safetensors",
        state_sha256(network),
        file.resolve().name,
        file_sha256(file),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    before = None if overwrite else registered(name)
    if before and before.weights_sha256 != found.weights_sha256:
        raise UsageError(
            f"other weights are registered for '{name}' ({before.origin}, {before.weights_sha256[:12]}); "
            "add --overwrite to replace them"
        )
    _make_folder()
    try:
        # both are written before either takes its place, the weights first
        with _replacing(weights_folder() / f"{name}.json") as record, _replacing(found.path) as weights:
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
            record.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    except SafetensorError as error:
        raise AfbenchError(f"'{found.path}' cannot be written: {' '.join(str(error).split())}") from None
    return found


def _make_folder() -> None:
    try:
        weights_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder of weights '{weights_folder()}' cannot be made ({error.strerror}); AFBENCH_WEIGHTS names another"
        ) from None


def remove_weights(name: str) -> bool:
    """Delete registered weights; False if there were none."""
    require_registrable(name)
    found = [
        path
        for path in (weights_folder() / f"{name}.json", weights_folder() / f"{name}.safetensors")
        if path.exists()
    ]
    for path in found:
        path.unlink()
    return bool(found)


def file_sha256(path: Path) -> str:
    """Hash a file; of a folder, the names and hashes of its .pth files."""
    if path.is_dir():
        digest = hashlib.sha256()
        for one in sorted(path.rglob("*.pth")):
            digest.update(f"{one.name} {file_sha256(one)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when all went well, and is gone otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
