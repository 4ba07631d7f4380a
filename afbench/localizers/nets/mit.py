"""The Mix Transformer (MiT) of SegFormer: four stages of attention with shortened keys, of any depth.

Attribute names are those of the releases that use it (Mesorch, TruFor), so that their checkpoints load as they are.
Source: Xie et al. 2021, SegFormer, NeurIPS, arXiv 2105.15203.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 320, 512)
"""Channels of the four stages; the maps have 1/4, 1/8, 1/16 and 1/32 of the image's side, rounded up."""
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
"""Factors by which attention shortens each side of the map that gives keys and values."""
HEAD_WIDTH = 64
_RATIO = 4
"""Width of an MLP's middle, in widths of its block."""


def mit_embedding(stage: int, inputs: int = 3, *, first_bias: bool = True) -> "MitEmbedding":
    """Build the entry of a stage from 0 to 3; ``inputs`` and ``first_bias`` matter to the first."""
    if stage == 0:
        return MitEmbedding(inputs, WIDTHS[0], kernel=7, stride=4, bias=first_bias)
    return MitEmbedding(WIDTHS[stage - 1], WIDTHS[stage], kernel=3, stride=2)


def mit_blocks(stage: int, depth: int) -> nn.ModuleList:
    """Build the blocks of a stage."""
    return nn.ModuleList(MitBlock(WIDTHS[stage], HEADS[stage], REDUCTIONS[stage]) for _ in range(depth))


def mit_norm(stage: int) -> nn.LayerNorm:
    """Build the norm at the end of a stage."""
    return nn.LayerNorm(WIDTHS[stage], eps=1e-6)


def run_stage(embedding: nn.Module, blocks: Iterable[nn.Module], norm: nn.Module, features: Tensor) -> Tensor:
    """Turn the map of one stage ``(N, C, H, W)`` into that of the next."""
    tokens, (height, width) = embedding(features)
    for block in blocks:
        tokens = block(tokens, height, width)
    return as_map(norm(tokens), height, width)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Lay tokens ``(N, height * width, C)``, row after row, out as ``(N, C, height, width)``."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)


def as_tokens(features: Tensor) -> Tensor:
    """Line a map ``(N, C, H, W)`` up as tokens ``(N, H * W, C)``, row after row."""
    return features.flatten(2).transpose(1, 2)


class MitEmbedding(nn.Module):
    """Overlapping patches: a strided convolution and a norm; returns tokens and the map's (height, width)."""

    def __init__(self, inputs: int, width: int, *, kernel: int, stride: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride=stride, padding=kernel // 2, bias=bias)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches = self.proj(features)
        return self.norm(as_tokens(patches)), (patches.shape[-2], patches.shape[-1])


class MitBlock(nn.Module):
    """Attention, then an MLP, each added to what it was given: tokens ``(N, height * width, C)`` to tokens."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _MitAttention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _MitMlp(width)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), height, width)
        return tokens + self.mlp(self.norm2(tokens), height, width)  # type: ignore[no-any-return]


class _MitAttention(nn.Module):
    """Every token looks at a shortened map."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.shortens = reduction > 1
        if self.shortens:
            # rows and columns that fill no whole square are left out, as in the releases
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        source = tokens
        if self.shortens:
            source = self.norm(as_tokens(self.sr(as_map(tokens, height, width))))
        keys, values = (self._by_head(part) for part in self.kv(source).chunk(2, dim=-1))
        scores = self._by_head(self.q(tokens)) @ keys.transpose(-2, -1) * HEAD_WIDTH**-0.5
        mixed = torch.softmax(scores, dim=-1) @ values
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)


class _MitMlp(nn.Module):
    """Widen, let each channel see its neighbours, narrow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _RATIO * width)
        self.dwconv = _MitDepthwise(_RATIO * width)
        self.fc2 = nn.Linear(_RATIO * width, width)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        wide = as_tokens(self.dwconv(as_map(self.fc1(tokens), height, width)))
        return self.fc2(F.gelu(wide))  # type: ignore[no-any-return]


class _MitDepthwise(nn.Module):
    """A convolution one level deeper, where the releases have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, features: Tensor) -> Tensor:
        return self.dwconv(features)  # type: ignore[no-any-return]
