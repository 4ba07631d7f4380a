"""Whatever the names, folders, suffixes and order: every image is listed once, with its own mask."""

import json
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases_more import NIST_HEADER, nist_row

from afbench.sources.layouts import autosplice, cocoglide, coverage, dso1, korus, lists, nist16

SUFFIXES = st.sampled_from([".tif", ".TIF", ".png", ".Png", ".jpg", ".JPEG", ".bmp"])
MASK_FOLDERS = st.sampled_from(
    ["mask", "Masks", "GT", "groundtruth", "ground-truth", "Ground Truth", "CASIA_masks"]
)
NESTED = st.lists(st.sampled_from(["data", "release 1.0", "x", "Übung", "set.v2"]), max_size=3)
STEMS = st.text("abXY019 .-_éß図", min_size=1, max_size=8).filter(lambda stem: not stem.startswith("."))
WORDS = st.text("abXYé ", min_size=1, max_size=6)
NUMBERS = st.integers(0, 999)


@dataclass
class Release:
    """A random release: its files, the texts among them, and the mask that every forged image has."""

    masks: dict[str, str]
    authentic: set[str]
    texts: dict[str, str]

    @property
    def paths(self) -> list[str]:
        return [*self.masks, *set(self.masks.values()), *self.authentic, *self.texts]


def _base(draw):
    return "".join(f"{folder}/" for folder in draw(NESTED))


@st.composite
def coverage_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    numbers = draw(st.sets(NUMBERS, min_size=1, max_size=8))
    masks = {
        f"{base}image/{n}t{draw(SUFFIXES)}": f"{base}{folder}/{n}forged{draw(SUFFIXES)}" for n in numbers
    }
    return Release(masks, {f"{base}image/{n}{draw(SUFFIXES)}" for n in numbers}, {})


@st.composite
def dso1_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    numbers = draw(st.sets(NUMBERS, min_size=1, max_size=8))
    masks = {
        f"{base}DSO-1/splicing-{n}{draw(SUFFIXES)}": f"{base}{folder}/splicing-{n}{draw(SUFFIXES)}"
        for n in numbers
    }
    return Release(masks, {f"{base}DSO-1/normal-{n}{draw(SUFFIXES)}" for n in numbers}, {})


@st.composite
def korus_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    cameras = draw(st.sets(st.sampled_from(["Canon_60D", "Nikon_D90", "Sony_A57"]), min_size=1))
    masks, authentic = {}, set()
    for camera in sorted(cameras):
        for stem in draw(st.sets(STEMS, min_size=1, max_size=4)):
            image = f"{base}{camera}/tampered-realistic/{stem}{draw(SUFFIXES)}"
            masks[image] = f"{base}{camera}/{folder}/{stem}{draw(SUFFIXES)}"
            authentic.add(f"{base}{camera}/pristine/{stem}{draw(SUFFIXES)}")
    return Release(masks, authentic, {})


@st.composite
def cocoglide_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    masks, authentic = {}, set()
    for coco_id in draw(st.sets(st.integers(0, 600_000), min_size=1, max_size=8)):
        name = draw(WORDS)
        image = f"{base}fake/glide_inpainting_val2017_{coco_id}_up{draw(SUFFIXES)}"
        masks[image] = f"{base}{folder}/{name}_{coco_id}_mask{draw(SUFFIXES)}"
        authentic.add(f"{base}real/{name}_{coco_id}{draw(SUFFIXES)}")
    return Release(masks, authentic, {})


@st.composite
def autosplice_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    masks, authentic = {}, set()
    for photograph in draw(
        st.sets(st.text("abX019.-é", min_size=1).filter(lambda s: s[0] != "."), min_size=1)
    ):
        mask = f"{base}{folder}/{photograph}_mask{draw(SUFFIXES)}"
        for quality in draw(st.sets(st.sampled_from([100, 90, 75]), min_size=1)):
            for number in draw(st.sets(NUMBERS, min_size=1, max_size=3)):
                masks[f"{base}Forged_JPEG{quality}/{photograph}_{number}{draw(SUFFIXES)}"] = mask
        authentic.add(f"{base}Authentic/{photograph}{draw(SUFFIXES)}")
    return Release(masks, authentic, {})


