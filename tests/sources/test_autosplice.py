"""AutoSplice: one mask serves several forgeries, at every quality."""

from releases import survey
from releases_more import build_autosplice, forged_pixel_count, forged_pixels, list_entries

from afbench.sources.layouts import autosplice


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_autosplice(tmp_path)
    assert survey("autosplice", tmp_path) == expected
    forged = forged_pixels("autosplice", tmp_path)
    photographs = {sample_id: sample_id.split("__")[1].split("_")[0] for sample_id in expected.included}
    assert forged == {
        sample_id: forged_pixel_count(photograph) for sample_id, photograph in photographs.items()
    }


def test_all_forgeries_of_a_photograph_share_its_group(tmp_path):
    build_autosplice(tmp_path)
    groups = {name: entry.group for name, entry in list_entries("autosplice", tmp_path).items()}
    shared = ["Forged_JPEG100__62981_0", "Forged_JPEG75__62981_12", "Authentic__62981"]
    assert {groups[sample_id] for sample_id in shared} == {"62981"}
    assert groups["Forged_JPEG75__6298_0"] == "6298"


def test_other_folders_are_another_release():
    assert autosplice.entries(["Tp/62981_0.jpg", "Mask/62981_mask.png", "Authentic/62981.jpg"], str) == []
