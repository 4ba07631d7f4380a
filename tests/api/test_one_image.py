"""``afbench.attack``: one image in memory, with the pixels that a benchmark would store."""

import numpy as np
import pytest
import torch
from PIL import Image

import afbench as library
from afbench.api.user_pixels import mask_pixels
from afbench.images import decode_stored
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.sources import open_source
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.work_progress import Progress
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

FIGURES = ("f1_clean", "f1_adv", "psnr", "ssim", "linf")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Rows of the second demo sample, by config, of a benchmark that was made image by image."""
    folder = tmp_path_factory.mktemp("stored") / "B"
    settings = (
        *expand_attack("pgd", phi=["2/255"], params={"steps": "3"}),
        *expand_attack("cw", steps=[2]),
    )
    plan = RunPlan("demo", (Block(("reference",), (SourceSpec("demo", None),), settings),), limit=2, seed=3)
    generate(plan, folder, Options(batch_size=1))
    rows = {}
    for name, manifest in open_benchmark(folder).attacked.items():
        rows[name] = list(read_rows(folder, shard_paths(manifest)))[1]
    return rows


@pytest.fixture(scope="module")
def sample():
    source = open_source("demo", None, limit=2)
    return source.read(source.ids[1])


@pytest.mark.parametrize("setting", [("pgd", {"phi": "2/255", "param": {"steps": 3}}), ("cw", {"steps": 2})])
def test_the_pixels_and_figures_are_those_that_generate_stores(stored, sample, setting):
    name, options = setting
    attacked = library.attack(
        "reference",
        sample.image,
        sample.mask,
        name,
        **options,
        sample_id=sample.sample_id,
        seed=3,
        quiet=True,
    )
    row = stored[attacked.config]
    assert np.array_equal(attacked.image, decode_stored(row["image"]))
    assert {figure: getattr(attacked, figure) for figure in FIGURES} == {
        figure: row[figure] for figure in FIGURES
    }
    assert attacked.to_pandas().f1_adv[0] == row["f1_adv"]


def test_the_bar_ends_at_its_total_where_the_ensemble_takes_fewer_gradients(sample, monkeypatch):
    monkeypatch.setattr("afbench.engine.grid.STEPS", 1)
    planned, counted = [], []
    progress = Progress(start=planned.append, advance=counted.append)
    monkeypatch.setattr("afbench.api.one_image.deferred_bar", lambda *given, **named: progress)
    library.attack("reference", sample.image, sample.mask, "strong", phi="2/255")
    assert sum(counted) == sum(planned) == 120


def test_files_pillow_images_arrays_and_tensors_give_the_same_image(sample, tmp_path):
    Image.fromarray(sample.image).save(tmp_path / "image.png")
    Image.fromarray(sample.mask).save(tmp_path / "mask.png")
    tensor = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
    forms = [
        (tmp_path / "image.png", str(tmp_path / "mask.png")),
        (Image.fromarray(sample.image), Image.fromarray(sample.mask).convert("1")),
        (sample.image / 255, sample.mask > 0),
        (tensor, torch.from_numpy(sample.mask // 255)),
        (tensor[None] / 255.0, torch.from_numpy(sample.mask.copy())[None] / 255.0),
    ]
    localizer = library.load_localizer("reference")
    expected = library.attack("reference", sample.image, sample.mask, "fgsm", phi="1/255", quiet=True)
    assert 0 < np.abs(expected.noise).max() == expected.linf <= 1
    assert np.array_equal(expected.image, sample.image + expected.noise)
    assert expected.f1_adv < expected.f1_clean
    assert np.array_equal(np.asarray(expected.to_pil()), expected.image)
    for image, mask in forms:
        attacked = library.attack(localizer, image, mask, "fgsm", phi=1 / 255, quiet=True)
        assert np.array_equal(attacked.image, expected.image)
        assert attacked.config == expected.config == "reference-fgsm-1"


def test_an_attack_goes_through_a_defence(sample):
    bare, through = (
        library.attack("reference", sample.image, sample.mask, "fgsm", phi="2/255", quiet=True, **options)
        for options in ({}, {"through_defence": "median"})
    )
    assert through.config == "reference_median_3-fgsm-2"
    assert through.f1_clean == bare.f1_clean
    assert not np.array_equal(through.image, bare.image)


IMAGE = np.zeros((16, 16, 3), np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[:4] = 255


def test_a_soft_map_of_numbers_is_a_mask_and_its_greys_as_a_picture_are_none():
    soft = np.tile(np.linspace(0, 1, 64), (64, 1))
    forged = mask_pixels(soft, np.zeros((64, 64, 3), np.uint8))
    assert np.array_equal(forged == 255, soft > 0.5)
    with pytest.raises(library.UsageError, match="photograph_as_mask"):
        mask_pixels((255 * soft).astype(np.uint8), np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("reference", IMAGE, MASK, "pgd"), {}, 'needs one strength; give phi="2/255"'),
        (("reference", IMAGE, MASK, "cw"), {}, "needs one strength; give steps=250"),
        (("reference", IMAGE, MASK, "cw"), {"phi": "2/255"}, "none of the attacks cw takes --phi"),
        (("reference", IMAGE, MASK, "fsgm"), {"phi": "2/255"}, "fsgm"),
        (("nothing", IMAGE, MASK, "fgsm"), {"phi": "2/255"}, "localizer 'nothing' is unknown"),
        ((torch.nn.Identity(), IMAGE, MASK, "fgsm"), {"phi": "2/255"}, r"found Identity; `afbench\.as_localizer`"),
        (("reference", IMAGE[..., :2], MASK, "fgsm"), {"phi": "2/255"}, r"\(H, W, 3\).*found uint8 \(16, 16, 2\)"),
        (("reference", IMAGE * 1.5 - 1, MASK, "fgsm"), {"phi": "2/255"}, r"in \[0, 1\]; found -1 to -1"),
        (("reference", IMAGE.astype(int), MASK, "fgsm"), {"phi": "2/255"}, "must be uint8, or float"),
        (("reference", [1, 2], MASK, "fgsm"), {"phi": "2/255"}, "found list"),
        (("reference", "none.png", MASK, "fgsm"), {"phi": "2/255"}, "image 'none.png' cannot be read: No such file"),
        (("reference", Image.new("CMYK", (16, 16)), MASK, "fgsm"), {"phi": "2/255"}, "image of mode CMYK"),
        (("reference", Image.new("RGBA", (16, 16)), MASK, "fgsm"), {"phi": "2/255"}, "with transparency"),
        (("reference", IMAGE, MASK[:8], "fgsm"), {"phi": "2/255"}, "mask 16x8, image 16x16"),
        (("reference", IMAGE, MASK // 3, "fgsm"), {"phi": "2/255"}, "mask marks no pixel as forged .*levels: 0 to 85"),
        (("reference", IMAGE, MASK > -1, "fgsm"), {"phi": "2/255"}, "mask marks every pixel"),
    ],
)  # fmt: skip
def test_what_cannot_be_attacked_is_refused_in_one_line(arguments, options, message):
    with pytest.raises(library.UsageError, match=message) as refused:
        library.attack(*arguments, **options, quiet=True)
    assert "\n" not in str(refused.value)
