"""MISD: the union of a splice's objects, whatever its folder of masks is called."""

import numpy as np
from releases import build_misd, half_mask, listing, put, survey

from afbench.sources.entry_reader import read_entry
from afbench.sources.layouts import misd
from afbench.sources.source_entry import SourceOptions


def by_id(root):
    return {entry.sample_id: entry for entry in misd.entries(listing(root), str)}


def test_exactly_what_was_planted_is_found_and_excluded(tmp_path):
    assert survey("misd", tmp_path) == ([], {}, [], {})
    expected = build_misd(tmp_path / "Dataset")
    assert survey("misd", tmp_path) == expected


def test_every_object_is_forged(tmp_path):
    build_misd(tmp_path)
    entry = by_id(tmp_path)["Sp_D_ani_0001_cha_00063_sec_00081_202"]
    assert len(entry.masks) == 2
    mask = read_entry(tmp_path, entry, SourceOptions()).sample.mask
    left = np.asarray(half_mask())
    np.testing.assert_array_equal(mask, left | left[:, ::-1])


def test_splices_that_share_a_photograph_share_a_group(tmp_path):
    build_misd(tmp_path)
    found = by_id(tmp_path)
    names = ("Sp_D_ani_00031_ani_00039_sec_00095_181", "Sp_D_nat_00001_ani_00031_009")
    assert found[names[0]].group == found[names[1]].group
    assert found["Au_ani_0001"].group == found["Sp_D_ani_0001_cha_00063_sec_00081_202"].group


def test_two_folders_of_masks_for_one_image_are_ambiguous(tmp_path):
    build_misd(tmp_path)
    name = "Sp_D_nat_00001_ani_00031_009"
    put(tmp_path, f"old/{name}/masks/a.png", half_mask())
    assert by_id(tmp_path)[name].problem == "ambiguous_mask"
