"""TruFor's network: the image and its camera noise (Noiseprint++) in two MiT-B2 encoders, joined after every stage.

Attribute names are the release's, so that its checkpoints load as they are. The fusion of each stage is in ``trufor_fusion``.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import mit
from .trufor_fusion import FeatureFusion, FeatureRectification

SMALLEST = 29
"""Least side: the first stage shortens a map of a quarter of the side by 8."""
DEPTHS = (3, 4, 6, 3)
"""Blocks of each encoder's stages (MiT-B2)."""
_WHITE = 255 / 256
"""The release divides 8-bit pixels by 256."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NOISE_WIDTH = 64
_NOISE_LAYERS = 17
_HEAD_WIDTH = 512


class TruForNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the mask's logit ``(N, 1, H, W)``; H, W at least 29.

    The mask does not depend on ``decode_head_conf`` and ``detection``: only ``image_logit`` runs them.

    Raises:
        ValueError: if a side is below 29.
    Source: Guillaro et al. 2023, TruFor, CVPR, arXiv 2212.10957.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _TwinEncoder()
        self.decode_head = _FourMapHead(outputs=2, norm_eps=1e-3)
        self.decode_head_conf = _FourMapHead(outputs=1, norm_eps=1e-5)
        self.detection = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 1))
        self.dncnn = _Noiseprint(*_noise_layers())

    def forward(self, image: Tensor) -> Tensor:
        return self._mask_logit(self._maps(image), image)

    def image_logit(self, image: Tensor) -> Tensor:
        """Return the logit ``(N,)`` of the score of whole images: of statistics of the confidence map, and of the mask's logit weighted by
        confidence.
        """
        maps = self._maps(image)
        confidence = _resized(self.decode_head_conf(maps), image)
        statistics = [
            _statistics(confidence, torch.zeros_like(confidence)),
            _statistics(self._mask_logit(maps, image), F.logsigmoid(confidence)),
        ]
        return self.detection(torch.cat(statistics, dim=1))[:, 0]  # type: ignore[no-any-return]

    def _mask_logit(self, maps: list[Tensor], image: Tensor) -> Tensor:
        scores = self.decode_head(maps)
        return _resized(scores[:, 1:] - scores[:, :1], image)

    def _maps(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"TruFor needs height and width of at least {SMALLEST}; found {height} x {width}"
            )
        image = image * _WHITE
        # as float32 values also in a float64 network, like the release
        mean, std = (
            torch.tensor(values, dtype=torch.float32).to(image)[:, None, None] for values in (_MEAN, _STD)
        )
        noise = self.dncnn(image).expand(-1, 3, -1, -1)
        return self.backbone((image - mean) / std, noise)  # type: ignore[no-any-return]


def _resized(scores: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)


def _statistics(values: Tensor, log_weights: Tensor) -> Tensor:
    """Return ``(N, 4)`` of a map ``(N, 1, H, W)``: its soft minimum, soft maximum, mean and mean square, under weights of pixels."""
    values = values.flatten(1)
    log_shares = torch.log_softmax(log_weights.flatten(1), dim=1)
    shares = log_shares.exp()
    return torch.stack(
        [
            -torch.logsumexp(log_shares - values, dim=1),
            torch.logsumexp(log_shares + values, dim=1),
            (shares * values).sum(dim=1),
            (shares * values**2).sum(dim=1),
        ],
        dim=1,
    )


class _Noiseprint(nn.Sequential):
    """Noiseprint++: plain convolutions at the image's size, ``(N, 3, H, W)`` to ``(N, 1, H, W)``."""

    def forward(self, image: Tensor) -> Tensor:
        if self.training:  # the norms depend on the images
            for module in self:
                image = module(image)
            return image
        features: Tensor = self[1](self[0](image))
        for convolution, norm in zip(self[2:-1:3], self[3:-1:3], strict=True):
            # one map a layer is kept for the gradient where a norm of its own would keep another
            weight, bias = _folded(convolution, norm)
            features = F.relu(F.conv2d(features, weight, bias, padding=1))
        return self[-1](features)  # type: ignore[no-any-return]


