"""IML-ViT's network: a plain vision transformer, a small feature pyramid and a linear head.

Attribute names are the release's, so that its checkpoints load as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .convnext import ChannelNorm

STRIDE = 16
SMALLEST = 32
"""Least side: the coarsest map of the pyramid has half as many tokens a side, at least one."""
WIDTH = 768
_HEADS = 12
_HEAD_WIDTH = WIDTH // _HEADS
_WINDOW = 14
_GRID = 14
"""Tokens a side of the images that the position embedding was made for."""
_GLOBAL_GRID = 64
"""Tokens a side of an image of 1024 pixels, for which the tables of the global blocks were trained."""
_BLOCKS = 12
_GLOBAL_BLOCKS = (2, 5, 8, 11)
_LEVELS, _LEVEL_WIDTH = 5, 256
_MOST_TOKENS_KEPT = 32 * 32
"""Of larger images, a block keeps its input only, and is computed again for the gradient: a third more arithmetic, half the memory."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImlvitNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the mask's logit ``(N, 1, H, W)``; H, W >= 32 and multiples of 16.

    The release sees images of 1024x1024 only; at other sizes its position tables are interpolated.

    Raises:
        ValueError: for another size.
    Source: Ma et al. 2023, IML-ViT, arXiv 2307.14863.
    Differs: every level of the pyramid is brought to one channel before it is enlarged, which is exact, since the head is
        linear for every pixel in evaluation mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder_net = _ImlvitEncoder()
        self.featurePyramid_net = _Pyramid()
        self.predict_head = _PredictHead()

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if min(height, width) < SMALLEST or height % STRIDE or width % STRIDE:
            raise ValueError(
                f"IML-ViT takes sides that are multiples of {STRIDE}, at least {SMALLEST}; found {height} x {width}"
            )
        mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        features = self.encoder_net((image - mean) / std)
        logit = self.predict_head(self.featurePyramid_net(features))
        return F.interpolate(logit, (height, width), mode="bilinear", align_corners=False)


class _ImlvitEncoder(nn.Module):
    """ViT-B of patches of 16 pixels, most blocks within windows: image to ``(N, 768, H / 16, W / 16)``."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _GRID * _GRID, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, STRIDE, stride=STRIDE)})
        self.blocks = nn.ModuleList(_Block(index in _GLOBAL_BLOCKS) for index in range(_BLOCKS))

    def forward(self, image: Tensor) -> Tensor:
        patches: Tensor = self.patch_embed["proj"](image)
        tokens = (patches + self._positions(patches.shape[-2], patches.shape[-1])).permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.permute(0, 3, 1, 2)

    def _positions(self, height: int, width: int) -> Tensor:
        """Resize the position embedding; its first entry belongs to a class token that the network lacks."""
        grid = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, WIDTH, _GRID, _GRID)
        if (height, width) == (_GRID, _GRID):
            return grid
        return F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)


class _Block(nn.Module):
    """Attention, then an MLP, each added to what it was given: tokens ``(N, h, w, 768)`` to tokens."""

    def __init__(self, is_global: bool) -> None:
        super().__init__()
        self.is_global = is_global
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = _Attention(_GLOBAL_GRID if is_global else _WINDOW)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.Sequential()
        for name, layer in (
            ("fc1", nn.Linear(WIDTH, 4 * WIDTH)),
            ("act", nn.GELU()),
            ("fc2", nn.Linear(4 * WIDTH, WIDTH)),
        ):
            self.mlp.add_module(name, layer)

    def forward(self, tokens: Tensor) -> Tensor:
        if torch.is_grad_enabled() and tokens.shape[1] * tokens.shape[2] > _MOST_TOKENS_KEPT:
            # nothing in a block is random, so that no state of a generator need be kept
            return checkpoint(self._computed, tokens, use_reentrant=False, preserve_rng_state=False)
        return self._computed(tokens)

    def _computed(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + (self.attn(normed) if self.is_global else self._by_windows(normed))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]

    def _by_windows(self, tokens: Tensor) -> Tensor:
        """Attend within windows of 14x14; zero tokens fill the last ones, and take part, as in the release."""
        number, height, width, _ = tokens.shape
        rows, columns = -(-height // _WINDOW), -(-width // _WINDOW)
        tokens = F.pad(tokens, (0, 0, 0, columns * _WINDOW - width, 0, rows * _WINDOW - height))
        windows = tokens.view(number, rows, _WINDOW, columns, _WINDOW, WIDTH).transpose(2, 3)
        mixed: Tensor = self.attn(windows.reshape(-1, _WINDOW, _WINDOW, WIDTH))
        mixed = mixed.view(number, rows, columns, _WINDOW, _WINDOW, WIDTH).transpose(2, 3)
        return mixed.reshape(tokens.shape)[:, :height, :width]


class _Attention(nn.Module):
    """Attention over a grid of tokens; a score also depends on how many rows and columns lie between its two tokens."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, _HEAD_WIDTH))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, _HEAD_WIDTH))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        number, height, width, _ = tokens.shape
        parts = self.qkv(tokens).view(number, height, width, 3, _HEADS, _HEAD_WIDTH)
        query, key, value = parts.permute(3, 0, 4, 1, 2, 5).unbind()
        # The scores' position terms become products of queries and keys: with longer ones no table of all scores is needed.
        by_row = torch.einsum("nhijc,imc->nhijm", query, _by_distance(self.rel_pos_h, height))
        by_column = torch.einsum("nhijc,jmc->nhijm", query, _by_distance(self.rel_pos_w, width))
        query = torch.cat([query * _HEAD_WIDTH**-0.5, by_row, by_column], dim=-1)
        places = [torch.eye(side, dtype=key.dtype, device=key.device) for side in (height, width)]
        rows, columns = places[0][:, None].expand(-1, width, -1), places[1].expand(height, -1, -1)
        place = torch.cat([rows, columns], dim=-1).expand(number, _HEADS, -1, -1, -1)
        key = torch.cat([key, place], dim=-1)
        mixed = F.scaled_dot_product_attention(
            query.flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3), scale=1.0
        )
        return self.proj(mixed.transpose(1, 2).reshape(tokens.shape))  # type: ignore[no-any-return]


