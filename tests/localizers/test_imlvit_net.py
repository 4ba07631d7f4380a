"""Parts of IML-ViT's network against the plain form that they replace."""

import pytest
import torch
from torch.nn import functional as F

from afbench.localizers.nets import imlvit_net
from afbench.localizers.nets.imlvit_net import _Attention, _Block, _by_distance, _PredictHead


def random_weights(module):
    torch.manual_seed(0)
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return module.double().eval().requires_grad_(False)


def plain_attention(module, tokens):
    """Add the position terms to a table of all scores, one by one as the paper has them."""
    number, height, width, _ = tokens.shape
    query, key, value = (
        part.reshape(number, height * width, 12, 64).transpose(1, 2)
        for part in module.qkv(tokens).chunk(3, -1)
    )
    lines = [(i, j) for i in range(height) for j in range(width)]
    by_row = torch.stack(
        [torch.stack([module.rel_pos_h[i - m + height - 1] for m, _ in lines]) for i, _ in lines]
    )
    by_column = torch.stack(
        [torch.stack([module.rel_pos_w[j - n + width - 1] for _, n in lines]) for _, j in lines]
    )
    scores = query / 8 @ key.transpose(-2, -1) + torch.einsum("bhqc,qkc->bhqk", query, by_row + by_column)
    mixed = scores.softmax(-1) @ value
    return module.proj(mixed.transpose(1, 2).reshape(tokens.shape))


def test_positions_inside_queries_and_keys_are_those_added_to_the_scores():
    module = random_weights(_Attention(5))
    tokens = torch.randn(2, 5, 5, 768, dtype=torch.float64)
    torch.testing.assert_close(module(tokens), plain_attention(module, tokens), rtol=0, atol=1e-12)


def test_a_table_of_positions_is_resized_along_its_length_where_it_was_made_for_another_side():
    table = torch.arange(27.0)[:, None]
    assert torch.equal(
        _by_distance(table, 14)[:, :, 0], torch.tensor([[i - m + 13.0 for m in range(14)] for i in range(14)])
    )
    resized = F.interpolate(table.T[None], 9, mode="linear", align_corners=False)[0, 0]
    assert torch.equal(_by_distance(table, 5)[4, :, 0], resized[4:].flip(0))


def test_the_folded_head_is_the_head():
    head = random_weights(_PredictHead())
    head.norm.running_mean.uniform_(-1, 1)
    head.norm.running_var.uniform_(0.5, 2)
    maps = [torch.randn(2, 256, side, side + 1, dtype=torch.float64) for side in (16, 8, 4, 2, 1)]
    torch.testing.assert_close(head(maps), head.unfolded(maps), rtol=0, atol=1e-12)
    head.train()  # there the norm depends on the images
    assert not torch.allclose(head(maps), head.eval()(maps))


@pytest.mark.parametrize("is_global", [True, False])
def test_a_block_computed_twice_gives_the_same_gradient_and_keeps_its_input_only(monkeypatch, is_global):
    block = random_weights(_Block(is_global))
    tokens = torch.randn(1, 6, 5, 768, dtype=torch.float64, requires_grad=True)
    slopes, saved = [], []
    for most in (1000, 10):
        monkeypatch.setattr(imlvit_net, "_MOST_TOKENS_KEPT", most)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            mixed = block(tokens)
        slopes.append(torch.autograd.grad(mixed.square().sum(), tokens)[0])
        saved.append(sum(sizes))
    assert torch.equal(*slopes) and saved[1] < saved[0] / 10
