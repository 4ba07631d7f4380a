"""How TruFor joins its two streams after a stage: each corrects the other, then both become one map (after CMX).

Attribute names are the release's. Source: Zhang et al. 2023, CMX, IEEE T-ITS, arXiv 2203.04838.
"""

import torch
from torch import Tensor, nn

from .mit import HEAD_WIDTH, as_map, as_tokens


class FeatureRectification(nn.Module):
    """Add to each of two maps ``(N, C, H, W)`` parts of the other, weighed by channel and by place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel_weights = _Weigher(
            nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 2 * width), nn.Sigmoid()
        )
        self.spatial_weights = _Weigher(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, 2, 1), nn.Sigmoid()
        )

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([image, noise], dim=1)
        summary = torch.cat([both.mean(dim=(2, 3)), both.flatten(2).max(dim=2).values], dim=1)
        from_image, from_noise = self.channel_weights(summary)[:, :, None, None].chunk(2, dim=1)
        image_places, noise_places = self.spatial_weights(both).chunk(2, dim=1)
        # the first weights of each pair say how much of the image goes to the noise
        return (
            image + (from_noise / 2 + noise_places / 2) * noise,
            noise + (from_image / 2 + image_places / 2) * image,
        )


class _Weigher(nn.Module):
    """Layers one level deeper, where the release has them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(features)  # type: ignore[no-any-return]


class FeatureFusion(nn.Module):
    """Make one map ``(N, C, H, W)`` of two: each looks at a summary of the other, then both are mixed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross = _CrossPath(width, heads)
        self.channel_emb = _ChannelEmbedding(width)

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        tokens = torch.cat(self.cross(as_tokens(image), as_tokens(noise)), dim=-1)
        return self.channel_emb(as_map(tokens, *image.shape[-2:]))  # type: ignore[no-any-return]


class _CrossPath(nn.Module):
    """Mix two lists of tokens ``(N, T, C)``; both stay lists of that shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.channel_proj1 = nn.Linear(width, 2 * width)
        self.channel_proj2 = nn.Linear(width, 2 * width)
        self.cross_attn = _CrossAttention(width, heads)
        self.end_proj1 = nn.Linear(2 * width, width)
        self.end_proj2 = nn.Linear(2 * width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        kept1, query1 = torch.relu(self.channel_proj1(image)).chunk(2, dim=-1)
        kept2, query2 = torch.relu(self.channel_proj2(noise)).chunk(2, dim=-1)
        answer1, answer2 = self.cross_attn(query1, query2)
        return (
            self.norm1(image + self.end_proj1(torch.cat([kept1, answer1], dim=-1))),
            self.norm2(noise + self.end_proj2(torch.cat([kept2, answer2], dim=-1))),
        )


class _CrossAttention(nn.Module):
    """Turn the tokens of each stream by a matrix that sums up all tokens of the other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.kv1 = nn.Linear(width, 2 * width, bias=False)
        self.kv2 = nn.Linear(width, 2 * width, bias=False)

    def forward(self, tokens1: Tensor, tokens2: Tensor) -> tuple[Tensor, Tensor]:
        summary1 = self._summary(self.kv1(tokens1))
        summary2 = self._summary(self.kv2(tokens2))
        return self._turned(tokens1, summary2), self._turned(tokens2, summary1)

    def _summary(self, keys_and_values: Tensor) -> Tensor:
        """Return a matrix ``(N, heads, 64, 64)``; the softmax is over the keys' channels, so each column sums to 1."""
        keys, values = (self._by_head(part) for part in keys_and_values.chunk(2, dim=-1))
        return torch.softmax(keys.transpose(-2, -1) @ values * HEAD_WIDTH**-0.5, dim=-2)

    def _turned(self, tokens: Tensor, summary: Tensor) -> Tensor:
        return (self._by_head(tokens) @ summary).transpose(1, 2).flatten(2)

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)


class _ChannelEmbedding(nn.Module):
    """Halve the width of a map ``(N, 2 C, H, W)``, with a look at the neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Conv2d(2 * width, width, 1, bias=False)
        self.channel_embed = nn.Sequential(
            nn.Conv2d(2 * width, width, 1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(self.residual(features) + self.channel_embed(features))  # type: ignore[no-any-return]
