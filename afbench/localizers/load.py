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


def require_known(name: str) -> None:
    """Refuse a localizer nobody has heard of; a plan may count any other.

    Raises:
        UsageError: with the names there are.
    """
    known = [REFERENCE, *shipped_json("localizers")]
    if name not in known:
        raise UsageError(f"localizer '{name}' is unknown; known localizers: {', '.join(known)}")


def require_localizer(name: str, checkpoint: str | None) -> None:
    """Refuse, before any work and without torch, a localizer that cannot be built here.

    Raises:
        UsageError: for an unknown name, a network this version lacks, or a checkpoint that is no file.
    """
    require_known(name)
    published = shipped_json("localizers")
    if checkpoint not in (None, "random") and not Path(str(checkpoint)).is_file():
        raise UsageError(f"checkpoint '{checkpoint}' does not exist; give the path of a file")
    if name in published:
        row = published[name]
        raise UsageError(
            f"localizer '{name}' cannot run in this version: the network of {row['title']} is not in yet. Its weights are "
            f"published by the authors ({row['file']}: {row['where']}); with the network in, register your copy with "
            f"--checkpoint PATH. `--localizer {REFERENCE}` runs now, without any"
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
        UsageError: for an unknown name or device, or a checkpoint that is missing, damaged, unsafe or of another
            network.
    """
    if resolution not in ("official", "input"):
        raise UsageError(f"resolution must be official or input; found '{resolution}'")
    require_localizer(name, checkpoint)
    _require_device(device)
    from .reference import build

    return build(checkpoint, device)


def _require_device(device: str) -> None:
    import torch

    try:
        if torch.device(device).type not in ("cpu", "cuda"):
            raise ValueError("expected cpu or cuda")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UsageError(f"device '{device}' cannot be used ({reason}); cpu always can") from None
