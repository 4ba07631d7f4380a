"""COVERAGE: the forged mask of three, nine masks of another size, originals beside their copies."""

from releases import survey
from releases_more import build_coverage, forged_pixel_count, forged_pixels, list_entries

from afbench.sources.layouts import coverage
from afbench.sources.source_entry import SourceOptions


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_coverage(tmp_path)
    assert survey("coverage", tmp_path) == expected
    forged = forged_pixels("coverage", tmp_path)
    assert forged == {sample_id: forged_pixel_count(sample_id) for sample_id in expected.included}


def test_a_mask_of_another_size_is_found_by_reading_and_resized_where_asked(tmp_path):
    build_coverage(tmp_path)
    assert list_entries("coverage", tmp_path)["4t"].problem == ""
    found = survey("coverage", tmp_path, SourceOptions(on_mismatch="resize-nearest"))
    assert "4t" in found.included and found.excluded["5t"] == "rotated_mask"


def test_an_original_shares_the_group_of_its_copy(tmp_path):
    build_coverage(tmp_path)
    groups = {name: entry.group for name, entry in list_entries("coverage", tmp_path).items()}
    assert groups["1"] == groups["1t"] != groups["2t"]


def test_numbered_pictures_alone_are_no_such_release():
    assert coverage.entries(["image/1.tif", "image/2.tif", "mask/1.tif"], str) == []


def test_a_release_that_lies_there_twice_is_ambiguous_and_says_where():
    paths = ["a/image/1t.tif", "a/mask/1forged.tif", "b/image/1t.tif", "b/mask/1forged.tif"]
    (entry,) = coverage.entries(paths, str)
    assert (entry.sample_id, entry.problem) == ("1t", "ambiguous_name")
    assert "a/image/1t.tif" in entry.detail and "b/image/1t.tif" in entry.detail


def test_its_forgeries_are_copy_moves():
    (entry,) = coverage.entries(["image/1t.tif", "mask/1forged.tif"], str)
    assert (entry.kind, entry.rule, entry.label) == ("copy_move", "white", "forged")
