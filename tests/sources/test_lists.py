"""Lists of images and masks as three communities write them: no line is guessed at."""

import csv
import io
import json
import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import listing
from releases_more import forged_pixel_count, forged_pixels, put_mask, put_picture

from afbench.core import UsageError
from afbench.sources.layouts import lists
from afbench.sources.release_files import find_entries
from afbench.sources.sample_names import sample_id

FILES = ("Tp/a.jpg", "Tp/b.tif", "Au/c.jpg", "Gt/a_gt.png", "Gt/b_gt.png")


def entries_by_id(text, files=FILES, name="list.txt"):
    """Entries of one list, by id."""
    found = lists.entries([*files, name], lambda _: text)
    assert [entry.sample_id for entry in found] == sorted({entry.sample_id for entry in found})
    return {entry.sample_id: entry for entry in found}


def summaries(found):
    return {(entry.image, *entry.masks, entry.label, entry.problem) for entry in found.values()}


WHOLE = {
    ("Tp/a.jpg", "Gt/a_gt.png", "forged", ""),
    ("Tp/b.tif", "Gt/b_gt.png", "forged", ""),
    ("Au/c.jpg", "authentic", ""),
}
SPACED = "Tp/a.jpg Gt/a_gt.png 1\r\nTp/b.tif Gt/b_gt.png 2\r\nAu/c.jpg None 0"
COMMA = "Tp/a.jpg,Gt/a_gt.png,Tp/a.jpg\nTp/b.tif,Gt/b_gt.png\n\nAu/c.jpg,None,Au/c.jpg\n"
JSON = json.dumps([["Tp/a.jpg", "Gt/a_gt.png"], ["./Tp/b.tif", "Gt/b_gt.png"], ["Au/c.jpg", "Negative"]])


@pytest.mark.parametrize(
    "text", [SPACED, "\ufeff" + SPACED + "\r\n", SPACED.replace("\r\n", "\r"), COMMA, JSON]
)
def test_every_form_gives_the_same_pairs(text):
    assert summaries(entries_by_id(text)) == WHOLE
    assert set(entries_by_id(text)) == {"Tp__a", "Tp__b", "Au__c"}


def test_a_list_on_disk_is_read_with_its_masks(tmp_path):
    put_picture(tmp_path / "im/a b.png")
    put_mask(tmp_path / "gt/x.png", "x")
    (tmp_path / "set.csv").write_text("im/a b.png,gt/x.png\n")
    (tmp_path / "README.txt").write_text("no list")
    assert forged_pixels("list", tmp_path) == {sample_id("im/a b"): forged_pixel_count("x")}


def test_names_with_spaces_are_read_where_only_one_split_has_its_files():
    files = ("dining table.png", "dining table mask.png", "cat.png")
    found = entries_by_id("cat.png dining table mask.png 1\ndining table.png None 0", files)
    assert summaries(found) == {
        ("cat.png", "dining table mask.png", "forged", ""),
        ("dining table.png", "authentic", ""),
    }


@pytest.mark.parametrize(
    "files",
    [
        ("a", "b c", "a b", "c"),  # both splits have their files
        ("a", "c"),  # neither has
    ],
)
def test_a_line_that_cannot_be_split_in_one_way_is_excluded(files):
    found = entries_by_id("x.png y.png 1\na b c 1", ("x.png", "y.png", *files))
    assert found["line-2"].problem == "ambiguous_line" and "line 2" in found["line-2"].detail
    assert found["x"].problem == "" and len(found) == 2


def test_commas_in_names_are_read_where_only_one_split_has_its_files():
    assert summaries(entries_by_id("a,b.png,m.png", ("a,b.png", "m.png"))) == {
        ("a,b.png", "m.png", "forged", "")
    }
    assert summaries(entries_by_id("a, b.png,m,1.png,a.jpg", ("a, b.png", "m,1.png"))) == {
        ("a, b.png", "m,1.png", "forged", "")
    }
    both = ("a", "b,c", "a,b", "c", "b", "x.png")
    assert entries_by_id("x.png,c\na,b,c", both)["line-2"].problem == "ambiguous_line"
    assert entries_by_id("x.png,c\n" + "a," * 5000 + "a", both)["line-2"].problem == "ambiguous_line"


