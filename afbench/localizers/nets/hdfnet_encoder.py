"""The encoders of HDF-Net: a convolutional one for colour, and transformers on fixed SRM residuals."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 64
"""Of every token, and of every feature map that the decoder works on."""
HEADS = 16
HEAD_WIDTH = 64
MLP_WIDTH = 2048
TRAINED_SIDE = 256
"""Pixels; it fixes how many positions a transformer knows."""

_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4.0, 12.0, 2.0)


class Backbone(nn.Module):
    """Normalised image to ``l2, l3, l4, l5``: 64, 128, 256 and 512 channels at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.multi_scale = MultiScale()
        self.layer1 = _stage(64, 64, expansion=1, blocks=1)
        self.layer2 = _stage(64, 128, expansion=6, blocks=3)
        self.layer3 = _stage(128, 256, expansion=6, blocks=3)
        self.layer4 = _stage(256, 512, expansion=6, blocks=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        l1 = F.relu(self.multi_scale(image))
        l2 = self.layer1(l1)
        l3 = self.layer2(l2)
        l4 = self.layer3(l3)
        return l2, l3, l4, self.layer4(l4)


class MultiScale(nn.Module):
    """Three windows on the image, 3, 5 and 7 pixels wide, added up at half its size: 3 to 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch1 = _branch(3, 1)
        self.branch2 = _branch(5, 3)
        self.branch3 = _branch(7, 5)

    def forward(self, image: Tensor) -> Tensor:
        total: Tensor = self.branch3(image) + self.branch2(image) + self.branch1(image)
        return total


class SeparableConv(nn.Module):
    """A filter per channel, then a mix of the channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            inputs, inputs, kernel, stride=stride, padding=kernel // 2, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mixed: Tensor = self.pointwise(self.conv1(features))
        return mixed


class AttentionBlock(nn.Module):
    """An inverted bottleneck; only the strided one has attention and a shortcut.

    The other blocks add their residual to itself, where one would expect their input: the release does so.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.strided = stride == 2
        if self.strided:
            self.ca = ChannelGate(outputs)
            self.sa = PlaceGate(7)
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv1(features)), inplace=True)
        y = F.relu6(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        if not self.strided:
            return F.relu6(y + y, inplace=True)
        y = self.ca(y) * y
        y = self.sa(y) * y
        return F.relu6(y + self.shortcut(features), inplace=True)


class ChannelGate(nn.Module):
    """A weight in (0, 1) for each channel, ``(N, C, 1, 1)``, from its mean and its maximum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean(dim=(2, 3), keepdim=True)
        largest = features.amax(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self._squeezed(mean) + self._squeezed(largest))

    def _squeezed(self, pooled: Tensor) -> Tensor:
        weight: Tensor = self.fc2(F.relu(self.fc1(pooled), inplace=True))
        return weight


class PlaceGate(nn.Module):
    """A weight in (0, 1) for each place, ``(N, 1, H, W)``, from the mean and maximum of its channels."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(mean_and_max(features)))


class Srm(nn.Module):
    """Three fixed high-pass residuals ``(N, 3, H, W)``, each summed over the colours."""

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.tensor(_SRM) / torch.tensor(_SRM_SCALE).view(3, 1, 1)
        self.SRMWeights = nn.Parameter(kernels[:, None].repeat(1, 3, 1, 1), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):  # half precision drowns residuals of one level
            return F.conv2d(image, self.SRMWeights, padding=2)


class VisionTransformer(nn.Module):
    """Residuals ``(N, 3, H, W)`` to one token per patch ``(N, n, 64)``, row by row; no class token."""

    def __init__(self, patch: int, depth: int) -> None:
        super().__init__()
        # the last position was meant for a class token; no image reaches it
        positions = (TRAINED_SIDE // patch) ** 2 + 1
        self.pos_embedding = nn.Parameter(torch.randn(1, positions, WIDTH))
        self.to_patch_embedding = nn.Sequential(Patches(patch), nn.Linear(3 * patch * patch, WIDTH))
        self.transformer = Transformer(depth)

    def forward(self, residuals: Tensor) -> Tensor:
        tokens = self.to_patch_embedding(residuals)
        encoded: Tensor = self.transformer(tokens + self.pos_embedding[:, : tokens.shape[1]])
        return encoded


class Patches(nn.Module):
    """Cut ``(N, C, H, W)`` into squares ``(N, n, patch * patch * C)``; in one, the channel runs fastest."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, image: Tensor) -> Tensor:
        count, channels, height, width = image.shape
        rows, columns = height // self.patch, width // self.patch
        cut = image.reshape(count, channels, rows, self.patch, columns, self.patch)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class Transformer(nn.Module):
    """Self-attention and a small network in turn, each normalised before and added; no norm at the end."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Normalised(Attention()), Normalised(FeedForward())]) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            for change in layer.children():
                tokens = tokens + change(tokens)
        return tokens


class Normalised(nn.Module):
    """``fn`` of the normalised tokens."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fn = fn

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.fn(self.norm(tokens))
        return outputs


class Attention(nn.Module):
    """Attend from every token to every token; written out, because the fused kernels have no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(HEADS * HEAD_WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)
            for part in self.to_qkv(tokens).chunk(3, dim=-1)
        )
        scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(2, 3)
        attended: Tensor = self.to_out((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
        return attended


class FeedForward(nn.Module):
    """Each token by itself through a wide hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        # the identity keeps the place of a dropout, and so the next layer's key
        self.net = nn.Sequential(
            nn.Linear(WIDTH, MLP_WIDTH), nn.GELU(), nn.Identity(), nn.Linear(MLP_WIDTH, WIDTH)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.net(tokens)
        return outputs


def mean_and_max(features: Tensor) -> Tensor:
    """Return mean and maximum over the channels, ``(N, 2, H, W)``."""
    return torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)


def _stage(inputs: int, outputs: int, *, expansion: int, blocks: int) -> nn.Sequential:
    """Chain blocks of which the first halves the size."""
    rest = (AttentionBlock(outputs, outputs, expansion, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(AttentionBlock(inputs, outputs, expansion, stride=2), *rest)


def _branch(first: int, second: int) -> nn.Sequential:
    """Chain two separable convolutions of these kernel sizes, the second with stride 2."""
    return nn.Sequential(
        SeparableConv(3, WIDTH, first, stride=1),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(inplace=True),
        SeparableConv(WIDTH, WIDTH, second, stride=2),
        nn.BatchNorm2d(WIDTH),
    )
