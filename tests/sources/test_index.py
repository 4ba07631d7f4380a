"""The index of a source: each file read once and side by side, kept while unchanged, refused when it was changed."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from releases import build_casia_v2, build_columbia, half_mask, photograph, put
from releases_more import build_dso1

from afbench.core import AfbenchError, UsageError
from afbench.resources import resource_path
from afbench.sources import check, index_cache
from afbench.sources.index import build_index, count_source, list_files, open_indexed
from afbench.sources.index_records import Index, index_text, read_index
from afbench.sources.source_entry import SourceOptions

PLAIN = SourceOptions()
LONG_AGO = time.time_ns() - 3_600_000_000_000


def make_files_old(root):
    """Make every file an hour old, so that its time can be trusted."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(LONG_AGO, LONG_AGO))


@pytest.fixture
def root(tmp_path):
    """Three pairs and an image without a mask."""
    for seed, name in enumerate("abcd"):
        put(tmp_path / "mine", f"images/{name}.png", photograph(seed))
        if name != "d":
            put(tmp_path / "mine", f"masks/{name}.png", half_mask())
    make_files_old(tmp_path)
    return tmp_path / "mine"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "afbench" / "index"


@pytest.fixture
def read_ids(monkeypatch):
    """Ids of the samples that were read, in order."""
    read, found = check.read_entry, []

    def count_read(root, entry, options):
        found.append(entry.sample_id)
        return read(root, entry, options)

    monkeypatch.setattr(check, "read_entry", count_read)
    return found


@pytest.fixture(scope="module")
def thousand_pairs(tmp_path_factory):
    """A thousand pairs of four by four pixels."""
    root = tmp_path_factory.mktemp("many")
    mask = np.zeros((4, 4), np.uint8)
    mask[0] = 255
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    Image.fromarray(mask).save(root / "masks" / "0000.png")
    for number in range(1000):
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[0, 0] = number // 250, number % 250, 0
        Image.fromarray(pixels).save(root / "images" / f"{number:04d}.png")
        if number:
            shutil.copy(root / "masks" / "0000.png", root / "masks" / f"{number:04d}.png")
    make_files_old(root)
    return root


def folder_index(root, options=PLAIN, **arguments):
    return build_index("folder", root, options, **arguments)


def test_files_are_listed_sorted_without_hidden_ones_archives_leftovers_and_linked_folders(tmp_path):
    for name in ("b/x.PNG", "a.b/y", "b.png", ".hidden/z", "c/.z", "__MACOSX/b.png", "a/__MACOSX/q", "ü/é"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "b.png")
    assert list_files(tmp_path) == ["a.b/y", "b.png", "b/x.PNG", "link.png", "ü/é"]


def test_folders_may_lie_deeper_than_calls_can(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("x.png", os.O_CREAT, dir_fd=here))
    os.close(here)
    found = list_files(tmp_path)
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest cannot
    assert found == ["d/" * 1500 + "x.png"]


def test_links_that_are_not_followed_are_named_and_folders_of_systems_left_alone(tmp_path, monkeypatch):
    put(tmp_path, "mine/images/a.png", photograph(1))
    put(tmp_path, "elsewhere/a.png", half_mask())
    (tmp_path / "mine" / "masks").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine" / "self").symlink_to("self")
    scan = os.scandir

    def refuse(path):
        if "lost+found" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    (tmp_path / "mine" / "lost+found").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"and no mask; .*folders that are links are not followed: 'masks'"):
        folder_index(tmp_path / "mine")


def test_images_whose_masks_are_all_unusable_are_listed_with_their_reasons(tmp_path):
    put(tmp_path, "images/a.png", photograph(1))
    for suffix in ("png", "bmp"):
        put(tmp_path, f"masks/a.{suffix}", half_mask())
    (one,) = folder_index(tmp_path).samples
    assert one.reason == "ambiguous_mask"