def test_labels_and_masks_that_contradict_each_other_are_excluded():
    found = entries_by_id("Tp/a.jpg None 1\nTp/b.tif Gt/b_gt.png 0\nAu/c.jpg None 0")
    assert found["Tp__a"].problem == "missing_mask" and found["Tp__b"].problem == "ambiguous_line"
    assert found["Au__c"].problem == "" and found["Au__c"].label == "authentic"


def test_files_that_are_not_there_are_named():
    found = entries_by_id("Tp/a.jpg,Gt/none.png\nTp/none.jpg,Gt/a_gt.png\nAu/c.jpg,None")
    assert (found["Tp__a"].problem, found["Tp__a"].detail) == ("missing_mask", "line 1 names 'Gt/none.png'")
    assert (found["Tp__none"].problem, found["Tp__none"].image) == ("missing_image", None)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.png", "Tp/../../x.png", "C:/x.png", "..\\x.png", "\\\\host\\x"]
)
def test_paths_that_leave_the_root_are_never_opened(name):
    for pair in ((name, "Gt/a_gt.png"), ("Tp/a.jpg", name)):
        text = json.dumps([pair, ["Tp/b.tif", "Gt/b_gt.png"]])
        (bad,) = [entry for entry in entries_by_id(text, name="l.json").values() if entry.problem]
        assert bad.problem == "outside_root" and not bad.masks and bad.image in (None, "Tp/a.jpg")


def test_suffixes_and_folders_in_another_case_and_backslashes_are_found():
    assert summaries(entries_by_id("tp\\A.JPG,gt\\a_GT.png")) == {("Tp/a.jpg", "Gt/a_gt.png", "forged", "")}


def test_two_files_that_differ_in_case_only_are_told_apart_by_the_exact_name_alone():
    files = ("a.png", "A.png", "m.png", "M.png")
    assert summaries(entries_by_id("a.png,M.png", files)) == {("a.png", "M.png", "forged", "")}
    assert entries_by_id("a.png,m.PNG", files)["a"].problem == "missing_mask"


def test_a_line_said_twice_counts_once_and_two_that_differ_take_the_image_out():
    found = entries_by_id(
        "Tp/a.jpg,Gt/a_gt.png\n./Tp/a.jpg,Gt/a_gt.png\nTp/b.tif,Gt/b_gt.png\nTp/b.tif,Gt/a_gt.png"
    )
    assert found["Tp__a"].problem == "" and found["Tp__b"].problem == "ambiguous_mask"
    assert found["Tp__b"].detail == "line 3 and line 4 say different things"


def test_images_of_one_name_and_two_suffixes_are_ambiguous():
    found = entries_by_id("a.png,m.png\na.jpg,m.png", ("a.png", "a.jpg", "m.png"))
    assert found["a"].problem == "ambiguous_name" and "'a.jpg' and 'a.png'" in found["a"].detail.replace(
        "'a.png' and 'a.jpg'", "'a.jpg' and 'a.png'"
    )


def test_a_missing_file_does_not_take_the_id_of_one_that_is_there():
    found = entries_by_id("a.png,m.png\na.jpg,m.png", ("a.png", "m.png"))
    assert found["a"].image == "a.png" and found["a"].problem == ""
    assert found["a-without-image"].problem == "missing_image"


