"""The embedded localizer really localizes, and really falls; bounds far from the card's figures, which need more images."""

from statistics import fmean

import pytest

from afbench import load_localizer
from afbench.engine import judge, run_settings
from afbench.metrics import f1
from afbench.plans import expand_attack
from afbench.sources import open_source

COUNT = 16


@pytest.fixture(scope="module")
def localizer():
    return load_localizer("reference")


@pytest.fixture(scope="module")
def samples():
    source = open_source("demo", limit=COUNT)
    return [source.read(sample_id) for sample_id in source.ids]


@pytest.fixture(scope="module")
def before(localizer, samples):
    images, masks = [one.image for one in samples], [one.mask for one in samples]
    return judge(localizer, images, masks, batch_size=8, device="cpu")


def _share_left(localizer, samples, before, attack, **swept):
    (setting,) = expand_attack(attack, **swept)
    options = {"seed": 0, "batch_size": 16, "device": "cpu", "image_format": "webp"}
    rows = run_settings(localizer, samples, before, [setting], **options)[setting]
    return fmean(f1(row.attacked_result.counts) for row in rows) / fmean(f1(one.counts) for one in before)


def test_the_reference_localizer_finds_forgeries_it_never_saw(before, samples):
    chance = fmean(2 * (one.mask > 0).mean() / (1 + (one.mask > 0).mean()) for one in samples)
    found = fmean(f1(one.counts) for one in before)
    assert found > 0.65
    assert found > 3 * chance


def test_random_noise_of_three_levels_hides_little(localizer, samples, before):
    assert _share_left(localizer, samples, before, "noise", phi=["3/255"]) > 0.6


def test_pgd_of_one_level_blinds_the_reference_localizer(localizer, samples, before):
    assert _share_left(localizer, samples, before, "pgd", phi=["1/255"]) < 0.45


def test_fifty_steps_of_cw_blind_the_reference_localizer(localizer, samples, before):
    assert _share_left(localizer, samples[:4], before[:4], "cw", steps=[50]) < 0.5
