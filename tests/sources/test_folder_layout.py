"""A user's own folders: paired by relative stem, never by order; any layout of names comes back as it was."""

import io
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from releases import encoded, half_mask, photograph, put, put_bytes, survey

from afbench.sources.layouts import LAYOUTS, folder, load_layout
from afbench.sources.sample_names import is_picture, sample_id, stem

NAME = st.text(st.sampled_from("abz.-_ 図é0"), min_size=1, max_size=6).filter(lambda name: name.strip(". "))
SUFFIX = st.sampled_from([".png", ".JPG", ".tif", ".Bmp"])


def entries(*paths):
    return folder.entries(sorted(paths), str)


def found(*paths):
    return {entry.sample_id: entry for entry in entries(*paths)}


def problems(*paths):
    return {name: entry.problem for name, entry in found(*paths).items()}


def test_masks_are_paired_by_stem_where_sorting_would_pair_others():
    # sorted: a, a-2, b against 0, a-2_gt, a_mask, b: every pair by order is wrong
    images = ["images/a.png", "images/a-2.png", "images/b.png"]
    masks = ["masks/0.png", "masks/a-2_gt.png", "masks/a_mask.png", "masks/b.png"]
    pairs = {name: (entry.image, entry.masks) for name, entry in found(*images, *masks).items()}
    assert pairs == {
        "0": (None, ("masks/0.png",)),
        "a": ("images/a.png", ("masks/a_mask.png",)),
        "a-2": ("images/a-2.png", ("masks/a-2_gt.png",)),
        "b": ("images/b.png", ("masks/b.png",)),
    }
    assert problems(*images, *masks) == {"0": "missing_image", "a": "", "a-2": "", "b": ""}


def test_what_cannot_be_told_apart_is_excluded_by_reason():
    assert problems(
        *("images/a.png", "images/a.bmp", "masks/a.png"),
        *("images/b.png", "masks/b.png", "masks/b.tif"),
        *("images/c.png", "masks/c_gt.png", "masks/c.png"),
        "images/d.png",
        *("images/day/e.png", "images/day__e.png", "masks/day/e.png", "masks/day__e.png"),
    ) == {
        "a": "ambiguous_name",
        "b": "ambiguous_mask",
        "c": "ambiguous_mask",
        "d": "missing_mask",
        "day__e": "ambiguous_name",
    }


@pytest.mark.parametrize("above", ["", "data/", "data/set 1/"])
@pytest.mark.parametrize(("images", "masks"), [("Tp", "Gt"), ("image", "mask"), ("images", "GroundTruth")])
def test_folders_side_by_side_may_have_other_names(above, images, masks):
    pairs = found(f"{above}{images}/day/a.jpg", f"{above}{masks}/day/a_gt.png", f"{above}other/a.png")
    (one,) = pairs.values()
    assert one.masks == (f"{above}{masks}/day/a_gt.png",) and not one.problem


def test_where_there_are_images_and_masks_folders_of_other_names_do_not_count():
    assert problems("images/a.png", "masks/a.png", "Gt/a.png", "Tp/a.png", "masks_old/b.png") == {"a": ""}


def test_two_halves_of_a_dataset_stay_apart():
    pairs = found(*(f"{half}/{kind}/a.png" for half in ("train", "test") for kind in ("images", "masks")))
    assert {name: one.masks for name, one in pairs.items()} == {
        "test__a": ("test/masks/a.png",),
        "train__a": ("train/masks/a.png",),
    }


def test_npz_masks_are_read_as_such():
    (one,) = found("images/a.png", "masks/a.npz").values()
    assert (one.masks, one.rule, one.problem) == (("masks/a.npz",), "npz", "")
    assert problems("images/a.png", "masks/a.npz", "masks/a.png") == {"a": "ambiguous_mask"}


def test_stems_are_compared_in_any_case_where_only_one_image_can_be_meant():
    assert problems("images/a.png", "masks/A_Mask.PNG") == {"a": ""}
    assert problems("images/a.png", "images/A.png", "masks/A.png") == {"A": "", "a": "missing_mask"}
    assert problems("images/a.png", "masks/A.png", "masks/A_GT.png") == {"a": "ambiguous_mask"}


