"""HDF-Net: finds regions whose texture and residual noise differ from the rest, from coarse to fine.

Written from a description of the published network; its entries carry the release's names.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.localizers.nets.hdfnet_encoder import (
    TRAINED_SIDE,
    WIDTH,
    Backbone,
    Srm,
    VisionTransformer,
    mean_and_max,
)

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
STRIDE = 32


class HdfNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to a forgery logit ``(N, 1, H, W)``.

    H = W, a multiple of 32 and at most 256, the only size it was trained at; ValueError otherwise.

    Source: Han et al. 2024, HDF-Net: Capturing Homogeny Difference Features to Localize the Tampered Image,
    IEEE TPAMI 46(12); built as it was released.
    Differs: the released code couples the samples of a batch: it pairs each with the line codes of others
    (see ``LineAttention``), so that an image's mask depends on its neighbours. Here every image comes out as
    the release computes it alone. The release also returns two coarser logits; here ``head_2`` and ``head_3``
    only hold their weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.bkbone = Backbone()
        self.path1_1 = _projection(512)
        self.path1_2 = _projection(256)
        self.path2 = SpatialGate(128)
        self.path3 = _projection(64)
        self.srm = Srm()
        self.v1 = VisionTransformer(patch=32, depth=2)
        self.v2 = VisionTransformer(patch=16, depth=4)
        self.v3 = VisionTransformer(patch=8, depth=6)
        self.aspp = Aspp()
        self.fuse1_1 = ProductFusion()
        self.fuse1_2 = ProductFusion()
        self.fuse12 = CrossFusion()
        self.fuse13 = ProductFusion()
        self.fuse23 = SumFusion()
        self.fla = LineAttention()
        self.head_1 = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.head_2 = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.head_3 = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        _require_legal_size(image)
        normalised = (image - self.mean) / self.std
        residuals = self.srm(normalised)
        l2, l3, l4, l5 = self.bkbone(normalised)

        coarse = self.fuse1_1(self.aspp(l5), F.relu(self.path1_1(l5)))
        coarse = _resized(coarse, l4)
        p1 = self.fuse1_2(coarse, F.relu(self.path1_2(l4)))
        p1 = self._with_lines(p1 + _resized(_scrambled_map(self.v1(residuals)), p1))

        p12 = self.fuse12(p1, self.path2(l3))
        p12 = self._with_lines(p12 + _resized(_scrambled_map(self.v2(residuals)), p12))

        p3 = self.fuse13(F.relu(self.path3(l2)), _resized(coarse, l2))
        p13 = self.fuse23(_resized(p12, l2), p3)
        p13 = self._with_lines(p13 + _resized(_scrambled_map(self.v3(residuals)), p13))
        return _resized(self.head_1(p13), image)

    def _with_lines(self, features: Tensor) -> Tensor:
        attended: Tensor = features + self.fla(features)
        return attended


class Aspp(nn.Module):
    """The coarsest features, 512 to 64 channels, seen at four dilations and as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                _conv_bn_relu(512, kernel=1),
                *(_conv_bn_relu(512, kernel=3, dilation=rate) for rate in (6, 12, 18)),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv_bn_relu(512, kernel=1)),
            ]
        )
        self.project = _conv_bn_relu(5 * WIDTH, kernel=1)

    def forward(self, features: Tensor) -> Tensor:
        *local, global_features = (conv(features) for conv in self.convs)
        projected: Tensor = self.project(torch.cat([*local, global_features.expand_as(local[0])], dim=1))
        return projected


class ProductFusion(nn.Module):
    """Keep what both maps show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.bn_1 = _conv_and_norm()
        self.conv_2, self.bn_2 = _conv_and_norm()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        fused = F.relu(self.bn_1(self.conv_1(first * second)), inplace=True)
        return F.relu(self.bn_2(self.conv_2(fused)), inplace=True)


class SumFusion(nn.Module):
    """Add two maps and strengthen the channels that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_atten = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.conv_1, self.bn_1 = _conv_and_norm()
        self.conv_2, self.bn_2 = _conv_and_norm()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        total = first + second
        weight = torch.sigmoid(self.conv_atten(total.mean(dim=(2, 3), keepdim=True)))
        fused = F.relu(self.bn_1(self.conv_1(total * weight + total)), inplace=True)
        return F.relu(self.bn_2(self.conv_2(fused)), inplace=True)


