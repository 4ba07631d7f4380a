"""Noise that is kept inside or outside of the forged pixels."""

from itertools import product

import pytest
import torch

from afbench.core import UsageError
from afbench.engine.grid import AttackBatch, attack_batch
from afbench.engine.meter import Meter
from afbench.localizers import load_localizer
from afbench.plans import ATTACKS, make_setting
from afbench.storage import pixels as pixel_checks
from afbench.storage.manifests import open_benchmark
from afbench.storage.verify import verify

KEEPING = sorted(name for name, attack in ATTACKS.items() if "where" in attack.parameters)


def batch():
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(2, 3, 32, 32, generator=generator) * 255).round() / 255
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, 4:20, 6:22] = 1
    mask[1, :, 10:30, 2:12] = 1
    return AttackBatch(["a", "b"], image, mask)


def attacked(names, where, phi="3/255"):
    made = batch()
    params = {"steps": 3} if "steps" in ATTACKS[names].defaults else {}
    setting = make_setting(names, phi, params | ({"where": where} if where else {}))
    (result,) = attack_batch(
        load_localizer("reference"), made, [setting], seed=0, batch_size=2, meter=Meter()
    )
    return made, result.image


def test_every_attack_in_signed_steps_keeps_to_a_region():
    assert KEEPING == ["apgd", "bim", "cospgd", "fgsm", "mifgsm", "pgd", "pgn", "segpgd"]


@pytest.mark.parametrize(("name", "where"), list(product(KEEPING, ["forged", "authentic"])))
def test_noise_stays_in_its_region_and_moves_pixels_there(name, where):
    made, image = attacked(name, where)
    inside = (made.mask > 0) == (where == "forged")
    moved = (image != made.image).any(dim=1, keepdim=True)
    assert not moved[~inside].any()
    assert moved[inside].float().mean() > 0.9
    assert (image - made.image).abs().max() <= 3 / 255 + 1e-6


def test_fgsm_in_a_region_is_fgsm_there():
    made, everywhere = attacked("fgsm", None)
    for where in ("forged", "authentic"):
        inside = (made.mask > 0) == (where == "forged")
        assert torch.equal(attacked("fgsm", where)[1], torch.where(inside, everywhere, made.image))


def test_everywhere_is_the_attack_without_the_option_and_is_not_recorded():
    assert make_setting("pgd", "1/255", {"where": "all"}) == make_setting("pgd", "1/255")
    labels = {
        make_setting("pgd", "1/255", {"where": where}).label for where in ("forged", "authentic", "all")
    }
    assert len(labels) == 3
    assert make_setting("pgd", "1/255", {"where": "forged"}).params["where"] == "forged"


def test_settings_of_several_regions_share_a_run_and_equal_those_run_alone():
    localizer, made = load_localizer("reference"), batch()
    settings = [
        make_setting("bim", "2/255", {"steps": 2, "where": where}) for where in ("all", "forged", "authentic")
    ]
    together = [
        result.image
        for result in attack_batch(localizer, made, settings, seed=0, batch_size=6, meter=Meter())
    ]
    for setting, image in zip(settings, together, strict=True):
        (alone,) = attack_batch(localizer, made, [setting], seed=0, batch_size=6, meter=Meter())
        torch.testing.assert_close(alone.image, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["forged", "authentic"])
def test_a_benchmark_holds_it_and_verify_checks_it(afbench, tmp_path, monkeypatch, where):
    ran = afbench(
        "generate", "--localizer", "reference", "--attack", "pgd", "--phi", "2/255", "--where", where,
        "--param", "steps=2", "--limit", "2", "--out", "B",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    folder = tmp_path / "B"
    assert verify(folder, level="deep") == []
    (manifest,) = open_benchmark(folder).attacked.values()
    assert manifest.provenance["params"]["where"] == where
    # noise elsewhere would be a problem: let the check believe that it was to be on the other side
    other = "authentic" if where == "forged" else "forged"
    real = pixel_checks._check_distance
    monkeypatch.setattr(
        pixel_checks,
        "_check_distance",
        lambda stored, original, bound, region: real(stored, original, bound, other),
    )
    problems = verify(folder, level="deep")
    assert len(problems) == 2 and all(
        f"pixels outside of where={other}" in str(problem) for problem in problems
    )


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        (("cw",), "attack 'cw' cannot keep its noise in a region"),
        (("strong",), "attack 'strong' cannot keep its noise in a region"),
        (("bim", "square"), "attack 'square' cannot keep its noise in a region"),
        (("noise",), "attack 'noise' cannot keep its noise in a region"),
        (("torchattacks:pgd",), "attack 'torchattacks:PGD' cannot keep its noise in a region"),
    ],
)
def test_attacks_that_cannot_keep_it_refuse_in_one_line(afbench, attacks, words):
    named = [text for attack in attacks for text in ("--attack", attack)]
    ran = afbench("plan", "--localizer", "reference", "--source", "demo", *named, "--where", "forged")
    assert ran.code == 2 and words in ran.err and len(ran.err.strip().splitlines()) == 1


def test_an_unknown_region_is_refused(afbench):
    with pytest.raises(UsageError, match="where must be one of all, forged, authentic; found 'mask'"):
        make_setting("pgd", "1/255", {"where": "mask"})
    assert afbench("plan", "--localizer", "reference", "--attack", "pgd", "--where", "mask").code == 2
