"""Small pictures that would keep a decoder busy for minutes are refused by their structure; what people have is not."""

import io
import math
import resource
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from afbench.core import BadSample
from afbench.costly import MAX_RUN_LENGTH_PIXELS, MAX_SCANS, MAX_SEGMENTS, refuse_costly
from afbench.images import decode, decode_mask, stated_size
from afbench.scoring.mask_png import read_mask

TIFF_BASICS = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def progressive(side, scans):
    """A grey progressive JPEG whose scans after the first hold nothing, and yet go over every pixel."""
    frame = struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])
    tables = segment(0xDB, b"\0" + bytes([1] * 64))
    codes = bytes([1] + [0] * 15)
    head = (
        tables
        + segment(0xC2, frame)
        + segment(0xC4, b"\x00" + codes + b"\0")
        + segment(0xC4, b"\x10" + codes + b"\xe0")
    )
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes((((side + 7) // 8) ** 2 + 7) // 8)
    return b"\xff\xd8" + head + first + segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) * (scans - 1) + b"\xff\xd9"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*extra, side=8):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((side + 1) * side)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def tiff(*tags, big=False):
    """A little-endian TIFF of one directory and nothing else."""
    rows = sorted([*TIFF_BASICS, *tags])
    head = (
        b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(rows))
        if big
        else b"II*\0" + struct.pack("<IH", 8, len(rows))
    )
    form = "<HHQQ" if big else "<HHII"
    return head + b"".join(struct.pack(form, *row) for row in rows) + bytes(8 if big else 4)


def sharing_tags(count, size):
    """Tags that all read the same bytes: ``count * size`` in memory."""
    return tiff(*((1000 + number, 7, size, 8) for number in range(count))) + bytes(size)


def jpeg_with(*segments):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    return stream.getvalue()[:2] + b"".join(segments) + stream.getvalue()[2:]


def webp_with(exif):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "WEBP", exif=exif)
    return stream.getvalue()


def raw_profile(count, size):
    return b"\nexif\n 1\n" + sharing_tags(count, size).hex().encode()


def run_length_bmp(side):
    data = b"\1\0\0\0" * side + b"\0\1"
    sizes = struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024)
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + sizes + header + bytes(1024) + data


