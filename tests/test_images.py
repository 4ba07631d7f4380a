"""Decoding what users bring, storing without loss, and rounding to 8 bits."""

import hashlib
import resource
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from afbench.core import BadSample
from afbench.images import (
    decode,
    decode_image,
    decode_mask,
    decode_mask_colours,
    decode_stored,
    encode_image,
    masks_to_tensor,
    pixel_sha256,
    quantise,
    resize,
    resize_by_products,
    to_tensor,
)


def reason_for(data, decode=decode_image, **options):
    with pytest.raises(BadSample) as problem:
        decode(data, **options)
    assert "\n" not in str(problem.value)
    return problem.value.reason


def png_header(width, height):
    """A PNG of a few bytes that claims any size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_sixteen_bits_a_channel_are_refused(picture, suffix, channels):
    deep = picture().astype(np.uint16) * 257
    data = cv2.imencode(suffix, deep if channels == "rgb" else deep[..., 0])[1].tobytes()
    assert reason_for(data) == "unsupported_mode"
    assert reason_for(data, decode_mask) == "unsupported_mode"


@pytest.mark.parametrize(
    ("image_format", "mode"),
    [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "LAB"), ("TIFF", "F")],
)
def test_modes_other_than_rgb_and_grey_are_refused_by_name(picture, save, image_format, mode):
    image = Image.fromarray(picture())
    data = save(image.convert("L" if mode == "F" else "RGB"), image_format, mode=mode)
    with pytest.raises(BadSample, match=f"unsupported_mode: mode {mode}, expected 8-bit RGB or grey"):
        decode_image(data)


def test_transparency_is_refused_wherever_it_is_kept(picture, save):
    image = Image.fromarray(picture())
    assert reason_for(save(image.quantize(16), "PNG", transparency=0)) == "unsupported_mode"
    corner = tuple(int(level) for level in picture()[0, 0])
    assert reason_for(save(image, "PNG", transparency=corner)) == "unsupported_mode"
    half_clear = np.dstack([picture(), picture()[..., 0]])
    assert reason_for(save(half_clear, "WEBP")) == "unsupported_mode"


@pytest.mark.parametrize(
    ("image_format", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA"), ("WEBP", "RGBA")]
)
def test_an_alpha_is_dropped_where_every_pixel_is_opaque_and_refused_else(picture, save, image_format, mode):
    image = Image.fromarray(picture()).convert(mode)
    decoded = decode(save(image, image_format, **({"lossless": True} if image_format == "WEBP" else {})))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    # Pillow's WebP encoder leaves out an alpha that says nothing
    assert decoded.mode == ("RGB" if image_format == "WEBP" else mode)
    image.putpixel((29, 19), (1, 254) if mode == "LA" else (1, 2, 3, 254))
    with pytest.raises(BadSample, match=rf"unsupported_mode: mode {mode} with transparency \(alpha down to"):
        decode_image(save(image, image_format))


def test_a_colour_that_is_transparent_but_nowhere_used_is_no_transparency(picture, save):
    image = Image.fromarray(picture() // 2)
    data = save(image, "PNG", transparency=(255, 255, 255))
    np.testing.assert_array_equal(decode_image(data), np.asarray(image))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_more_than_one_frame_is_refused(picture, save, image_format):
    more = [Image.fromarray(picture(seed=1)), Image.fromarray(picture(seed=2))]
    data = save(picture(), image_format, save_all=True, append_images=more)
    with pytest.raises(BadSample, match=r"animated: (3|2 or more) frames, expected 1"):
        decode_image(data)


def test_the_frames_of_a_tiff_are_not_counted(picture, save, monkeypatch):
    more = [Image.fromarray(picture(2, 2, seed=seed)) for seed in range(50)]
    data = save(picture(2, 2), "TIFF", save_all=True, append_images=more)
    load, loaded = ImageFileDirectory_v2.load, []
    monkeypatch.setattr(ImageFileDirectory_v2, "load", lambda *one: loaded.append(1) or load(*one))
    with pytest.raises(BadSample, match="animated: 2 or more frames, expected 1"):
        decode_image(data)
    assert 0 < len(loaded) < 10


def test_a_palette_with_an_opaque_transparency_is_decoded_without_a_warning(picture, save):
    data = save(Image.fromarray(picture()).quantize(16), "PNG", transparency=bytes([255] * 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data).shape == (20, 30, 3)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_truncated_image_is_unreadable(picture, save, image_format):
    data = save(picture(40, 50), image_format)
    assert reason_for(data[: len(data) // 2]) == "unreadable"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a", "a GIF"),
        (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000"),
        (b"\0\0\0\x1cftypavif", "an AVIF"),
        (b"\0\0\0\x18ftypheic", "a HEIF"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
    ],
)
def test_a_picture_of_a_format_that_is_not_read_is_named_whatever_its_suffix(data, name):
    with pytest.raises(BadSample, match=rf"unsupported_format: {name}, expected PNG.*; convert it to PNG"):
        decode_image(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\n<!DOCTYPE html><html>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"PK\x03\x04", "a zip archive"),
        (b"hello", "no PNG"),
    ],
)
def test_what_holds_no_pixels_is_unreadable_and_named(data, what):
    with pytest.raises(BadSample, match=f"unreadable: {what}"):
        decode_image(data)


def test_what_is_no_picture_is_unreadable(picture, save):
    for data in (b"", b"\0", b"hello\n" * 50, b"%PDF-1.4", png_header(0, 5)):
        assert reason_for(data) == "unreadable"
        assert reason_for(data, decode_mask) == "unreadable"


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (9_000, 9_000)])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(width, height):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert reason_for(png_header(width, height)) == "too_large"
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_size_limit_counts_pixels(picture, save):
    data = save(picture(20, 30), "PNG")
    assert decode_image(data, max_pixels=600).shape == (20, 30, 3)
    assert reason_for(data, max_pixels=599) == "too_large"


def test_grey_palette_and_bilevel_become_rgb(picture, save):
    image = Image.fromarray(picture())
    for kind in (image.convert("L"), image.quantize(16), image.convert("1")):
        decoded = decode_image(save(kind, "PNG"))
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, np.asarray(kind.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_tiff_whose_zero_is_white_is_eight_bits_too(picture, save, mode):
    data = save(picture(), "TIFF", mode=mode, tiffinfo={262: 0})
    assert decode_image(data).shape == (20, 30, 3)
    assert set(np.unique(decode_mask(data))) == {0, 255}


def test_exif_rotation_is_not_applied(picture, save):
    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees
    plain, rotated = save(picture(20, 30), "PNG"), save(picture(20, 30), "PNG", exif=exif)
    assert len(rotated) > len(plain)
    np.testing.assert_array_equal(decode_image(rotated), picture(20, 30))
    assert decode_image(save(picture(20, 30), "JPEG", exif=exif)).shape == (20, 30, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_not_rotated_either_though_pillow_would(picture, save, orientation, compression):
    exif = Image.Exif()
    exif[274] = orientation
    data = save(picture(), "TIFF", exif=exif, compression=compression)
    pixels, mode, found = decode(data)
    np.testing.assert_array_equal(pixels, picture())
    assert (mode, found) == ("RGB", orientation)
    np.testing.assert_array_equal(decode_mask_colours(data), picture())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_the_exif_orientation_is_told_where_there_is_a_legal_one(picture, save, image_format):
    for orientation, expected in ((6, 6), (1, 1), (0, None), (9, None)):
        exif = Image.Exif()
        exif[274] = orientation
        assert decode(save(picture(), image_format, exif=exif)).orientation == expected
    assert decode(save(picture(), image_format)).orientation is None


def test_damaged_metadata_costs_no_pixels(picture, save):
    exif = Image.Exif()
    exif[274] = 6
    data = save(picture(), "PNG", exif=exif.tobytes().replace(b"MM\0*", b"XX\0*"))
    assert decode(data).orientation is None and decode(data).pixels.shape == (20, 30, 3)


def test_a_mask_is_255_above_level_127(save):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.where(levels > 127, 255, 0)
    for mode in ("L", "RGB", "RGBA", "LA"):
        np.testing.assert_array_equal(decode_mask(save(levels, "PNG", mode=mode)), expected)
    assert decode_mask(save(levels, "PNG"), threshold=0).sum() == 255 * 255


def test_a_bad_mask_says_that_it_is_the_mask(save, picture):
    with pytest.raises(BadSample, match="mask mode CMYK"):
        decode_mask(save(picture(), "JPEG", mode="CMYK"))
    with pytest.raises(BadSample, match="unreadable: mask"):
        decode_mask(b"nothing")


_FORMATS = (("PNG", {}), ("JPEG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}))
_SEEDS = [
    (name, options, mode)
    for mode in ("RGB", "L", "P", "1")
    for name, options in _FORMATS
    if not (name == "JPEG" and mode in ("P", "1"))
]


@settings(max_examples=300)
@given(data=st.data())
def test_only_bad_sample_escapes_from_mutated_bytes(picture, save, data):
    name, options, mode = data.draw(st.sampled_from(_SEEDS))
    content = bytearray(save(picture(9, 11), name, mode=mode, **options))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        content = content or bytearray(b"x")
    for read in (decode_image, decode_mask):
        try:
            found = read(bytes(content), max_pixels=100_000)
        except BadSample as problem:
            assert problem.reason in (
                "unreadable",
                "too_large",
                "too_costly",
                "animated",
                "unsupported_mode",
                "unsupported_format",
            )
        else:
            assert found.dtype == np.uint8 and found.ndim == (3 if read is decode_image else 2)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.sampled_from(["webp", "png"]))
def test_stored_pixels_come_back_exactly(picture, height, width, seed, image_format):
    image = picture(height, width, seed=seed)
    np.testing.assert_array_equal(decode_stored(encode_image(image, image_format)), image)
    grey = np.where(image[..., 0] > 127, np.uint8(255), np.uint8(0))
    np.testing.assert_array_equal(decode_stored(encode_image(grey, image_format)), grey)


def test_each_picture_is_stored_in_the_format_that_can_hold_it(picture):
    assert encode_image(picture())[8:12] == b"WEBP"
    assert encode_image(picture(), "png")[1:4] == b"PNG"
    mask = encode_image(picture()[..., 0])
    assert mask[1:4] == b"PNG" and decode_stored(mask).ndim == 2
    assert encode_image(picture(1, 16_383))[8:12] == b"WEBP"
    long = encode_image(picture(1, 16_384))
    assert long[1:4] == b"PNG"
    np.testing.assert_array_equal(decode_stored(long), picture(1, 16_384))


def test_damaged_stored_bytes_are_a_bad_sample(picture):
    assert reason_for(encode_image(picture())[:100], decode_stored) == "unreadable"


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1, 3)])
def test_the_pixel_hash_is_what_the_storage_rules_define(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    sizes = struct.pack(f"<{len(shape)}I", *shape)
    expected = hashlib.sha256(b"afpx1\0uint8" + sizes + image.tobytes("C")).hexdigest()
    assert pixel_sha256(image) == expected
    assert pixel_sha256(np.asfortranarray(image)) == expected


def test_all_levels_survive_the_way_through_floats():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = to_tensor([image])
    assert tensor.dtype == torch.float32 and tensor.shape == (1, 3, 16, 16) and tensor.max() == 1
    np.testing.assert_array_equal(quantise(tensor, tensor, 0)[0].numpy(), image)
    masks = masks_to_tensor([image[..., 0]])
    assert masks.shape == (1, 1, 16, 16) and masks.sum() == 128


def _column(levels):
    return torch.tensor(levels, dtype=torch.float64)[None, None, None, :].expand(1, 3, 1, -1) / 255


def test_half_levels_round_away_from_zero():
    moved = _column([100.5, 99.5, 101.5, 98.5, 100.49, 99.51, 100.0])
    rounded = quantise(moved, _column([100.0] * 7), None)
    assert rounded[0, 0, :, 0].tolist() == [101, 99, 102, 98, 100, 100, 100]


def test_float32_and_float64_round_alike_at_every_level_and_half_level():
    base = torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    for halves in range(-8, 9):
        moved = (base + halves / 510).clamp(0, 1)
        exact = quantise(moved, base, None)
        assert torch.equal(quantise(moved.float(), base.float(), None), exact)
        expected = (base * 255).round() + np.sign(halves) * ((abs(halves) + 1) // 2)
        assert torch.equal(exact, expected.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 255), st.floats(0, 1, width=32)), min_size=1, max_size=30),
    st.integers(0, 12),
)
def test_the_bound_holds_in_whole_levels_and_is_reached(pairs, bound):
    base, moved = _column([float(level) for level, _ in pairs]), _column([255 * value for _, value in pairs])
    levels = quantise(moved.float(), base.float(), bound)[0, 0, :, 0].to(torch.int64)
    original = torch.tensor([level for level, _ in pairs])
    assert (levels - original).abs().max() <= bound
    far = (moved[0, 0, 0] * 255 - original).abs() >= bound
    assert ((levels - original).abs()[far] == bound).all()


def test_a_mask_with_transparency_is_refused_and_an_opaque_one_is_read(save):
    pixels = np.full((20, 20, 4), 255, np.uint8)
    assert decode_mask(save(pixels, "PNG")).all()
    pixels[:10, :, 3] = 0
    assert reason_for(save(pixels, "PNG"), decode_mask) == "unsupported_mode"


def test_the_photograph_of_a_phone_file_with_a_second_frame_is_read(tmp_path):
    first, second = (Image.fromarray(np.full((16, 24, 3), level, np.uint8)) for level in (200, 20))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert abs(int(decode_image((tmp_path / "phone.jpg").read_bytes())[8, 8, 0]) - 200) < 3


@pytest.mark.parametrize("size", [(9, 13), (23, 5), (40, 31), (1, 1)])
def test_antialiased_resizing_by_products_is_that_of_torch_with_its_gradient(size):
    image = torch.rand(2, 3, 23, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.linspace(-1, 1, 2 * 3 * size[0] * size[1], dtype=torch.float64).view(2, 3, *size)
    results = []
    for function in (lambda x: resize_by_products(x, *size), lambda x: resize(x, size, antialias=True)):
        leaf = image.clone().requires_grad_()
        output = function(leaf)
        results.append((output.detach(), torch.autograd.grad((weights * output).sum(), leaf)[0]))
    torch.testing.assert_close(results[0], results[1])


def test_neither_autocast_nor_the_type_of_an_image_makes_resizing_by_products_rougher():
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        output = resize_by_products(image, 7, 7)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, resize(image, (7, 7), antialias=True), atol=1e-6, rtol=0)
