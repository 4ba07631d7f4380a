"""Masks that need a word of their user: never read by guesswork, with the option named that reads them."""

import json

import numpy as np
import pytest
from PIL import Image
from releases import half_mask, photograph, put

from afbench.core import BadSample, ReadOptions, UsageError
from afbench.images import TRANSPARENT
from afbench.sources import open_source
from afbench.sources.entry_reader import read_entry
from afbench.sources.index import build_index
from afbench.sources.index_records import Index, index_text
from afbench.sources.mask_rules import MASK_RULES, rule_for
from afbench.sources.source_entry import SourceEntry, SourceOptions
from afbench.storage.manifests import open_benchmark
from afbench.storage.shards import read_rows

HALF = np.asarray(half_mask(share=0.5))


def half_mask_of_levels(white, black=0):
    """The half mask in other levels."""
    return Image.fromarray(np.where(HALF > 0, np.uint8(white), np.uint8(black)))


def coloured(colour):
    """The half mask in a colour on black."""
    return Image.fromarray(np.where(HALF[..., None] > 0, np.uint8(colour), np.uint8(0)))


def palette():
    """Indices 0 and 1, of which the second is a dark red."""
    picture = Image.fromarray((HALF > 0).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0])
    return picture


def transparent_frame(alpha=220, size=(48, 32)):
    """An image whose border of one pixel is not opaque."""
    picture = photograph(1, size)
    opacity = np.full(size[::-1], 255, np.uint8)
    opacity[[0, -1]] = opacity[:, [0, -1]] = alpha
    picture.putalpha(Image.fromarray(opacity))
    return picture


def read_pair(root, mask, options=ReadOptions(), *, image=None, rule="white", invert=False):  # noqa: B008 frozen
    put(root, "i.png", image or photograph(1))
    put(root, "m.png", mask)
    entry = SourceEntry("i", "i.png", ("m.png",), rule=rule)
    return read_entry(root, entry, SourceOptions(invert=invert, read=options)).sample


MASKS = {
    "0 and 1": half_mask_of_levels(1),
    "palette": palette(),
    "red": coloured([255, 0, 0]),
    "blue of one level": coloured([0, 0, 1]),
}


@pytest.mark.parametrize("name", MASKS)
def test_what_is_not_black_is_forged_where_the_user_says_so(tmp_path, name):
    with pytest.raises(BadSample, match="empty_mask"):
        read_pair(tmp_path, MASKS[name])
    np.testing.assert_array_equal(read_pair(tmp_path, MASKS[name], ReadOptions(mask_nonzero=True)).mask, HALF)
    inverted = read_pair(tmp_path, MASKS[name], ReadOptions(mask_nonzero=True), invert=True)
    np.testing.assert_array_equal(inverted.mask, 255 - HALF)


@pytest.mark.parametrize(
    ("mask", "rule", "advice"),
    [
        (half_mask_of_levels(1), "white", r"empty_mask: .*grey levels are 0 to 1: --mask-nonzero takes"),
        (
            half_mask_of_levels(120, 100),
            "white",
            r"empty_mask: .*grey levels are 100 to 120: --mask-threshold 110 parts",
        ),
        (
            half_mask_of_levels(250, 200),
            "white",
            r"full_mask: .*grey levels are 200 to 250: --mask-threshold 225 parts",
        ),
        (half_mask_of_levels(1), "black", r"full_mask: .*--mask-nonzero takes"),
        (half_mask_of_levels(0), "white", r"empty_mask: no pixel is forged \(grey above 127 is forged\)$"),
    ],
)
def test_the_reason_names_the_option_that_reads_the_mask_and_that_option_reads_it(
    tmp_path, mask, rule, advice
):
    with pytest.raises(BadSample, match=advice) as refusal:
        read_pair(tmp_path, mask, rule=rule)
    words = str(refusal.value).split()
    options = ReadOptions(
        mask_nonzero="--mask-nonzero" in words,
        mask_threshold=int(words[words.index("--mask-threshold") + 1])
        if "--mask-threshold" in words
        else None,
    )
    if options != ReadOptions():
        forged = read_pair(tmp_path, mask, options, rule=rule).mask
        np.testing.assert_array_equal(forged, HALF if rule == "white" else 255 - HALF)


