"""Columbia: coloured masks by hue, green spliced unless told otherwise, wherever the archive was unpacked."""

import numpy as np
import pytest
from releases import build_columbia, edge_mask, half_mask, listing, photograph, put, survey

from afbench.core import BadSample
from afbench.sources.entry_reader import read_entry
from afbench.sources.layouts import columbia
from afbench.sources.source_entry import SourceOptions


def read_sample(root, sample_id, options=SourceOptions()):  # noqa: B008 frozen
    (entry,) = (one for one in columbia.entries(listing(root), str) if one.sample_id == sample_id)
    return read_entry(root, entry, options)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("above", ["", "data/Columbia Uncompressed"])
def test_exactly_what_was_planted_is_found_and_excluded(tmp_path, nested, above):
    assert survey("columbia", tmp_path, SourceOptions()) == ([], {}, [], {})
    expected = build_columbia(tmp_path / above, nested=nested)
    assert survey("columbia", tmp_path) == expected


def test_the_green_half_is_forged_and_the_red_half_when_inverted(tmp_path):
    build_columbia(tmp_path)
    plain = read_sample(tmp_path, "canong3_canonxt_sub_01").sample.mask
    assert not plain[:, :31].any() and (plain[:, 33:] == 255).all()
    inverted = read_sample(tmp_path, "canong3_canonxt_sub_01", SourceOptions(invert=True)).sample.mask
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_groups_are_pairs_of_cameras_and_authentic_photographs_are_told_by_name(tmp_path):
    build_columbia(tmp_path)
    found = {one.sample_id: one for one in columbia.entries(listing(tmp_path), str)}
    assert found["canonxt_kodakdcs330_sub_14"].group == "canonxt_kodakdcs330"
    authentic = found["canonxt_38_sub_06"]
    assert (authentic.label, authentic.group, authentic.masks) == ("authentic", "canonxt", ())
    assert {one.rule for one in found.values() if one.masks and one.image} == {"green"}


def test_an_authentic_tiff_that_claims_a_rotation_is_read_as_stored(tmp_path):
    build_columbia(tmp_path)
    read = read_sample(tmp_path, "canonxt_38_sub_06")
    assert read.exif_orientation == 6
    np.testing.assert_array_equal(read.sample.image, np.asarray(photograph(12, (64, 48))))


def test_one_splice_in_two_files_is_ambiguous(tmp_path):
    put(tmp_path, "4cam_splc/canong3_canonxt_sub_01.tif", photograph(1))
    put(tmp_path, "4cam_splc/4cam_splc/canong3_canonxt_sub_01.bmp", photograph(2))
    put(tmp_path, "4cam_splc/edgemask/canong3_canonxt_sub_01_edgemask.jpg", edge_mask())
    assert survey("columbia", tmp_path).excluded == {"canong3_canonxt_sub_01": "ambiguous_name"}


@pytest.mark.parametrize("ending", ["", "_gt", "_mask"])
@pytest.mark.parametrize("mode", ["grey", "hue"])
def test_masks_of_a_folder_mask_are_read_by_hue_or_where_they_have_none_by_grey(tmp_path, ending, mode):
    name = "canong3_canonxt_sub_01"
    put(tmp_path, f"4cam_splc/{name}.tif", photograph(1))
    mask = half_mask(share=0.5).transpose(0) if mode == "grey" else edge_mask()
    put(tmp_path, f"mask/{name}{ending}.jpg", mask)
    put(tmp_path, f"mask/canonxt_38_sub_06{ending}.jpg", half_mask())
    put(tmp_path, "4cam_auth/canonxt_38_sub_06.tif", photograph(2))
    found = survey("columbia", tmp_path)
    assert (found.included, found.excluded, found.authentic) == ([name], {}, ["canonxt_38_sub_06"])
    read = read_sample(tmp_path, name)
    assert not read.sample.mask[:, :23].any() and (read.sample.mask[:, 25:] == 255).all()


def test_masks_of_the_release_count_where_redrawn_ones_lie_beside_them(tmp_path):
    expected = build_columbia(tmp_path)
    put(tmp_path, f"mask/{expected.included[0]}.jpg", half_mask())
    put(tmp_path, "mask/canong3_canonxt_sub_29.jpg", half_mask())
    assert survey("columbia", tmp_path) == expected._replace(
        excluded={**expected.excluded, "canong3_canonxt_sub_29": "missing_image"}
    )
    (entry,) = (
        one for one in columbia.entries(listing(tmp_path), str) if one.sample_id == expected.included[0]
    )
    assert entry.rule == "green" and "edgemask" in entry.masks[0]


def test_a_grey_mask_under_the_name_of_a_coloured_one_says_where_it_belongs(tmp_path):
    put(tmp_path, "4cam_splc/canong3_canonxt_sub_01.tif", photograph(1))
    put(tmp_path, "4cam_splc/edgemask/canong3_canonxt_sub_01_edgemask.jpg", half_mask())
    with pytest.raises(
        BadSample, match=r"empty_mask: .*it has no hue; a grey mask is read from a folder 'mask'"
    ):
        read_sample(tmp_path, "canong3_canonxt_sub_01")
