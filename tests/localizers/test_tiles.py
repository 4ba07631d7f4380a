"""Tiles of large images and their merge, against the published procedure written out slowly in numpy and OpenCV."""

import weakref

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from afbench.localizers.tiles import (
    SIZE,
    Box,
    centre_weight,
    merge_tiles,
    merged_logits,
    merged_probability,
    tile_boxes,
    tile_logits,
)


def tiled_logits(network, image, size=SIZE):
    """Cut, compute and merge, as an attack does."""
    return merged_logits(tile_logits(network, image, size), *image.shape[-2:], size)


def tiled_probability(network, image, size=SIZE):
    """Cut, compute and merge, as scoring does."""
    return merged_probability(tile_logits(network, image, size), *image.shape[-2:], size)


SIZES = [(16, 16), (20, 35), (11, 40), (40, 11), (24, 17), (15, 16), (33, 33), (15, 9)]
"""Images for tiles of 16: exact, both over, one below, both below, either way round."""


class TinyNet(nn.Module):
    """One convolution and a bend; notes each call, and its inner map as long as somebody holds it."""

    def __init__(self):
        super().__init__()
        self.calls, self.inner = [], []
        self.conv = nn.Conv2d(3, 1, 3, padding=1).double()
        with torch.no_grad():
            self.conv.weight.copy_(_random(1, 3, 3, 3, seed=9) * 2 - 1)
            self.conv.bias.fill_(0.3)
        self.requires_grad_(False)

    def forward(self, image):
        hidden = self.conv(image)
        self.calls.append(tuple(image.shape))
        self.inner.append(weakref.ref(hidden))
        return 2 * hidden.square().sin() + hidden


@pytest.fixture
def network():
    return TinyNet()


def _random(*shape, seed=0):
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape))


def _slow_boxes(height, width, size):
    """The published loops, as rows and columns."""
    half, boxes = size // 2, []
    rows, columns = height // half + 1, width // half + 1
    bottom, right = (max(height - size, 0), height), (max(width - size, 0), width)
    for x in range(rows - 1):
        if half * x + size > height:
            break
        for y in range(columns - 1):
            if half * y + size > width:
                break
            boxes.append(((half * x, half * x + size), (half * y, half * y + size)))
        boxes.append(((half * x, half * x + size), right))
    for y in range(columns - 1):
        if half * y + size > width:
            break
        boxes.append((bottom, (half * y, half * y + size)))
    return [*boxes, (bottom, right)]


def _slow_weight(height, width, size):
    peak = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float64)
    weight = 1 - cv2.resize(peak, (size, size), interpolation=cv2.INTER_LINEAR)
    if (height, width) != (size, size):
        weight = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
    return weight


def _slow_merge(tiles, height, width, size):
    """``tiles``: one 2-d array for each of the published boxes; never -1."""
    canvas = -np.ones((height, width))
    for tile, ((top, bottom), (left, right)) in zip(tiles, _slow_boxes(height, width, size), strict=True):
        old = canvas[top:bottom, left:right]
        weight = _slow_weight(bottom - top, right - left, size)
        weight[old == -1] = 0
        canvas[top:bottom, left:right] = weight * old + (1 - weight) * tile
    return canvas


def _slow_tiles(network, image, size):
    """The network's logits of each published box of one image ``(1, 3, H, W)``."""
    boxes = _slow_boxes(*image.shape[-2:], size)
    with torch.no_grad():
        return [network(image[..., a:b, c:d])[0, 0].numpy() for (a, b), (c, d) in boxes]


