"""A module as its settings ask for it, and the part of it that a stage trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .encoders import NO_WEIGHTS
from .find_write import FindWrite
from .module import Ansm
from .settings import FIND_WRITE, complete_settings


def build_module(settings: Mapping[str, Any], encoder_weights: str = NO_WEIGHTS) -> Ansm | FindWrite:
    """Build an untrained module.

    Args:
        settings: as checkpoints store them; what older ones lack is completed.
        encoder_weights: ``imagenet``, ``none`` or a path: what the encoder of ``paper`` starts from.
    Raises:
        UsageError: if the encoder is unknown or its weights cannot be had.
    """
    settings = complete_settings(settings)
    bound = float(settings["bound"])
    if settings["recipe"] == FIND_WRITE:
        return FindWrite(bound, turned=bool(settings["turned"]))
    return Ansm(str(settings["encoder"]), encoder_weights, bound=bound)


def trained_part(module: nn.Module, loss: str) -> nn.Module:
    """Return what a stage changes: the finder, the writer, or all of the module."""
    if loss in ("find", "write"):
        part: nn.Module = module.get_submodule("finder" if loss == "find" else "writer")
        return part
    return module
