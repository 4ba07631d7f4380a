"""Add a released checkpoint to the user's weights: check it once, and store it as safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from afbench.core import AfbenchError, UsageError
from afbench.files import replacing, sha256_file
from afbench.folders import weights_folder

from .checkpoint_files import state_sha256
from .load import filled_network
from .weights import Registered, registered, require_registrable


def add_weights(name: str, file: Path, *, overwrite: bool = False) -> Registered:
    """Check a released checkpoint against the network, and store it as safetensors.

    Raises:
        UsageError: if the file is missing, unsafe, damaged or of another network, or other weights are registered.
    """
    require_registrable(name)
    network = filled_network(name, file)
    registration = Registered(
        name=name,
        file=f"{name}.safetensors",
        weights_sha256=state_sha256(network),
        origin=file.resolve().name,
        origin_sha256=file_sha256(file),
        added=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # the same weights may be added again, e.g. from another file of the release
    previous = None if overwrite else registered(name)
    if previous and previous.weights_sha256 != registration.weights_sha256:
        raise UsageError(
            f"other weights are registered for '{name}' ({previous.origin}, {previous.weights_sha256[:12]}); "
            "add --overwrite to replace them"
        )
    _make_folder()
    try:
        # both files are complete before either is renamed, the weights first: a record never lacks its weights
        with replacing(weights_folder() / f"{name}.json") as record, replacing(registration.path) as weights:
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
            record.write_text(json.dumps(asdict(registration), indent=2) + "\n", encoding="utf-8")
    except SafetensorError as error:
        raise AfbenchError(
            f"'{registration.path}' cannot be written: {' '.join(str(error).split())}"
        ) from None
    return registration


def _make_folder() -> None:
    try:
        weights_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder of weights '{weights_folder()}' cannot be made ({error.strerror}); AFBENCH_WEIGHTS names another"
        ) from None


def file_sha256(path: Path) -> str:
    """Hash a file, or the names and hashes of the .pth files of a folder."""
    if path.is_dir():
        digest = hashlib.sha256()
        for part in sorted(path.rglob("*.pth")):
            digest.update(f"{part.name} {file_sha256(part)}\n".encode())
        return digest.hexdigest()
    return sha256_file(path)
