"""The embedded localizer: small, trained by ``scripts/train_reference``, so that everything runs without a download."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .checkpoint_files import Guess, fill, read_state, state_sha256
from .feature_hooks import collect_outputs
from .nets.reference_net import ReferenceNet
from .saving import save_checkpoint
from .untrained import is_untrained

THIRDS = {
    "shallow": ("stages.0", "stages.1"),
    "middle": ("stages.2", "stages.3"),
    "topmost": ("merge.2", "merge.1", "merge.0"),
}
"""Modules of the network by depth."""


@dataclass(frozen=True)
class ReferenceLocalizer:
    """A localizer that works at the image's own size, padded to multiples of 16; no resize, normalisation inside.

    ``untrained`` is True for random weights.
    """

    network: ReferenceNet
    weights_sha256: str
    untrained: bool
    name: str = "reference"
    threshold: float = 0.5

    def logits(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)``, any finite values, to ``(N, 1, H, W)``."""
        return self.network(image.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def probability(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1]."""
        return self.probability_and_logits(image)[0]

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one pass through the network."""
        logits = self.logits(image)
        return torch.sigmoid(logits), logits

    def features(self, image: Tensor, third: str = "middle") -> list[Tensor]:
        """Return the feature maps of the ``shallow``, ``middle`` or ``topmost`` third, in the order they are computed."""
        run = self.logits if third == "topmost" else self.network.skips  # which leaves the decoder out
        return collect_outputs(
            self.network, THIRDS[third], lambda: run(image.contiguous(memory_format=torch.channels_last))
        )

    def features_and_logits(self, image: Tensor, third: str = "middle") -> tuple[list[Tensor], Tensor]:
        """Return both from one pass through the network."""
        logits: list[Tensor] = []
        return collect_outputs(
            self.network, THIRDS[third], lambda: logits.append(self.logits(image))
        ), logits[0]

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write the weights to a new file that ``checkpoint`` of ``load_localizer`` takes."""
        return save_checkpoint(self.network, path)


def build(
    checkpoint: str | None = None, device: str = "cpu", guess: Guess = lambda state: ""
) -> ReferenceLocalizer:
    """Build the localizer from the embedded weights, a file, or ``random``.

    Raises:
        UsageError: if the checkpoint is missing, damaged, unsafe or of another network.
    """
    network = filled_reference(checkpoint, guess)
    digest = state_sha256(network)
    network.eval().requires_grad_(False)
    fold_batch_norm(network)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ReferenceLocalizer(network, digest, untrained=is_untrained(checkpoint))


def filled_reference(checkpoint: str | None, guess: Guess) -> ReferenceNet:
    """Build its network with the embedded weights, those of a file, or untrained ones, which are the same in every run.

    Raises:
        UsageError: if the checkpoint is missing, damaged, unsafe or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ReferenceNet()
    if checkpoint is None:
        with as_file(files("afbench.localizers") / "weights" / "reference.safetensors") as path:
            fill(network, read_state(path), "embedded reference weights")
    elif not is_untrained(checkpoint):
        fill(network, read_state(Path(checkpoint)), checkpoint, guess)
    return network


def fold_batch_norm(network: nn.Module) -> None:
    """Merge each batch norm into the convolution before it: a third less time for a gradient on a CPU."""
    for parent in list(network.modules()):
        for name, block in list(parent.named_children()):
            if isinstance(block, nn.Sequential) and len(block) == 3 and isinstance(block[1], nn.BatchNorm2d):
                setattr(parent, name, _FoldedBlock(*block))


class _FoldedBlock(nn.Sequential):
    """A convolution, its batch norm and an activation, of which the first two run as one.

    Both stay in the state dict, so that it keeps the names of a checkpoint.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__(convolution, norm, activation)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        # without a copy of the convolution, which takes longer than the rest of loading the localizer
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.register_buffer("bias", bias.detach(), persistent=False)
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        convolution = self[0]
        assert isinstance(convolution, nn.Conv2d)
        features = F.conv2d(features, self.weight, self.bias, convolution.stride, convolution.padding)
        return self[2](features)  # type: ignore[no-any-return]
