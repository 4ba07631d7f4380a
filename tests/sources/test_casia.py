"""CASIA v1, v1+ and v2: pairs by whole name, names corrected or not, photographs never on two sides of a split."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import (
    CASIA_V1_MASKS,
    build_casia_v1,
    build_casia_v1plus,
    build_casia_v2,
    half_mask,
    listing,
    photograph,
    put,
    survey,
)

from afbench.resources import resource_json, resource_path
from afbench.sources.index import build_index
from afbench.sources.layouts import casia_v1, casia_v2
from afbench.sources.layouts.casia import corrected, photographs
from afbench.sources.layouts.photograph_groups import group_photographs
from afbench.sources.layouts.release_faults import duplicates, known_exclusions, renames
from afbench.sources.source_entry import SourceOptions

V2_MASKS = ("CASIA 2 Groundtruth", "CASIA2.0_Groundtruth", "groundtruth", "Gt", "mask")


def by_id(module, root):
    return {entry.sample_id: entry for entry in module.entries(listing(root), str)}


@pytest.mark.parametrize("tampered", ["Modified Tp/Tp/{sub}", "Tp/{sub}", "TP/{sub}", "tp"])
@pytest.mark.parametrize("masks", CASIA_V1_MASKS)
def test_every_layout_of_v1_gives_exactly_what_was_planted(tmp_path, tampered, masks):
    expected = build_casia_v1(tmp_path, tampered=tampered, masks=masks)
    assert survey("casia_v1", tmp_path) == expected


def test_a_copy_with_its_names_already_corrected_has_the_same_ids(tmp_path):
    expected = build_casia_v1(tmp_path / "a folder above" / "CASIA", renamed=True)
    assert survey("casia_v1", tmp_path) == expected


def test_v1plus_takes_its_authentic_images_from_corel_alone(tmp_path):
    assert survey("casia_v1plus", tmp_path) == ([], {}, [], {})
    expected = build_casia_v1plus(tmp_path)
    assert survey("casia_v1plus", tmp_path) == expected
    assert not any(name.startswith("corel") for name in survey("casia_v1", tmp_path).authentic)


@pytest.mark.parametrize("masks", V2_MASKS)
def test_every_layout_of_v2_gives_exactly_what_was_planted(tmp_path, masks):
    expected = build_casia_v2(tmp_path / "CASIA2.0_revised", masks=masks)
    assert survey("casia_v2", tmp_path) == expected


def test_two_releases_below_one_root_do_not_mix(tmp_path):
    first, second = build_casia_v1(tmp_path / "CASIA1"), build_casia_v2(tmp_path / "CASIA2")
    assert survey("casia_v1", tmp_path) == first
    assert survey("casia_v2", tmp_path) == second


def test_a_release_is_not_taken_for_the_other(tmp_path):
    build_casia_v1(tmp_path / "1")
    build_casia_v2(tmp_path / "2")
    assert casia_v2.entries(listing(tmp_path / "1"), str) == []
    assert casia_v1.entries(listing(tmp_path / "2"), str) == []


def test_the_missing_mask_of_the_release_itself_is_told_as_known(tmp_path):
    build_casia_v1(tmp_path)
    samples = {one.id: one for one in build_index("casia_v1", tmp_path, SourceOptions(), cache=False).samples}
    one = samples["Sp_D_NRN_A_cha0011_sec0011_0542"]
    assert one.reason == "missing_mask" and one.detail.startswith("known of this release: the ground truth")


def test_a_mask_of_another_size_in_the_release_itself_is_told_as_known(tmp_path):
    build_casia_v2(tmp_path)
    samples = {one.id: one for one in build_index("casia_v2", tmp_path, SourceOptions(), cache=False).samples}
    for name in ("Tp_S_NNN_S_N_sec00012_sec00012_11230", "Tp_S_NRN_S_N_pla20080_pla20080_01980"):
        assert samples[name].reason == known_exclusions("casia_v2")[name].reason
        assert samples[name].detail.startswith("known of this release: mask ")


def test_a_mask_in_the_folder_named_as_the_images_wins_and_a_plain_ending_too(tmp_path):
    name = "Sp_S_NNN_T_txt0022_txt0022_0022"
    put(tmp_path, f"Tp/CM/{name}.jpg", photograph(1))
    put(tmp_path, f"groundtruth/Sp/{name}_gt.png", half_mask())
    own = put(tmp_path, f"groundtruth/CM/{name}_gt.png", half_mask())
    put(tmp_path, f"groundtruth/CM/{name}_gt3.png", half_mask())
    assert by_id(casia_v1, tmp_path)[name].masks == (own.relative_to(tmp_path).as_posix(),)
    put(tmp_path, f"groundtruth2/CM/{name}_gt.png", half_mask())
    assert by_id(casia_v1, tmp_path)[name].problem == "ambiguous_mask"


def test_a_stranger_among_the_images_is_named_and_not_dropped(tmp_path):
    build_casia_v1(tmp_path)
    put(tmp_path, "Modified Tp/Tp/Sp/my own.jpg", photograph(1))
    (strange,) = (one for one in by_id(casia_v1, tmp_path).values() if one.problem == "unknown_name")
    assert strange.image == "Modified Tp/Tp/Sp/my own.jpg"


def test_kinds_and_groups_come_from_the_corrected_name(tmp_path):
    build_casia_v1(tmp_path)
    found = by_id(casia_v1, tmp_path)
    assert found["Sp_D_CND_A_pla0005_pla0023_0281"].kind == "splice"
    assert found["Sp_S_NNN_A_cha0052_cha0052_0309"].kind == "copy_move"
    assert found["Au_pla_0023"].group == found["Sp_D_CND_A_pla0005_pla0023_0281"].group


def test_a_photograph_that_comes_twice_is_excluded_once_and_joins_both_groups(tmp_path):
    build_casia_v2(tmp_path)
    found = by_id(casia_v2, tmp_path)
    again = found["Au_ani_20016"]
    assert again.problem == "duplicate_content" and "au_ani_10140" in again.detail
    assert again.group == found["Au_ani_10140"].group


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_no_photograph_is_in_two_groups(pairs):
    names = [
        f"Sp_D_NRN_A_ani{first:04d}_pla{second:04d}_{number:04d}"
        for number, (first, second) in enumerate(pairs)
    ]
    paths = [f"Tp/Sp/{name}.jpg" for name in names]
    group_of = {}
    for entry in casia_v1.entries(paths, str):
        for one in photographs(entry.sample_id):
            assert group_of.setdefault(one, entry.group) == entry.group


def test_groups_do_not_depend_on_order_and_are_as_small_as_they_can_be():
    links = [("b", "a"), ("c", "d"), ("e",), ("d", "b"), ("f", "f")]
    assert group_photographs(links) == group_photographs(links[::-1])
    assert group_photographs(links) == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e", "f": "f"}
    assert group_photographs([[]]) == {}


@pytest.mark.parametrize(
    ("stem", "ids"),
    [
        ("Sp_D_CND_A_pla0005_pla0023_0281", ["pla5", "pla23"]),
        ("Tp_D_NRD_M_N_arc20052_xxx00006_02478", ["arc20052", "xxx6"]),
        ("Au_ani_00018", ["ani18"]),
        ("Sp_D_ani_0001_cha_00063_sec_00081_202", ["ani1", "cha63", "sec81"]),
        ("holiday_0001", []),
    ],
)
def test_names_tell_their_photographs(stem, ids):
    assert photographs(stem) == ids


@pytest.mark.parametrize("source", ["casia_v1", "casia_v2"])
def test_corrections_lead_to_legal_names_and_no_further(source):
    pattern = {"casia_v1": casia_v1, "casia_v2": casia_v2}[source].RELEASE.forged
    table = renames(source)
    assert len(table) == {"casia_v1": 33, "casia_v2": 141}[source]
    assert len(set(table.values())) == len(table)
    for original, right in table.items():
        assert corrected(source, original.upper()) == corrected(source, right) == right
        assert pattern.fullmatch(right)
        assert right.lower() not in table


def test_what_is_known_to_be_broken_is_data_of_the_release():
    assert len(known_exclusions("casia_v2")) == 17
    reasons = [one.reason for one in known_exclusions("casia_v2").values()]
    assert {name: reasons.count(name) for name in reasons} == {"rotated_mask": 5, "size_mismatch": 12}
    assert all(casia_v2.RELEASE.forged.fullmatch(name) for name in known_exclusions("casia_v2"))
    assert len(duplicates("casia_v2")) == 23
    assert all(casia_v2.RELEASE.authentic.fullmatch(name) for name in duplicates("casia_v2"))
    assert known_exclusions("casia_v1plus") == known_exclusions("casia_v1") != {}
    assert known_exclusions("columbia") == {} and renames("columbia") == {}


def test_every_table_a_source_names_is_shipped_and_every_shipped_table_is_named():
    named = {
        row[kind]
        for row in resource_json("sources").values()
        for kind in ("renames", "duplicates", "known")
        if kind in row
    }
    found = {path.name for path in resource_path("manifests/sources").glob("*.csv")}
    assert named == found
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in resource_json("sources"))
