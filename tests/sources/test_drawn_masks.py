"""A photograph in place of a mask is refused; masks as people store them are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

import afbench
from afbench.core import BadSample
from afbench.sources.demo import open_demo
from afbench.sources.drawn_masks import require_drawn

DEMO = open_demo(8)
SAMPLES = [DEMO.read(sample_id) for sample_id in DEMO.ids]


def as_jpeg(picture, quality):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def in_colours(mask, forged, authentic):
    return Image.fromarray(np.where(mask[..., None] > 0, np.uint8(forged), np.uint8(authentic)))


@pytest.mark.parametrize(
    "stored",
    [
        Image.fromarray,
        lambda mask: as_jpeg(Image.fromarray(mask), 5),
        lambda mask: Image.fromarray(mask).filter(ImageFilter.GaussianBlur(4)),
        lambda mask: Image.fromarray(mask // 255),
        lambda mask: as_jpeg(in_colours(mask, (170,) * 3, (85,) * 3), 20),
        lambda mask: as_jpeg(in_colours(mask, (0, 200, 0), (255, 0, 0)), 75),
    ],
    ids=["plain", "jpeg", "blurred", "of 0 and 1", "greys", "colours"],
)
def test_a_mask_is_taken_however_it_was_stored(stored):
    for sample in SAMPLES:
        require_drawn(np.asarray(stored(sample.mask).convert("L")), "")


def test_a_photograph_is_refused():
    for sample in SAMPLES:
        with pytest.raises(BadSample, match=r"photograph_as_mask: the mask looks like a photograph: \d+ %"):
            require_drawn(np.asarray(Image.fromarray(sample.image).convert("L")), "")


@pytest.fixture
def folder(tmp_path):
    """Two samples, the second with its image in place of its mask."""
    for name, (image, mask) in {
        "good": (SAMPLES[0].image, SAMPLES[0].mask),
        "swapped": (SAMPLES[1].image, SAMPLES[2].image),
    }.items():
        for role, pixels in (("images", image), ("masks", mask)):
            path = tmp_path / role / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


def test_a_folder_excludes_it_unless_an_option_says_how_to_read_greys(folder):
    table = afbench.index("folder", root=folder, quiet=True).to_pandas().set_index("id")
    assert table.reason.to_dict() == {"good": "", "swapped": "photograph_as_mask"}
    assert "--mask-threshold 127 takes" in table.detail["swapped"]
    table = afbench.index("folder", root=folder, mask_threshold=127, quiet=True).to_pandas()
    assert set(table.status) == {"included"}


def test_an_attack_on_one_image_refuses_it(folder):
    image, mask = folder / "images" / "swapped.png", folder / "masks" / "swapped.png"
    for given in (mask, Image.open(mask), np.asarray(Image.open(mask).convert("L"))):
        with pytest.raises(afbench.UsageError, match="mask cannot be used: photograph_as_mask"):
            afbench.attack("reference", image, given, "fgsm", phi="1/255", quiet=True)
