"""Korus: four cameras, upper-case suffixes, masks of three levels."""

from releases import survey
from releases_more import build_korus, forged_pixel_count, forged_pixels, list_entries

from afbench.sources.layouts import korus


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_korus(tmp_path)
    assert survey("korus", tmp_path) == expected
    forged = forged_pixels("korus", tmp_path)
    assert forged == {sample_id: forged_pixel_count(sample_id) for sample_id in expected.included}


def test_one_name_with_two_cameras_is_two_samples_and_two_groups(tmp_path):
    build_korus(tmp_path)
    groups = {name: entry.group for name, entry in list_entries("korus", tmp_path).items()}
    assert groups["Canon_60D__DPP0012"] == groups["Canon_60D__pristine__DPP0012"]
    assert groups["Canon_60D__DPP0012"] != groups["Nikon_D90__DPP0012"]


def test_a_root_of_one_camera_and_renamed_folders_are_found():
    (entry,) = korus.entries(["Tampered/a.tif", "Ground Truth/a.png"], str)
    assert (entry.sample_id, entry.masks) == ("a", ("Ground Truth/a.png",))


def test_masks_alone_are_another_release():
    assert korus.entries(["x/ground-truth/a.PNG", "x/pristine/a.TIF"], str) == []
