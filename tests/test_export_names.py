"""Exports of samples and into folders whose names other readers do not take for names."""

import shutil

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from afbench import load
from afbench.core import AfbenchError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import CLEAN
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing import formats as forms
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.formats import member_key
from afbench.workflows.request import Options


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def hidden_names(tmp_path_factory):
    """A benchmark of samples whose names readers of tars pass over or take apart."""
    base = tmp_path_factory.mktemp("hidden")
    names = ("__", "__a", "___b", "_c", "d.e", "__f.g", "-h")
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mask = np.where(np.arange(32) < 9 + number, np.uint8(255), np.uint8(0))[None].repeat(32, axis=0)
        for folder, content in (("images", pixels), ("masks", mask)):
            (base / "in" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(base / "in" / folder / f"{name}.png")
    block = Block(
        ("reference",), (SourceSpec("folder", str(base / "in")),), tuple(expand_attack("fgsm", phi=["1/255"]))
    )
    generate(RunPlan("hidden", (block,)), base / "out", Options(checkpoint="random"))
    return base / "out", sorted(names)


def test_every_sample_of_a_web_dataset_is_read_whatever_its_name(hidden_names, tmp_path):
    data, names = hidden_names
    export(data, tmp_path / "tars", "webdataset")
    for config in (CLEAN, "reference-fgsm-1"):
        loaded = datasets.load_dataset(
            str(tmp_path / "tars"), config, split="folder", cache_dir=str(tmp_path / "cache")
        )
        assert sorted(row["json"]["sample_id"] for row in loaded) == names
        assert len({row["__key__"] for row in loaded}) == len(names)
        # webdataset's own rule for what is no sample
        assert not any(row["__key__"].startswith("__") for row in loaded)


def test_a_tar_of_which_a_sample_is_not_read_ends_the_export(hidden_names, tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "member_key", lambda sample_id: sample_id.replace(".", "~"))
    with pytest.raises(AfbenchError, match="holds 7 samples, of which `datasets` reads 3"):
        export(hidden_names[0], tmp_path / "tars", "webdataset")
    assert not (tmp_path / "tars" / "MANIFEST.json").exists()


@settings(max_examples=300)
@given(st.lists(st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True), unique=True))
def test_keys_of_members_differ_where_names_do_and_are_read(names):
    keys = [member_key(name) for name in names]
    assert len({*keys}) == len(names)
    assert not any(key.startswith(("__", ".")) or "." in key for key in keys)


@pytest.mark.parametrize("name", ["a[1]", "a*", "what?", "a::b", "b]"])
def test_a_folder_that_datasets_takes_for_a_pattern_is_refused(made, afbench, tmp_path, name):
    generated = (
        "generate",
        "--localizer",
        "reference",
        "--attack",
        "fgsm",
        "--source",
        "demo",
        "--limit",
        "1",
    )
    for arguments in (("export", made.folder, "--to", "webdataset"), generated):
        ran = afbench(*arguments, "--out", name)
        assert ran.code == 2 and "is a pattern to `datasets`" in ran.err.splitlines()[-1]
    (tmp_path / name).mkdir()
    ran = afbench(*generated, "--out", f"{name}/below")
    assert ran.code == 2 and "is a pattern to `datasets`" in ran.err.splitlines()[-1]
    assert [path.name for path in tmp_path.rglob("*")] == [name]


def test_a_benchmark_that_lies_in_such_a_folder_already_is_opened_and_grows(made, afbench, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / "a[1]")
    arguments = (
        "--localizer",
        "reference",
        "--checkpoint",
        "random",
        "--attack",
        "fgsm",
        "--phi",
        "2/255",
        "--shard-size",
        "2",
    )
    ran = afbench("generate", *arguments, "--source", f"folder:{made.root}", "--out", folder)
    assert ran.code == 0 and f'afbench.load("{folder}", "reference-fgsm-2")' in ran.out, ran.err
    assert afbench("verify", folder).code == 0 and len(load(folder, "reference-fgsm-2")) == 5
