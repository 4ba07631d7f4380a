"""``scripts/train_ansm``: what it trains on, that it goes on where it stopped, and that what ships was made by its preset."""

import json
import multiprocessing.dummy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from afbench.defences.ansm.checkpoint import load_ansm
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import complete_settings
from afbench.localizers import load_localizer
from afbench.sources.synthesis import load_photographs, synthesize

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, "train_parts.synthesised_pairs", raising=False)
    import train_parts.synthesised_pairs as module

    monkeypatch.setattr(module, "PICTURES_A_FILE", 2)
    return module


def brighten(original, mask):
    return (original + mask / 255).clamp(0, 1)


def make(script, folder, count):
    done = []
    pairs = script.make_pairs(folder, count, brighten, workers=1, device="cpu", advance=done.append)
    return pairs, done


def test_a_pair_is_a_synthesised_forgery_and_its_attacked_copy(script, tmp_path):
    pairs, done = make(script, tmp_path, 3)
    assert len(pairs) == len(set(pairs.groups)) == 3 and done == [0, 2, 1]
    for index in range(3):
        forgery = synthesize(
            script.SEED,
            index,
            size=(128, 128),
            photographs=load_photographs("train"),
            photograph_share=script.PHOTOGRAPH_SHARE,
        )
        original = torch.from_numpy(forgery.image).permute(2, 0, 1).float() / 255
        mask = torch.from_numpy(forgery.mask)[None].float() / 255
        assert torch.equal(pairs[index]["original"], original)
        assert torch.equal(pairs[index]["mask"], mask)
        expected = brighten(original, mask)  # whole levels, apart from rounding
        assert torch.allclose(pairs[index]["adversarial"], expected, atol=1e-6)


def test_more_pictures_begin_with_the_same_ones_and_whole_files_are_kept(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "get_context", lambda kind: multiprocessing.dummy)  # no process loads torch
    make(script, tmp_path, 3)
    first, second = sorted(tmp_path.glob("*.npy"))
    kept, short = first.stat().st_mtime_ns, np.load(second)
    pairs, done = make(script, tmp_path, 4)
    assert done == [2, 2] and len(pairs) == 4
    assert first.stat().st_mtime_ns == kept
    assert np.array_equal(np.load(second)[:1], short)


def test_preset_shipped_is_how_the_module_that_ships_was_made():
    card = json.loads((ROOT / "afbench/defences/ansm/weights/reference.json").read_text())
    expected = json.loads(json.dumps(preset("shipped", "reference").as_json()))
    assert complete_settings(card["settings"]) == expected


@pytest.fixture
def seen_attacks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_parts.seen_attacks as module

    return module


def test_what_a_training_sees_has_a_name_of_its_own_and_steps_once_outside_of_mix(seen_attacks):
    for name, attacks in seen_attacks.ATTACKS.items():
        distinct = {
            (seen.setting.attack, seen.setting.label, seen.turned, seen.on_finder) for seen in attacks
        }
        assert len(distinct) == len({seen.name for seen in attacks})
        assert seen_attacks.FGSM in attacks
        assert not any(seen.setting.attack == "cw" for seen in attacks)
        assert (name == "mix") == any(seen.setting.steps > 1 for seen in attacks)


def test_an_attack_on_the_finder_lowers_what_the_finder_sees_and_not_its_weights(seen_attacks):
    localizer = load_localizer("reference")
    module = load_ansm(None, localizer="reference").module
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    forgery = synthesize(1, 3, size=(64, 64), photographs=load_photographs("train"), photograph_share=0.0)
    image = torch.from_numpy(forgery.image).permute(2, 0, 1)[None].float() / 255
    truth = (torch.from_numpy(forgery.mask)[None, None] > 0).float()
    seen = seen_attacks.SeenAttack(seen_attacks.from_random_start("3/255"), on_finder=True)
    attack = seen_attacks.attack_of(seen, localizer, module, 0)
    attacked = attack(image, truth, torch.Generator().manual_seed(0))
    assert 0 < 255 * (attacked - image).abs().max() < 3.01

    def loss(pixels):
        return torch.nn.functional.binary_cross_entropy_with_logits(module.finder(pixels).forged, truth)

    with torch.no_grad():
        assert loss(attacked) > loss(image)
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