def test_a_third_field_that_is_a_number_is_the_label_and_a_header_is_none():
    text = "Image,mask,label\nTp/a.jpg,Gt/a_gt.png,1\nTp/b.tif,Gt/b_gt.png, 2\nAu/c.jpg,None,0\n"
    assert summaries(entries_by_id(text)) == WHOLE
    assert summaries(entries_by_id("image,mask\n" + COMMA)) == WHOLE
    found = entries_by_id("Tp/a.jpg,Gt/a_gt.png,0\nTp/b.tif,None,1\nAu/c.jpg,None,0")
    assert found["Tp__a"].problem == "ambiguous_line" and found["Tp__b"].problem == "missing_mask"
    assert summaries(entries_by_id("a,b.png,m.png,1", ("a,b.png", "m.png"))) == {
        ("a,b.png", "m.png", "forged", "")
    }
    with pytest.raises(UsageError, match="is empty"):
        entries_by_id("image,mask\n")


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("by_path", [False, True])
def test_absolute_names_below_the_lists_folder_or_the_one_above_are_relative(tmp_path, above, by_path):
    base = tmp_path if above else tmp_path / "data"
    for name in "ab":
        put_picture(base / f"{name}.png")
        put_mask(base / f"gt/{name}.png", "x")
    (tmp_path / "data").mkdir(exist_ok=True)
    rows = [[str(base / f"{name}.png"), str(base / f"gt/{name}.png")] for name in "ab"]
    (tmp_path / "data" / "list.json").write_text(json.dumps(rows))
    root = tmp_path / "data" / "list.json" if by_path else tmp_path
    entries = find_entries("list", root).entries
    assert [(one.sample_id, one.problem) for one in entries] == [("a", ""), ("b", "")]


def test_absolute_names_of_another_machine_are_refused_with_the_first(tmp_path):
    (tmp_path / "list.json").write_text(json.dumps([["/mnt/casia/a.png", "/mnt/casia/m.png"]]))
    for root in (tmp_path, tmp_path / "list.json"):
        with pytest.raises(
            UsageError, match=r"paths are absolute \(first: '/mnt/casia/a.png'\), and no end.*; make them rel"
        ):
            find_entries("list", root)


@pytest.mark.parametrize("by_path", [False, True])
@pytest.mark.parametrize("far", ["/mnt/casia", "/", "C:\\data", "\\\\host\\share"])
def test_absolute_names_of_another_machine_are_read_below_the_root_where_their_tails_are_there(
    tmp_path, far, by_path
):
    for name in ("Tp/a.png", "Tp/b.png", "Gt/a.png", "Gt/b.png", "b.png"):
        put_picture(tmp_path / name)
    step = "\\" if "\\" in far else "/"
    rows = [[step.join((far.rstrip("/"), folder, f"{name}.png")) for folder in ("Tp", "Gt")] for name in "ab"]
    rows.append([step.join((far.rstrip("/"), "Tp", "c.png")), "/etc/passwd"])
    (tmp_path / "list.json").write_text(json.dumps(rows))
    root = tmp_path / "list.json" if by_path else tmp_path
    entries = {one.sample_id: one for one in find_entries("list", root).entries}
    assert summaries({name: entries[name] for name in ("Tp__a", "Tp__b")}) == {
        ("Tp/a.png", "Gt/a.png", "forged", ""),
        ("Tp/b.png", "Gt/b.png", "forged", ""),
    }
    assert entries["Tp__c"].problem == "missing_image"


def test_images_and_masks_of_another_machine_may_have_lain_in_two_places():
    text = "/a/img/x/1.png,/b/gt/x/1.png\n/a/img/2.png,/b/gt/2.png\n/c/3.png,/b/gt/3.png"
    files = ("x/1.png", "2.png", "3.png", "gt/x/1.png", "gt/2.png", "gt/3.png")
    assert summaries(entries_by_id(text, files)) == {
        ("x/1.png", "gt/x/1.png", "forged", ""),
        ("2.png", "gt/2.png", "forged", ""),
        (None, "forged", "outside_root"),  # one prefix for a column: /c/ is another
    }


@pytest.mark.parametrize("name", ["/mnt/../../etc/passwd", "/mnt/x/../../../secret.png", "C:/../secret.png"])
def test_the_tail_of_an_absolute_name_never_leads_out_of_the_root(tmp_path, name):
    put_picture(tmp_path / "secret.png")
    put_picture(tmp_path / "data/a.png")
    rows = [["/mnt/a.png", name], [name, "/mnt/a.png"]]
    (tmp_path / "data/list.json").write_text(json.dumps([*rows, ["a.png", "a.png"]]))
    entries = find_entries("list", tmp_path / "data").entries
    assert all(path in (None, "a.png") for one in entries for path in (one.image, *one.masks))


