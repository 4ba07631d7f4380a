"""What every defence promises; registering one is enough to put it under these tests."""

import numpy as np
import pytest
import torch

from afbench.core import UsageError
from afbench.defences import load_defence, names, registry
from afbench.defences.names import defence_names

NAMES = defence_names()
SIZES = [(24, 40), (33, 21), (64, 64)]


@pytest.fixture(scope="module", params=NAMES)
def text(request, nrp_checkpoint):
    return f"nrp:{nrp_checkpoint}" if request.param == "nrp" else request.param


@pytest.fixture(scope="module")
def defence(text):
    return load_defence(text, localizer="reference", seed=3)


@pytest.fixture
def image(picture):
    def draw(height=24, width=40, count=2):
        pixels = np.stack([picture(height, width, seed=number) for number in range(count)])
        # smooth enough that every defence leaves most of it
        smooth = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
        return torch.nn.functional.avg_pool2d(smooth, 5, stride=1, padding=2, count_include_pad=False)

    return draw


def passes(defence):
    """What is evaluated, and every draw an attack may look through."""
    return [defence.apply, *(lambda x, k=k: defence.through(x, k) for k in range(min(defence.draws, 2)))]


@pytest.mark.parametrize("size", SIZES)
def test_the_result_has_the_shape_type_and_range_of_the_image(defence, image, size):
    before = image(*size)
    kept = before.clone()
    for run in passes(defence):
        after = run(before)
        assert after.shape == before.shape and after.dtype == before.dtype
        assert torch.isfinite(after).all() and after.min() >= 0 and after.max() <= 1
        assert torch.equal(before, kept)


def test_an_image_does_not_depend_on_its_batch_or_its_place_in_it(defence, image):
    batch = image(count=3)
    for run in passes(defence):
        together = run(batch)
        turned = run(batch.flip(0)).flip(0)
        for number in range(3):
            torch.testing.assert_close(
                run(batch[number : number + 1])[0], together[number], atol=1e-5, rtol=0
            )
            torch.testing.assert_close(turned[number], together[number], atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_and_another_one_only_moves_what_is_random(defence, text, image):
    again, other = (load_defence(text, localizer="reference", seed=seed) for seed in (3, 4))
    before = image()
    assert torch.equal(again.apply(before), defence.apply(before))
    assert torch.equal(again.through(before), defence.through(before))
    same = torch.equal(other.apply(before), defence.apply(before))
    assert same == defence.deterministic
    assert torch.equal(other.through(before), defence.through(before)) == defence.deterministic


def test_random_state_of_the_process_is_neither_used_nor_touched(defence, image):
    before = image()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = defence.apply(before)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(defence.apply(before), first)


def test_a_gradient_comes_through_and_is_finite(defence, image):
    before = image().requires_grad_()
    weights = torch.rand(before.shape, generator=torch.Generator().manual_seed(5))
    for draw in range(min(defence.draws, 2)):
        (slope,) = torch.autograd.grad((defence.through(before, draw) * weights).sum(), before)
        assert torch.isfinite(slope).all() and (slope != 0).float().mean() > 0.5
        if defence.gradient == "bpda":
            assert torch.equal(slope, weights)


def test_what_an_attack_looks_through_is_what_is_evaluated_unless_it_is_random(defence, image):
    before = image()
    seen = [defence.through(before, draw) for draw in range(defence.draws)]
    if defence.deterministic:
        assert len(seen) == 1 and torch.equal(seen[0], defence.apply(before))
    else:
        assert not any(torch.equal(one, defence.apply(before)) for one in seen)
        assert len({tuple(one.flatten()[:50].tolist()) for one in seen}) == defence.draws > 1


@pytest.mark.parametrize("level", [0.2, 0.6])
def test_a_grey_image_stays_about_as_grey(defence, level):
    if defence.network is not None:
        pytest.skip("what was trained promises nothing of an image without content")
    grey = torch.full((1, 3, 32, 32), level)
    after = defence.apply(grey)
    assert abs(float(after.mean()) - level) < 0.02
    assert float(after.std()) < 0.02


def test_values_outside_of_the_range_are_taken(defence, image):
    after = defence.through(image() * 1.5 - 0.25)
    assert torch.isfinite(after).all()


def test_float64_goes_through_in_float64(defence, image):
    if defence.network is not None:
        pytest.skip("weights have one type")
    after = defence.through(image().double())
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), defence.through(image()), atol=0.05, rtol=0)


def test_labels_and_descriptions_tell_settings_apart(defence):
    assert defence.label.startswith(defence.name)
    told = defence.describe()
    assert told["name"] == defence.name and told["gradient"] in ("exact", "bpda", "surrogate")
    assert (told["seed"] is None) == defence.deterministic == (told["draws"] == 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prayer", "known defences: none, jpeg"),
        ("", "known defences"),
        ("none:1", "known defences"),
        ("jpeg:", "from 1 to 100; found ''"),
        ("jpeg:0", "from 1 to 100"),
        ("jpeg:7.5", "from 1 to 100"),
        ("resize:0", "from 0.05 to 1"),
        ("resize:nan", "from 0.05 to 1"),
        ("resize:1e-99999999", "from 0.05 to 1"),
        ("median:4", "an odd number from 1 to 15"),
        ("bit-depth:9", "from 1 to 8"),
        ("tv:-1", "the weight of tv"),
        ("gaussian-noise:3", "e.g. 4/255"),
        ("gaussian-noise:1/0", "e.g. 4/255"),
        ("ansm:", "the checkpoint of ansm is empty"),
        ("nrp", "nrp ships without weights"),
        ("nrp:", "nrp ships without weights"),
    ],
)
def test_what_is_no_defence_is_refused_in_one_line(text, told):
    with pytest.raises(UsageError, match=told) as refused:
        load_defence(text)
    assert "\n" not in str(refused.value)


def test_settings_are_read_as_people_write_them():
    assert load_defence("gaussian-noise:8/255").params == {"sigma": pytest.approx(8 / 255)}
    assert load_defence("gaussian-noise:8/255").label == "gaussian-noise-8"
    assert load_defence("jpeg").label == "jpeg-75" and load_defence("jpeg:60").params == {"quality": 60}
    assert load_defence("resize:1/2").label == "resize-0.5"


def test_a_label_counts_levels_only_where_the_setting_says_it_is_a_share_of_the_range(monkeypatch):
    """Whatever the setting is called: a blur's sigma is in pixels."""
    numbers = {
        "blur": names.Number("sigma", 1, 0, 9),
        "dither": names.Number("step", 2 / 255, 0, 1, of_range=True),
    }
    for name, number in numbers.items():
        monkeypatch.setitem(names.TRANSFORMS, name, names.Transform(number, "", ""))
        monkeypatch.setitem(registry._TABLE, name, registry._Fixed(lambda image, **setting: image, "exact"))
    labels = [load_defence(text).label for text in ("blur:1", "blur:0.5", "dither", "dither:1/255")]
    assert labels == ["blur-1", "blur-0.5", "dither-2", "dither-1"]
