"""Encoders of the module: timm's by name, and ``small``, which trains on a CPU in minutes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from afbench.core import UsageError

from .small import FeatureShape, SmallEncoder

SMALL = "small"
IMAGENET, NO_WEIGHTS = "imagenet", "none"

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmEncoder(nn.Module):
    """Any timm network that can show its feature maps; images are normalised as ImageNet's inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.network = _timm_network(name, weights)
        info = self.network.feature_info
        self.feature_shape = FeatureShape(tuple(info.channels()), tuple(info.reduction()))  # type: ignore[operator, union-attr]
        if self.feature_shape.reductions != (2, 4, 8, 16, 32):
            raise UsageError(
                f"encoder '{name}' has feature maps at 1/{', 1/'.join(map(str, self.feature_shape.reductions))} of the side, "
                "expected 1/2 to 1/32; try efficientnet_b0, resnet18 or small"
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn ``(N, 3, H, W)`` in [0, 1], sides multiples of 32, into maps at 1/2 to 1/32."""
        return list(self.network((image - self.mean) / self.std))


def build_encoder(name: str, weights: str = NO_WEIGHTS) -> SmallEncoder | TimmEncoder:
    """Build ``small``, or a network of timm.

    Args:
        name: ``small`` or timm's name, e.g. ``efficientnet_b4``.
        weights: ``imagenet`` (downloaded by timm), ``none``, or the path of a file with the encoder's state dict.
    Raises:
        UsageError: if the name is unknown, timm is missing, or the weights cannot be had.
    """
    if name != SMALL:
        return TimmEncoder(name, weights)
    encoder = SmallEncoder()
    if weights == IMAGENET:
        raise UsageError(
            "encoder 'small' has no ImageNet weights; give --encoder-weights none, or another --encoder"
        )
    if weights != NO_WEIGHTS:
        fill_encoder(encoder, weights)
    return encoder


def _timm_network(name: str, weights: str) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise UsageError(
            f"encoder '{name}' needs timm: pip install 'afbench[train]'; --encoder small needs nothing"
        ) from None
    if not timm.is_model(name):
        raise UsageError(
            f"encoder '{name}' is unknown to timm {timm.__version__}; known here: small, and timm's models"
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights == IMAGENET, features_only=True)
    except Exception as error:  # whatever a download or a network without feature maps raises
        if weights != IMAGENET:
            raise UsageError(f"encoder '{name}' shows no feature maps ({_first_line(error)})") from None
        raise UsageError(
            f"the ImageNet weights of encoder '{name}' cannot be downloaded ({_first_line(error)}); give "
            "--encoder-weights PATH with your copy, or --encoder-weights none"
        ) from None
    if weights not in (IMAGENET, NO_WEIGHTS):
        fill_encoder(network, weights)
    return network


def fill_encoder(network: nn.Module, path: str) -> None:
    """Load a file that may hold more than an encoder needs (a classifier), but no less.

    Raises:
        UsageError: if it is missing, damaged, or of another network.
    """
    state = _read(path)
    expected = network.state_dict()
    # no weight of its own, and absent from files of before torch 0.4.1
    missing = sorted(key for key in expected.keys() - state.keys() if not key.endswith("num_batches_tracked"))
    if missing:
        raise UsageError(
            f"encoder weights '{path}' are of another network: {len(missing)} of {len(expected)} keys missing "
            f"({missing[0]}, ...)"
        )
    for key, value in expected.items():
        if key in state and state[key].shape != value.shape:
            raise UsageError(
                f"encoder weights '{path}': {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            )
    network.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise UsageError(f"encoder weights '{path}' do not exist; give imagenet, none or the path of a file")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): value for key, value in dict(state).items() if isinstance(value, Tensor)}
    except Exception as error:  # damaged bytes fail in any way; a pickle of code is not run
        raise UsageError(f"encoder weights '{path}' cannot be read ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]