class CrossFusion(nn.Module):
    """Multiply a coarse and a fine map at both their sizes; the result has the fine map's size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(*_conv_and_norm(stride=2))
        self.conv_1, self.bn_1 = _conv_and_norm()
        self.conv_2, self.bn_2 = _conv_and_norm()
        self.mul = ProductFusion()

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        at_fine = F.relu(self.bn_1(self.conv_1(fine * _resized(coarse, fine))), inplace=True)
        at_coarse = F.relu(self.down(fine), inplace=True) * coarse
        at_coarse = F.relu(self.bn_2(self.conv_2(at_coarse)), inplace=True)
        fused: Tensor = self.mul(at_fine, _resized(at_coarse, fine))
        return fused


class SpatialGate(nn.Module):
    """Weigh the places, then narrow to 64 channels."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv_atten = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.conv, self.bn = _conv_and_norm(inputs)

    def forward(self, features: Tensor) -> Tensor:
        weight = torch.sigmoid(self.conv_atten(mean_and_max(features)))
        return F.relu(self.bn(self.conv(features * weight)), inplace=True)


class LineAttention(nn.Module):
    """Channels attend to channels along every column and every row: the fully attentional block, FLA.

    Differs: an image's lines meet that image's own codes. The release tiles the codes in the other order, so
    that in a batch they meet those of another image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.conv1 = nn.Linear(WIDTH, WIDTH)
        self.conv2 = nn.Linear(WIDTH, WIDTH)
        self.conv = _conv_bn_relu(WIDTH, kernel=3)

    def forward(self, features: Tensor) -> Tensor:
        row_code = self.conv1(features.mean(dim=3).transpose(1, 2))  # (N, H, 64)
        column_code = self.conv2(features.mean(dim=2).transpose(1, 2))  # (N, W, 64)
        columns = _attend(features.permute(0, 3, 1, 2), row_code).permute(0, 2, 3, 1)
        rows = _attend(features.permute(0, 2, 1, 3), column_code).permute(0, 2, 1, 3)
        attended: Tensor = self.conv(self.gamma * (columns + rows) + features)
        return attended


def _attend(lines: Tensor, code: Tensor) -> Tensor:
    """Mix the channels of lines ``(N, lines, 64, length)`` by how they match a code ``(N, length, 64)``."""
    return (lines @ code.unsqueeze(1)).softmax(dim=-1) @ lines


def _require_legal_size(image: Tensor) -> None:
    """Refuse other sizes: other squares fail late, and some rectangles would run and give a meaningless map."""
    height, width = image.shape[-2:]
    if height != width or height % STRIDE or not STRIDE <= height <= TRAINED_SIDE:
        raise ValueError(
            f"HDF-Net takes squares whose side is a multiple of {STRIDE}, from {STRIDE} to {TRAINED_SIDE} "
            f"pixels; found height {height}, width {width}; resize the image to {TRAINED_SIDE}x{TRAINED_SIDE}"
        )


def _scrambled_map(tokens: Tensor) -> Tensor:
    """Read tokens ``(N, n, 64)`` as a map ``(N, 64, sqrt n, sqrt n)``.

    A reshape without a transpose mixes channels with places; the release was trained so.
    """
    side = math.isqrt(tokens.shape[1])
    return tokens.reshape(-1, WIDTH, side, side)


def _resized(features: Tensor, target: Tensor) -> Tensor:
    return F.interpolate(features, size=target.shape[-2:], mode="bilinear", align_corners=True)


def _projection(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH))


def _conv_and_norm(inputs: int = WIDTH, *, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(inputs, WIDTH, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(WIDTH)


def _conv_bn_relu(inputs: int, *, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, WIDTH, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(inplace=True),
    )
