"""MVSS-Net: two ResNet-50 backbones, one on colour and one on constrained noise, joined by dual attention.

Written from a description of the released network's names, shapes and numbers; none of its code was read.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's constants for R, G, B; the release applies them in that order to B, G, R."""
SMALLEST = 16
"""Shortest legal side; the mask is decided at 1/16 of the image's."""

_SOBEL_X = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
_SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))


class MvssNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the logit of a forged pixel ``(N, 1, H, W)``; any H, W >= 16.

    Source: Chen et al. 2021, Image Manipulation Detection by Multi-View Multi-Scale Supervision, ICCV.
    Differs: it computes the mask only. The edge branch (``sobel_*``, ``erb_*``) and both ``fc`` do not change the mask:
    they hold their released weights and are never computed, which also allows sizes that the edge branch cannot join.
    The constrained filters are normalised on the way instead of being written back at each forward. The RGB to
    BGR flip and the normalisation are inside. Under autocast, noise residuals and attention stay in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = ResNet50()
        for level, channels in enumerate((256, 512, 1024, 2048), start=1):
            self.add_module(f"erb_db_{level}", _edge_block(channels))
        for level in (1, 2, 3):
            self.add_module(f"erb_trans_{level}", _edge_block(1))
        for level, channels in enumerate((256, 512, 1024, 2048), start=1):
            self.add_module(f"sobel_x{level}", _sobel(_SOBEL_X, channels))
            self.add_module(f"sobel_y{level}", _sobel(_SOBEL_Y, channels))
        self.noise_extractor = nn.ModuleDict({"model": ResNet50()})
        self.constrain_conv: nn.Module = ConstrainedConv()
        self.head = DualAttentionHead()

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per pixel.

        Raises:
            ValueError: if ``image`` is not ``(N, 3, H, W)`` with H and W of 16 at least.
        """
        _require_legal(image)
        blue, green, red = _normalised(image)
        # half precision would round away the small differences the filters look for
        with torch.autocast(image.device.type, enabled=False):
            noise = self.constrain_conv(0.2989 * red + 0.5870 * green + 0.1140 * blue)
        colour_features = self.model(torch.cat([blue, green, red], dim=1))
        noise_features = self.noise_extractor["model"](noise)
        logits = self.head(torch.cat([colour_features, noise_features], dim=1))
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)

    def freeze_bayar(self) -> None:
        """Replace ``constrain_conv`` by fixed filters, so that a long attack normalises them only once.

        Load the weights first. The state dict keeps its names. A second call changes nothing.

        Raises:
            ValueError: if the taps of a filter sum to zero, within rounding, or are not finite.
        """
        if isinstance(self.constrain_conv, ConstrainedConv):
            self.constrain_conv = self.constrain_conv.frozen()


class ResNet50(nn.Module):
    """``(N, 3, H, W)`` to ``(N, 2048, H / 16, W / 16)``, rounded up; the last stage dilates instead of striding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, stride=1, dilations=(1, 1, 1))
        self.layer2 = _stage(256, 128, stride=2, dilations=(1, 1, 1, 1))
        self.layer3 = _stage(512, 256, stride=2, dilations=(1, 1, 1, 1, 1, 1))
        self.layer4 = _stage(1024, 512, stride=1, dilations=(1, 2, 4))
        self.fc = nn.Linear(2048, 1000)  # never computed

    def forward(self, image: Tensor) -> Tensor:
        features = F.relu(self.bn1(self.conv1(image)), inplace=True)
        features = self.layer2(self.layer1(self.maxpool(features)))
        deepest: Tensor = self.layer4(self.layer3(features))
        return deepest


class ResidualBottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times ``width``, added to the (projected) input."""

    def __init__(self, inputs: int, width: int, *, stride: int, dilation: int, project: bool) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
            if project
            else None
        )

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = F.relu(self.bn1(self.conv1(features)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        return F.relu(self.bn3(self.conv3(inner)) + shortcut, inplace=True)


class ConstrainedConv(nn.Module):
    """Three 5x5 prediction-error filters, ``(N, 1, H, W)`` to ``(N, 3, H, W)``.

    Each filter has -1 at its centre, and its 24 other taps are divided by their sum.
    Source: Bayar and Stamm 2016, 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(1, 3, 24))  # positive: sums far from zero

    def forward(self, gray: Tensor) -> Tensor:
        return F.conv2d(gray, self.filters(), padding=2)

    def filters(self) -> Tensor:
        """Return the normalised filters ``(3, 1, 5, 5)``; infinite or NaN where the taps sum to zero."""
        weights = self.kernel[0] / self.kernel[0].sum(dim=-1, keepdim=True)
        centre = weights.new_full((3, 1), -1.0)
        return torch.cat([weights[:, :12], centre, weights[:, 12:]], dim=1).view(3, 1, 5, 5)

    def frozen(self) -> "FrozenConv":
        """Return a convolution with the present filters, without gradient."""
        weights = self.kernel.detach()[0]
        # a sum below this is nothing but the rounding of its 24 terms
        rounding = 24 * torch.finfo(weights.dtype).eps * weights.abs().sum(dim=-1)
        sound = weights.sum(dim=-1).abs() > rounding  # False for NaN and infinite taps too
        if not bool(sound.all()):
            first = int((~sound).nonzero()[0])
            raise ValueError(
                f"constrain_conv.kernel: the 24 taps of filter {first} must have a finite sum other than zero to be "
                f"divided by; found {float(weights[first].sum()):g}; use a checkpoint of a trained network"
            )
        return FrozenConv(weights[None], self.filters().detach())