def test_a_folder_that_cannot_be_listed_is_named_and_not_skipped(root, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("masks"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"source folder: '.*masks' cannot be listed: Permission denied"):
        folder_index(root)


def test_facts_of_a_sample_are_what_its_files_say(tmp_path):
    build_columbia(tmp_path)
    index = build_index("columbia", tmp_path, SourceOptions(authentic=True))
    by_id = {one.id: one for one in index.samples}
    assert list(by_id) == sorted(by_id)
    one = by_id["canonxt_kodakdcs330_sub_14"]
    assert (one.status, one.reason, one.label, one.width, one.height, one.mode) == (
        *("included", "", "forged", 64, 48, "RGB"),
    )
    assert one.image == "4cam_splc/canonxt_kodakdcs330_sub_14.TIF" and len(one.mask) == 1
    assert (one.mask_rule, one.polarity, one.resized) == ("green", "green", False)
    assert one.mask_fraction == pytest.approx(0.25, abs=0.05) and one.group
    assert len(one.image_sha256) == len(one.mask_sha256) == 64
    photo = by_id["canonxt_38_sub_06"]
    assert (photo.label, photo.exif_orientation, photo.mask_fraction, photo.mask_rule) == (
        *("authentic", 6, None, ""),
    )
    truncated = by_id["canonxt_kodakdcs330_sub_28"]
    assert (truncated.reason, truncated.width) == ("unreadable", None) and truncated.detail
    assert len(truncated.image_sha256) == 64  # one broken file is told from another
    assert index.summary.included == 3 and index.summary.authentic == 2
    assert index.summary.excluded["empty_mask"] == 2 and index.summary.expected == 180
    assert sum(index.summary.excluded.values()) + 5 == len(index.samples)


def test_authentic_images_change_nothing_about_forged_ones(tmp_path):
    build_casia_v2(tmp_path)
    shutil.copy(
        tmp_path / "Tp" / "Tp_D_CND_M_N_ani00018_sec00096_00138.tif", tmp_path / "Au" / "Au_zzz_1.bmp"
    )
    # sorted, this one comes before the forged image it is a copy of
    shutil.copy(
        tmp_path / "Tp" / "Tp_D_NRN_S_N_sec00064_cha00052_11409.jpg", tmp_path / "Au/Au_pla_30270.jpg"
    )
    forged = build_index("casia_v2", tmp_path, PLAIN)
    every = build_index("casia_v2", tmp_path, SourceOptions(authentic=True))
    assert {one.label for one in forged.samples} == {"forged"}
    assert every.without_authentic().samples == forged.samples
    assert every.without_authentic().sha256 == forged.sha256 != every.sha256
    copied = next(one for one in every.samples if one.id == "Au_pla_30270")
    assert (copied.reason, copied.detail) == (
        "duplicate_content",
        "the same file as Tp_D_NRN_S_N_sec00064_cha00052_11409",
    )
    assert "Tp_D_NRN_S_N_sec00064_cha00052_11409" in open_indexed("casia_v2", tmp_path, PLAIN).ids


def test_what_has_not_changed_is_not_read_again(root, read_ids, cache):
    first = folder_index(root)
    assert read_ids == ["a", "b", "c", "d"] and len(list(cache.iterdir())) == 1
    read_ids.clear()
    told = []
    again = folder_index(root, on_progress=lambda done, total: told.append((done, total)))
    assert again == first and again.sha256 == first.sha256
    # without a mask there is nothing to read, and nothing kept
    assert read_ids == ["d"] and told == [(1, 1)]


def mirror_with_time(path, stamp):
    """Mirror a BMP picture: as many bytes as before, other ones, and a time of our choice."""
    size = path.stat().st_size
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert path.stat().st_size == size
    os.utime(path, ns=(stamp, stamp))


def test_a_file_of_the_same_size_and_another_time_is_read_again(root, read_ids):
    put(root, "images/b.bmp", photograph(7))
    (root / "images" / "b.png").unlink()
    make_files_old(root)
    before = folder_index(root)
    read_ids.clear()
    os.utime(root / "images" / "b.bmp", ns=(LONG_AGO, LONG_AGO + 1))
    assert folder_index(root).sha256 == before.sha256 and read_ids == ["b", "d"]
    read_ids.clear()
    mirror_with_time(root / "images" / "b.bmp", LONG_AGO + 2)
    assert folder_index(root).sha256 != before.sha256 and read_ids == ["b", "d"]


def stamps_without_ctime(root, entry):
    """As on a file system that does not keep it."""
    found = index_cache.stamps_of(root, entry)
    return found and [[size, changed, 0] for size, changed, _ in found]


def test_a_file_swapped_for_another_of_its_size_and_time_is_read_again(root, read_ids):
    for name, seed in (("images/b.bmp", 7), ("c.bmp", 8)):
        put(root, name, photograph(seed))
    (root / "images" / "b.png").unlink()
    make_files_old(root)
    before = folder_index(root)
    read_ids.clear()
    (root / "c.bmp").replace(root / "images" / "b.bmp")
    assert folder_index(root).sha256 != before.sha256 and "b" in read_ids


def refuse(self, mode="r", *arguments, _open=Path.open, **options):
    if self.suffix == ".png":
        raise PermissionError(13, "Permission denied")
    return _open(self, mode, *arguments, **options)


def raise_memory_error(*arguments, **options):
    raise MemoryError


@pytest.mark.parametrize(
    ("method", "fault"),
    [("pathlib.Path.open", refuse), ("PIL.PngImagePlugin.PngImageFile.load", raise_memory_error)],
)
def test_what_the_system_would_not_give_is_asked_for_again(root, method, fault, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, fault)
        assert folder_index(root).summary.excluded == {"unreadable": 3, "missing_mask": 1}
    assert not cache.exists() and folder_index(root).summary.included == 3


def test_full_reads_every_file_even_one_whose_size_and_time_lie(root, read_ids, monkeypatch):
    put(root, "masks/b.bmp", half_mask())
    (root / "masks" / "b.png").unlink()
    make_files_old(root)
    before = folder_index(root)
    monkeypatch.setattr("afbench.sources.index.stamps_of", stamps_without_ctime)
    assert folder_index(root).sha256 == before.sha256
    mirror_with_time(root / "masks" / "b.bmp", LONG_AGO)
    assert folder_index(root).sha256 == before.sha256
    source = open_indexed("folder", root, PLAIN)
    with pytest.raises(AfbenchError, match=r"masks/b\.bmp has another content .*--full"):
        source.read("b")
    read_ids.clear()
    full = folder_index(root, full=True)
    assert full.sha256 != before.sha256 and read_ids == ["a", "b", "c", "d"]
    assert folder_index(root).sha256 == full.sha256


def test_a_file_changed_just_now_is_not_trusted_the_next_time(root, read_ids):
    os.utime(root / "images" / "b.png")
    folder_index(root)
    read_ids.clear()
    folder_index(root)
    assert read_ids == ["b", "d"]


def test_options_and_roots_do_not_share_what_is_kept(root, read_ids, tmp_path):
    first = folder_index(root)
    read_ids.clear()
    assert folder_index(root, SourceOptions(invert=True)).sha256 != first.sha256
    shutil.copytree(root, tmp_path / "copy")
    assert folder_index(tmp_path / "copy").sha256 == first.sha256
    assert read_ids == [*"abcd", *"abcd"]


@pytest.mark.parametrize(
    "damage", [b"", b"no cache", b"0" * 64 + b"\n[]", lambda whole: whole[:-9], lambda whole: whole + b" "]
)
def test_a_damaged_cache_is_ignored_and_replaced(root, read_ids, cache, damage):
    first = folder_index(root)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole) if callable(damage) else damage)
    read_ids.clear()
    assert folder_index(root) == first and read_ids == ["a", "b", "c", "d"]
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(root, cache, tmp_path, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"in the way")
    assert folder_index(root).summary.included == 3
    assert cache.read_bytes() == b"in the way" and [*cache.parent.iterdir()] == [cache]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert folder_index(root).summary.included == 3


