"""One entry becomes one checked sample: below its root, bounded, image and mask of one size."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image
from releases import SIZE, half_mask, photograph, put, put_bytes

from afbench.core import BadSample
from afbench.sources import entry_reader
from afbench.sources.entry_reader import read_bytes, read_entry
from afbench.sources.source_entry import SourceEntry, SourceOptions

PLAIN = SourceOptions()
RESIZE = SourceOptions(on_mismatch="resize-nearest")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reason_for(root, entry, options=PLAIN):
    with pytest.raises(BadSample) as problem:
        read_entry(root, entry, options)
    assert "\n" not in problem.value.detail
    return problem.value.reason


def test_a_sample_comes_with_the_facts_of_its_files(tmp_path):
    image = put(tmp_path, "deep/er/a.png", photograph(1))
    soft = np.asarray(half_mask()).copy()
    soft[0, :12] = 200
    mask = put(tmp_path, "m.png", Image.fromarray(soft))
    read = read_entry(
        tmp_path, SourceEntry("a", "deep/er/a.png", ("m.png",), group="g", kind="splice"), PLAIN
    )
    sample = read.sample
    assert (sample.sample_id, sample.group, sample.kind) == ("a", "g", "splice")
    np.testing.assert_array_equal(sample.image, np.asarray(photograph(1)))
    np.testing.assert_array_equal(sample.mask, np.asarray(half_mask()))
    assert (read.mode, read.exif_orientation, read.resized) == ("RGB", None, False)
    assert (read.image_sha256, read.mask_sha256) == (sha256(image), sha256(mask))
    assert read.mask_grey_fraction == pytest.approx(12 / (SIZE[0] * SIZE[1]))


def test_an_entry_without_a_group_is_its_own(tmp_path):
    put(tmp_path, "a.png", photograph(1))
    put(tmp_path, "m.png", half_mask())
    assert read_entry(tmp_path, SourceEntry("a", "a.png", ("m.png",)), PLAIN).sample.group == "a"


def test_several_masks_are_united_and_hashed_together(tmp_path):
    put(tmp_path, "a.png", photograph(1))
    first = put(tmp_path, "1.png", half_mask())
    second = put(tmp_path, "2.png", Image.fromarray(np.asarray(half_mask())[:, ::-1].copy()))
    read = read_entry(tmp_path, SourceEntry("a", "a.png", ("1.png", "2.png")), PLAIN)
    assert (read.sample.mask > 0).mean() == 0.5 and read.sample.mask[0, 0] == read.sample.mask[0, -1] == 255
    assert read.mask_sha256 == hashlib.sha256((sha256(first) + sha256(second)).encode()).hexdigest()
    assert read.mask_grey_fraction == 0


def test_the_orientation_is_recorded_and_not_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for name in ("a.tif", "a.png"):
        put(tmp_path, name, photograph(1), exif=exif)
        put(tmp_path, "m.png", half_mask())
        read = read_entry(tmp_path, SourceEntry("a", name, ("m.png",)), PLAIN)
        assert read.exif_orientation == 6
        np.testing.assert_array_equal(read.sample.image, np.asarray(photograph(1)))


def test_an_authentic_image_has_an_empty_mask_and_none_is_opened(tmp_path):
    put(tmp_path, "a.png", photograph(1).convert("L"))
    read = read_entry(
        tmp_path, SourceEntry("a", "a.png", ("nowhere.png",), label="authentic"), SourceOptions(invert=True)
    )
    assert read.sample.mask.shape == SIZE[::-1] and not read.sample.mask.any()
    assert (read.mode, read.mask_sha256, read.mask_grey_fraction) == ("L", "", 0)


def test_what_names_give_away_is_told_without_opening_anything(tmp_path):
    with pytest.raises(BadSample, match="ambiguous_name: two of them"):
        read_entry(tmp_path, SourceEntry("a", "a.png", problem="ambiguous_name", detail="two of them"), PLAIN)
    assert reason_for(tmp_path, SourceEntry("a", None, ("m.png",))) == "missing_image"
    assert reason_for(tmp_path, SourceEntry("a", "a.png")) == "missing_mask"


@pytest.mark.parametrize(
    ("size", "reason", "resized"),
    [((48, 31), "size_mismatch", True), ((96, 64), "size_mismatch", True), ((32, 48), "rotated_mask", False)],
)
def test_a_mask_of_another_size_is_resized_only_if_asked_and_a_rotated_one_never(
    tmp_path, size, reason, resized
):
    put(tmp_path, "a.png", photograph(1))
    put(tmp_path, "m.png", half_mask(size))
    entry = SourceEntry("a", "a.png", ("m.png",))
    assert reason_for(tmp_path, entry) == reason
    if resized:
        read = read_entry(tmp_path, entry, RESIZE)
        assert read.resized
        np.testing.assert_array_equal(read.sample.mask, np.asarray(half_mask()))
    else:
        assert reason_for(tmp_path, entry, RESIZE) == "rotated_mask"


def test_resizing_takes_the_nearest_pixel_and_moves_nothing(tmp_path):
    put(tmp_path, "a.png", photograph(1, (4, 4)))
    fine = np.zeros((12, 12), np.uint8)
    fine[3:6, 6:9] = 255
    fine[0, 0] = 255
    put(tmp_path, "m.png", Image.fromarray(fine))
    mask = read_entry(tmp_path, SourceEntry("a", "a.png", ("m.png",)), RESIZE).sample.mask
    assert np.argwhere(mask).tolist() == [[1, 2]]


def test_a_mask_that_says_nothing_is_excluded_and_one_above_half_is_not_inverted(tmp_path):
    put(tmp_path, "a.png", photograph(1))
    entry = SourceEntry("a", "a.png", ("m.png",))
    for share, reason in ((0, "empty_mask"), (1, "full_mask")):
        put(tmp_path, "m.png", half_mask(share=share))
        assert reason_for(tmp_path, entry) == reason
    put(tmp_path, "m.png", half_mask(share=0.75))
    assert (read_entry(tmp_path, entry, PLAIN).sample.mask > 0).mean() == 0.75
    inverted = read_entry(tmp_path, entry, SourceOptions(invert=True)).sample.mask
    np.testing.assert_array_equal(inverted, 255 - np.asarray(half_mask(share=0.75)))


def test_inversion_follows_the_union_of_masks(tmp_path):
    put(tmp_path, "a.png", photograph(1))
    put(tmp_path, "1.png", half_mask(share=0.25))
    put(tmp_path, "2.png", half_mask(share=0.5))
    read = read_entry(tmp_path, SourceEntry("a", "a.png", ("1.png", "2.png")), SourceOptions(invert=True))
    np.testing.assert_array_equal(read.sample.mask, 255 - np.asarray(half_mask(share=0.5)))


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd", "", "a\0b", ".."])
def test_no_name_leads_out_of_the_root(tmp_path, name):
    root = tmp_path / "root"
    put(tmp_path, "secret.png", photograph(1))
    put(root, "a.png", photograph(1))
    assert reason_for(root, SourceEntry("a", name, ("a.png",))) == "outside_root"
    assert reason_for(root, SourceEntry("a", "a.png", (name,))) == "outside_root"


def test_links_are_followed_within_the_root_and_not_out_of_it(tmp_path):
    root = tmp_path / "root"
    put(tmp_path, "secret.png", photograph(1))
    put(root, "a.png", photograph(1))
    (root / "inner.png").symlink_to("a.png")
    (root / "outer.png").symlink_to("../secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.png").symlink_to("loop.png")
    (root / "broken.png").symlink_to("nowhere.png")
    assert read_bytes(root, "inner.png") == (root / "a.png").read_bytes()
    for name, reason in (
        ("outer.png", "outside_root"),
        ("up/secret.png", "outside_root"),
        ("loop.png", "unreadable"),
        ("broken.png", "unreadable"),
    ):
        assert reason_for(root, SourceEntry("a", name, ("a.png",))) == reason
    (tmp_path / "also").symlink_to(root)
    assert read_bytes(tmp_path / "also", "a.png") == (root / "a.png").read_bytes()


def test_what_cannot_be_read_is_unreadable_and_no_pipe_is_waited_for(tmp_path):
    put(tmp_path, "a.png", photograph(1))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    put_bytes(tmp_path, "empty.png", b"")
    for name in ("pipe.png", "folder.png", "empty.png", "nowhere.png", "a.png/b.png", "x" * 300):
        assert reason_for(tmp_path, SourceEntry("a", name, ("a.png",))) == "unreadable"
        assert reason_for(tmp_path, SourceEntry("a", "a.png", (name,))) == "unreadable"


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "sparse.tif").open("wb") as stream:
        stream.truncate(entry_reader.MAX_BYTES + 1)
    assert reason_for(tmp_path, SourceEntry("a", "sparse.tif", ("m.png",))) == "too_large"
    put_bytes(tmp_path, "eight", b"12345678")
    assert read_bytes(tmp_path, "eight", limit=8) == b"12345678"
    with pytest.raises(BadSample, match="too_large: 8 bytes, at most 7"):
        read_bytes(tmp_path, "eight", limit=7)