class FrozenConv(nn.Module):
    """A ``ConstrainedConv`` whose filters were normalised once; ``kernel`` is stored in checkpoints."""

    weight: Tensor

    def __init__(self, kernel: Tensor, filters: Tensor) -> None:
        super().__init__()
        self.kernel = nn.Parameter(kernel, requires_grad=False)
        self.register_buffer("weight", filters, persistent=False)
        self.eval()

    def forward(self, gray: Tensor) -> Tensor:
        return F.conv2d(gray, self.weight, padding=2)


class DualAttentionHead(nn.Module):
    """Both backbones' features ``(N, 4096, h, w)`` to a logit ``(N, 1, h, w)``.

    Source: Fu et al. 2019, Dual Attention Network for Scene Segmentation, CVPR.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_p1 = _conv_block(4096, 1024)
        self.conv_c1 = _conv_block(4096, 1024)
        self.pam = PositionAttention(1024, 128)
        self.cam = ChannelAttention()
        self.conv_p2 = _conv_block(1024, 1024)
        self.conv_c2 = _conv_block(1024, 1024)
        self.out = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(1024, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        by_place = self.conv_p2(self.pam(self.conv_p1(features)))
        by_channel = self.conv_c2(self.cam(self.conv_c1(features)))
        logits: Tensor = self.out(by_place + by_channel)
        return logits


class PositionAttention(nn.Module):
    """Add to each place what all places of the same image hold, weighted by their (unscaled) affinity."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.conv_b = nn.Conv2d(channels, reduced, 1)
        self.conv_c = nn.Conv2d(channels, reduced, 1)
        self.conv_d = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = (_places(conv(features)) for conv in (self.conv_b, self.conv_c, self.conv_d))
        with torch.autocast(features.device.type, enabled=False):
            affinity = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
            attended = value @ affinity.transpose(1, 2)
        return self.alpha * attended.view(features.shape).to(features.dtype) + features


class ChannelAttention(nn.Module):
    """Add to each channel all channels of the same image, weighted by how little they resemble it."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        rows = _places(features)
        with torch.autocast(features.device.type, enabled=False):
            # the release subtracts each row from its maximum first, which a softmax does not see
            unlikeness = torch.softmax(-(rows @ rows.transpose(1, 2)), dim=-1)
            attended = unlikeness @ rows
        return self.beta * attended.view(features.shape).to(features.dtype) + features


def _require_legal(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"MVSS-Net takes images of shape (N, 3, H, W) with H and W of {SMALLEST} at least; "
            f"found {tuple(image.shape)}"
        )


def _normalised(image: Tensor) -> list[Tensor]:
    """Return blue, green and red, each ``(N, 1, H, W)`` and normalised."""
    channels = image.flip(1).chunk(3, dim=1)
    return [(channel - mean) / std for channel, mean, std in zip(channels, MEAN, STD, strict=True)]


def _places(features: Tensor) -> Tensor:
    """Flatten ``(N, C, h, w)`` to ``(N, C, h * w)``, in float32 at least: sums of unscaled products overflow float16."""
    return features.flatten(2).to(torch.promote_types(features.dtype, torch.float32))


def _stage(inputs: int, width: int, *, stride: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Chain one bottleneck for each dilation; the first has the stride and a projected shortcut."""
    first = ResidualBottleneck(inputs, width, stride=stride, dilation=dilations[0], project=True)
    later_blocks = (
        ResidualBottleneck(4 * width, width, stride=1, dilation=dilation, project=False)
        for dilation in dilations[1:]
    )
    return nn.Sequential(first, *later_blocks)


def _conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _edge_block(inputs: int) -> nn.ModuleDict:
    """Hold the weights of an edge residual block."""
    return nn.ModuleDict(
        {
            "conv1": nn.Conv2d(inputs, 1, 1),
            "conv2": nn.Conv2d(1, 1, 3, padding=1),
            "bn": nn.BatchNorm2d(1),
            "conv3": nn.Conv2d(1, 1, 3, padding=1),
        }
    )


def _sobel(kernel: tuple[tuple[float, ...], ...], inputs: int) -> nn.Sequential:
    """Hold a fixed Sobel filter, the same for all its inputs."""
    convolution = nn.Conv2d(inputs, 1, 3, padding=1, bias=False)
    weight = torch.tensor(kernel).expand(1, inputs, 3, 3).clone()
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(1))
