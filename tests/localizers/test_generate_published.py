"""A benchmark of a published localizer: untrained weights are told, and phi holds on what is stored."""

import json
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from as_released import as_released
from fill import GAIN
from PIL import Image

from afbench.images import decode_stored
from afbench.localizers import load
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.register import add_weights
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify

one_for_each = pytest.mark.parametrize("name", GAIN)
FGSM = ("--attack", "fgsm", "--phi", "1/255")


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """Register weights of some localizers, so that several run at once."""
    monkeypatch.setenv("AFBENCH_WEIGHTS", str(tmp_path / "weights"))

    def register(*names):
        for name in names:
            torch.save(load.recipe(name).network().state_dict(), tmp_path / "w.pt")
            add_weights(name, tmp_path / "w.pt")

    return register


@pytest.fixture
def photographs(tmp_path):
    """Write forgeries of some sizes: ``photographs((32, 48))`` gives the source."""

    def write(*sizes, forged=(slice(4, 20), slice(8, 24))):
        for folder in ("images", "masks"):
            (tmp_path / "photographs" / folder).mkdir(parents=True, exist_ok=True)
        for number, size in enumerate(sizes):
            pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
            mask = np.zeros(size, np.uint8)
            mask[forged] = 255
            Image.fromarray(pixels).save(tmp_path / "photographs" / "images" / f"{number}.png")
            Image.fromarray(mask).save(tmp_path / "photographs" / "masks" / f"{number}.png")
        return ("--source", f"folder:{tmp_path / 'photographs'}")

    return write


class Stored:
    """A benchmark as its files have it: decoded originals and attacked images by config and sample."""

    def __init__(self, folder):
        self.benchmark = open_benchmark(folder)
        self.rows = {
            name: {row["sample_id"]: row for row in read_rows(folder, shard_paths(manifest))}
            for name, manifest in self.benchmark.configs.items()
        }

    def images(self, config):
        return {name: decode_stored(row["image"]) for name, row in self.rows[config].items()}

    def masks(self, config):
        return {name: decode_stored(row["mask"]) for name, row in self.rows[config].items()}

    def largest_change(self, config):
        originals = self.images("clean")
        return {
            name: int(np.abs(image.astype(int) - originals[name]).max())
            for name, image in self.images(config).items()
        }


@one_for_each
def test_every_localizer_makes_a_benchmark_that_says_it_is_untrained(afbench, quick, tmp_path, name):
    attack_the_demo(afbench, tmp_path, name)


@pytest.mark.slow
@one_for_each
def test_every_network_makes_a_benchmark_of_the_demo(afbench, tmp_path, name):
    attack_the_demo(afbench, tmp_path, name)


def test_a_network_makes_a_benchmark_of_small_photographs(afbench, photographs, tmp_path):
    command = ("generate", "--localizer", "trufor", "--checkpoint", "random", *FGSM)
    ran = afbench(*command, *photographs((32, 48)), "--out", "out")
    assert ran.code == 0, ran.err
    assert set(Stored(tmp_path / "out").largest_change("trufor-fgsm-1").values()) == {1}
    assert verify(tmp_path / "out") == []


def attack_the_demo(afbench, tmp_path, name):
    """Attack one demo image on untrained weights, and check what the benchmark says of it."""
    ran = afbench(
        "generate", "--localizer", name, "--checkpoint", "random", *FGSM, "--limit", "1", "--out", "out"
    )
    assert ran.code == 0, ran.err
    stored, config = Stored(tmp_path / "out"), f"{name}-fgsm-1"
    how = stored.benchmark.configs[config].provenance
    assert how["attack_at"] == "native" and how["phi"] == "1/255"
    assert how["localizer"] == {
        "name": name,
        "architecture": name,
        "weights_sha256": how["localizer"]["weights_sha256"],
        "threshold": 0.2 if name == "code" else 0.5,
        "resolution": "official",
        "logit": load.recipe(name).logit,
        "untrained": True,
    }
    (size,) = {image.shape for image in stored.images("clean").values()}
    assert {image.shape for image in stored.images(config).values()} == {size} != {(256, 256, 3)}
    assert set(stored.largest_change(config).values()) == {1}
    (row,) = stored.rows[config].values()
    assert row["localizer"] == name and row["unread_pixels"] == 0 and row["zero_gradient_pixels"] >= 0
    assert f"| {config} (untrained) | demo | 1 |" in (tmp_path / "out" / "README.md").read_text()
    assert f"{config} (untrained)" in afbench("stats", "out").out
    (told,) = json.loads(afbench("stats", "out", "--json").out)
    assert told["untrained"] is True
    assert verify(tmp_path / "out") == []


