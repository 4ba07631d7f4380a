"""Build a localizer by name. Nothing here imports torch until a localizer is really built."""

from __future__ import annotations

from pathlib import Path

from afbench.core import Localizer, UsageError
from afbench.shipped import shipped_json

REFERENCE = "reference"


def list_localizers() -> dict[str, str]:
    """Known localizers: name and what it needs."""
    published = shipped_json("localizers")
    found = {REFERENCE: "embedded; needs nothing"}
    for name, row in published.items():
        found[name] = f"{row['title']}; not in this version yet (weights: {row['file']}, {row['where']})"
    return found


def require_localizer(name: str, checkpoint: str | None) -> None:
    """Refuse, before any work and without torch, a localizer that cannot be built here.

    Raises:
        UsageError: for an unknown name, missing weights, or a checkpoint that is no file.
    """
    published = shipped_json("localizers")
    if name != REFERENCE and name not in published:
        raise UsageError(
            f"localizer '{name}' is unknown; known localizers: {', '.join([REFERENCE, *published])}"
        )
    if checkpoint not in (None, "random") and not Path(str(checkpoint)).is_file():
        raise UsageError(f"checkpoint '{checkpoint}' does not exist; give the path of a file")
    if name in published and checkpoint is None:
        row = published[name]
        raise UsageError(
            f"localizer '{name}' needs {row['title']}'s released weights, which the authors publish ({row['file']}: "
            f"{row['where']}); register your copy with --checkpoint PATH; `--localizer {REFERENCE}` runs now without any"
        )
    if name in published:
        raise UsageError(
            f"localizer '{name}': this version has no network for {published[name]['title']} yet, so the checkpoint "
            f"cannot be used; `--localizer {REFERENCE}` runs now"
        )


def load_localizer(
    name: str, checkpoint: str | None = None, *, resolution: str = "official", device: str = "cpu"
) -> Localizer:
    """Build a localizer, ready to attack: evaluation mode, parameters frozen.

    Args:
        name: ``reference``, or a published localizer once its network is in.
        checkpoint: a safetensors or PyTorch file; omitted for the embedded weights; ``random`` for untrained
            ones, which every manifest says.
        resolution: ``official`` or ``input`` (skip the localizer's own resize; the reference has none).
        device: where it lives, e.g. ``cpu`` or ``cuda:0``.
    Raises:
        UsageError: for an unknown name, or a checkpoint that is missing, damaged, unsafe or of another network.
    """
    if resolution not in ("official", "input"):
        raise UsageError(f"resolution must be official or input; found '{resolution}'")
    require_localizer(name, checkpoint)
    from .reference import build

    return build(checkpoint, device)