def test_without_a_cache_nothing_is_written(root, cache):
    assert folder_index(root, cache=False).summary.included == 3 and not cache.exists()


def test_code_that_reads_otherwise_reads_anew(root, read_ids, tmp_path, monkeypatch):
    folder_index(root)
    read_ids.clear()
    other = tmp_path / "masks.py"
    other.write_text("another rule")
    monkeypatch.setattr(index_cache.mask_rules, "__file__", str(other))
    folder_index(root)
    assert read_ids == ["a", "b", "c", "d"]


def test_side_by_side_gives_what_one_after_the_other_gives_and_soon(thousand_pairs):
    told = []
    started = time.monotonic()
    parallel = folder_index(thousand_pairs, workers=2, cache=False, on_progress=lambda *one: told.append(one))
    taken = time.monotonic() - started
    assert told == [(done, 1000) for done in range(1, 1001)]
    assert folder_index(thousand_pairs, workers=1, cache=False) == parallel
    assert parallel.summary.included == 1000
    assert taken < 15  # about 3 s on one slow core
    assert not multiprocessing.active_children()


def test_an_interrupted_index_leaves_no_process_and_keeps_what_was_read(thousand_pairs, cache):
    def stop(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder_index(thousand_pairs, workers=2, on_progress=stop)
    assert not multiprocessing.active_children()
    told = []
    folder_index(thousand_pairs, workers=1, on_progress=lambda *one: told.append(one))
    assert told[-1] == (993, 993)
    with pytest.raises(KeyboardInterrupt):
        folder_index(thousand_pairs, workers=1, full=True, on_progress=stop)
    told.clear()
    folder_index(thousand_pairs, workers=1, on_progress=lambda *one: told.append(one))
    assert told == []


def test_a_process_that_dies_is_said_in_one_line(thousand_pairs, cache):
    def kill(done, total):
        if done == 1:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(
        AfbenchError, match=r"a process that checks files died, .* near 'images/0.*--workers 1"
    ):
        folder_index(thousand_pairs, workers=2, on_progress=kill)
    assert not multiprocessing.active_children()


SCRIPT = """
import multiprocessing, sys, time
from afbench.sources.source_entry import SourceOptions
from afbench.sources.index import build_index
print("begun", flush=True)
def told(done, total):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
build_index("folder", sys.argv[1], SourceOptions(), workers=2, on_progress=told)
"""


def test_a_script_is_not_run_again_by_its_workers_and_they_end_with_it(thousand_pairs, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py", thousand_pairs], stdout=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout.readline() == "begun\n"
        workers = [int(number) for number in script.stdout.readline().split()]
        assert len(workers) == 2
        script.kill()
        assert "begun" not in script.stdout.read()  # ends when all who could write have ended
    for _ in range(100):
        if not any(Path(f"/proc/{number}").exists() for number in workers):
            return
        time.sleep(0.1)
    raise AssertionError("workers outlive the process that started them")


def test_an_index_comes_back_from_its_json_and_follows_its_schema(tmp_path):
    build_casia_v2(tmp_path / "casia")
    index = build_index("casia_v2", tmp_path / "casia", SourceOptions(authentic=True))
    schema = json.loads(resource_path("manifests/schema/index.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    value = json.loads(index_text(index))
    assert value == json.loads(json.dumps(index.to_json()))
    assert Index.from_json(value) == index
    (tmp_path / "index.json").write_text(index_text(index))
    again = read_index(tmp_path / "index.json")
    assert again == index and again.sha256 == index.sha256 and again.summary == index.summary


def test_names_that_are_no_unicode_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    put(tmp_path, "images/x.png", photograph(1)).rename(tmp_path / "images" / f"{name}.png")
    put(tmp_path, "masks/x.png", half_mask()).rename(tmp_path / "masks" / f"{name}.png")
    make_files_old(tmp_path)
    for _ in range(2):  # the second from the cache
        index = folder_index(tmp_path)
        assert index.summary.included == 1
    text = index_text(index)
    assert Index.from_json(json.loads(text.encode())) == index
    source = open_indexed("folder", tmp_path, PLAIN)
    assert source.read(source.ids[0]).image.shape == (32, 48, 3)


def test_groups_and_details_are_legal_whatever_files_are_called(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for folder, picture in (("Forged_JPEG100", photograph(1)), ("Mask", half_mask())):
        stem = "x_mask" if folder == "Mask" else "x_0"
        put(tmp_path, f"{folder}/{stem}.png", picture)
        (tmp_path / folder / f"{stem}.png").rename(tmp_path / folder / f"{stem.replace('x', name)}.png")
    put(tmp_path, "Forged_JPEG100/y_0.png", photograph(2))
    for mask in (f"{name}y_mask.png", f"y_mask.{name}.png"):
        put(tmp_path, "Mask/m.png", half_mask()).rename(tmp_path / "Mask" / mask)
    for one in build_index("autosplice", tmp_path, PLAIN).samples:
        assert one.group.isascii() and one.detail.isascii()


def test_a_link_out_of_the_root_is_told_in_ascii(root):
    (root / "images" / os.fsdecode(b"caf\xe9.png")).symlink_to(root.parent)
    (root / "images" / os.fsdecode(b"caf\xe9.png")).unlink()
    put(root.parent, "q.png", photograph(9))
    (root / "images" / os.fsdecode(b"caf\xe9.png")).symlink_to(root.parent / "q.png")
    put(root, "masks/z.png", half_mask()).rename(root / "masks" / os.fsdecode(b"caf\xe9.png"))
    (one,) = (one for one in folder_index(root).samples if one.reason == "outside_root")
    assert one.detail.isascii() and "caf" in one.detail


def set_fields(target, **facts):
    target.update(facts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value, one: set_fields(one, image="../../etc/passwd"), "is no path below the root"),
        (lambda value, one: set_fields(one, image="/etc/passwd"), "'/etc/passwd' is no path below the root"),
        (lambda value, one: set_fields(one, mask=["masks/a.png", "a/../../b"]), "is no path below the root"),
        (lambda value, one: set_fields(one, image="a\0b"), "is no path below the root"),
        (lambda value, one: set_fields(one, image=7), "samples/0/image: 7 is not of type"),
        (lambda value, one: set_fields(one, mask={"a": 1}), "samples/0/mask: "),
        (lambda value, one: set_fields(one, width="wide"), "samples/0/width: 'wide' is not of type"),
        (lambda value, one: set_fields(one, surprise=1), "samples/0: Additional properties"),
        (lambda value, one: one.pop("label"), "'label' is a required property"),
        (lambda value, one: set_fields(one, id="a/b"), "sample id 'a/b' is not legal"),
        (lambda value, one: set_fields(one, id="a\n"), "is not legal"),
        (lambda value, one: set_fields(one, id="b"), "sample id 'b' is not legal, or is there twice"),
        (lambda value, one: set_fields(one, mask_rule="pickle"), "mask rule 'pickle' is unknown"),
        (lambda value, one: set_fields(one, image=None), "is included with the facts of another status"),
        (
            lambda value, one: set_fields(one, status="excluded"),
            "is excluded with the facts of another status",
        ),
        (lambda value, one: set_fields(one, mask_fraction=0.5), "was changed after it was made"),
        (lambda value, one: set_fields(one, image_sha256="0" * 64), "was changed after it was made"),
        (lambda value, one: value["samples"].pop(), "was changed after it was made"),
        (lambda value, one: set_fields(value, sha256="f" * 64), "was changed after it was made"),
        (lambda value, one: set_fields(value, options={"invert": True}), "options: "),
        (lambda value, one: set_fields(value, source="casia"), "source 'casia' is unknown"),
        (lambda value, one: set_fields(value, source="columbia"), "was changed after it was made"),
        (lambda value, one: set_fields(value, schema_version=2), "schema_version: 1 was expected"),
        (lambda value, one: value.clear(), "top level: 'schema_version' is a required property"),
    ],
)
def test_an_index_that_was_tampered_with_is_refused_in_one_line(root, tmp_path, change, told):
    value = json.loads(index_text(folder_index(root)))
    change(value, value["samples"][0])
    path = tmp_path / "index.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError) as refuse:
        open_indexed("folder", path, PLAIN)
    assert told in str(refuse.value) and "\n" not in str(refuse.value)


@pytest.mark.parametrize(
    "text", ["", "{", "7", '"x"', "{" * 100_000, '{"a": NaN}', '{"a": ' + "9" * 9999 + "}", "\udcff", "{}"]
)
def test_a_file_that_is_no_index_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "index.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"^index '.*index\.json'.*$"):
        open_indexed("folder", path, PLAIN)


def test_a_path_that_leads_nowhere_or_to_a_file_is_refused_with_what_was_expected(root, tmp_path):
    for path, told in (
        (tmp_path / "nowhere", "is no folder; expected images/"),
        (tmp_path / "nowhere.json", "is no folder; expected images/"),
        (root / "images" / "a.png", "is a file, no folder; expected images/"),
        ("~nobody-of-this-name/photos", "is no folder"),
    ):
        for call in (count_source, lambda name, path: open_indexed(name, path, PLAIN)):
            with pytest.raises(UsageError, match=told):
                call("folder", str(path))


def test_a_root_of_another_release_names_what_is_expected_and_what_is_there(root):
    with pytest.raises(
        UsageError, match=r"source columbia: nothing of it in '.*'; expected .*4cam_.*; found"
    ):
        build_index("columbia", root, PLAIN)


def test_a_root_of_authentic_images_alone_says_which_option_reads_them(tmp_path):
    build_dso1(tmp_path)
    shutil.rmtree(tmp_path / "DSO-1-Fake-Images-Masks")
    for path in tmp_path.glob("DSO-1/splicing-*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"only authentic images in '.*', which count with --authentic"):
        build_index("dso1", tmp_path, PLAIN)
    assert build_index("dso1", tmp_path, SourceOptions(authentic=True)).summary.authentic == 6


def test_resized_and_inverted_masks_are_recorded(tmp_path):
    put(tmp_path, "images/a.png", photograph(1))
    put(tmp_path, "masks/a.png", half_mask((96, 64)))
    assert folder_index(tmp_path).samples[0].reason == "size_mismatch"
    (one,) = folder_index(tmp_path, SourceOptions(on_mismatch="resize-nearest")).samples
    assert one.included and one.resized and one.mask_fraction == 0.25
    (one,) = folder_index(tmp_path, SourceOptions(on_mismatch="resize-nearest", invert=True)).samples
    assert one.mask_fraction == 0.75


def test_entries_of_one_id_are_one_and_ambiguous(root, monkeypatch):
    from afbench.sources.layouts import folder

    entries = folder.entries

    def doubled(paths, read_text):
        found = entries(paths, read_text)
        return [*found, replace(found[0], image="images/b.png")]

    monkeypatch.setattr(folder, "entries", doubled)
    index = folder_index(root)
    assert [one.id for one in index.samples] == ["a", "b", "c", "d"]
    assert index.samples[0].reason == "ambiguous_name"
