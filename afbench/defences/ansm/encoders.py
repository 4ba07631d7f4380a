"""Encoders of the module: timm's by name, and ``small``, which trains on a CPU in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.core import UsageError

SMALL = "small"
IMAGENET, NO_WEIGHTS = "imagenet", "none"

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS, _DEPTHS = (16, 32, 64, 128), (1, 2, 3, 2)
"""Channels of ``small`` by level, and convolutions after the strided one."""
_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4.0, 12.0, 2.0)
_BAYAR = 4
_SQUASH = (3.0,) * 9 + (5.0,) * _BAYAR + (1e6,) * 3
"""Levels at which a residual is halved, so that edges do not drown the noise a camera leaves; colour is not."""
_CHANNELS = len(_SQUASH)


class Taps(NamedTuple):
    """Channels of an encoder's feature maps, fine to coarse, and the fraction of the side each has (1, 2, 4, ...)."""

    channels: tuple[int, ...]
    reductions: tuple[int, ...]


class SmallEncoder(nn.Module):
    """Four levels from 1/2 to 1/16 of the side on forensic residuals, 0.5 M parameters.

    The layers are those of the embedded localizer's encoder, by name too, so that its weights can start this one: what
    tells a forger's camera is a few of 255 levels, and learning to see that from nothing takes most of a short training.
    Ours is ``fine``, which hands the pixels of each 2x2 square on to the first level, since noise is made by the pixel.
    """

    fixed: Tensor
    squash: Tensor
    gain: Tensor
    taps = Taps(_WIDTHS, (2, 4, 8, 16))
    own = ("fine.",)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fixed", _srm_kernels(), persistent=False)
        self.register_buffer("squash", torch.tensor(_SQUASH).view(1, -1, 1, 1), persistent=False)
        gain = torch.tensor([1.0] * (_CHANNELS - 3) + [1.0 / 64.0] * 3)
        self.register_buffer("gain", gain.view(1, -1, 1, 1), persistent=False)
        self.bayar = nn.Parameter(0.1 * torch.randn(_BAYAR, 3, 24))
        self.stages = nn.ModuleList(
            nn.Sequential(_block(a, b, stride=2), *(_block(b, b) for _ in range(depth)))
            for a, b, depth in zip((_CHANNELS, *_WIDTHS[:-1]), _WIDTHS, _DEPTHS, strict=True)
        )
        self.fine = _block(4 * _CHANNELS, _WIDTHS[0], kernel=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1], sides multiples of 16, to the four maps."""
        levels = F.pad(255.0 * image, (2, 2, 2, 2), mode="replicate")
        residual = F.conv2d(levels, self._kernels())
        features = self.gain * residual / (1.0 + residual.abs() / self.squash)
        fine = self.fine(F.pixel_unshuffle(features, 2))
        found = []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return [found[0] + fine, *found[1:]]

    def _kernels(self) -> Tensor:
        """``(16, 3, 5, 5)``: SRM, prediction errors (Bayar and Stamm 2016: centre -1, the rest sums to 1), colour."""
        taps = self.bayar - self.bayar.mean(dim=-1, keepdim=True) + 1.0 / self.bayar.shape[-1]
        centre = taps.new_full((_BAYAR, 3, 1), -1.0)
        errors = torch.cat([taps[..., :12], centre, taps[..., 12:]], dim=-1).view(_BAYAR, 3, 5, 5)
        return torch.cat([self.fixed[:9], errors, self.fixed[9:]])


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
        self.taps = Taps(tuple(info.channels()), tuple(info.reduction()))  # type: ignore[operator, union-attr]
        if self.taps.reductions != (2, 4, 8, 16, 32):
            raise UsageError(
                f"encoder '{name}' has feature maps at 1/{', 1/'.join(map(str, self.taps.reductions))} of the side, "
                "expected 1/2 to 1/32; try efficientnet_b0, resnet18 or small"
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1], sides multiples of 32, to maps at 1/2 to 1/32."""
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
        _fill(encoder, weights)
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
        _fill(network, weights)
    return network


def _fill(network: nn.Module, path: str) -> None:
    """Load a file that may hold more than an encoder needs (a classifier), but no less than it shares."""
    state = _read(path)
    wanted = network.state_dict()
    # no weight of its own, and absent from files of before torch 0.4.1
    missing = sorted(
        key
        for key in wanted.keys() - state.keys()
        if not key.endswith("num_batches_tracked") and not key.startswith(getattr(network, "own", ("\0",)))
    )
    if missing:
        raise UsageError(
            f"encoder weights '{path}' are of another network: {len(missing)} of {len(wanted)} keys missing "
            f"({missing[0]}, ...)"
        )
    for key, value in wanted.items():
        if key in state and state[key].shape != value.shape:
            raise UsageError(
                f"encoder weights '{path}': {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            )
    network.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


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


def _srm_kernels() -> Tensor:
    """``(12, 3, 5, 5)``: three residual filters (Fridrich and Kodovsky 2012) for each colour, then each colour."""
    kernels = torch.zeros(12, 3, 5, 5)
    for colour in range(3):
        for row, (kernel, scale) in enumerate(zip(_SRM, _SRM_SCALE, strict=True)):
            kernels[3 * colour + row, colour] = torch.tensor(kernel) / scale
        kernels[9 + colour, colour, 2, 2] = 1.0
    return kernels


def _block(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