def test_registered_weights_are_found_by_name_and_are_not_untrained(
    afbench, registered, photographs, quick, tmp_path
):
    registered("hdfnet")
    ran = afbench("generate", "--localizer", "hdfnet", *FGSM, *photographs((32, 48)), "--out", "out")
    assert ran.code == 0, ran.err
    told = Stored(tmp_path / "out").benchmark.configs["hdfnet-fgsm-1"].provenance["localizer"]
    assert told["untrained"] is False and told["weights_sha256"] == load.registered("hdfnet").weights_sha256
    assert "untrained" not in afbench("stats", "out").out
    assert afbench("preview", "out", "--out", "sheet.png").code == 0
    assert afbench("weights", "remove", "hdfnet").code == 0
    ran = afbench("preview", "out", "--out", "sheet.png")
    assert ran.code == 2 and "the weights of none of the localizers attacked in 'out' are at hand" in ran.err


def test_released_weights_given_or_registered_are_the_same_to_a_benchmark(
    afbench, monkeypatch, photographs, quick, tmp_path
):
    monkeypatch.setenv("AFBENCH_WEIGHTS", str(tmp_path / "weights"))
    torch.manual_seed(1)
    network = load.recipe("hdfnet").network()
    file = as_released("hdfnet", network.state_dict(), tmp_path / "released")
    command = ("generate", "--localizer", "hdfnet", *FGSM, *photographs((32, 48)), "--out", "out")
    assert afbench(*command).code == 2
    assert afbench("weights", "add", "hdfnet", str(file)).code == 0
    assert afbench(*command).code == 0
    told = Stored(tmp_path / "out").benchmark.configs["hdfnet-fgsm-1"].provenance["localizer"]
    assert told["weights_sha256"] == state_sha256(network) and told["untrained"] is False
    ran = afbench(*command, "--checkpoint", str(file))  # finished already, by the same weights
    assert ran.code == 0 and "(0 shards written, 0 gradients)" in ran.out


def resized(name, pixels):
    if name == "hdfnet":
        return np.asarray(Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR))
    return cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("name", ["hdfnet", "code", "mvss"])
def test_at_the_models_size_originals_masks_and_phi_are_those_the_network_sees(
    afbench, photographs, quick, tmp_path, name
):
    sizes = [(40, 60), (300, 280)]
    command = ("generate", "--localizer", name, "--checkpoint", "random", *FGSM, "--attack-at", "model")
    ran = afbench(*command, "--attack", "noise", *photographs(*sizes), "--out", "out")
    assert ran.code == 0, ran.err
    stored = Stored(tmp_path / "out")
    side = 256 if name == "hdfnet" else 512
    for number in range(len(sizes)):
        for folder, found in (("images", stored.images("clean")), ("masks", stored.masks("clean"))):
            with Image.open(tmp_path / "photographs" / folder / f"{number}.png") as picture:
                expected = resized(name, np.asarray(picture))
            if folder == "masks":
                expected = np.where(expected > 127, 255, 0)
            assert np.array_equal(found[str(number)], expected)
    for config in (f"{name}-fgsm-1", f"{name}-noise-1"):
        assert stored.benchmark.configs[config].provenance["attack_at"] == "model"
        assert {image.shape for image in stored.images(config).values()} == {(side, side, 3)}
        assert {mask.shape for mask in stored.masks(config).values()} == {(side, side)}
        assert set(stored.largest_change(config).values()) == {1}
        for row in stored.rows[config].values():
            assert (row["height"], row["width"], row["linf"]) == (side, side, 1)
            assert row["unread_pixels"] == 0
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize(("first", "second"), [("native", "model"), ("model", "native")])
def test_a_folder_of_one_size_refuses_the_other(afbench, photographs, quick, tmp_path, first, second):
    command = ("generate", "--localizer", "hdfnet", "--checkpoint", "random", *FGSM, *photographs((32, 48)))
    assert afbench(*command, "--out", "out", "--attack-at", first).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    ran = afbench(*command, "--out", "out", "--attack-at", second)
    assert ran.code == 2 and f"attack_at: {first} -> {second}" in ran.err
    ran = afbench(*command, "--out", "out", "--attack-at", second, "--localizer-name", "other")
    assert ran.code == 2 and f"attack_at: {first} -> {second}" in ran.err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("hdfnet", "code"), "hdfnet at 256x256, antialiased, code at 512x512, bilinear"),
        (("mvss", "pscc"), "mvss at 512x512, bilinear, pscc at its own size"),
        (("hdfnet", "reference"), "hdfnet at 256x256, antialiased, reference at its own size"),
    ],
)
def test_localizers_of_two_input_sizes_share_no_originals_at_the_models_size(
    afbench, registered, photographs, quick, tmp_path, names, told
):
    registered(*(name for name in names if name != "reference"))
    localizers = [part for name in names for part in ("--localizer", name)]
    command = ("generate", *localizers, *FGSM, *photographs((32, 48)), "--out", "out")
    ran = afbench(*command, "--attack-at", "model")
    assert ran.code == 2 and f"needs localizers of one input size ({told})" in ran.err
    assert "make one benchmark of each" in ran.err and not (tmp_path / "out").exists()
    assert afbench(*command).code == 0


