"""NIST16: pairs are what its table says, masks are black, and numbers mean nothing."""

import pytest
from releases import survey
from releases_more import NIST_HEADER, build_nist16, forged_pixel_count, forged_pixels, list_entries, nist_row

from afbench.core import UsageError
from afbench.sources.layouts import nist16
from afbench.sources.source_entry import SourceOptions

TABLE = "reference/manipulation/NC2016-manipulation-ref.csv"


def entries_of(*rows, paths=(), table=TABLE):
    return nist16.entries([*paths, table], lambda _: "\n".join([NIST_HEADER, *rows]))


def test_the_release_gives_exactly_what_was_planted(tmp_path):
    expected = build_nist16(tmp_path)
    assert survey("nist16", tmp_path) == expected
    forged = forged_pixels("nist16", tmp_path)
    assert forged == {sample_id: forged_pixel_count(sample_id) for sample_id in expected.included}


def test_a_copy_whose_masks_were_inverted_is_read_by_asking_for_it(tmp_path):
    build_nist16(tmp_path)
    forged = forged_pixels("nist16", tmp_path, SourceOptions(invert=True))
    assert forged["NC2016_0128"] == 24 * 16 - forged_pixel_count("NC2016_0128")


def test_probes_share_the_group_of_the_photograph_they_were_made_from(tmp_path):
    build_nist16(tmp_path)
    entries = list_entries("nist16", tmp_path)
    assert entries["NC2016_0128"].group == entries["NC2016_0003"].group == entries["NC2016_8000"].group
    kinds = [entries[f"NC2016_{probe}"].kind for probe in ("0003", "0128", "0002")]
    assert kinds == ["splice", "removal", "copy_move"]


def test_a_release_below_other_folders_with_its_masks_renamed_is_found():
    paths = ["x/y/probe/NC2016_0001.jpg", "x/y/gt/NC2016_3000.png"]
    row = nist_row("probe/NC2016_0001.jpg", "reference/manipulation/mask/NC2016_3000.png")
    (entry,) = entries_of(row, paths=paths, table=f"x/y/{TABLE}")
    assert (entry.image, entry.masks, entry.problem) == (paths[0], (paths[1],), "")
    (entry,) = entries_of(row, paths=paths, table="NC2016-manipulation-ref.CSV")
    assert (entry.image, entry.masks, entry.problem) == (paths[0], (paths[1],), "")


def test_masks_renamed_after_their_probes_are_not_taken_for_those_the_table_names():
    # in such a copy gt/NC2016_0002.png belongs to probe 0002, whatever the table calls by this number
    rows = [
        nist_row("probe/NC2016_0001.jpg", "mask/NC2016_0002.png"),
        nist_row("probe/NC2016_0002.jpg", "mask/NC2016_0001.png"),
    ]
    paths = [
        f"{name.format(number)}"
        for name in ("gt/NC2016_000{}.png", "probe/NC2016_000{}.jpg")
        for number in (1, 2)
    ]
    assert [entry.problem for entry in entries_of(*rows, paths=paths)] == ["ambiguous_mask"] * 2


def test_pictures_without_their_table_are_refused_and_other_pictures_are_another_release():
    with pytest.raises(UsageError, match=r"no NC2016-manipulation-ref\.csv .* only this table knows"):
        nist16.entries(["probe/NC2016_0001.jpg"], str)
    assert nist16.entries(["probe/cat.jpg"], str) == []
    with pytest.raises(UsageError, match=r"2 tables \('a/NC2016.* and 'b/NC2016"):
        nist16.entries([f"{folder}/NC2016-manipulation-ref.csv" for folder in "ab"], str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column IsTarget, ProbeFileName, ProbeMaskFileName, BaseFileName; expected"),
        (NIST_HEADER.replace("IsTarget", "Target"), "line 1: no column IsTarget; expected"),
        (f"{NIST_HEADER}\n\na|b|c", "line 3: 3 fields, expected 9"),
        (
            f"{NIST_HEADER}\n{nist_row('p.jpg', 'm.png').replace('|Y|', '|maybe|', 1)}",
            "line 2: expected IsTarget",
        ),
        (f"{NIST_HEADER}\n{nist_row('', 'm.png')}", "line 2: expected IsTarget"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(text, message):
    with pytest.raises(UsageError) as refusal:
        nist16.entries([TABLE], lambda _: text)
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "C:\\x.jpg", "probe/../../x.jpg", "..\\x.jpg"])
def test_a_name_that_leads_out_of_the_root_is_excluded(name):
    (entry,) = entries_of(nist_row(name, "mask/a.png"), paths=["x.jpg", "mask/a.png"])
    assert entry.problem == "outside_root" and entry.image is None