def _by_distance(table: Tensor, side: int) -> Tensor:
    """Look up a table for every pair of lines: ``(side, side, channels)``; resize it where it was made for another side."""
    if len(table) != 2 * side - 1:
        table = F.interpolate(table.T[None], 2 * side - 1, mode="linear", align_corners=False)[0].T
    lines = torch.arange(side, device=table.device)
    return table[lines[:, None] - lines[None] + side - 1]


class _Pyramid(nn.Module):
    """Turn the encoder's map into five of 256 channels, of 1/4, 1/8, 1/16, 1/32 and 1/64 of the image's side."""

    def __init__(self) -> None:
        super().__init__()
        half = WIDTH // 2
        self.simfp_2 = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, half, 2, stride=2),
            ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, half // 2, 2, stride=2),
            *_projection(half // 2),
        )
        self.simfp_3 = nn.Sequential(nn.ConvTranspose2d(WIDTH, half, 2, stride=2), *_projection(half))
        self.simfp_4 = nn.Sequential(*_projection(WIDTH))
        self.simfp_5 = nn.Sequential(nn.MaxPool2d(2), *_projection(WIDTH))

    def forward(self, features: Tensor) -> list[Tensor]:
        maps = [layers(features) for layers in (self.simfp_2, self.simfp_3, self.simfp_4, self.simfp_5)]
        return [*maps, maps[-1][..., ::2, ::2]]


def _projection(inputs: int) -> tuple[nn.Module, nn.Module]:
    return _NormedConv(inputs, 1), _NormedConv(_LEVEL_WIDTH, 3)


class _NormedConv(nn.Conv2d):
    """A convolution and a norm over its channels, which the release keeps inside it."""

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__(inputs, _LEVEL_WIDTH, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(_LEVEL_WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(super().forward(features))  # type: ignore[no-any-return]


class _PredictHead(nn.Module):
    """Mix the maps of the pyramid, at the size of the finest, into one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_fuse = nn.Conv2d(_LEVELS * _LEVEL_WIDTH, _LEVEL_WIDTH, 1)
        self.norm = nn.BatchNorm2d(_LEVEL_WIDTH)
        self.linear_predict = nn.Conv2d(_LEVEL_WIDTH, 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        if self.training:  # the norm depends on the images
            return self.unfolded(maps)
        weight, bias = self._folded()
        size = maps[0].shape[-2:]
        parts = [
            _enlarged(F.conv2d(level, part), size)
            for level, part in zip(maps, torch.split(weight, _LEVEL_WIDTH, dim=1), strict=True)
        ]
        return sum(parts[1:], start=parts[0]) + bias

    def unfolded(self, maps: list[Tensor]) -> Tensor:
        """Compute the head step by step, as the release does: 1280 channels at the size of the finest map."""
        enlarged = torch.cat([_enlarged(level, maps[0].shape[-2:]) for level in maps], dim=1)
        return self.linear_predict(self.norm(self.linear_fuse(enlarged)))  # type: ignore[no-any-return]

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Fold both convolutions and the norm between them into one convolution to one channel."""
        norm, fuse, predict = self.norm, self.linear_fuse, self.linear_predict
        mean, variance = norm.running_mean, norm.running_var
        assert (
            mean is not None and variance is not None and fuse.bias is not None and predict.bias is not None
        )
        outward = predict.weight[0, :, 0, 0]
        scale = outward * norm.weight / (variance + norm.eps).sqrt()
        weight = (scale @ fuse.weight[..., 0, 0])[None, :, None, None]
        return weight, scale @ (fuse.bias - mean) + outward @ norm.bias + predict.bias


def _enlarged(level: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(level, tuple(size), mode="bilinear", align_corners=False)