def test_a_mask_with_the_very_name_of_an_image_serves_that_image_alone():
    assert problems("images/x.png", "images/x_gt.png", "masks/x_gt.png") == {"x": "missing_mask", "x_gt": ""}


def test_nested_folders_are_paired_by_their_relative_path_and_groups_are_single_images():
    pairs = found(*(f"{top}/{day}/a.png" for top in ("images", "masks") for day in ("one", "two")))
    assert list(pairs) == ["one__a", "two__a"]
    assert pairs["two__a"].masks == ("masks/two/a.png",) and pairs["two__a"].group == "two__a"


def test_only_the_two_folders_count_and_another_root_gives_nothing():
    assert entries("a.png", "photos/images/a.png", "photos/masks/a.png", "masks/a.png") == []
    assert problems(
        "Images/a.PNG", "MASKS/a.Tif", "images/notes.txt", "images/.b.png", "images/Thumbs.db"
    ) == {"a": ""}


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.tuples(st.lists(NAME, max_size=2).map(tuple), NAME),
        st.tuples(SUFFIX, SUFFIX, st.sampled_from(["", "_mask", "_gt"]), st.booleans()),
        max_size=8,
    )
)
@example({((), "a"): (".png", ".png", "_gt", True), ((), "a_gt"): (".png", ".png", "", True)})
def test_every_image_of_a_random_layout_comes_back_with_its_own_mask_or_a_reason(layout):
    paths, drawn = [], {}
    for (folders, name), (image_suffix, mask_suffix, ending, masked) in layout.items():
        image = "/".join(("images", *folders, name + image_suffix))
        mask = "/".join(("masks", *folders, name + ending + mask_suffix))
        paths += [image, mask] if masked else [image]
        drawn[image] = mask if masked else None
    shown = [path for path in drawn if is_picture(path)]
    listed = entries(*paths)
    ids = [entry.sample_id for entry in listed]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in ids)
    assert len({entry.image for entry in listed if entry.image}) <= len(shown)
    for entry in listed:
        if not entry.problem:
            assert entry.masks == (drawn[entry.image],)
    named = {entry.image for entry in listed}
    doubled = {entry.sample_id for entry in listed if entry.problem == "ambiguous_name"}
    for image in shown:
        assert image in named or sample_id(image.split("/", 1)[1].rpartition(".")[0]) in doubled


@pytest.mark.parametrize(
    "name", ["plain-1.2_x", "two words", "図", "ünï", "a;rm -rf", "a..", "'quoted'", "\udcff"]
)
def test_ids_hold_only_letters_that_are_legal_everywhere(name):
    assert re.fullmatch(r"[A-Za-z0-9._-]+", sample_id(name))
    assert sample_id(f"b/{name}").startswith("b__")


def test_names_in_another_alphabet_stay_apart_and_legal_ones_stay_as_they_are():
    names = ["図", "絵", "é", "è", "_", "a b", "a_b"]
    assert len({sample_id(name) for name in names}) == len(names)
    assert sample_id("Sp_D_x.0257-a") == "Sp_D_x.0257-a"


def test_a_stem_ends_at_the_last_dot():
    stems = {"a/b.c/d.0257_gt.png": "d.0257_gt", "x.TIF": "x", "noext": "noext", ".hidden": ".hidden"}
    assert {path: stem(path) for path in stems} == stems


def test_real_files_are_read_through_the_layout(tmp_path):
    put(tmp_path, "images/a.png", photograph(1))
    put(tmp_path, "masks/a_mask.png", half_mask())
    put(tmp_path, "images/b.png", photograph(2))
    put(tmp_path, "masks/b.png", half_mask((32, 48)))
    assert survey("folder", tmp_path) == (["a"], {"b": "rotated_mask"}, [], {})


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_can_be_loaded_and_says_what_it_looks_for(name):
    layout = load_layout(name)
    assert layout.EXPECTS and "\n" not in layout.EXPECTS
    if name == "hf":  # its samples are rows of tables, not files
        return
    assert layout.entries([], str) == []
    assert layout.entries(["notes.md", "photo.png", ".git/config"], str) == []


