"""Sources by name: where a root comes from, which samples an index or a limit gives, and what is refused."""

import json

import numpy as np
import pytest
from releases import build_casia_v2, build_columbia, half_mask, photograph, put

from afbench.core import BadSample, UsageError
from afbench.plans import parse_source
from afbench.sources import SourceOptions, check, entry_reader, find_sources, open_source
from afbench.sources.index import build_index, count_source
from afbench.sources.index_records import index_text
from afbench.sources.layouts import LAYOUTS


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    monkeypatch.delenv("AFBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def columbia(tmp_path):
    planted = build_columbia(tmp_path / "columbia")
    return tmp_path / "columbia", planted


def test_every_layout_is_a_source_that_plans_know():
    for name in LAYOUTS:
        assert parse_source(f"{name}:somewhere").root == "somewhere"


def test_a_source_lists_every_entry_and_reads_those_that_are_included(columbia):
    root, planted = columbia
    source = open_source("columbia", str(root))
    assert source.ids == sorted([*planted.included, *planted.excluded])
    for sample_id in planted.included:
        assert source.read(sample_id).mask.any()
    for sample_id, reason in planted.excluded.items():
        with pytest.raises(BadSample) as problem:
            source.read(sample_id)
        assert problem.value.reason == reason
    assert source.terms == "research only, no redistribution" and source.citation
    assert source.sha256 == build_index("columbia", root, SourceOptions()).sha256


def test_authentic_images_are_read_only_where_they_are_asked_for(columbia):
    root, planted = columbia
    source = open_source("columbia", str(root), options=SourceOptions(authentic=True))
    plain = open_source("columbia", str(root))
    assert source.authentic == sorted(planted.authentic) and plain.authentic == []
    assert (source.ids, source.sha256) == (plain.ids, plain.sha256)
    sample = source.read(planted.authentic[0])
    assert not sample.mask.any() and sample.mask.shape == sample.image.shape[:2]


def test_a_limit_counts_samples_that_can_be_used_and_hashes_only_what_it_takes(tmp_path):
    build_casia_v2(tmp_path)
    whole = open_source("casia_v2", str(tmp_path))
    limited = open_source("casia_v2", str(tmp_path), limit=2)
    assert limited.ids == whole.ids[: len(limited.ids)] and limited.sha256 != whole.sha256
    put(tmp_path, "Tp/Tp_S_NRN_S_O_sec99999_sec99999_99999.tif", photographed := photograph(99))
    assert photographed.size == (48, 32)
    assert open_source("casia_v2", str(tmp_path), limit=2).sha256 == limited.sha256
    assert open_source("casia_v2", str(tmp_path)).sha256 != whole.sha256
    assert open_source("casia_v2", str(tmp_path), limit=99).ids[-1].endswith("99999")


def test_an_index_file_is_opened_like_its_root_wherever_it_lies(columbia, tmp_path):
    root, planted = columbia
    index = build_index("columbia", root, SourceOptions(authentic=True))
    path = tmp_path / "elsewhere.json"
    path.write_text(index_text(index))
    from_root, from_file = open_source("columbia", str(root)), open_source("columbia", str(path))
    assert (from_file.ids, from_file.sha256) == (from_root.ids, from_root.sha256)
    assert from_file.read(planted.included[0]).mask.any()
    everything = open_source("columbia", str(path), options=SourceOptions(authentic=True))
    assert everything.sha256 == from_root.sha256 and everything.authentic == sorted(planted.authentic)
    assert count_source("columbia", str(path)) == len(planted.included)


def test_an_index_file_of_other_options_another_source_or_a_lost_root_is_refused(columbia, tmp_path):
    root, _ = columbia
    path = tmp_path / "index.json"
    path.write_text(index_text(build_index("columbia", root, SourceOptions())))
    for options, told in (
        (SourceOptions(authentic=True), "was made without --authentic"),
        (SourceOptions(invert=True), "was made with another invert"),
        (SourceOptions(on_mismatch="resize-nearest"), "was made with another on mismatch"),
    ):
        with pytest.raises(UsageError, match=told):
            open_source("columbia", str(path), options=options)
    with pytest.raises(UsageError, match="is of source columbia, not of misd"):
        open_source("misd", str(path))
    root.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"was made of '.*columbia', which is no folder here"):
        open_source("columbia", str(path))


def test_an_index_made_with_other_options_reads_with_them(tmp_path):
    put(tmp_path / "mine", "images/a.png", photograph(1))
    put(tmp_path / "mine", "masks/a.png", half_mask())
    path = tmp_path / "index.json"
    path.write_text(index_text(build_index("folder", tmp_path / "mine", SourceOptions(invert=True))))
    assert (open_source("folder", str(path)).read("a").mask == 255).mean() == 0.75


