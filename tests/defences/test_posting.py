"""Steps of posting: what they do to pixels, their gradients, and what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.defences.post_names import CHAINS, read_step, step_text
from afbench.defences.posting import SOCIAL_SIDE, load_step

STEPS = ("jpeg:75", "webp:80", "resize:0.75", "blur:1", "chain:social")


def photograph(height=40, width=56, seed=0):
    smooth = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic").clamp(0, 1)
    return (image * 255).round() / 255


def pixels(image):
    return (image[0] * 255).round().byte().permute(1, 2, 0).numpy()


def saved(image, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels(image)).save(stream, kind, **options)
    return np.asarray(Image.open(stream).convert("RGB"))


@pytest.mark.parametrize("text", STEPS)
def test_a_step_gives_eight_bit_images_that_depend_on_no_other(text):
    step = load_step(text)
    both = torch.cat([photograph(seed=1), photograph(seed=2)])
    posted = step.apply(both)
    assert torch.equal(posted, (posted * 255).round() / 255)
    assert torch.equal(posted[1:], step.apply(both[1:]))
    size = (30, 42) if text.startswith("resize") else (40, 56)
    assert posted.shape == (2, 3, *size)


def test_compression_is_that_of_pillow():
    image = photograph()
    assert np.array_equal(
        pixels(load_step("jpeg:60").apply(image)), saved(image, "JPEG", quality=60, subsampling="4:2:0")
    )
    assert np.array_equal(pixels(load_step("webp:70").apply(image)), saved(image, "WEBP", quality=70))


def test_shrinking_is_that_of_pillow_but_for_rounding():
    image = photograph()
    shrunk = Image.fromarray(pixels(image)).resize((28, 20), Image.Resampling.BILINEAR)
    difference = pixels(load_step("resize:0.5").apply(image)).astype(int) - np.asarray(shrunk)
    assert np.abs(difference).max() <= 1


def test_a_blurred_point_is_a_gaussian():
    image = torch.zeros(1, 3, 41, 41)
    image[:, :, 20, 20] = 1
    distance = np.hypot(*np.mgrid[-20:21, -20:21])
    expected = 255 * np.exp(-0.5 * (distance / 2) ** 2) / (2 * np.pi * 4)
    assert np.abs(pixels(load_step("blur:2").apply(image))[..., 0] - expected).max() <= 0.6
    flat = torch.full((1, 3, 9, 9), 100 / 255)
    torch.testing.assert_close(load_step("blur:5").apply(flat), flat)


def test_the_social_chain_is_its_documented_recipe():
    assert (
        CHAINS["social"].startswith("shrink to a longest side of at most 2048")
        and "JPEG 85" in CHAINS["social"]
    )
    small, large = photograph(), photograph(8, 4 * SOCIAL_SIDE // 2)
    chain = load_step("chain:social")
    assert torch.equal(chain.apply(small), load_step("jpeg:85").apply(small))
    assert chain.apply(large).shape == (1, 3, 4, SOCIAL_SIDE)
    assert chain.params == {"chain": "social", "recipe": CHAINS["social"]}


def test_attacks_average_over_qualities_around_the_stated_one():
    image = photograph()
    step = load_step("jpeg:75")
    draws = [step.through(image, number) for number in range(step.draws)]
    for posted, quality in zip(draws, (65, 70, 75, 80, 85), strict=True):
        assert torch.equal(posted, load_step(f"jpeg:{quality}").apply(image))
    top = load_step("jpeg:98")
    assert torch.equal(top.through(image, 4), load_step("jpeg:100").apply(image))


@pytest.mark.parametrize("text", STEPS)
def test_every_step_has_a_gradient(text):
    step, image = load_step(text), photograph().requires_grad_()
    for draw in range(step.draws):
        (slope,) = torch.autograd.grad(step.through(image, draw).sum(), image)
        assert torch.isfinite(slope).all()
        # shrinking and blurring keep the mean, compression counts as the identity
        share = 0.75**2 if text.startswith("resize") else 1
        assert float(slope.mean()) == pytest.approx(share, rel=0.02)


def test_steps_are_written_in_one_way():
    assert step_text("JPEG:90") == step_text("jpeg:90.0") == "jpeg:90"
    assert step_text("blur") == "blur:1" and step_text("chain:social") == "chain:social"
    assert load_defence("post-jpeg:90").label == load_step("jpeg:90").label == "post-jpeg-90"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "jpgg:75",
            "posting step 'jpgg:75' is unknown; did you mean jpeg? known steps: jpeg:QUALITY, webp:QUALITY",
        ),
        ("", "posting step '' is unknown"),
        ("chain:other", "posting chain 'chain:other' is unknown; known chains: chain:social"),
        ("chain", "posting chain 'chain' is unknown"),
        ("jpeg:0", "the quality of posting step jpeg must be from 1 to 100; found '0'"),
        ("resize:2", "the factor of posting step resize must be from 0.05 to 1; found '2'"),
        ("blur:nan", "the sigma of posting step blur must be from 0.1 to 20; found 'nan'"),
    ],
)
def test_wrong_steps_are_refused_in_one_line(text, words):
    with pytest.raises(UsageError) as caught:
        read_step(text)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
