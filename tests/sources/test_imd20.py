"""IMD2020: a folder is a group; masks lie beside their images; soft edges are reported."""

import pytest
from releases import build_imd20, half_mask, listing, photograph, put, survey

from afbench.sources.entry_reader import read_entry
from afbench.sources.layouts import imd20
from afbench.sources.source_entry import SourceOptions


def by_id(root):
    return {entry.sample_id: entry for entry in imd20.entries(listing(root), str)}


def test_exactly_what_was_planted_is_found_and_excluded(tmp_path):
    assert survey("imd20", tmp_path) == ([], {}, [], {})
    expected = build_imd20(tmp_path / "IMD2020")
    assert survey("imd20", tmp_path) == expected


def test_forgeries_of_one_original_share_a_group(tmp_path):
    build_imd20(tmp_path)
    groups = {name: entry.group for name, entry in by_id(tmp_path).items()}
    assert (
        groups["1a07yi__c8tsf7x_0"]
        == groups["1a07yi__c8tsg2k_0"]
        == groups["1a07yi__1a07yi_orig"]
        == "1a07yi"
    )
    assert groups["z22__00047_fake_01"] == "z22"


def test_a_soft_mask_is_cut_in_the_middle_and_its_grey_is_reported(tmp_path):
    build_imd20(tmp_path)
    read = read_entry(tmp_path, by_id(tmp_path)["1a07yi__c8tsg2k_0"], SourceOptions())
    assert (read.sample.mask[0] > 0).sum() == 15
    assert read.mask_grey_fraction == 6 / 48


def test_a_corrected_mask_is_read_like_any_other(tmp_path):
    build_imd20(tmp_path)
    put(tmp_path, "z14/00030_fake_mask.png", half_mask())
    assert "z14__00030_fake" in survey("imd20", tmp_path).included


def test_strangers_in_a_folder_of_the_release_are_named_and_other_folders_left_alone(tmp_path):
    build_imd20(tmp_path)
    put(tmp_path, "z22/preview.jpg", photograph(1))
    put(tmp_path, "figures/paper_1.png", photograph(2))
    found = by_id(tmp_path)
    assert found["z22__preview"].problem == "unknown_name" and "figures__paper_1" not in found


@pytest.mark.parametrize("forged", ["tampered", "fake_img", "Tampered"])
@pytest.mark.parametrize("above", ["", "IMD2020/"])
def test_a_copy_in_folders_by_role_is_found_with_its_originals(tmp_path, forged, above):
    for number, name in enumerate(("c8tsf7x_0", "00010_fake")):
        put(tmp_path, f"{above}{forged}/{name}.jpg", photograph(number))
        put(tmp_path, f"{above}mask/{name}_mask.png", half_mask())
    put(tmp_path, f"{above}{forged}/alone_0.jpg", photograph(3))
    put(tmp_path, f"{above}mask/nobody_0_mask.png", half_mask())
    put(tmp_path, f"{above}orig/1a07yi_orig.jpg", photograph(4))
    found = survey("imd20", tmp_path)
    names = [one.rpartition("__")[2] for one in found.included]
    assert names == ["00010_fake", "c8tsf7x_0"] and len(found.authentic) == 1
    assert {name.rpartition("__")[2]: reason for name, reason in found.excluded.items()} == {
        "alone_0": "missing_mask",
        "nobody_0_mask": "missing_image",
    }


def test_folders_of_originals_below_a_role_are_groups(tmp_path):
    put(tmp_path, "tampered/1a07yi/c8tsf7x_0.jpg", photograph(1))
    put(tmp_path, "mask/1a07yi/c8tsf7x_0.png", half_mask())
    put(tmp_path, "orig/1a07yi/1a07yi_orig.jpg", photograph(2))
    put(tmp_path, "tampered/c9_0.jpg", photograph(3))
    put(tmp_path, "mask/c9_0.png", half_mask())
    groups = {name: entry.group for name, entry in by_id(tmp_path).items()}
    assert groups == {"1a07yi__c8tsf7x_0": "1a07yi", "1a07yi__1a07yi_orig": "1a07yi", "c9_0": "c9_0"}
