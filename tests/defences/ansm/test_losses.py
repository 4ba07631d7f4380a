"""Each of the paper's equations, against numbers worked out by hand."""

import math

import pytest
import torch

from afbench.defences.ansm.restoration_losses import (
    dice,
    divergence,
    ffa_loss,
    mask_loss,
    pixel_loss,
    spatial_softmax,
)

QUARTER = torch.tensor([[[0.75, 0.25]]])
HALF = torch.tensor([[[0.5, 0.5]]])


def test_each_channel_becomes_a_distribution_over_its_positions():
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = spatial_softmax(features)
    assert found.shape == (2, 3, 20)
    assert torch.allclose(found.sum(dim=2), torch.ones(2, 3))
    alone = spatial_softmax(features[1:, 2:])
    assert torch.equal(found[1:, 2:], alone), "another channel or image plays a part"
    assert torch.allclose(found, spatial_softmax(features + 7.0), atol=1e-6)


def test_softmax_is_float32_whatever_comes_in():
    assert spatial_softmax(torch.full((1, 1, 2, 2), 9.0, dtype=torch.float16)).dtype == torch.float32


def test_the_divergence_is_that_of_the_hand_case():
    by_hand = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2  # over two positions
    assert divergence(QUARTER, HALF).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_two_directions_differ():
    other = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    assert divergence(HALF, QUARTER).item() == pytest.approx(other, rel=1e-6)
    assert divergence(HALF, QUARTER).item() != pytest.approx(divergence(QUARTER, HALF).item(), rel=0.05)


def test_alpha_keeps_an_empty_position_finite():
    sure, unsure = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert divergence(sure, unsure).item() == pytest.approx(math.log(1e8) / 2, rel=1e-3)


def test_ffa_compares_purified_with_original_and_reverse_turns_it_round():
    purified = [torch.log(QUARTER).reshape(1, 1, 1, 2)]
    original = [torch.log(HALF).reshape(1, 1, 1, 2)]
    assert ffa_loss(purified, original).item() == pytest.approx(divergence(QUARTER, HALF).item(), rel=1e-5)
    back = ffa_loss(purified, original, reverse=True)
    assert back.item() == pytest.approx(divergence(HALF, QUARTER).item(), rel=1e-5)


def test_ffa_is_the_mean_over_layers_and_zero_for_equal_features():
    draw = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 3, side, side, generator=draw) for side in (4, 8)]
    other = [torch.randn(2, 3, side, side, generator=draw) for side in (4, 8)]
    single = [ffa_loss([a], [b]) for a, b in zip(layers, other, strict=True)]
    assert torch.allclose(ffa_loss(layers, other), (single[0] + single[1]) / 2)
    assert ffa_loss(layers, layers).abs().max() < 1e-9


def test_a_perfect_mask_costs_nothing_and_the_opposite_costs_all():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3] = 1
    sure = 200.0 * (2 * mask - 1)
    assert mask_loss(sure, mask).item() == 0.0
    assert dice(torch.sigmoid(-sure), mask).item() == pytest.approx(1 / 65)
    assert mask_loss(-sure, mask).item() == pytest.approx(0.3 * 200 + 0.7 * (1 - 1 / 65), rel=1e-6)


def test_an_empty_mask_that_is_found_empty_costs_nothing():
    assert mask_loss(torch.full((1, 1, 4, 4), -200.0), torch.zeros(1, 1, 4, 4)).item() == 0.0


def test_the_mask_loss_of_a_hand_case():
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    coefficient = (2 * 0.5 + 1) / (1.0 + 1.0 + 1)
    wanted = 0.3 * math.log(2) + 0.7 * (1 - coefficient)
    assert mask_loss(torch.zeros(1, 1, 1, 2), mask).item() == pytest.approx(wanted, rel=1e-6)


def test_dice_of_a_mask_that_is_right_everywhere_at_60_percent_as_printed_and_by_plain_sums():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 1:6, 2:7] = 1  # 25 of 64 pixels
    probability = 0.4 + 0.2 * mask
    overlap, smoothing = 25 * 0.6, 1
    plain = 25 * 0.6 + 39 * 0.4 + 25
    squares = 25 * 0.36 + 39 * 0.16 + 25
    assert 2 * overlap / squares == pytest.approx(0.746, abs=5e-4), "Eq. 15 itself, which has no smoothing"
    assert (2 * overlap + smoothing) / (plain + smoothing) == pytest.approx(0.548, abs=5e-4)
    assert dice(probability, mask).item() == pytest.approx((2 * overlap + 1) / (plain + 1), rel=1e-6)
    as_printed = dice(probability, mask, squares=True)
    assert as_printed.item() == pytest.approx((2 * overlap + 1) / (squares + 1), rel=1e-6)
    large = [image.repeat(1, 1, 64, 64) for image in (probability, mask)]
    assert dice(*large, squares=True).item() == pytest.approx(2 * overlap / squares, abs=1e-5)
    loss = 0.3 * -math.log(0.6) + 0.7 * (1 - as_printed.item())
    assert mask_loss(torch.logit(probability), mask, squares=True).item() == pytest.approx(loss, rel=1e-6)


def test_a_mask_that_is_sure_costs_the_same_with_squares():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3] = 1
    for right in (1, -1):
        sure = 200.0 * right * (2 * mask - 1)
        assert torch.equal(mask_loss(sure, mask, squares=True), mask_loss(sure, mask))
    assert mask_loss(torch.full((1, 1, 4, 4), -200.0), torch.zeros(1, 1, 4, 4), squares=True).item() == 0.0


def test_losses_are_one_number_an_image_that_no_other_image_touches():
    draw = torch.Generator().manual_seed(0)
    logits, mask = torch.randn(3, 1, 8, 8, generator=draw), torch.ones(3, 1, 8, 8)
    assert torch.equal(mask_loss(logits, mask)[1:2], mask_loss(logits[1:2], mask[1:2]))
    assert pixel_loss(mask, 0.25 * mask).tolist() == [0.75, 0.75, 0.75]