def _folded(convolution: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution without a bias that is followed by a norm in evaluation mode."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    return convolution.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale  # type: ignore[operator]


def _noise_layers() -> Iterator[nn.Module]:
    """Yield the modules of Noiseprint++ in the order of their numbers in the release."""
    yield from (nn.Conv2d(3, _NOISE_WIDTH, 3, padding=1), nn.ReLU())
    for _ in range(_NOISE_LAYERS - 2):
        yield nn.Conv2d(_NOISE_WIDTH, _NOISE_WIDTH, 3, padding=1, bias=False)
        yield from (nn.BatchNorm2d(_NOISE_WIDTH), nn.ReLU())
    yield nn.Conv2d(_NOISE_WIDTH, 1, 3, padding=1)


class _TwinEncoder(nn.Module):
    """Two encoders of one shape: image and noise ``(N, 3, H, W)`` to the joint maps of four stages, fine to coarse."""

    def __init__(self) -> None:
        super().__init__()
        for stream in ("", "extra_"):
            for stage in range(4):
                self.add_module(f"{stream}patch_embed{stage + 1}", mit.mit_embedding(stage))
        for stage, depth in enumerate(DEPTHS):
            for stream in ("", "extra_"):
                self.add_module(f"{stream}block{stage + 1}", mit.mit_blocks(stage, depth))
                self.add_module(f"{stream}norm{stage + 1}", mit.mit_norm(stage))
        self.FRMs = nn.ModuleList(FeatureRectification(width) for width in mit.WIDTHS)
        self.FFMs = nn.ModuleList(
            FeatureFusion(width, heads) for width, heads in zip(mit.WIDTHS, mit.HEADS, strict=True)
        )

    def forward(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        maps = []
        for stage, (rectify, fuse) in enumerate(zip(self.FRMs, self.FFMs, strict=True), start=1):
            # the next stage goes on from the two rectified maps, not from the joint one
            image, noise = rectify(self._run("", stage, image), self._run("extra_", stage, noise))
            maps.append(fuse(image, noise))
        return maps

    def _run(self, stream: str, stage: int, features: Tensor) -> Tensor:
        embedding, blocks, norm = (
            self.get_submodule(f"{stream}{part}{stage}") for part in ("patch_embed", "block", "norm")
        )
        return mit.run_stage(embedding, blocks, norm, features)  # type: ignore[arg-type]


class _FourMapHead(nn.Module):
    """Bring the maps of four stages to the size of the first and to one width, and mix them: ``(N, outputs, H, W)``."""

    def __init__(self, outputs: int, norm_eps: float) -> None:
        super().__init__()
        for stage in (4, 3, 2, 1):
            self.add_module(f"linear_c{stage}", _Projection(mit.WIDTHS[stage - 1], _HEAD_WIDTH))
        self.linear_fuse = nn.Sequential(
            nn.Conv2d(4 * _HEAD_WIDTH, _HEAD_WIDTH, 1), nn.BatchNorm2d(_HEAD_WIDTH, eps=norm_eps), nn.ReLU()
        )
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(_HEAD_WIDTH, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        projected = [
            F.interpolate(
                self.get_submodule(f"linear_c{stage}")(maps[stage - 1]),
                size,
                mode="bilinear",
                align_corners=False,
            )
            for stage in (4, 3, 2, 1)
        ]
        return self.linear_pred(self.dropout(self.linear_fuse(torch.cat(projected, dim=1))))  # type: ignore[no-any-return]


class _Projection(nn.Module):
    """Change the width of a map ``(N, C, H, W)``, pixel by pixel."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return mit.as_map(self.proj(mit.as_tokens(features)), *features.shape[-2:])
