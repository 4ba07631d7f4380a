"""Forgeries made from scratch: the stream, the camera, the photographs, and the embedded demo."""

import hashlib
import json
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from afbench.core import UsageError
from afbench.sources import SourceOptions, open_source
from afbench.sources.demo import AUTHENTIC_FILE, FORGED_FILE
from afbench.sources.synthesis import FORGERY_KINDS, load_photographs, synthesize
from afbench.sources.synthesis.camera import MARGIN, Camera, develop, draw_camera, jpeg
from afbench.sources.synthesis.photographs import crop_scene
from afbench.sources.synthesis.regions import draw_region
from afbench.sources.synthesis.scenes import procedural_scene

PHOTOGRAPHS = files("afbench.sources") / "photographs"
INDEX = json.loads((PHOTOGRAPHS / "index.json").read_text(encoding="utf-8"))["photographs"]
FREE = {"CC0-1.0", "public-domain", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"}


@pytest.fixture(scope="module")
def stream():
    """Sixty forgeries of one seed, half of them on photographs."""
    return [
        synthesize(7, index, photographs=load_photographs("test"), photograph_share=0.5)
        for index in range(60)
    ]


def test_a_forgery_depends_on_seed_and_index_and_on_no_order(stream):
    for index in (41, 3, 17):
        again = synthesize(7, index, photographs=load_photographs("test"), photograph_share=0.5)
        np.testing.assert_array_equal(again.image, stream[index].image)
        np.testing.assert_array_equal(again.mask, stream[index].mask)
        assert (again.kind, again.scene) == (stream[index].kind, stream[index].scene)
    assert len({forgery.image.tobytes() for forgery in stream}) == len(stream)
    for seed, index in ((7, 0), (7, 1), (0, 8)):
        assert not np.array_equal(synthesize(8, 0).image, synthesize(seed, index).image)


def test_every_forgery_is_an_image_with_a_mask_of_2_to_35_percent(stream):
    for forgery in stream:
        assert forgery.image.shape == (128, 128, 3) and forgery.image.dtype == np.uint8
        assert forgery.mask.shape == (128, 128) and set(np.unique(forgery.mask)) == {0, 255}
        assert 0.015 < (forgery.mask > 0).mean() < 0.36  # soft edges move the border by a pixel
        assert forgery.image.std() > 2


def test_all_kinds_of_tampering_and_both_kinds_of_scene_occur(stream):
    kinds = Counter(forgery.kind for forgery in stream)
    assert set(kinds) == set(FORGERY_KINDS) and min(kinds.values()) >= 5
    procedural = sum(forgery.scene == "procedural" for forgery in stream)
    assert 15 < procedural < 45
    assert {forgery.scene for forgery in stream} - {"procedural"} <= {
        p.name for p in load_photographs("test")
    }


def test_a_forgery_differs_from_its_authentic_picture_only_near_its_mask():
    for index in range(12):
        forged, authentic = synthesize(5, index), synthesize(5, index, authentic=True)
        assert authentic.kind == "authentic" and not authentic.mask.any()
        assert forged.scene == authentic.scene
        difference = np.abs(forged.image.astype(int) - authentic.image).max(axis=2)
        outside = difference[forged.mask == 0]
        # the last JPEG may differ between the two; what was pasted stands far above it
        assert np.median(outside) <= 6 and difference[forged.mask > 0].mean() > outside.mean()


def test_other_sizes_are_made_as_asked():
    forgery = synthesize(0, 0, size=(96, 160))
    assert forgery.image.shape == (96, 160, 3) and forgery.mask.shape == (96, 160)


def test_regions_keep_their_share_of_any_image():
    rng = np.random.default_rng(0)
    for size in ((64, 64), (128, 200)):
        shares = [(draw_region(size, rng) > 0).mean() for _ in range(40)]
        assert min(shares) >= 0.02 and max(shares) <= 0.35 and np.std(shares) > 0.02


def test_scenes_are_linear_light_in_range():
    rng = np.random.default_rng(0)
    for scene in (procedural_scene((80, 90), rng), crop_scene(load_photographs("test")[0], (80, 90), rng)):
        assert scene.shape == (80, 90, 3) and scene.dtype == np.float32
        assert scene.min() >= 0 and scene.max() <= 1


@pytest.mark.parametrize("grid", [(0, 0), (3, 5)])
@pytest.mark.parametrize("demosaic", ["bilinear", "edge_aware", "none"])
@pytest.mark.parametrize("bayer", ["BG", "GB", "RG", "GR"])
def test_a_noiseless_camera_reproduces_a_smooth_scene(bayer, demosaic, grid):
    rows, columns = np.mgrid[0:80, 0:72] / 40.0
    planes = [0.3 + 0.2 * np.sin(rows), 0.5 + 0.2 * np.cos(columns), 0.6 + 0.3 * np.sin(rows + columns)]
    scene = np.stack(planes, axis=-1).astype(np.float32)
    camera = Camera(bayer, demosaic, 0.0, 0.0, 2.2, "none", 0.5, 0.0, None, grid)
    picture = develop(scene, camera, np.random.default_rng(0))
    inside = scene[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert picture.shape == inside.shape and picture.dtype == np.uint8
    assert np.abs(picture - 255 * inside ** (1 / 2.2)).max() < 1.5


def test_sensor_noise_and_jpeg_leave_their_traces():
    grey = np.full((64 + 2 * MARGIN, 64 + 2 * MARGIN, 3), 0.5, np.float32)
    rng = np.random.default_rng(0)
    clean = Camera("BG", "none", 0.0, 0.0, 2.2, "none", 0.5, 0.0, None, (0, 0))
    noisy = Camera("BG", "none", 1e-3, 1e-3, 2.2, "none", 0.5, 0.0, None, (0, 0))
    assert develop(grey, clean, rng).std() == 0
    assert 1 < develop(grey, noisy, rng).std() < 6
    picture = develop(grey, noisy, rng)
    assert jpeg(picture, 70).std() < picture.std() and jpeg(picture, 70).shape == picture.shape


def test_cameras_are_drawn_from_the_generator_alone():
    first, second = (
        [draw_camera(np.random.default_rng(3)) for _ in range(1)] + [draw_camera(np.random.default_rng(4))]
        for _ in range(2)
    )
    assert first == second and first[0] != first[1]


def test_no_photograph_is_in_both_splits():
    names = {split: {row["name"] for row in INDEX if row["split"] == split} for split in ("train", "test")}
    groups = {split: {row["group"] for row in INDEX if row["split"] == split} for split in ("train", "test")}
    hashes = [row["sha256"] for row in INDEX]
    assert not names["train"] & names["test"] and not groups["train"] & groups["test"]
    assert len(set(hashes)) == len(hashes) == len(names["train"] | names["test"])
    assert len(names["test"]) >= 8
    for split in ("train", "test"):
        assert {photograph.name for photograph in load_photographs(split)} == names[split]
    assert {row["split"] for row in INDEX} == {"train", "test"}


@pytest.mark.parametrize("row", INDEX, ids=[row["name"] for row in INDEX])
def test_every_photograph_is_free_and_the_file_it_says_it_is(row):
    assert row["licence"] in FREE
    assert all(row[key].strip() for key in ("title", "author", "origin", "changes"))
    content = (PHOTOGRAPHS / row["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == row["sha256"]


def test_the_attribution_names_every_file_with_its_author_and_licence():
    lines = (PHOTOGRAPHS / "ATTRIBUTION.md").read_text(encoding="utf-8").splitlines()
    for row in INDEX:
        told = [line for line in lines if line.startswith(f"| {row['file']} |")]
        assert len(told) == 1
        assert row["author"] in told[0] and row["licence"] in told[0]
    shipped = {path.name for path in PHOTOGRAPHS.iterdir() if path.name.endswith(".webp")}
    assert shipped == {row["file"] for row in INDEX}


def test_the_synthetic_source_is_a_stream_of_test_photographs_and_scenes():
    source = open_source("synthetic", seed=3, limit=4)
    assert source.ids == [f"synthetic-3-{index:06d}" for index in range(4)]
    assert open_source("synthetic", seed=3, limit=9).ids[:4] == source.ids
    assert len(open_source("synthetic").ids) == 100
    last = source.read(source.ids[3])
    again = open_source("synthetic", seed=3, limit=9).read(source.ids[3])
    np.testing.assert_array_equal(last.image, again.image)
    assert last.image.shape == (128, 128, 3) and last.kind in FORGERY_KINDS
    assert source.sha256 != open_source("synthetic", seed=4).sha256
    assert source.sha256 == open_source("synthetic", seed=3, limit=9).sha256


def test_the_demo_is_a_fixed_set_on_photographs_kept_from_training():
    source = open_source("demo")
    samples = [source.read(sample_id) for sample_id in source.ids]
    assert len(set(source.ids)) == len(source.ids) >= 100
    groups = {sample.group for sample in samples}
    assert len(groups) >= 8 and groups <= {row["name"] for row in INDEX if row["split"] == "test"}
    assert {sample.kind for sample in samples} == set(FORGERY_KINDS)
    for sample in samples:
        assert sample.image.shape == (128, 128, 3) and sample.mask.shape == (128, 128)
        assert sample.image.dtype == sample.mask.dtype == np.uint8 and sample.mask.any()
        assert set(np.unique(sample.mask)) == {0, 255}


@pytest.mark.parametrize("name", ["demo", "synthetic"])
def test_embedded_sources_have_authentic_pictures_of_the_same_scenes_if_asked_for(name):
    plain = open_source(name, limit=3)
    source = open_source(name, limit=3, options=SourceOptions(authentic=True))
    assert plain.authentic == [] and (plain.ids, plain.sha256) == (source.ids, source.sha256)
    assert len(source.authentic) == 3 and len({*source.ids, *source.authentic}) == 6
    assert source.authentic_sha256 not in ("", source.sha256) and not plain.authentic_sha256
    for forged, authentic in zip(source.ids, source.authentic, strict=True):
        sample = source.read(authentic)
        assert not sample.mask.any() and sample.image.shape == (128, 128, 3)
        assert sample.group == source.read(forged).group and sample.kind == "authentic"
        assert not np.array_equal(sample.image, source.read(forged).image)


def test_the_demo_reads_the_same_each_time_and_fits_the_package():
    sizes = [(files("afbench.sources") / name).stat().st_size for name in (FORGED_FILE, AUTHENTIC_FILE)]
    assert sum(sizes) <= 15_000_000
    first, second = open_source("demo", limit=5), open_source("demo")
    assert first.ids == second.ids[:5] and first.sha256 == second.sha256 and len(first.sha256) == 64
    for sample_id in reversed(first.ids):
        np.testing.assert_array_equal(first.read(sample_id).image, second.read(sample_id).image)


def test_a_source_that_cannot_be_read_says_what_to_do():
    with pytest.raises(UsageError, match=r"'casia_v1' is read from your own copy: --source casia_v1:ROOT"):
        open_source("casia_v1")