TWO_COLUMNS = "Tp/a.jpg{0}Gt/a_gt.png\nTp/b.tif{0}Gt/b_gt.png\nAu/c.jpg{0}None"


@pytest.mark.parametrize("separator", [" ", "   ", "\t", ",", ", "])
@pytest.mark.parametrize("header", ["", "image{0}mask\n", "image_path{0}mask_path\n", "Filename{0}GT\n"])
def test_two_columns_are_a_list_with_any_separator_and_header(separator, header):
    assert summaries(entries_by_id((header + TWO_COLUMNS).format(separator))) == WHOLE


@pytest.mark.parametrize(
    "text",
    [
        ",image_path,mask_path\n0,Tp/a.jpg,Gt/a_gt.png\n1,Tp/b.tif,Gt/b_gt.png\n2,Au/c.jpg,None",
        "\timage\tmask\n0\tTp/a.jpg\tGt/a_gt.png\n1\tTp/b.tif\tGt/b_gt.png\n2\tAu/c.jpg\tNone",
        "Unnamed: 0,label,mask,img\n7,1,Gt/a_gt.png,Tp/a.jpg\n8,1,Gt/b_gt.png,Tp/b.tif\n9,0,,Au/c.jpg",
        "mask\timage\tsplit\nGt/a_gt.png\tTp/a.jpg\t1\nGt/b_gt.png\tTp/b.tif\t1\nNone\tAu/c.jpg\t0",
        '"image","mask"\n"Tp/a.jpg","Gt/a_gt.png"\n"Tp/b.tif","Gt/b_gt.png"\n"Au/c.jpg","None"',
        "0,Tp/a.jpg,Gt/a_gt.png\n1,Tp/b.tif,Gt/b_gt.png\n2,Au/c.jpg,None",
    ],
)
def test_columns_are_found_by_their_names_beside_an_index_and_others(text):
    assert summaries(entries_by_id(text)) == WHOLE


@pytest.mark.parametrize("header", ["", "image,mask\n", "id,image,mask\n"])
def test_quoted_fields_may_hold_commas_spaces_and_quotes(header):
    files = ("a, b.png", "m ,1.png", 'c"d.png', "e.png")
    text = header + '"a, b.png","m ,1.png"\n"c""d.png",e.png\n'
    if header.startswith("id"):
        text = text.replace('\n"', '\n1,"')
    assert summaries(entries_by_id(text, files)) == {
        ("a, b.png", "m ,1.png", "forged", ""),
        ('c"d.png', "e.png", "forged", ""),
    }


def test_two_columns_with_spaces_in_names_are_split_where_the_files_are_there():
    files = ("my cat.png", "my mask.png", "b.png")
    assert summaries(entries_by_id("my cat.png my mask.png", files)) == {
        ("my cat.png", "my mask.png", "forged", "")
    }
    assert entries_by_id("b.png m.png\nmy cat.png x y.png", files)["line-2"].problem == "ambiguous_line"
    tabbed = entries_by_id("my cat.png\tno such.png", files)["my_cat-" + sample_id("my cat")[-8:]]
    assert (tabbed.problem, tabbed.detail) == ("missing_mask", "line 1 names 'no such.png'")


def test_a_third_column_that_a_header_does_not_call_label_is_none():
    files = ("a.png", "m.png")
    assert summaries(entries_by_id("image,mask,fold\na.png,m.png,0", files)) == {
        ("a.png", "m.png", "forged", "")
    }


@given(st.lists(st.tuples(*[st.text("ab ,\"'é\t", min_size=1, max_size=5)] * 2), min_size=1, max_size=4))
def test_what_the_csv_module_writes_below_a_header_is_read_back(names):
    names = [
        (f"i{number}{image.strip()}.png", f"m{number}{mask.strip()}.png")
        for number, (image, mask) in enumerate(names)
    ]
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(
        [("", "image_path", "mask_path"), *((n, *pair) for n, pair in enumerate(names))]
    )
    assert summaries(entries_by_id(stream.getvalue(), [name for pair in names for name in pair])) == {
        (image, mask, "forged", "") for image, mask in names
    }