@pytest.mark.parametrize("rule", ["white", "white_above_0", "white_above_10", "black", "black_at_0"])
@pytest.mark.parametrize("threshold", [0, 127, 254])
def test_a_threshold_says_what_counts_as_white_and_the_rule_which_side_is_forged(rule, threshold):
    grey = np.arange(256, dtype=np.uint8)
    chosen = rule_for(rule, ReadOptions(mask_threshold=threshold))
    white = grey > threshold
    np.testing.assert_array_equal(chosen.forged(grey), white if rule.startswith("white") else ~white)
    assert str(threshold) in chosen.summary


def test_without_options_every_rule_is_the_one_it_was():
    assert all(rule_for(name, ReadOptions()) is rule for name, rule in MASK_RULES.items())


def test_options_about_grey_are_refused_where_masks_speak_otherwise():
    for rule, options in (
        ("green", ReadOptions(mask_nonzero=True)),
        ("green", ReadOptions(mask_threshold=9)),
        ("npz", ReadOptions(mask_threshold=9)),
    ):
        with pytest.raises(UsageError, match="is for grey masks; here"):
            rule_for(rule, options)
    assert rule_for("npz", ReadOptions(mask_nonzero=True, ignore_alpha=True)) is MASK_RULES["npz"]
    with pytest.raises(UsageError, match="give one of them"):
        ReadOptions(mask_threshold=1, mask_nonzero=True)
    with pytest.raises(UsageError, match="from 0 to 254; found 255"):
        ReadOptions(mask_threshold=255)


@pytest.mark.parametrize("alpha", [0, 220, 245, 254])
def test_alpha_is_refused_with_its_share_and_dropped_where_the_user_says_so(tmp_path, alpha):
    image = transparent_frame(alpha)
    refused = rf"{TRANSPARENT} \(alpha down to {alpha} in 10.2% of its pixels.*; --ignore-alpha drops it"
    with pytest.raises(BadSample, match=refused):
        read_pair(tmp_path, half_mask_of_levels(255), image=image)
    sample = read_pair(tmp_path, half_mask_of_levels(255), ReadOptions(ignore_alpha=True), image=image)
    np.testing.assert_array_equal(sample.image, np.asarray(image)[..., :3])


def test_the_alpha_of_a_mask_is_dropped_too(tmp_path):
    mask = half_mask_of_levels(255).convert("LA")
    mask.putalpha(half_mask_of_levels(255))
    with pytest.raises(BadSample, match=r"unsupported_mode: mask mode LA.*--ignore-alpha"):
        read_pair(tmp_path, mask)
    np.testing.assert_array_equal(read_pair(tmp_path, mask, ReadOptions(ignore_alpha=True)).mask, HALF)


@pytest.fixture
def folder(tmp_path):
    """Two images with masks of 0 and 1, the second with a frame that is not opaque."""
    put(tmp_path / "mine", "images/a.png", photograph(1))
    put(tmp_path / "mine", "images/b.png", transparent_frame())
    for name in "ab":
        put(tmp_path / "mine", f"masks/{name}.png", half_mask_of_levels(1))
    return tmp_path / "mine"


READ = ReadOptions(mask_nonzero=True, ignore_alpha=True)


def test_an_index_records_the_options_and_defaults_leave_it_as_it_was(folder):
    plain = build_index("folder", folder, SourceOptions(), cache=False)
    assert set(plain.to_json()["options"]) == {"on_mismatch", "invert", "authentic"}
    index = build_index("folder", folder, SourceOptions(read=READ), cache=False)
    assert index.summary.included == 2 and plain.summary.included == 0
    value = json.loads(index_text(index))
    assert value["options"]["mask_nonzero"] is value["options"]["ignore_alpha"] is True
    again = Index.from_json(value)
    assert again.options.read == READ and again.sha256 == index.sha256 != plain.sha256


