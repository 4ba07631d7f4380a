"""Each way of marking forged pixels is read as its release means it, and nothing is guessed or unpacked unasked."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from releases import DARK_GREEN, DARK_RED, GREEN, RED, edge_mask, encoded, half_mask, photograph, put

from afbench.core import BadSample
from afbench.sources.entry_reader import read_entry
from afbench.sources.mask_rules import MASK_RULES
from afbench.sources.source_entry import SourceEntry, SourceOptions

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def npz(array, **options):
    stream = io.BytesIO()
    np.savez_compressed(stream, **{options.pop("key", "arr_0"): array})
    return stream.getvalue()


def reason_for(rule, data):
    with pytest.raises(BadSample) as problem:
        MASK_RULES[rule].decode(data)
    assert "mask" in problem.value.detail and "\n" not in problem.value.detail
    return problem.value.reason


def test_every_rule_is_listed_under_its_name_and_says_what_it_does():
    assert set(MASK_RULES) >= {
        "white",
        "white_above_0",
        "white_above_10",
        "black",
        "black_at_0",
        "green",
        "npz",
    }
    for name, rule in MASK_RULES.items():
        assert (
            rule.name == name
            and rule.summary
            and rule.polarity
            in (
                "white",
                "black",
                "green",
                "green or white",
                "nonzero",
            )
        )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("white", LEVELS > 127),
        ("white_above_0", LEVELS > 0),
        ("white_above_10", LEVELS > 10),
        ("black", LEVELS < 180),
        ("black_at_0", LEVELS < 128),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_rules_cut_at_their_level_whatever_the_mode(rule, expected, mode):
    mask = MASK_RULES[rule].decode(encoded(Image.fromarray(LEVELS).convert(mode), "PNG"))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.where(expected, 255, 0))


def test_an_inverted_copy_of_a_black_mask_reads_the_same_as_white():
    black = MASK_RULES["black_at_0"].decode(encoded(Image.fromarray(LEVELS), "PNG"))
    white = MASK_RULES["white"].decode(encoded(Image.fromarray(255 - LEVELS), "PNG"))
    np.testing.assert_array_equal(black, white)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_green_is_forged_in_both_shades_and_the_seam_stays_where_it_was(quality, subsampling):
    data = encoded(edge_mask((64, 48), green_from=0.5), "JPEG", quality=quality, subsampling=subsampling)
    mask = MASK_RULES["green"].decode(data)
    assert not mask[:, :31].any() and (mask[:, 33:] == 255).all()


def test_grey_would_see_nothing_where_hue_sees_the_splice():
    data = encoded(Image.new("RGB", (8, 8), RED), "PNG")
    assert not MASK_RULES["white"].decode(data).any()
    dark = encoded(Image.new("RGB", (8, 8), DARK_GREEN), "PNG")
    assert not MASK_RULES["white"].decode(dark).any() and MASK_RULES["green"].decode(dark).all()


@pytest.mark.parametrize("shift", [0, 1])
def test_neither_colour_gains_at_the_seam(shift):
    """Averaged over seams on and off the grid of chroma blocks, green is as wide as drawn."""
    widths = []
    for seam in range(16, 48):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :seam], pixels[:, seam:] = (DARK_RED, DARK_GREEN) if shift else (RED, GREEN)
        mask = MASK_RULES["green"].decode(encoded(Image.fromarray(pixels), "JPEG", quality=75))
        widths.append((mask > 0).sum() / 48 - (64 - seam))
    assert abs(np.mean(widths)) < 0.5 and np.max(np.abs(widths)) <= 1


@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (128, 128, 128), (0, 0, 255), (40, 60, 0), (250, 255, 245), (9, 30, 3)],
)
def test_what_has_no_hue_of_red_or_green_is_not_forged(colour):
    data = encoded(Image.new("RGB", (16, 16), colour), "JPEG", quality=75)
    assert not MASK_RULES["green"].decode(data).any()
    assert (MASK_RULES["green"].levels(data) == 128).all()


def test_what_has_no_hue_is_forged_on_neither_side(tmp_path):
    put(tmp_path, "i.png", photograph(1))
    colours = np.asarray(edge_mask()).copy()
    colours[:4] = 128
    put(tmp_path, "m.png", Image.fromarray(colours))
    masks = [
        read_entry(
            tmp_path, SourceEntry("i", "i.png", ("m.png",), "green"), SourceOptions(invert=invert)
        ).sample.mask
        for invert in (False, True)
    ]
    assert not masks[0][:4].any() and not masks[1][:4].any()
    assert ((masks[0] > 0) ^ (masks[1] > 0))[4:].all()


def test_a_grey_jpeg_mask_with_noise_casts_no_votes():
    noise = photograph(1, (64, 64)).convert("L").convert("RGB")
    assert not MASK_RULES["green"].decode(encoded(noise, "JPEG", quality=60)).any()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float32, ">i4"])
def test_npz_counts_every_instance_above_zero(dtype):
    ids = np.zeros((5, 7), dtype)
    ids[1, 2:5] = 1
    ids[3, 0] = 1 if dtype == np.bool_ else 17
    for array in (ids, ids[..., None], ids[None], np.asfortranarray(ids)):
        np.testing.assert_array_equal(MASK_RULES["npz"].decode(npz(array)), np.where(ids > 0, 255, 0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unreadable"),
        (b"PK\x03\x04 nothing", "unreadable"),
        (encoded(half_mask(), "PNG"), "unreadable"),
        (npz(np.ones((4, 4)), key="mask"), "unreadable"),
        (npz(np.ones((4, 4)))[:-30], "unreadable"),
        (npz(np.ones((2, 4, 4))), "unsupported_mode"),
        (npz(np.ones(16)), "unsupported_mode"),
        (npz(np.ones((0, 4))), "unsupported_mode"),
        (npz(np.ones((4, 4), complex)), "unsupported_mode"),
        (npz(np.array([["a", "b"]])), "unsupported_mode"),
        (npz(np.array([[{}, ()]], object)), "unsupported_mode"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(data, reason):
    assert reason_for("npz", data) == reason


def header_that_claims(shape, payload, dtype="|u1", compression=zipfile.ZIP_DEFLATED):
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": dtype, "fortran_order": False, "shape": shape})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("arr_0.npy", array.getvalue() + payload)
    return stream.getvalue()


def test_an_archive_that_unpacks_to_more_than_it_says_fills_no_memory():
    bomb = header_that_claims((4, 4), bytes(200_000_000))
    huge = header_that_claims((10**6, 10**6), b"")
    short = header_that_claims((7000, 7000), b"1234")
    tracemalloc.start()
    assert MASK_RULES["npz"].decode(bomb).shape == (4, 4)
    assert reason_for("npz", huge) == "too_large"
    assert reason_for("npz", short) == "unreadable"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_header_that_claims_to_be_endless_fills_no_memory():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x02\x00" + (2**27).to_bytes(4, "little") + b" " * 2**27)
    tracemalloc.start()
    assert reason_for("npz", stream.getvalue()) == "unreadable"
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_an_archive_packed_in_an_uncommon_way_is_not_unpacked():
    assert (
        reason_for("npz", header_that_claims((1, 4), b"1234", compression=zipfile.ZIP_LZMA)) == "unreadable"
    )


@settings(max_examples=200)
@given(data=st.data())
def test_only_bad_sample_escapes_from_mutated_archives(data):
    content = bytearray(npz(np.arange(30).reshape(5, 6) % 3))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        content = content or bytearray(b"x")
    try:
        mask = MASK_RULES["npz"].decode(bytes(content))
    except BadSample as problem:
        assert problem.reason in ("unreadable", "too_large", "unsupported_mode")
    else:
        assert mask.ndim == 2 and set(np.unique(mask)) <= {0, 255}