def test_npz_masks_are_read_as_such():
    assert entries_by_id("a.png,a.NPZ", ("a.png", "a.NPZ"))["a"].rule == "npz"


@pytest.mark.parametrize("folder", ["Gt", "Other"])
def test_an_npz_is_read_where_a_list_names_the_png_made_of_it(folder):
    text = json.dumps([["Tp/a.jpg", "GtPng/a.png"], ["Tp/b.tif", "Gt/b.png"], ["Au/c.jpg", "Negative"]])
    found = entries_by_id(text, (*FILES[:3], "Gt/a.npz", f"{folder}/b.npz"), name="FantasticReality.json")
    assert (found["Tp__a"].masks, found["Tp__a"].rule) == (("Gt/a.npz",), "npz")
    assert found["Tp__b"].problem == ("" if folder == "Gt" else "missing_mask")


def test_the_png_that_a_list_names_goes_before_an_npz_of_its_name():
    found = entries_by_id("a.png,m.png", ("a.png", "m.png", "m.npz"))
    assert (found["a"].masks, found["a"].rule) == (("m.png",), "white")


def test_a_list_of_another_machine_whose_masks_are_there_as_npz_is_read_from_disk(tmp_path):
    put_picture(tmp_path / "FR/ColorFakeImages/a.jpg", size=(48, 32))
    masks = tmp_path / "FR/SegmentationFake"
    masks.mkdir()
    forged = np.zeros((32, 48, 1), np.int32)
    forged[:, :12] = 7
    np.savez(masks / "a.npz", forged)
    pair = [f"/mnt/data0/FR/{path}" for path in ("ColorFakeImages/a.jpg", "SegmentationFakePng/a.png")]
    (tmp_path / "FR/list.json").write_text(json.dumps([pair]))
    assert forged_pixels("list", tmp_path / "FR") == {"ColorFakeImages__a": 32 * 12}


def test_names_begin_in_the_lists_folder_or_in_the_one_above():
    for files in (("data/a.png", "data/m.png"), ("a.png", "m.png")):
        (entry,) = entries_by_id("a.png,m.png", files, name="data/list.txt").values()
        assert (entry.image, *entry.masks) == files and entry.sample_id == "a"
    # one image in its own folder decides for the whole list
    found = entries_by_id(
        "a.png,m.png\nb.png,m.png", ("data/a.png", "data/m.png", "b.png", "m.png"), name="data/list.txt"
    )
    assert found["a"].image == "data/a.png" and found["b"].problem == "missing_image"


def test_a_list_none_of_whose_images_is_there_is_refused_with_its_first():
    with pytest.raises(UsageError, match=r"no image it names is there \(first: 'images/a.png'\)"):
        entries_by_id("images/a.png m.png 1", ("a.png", "m.png"))