@pytest.mark.parametrize(
    ("height", "width", "boxes"),
    [
        (5, 7, [(0, 0, 5, 7)]),
        (8, 8, [(0, 0, 8, 8)] * 4),
        (5, 8, [(0, 0, 5, 8)] * 2),
        (12, 3, [(0, 0, 8, 3), (4, 0, 12, 3), (4, 0, 12, 3)]),
        (5, 9, [(0, 0, 5, 8), (0, 1, 5, 9)]),
        (8, 12, [(0, 0, 8, 8), (0, 4, 8, 12), (0, 4, 8, 12)] * 2),
        (9, 13, [
            (0, 0, 8, 8), (0, 4, 8, 12), (0, 5, 8, 13),
            (1, 0, 9, 8), (1, 4, 9, 12), (1, 5, 9, 13),
        ]),
    ],
)  # fmt: skip
def test_the_boxes_of_small_cases_are_those_written_by_hand(height, width, boxes):
    assert tile_boxes(height, width, size=8) == [Box(*box) for box in boxes]


def test_the_published_size_is_896():
    assert tile_boxes(895, 895) == [Box(0, 0, 895, 895)]
    assert tile_boxes(500, 900) == [Box(0, 0, 500, 896), Box(0, 4, 500, 900)]
    assert tile_boxes(1344, 896)[:3] == [Box(0, 0, 896, 896), Box(0, 0, 896, 896), Box(448, 0, 1344, 896)]


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.sampled_from([2, 8, 16]))
def test_boxes_follow_the_published_loops_and_cover_every_pixel(height, width, size):
    boxes = tile_boxes(height, width, size)
    assert [((box.top, box.bottom), (box.left, box.right)) for box in boxes] == _slow_boxes(
        height, width, size
    )
    covered = torch.zeros(height, width)
    for box in boxes:
        inside = box.crop(covered)
        assert inside.shape == (min(size, height), min(size, width))
        inside.fill_(1)
    assert covered.all()


@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (16, 16, 16), (896, 896, 896), (11, 16, 16), (16, 5, 16), (500, 896, 896)]
)
def test_the_weight_is_opencvs(shape):
    height, width, size = shape
    weight = centre_weight(height, width, size)
    assert weight.shape == (height, width)
    np.testing.assert_allclose(weight.numpy(), _slow_weight(height, width, size), rtol=0, atol=1e-6)


def test_the_weight_is_full_at_the_border_and_least_at_the_centre():
    weight = centre_weight(896, 896)
    assert weight.min() < 0.01 and (weight[447:449, 447:449] - weight.min()).max() < 1e-12
    assert (weight[:149] == 1).all() and (weight[:, 747:] == 1).all()
    assert abs(float((weight == 1).double().mean()) - 5 / 9) < 0.003


