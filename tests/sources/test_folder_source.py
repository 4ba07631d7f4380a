"""A user's own photographs: paired by stem, never by order; what cannot be used is named."""

import re

import numpy as np
import pytest
from PIL import Image

from afbench.core import AfbenchError, BadSample, UsageError
from afbench.sources import open_source
from afbench.sources.index import count_source


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    return tmp_path


@pytest.fixture
def put(root):
    """Write a grey picture of one level: ``put("images/a.png", 7)``; a mask is 255 in its first row."""

    def write(name, level=0, *, size=(8, 6), forged=True):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("masks"):
            pixels = np.zeros(size[::-1], np.uint8)
            pixels[:1] = 255 if forged else 0
            pixels[-1, -1] = level
        else:
            pixels = np.full((*size[::-1], 3), level, np.uint8)
        Image.fromarray(pixels).save(path)

    return write


def open_folder(root, **options):
    return open_source("folder", str(root), **options)


def problem(source, sample_id):
    with pytest.raises(BadSample) as found:
        source.read(sample_id)
    return found.value.reason


def test_masks_are_paired_by_stem_where_sorting_would_pair_others(root, put):
    # sorted: a, a-2, b against a-2_gt, a_mask, b, c: every pair by order is wrong but the last
    for level, (image, mask) in enumerate([("a", "a_mask"), ("a-2", "a-2_gt"), ("b", "b")], start=1):
        put(f"images/{image}.png", level)
        put(f"masks/{mask}.png", 200 + level)
    put("masks/0-without-image.png")
    source = open_folder(root)
    assert source.ids == ["0-without-image", "a", "a-2", "b"]
    for sample_id, level in (("a", 1), ("a-2", 2), ("b", 3)):
        sample = source.read(sample_id)
        assert sample.sample_id == sample_id and (sample.image == level).all()
        assert sample.mask[0].min() == 255 and sample.mask.dtype == np.uint8
    assert problem(source, "0-without-image") == "missing_image"


def test_the_mask_itself_and_not_a_neighbours_is_read(root, put):
    for level, (name, corner) in enumerate((("x", 255), ("y", 0))):
        put(f"images/{name}.png", level)
        put(f"masks/{name}_gt.png", corner)
    source = open_folder(root)
    assert source.read("x").mask[-1, -1] == 255 and source.read("y").mask[-1, -1] == 0


def test_an_image_without_a_mask_is_excluded_with_its_reason(root, put):
    put("images/alone.png", 1)
    put("images/b.png", 2)
    put("masks/b.png")
    assert problem(open_folder(root), "alone") == "missing_mask"


@pytest.mark.parametrize(("size", "reason"), [((8, 5), "size_mismatch"), ((6, 8), "rotated_mask")])
def test_a_mask_of_another_size_is_excluded_with_its_reason(root, put, size, reason):
    put("images/a.png", size=(8, 6))
    put("masks/a.png", size=size)
    source = open_folder(root)
    with pytest.raises(BadSample, match=rf"{reason}: mask {size[0]}x{size[1]}, image 8x6"):
        source.read("a")


def test_a_mask_without_a_forged_pixel_is_excluded(root, put):
    put("images/a.png")
    put("masks/a.png", forged=False)
    assert problem(open_folder(root), "a") == "empty_mask"


def test_doubled_stems_are_excluded_because_nobody_can_tell_which_is_meant(root, put):
    for name in (
        *("images/a.png", "images/a.bmp", "masks/a.png"),
        *("images/b.png", "masks/b.png", "masks/b.tif"),
        *("images/c.png", "masks/c_gt.png", "masks/c.png"),
        *("images/d.png", "masks/d.png"),
    ):
        put(name)
    source = open_folder(root)
    assert source.ids == ["a", "b", "c", "d"]
    assert [problem(source, name) for name in "abc"] == ["ambiguous_name"] + ["ambiguous_mask"] * 2
    assert source.read("d").group == "d"


def test_an_image_that_is_there_twice_is_used_once(root, put):
    for name, level in (("a", 1), ("b", 1), ("c", 2)):
        put(f"images/{name}.png", level)
        put(f"masks/{name}.png")
    source = open_folder(root)
    with pytest.raises(BadSample, match="duplicate_content: the same file as a"):
        source.read("b")
    assert source.read("a").sample_id == "a" and source.read("c").sample_id == "c"


def test_nested_folders_are_paired_by_their_relative_path(root, put):
    for folder, level in (("day/one", 1), ("day/two", 2)):
        put(f"images/{folder}/a.png", level)
        put(f"masks/{folder}/a_mask.png")
    source = open_folder(root)
    assert source.ids == ["day__one__a", "day__two__a"]
    assert (source.read("day__two__a").image == 2).all()


def test_a_nested_name_that_meets_a_flat_one_is_ambiguous(root, put):
    for level, name in enumerate(("day/a", "day__a", "b")):
        put(f"images/{name}.png", level)
        put(f"masks/{name}.png")
    source = open_folder(root)
    assert source.ids == ["b", "day__a"] and problem(source, "day__a") == "ambiguous_name"