def test_the_fingerprint_of_a_source_without_options_is_the_one_of_earlier_versions():
    index = Index("folder", "/data", SourceOptions(), [])
    assert index.sha256 == "184968e9947b17824a1d38f864f6d45603c9055d42ce5a32d3dd4261cb1e393e"


def test_an_image_that_comes_twice_with_contradicting_masks_is_excluded_under_both_names(tmp_path):
    for name, mask in (
        ("a", half_mask()),
        ("b", half_mask(share=0.5)),
        ("c", half_mask()),
        ("d", half_mask()),
    ):
        put(tmp_path, f"images/{name}.png", photograph(1 if name != "d" else 2))
        put(tmp_path, f"masks/{name}.{'bmp' if name == 'c' else 'png'}", mask)
    put(tmp_path, "images/e.png", photograph(2))
    put(tmp_path, "masks/e.bmp", half_mask())
    index = build_index("folder", tmp_path, SourceOptions(), cache=False)
    found = {one.id: (one.reason, one.detail) for one in index.samples}
    assert found["a"] == found["c"] == ("contradicting_masks", "the same image as b, with another mask")
    assert found["b"] == ("contradicting_masks", "the same image as a, with another mask")
    # one mask in two files contradicts nothing
    assert found["d"] == ("", "") and found["e"] == ("duplicate_content", "the same file as d")