@pytest.mark.parametrize("size", SIZES)
def test_the_merge_is_the_published_one(network, size):
    image = _random(1, 3, *size)
    merged = tiled_logits(network, image, size=16)
    slow = _slow_merge(_slow_tiles(network, image, 16), *size, 16)
    np.testing.assert_allclose(merged[0, 0].numpy(), slow, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_constant_merges_to_itself(size):
    boxes = tile_boxes(*size, size=16)
    tiles = [torch.full((2, 1, box.bottom - box.top, box.right - box.left), -1.0) for box in boxes]
    merged = merge_tiles(tiles, boxes, *size)
    assert merged.shape == (2, 1, *size) and merged.dtype == torch.float32
    torch.testing.assert_close(merged, torch.full_like(merged, -1.0), rtol=0, atol=1e-6)


def test_a_logit_of_minus_one_counts_as_written():
    """The published mark of an empty canvas is a level no tile has, but a logit may be just that."""
    boxes = tile_boxes(8, 12, size=8)
    tiles = [torch.full((1, 1, 8, 8), -1.0), *(torch.ones(1, 1, 8, 8) for _ in boxes[1:])]
    merged = merge_tiles(tiles, boxes, 8, 12)
    assert (merged[..., 0, :8] == -1.0).all()  # the border of the newer tiles leaves the older one alone


def test_tiles_and_boxes_come_in_pairs():
    with pytest.raises(ValueError, match="longer"):
        merge_tiles([torch.zeros(1, 1, 8, 8)], tile_boxes(8, 12, size=8), 8, 12)


@pytest.mark.parametrize("size", SIZES)
def test_scoring_is_the_published_one(network, size):
    image = _random(1, 3, *size)
    probability = tiled_probability(network, image, size=16)
    tiles = [np.rint(255 / (1 + np.exp(-logits))) for logits in _slow_tiles(network, image, 16)]
    levels = _slow_merge(tiles, *size, 16).astype(np.uint8).astype(float)
    if max(size) < 16:
        assert torch.equal(probability, torch.sigmoid(network(image)))
        assert np.abs(255 * probability[0, 0].numpy() - levels).max() <= 0.5
        return
    gap = np.abs(255 * probability[0, 0].numpy() - levels)
    # Weights of whole tiles of 16 are exact in binary; squeezed ones differ in the last digits.
    assert gap.max() < 1e-9 if min(size) >= 16 else gap.max() < 1 + 1e-9 and (gap > 0.5).mean() < 0.02
    assert ((probability > 0.5)[0, 0].numpy() == (levels > 127)).mean() > 0.99
    assert probability.dtype == image.dtype and not probability.requires_grad


def test_a_half_level_is_rounded_to_the_even_one_as_opencv_writes_it():
    halves = np.arange(255, dtype=np.float32).reshape(1, -1) + 0.5
    written = cv2.imdecode(cv2.imencode(".png", halves)[1], cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, np.rint(halves))
    undecided = tiled_probability(lambda tile: torch.zeros_like(tile[:, :1]), _random(1, 3, 20, 35), size=16)
    assert ((255 * undecided).round() == 128).all()


@pytest.mark.parametrize("size", [(20, 35), (11, 40), (16, 16)])
def test_the_gradient_is_that_of_merging_without_checkpoints(network, size):
    image = _random(2, 3, *size).requires_grad_()
    boxes, ahead = tile_boxes(*size, size=16), _random(2, 1, *size, seed=3)
    plain = merge_tiles([network(box.crop(image)) for box in boxes], boxes, *size)
    frugal = tiled_logits(network, image, size=16)
    assert torch.equal(plain, frugal)
    expected, found = (torch.autograd.grad((one * ahead).sum(), image)[0] for one in (plain, frugal))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_gradient_has_a_gradient(network):
    image = _random(1, 3, 3, 5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda one: tiled_logits(network, one, size=4), image)


def test_no_tile_keeps_its_inner_maps_while_gradients_are_on(network):
    image = _random(1, 3, 20, 35).requires_grad_()
    logits = tiled_logits(network, image, size=16)
    assert len(network.inner) > 4 and all(held() is None for held in network.inner)
    logits.sum().backward()
    assert image.grad is not None and len(network.calls) == 2 * len(set(tile_boxes(20, 35, size=16)))


@pytest.mark.parametrize("work", [tiled_logits, tiled_probability])
def test_a_repeated_tile_is_computed_once(network, work):
    boxes = tile_boxes(16, 24, size=16)
    with torch.no_grad():
        work(network, _random(1, 3, 16, 24), size=16)
    assert len(boxes) == 6 and network.calls == [(1, 3, 16, 16)] * 2


@pytest.mark.parametrize("work", [tiled_logits, tiled_probability])
def test_every_image_of_a_batch_equals_itself_alone(network, work):
    images = _random(3, 3, 20, 35)
    together = work(network, images, size=16)
    for row in range(3):
        torch.testing.assert_close(
            work(network, images[row : row + 1], size=16)[0], together[row], rtol=0, atol=1e-12
        )


def test_an_image_below_the_size_is_one_call_of_the_network(network):
    image = _random(2, 3, 15, 9)
    assert torch.equal(tiled_logits(network, image, size=16), network(image))
    assert network.calls[0] == (2, 3, 15, 9) and len(network.calls) == 2
