"""The counter-based hash: against plain integers, pinned values, and the statistics of what comes out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attacks import signs, uniform

MASK = 2**32 - 1
SHAPE = (3, 256, 256)
GOLDEN_NUMBERS = [
    [7712517, -4212227, -4110937],
    [-5839423, -226903, -5296142],
    [-6296942, 4297236, -7867656],
    [-7646867, -7322137, -8359029],
]
GOLDEN_SIGNS = [[-1, 1, 1, -1, -1, -1], [-1, 1, 1, 1, 1, -1], [-1, 1, 1, 1, 1, -1], [1, -1, -1, -1, -1, 1]]
some_keys = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4)
some_draw = st.integers(0, MASK)


def mix(word: int) -> int:
    word ^= word >> 16
    word = word * 0x7FEB352D & MASK
    word ^= word >> 15
    word = word * 0x846CA68B & MASK
    return word ^ word >> 16


def bits(key: int, draw: int, position: int) -> int:
    """Say in plain integers what the tensors must hold."""
    first = mix(mix(key & MASK) ^ draw * 0x9E3779B9 & MASK)
    second = mix(mix((key >> 32 & MASK) ^ first) ^ draw * 0x85EBCA6B & MASK)
    return mix(mix(position ^ first) ^ second)


def correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


@settings(max_examples=15)
@given(keys=some_keys, draw=some_draw)
def test_tensors_hold_what_plain_integers_say(keys: list[int], draw: int) -> None:
    numbers, coins = (f(torch.tensor(keys), (2, 3, 5), draw) for f in (uniform, signs))
    for index, key in enumerate(keys):
        words = [bits(key, draw, position) for position in range(30)]
        signed = [word - 2**32 if word >= 2**31 else word for word in words]
        assert numbers[index].flatten().tolist() == [(word >> 8) / 2**23 for word in signed]
        assert coins[index].flatten().tolist() == [1.0 if word & 1 else -1.0 for word in words]


def test_golden_values() -> None:
    keys = torch.tensor([0, 1, -1, 2**62 + 12345])
    numbers = (uniform(keys, (1, 1, 3), 7) * 2**23).to(torch.int32)
    assert numbers.flatten(1).tolist() == GOLDEN_NUMBERS
    assert signs(keys, (1, 1, 6), 7).int().flatten(1).tolist() == GOLDEN_SIGNS


@settings(max_examples=15)
@given(keys=some_keys, draw=some_draw, data=st.data())
def test_an_image_does_not_depend_on_batch_and_order(keys: list[int], draw: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(keys))))
    for f in (uniform, signs):
        together = f(torch.tensor(keys), (3, 4, 5), draw)
        shuffled = f(torch.tensor([keys[index] for index in order]), (3, 4, 5), draw)
        assert torch.equal(shuffled, together[order])
        assert torch.equal(f(torch.tensor(keys[:1]), (3, 4, 5), draw), together[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_bits() -> None:
    keys = torch.tensor([0, 1, -1, 2**62 + 12345])
    for f in (uniform, signs):
        expected = f(keys, SHAPE, 2**32 - 1)
        assert torch.equal(f(keys, SHAPE, 2**32 - 1, device="cuda").cpu(), expected)
        assert torch.equal(f(keys.cuda(), SHAPE, 2**32 - 1).cpu(), expected)


def test_threads_and_the_callers_generator_do_not_matter() -> None:
    keys = torch.tensor([5, 6])
    state = torch.get_rng_state()
    expected = uniform(keys, SHAPE, 0)
    torch.set_num_threads(2)
    try:
        assert torch.equal(uniform(keys, SHAPE, 0), expected)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(keys, torch.tensor([5, 6]))


@pytest.mark.parametrize("key", [0, 1, -1, 2**40])
@pytest.mark.parametrize("draw", [0, 1, 199])
def test_numbers_are_uniform_in_the_half_open_interval(key: int, draw: int) -> None:
    numbers = uniform(torch.tensor([key]), SHAPE, draw).double()
    count = numbers.numel()
    assert numbers.min() >= -1
    assert numbers.max() < 1
    assert numbers.abs().max() > 0.9999
    # The deviation of a mean is sqrt(1/3 / count), that of a variance sqrt(4/45 / count).
    assert abs(numbers.mean()) < 4 * math.sqrt(1 / 3 / count)
    assert abs(numbers.square().mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / count)


@pytest.mark.parametrize("shift", [0, 8, 16])
def test_chi_square_of_the_high_middle_and_low_bits(shift: int) -> None:
    numbers = uniform(torch.arange(4), SHAPE, 3)
    whole = (numbers * 2**23).to(torch.int32) + 2**23
    observed = torch.bincount((whole >> shift & 255).flatten(), minlength=256).double()
    expected = numbers.numel() / 256
    statistic = ((observed - expected).square() / expected).sum()
    # 255 degrees of freedom: deviation sqrt(2 * 255).
    assert abs(statistic - 255) < 4 * math.sqrt(510)


def test_numbers_have_24_bits() -> None:
    whole = uniform(torch.arange(8), SHAPE, 0).double() * 2**23
    assert torch.equal(whole, whole.round())
    assert (whole % 2 != 0).double().mean().item() == pytest.approx(0.5, abs=0.002)


def test_pixels_keys_and_draws_are_not_correlated() -> None:
    keys = torch.tensor([1000, 1001, 1000 + 2**32, 1000 + 2**16])
    numbers = uniform(keys, SHAPE, 0)
    bound = 4.5 / math.sqrt(SHAPE[0] * SHAPE[1] * SHAPE[2])
    one = numbers[0]
    assert abs(correlation(one[:, :, 1:], one[:, :, :-1])) < bound
    assert abs(correlation(one[:, 1:], one[:, :-1])) < bound
    assert abs(correlation(one[1:], one[:-1])) < 1.3 * bound
    for other in (*numbers[1:], *(uniform(keys[:1], SHAPE, draw)[0] for draw in (1, 2, 3, 2**31))):
        for shifted in (other, other.roll(1, -1), other.roll(1, -2)):
            assert abs(correlation(one, shifted)) < bound
            assert abs(correlation(one.square(), shifted.square())) < bound
    for other in signs(keys, SHAPE, 0):
        assert abs(correlation(one, other)) < bound


def test_flipping_one_bit_of_the_key_or_the_draw_flips_half_of_the_bits() -> None:
    def words(key: int, draw: int) -> Tensor:
        return (uniform(torch.tensor([key]), (1, 32, 32), draw) * 2**23).to(torch.int32) & 0xFFFFFF

    def share(first: Tensor, second: Tensor) -> float:
        flipped = first ^ second
        return sum((flipped >> bit & 1).double().mean().item() for bit in range(24)) / 24

    base = words(123456789, 5)
    flips = [share(base, words(123456789 ^ 1 << bit, 5)) for bit in range(63)]
    flips += [share(base, words(123456789, 5 ^ 1 << bit)) for bit in range(32)]
    # 24 576 bits each: deviation 0.0032.
    assert all(abs(flip - 0.5) < 0.016 for flip in flips)


def test_many_keys_and_draws_never_repeat_a_picture() -> None:
    keys = torch.cat([torch.arange(500), torch.arange(500) << 32])
    pictures = torch.cat([uniform(keys, (1, 1, 4), draw).flatten(1) for draw in range(20)])
    # Key 0 appears in both halves of the list, once for each draw.
    assert len(pictures.unique(dim=0)) == len(pictures) - 20


def test_signs_are_fair() -> None:
    coins = signs(torch.arange(4), SHAPE, 0)
    assert coins.unique().tolist() == [-1.0, 1.0]
    assert abs(coins.mean()) < 4 / math.sqrt(coins.numel())


def test_shape_and_dtype() -> None:
    for f in (uniform, signs):
        numbers = f(torch.tensor([1, 2]), (3, 4, 5), 0)
        assert numbers.shape == (2, 3, 4, 5)
        assert numbers.dtype == torch.float32
        assert f(torch.empty(0, dtype=torch.int64), (3, 4, 5), 0).shape == (0, 3, 4, 5)


def test_wrong_keys_and_draws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keys must be int64 \(N,\); found torch.float32 \(2,\)"):
        uniform(torch.zeros(2), (3, 4, 4), 0)
    with pytest.raises(ValueError, match=r"keys must be int64 \(N,\); found torch.int64 \(\)"):
        signs(torch.tensor(3), (3, 4, 4), 0)
    for draw in (-1, 2**32):
        with pytest.raises(ValueError, match=r"draw must be in \[0, 2\*\*32\); found"):
            uniform(torch.tensor([1]), (3, 4, 4), draw)
