"""PSCC-Net's network: a high-resolution encoder and a progressive, non-local mask decoder.

Attribute names are the release's, so that its checkpoints load as they are.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (18, 36, 72, 144)
"""Channels of the encoder's branches; branch i has 1 / 2**i of the image's side."""
GRIDS = (256, 128, 64, 32)
"""Sides of the masks, fine to coarse, whatever the size of the image."""
REDUCTIONS = (4, 2, 2, 1)
"""Factors by which attention shortens each side of a grid: 4096, 4096, 1024 and 1024 tokens."""
NEGLIGIBLE = 40.0
"""Scores this far below the best count as minus infinity: exp(-40) = 4e-18, below float64's rounding.

Unscaled scores spread over hundreds. Without the limit many weights are denormal in float32, and a pass on a CPU takes
ten times as long.
"""
SMALLEST = 16


class PsccNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the logit ``(N, 1, 256, 256)`` of its finest mask; H, W >= 16.

    ``published_probability`` turns the logit into the map the authors publish.

    Raises:
        ValueError: for another shape of image.
    Source: Liu, Liu, Chen and Liu 2022, PSCC-Net, IEEE TCSVT, arXiv 2103.10596.
    Differs: the logit leaves the network instead of its sigmoid; the coarser masks stay inside, and the image-level
    head holds weights only. Attention runs in float32 at least, also under autocast, and leaves out weights below
    4e-18 of the largest. Sides below 16 are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.HRNet = _Encoder()
        self.NLCDetection = _Decoder()
        self.DetectionHead = _detection_head()

    def forward(self, image: Tensor) -> Tensor:
        _require_legal(image)
        return self.NLCDetection(self.HRNet(image))  # type: ignore[no-any-return]


def published_probability(logit: Tensor, height: int, width: int) -> Tensor:
    """Return the authors' map ``(N, 1, height, width)`` in [0, 1]: the sigmoid of ``logit``, resized to the image."""
    return _resized(torch.sigmoid(logit), (height, width))


class _Encoder(nn.Module):
    """HRNet with a stem that keeps the resolution; returns one feature map per branch, fine to coarse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(_HrBottleneck(64, 64, 256, project=True), _HrBottleneck(256, 64, 256))
        # only the coarser of the two first branches has its convolution one level deeper in the release
        self.transition1 = nn.ModuleList(
            [_block(256, CHANNELS[0]), nn.Sequential(_block(256, CHANNELS[1], stride=2))]
        )
        self.stage2 = nn.Sequential(_Stage(CHANNELS[:2]))
        self.transition2 = _new_branch(2)
        self.stage3 = nn.Sequential(_Stage(CHANNELS[:3]))
        self.transition3 = _new_branch(3)
        self.stage4 = nn.Sequential(_Stage(CHANNELS))

    def forward(self, image: Tensor) -> list[Tensor]:
        stem = self.relu(self.bn1(self.conv1(image)))
        stem = self.relu(self.bn2(self.conv2(stem)))
        shallow = self.layer1(stem)
        maps: list[Tensor] = self.stage2([branch(shallow) for branch in self.transition1])
        maps = self.stage3([*maps, self.transition2["2"](maps[-1])])
        return self.stage4([*maps, self.transition3["3"](maps[-1])])  # type: ignore[no-any-return]


class _Stage(nn.Module):
    """Two residual blocks on every branch, then every branch adds up all branches."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(_BasicBlock(c), _BasicBlock(c)) for c in channels)
        self.fuse_layers = nn.ModuleList(_fusion(channels, target) for target in range(len(channels)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(features) for branch, features in zip(self.branches, maps, strict=True)]
        return [self.relu(_fused(maps, target, paths)) for target, paths in enumerate(self.fuse_layers)]


def _fusion(channels: Sequence[int], target: int) -> nn.ModuleDict:
    """Build the paths from the other branches to branch ``target``, by the number of the branch they start from."""
    paths = nn.ModuleDict()
    for source, width in enumerate(channels):
        if source > target:
            paths[str(source)] = nn.Sequential(
                nn.Conv2d(width, channels[target], 1, bias=False), nn.BatchNorm2d(channels[target])
            )
        elif source < target:
            halvings = [_block(width, width, stride=2) for _ in range(target - source - 1)]
            paths[str(source)] = nn.Sequential(
                *halvings, _block(width, channels[target], stride=2, activated=False)
            )
    return paths


def _fused(maps: list[Tensor], target: int, paths: nn.Module) -> Tensor:
    """Sum all branches at branch ``target`` in their order, into a new tensor."""
    parts = []
    for source, features in enumerate(maps):
        path = paths.get_submodule(str(source)) if source != target else nn.Identity()
        part: Tensor = path(features)
        parts.append(_resized(part, maps[target].shape[-2:]) if source > target else part)
    return sum(parts[1:], start=parts[0])


class _BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(features)))
        return self.relu(self.bn2(self.conv2(y)) + features)  # type: ignore[no-any-return]