COSTLY = {
    "progressive JPEG of 3,000 scans": (
        lambda: progressive(8000, 3000),
        "scans or more over 64000000 pixels",
    ),
    "JPEG of 400,000 bits of EXIF": (
        lambda: jpeg_with(segment(0xE1, b"Exif\0\0x") * 400_000),
        f"more than {MAX_SEGMENTS} segments",
    ),
    "the same behind an end that Pillow passes": (
        lambda: jpeg_with(b"\xff\xd9" + segment(0xE1, b"Exif\0\0x") * 400_000),
        f"more than {MAX_SEGMENTS} segments",
    ),
    "JPEG whose EXIF begins again and again": (
        lambda: jpeg_with(*[segment(0xE1, b"Exif\0\0" * 10_000)] * 30),
        "EXIF that begins again and again",
    ),
    "JPEG whose EXIF tags share their bytes": (
        lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + sharing_tags(3000, 20_000))),
        "tags that read the same",
    ),
    "PNG whose EXIF tags share their bytes": (
        lambda: png(chunk(b"eXIf", sharing_tags(20_000, 100_000))),
        "tags that read the same",
    ),
    "WebP whose EXIF tags share their bytes": (
        lambda: webp_with(sharing_tags(20_000, 100_000)),
        "tags that read the same",
    ),
    "PNG whose EXIF in a text shares its bytes": (
        lambda: png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(7000, 50_000)))),
        "tags that read the same",
    ),
    "TIFF whose tags share their bytes": (lambda: sharing_tags(20_000, 100_000), "tags that read the same"),
    "PNG of 2,000 profiles of a megabyte": (
        lambda: png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**20 - 1))) * 2000),
        "packed texts and profiles",
    ),
    "PNG of 100,000 empty chunks": (lambda: png(chunk(b"prVt", b"") * 100_000), "chunks or more in"),
    "TIFF of 200,000 strips": (
        lambda: tiff((273, 4, 200_000, 8), (277, 3, 1, 1), (278, 4, 1, 1)) + bytes(800_000),
        "200000 strips",
    ),
    "BigTIFF of 200,000 strips": (
        lambda: tiff((273, 4, 200_000, 16), (278, 4, 1, 1), big=True) + bytes(800_000),
        "200000 strips",
    ),
    "TIFF of a giant tile": (
        lambda: tiff((322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 8)),
        "tiles of 30000x30000 pixels",
    ),
    "run-length encoded BMP": (lambda: run_length_bmp(8000), "8000x8000 run-length encoded"),
}


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("name", COSTLY)
def test_a_small_file_that_costs_minutes_is_refused_before_it_is_decoded(name):
    make, told = COSTLY[name]
    data = make()
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with suppress(BadSample):
        assert math.prod(stated_size(data)) < 2**26
    for read in (decode, decode_mask):
        with pytest.raises(BadSample, match=told) as problem:
            read(data)
        assert problem.value.reason == "too_costly" and "\n" not in str(problem.value)
    # with no bound each took from 7 s to minutes, or gigabytes
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200 << 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: progressive(1000, 4 * MAX_SCANS),
        lambda: progressive(32, 500),
        lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(1000)) * 255),
        lambda: png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"text")) * 40),
        lambda: png(chunk(b"tEXt", b"Comment\0text") * 5000),
        lambda: run_length_bmp(64),
        lambda: tiff((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)),
    ],
)
def test_what_costs_little_is_decoded(make):
    assert decode(make()).pixels.ndim == 3


def test_texts_and_profiles_of_a_mask_are_not_even_unpacked():
    profile = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**20 - 1)))
    start = time.process_time()
    assert not read_mask(png(*[profile] * 2000, *[chunk(b"prVt", b"")] * 20_000), (8, 8)).any()
    assert time.process_time() - start < 2  # 23 s where they were


def test_what_libraries_write_is_never_costly(picture):
    pixels = Image.fromarray(picture(64, 48))
    exif = Image.Exif()
    exif[274], exif[305] = 6, "x" * 5000
    for image_format, options in (
        ("JPEG", {"progressive": True, "exif": exif, "quality": 95}),
        ("JPEG", {"exif": exif, "icc_profile": bytes(200_000)}),
        ("PNG", {"exif": exif, "icc_profile": bytes(200_000)}),
        ("TIFF", {"exif": exif}),
        ("TIFF", {"compression": "tiff_lzw", "exif": exif, "big_tiff": True}),
        ("WEBP", {"exif": exif}),
        ("BMP", {}),
    ):
        stream = io.BytesIO()
        pixels.save(stream, image_format, **options)
        refuse_costly(stream.getvalue())
        assert np.asarray(decode(stream.getvalue()).pixels).shape == (64, 48, 3)


def test_a_cut_or_empty_file_is_left_to_its_decoder():
    for make, _ in COSTLY.values():
        head = make()[:30]
        for length in range(len(head)):
            refuse_costly(head[:length])


def test_an_odd_exif_value_that_claims_more_than_there_is_costs_nothing():
    exif = tiff((274, 3, 1, 6), (37500, 7, 2**31, 8))
    assert decode(jpeg_with(segment(0xE1, b"Exif\0\0" + exif))).pixels.shape == (8, 8, 3)


def test_the_limit_of_run_lengths_counts_pixels():
    assert MAX_RUN_LENGTH_PIXELS == 2048 * 2048
    refuse_costly(run_length_bmp(2048))
    with pytest.raises(BadSample, match="too_costly"):
        refuse_costly(run_length_bmp(2049))
