"""``scripts/train_ansm``: what it trains on, that it goes on where it stopped, and that what ships was made by its preset."""

import json
import multiprocessing.dummy
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import complete_settings
from afbench.defences.training.weights_file import pack, read_tensors
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
def training_attacks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import train_parts.training_attacks as module

    return module


def test_what_a_training_sees_has_a_name_of_its_own_and_steps_once_outside_of_mix(training_attacks):
    for name, attacks in training_attacks.ATTACKS.items():
        labels = {(variant.setting.attack, variant.setting.label, variant.turned) for variant in attacks}
        assert len(labels) == len({variant.name for variant in attacks})
        assert training_attacks.FGSM in attacks
        assert not any(variant.setting.attack == "cw" for variant in attacks)
        assert (name == "mix") == any(variant.setting.steps > 1 for variant in attacks)


def run_script(monkeypatch, name, *arguments):
    """Run a script as its command does, in this process, and return its exit code."""
    script = ROOT / "scripts" / name
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr("afbench.cores.share_cores", lambda: None)
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    return end.value.code


def test_a_module_that_no_training_can_begin_with_is_refused_before_pictures_are_made(
    trained, monkeypatch, tmp_path, capsys
):
    tensors, card = read_tensors(trained / "best.safetensors")
    card["localizer"]["name"] = "reference"
    of_paper = tmp_path / "paper.safetensors"
    of_paper.write_bytes(pack(tensors, card))
    out = tmp_path / "out"
    for start, reason in ((tmp_path / "missing", "does not exist"), (of_paper, "no finder and writer")):
        assert run_script(monkeypatch, "train_ansm", "--start", start, "--out", out) == 2
        message = capsys.readouterr().err
        assert message.startswith("train_ansm: error: ") and reason in message
        assert message.count("\n") == 1
    assert not out.exists()


def test_a_module_that_cannot_be_judged_is_refused_before_forgeries_are_attacked(
    monkeypatch, tmp_path, capsys
):
    options = ("--module", tmp_path / "missing", "--held-out", tmp_path / "held-out")
    assert run_script(monkeypatch, "evaluate_ansm", *options) == 2
    message = capsys.readouterr().err
    assert message.startswith("evaluate_ansm: error: ") and "does not exist" in message
    assert not (tmp_path / "held-out").exists()
