"""DSO-1: masks are inverted and have the names of their images."""

from releases import survey
from releases_more import build_dso1, forged_pixel_count, forged_pixels

from afbench.sources.layouts import dso1


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_dso1(tmp_path)
    assert survey("dso1", tmp_path) == expected
    forged = forged_pixels("dso1", tmp_path)
    assert forged == {sample_id: forged_pixel_count(sample_id) for sample_id in expected.included}


def test_folders_of_any_name_are_told_apart_by_the_word_mask(tmp_path):
    for images, masks in (("images", "masks"), ("tifs-database/DSO-1", "tifs-database/ground truth")):
        (entry,) = dso1.entries([f"{images}/splicing-01.PNG", f"{masks}/splicing-01.png"], str)
        assert (entry.image, entry.masks) == (f"{images}/splicing-01.PNG", (f"{masks}/splicing-01.png",))


def test_other_names_are_another_release():
    assert dso1.entries(["DSO-1/photo-01.png", "splicing-01.txt"], str) == []
