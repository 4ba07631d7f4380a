"""Each transform against what it is by definition, or another library."""

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch.nn import functional as F

from afbench.defences import load_defence, transforms
from afbench.defences.padding import mirrored
from afbench.defences.transforms import (
    bit_depth,
    gaussian_noise,
    median,
    random_resize_pad,
    resize,
    sorted_median,
    tv,
)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_median_is_that_of_scipy(side):
    image = noise(2, 3, 17, 22)
    wanted = np.stack([[median_filter(c, side, mode="mirror") for c in one] for one in image.numpy()])
    np.testing.assert_array_equal(median(image, side=side).numpy(), wanted)


def gradient(function, image):
    leaf = image.clone().requires_grad_()
    output = function(leaf)
    weights = torch.linspace(-1, 1, output.numel(), dtype=image.dtype).view_as(output)
    return torch.autograd.grad((weights * output).sum(), leaf)[0]


def test_the_median_of_a_gpu_is_that_of_a_cpu_with_its_gradient():
    windows = noise(2, 3, 4, 5, 9).double()
    assert torch.equal(sorted_median(windows), windows.median(dim=-1).values)
    assert torch.equal(gradient(sorted_median, windows), gradient(lambda x: x.median(dim=-1).values, windows))


def test_of_equal_values_one_has_the_gradient_of_a_gpus_median():
    assert torch.count_nonzero(gradient(sorted_median, torch.ones(1, 1, 2, 2, 25))) == 4


@pytest.mark.parametrize("border", [(1, 1, 1, 1), (0, 3, 0, 2), (2, 0, 5, 0)])
def test_a_reflection_from_slices_is_that_of_torch_with_its_gradient(border):
    image = noise(2, 3, 6, 7).double()

    def sliced(x):
        return mirrored(mirrored(x, 3, *border[:2]), 2, *border[2:])

    def padded(x):
        return F.pad(x, border, mode="reflect")

    assert torch.equal(sliced(image), padded(image))
    torch.testing.assert_close(gradient(sliced, image), gradient(padded, image))


def test_the_median_is_the_same_in_strips(monkeypatch):
    image = noise(2, 3, 17, 22)
    whole = median(image, side=5)
    monkeypatch.setattr(transforms, "_VALUES_AT_ONCE", 2 * 3 * 22 * 25 * 4)
    assert torch.equal(median(image, side=5), whole)


def test_the_median_of_an_image_smaller_than_its_window_repeats_the_edge():
    assert median(noise(1, 3, 2, 2), side=7).shape == (1, 3, 2, 2)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bit_depth_leaves_that_many_levels_and_moves_by_half_a_step_at_most(bits):
    image = noise(1, 3, 40, 40)
    after = bit_depth(image, bits=bits)
    assert len(after.unique()) <= 2**bits
    assert (after - image).abs().max() <= 0.5 / (2**bits - 1) + 1e-6


def test_eight_bits_are_what_is_stored():
    levels = torch.arange(256).float().div(255).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    torch.testing.assert_close(bit_depth(levels, bits=8), levels, atol=1e-6, rtol=0)


def test_gaussian_noise_has_the_asked_for_deviation_and_one_stream_per_image():
    grey = torch.full((2, 3, 64, 64), 0.5)
    after = gaussian_noise(grey, generators(1, 2), sigma=0.05)
    assert abs(float((after - grey).std()) - 0.05) < 0.002
    assert not torch.equal(after[0], after[1])
    assert torch.equal(gaussian_noise(grey[1:], generators(2), sigma=0.05)[0], after[1])


def test_gaussian_noise_of_equal_seeds_is_drawn_once_and_what_each_gives_alone(monkeypatch):
    image, seeds = noise(4, 3, 8, 8), (5, 6, 5, 5)
    alone = [
        gaussian_noise(row[None], generators(seed), sigma=0.05)
        for row, seed in zip(image, seeds, strict=True)
    ]
    shapes = []
    draw = torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda *shape, **options: shapes.append(shape) or draw(*shape, **options)
    )
    assert torch.equal(gaussian_noise(image, generators(*seeds), sigma=0.05), torch.cat(alone))
    assert len(shapes) == 2
    gaussian_noise(image, generators(5, 5, 5, 5), sigma=0.05)
    assert len(shapes) == 3


def test_resizing_by_one_changes_nothing_and_by_half_takes_the_finest_pattern_away():
    board = (torch.arange(32)[:, None] + torch.arange(32)[None]).remainder(2).float().expand(1, 3, 32, 32)
    torch.testing.assert_close(resize(board, factor=1.0), board)
    assert (resize(board, factor=0.5) - 0.5).abs()[..., 4:-4, 4:-4].max() < 0.1


def test_random_resize_and_pad_brings_the_image_back_to_its_own_place():
    ramp = torch.linspace(0.1, 0.9, 48).view(1, 1, 1, 48).expand(6, 3, 48, 48).clone()
    after = random_resize_pad(ramp, generators(*range(6)), factor=0.6)
    # linear interpolation of a ramp is the ramp: any shift or scale left behind would show
    torch.testing.assert_close(after[..., 4:-4], ramp[..., 4:-4], atol=1e-3, rtol=0)
    texture = noise(2, 3, 48, 48)
    first = random_resize_pad(texture, generators(1, 2), factor=0.6)
    assert not torch.equal(first, random_resize_pad(texture, generators(3, 4), factor=0.6))


def test_total_variation_falls_with_its_weight():
    def variation(image):
        return float((image[..., 1:] - image[..., :-1]).abs().mean())

    image = noise(1, 3, 24, 24)
    found = [variation(image), *(variation(tv(image, weight=weight)) for weight in (0.05, 0.2, 1.0))]
    assert found == sorted(found, reverse=True) and found[-1] < 0.5 * found[0]


def test_a_random_defence_draws_from_the_pixels_of_an_image():
    image = noise(1, 3, 16, 16)
    defence = load_defence("gaussian-noise")
    moved = image.clone()
    moved[0, 0, 0, 0] = (moved[0, 0, 0, 0] + 0.5) % 1
    first, second = (defence.apply(one) - one for one in (image, moved))
    assert (first - second).abs().mean() > 0.005
