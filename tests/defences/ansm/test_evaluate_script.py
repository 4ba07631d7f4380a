"""``scripts/evaluate_ansm``: its table counts what the module as it is used restores."""

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import afbench
from afbench.defences import load_defence
from afbench.defences.training.weights_file import read_tensors
from afbench.images import resize
from afbench.metrics import count_pixels, f1
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def script(monkeypatch):
    loader = SourceFileLoader("evaluate_ansm", str(ROOT / "scripts" / "evaluate_ansm"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "COLUMNS", {"originals": "clean", "FGSM 3/255": "reference-fgsm-3"})
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held-out") / "data"
    fgsm = tuple(expand_attack("fgsm", phi=["3/255"]))
    plan = RunPlan("held-out", (Block(("reference",), (SourceSpec("demo"),), fgsm),), limit=2)
    generate(plan, folder, Options())
    return folder


def test_a_module_trained_on_resized_images_is_judged_at_the_size_of_the_truth(script, data, tmp_path):
    shipped = ROOT / "afbench" / "defences" / "ansm" / "weights" / "reference.safetensors"
    tensors, header = read_tensors(shipped)
    header["settings"].update(fit="resize", side=64)
    tensors["finder.attacked.bias"] += 10_000  # takes every image for attacked
    tensors["finder.network.head.bias"] += 20  # and finds something in it
    save_file(tensors, tmp_path / "module.safetensors", metadata={"afbench": json.dumps(header)})
    module = f"ansm:{tmp_path / 'module.safetensors'}"
    figures = script.measure(data, module, "cpu")

    localizer = afbench.load_localizer("reference")
    network = load_defence(module, localizer="reference").network
    for column, config in script.COLUMNS.items():
        expected = []
        for item in afbench.load(data, config):
            small = resize(item["adversarial"][None], (64, 64))
            with torch.no_grad():
                probability = resize(localizer.probability(network(small)), item["mask"].shape[-2:])
            mask = (probability > localizer.threshold)[0, 0].numpy()
            expected.append(f1(count_pixels(mask, item["mask"].numpy()[0] > 0.5)))
        assert figures.f1["module", column] == expected
        assert all(0 < level < 64 for level in figures.rms[column])
    assert "| module |" in script.table(figures)


def test_the_bare_localizer_restores_all_of_its_own_originals(script, data):
    lines = script.table(script.measure(data, "ansm", "cpu")).splitlines()
    assert lines[0] == "| RP | originals | FGSM 3/255 |"
    (bare,) = [line for line in lines if line.startswith("| bare |")]
    assert bare.startswith("| bare | 100 (100 to 100) |")
    assert lines[-1].startswith("2 forgeries;")
