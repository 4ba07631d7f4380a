"""Mutated files of every format and mode end in a sample or in a reason, never in a traceback."""

import random
import struct

import numpy as np
import pytest
from PIL import Image
from releases import encoded, half_mask, photograph

from afbench.core import BadSample
from afbench.sources.entry_reader import read_entry
from afbench.sources.mask_rules import MASK_RULES
from afbench.sources.source_entry import SourceEntry, SourceOptions

REASONS = {
    "unreadable",
    "too_large",
    "too_costly",
    "animated",
    "unsupported_mode",
    "size_mismatch",
    "rotated_mask",
    "empty_mask",
    "full_mask",
}
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds():
    """Small files of every format that is read, with metadata for the mutations to hit."""
    exif = Image.Exif()
    exif[274] = 6
    size = (12, 9)
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK"):
        picture = photograph(1, size).convert(mode)
        for image_format, options in (
            ("PNG", {"exif": exif}),
            ("JPEG", {"exif": exif, "progressive": mode == "L"}),
            ("TIFF", {"exif": exif}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_deflate", "exif": exif}),
            ("TIFF", {"compression": "jpeg"}),
            ("BMP", {}),
            ("WEBP", {"lossless": mode == "RGBA", "exif": exif}),
        ):
            try:
                yield encoded(picture, image_format, **options)
            except (OSError, RuntimeError, ValueError, KeyError):
                continue  # this format cannot hold this mode


def mutate(data, rng):
    """Flip, overwrite, cut, repeat and swap bytes, as often in the header as in the rest."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(min(len(content), rng.choice((64, 10**9)))) if content else 0
        kind = rng.randrange(6)
        if kind == 0 and content:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            value = struct.pack(rng.choice("<>") + "I", rng.choice(INTERESTING))
            content[place : place + 4] = value[: rng.choice((1, 2, 4))]
        elif kind == 2:
            del content[place : place + rng.randint(1, 16)]
        elif kind == 3:
            content[place:place] = content[place : place + rng.randint(1, 32)]
        elif kind == 4:
            content[place:place] = rng.randbytes(rng.randint(1, 8))
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_give_a_sample_or_a_reason(tmp_path, count):
    rng = random.Random(count)
    originals = list(seeds())
    assert len(originals) > 30
    whole, mask = encoded(photograph(1, (12, 9)), "PNG"), encoded(half_mask((12, 9)), "PNG")
    rules = [name for name in MASK_RULES if name != "npz"]
    outcomes = {}
    for number in range(count):
        data = mutate(rng.choice(originals), rng)
        as_image = number % 2 == 0
        (tmp_path / "image").write_bytes(data if as_image else whole)
        (tmp_path / "mask").write_bytes(mask if as_image else data)
        entry = SourceEntry("a", "image", ("mask",), rule="white" if as_image else rng.choice(rules))
        options = SourceOptions(on_mismatch=rng.choice(("exclude", "resize-nearest")))
        try:
            read = read_entry(tmp_path, entry, options)
        except BadSample as problem:
            assert problem.reason in REASONS, problem
            assert "\n" not in problem.detail
            outcomes[problem.reason] = outcomes.get(problem.reason, 0) + 1
        else:
            assert read.sample.image.dtype == np.uint8 and read.sample.image.shape[2] == 3
            assert read.sample.mask.shape == read.sample.image.shape[:2]
            outcomes["sample"] = outcomes.get("sample", 0) + 1
    assert outcomes["sample"] > count / 50 and outcomes["unreadable"] > count / 50