@st.composite
def nist16_release(draw):
    base, folder = _base(draw), draw(MASK_FOLDERS)
    probes = sorted(draw(st.sets(NUMBERS, min_size=1, max_size=8)))
    numbers = draw(st.permutations([number + 1000 for number in probes]))
    masks, authentic, rows = {}, set(), [NIST_HEADER]
    for probe, number in zip(probes, numbers, strict=True):
        mask = f"NC2016_{number:04d}.png"
        masks[f"{base}probe/NC2016_{probe:04d}{draw(st.sampled_from(['.jpg', '.JPG']))}"] = (
            f"{base}{folder}/{mask}"
        )
        rows.append(nist_row(f"probe/NC2016_{probe:04d}.jpg", f"reference/manipulation/mask/{mask}"))
        authentic.add(f"{base}world/NC2016_{probe + 5000:04d}.jpg")
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    table = f"{base}reference/manipulation/NC2016-manipulation-ref.csv"
    return Release(masks, authentic, {table: ends.join(rows) + draw(st.sampled_from(["", ends]))})


@st.composite
def list_release(draw):
    form = draw(st.sampled_from(["spaced", "comma", "jpg", "json"]))
    names = {
        "spaced": "abXY019.-_é,;",
        "comma": "abXY019 .-_é",
        "jpg": "abXY019 .-_é",
        "json": "abXY 019.-_é,'\"",
    }
    stems = st.text(names[form], min_size=1, max_size=8).filter(lambda stem: stem.strip(" ") == stem != ".")
    base, nested, folder = (
        _base(draw),
        draw(st.sampled_from(["", "Tp/", "a/b/"])),
        draw(st.sampled_from("xyz")),
    )
    masks, authentic, rows = {}, set(), []
    for stem in sorted(draw(st.sets(stems, min_size=1, max_size=8))):
        image, mask = f"{nested}{stem}{draw(SUFFIXES)}", f"{folder}/{stem}_gt{draw(SUFFIXES)}"
        if draw(st.booleans()):
            masks[f"{base}{image}"] = f"{base}{mask}"
        else:
            authentic.add(f"{base}{image}")
            mask = "Negative" if form == "json" else "None"
        rows.append((image, mask))
    rows = draw(st.permutations(rows))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    text = {
        "spaced": ends.join(f"{image} {mask} {int(mask != 'None')}" for image, mask in rows),
        "comma": ends.join(f"{image},{mask}" for image, mask in rows),
        "jpg": ends.join(f"{image},{mask},{image}" for image, mask in rows),
        "json": json.dumps(rows),
    }[form] + draw(st.sampled_from(["", ends]))
    return Release(masks, authentic, {f"{base}list.{'json' if form == 'json' else 'txt'}": text})


RELEASES = {
    "coverage": (coverage, coverage_release()),
    "dso1": (dso1, dso1_release()),
    "korus": (korus, korus_release()),
    "cocoglide": (cocoglide, cocoglide_release()),
    "autosplice": (autosplice, autosplice_release()),
    "nist16": (nist16, nist16_release()),
    "list": (lists, list_release()),
}


@pytest.mark.parametrize(("layout", "releases"), RELEASES.values(), ids=RELEASES)
@settings(max_examples=60)
@given(data=st.data())
def test_every_image_is_listed_once_with_its_own_mask_whatever_the_order(layout, releases, data):
    release = data.draw(releases)
    entries = layout.entries(sorted(release.paths), release.texts.__getitem__)
    assert [entry.problem for entry in entries] == [""] * len(entries)
    found = [(entry.image, entry.masks) for entry in entries if entry.label == "forged"]
    assert sorted(found) == sorted((image, (mask,)) for image, mask in release.masks.items())
    authentic = [entry.image for entry in entries if entry.label == "authentic"]
    assert sorted(authentic) == sorted(release.authentic)
    ids = [entry.sample_id for entry in entries]
    assert ids == sorted(set(ids))
    shuffled = release.paths
    random.Random(data.draw(st.integers(0, 99))).shuffle(shuffled)
    assert layout.entries(shuffled, release.texts.__getitem__) == entries


@pytest.mark.parametrize(("layout", "releases"), RELEASES.values(), ids=RELEASES)
@settings(max_examples=30)
@given(data=st.data())
def test_a_lost_mask_excludes_its_images_and_gives_them_no_other(layout, releases, data):
    release = data.draw(releases.filter(lambda one: one.masks))
    lost = data.draw(st.sampled_from(sorted(release.masks.values())))
    paths = sorted(set(release.paths) - {lost})
    for entry in layout.entries(paths, release.texts.__getitem__):
        if entry.label == "forged":
            mask = release.masks[entry.image]
            assert (entry.masks, entry.problem) == (((), "missing_mask") if mask == lost else ((mask,), ""))


@pytest.mark.parametrize("layout", [module for module, _ in RELEASES.values()], ids=RELEASES)
@settings(max_examples=60)
@given(paths=st.lists(st.builds("/".join, st.lists(STEMS, min_size=1, max_size=4)).map(lambda p: p + ".png")))
def test_pictures_of_no_release_are_no_entries(layout, paths):
    assert layout.entries(sorted(set(paths)), str) == []