def test_suffixes_count_in_any_case_and_other_files_not_at_all(root, put):
    put("images/a.PNG")
    put("masks/a.Tif")
    (root / "images" / "notes.txt").write_text("no picture")
    (root / "images" / ".hidden.png").write_text("no picture")
    (root / "images" / "Thumbs.db").write_bytes(b"\0")
    source = open_folder(root)
    assert source.ids == ["a"] and source.read("a").image.shape == (6, 8, 3)


@pytest.mark.parametrize("name", ["plain-1.2_x", "two words", "図", "ünï", "a;rm -rf", "a..", "'quoted'"])
def test_ids_hold_only_letters_that_are_legal_everywhere(root, put, name):
    put(f"images/{name}.png", 3)
    put(f"masks/{name}_gt.png")
    source = open_folder(root)
    assert len(source.ids) == 1 and re.fullmatch(r"[A-Za-z0-9._-]+", source.ids[0])
    assert (source.read(source.ids[0]).image == 3).all()


def test_names_in_another_alphabet_stay_apart(root, put):
    for level, name in enumerate(("図", "絵", "é", "è")):
        put(f"images/{name}.png", level)
        put(f"masks/{name}.png")
    source = open_folder(root)
    assert len(source.ids) == 4
    assert {int(source.read(name).image[0, 0, 0]) for name in source.ids} == {0, 1, 2, 3}


def test_the_fingerprint_changes_with_any_byte_and_with_nothing_else(root, put, tmp_path_factory):
    put("images/a.png", 1)
    put("masks/a.png", 1)
    first = open_folder(root).sha256
    assert open_folder(root).sha256 == first
    (root / "images" / "notes.txt").write_text("not a sample")
    assert open_folder(root).sha256 == first
    assert open_folder(root.rename(root.with_name("elsewhere"))).sha256 == first
    root.with_name("elsewhere").rename(root)
    put("masks/a.png", 2)
    second = open_folder(root).sha256
    put("images/a.png", 2)
    third = open_folder(root).sha256
    put("images/b.png", 2)
    assert len({first, second, third, open_folder(root).sha256}) == 4
    assert open_folder(root, limit=1).sha256 == third


def test_limit_takes_the_first_that_can_be_used_and_those_excluded_among_them(root, put):
    for level, name in enumerate("dbca"):
        put(f"images/{name}.png", level)
        put(f"masks/{name}.png")
    assert open_folder(root, limit=3).ids == ["a", "b", "c"]
    assert count_source("folder", str(root)) == 4
    (root / "masks" / "b.png").unlink()
    assert count_source("folder", str(root)) == 3
    assert open_folder(root, limit=1).ids == ["a"]
    assert open_folder(root, limit=2).ids == ["a", "b", "c"]
    assert open_folder(root, limit=9).ids == ["a", "b", "c", "d"]
    with pytest.raises(UsageError, match="source folder: nothing of it in"):
        count_source("folder", str(root / "images"))


def test_a_mask_with_the_very_name_of_an_image_serves_that_image_alone(root, put):
    put("images/x.png", 1)
    put("images/x_gt.png", 2)
    put("masks/x_gt.png")
    source = open_folder(root)
    assert problem(source, "x") == "missing_mask"
    assert source.read("x_gt").sample_id == "x_gt"


def test_a_picture_that_cannot_be_decoded_is_excluded_and_the_rest_goes_on(root, put):
    for level, name in enumerate("abc"):
        put(f"images/{name}.png", level)
        put(f"masks/{name}.png")
    whole = (root / "images" / "a.png").read_bytes()
    (root / "images" / "a.png").write_bytes(whole[:40])
    (root / "masks" / "c.png").write_bytes(b"")
    source = open_folder(root)
    assert problem(source, "a") == "unreadable" and source.read("b").group == "b"
    assert problem(source, "c") == "unreadable"


@pytest.mark.parametrize("damage", ["emptied", "gone", "another image", "another mask"])
def test_what_changes_behind_the_back_of_a_run_ends_it(root, put, damage):
    put("images/a.png", 1)
    put("masks/a.png")
    source = open_folder(root)
    if damage == "emptied":
        (root / "masks" / "a.png").write_bytes(b"")
    elif damage == "gone":
        (root / "images" / "a.png").unlink()
    else:
        put("images/a.png" if damage == "another image" else "masks/a.png", 77)
    with pytest.raises(AfbenchError, match=r"source folder changed since it was indexed: .*--full") as told:
        source.read("a")
    assert told.value.exit_code == 1


def test_a_root_that_does_not_hold_what_it_should_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"source folder: '.*nowhere' is no folder; expected images/"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"expected images/.* found an empty folder"):
        open_folder(tmp_path)
    for name in "abcdefg":
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=r"found 'a', 'b', 'c', 'd', 'e' and 2 more"):
        open_folder(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"1 forged images in '.*' and no mask; expected images/"):
        open_folder(tmp_path)
