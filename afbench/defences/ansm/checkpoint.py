"""Checkpoints: safetensors that say in their own header, and in a JSON beside them, how they came to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from afbench.core import UsageError
from afbench.localizers.reference import fold_batch_norm

from .find_write import FindWrite
from .parts import build_module
from .settings import FIND_WRITE, complete_settings

FORMAT = "afbench-ansm-1"
HEADER = "afbench"
BEST, LAST = "best", "last"
SHIPPED = "reference"
_MAX_TENSORS = 20_000


class FrozenAnsm(nn.Module):
    """A trained module as a defence: evaluation mode, no parameter gradients, gradients flow through to the image.

    Attributes:
        module: the trained module.
        sha256: of its weights.
        params: what a submission or benchmark should say of it.
        trained_on: the configs it was trained on.
        card: everything its checkpoint says of its training.
    """

    sha256: str
    params: Mapping[str, str]
    trained_on: tuple[str, ...]
    card: Mapping[str, Any]

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.eval().requires_grad_(False)

    @property
    def decides(self) -> bool:
        """Say whether it takes hard decisions, whose gradients are stand-ins."""
        return isinstance(self.module, FindWrite)

    def forward(self, image: Tensor) -> Tensor:
        """Purify ``(N, 3, H, W)`` in [0, 1]; shape and range stay."""
        purified: Tensor = self.module(image)
        return purified


def load_ansm(checkpoint: Path | None, *, localizer: str, device: str = "cpu") -> FrozenAnsm:
    """Load a trained module for a localizer.

    Args:
        checkpoint: a safetensors file, or the folder of a training (its best one); None for what ships.
        localizer: whom it stands before, by the name it was trained for.
        device: where it lives.
    Returns:
        A frozen module: ``(N, 3, H, W)`` in [0, 1] to the same shape and range.
    Raises:
        UsageError: if there is none, it is damaged, or of another localizer or network.
    """
    if checkpoint is None:
        if localizer != SHIPPED:
            raise UsageError(
                f"no ANSM ships for '{localizer}', only for '{SHIPPED}'; train one with `afbench train ansm` and give "
                "ansm:PATH"
            )
        with as_file(files("afbench.defences.ansm") / "weights" / f"{SHIPPED}.safetensors") as path:
            state, card = read_checkpoint(path)
    else:
        path = checkpoint / f"{BEST}.safetensors" if checkpoint.is_dir() else checkpoint
        state, card = read_checkpoint(path)
    try:
        owner = str(card["localizer"]["name"])
        trained_on = _training_configs(card)
        params = _variant(card["settings"])
    except (KeyError, TypeError):
        raise UsageError(f"ANSM checkpoint '{path}' is damaged: its header is not complete") from None
    if owner != localizer:
        raise UsageError(
            f"ANSM checkpoint '{path}' was trained for localizer '{owner}', not for '{localizer}'; give that one's"
        )
    module = build_module(card["settings"])
    fill(module, state, path)
    digest = weights_sha256(module)
    if isinstance(module, FindWrite):
        fold_batch_norm(module.eval())
    network = FrozenAnsm(module)
    network.sha256, network.card = digest, card
    network.params, network.trained_on = params, trained_on
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _training_configs(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the configs a module was trained on, or the online attack, named as its config would be."""
    configs = tuple(str(config) for config in card["data"]["configs"])
    attack = complete_settings(card["settings"])["attack"]
    return (f"{card['localizer']['name']}-{attack}",) if attack else configs


def _variant(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what tells ablations apart: the aligned third, and each stage's loss."""
    if settings.get("recipe") == FIND_WRITE:
        return {"features": "none", "stage1": "find", "stage2": "write"}
    first, _, second = str(settings["loss"]).rpartition("+")
    if second != "mgr":
        first, second = second, "none"
    mask = "gt" if settings["mgr_mask"] == "gt" else "original"
    return {
        "features": str(settings["depth"]),
        # with a mask loss beside it, it is not the paper's FFA
        "stage1": "ffa+mask" if first == "ffa" and settings["ffa_mask"] else first or "none",
        "stage2": mask if second == "mgr" else "none",
    }


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a checkpoint, and its card.

    Raises:
        UsageError: if it is missing, damaged, or no ANSM checkpoint.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise UsageError(f"'{path}' is no ANSM checkpoint: its header does not say {FORMAT}")
    return tensors, header


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a safetensors file and our header.

    Raises:
        UsageError: if it is missing or damaged.
    """
    if not path.is_file():
        raise UsageError(
            f"ANSM checkpoint '{path}' does not exist; give a safetensors file or the folder of a training"
        )
    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
            if len(names) > _MAX_TENSORS:
                raise ValueError(f"{len(names)} tensors")
            header = json.loads((stream.metadata() or {}).get(HEADER, "{}"))
            if not isinstance(header, dict):
                raise ValueError("its header is no object")
            return {name: stream.get_tensor(name) for name in names}, header
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"ANSM checkpoint '{path}' cannot be read: {reason}") from None


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict of the same names and shapes.

    Raises:
        UsageError: naming what differs.
    """
    expected = network.state_dict()
    different = sorted(expected.keys() ^ state.keys())
    if different:
        raise UsageError(
            f"ANSM checkpoint '{path}' is of another network: {len(different)} layers differ ({different[0]}, ...)"
        )
    for name, value in expected.items():
        if state[name].shape != value.shape or state[name].dtype != value.dtype:
            raise UsageError(
                f"ANSM checkpoint '{path}': {name} is {state[name].dtype} {tuple(state[name].shape)}, expected "
                f"{value.dtype} {tuple(value.shape)}"
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise UsageError(f"ANSM checkpoint '{path}': {name} holds NaN or infinite values")
    network.load_state_dict(dict(state))


def weights_sha256(network: nn.Module) -> str:
    """Hash weights by name, shape and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
