"""Write the weights of a localizer, so that it can be loaded again."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from afbench.core import AfbenchError, UsageError
from afbench.files import replacing

SUFFIXES = (".safetensors", ".pt", ".pth")


def save_checkpoint(network: nn.Module, path: str | Path) -> Path:
    """Write a network's weights under the names that ``load_localizer`` and ``afbench weights add`` take.

    Args:
        network: of a localizer.
        path: a new file; ``.safetensors``, or ``.pt`` and ``.pth`` for ``torch.load``.
    Raises:
        UsageError: if the file exists, or has another suffix.
        AfbenchError: if it cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"a checkpoint must end in {', '.join(SUFFIXES)}; found '{path}'")
    if path.exists():
        raise UsageError(f"'{path}' exists; give a new file")
    # clones: safetensors refuses tensors that share memory
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    try:
        with replacing(path) as temporary:
            if path.suffix == ".safetensors":
                save_file(state, temporary)
            else:
                torch.save(state, temporary)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise AfbenchError(f"'{path}' cannot be written: {' '.join(str(error).split())[:200]}") from None
    return path