def stripes(width, height):
    """Lines of one pixel, black and white: whatever skips pixels sees only one of them."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, ::2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 300), (100, 75)), ((300, 401), (75, 100)), ((100, 7), (100, 7)), ((99, 98), (99, 98))],
)
def test_images_above_the_side_are_reduced_without_folding_and_masks_stay_black_and_white(
    tmp_path, size, expected
):
    mask = half_mask(size, share=0.25)
    sample = read_pair(tmp_path, mask, ReadOptions(max_side=100), image=stripes(*size))
    assert sample.image.shape == (expected[1], expected[0], 3) and sample.mask.shape == expected[::-1]
    assert set(np.unique(sample.mask)) == {0, 255}
    assert abs(sample.mask.mean() / 255 - 0.25) < 0.01
    inner = sample.image[2:-2, 2:-2].astype(int)
    if size == expected:
        np.testing.assert_array_equal(sample.image, np.asarray(stripes(*size)))
    else:
        assert inner.min() > 90 and inner.max() < 165


def test_a_forgery_that_vanishes_in_the_reduced_mask_is_excluded_and_a_wrong_size_still_is(tmp_path):
    dot = Image.new("L", (400, 300))
    dot.putpixel((1, 1), 255)
    with pytest.raises(BadSample, match="empty_mask: no pixel is forged at --max-side 64"):
        read_pair(tmp_path, dot, ReadOptions(max_side=64), image=photograph(1, (400, 300)))
    # a mask that fits the reduced image alone fits another image
    with pytest.raises(BadSample, match="size_mismatch"):
        read_pair(tmp_path, half_mask((64, 48)), ReadOptions(max_side=64), image=photograph(1, (400, 300)))


@pytest.mark.parametrize("side", [0, 63, 16_384, -5])
def test_a_side_that_is_none_is_refused(afbench, folder, side):
    with pytest.raises(UsageError, match="--max-side must be from 64 to 16383 pixels"):
        ReadOptions(max_side=side)
    ran = afbench("index", "folder", "--root", folder, "--max-side", str(side))
    assert ran.code == 2 and "--max-side" in ran.err and ran.err.count("Error") == 0


def test_the_side_is_recorded_and_another_one_is_another_source(afbench, tmp_path):
    for number in range(2):
        put(tmp_path / "own", f"images/{number}.png", photograph(number, (160, 120)))
        put(tmp_path / "own", f"masks/{number}.png", half_mask((160, 120)))
    attack = ("--localizer", "reference", "--checkpoint", "random", "--attack", "noise", "--phi", "1/255")
    source = ("--source", f"folder:{tmp_path / 'own'}", "--out", "out")
    assert afbench("generate", *attack, *source, "--max-side", "80").code == 0
    split = open_benchmark(tmp_path / "out").configs["clean"].splits["folder"]
    assert split.read == {"max_side": 80}
    (row, _) = read_rows(tmp_path / "out", [shard.path for shard in split.shards], ("height", "width"))
    assert (row["width"], row["height"]) == (80, 60)
    again = afbench("generate", *attack, *source, "--max-side", "80")
    assert again.code == 0 and "0 shards written" in again.out
    for options in ((), ("--max-side", "100")):
        ran = afbench("generate", *attack, *source, *options)
        assert ran.code == 2 and "folder" in ran.err
    (tmp_path / "out/data/clean").rename(tmp_path / "gone")
    repaired = afbench("verify", "out", "--repair", "--source", f"folder:{tmp_path / 'own'}")
    assert repaired.code == 0, repaired.err


@pytest.fixture
def mixed(tmp_path):
    """Three images, of which b has an inverted mask, and the list that says so."""
    for number, name in enumerate("abc"):
        put(tmp_path / "own", f"images/{name}.png", photograph(number))
        share = 0.75 if name == "b" else 0.25
        put(tmp_path / "own", f"masks/{name}.png", half_mask(share=share))
    (tmp_path / "list.txt").write_text("# drawn by another hand\n\n b \n")
    return tmp_path


def test_listed_masks_are_read_the_other_way_round_and_the_index_says_which(afbench, mixed):
    arguments = ("index", "folder", "--root", mixed / "own", "--invert-listed", mixed / "list.txt")
    shares = {}
    for options in ((), ("--invert-masks",)):
        ran = afbench(*arguments, *options, "--json", "--out", f"index{len(options)}.json")
        samples = {row["id"]: row for row in json.loads(ran.out)["samples"]}
        shares[options] = [samples[name]["mask_fraction"] for name in "abc"]
        assert [samples[name]["mask_rule"] for name in "abc"] == ["white", "white_inverted", "white"]
    assert shares == {(): [0.25, 0.25, 0.25], ("--invert-masks",): [0.75, 0.75, 0.75]}
    source = open_source("folder", str(mixed / "index0.json"))
    assert (source.read("b").mask[:, -1] == 255).all() and not source.read("b").mask[:, 0].any()
    plain = build_index("folder", mixed / "own", SourceOptions(), cache=False)
    assert plain.sha256 != json.loads((mixed / "index0.json").read_text())["sha256"]


def test_undecided_pixels_of_a_listed_mask_are_forged_in_no_way(tmp_path):
    colours = np.zeros((32, 48, 3), np.uint8)
    colours[:, :16, 1], colours[:, 16:32, 0] = 255, 255  # green, red, black
    sample = read_pair(tmp_path, Image.fromarray(colours), rule="green_inverted")
    assert [sample.mask[0, column] for column in (8, 24, 40)] == [0, 255, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no sample; expected one sample id a line"),
        ("# none\n", "names no sample"),
        ("b\na\nb\n", "names sample 'b' 2 times"),
        (
            "b\nd\nmasks/e.png\n",
            "names 2 samples that the source has no forged image with a mask of, first 'd'",
        ),
        (b"\xff\xfe", "is no text in UTF-8"),
        (None, "cannot be read: "),
    ],
)
def test_a_list_of_exceptions_is_checked(afbench, mixed, text, message):
    path = mixed / "exceptions.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ran = afbench("index", "folder", "--root", mixed / "own", "--invert-listed", path)
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1
