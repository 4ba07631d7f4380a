"""Safetensors that say in their own header how they came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from afbench.core import UsageError

_HEADER = "afbench"
BEST, LAST = "best", "last"
_MAX_TENSORS = 20_000


def pack(tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of these tensors whose header says ``card``, plain JSON."""
    # safetensors refuses tensors that share memory
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return save(plain, metadata={_HEADER: json.dumps(card, sort_keys=True)})


def best_of(checkpoint: Path) -> Path:
    """Return the file of a checkpoint: itself, or the best one in the folder of a training."""
    return checkpoint / f"{BEST}.safetensors" if checkpoint.is_dir() else checkpoint


def read_checkpoint(path: Path, expected_format: str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a checkpoint, and its card, which must say the expected format; errors name the kind.

    Raises:
        UsageError: if it is missing, damaged, or of another kind.
    """
    tensors, card = read_tensors(path, kind)
    if card.get("format") != expected_format:
        raise UsageError(f"'{path}' is no {kind} checkpoint: its header does not say {expected_format}")
    return tensors, card


def read_tensors(path: Path, kind: str = "training") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a safetensors file and our header.

    Raises:
        UsageError: if it is missing or damaged.
    """
    if not path.is_file():
        raise UsageError(
            f"{kind} checkpoint '{path}' does not exist; give a safetensors file or the folder of a training"
        )
    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
            if len(names) > _MAX_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            header = json.loads((stream.metadata() or {}).get(_HEADER, "{}"))
            if not isinstance(header, dict):
                raise ValueError("its header is no object")
            return {name: stream.get_tensor(name) for name in names}, header
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"{kind} checkpoint '{path}' cannot be read: {reason}") from None
