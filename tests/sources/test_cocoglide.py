"""CocoGlide: only the COCO id joins a picture and its mask; classes have spaces."""

from releases import survey
from releases_more import build_cocoglide, forged_pixel_count, forged_pixels, list_entries

from afbench.sources.layouts import cocoglide
from afbench.sources.sample_names import sample_id


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_cocoglide(tmp_path, sample_id)
    assert survey("cocoglide", tmp_path) == expected
    forged = forged_pixels("cocoglide", tmp_path)
    assert forged == {sample_id: forged_pixel_count(sample_id) for sample_id in expected.included}


def test_a_photograph_shares_the_group_of_what_was_painted_into_it(tmp_path):
    build_cocoglide(tmp_path, sample_id)
    groups = {name: entry.group for name, entry in list_entries("cocoglide", tmp_path).items()}
    assert (
        groups["glide_inpainting_val2017_114871_up"] == groups[sample_id("dining table_114871")] == "114871"
    )


def test_masks_renamed_after_their_images_are_found_and_both_kinds_together_are_ambiguous():
    fake, renamed = "fake/glide_inpainting_val2017_7_up.png", "GT/glide_inpainting_val2017_7_up_mask.png"
    (entry,) = cocoglide.entries([fake, renamed], str)
    assert (entry.image, entry.masks) == (fake, (renamed,))
    (entry,) = cocoglide.entries([fake, renamed, "mask/dog_000000000007_mask.png"], str)
    assert entry.problem == "ambiguous_mask"


def test_other_pictures_are_another_release():
    assert cocoglide.entries(["fake/cat_1.png", "real/cat_1.png", "mask/cat_1_mask.png"], str) == []