@pytest.mark.parametrize("form", ["csv", "txt", "json"])
def test_a_list_is_opened_by_its_folder_or_by_its_own_path(tmp_path, form):
    for seed, name in enumerate(("b", "a")):
        put(tmp_path, f"shots/{name}.jpg", photograph(seed))
        put(tmp_path, f"truth/{name}{name}.png", half_mask())
    pairs = [(f"shots/{name}.jpg", f"truth/{name}{name}.png") for name in "ab"]
    text = {
        "csv": "\r\n".join(",".join(pair) for pair in pairs),
        "txt": "\r\n".join(f"{image} {mask} 2" for image, mask in pairs),
        "json": json.dumps(pairs),
    }[form]
    path = tmp_path / f"mine.{form}"
    path.write_text(text)
    sources = [open_source("list", str(root)) for root in (tmp_path, path)]
    for source in sources:
        assert source.ids == ["shots__a", "shots__b"]
        assert (source.read("shots__a").mask == 255).mean() == 0.25
        assert source.terms == "the user's own; not known to afbench"
    assert sources[0].sha256 == sources[1].sha256
    assert count_source("list", str(path)) == 2


def test_afbench_data_holds_sources_by_name_in_any_case(tmp_path, monkeypatch):
    for folder in ("CASIA-v2", "columbia", "Columbia2", "MISD", "folder", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "imd20").write_text("no folder")
    assert find_sources() == {}
    monkeypatch.setenv("AFBENCH_DATA", str(tmp_path))
    assert find_sources() == {
        "columbia": tmp_path / "columbia",
        "casia_v2": tmp_path / "CASIA-v2",
        "misd": tmp_path / "MISD",
    }
    planted = build_casia_v2(tmp_path / "CASIA-v2")
    assert {*planted.included} < {*open_source("casia_v2").ids}
    with pytest.raises(UsageError, match=r"AFBENCH_DATA, which is '.*' and has none; expected"):
        open_source("imd20")
    for nowhere in (str(tmp_path / "imd20"), str(tmp_path / "nowhere"), "~nobody-of-this-name"):
        monkeypatch.setenv("AFBENCH_DATA", nowhere)
        assert find_sources() == {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "columbia",
            r"'columbia' is read from your own copy: --source columbia:ROOT, or a folder 'columbia' in",
        ),
        ("folder", r"'folder' needs its root: --source folder:PATH with images/"),
        ("list", r"'list' needs its root: --source list:PATH with one list"),
        ("casia", r"'casia' has no layout; known layouts: columbia"),
    ],
)
def test_without_a_root_the_way_to_give_one_is_told(name, told):
    with pytest.raises(UsageError, match=told):
        open_source(name)


def test_a_pinned_copy_is_opened_and_any_other_refused(columbia):
    root, planted = columbia
    pin = build_index("columbia", root, SourceOptions()).sha256
    assert open_source("columbia", str(root), pin=pin, limit=1).ids[-1] == planted.included[0]
    path = root / "4cam_splc" / "edgemask" / f"{planted.included[0]}_edgemask.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UsageError, match=rf"is not the copy that is pinned: .*, expected {pin}"):
        open_source("columbia", str(root), pin=pin)


@pytest.fixture
def decoded(monkeypatch):
    """What is decoded, in this process."""
    images = []
    decode = entry_reader.decode
    monkeypatch.setattr(
        entry_reader, "decode", lambda data, **given: images.append(data) or decode(data, **given)
    )
    return images


def test_an_image_is_decoded_once_where_its_pixels_are_kept_and_again_when_it_is_read_again(
    columbia, decoded
):
    root, planted = columbia
    source = open_source("columbia", str(root), keep_pixels=True)
    examined = len(decoded)
    samples = [source.read(sample_id) for sample_id in planted.included]
    assert len(decoded) == examined
    for sample in samples:
        again = source.read(sample.sample_id)
        assert np.array_equal(again.image, sample.image) and np.array_equal(again.mask, sample.mask)
    assert len(decoded) == examined + len(samples)


def test_pixels_are_kept_only_where_that_is_asked_for_and_of_a_few_small_images(
    columbia, decoded, monkeypatch
):
    root, planted = columbia
    for keep_pixels, entries, size in ((False, 256, 2**20), (True, 0, 2**20), (True, 256, 1)):
        monkeypatch.setattr(check, "DECODED_ENTRIES", entries)
        monkeypatch.setattr(check, "DECODED_BYTES", size)
        monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / f"cache-{keep_pixels}-{entries}-{size}"))
        source = open_source("columbia", str(root), keep_pixels=keep_pixels)
        examined = len(decoded)
        source.read(planted.included[0])
        assert len(decoded) == examined + 1


def test_processes_that_check_files_hand_over_the_pixels(tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(check, "MIN_POOLED", 2)
    for number in range(9):
        put(tmp_path, f"images/{number}.png", photograph(number))
        put(tmp_path, f"masks/{number}.png", half_mask())
    plain = open_source("folder", str(tmp_path), keep_pixels=False).read("8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    decoded.clear()
    monkeypatch.setattr(check, "usable_cores", lambda: 2)
    kept = open_source("folder", str(tmp_path), keep_pixels=True).read("8")
    assert not decoded and np.array_equal(kept.image, plain.image) and np.array_equal(kept.mask, plain.mask)