class _HrBottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, *, project: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            if project
            else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(features)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(features))  # type: ignore[no-any-return]


class _Decoder(nn.Module):
    """Computes masks from coarse to fine; each mask weighs the features of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.getmask4 = _NonLocalMask(CHANNELS[3], REDUCTIONS[3])
        self.getmask3 = _NonLocalMask(CHANNELS[2], REDUCTIONS[2])
        self.getmask2 = _NonLocalMask(CHANNELS[1], REDUCTIONS[1])
        self.getmask1 = _NonLocalMask(CHANNELS[0], REDUCTIONS[0])

    def forward(self, maps: list[Tensor]) -> Tensor:
        s1, s2, s3, s4 = (
            _resized(features, (side, side)) for features, side in zip(maps, GRIDS, strict=True)
        )
        logit = self.getmask4(s4)
        logit = self.getmask3(_weighed(s3, logit))
        logit = self.getmask2(_weighed(s2, logit))
        return self.getmask1(_weighed(s1, logit))  # type: ignore[no-any-return]


def _weighed(features: Tensor, coarse_logit: Tensor) -> Tensor:
    return features * _resized(torch.sigmoid(coarse_logit), features.shape[-2:])


class _NonLocalMask(nn.Module):
    """The logit of one mask, from features compared across places and across channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        folded = channels * reduction**2
        self.reduction = reduction
        self.gamma_s = nn.Parameter(torch.zeros(1))
        self.gamma_c = nn.Parameter(torch.zeros(1))
        self.g = nn.Conv2d(folded, folded, 1)
        self.theta = nn.Conv2d(folded, folded, 1)
        self.phi = nn.Conv2d(folded, folded, 1)
        self.W_s = nn.Conv2d(channels, channels, 1)
        self.W_c = nn.Conv2d(channels, channels, 1)
        self.getmask = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        # a plain reshape: a "token" gathers strips of neighbouring rows, it is no square of the image
        tokens = features.reshape(
            batch, channels * self.reduction**2, height // self.reduction, width // self.reduction
        )
        spatial, channelwise = _correlated(
            self.g(tokens).flatten(2), self.theta(tokens).flatten(2), self.phi(tokens).flatten(2)
        )
        by_place = self.W_s(spatial.reshape(features.shape))
        by_channel = self.W_c(channelwise.reshape(features.shape))
        return self.getmask(features + self.gamma_s * by_place + self.gamma_c * by_channel)  # type: ignore[no-any-return]


def _correlated(value: Tensor, theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Attend across the T places, ``(N, C, T)``, and across the C channels, ``(N, T, C)``; both unscaled.

    The products are explicit: fused attention has no second derivative.
    """
    dtype = value.dtype
    with torch.autocast(value.device.type, enabled=False):  # unscaled sums over 4096 places overflow a half
        wide_dtype = torch.promote_types(dtype, torch.float32)
        value, theta, phi = (tensor.to(wide_dtype) for tensor in (value, theta, phi))
        by_place = _weights(theta.mT @ phi) @ value.mT
        # the release reads the second one as if it were (N, C, T): only the reshape that follows differs
        by_channel = value.mT @ _weights(theta @ phi.mT)
        return by_place.mT.to(dtype), by_channel.to(dtype)


def _weights(scores: Tensor) -> Tensor:
    """Return the softmax over the last axis; overwrite ``scores``, to hold few tensors ``(N, T, T)`` at a time."""
    negligible = scores.detach() < scores.detach().amax(dim=-1, keepdim=True) - NEGLIGIBLE
    return torch.softmax(scores.masked_fill_(negligible, float("-inf")), dim=-1)


def _detection_head() -> nn.ModuleDict:
    """Hold the weights of the release's head for the whole image; the mask does not need it."""
    doubled = [2 * width for width in CHANNELS]
    return nn.ModuleDict(
        {
            "incre_modules": nn.ModuleList(
                nn.Sequential(_HrBottleneck(width, width, 2 * width, project=True)) for width in CHANNELS
            ),
            "downsamp_modules": nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
                )
                for inputs, outputs in pairwise(doubled)
            ),
            "final_layer": nn.Sequential(nn.Conv2d(doubled[-1], 128, 1), nn.BatchNorm2d(128), nn.ReLU()),
            "classifier": nn.Sequential(nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 2)),
        }
    )


def _new_branch(number: int) -> nn.ModuleDict:
    """Build a transition that keeps the present branches and starts branch ``number`` from the coarsest."""
    return nn.ModuleDict(
        {str(number): nn.Sequential(_block(CHANNELS[number - 1], CHANNELS[number], stride=2))}
    )


def _block(inputs: int, outputs: int, *, stride: int = 1, activated: bool = True) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    activation = [nn.ReLU(inplace=True)] if activated else []
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *activation)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)


def _require_legal(image: Tensor) -> None:
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < SMALLEST:
        raise ValueError(
            f"PSCC-Net takes images (N, 3, H, W) with H and W of {SMALLEST} or more; found {shape}; pad or enlarge the image"
        )
