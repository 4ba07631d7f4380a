"""Networks of torchvision and timm as localizers: copy these for your own.

afbench weights check afbench.localizers.examples:torchvision_segmentation
afbench generate --localizer afbench.localizers.examples:timm_backbone --checkpoint PATH --attack fgsm

Without a checkpoint the weights are random, the same in every run. Both packages come with ``pip install afbench[train]``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint_files import fill, read_state
from .custom import CustomLocalizer, as_localizer

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which both zoos normalise by."""


class TorchvisionSegmentation(nn.Module):
    """LR-ASPP of torchvision, with one class: image ``(N, 3, H, W)``, RGB in [0, 1], to logits ``(N, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large

        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.network(_normalised(image))["out"]  # type: ignore[no-any-return]


class TimmBackbone(nn.Module):
    """ResNet-18 of timm and a 1x1 head: image ``(N, 3, H, W)``, RGB in [0, 1], to logits ``(N, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        # timm sets each block's last scale to 0: without a checkpoint most pixels would then have no gradient
        self.backbone = timm.create_model(
            "resnet18", pretrained=False, features_only=True, zero_init_last=False
        )
        self.head = nn.Conv2d(self.backbone.feature_info.channels()[-1], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.backbone(_normalised(image))[-1])
        return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)


def torchvision_segmentation(checkpoint: str | None, device: str) -> CustomLocalizer:
    """Build ``--localizer afbench.localizers.examples:torchvision_segmentation``."""
    return _localizer(TorchvisionSegmentation, "lraspp", checkpoint, device)


def timm_backbone(checkpoint: str | None, device: str) -> CustomLocalizer:
    """Build ``--localizer afbench.localizers.examples:timm_backbone``."""
    return _localizer(TimmBackbone, "timm_resnet18", checkpoint, device)


def _localizer(
    architecture: type[nn.Module], name: str, checkpoint: str | None, device: str
) -> CustomLocalizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # other weights in every run could not be resumed
        network = architecture()
    if checkpoint is not None:
        fill(network, read_state(Path(checkpoint)), checkpoint)
    return as_localizer(network, name=name, device=device)


def _normalised(image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (image - mean) / std