def test_the_highest_list_is_meant_and_two_of_them_are_refused():
    below = [
        "a.png",
        "m.png",
        "list.txt",
        "notes/1.txt",
        "notes/2.txt",
        "LICENSE.txt",
        ".x.txt",
        "readme.TXT",
    ]
    assert len(lists.entries(below, lambda path: "a.png,m.png" if path == "list.txt" else "")) == 1
    assert lists.entries(["a.png", "README.txt"], str) == []
    with pytest.raises(UsageError, match=r"2 lists \('a.json' and 'b.txt'\); give the path of one"):
        lists.entries(["b.txt", "a.json"], str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list 'l.txt' is empty; expected 'image mask [label]', 'image,mask[,jpg]' or JSON"),
        ("\n \r\n", "is empty"),
        ("\n a.png\n", "line 2: expected 'image mask [label]', 'image,mask[,jpg]' or JSON [["),
        ("a.png m.png\nb.png m.png 1", "line 2: expected 'image mask' as in its first line, found 'b.png m.png 1'"),
        ("image,mask\na.png,", "line 2: expected 'image,mask' as in its first line, found 'a.png,'"),
        ("image,mask,label\na.png,m.png,real", "line 2: expected 'image,mask,label' as in its first line"),
        ("mask,image\nm.png,a.png,b.png", "line 2: expected 'mask,image' as in its first line"),
        ("image_path,forged_image,mask", "several columns of images ('image_path' and 'forged_image'); keep one"),
        ("a.png m.png one", "line 1: expected"),
        ("a.png m.png -1", "line 1: expected"),
        ("a.png m.png 1\n\nb.png m.png", "line 3: expected 'image mask label' as in its first line, found 'b.png m"),
        ("a.png m.png 1\nb.png 0", "line 2: expected"),
        ("a.png,m.png\nb.png", "line 2: expected 'image,mask[,jpg]' as in its first line, found 'b.png'"),
        ("a.png,m.png\nb.png,", "line 2: expected"),
        ("a.png,m.png\n,b.png", "line 2: expected"),
        ('[["a.png", "m.png"]', "line 1: no JSON"),
        ('[["a.png", "m.png"],\n["b.png" "m.png"]]', "line 2: no JSON"),
        ('[["a.png", "m.png"], ["b.png"]]', "entry 2: expected [image, mask or \"Negative\"], found"),
        ('[["a.png", "m.png"], ["b.png", null]]', "entry 2: expected"),
        ('[["a.png", "m.png"], ["b.png", ""]]', "entry 2: expected"),
        ('[["a.png", "m.png"], "b.png"]', "entry 2: expected"),
        ('[["a.png", "\\ud800"]]', "entry 1: expected"),
        ("[]", "holds no list of pairs"),
        ("[" * 100_000, "no JSON that can be read"),
    ],
)  # fmt: skip
def test_a_malformed_list_is_refused_with_its_line(text, message):
    with pytest.raises(UsageError) as refusal:
        entries_by_id(text, ("a.png", "b.png", "m.png"), name="l.txt")
    assert message in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_json_file_that_holds_something_else_is_refused():
    for text in ("{}", "3", '"a"', "[3]", "a.png,m.png", "[[[[]]]]"):
        with pytest.raises(UsageError, match=r"list 'l.json'"):
            entries_by_id(text, name="l.json")


def test_a_text_list_may_begin_with_a_bracket():
    assert summaries(entries_by_id("[a] 1.png,m.png", ("[a] 1.png", "m.png"))) == {
        ("[a] 1.png", "m.png", "forged", "")
    }


@settings(max_examples=300)
@given(st.text('ab1 ,\t\r\n[]"\\\udc80\0./N', max_size=60), st.sampled_from(["l.txt", "l.json"]))
def test_any_text_is_a_list_or_refused(text, name):
    with suppress(UsageError):
        for entry in lists.entries(["a", "b", "a b", "1", name], lambda _: text):
            assert re.fullmatch(r"[A-Za-z0-9._-]+", entry.sample_id)
            assert entry.image in (None, "a", "b", "a b", "1", name)


@pytest.mark.parametrize("above", [False, True])
def test_a_list_named_by_its_own_path_finds_its_root_without_walking(tmp_path, above):
    folder = tmp_path / "data"
    base = tmp_path if above else folder
    for name in FILES:
        put_picture(base / name)
    put_picture(tmp_path / "elsewhere/d.png")
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "list.txt").write_text(SPACED)
    opened = lists.open_list(folder / "list.txt", SPACED)
    assert opened.root == base and opened.root / opened.list_path == folder / "list.txt"
    assert set(opened.paths) == set(FILES)
    found = lists.entries_of(opened.list_path, opened.paths, lambda _: SPACED)
    assert {(entry.image, *entry.masks, entry.label, entry.problem) for entry in found} == WHOLE
    assert found == lists.entries_of(opened.list_path, listing(base), lambda _: SPACED)


def test_a_list_named_by_its_own_path_whose_images_are_nowhere_says_so(tmp_path):
    (tmp_path / "list.txt").write_text(SPACED)
    opened = lists.open_list(tmp_path / "list.txt", SPACED)
    assert (opened.root, opened.list_path) == (tmp_path, "list.txt")
    with pytest.raises(UsageError, match="no image it names is there"):
        lists.entries_of(opened.list_path, opened.paths, lambda _: SPACED)
