"""A trained module from its checkpoint, which says in its own header how it came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afbench.core import UsageError
from afbench.defences.training.weights_file import best_of, read_checkpoint
from afbench.localizers.checkpoint_files import fill, state_sha256
from afbench.localizers.reference import fold_batch_norm

from .find_write import FindWrite
from .parts import build_module
from .settings import FIND_WRITE, complete_settings

FORMAT = "afbench-ansm-1"
SHIPPED = "reference"


class FrozenAnsm(nn.Module):
    """A trained module as a defence: evaluation mode, no parameter gradients, gradients flow through to the image.

    Attributes:
        module: the trained module.
        sha256: of its weights.
        params: what a submission or benchmark should say of it.
        trained_on: the configs it was trained on.
        card: everything its checkpoint says of its training.
        passes: how many of the embedded localizer need the memory of one gradient through it.
    """

    def __init__(
        self,
        module: nn.Module,
        card: Mapping[str, Any],
        params: Mapping[str, str],
        trained_on: Sequence[str],
    ) -> None:
        super().__init__()
        self.module, self.card, self.params, self.trained_on = module, card, params, tuple(trained_on)
        self.sha256 = state_sha256(module)
        self.passes = (3 if module.turned else 2) if isinstance(module, FindWrite) else 1
        self.eval()
        if self.decides:
            fold_batch_norm(module)
        self.requires_grad_(False)

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
            state, card = read_checkpoint(path, FORMAT, "ANSM")
    else:
        path = best_of(checkpoint)
        state, card = read_checkpoint(path, FORMAT, "ANSM")
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
    fill(module, state, str(path))
    network = FrozenAnsm(module, card, params, trained_on)
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _training_configs(card: Mapping[str, Any]) -> list[str]:
    """Return the configs a module was trained on, or the online attacks, named as their configs would be."""
    attack = complete_settings(card["settings"])["attack"]
    configs = [str(config) for config in card["data"]["configs"]]
    return [f"{card['localizer']['name']}-{part}" for part in attack.split("+")] if attack else configs


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