@pytest.mark.parametrize("above", ["", "data/"])
@pytest.mark.parametrize("images", ["input", "forged", "forgery", "Tampered", "fake", "probe", "fake_img"])
@pytest.mark.parametrize("masks", ["gt", "mask", "masks", "groundtruth"])
def test_images_are_found_by_other_names_beside_masks(above, images, masks):
    pairs = found(f"{above}{images}/a.jpg", f"{above}{masks}/a_gt.png", f"{above}real/a.jpg")
    (one,) = pairs.values()
    assert (one.image, one.masks, one.problem) == (
        f"{above}{images}/a.jpg",
        (f"{above}{masks}/a_gt.png",),
        "",
    )


def test_names_such_as_fake_mean_nothing_where_images_have_masks():
    pairs = (
        "fake/images/a.png",
        "fake/masks/a.png",
        "probe/images/b.png",
        "probe/masks/b.png",
        "input/c.png",
    )
    assert problems(*pairs) == {"fake__a": "", "probe__b": ""}
    assert problems("Tp/a.png", "Gt/a.png", "fake/b.png", "input/a.png") == {"a": ""}


def test_masks_beside_their_images_are_told_by_what_stands_behind_the_stem():
    pairs = found(
        "a.png", "a_GT.png", "b 1.jpg", "b 1_mask.PNG", "c.png", "d_mask.png", "sub/a.tif", "sub/a_gt.png"
    )
    assert {one.image: one.masks for one in pairs.values() if not one.problem} == {
        "a.png": ("a_GT.png",),
        "b 1.jpg": ("b 1_mask.PNG",),
        "sub/a.tif": ("sub/a_gt.png",),
    }
    reasons = {name: one.problem for name, one in pairs.items() if one.problem}
    assert reasons == {"c": "missing_mask", "d_mask": "missing_image"}
    assert problems("party_mask.png", "party_mask_gt.png") == {"party_mask": ""}
    assert problems("images/a.png", "images/a_mask.png") == {"images__a": ""}


def test_pictures_without_any_mask_are_no_source():
    assert entries("a.png", "b.png") == []


def test_pictures_in_formats_that_are_not_read_are_excluded_by_their_own_name(tmp_path):
    for number, suffix in enumerate(("jfif", "jpe", "png")):
        put_bytes(
            tmp_path,
            f"images/good-{suffix}.{suffix}",
            encoded(photograph(number), "PNG" if suffix == "png" else "JPEG"),
        )
        put_bytes(
            tmp_path,
            f"masks/good-{suffix}.{suffix}",
            encoded(half_mask(), "PNG" if suffix == "png" else "JPEG"),
        )
    array = io.BytesIO()
    np.save(array, np.zeros((32, 48)))
    foreign = {
        "gif": encoded(photograph(3), "GIF"),
        "npy": array.getvalue(),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
        "avif": b"\0\0\0\x1cftypavif",
    }
    for suffix, data in foreign.items():
        put_bytes(tmp_path, f"images/image-{suffix}.{suffix}", data)
        put(tmp_path, f"masks/image-{suffix}.png", half_mask())
        put(tmp_path, f"images/mask-{suffix}.png", photograph(4))
        put_bytes(tmp_path, f"masks/mask-{suffix}.{suffix}", data)
    put(tmp_path, "images/thumbnail.png", photograph(5))
    put_bytes(tmp_path, "images/thumbnail.gif", foreign["gif"])
    put(tmp_path, "masks/thumbnail.png", half_mask())
    found = survey("folder", tmp_path)
    assert found.included == ["good-jfif", "good-jpe", "good-png", "thumbnail"]
    assert found.excluded == {
        f"{what}-{suffix}": "unsupported_format" for what in ("image", "mask") for suffix in foreign
    }
