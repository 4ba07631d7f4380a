"""IF-OSN's detector: a U-Net with attention in its decoder on a SENet-154 encoder, written from a description."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 16
"""The least side of an image; the encoder halves it five times."""

_LAYERS = ((64, 3, 1), (128, 8, 2), (256, 36, 2), (512, 3, 2))
"""SENet-154: planes, blocks and stride of each layer; a block gives 4 x planes channels."""
_GROUPS = 64
_SQUEEZE = 16


class IfosnNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to a forgery logit ``(N, 1, H, W)``; any H, W of at least 16.

    It takes the whole image at once; ``localizers.tiles`` cuts large images into tiles. Nothing writes into a stage's output
    after it is returned, so features may be hooked without a clone.

    Raises:
        ValueError: if a side is below 16, where the deepest features would vanish.
    Source: Wu, Zhou, Tian and Liu, "Robust Image Forgery Detection over Online Social Network Shared Images",
        CVPR 2022; encoder: Hu, Shen and Sun 2018 (SENet), decoder gates: Roy, Navab and Wachinger 2018 (scSE).
    Differs: returns the logit of the release's ``final.0``; the release ends in a sigmoid, which saturates in
        float32 and leaves an attack no gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(
            (_SkipBlock(1408, 384), _SkipBlock(768, 256), _SkipBlock(384, 128), _SkipBlock(192, 64))
        )
        self.decoder_stages = nn.ModuleList(
            (_Upsample(128, 64), _Upsample(256, 128), _Upsample(384, 256), _Upsample(2048, 384))
        )
        self.last_upsample = _Upsample(64, 32)
        self.final = nn.Sequential(nn.Conv2d(32, 1, 1))
        self.encoder_stages = nn.ModuleList((_Stem(), *_senet_layers()))

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        *skips, x = self.encode(image)
        for bottleneck, upsample, skip in zip(
            self.bottlenecks, reversed(self.decoder_stages), reversed(skips), strict=True
        ):
            x = bottleneck(_joined(upsample(x), skip))
        logits: Tensor = self.final(self.last_upsample(x))
        # Of an odd side there is one cell too many; nearest resizing, as published, drops the last one.
        return logits[..., :height, :width]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's five maps, fine to coarse: 128, 256, 512, 1024 and 2048 channels at 1/2 to 1/32."""
        height, width = image.shape[-2:]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"IF-OSN takes images of at least {SMALLEST} x {SMALLEST} pixels; found {height} x {width}"
            )
        x = (image - 0.5) / 0.5
        maps = []
        for stage in self.encoder_stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Stem(nn.Module):
    """Three convolutions, the first at stride 2: 3 to 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)), inplace=True)


def _senet_layers() -> list[nn.Module]:
    """Build the encoder's stages 1 to 4; only the first begins with a pooling, in place of a stride."""
    layers: list[nn.Module] = []
    inputs = 128
    for planes, depth, stride in _LAYERS:
        first = _SEBottleneck(inputs, planes, stride, downsample=_downsample(inputs, 4 * planes, stride))
        inputs = 4 * planes
        layers.append(nn.Sequential(first, *(_SEBottleneck(inputs, planes) for _ in range(depth - 1))))
    layers[0] = nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), layers[0])
    return layers


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    kernel = 1 if stride == 1 else 3
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class _SEBottleneck(nn.Module):
    """SENet-154's residual block: 1x1, grouped 3x3, 1x1, and a gate per channel; ``4 * planes`` channels out."""

    def __init__(
        self, inputs: int, planes: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        middle, outputs = 2 * planes, 4 * planes
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, outputs, 3, stride=stride, padding=1, groups=_GROUPS, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_module = _ChannelGate(outputs, outputs // _SQUEEZE)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(self.se_module(y) * y + shortcut, inplace=True)


class _ChannelGate(nn.Module):
    """A number in (0, 1) for each channel of each image, ``(N, C, 1, 1)``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _channel_gate(x, self.fc1, self.fc2)


def _channel_gate(x: Tensor, fc1: nn.Module, fc2: nn.Module) -> Tensor:
    means = x.mean(dim=(2, 3), keepdim=True)
    return torch.sigmoid(fc2(F.relu(fc1(means), inplace=True)))


class _JointGate(nn.Module):
    """scSE with maxout: each value takes the larger of its channel's and its place's gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 2, 1)
        self.fc2 = nn.Conv2d(channels // 2, channels, 1)
        self.spatial_se = nn.Sequential(nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        channelwise = _channel_gate(x, self.fc1, self.fc2)
        spatial = torch.sigmoid(self.spatial_se(x))
        # The published max(channel * x, place * x), with one map less to keep: x comes from a ReLU, never negative.
        return torch.maximum(channelwise, spatial) * x


class _SkipBlock(nn.Module):
    """Mixes the decoder's features with the encoder's at the same scale."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), _JointGate(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)  # type: ignore[no-any-return]


class _Upsample(nn.Module):
    """Twice the side, then a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def _joined(decoded: Tensor, skip: Tensor) -> Tensor:
    """Concatenate the decoder's and the encoder's features, at the size of the encoder's."""
    if decoded.shape[-2:] != skip.shape[-2:]:
        decoded = F.interpolate(decoded, size=skip.shape[-2:], mode="nearest")
    return torch.cat([decoded, skip], dim=1)
