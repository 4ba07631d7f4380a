"""Any number of forgeries on procedural scenes and free photographs, each made from (seed, index)."""

import hashlib
from functools import partial
from importlib.metadata import version

from afbench.core import Sample, Source

from .synthesis import load_photographs, synthesize

DEFAULT_COUNT = 100
PHOTOGRAPH_SHARE = 0.5
SIDE = 128
AUTHENTIC_PREFIX = "authentic-"
RULE = "synthetic-1"
"""Version of the recipe; it changes whenever the same seed would give other pictures."""


def open_synthetic(seed: int, limit: int | None, *, authentic: bool = False) -> Source:
    """Open the first ``limit`` forgeries of a seed (100 if None), 128x128, half of them on photographs.

    ``authentic`` adds as many pictures that nobody forged: the same scenes before the forger came.

    Only photographs of the test split are used: the reference localizer has seen none of them.
    """
    count = limit or DEFAULT_COUNT
    ids = [f"synthetic-{seed}-{index:06d}" for index in range(count)]
    # OpenCV and NumPy are part of the recipe: another version may round another way
    recipe = f"{RULE} seed {seed} opencv {version('opencv-python-headless')} numpy {version('numpy')}"
    authentic_ids = [f"{AUTHENTIC_PREFIX}{name}" for name in ids] if authentic else []
    return Source(
        name="synthetic",
        ids=ids,
        read=partial(_read, seed),
        sha256=hashlib.sha256(recipe.encode()).hexdigest(),
        terms="made by afbench; photographs CC0, public domain or CC-BY, see ATTRIBUTION.md",
        redistribution="allowed",
        authentic=authentic_ids,
        authentic_sha256=hashlib.sha256(f"{recipe} authentic".encode()).hexdigest() if authentic else "",
    )


def _read(seed: int, sample_id: str) -> Sample:
    index = int(sample_id.rsplit("-", 1)[1])
    picture = synthesize(
        seed,
        index,
        size=(SIDE, SIDE),
        photographs=load_photographs("test"),
        photograph_share=PHOTOGRAPH_SHARE,
        authentic=sample_id.startswith(AUTHENTIC_PREFIX),
    )
    return Sample(sample_id, picture.image, picture.mask, group=picture.scene, kind=picture.kind)