def test_localizers_of_one_input_size_share_their_originals(
    afbench, registered, photographs, quick, tmp_path
):
    registered("mvss", "code")
    command = ("generate", "--localizer", "mvss", "--localizer", "code", *FGSM, *photographs((32, 48)))
    assert afbench(*command, "--attack-at", "model", "--out", "out").code == 0
    stored = Stored(tmp_path / "out")
    assert {image.shape for name in stored.rows for image in stored.images(name).values()} == {(512, 512, 3)}


@pytest.mark.parametrize("name", ["ifosn", "pscc", "trufor", "reference"])
def test_a_localizer_that_resizes_nothing_keeps_the_size_at_the_models_size(
    afbench, photographs, quick, tmp_path, name
):
    command = ("generate", "--localizer", name, "--checkpoint", "random", *FGSM, "--attack-at", "model")
    assert afbench(*command, *photographs((33, 47), (20, 64)), "--out", "out").code == 0
    stored = Stored(tmp_path / "out")
    assert [image.shape for image in stored.images("clean").values()] == [(33, 47, 3), (20, 64, 3)]
    assert set(stored.largest_change(f"{name}-fgsm-1").values()) == {1}


def test_a_mask_that_vanishes_at_the_models_size_is_excluded_by_reason(afbench, photographs, quick, tmp_path):
    source = photographs((30, 2048), forged=(slice(3, 4), slice(4, 5)))
    command = ("generate", "--localizer", "code", "--checkpoint", "random", *FGSM, *source)
    ran = afbench(*command, "--attack-at", "model", "--out", "out")
    assert ran.code == 1 and "no usable sample (1 empty_mask)" in ran.err
    assert "nothing of it is left at 512x512" in ran.err
    assert afbench(*command, "--out", "native").code == 0


@one_for_each
def test_at_the_native_size_phi_holds_on_what_is_stored_and_unread_pixels_are_counted(
    afbench, photographs, quick, tmp_path, name
):
    sizes = [(24, 1536), (32, 48)]
    command = (
        "generate",
        "--localizer",
        name,
        "--checkpoint",
        "random",
        "--attack",
        "fgsm",
        "--attack",
        "bim",
    )
    both = ("--phi", "1/255", "--phi", "3/255")
    ran = afbench(*command, *both, *photographs(*sizes), "--out", "out")
    assert ran.code == 0, ran.err
    stored = Stored(tmp_path / "out")
    for attack, phi in product(("fgsm", "bim"), (1, 3)):
        config = f"{name}-{attack}-{phi}"
        images = stored.images(config)
        assert [image.shape[:2] for image in images.values()] == sizes
        assert set(stored.largest_change(config).values()) == {phi}
        wide, small = (stored.rows[config][sample] for sample in ("0", "1"))
        unread = 24 * 1024 if name in ("mvss", "code", "mesorch") else 0  # of three columns one is read
        unread = 24 * 512 if name == "imlvit" else unread  # what lies beyond 1024
        assert (wide["unread_pixels"], small["unread_pixels"]) == (unread, 0)
        same = int((images["0"] == stored.images("clean")["0"]).all(axis=2).sum())
        assert same >= unread
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("sees the top left 1024x1024 pixels" in card) == (name == "imlvit")


def test_a_precision_that_makes_another_network_is_refused_unless_asked_for_and_then_recorded(
    afbench, photographs, quick, tmp_path
):
    command = ("generate", "--localizer", "trufor", "--checkpoint", "random", *FGSM, *photographs((32, 48)))
    refused = afbench(*command, "--precision", "bf16", "--out", "out")
    assert refused.code == 2 and not (tmp_path / "out").exists()
    assert refused.err.count("\n") == 1 and refused.err.startswith(
        "afbench: error: --precision bf16 would attack another network than 'trufor': its noise branch moves by 0.10"
    )
    assert "give --allow-imprecise, which is recorded" in refused.err
    assert afbench(*command, "--precision", "bf16", "--allow-imprecise", "--out", "out").code == 0
    provenance = Stored(tmp_path / "out").benchmark.configs["trufor-fgsm-1"].provenance
    assert provenance["precision"] == "bf16" and provenance["imprecise"] is True
    assert "In bf16 TruFor is another network: its noise" in (tmp_path / "out" / "README.md").read_text()
    assert verify(tmp_path / "out") == []
    assert afbench("reproduce", "out", "--row", "trufor-fgsm-1/folder/0").code == 0
    assert afbench(*command, "--allow-imprecise", "--out", "fp32").code == 0
    assert "imprecise" not in Stored(tmp_path / "fp32").benchmark.configs["trufor-fgsm-1"].provenance
    assert "another network" not in (tmp_path / "fp32" / "README.md").read_text()
