"""The free photographs shipped with the package, as linear-light scenes."""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from afbench.core import ByteImage, FloatImage

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Photograph:
    """One shipped photograph; ``pixels`` is uint8 ``(H, W, 3)`` RGB."""

    name: str
    licence: str
    split: Split
    pixels: ByteImage


@lru_cache(maxsize=4)
def load_photographs(split: Split) -> tuple[Photograph, ...]:
    """Load the photographs of one split, in the order of their index.

    The reference localizer was trained on ``train``, the demo shows ``test``; no photograph is in both.
    Licences and authors: ``photographs/ATTRIBUTION.md``.
    """
    folder = files("afbench.sources") / "photographs"
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    photographs = []
    for row in index["photographs"]:
        if row["split"] != split:
            continue
        with (folder / row["file"]).open("rb") as stream, Image.open(stream) as image:
            pixels = np.asarray(image.convert("RGB"))
        photographs.append(Photograph(row["name"], row["licence"], split, pixels))
    return tuple(photographs)


def attribution() -> str:
    """Return Markdown with author, licence, origin and changes of every photograph; CC-BY asks to pass it on."""
    return (files("afbench.sources") / "photographs" / "ATTRIBUTION.md").read_text(encoding="utf-8")


def crop_scene(photograph: Photograph, size: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Cut a random window, shrink it (which washes out its own camera), flip it, and linearise it.

    Returns:
        float32 ``(height, width, 3)`` in [0, 1], linear light.
    """
    height, width = size
    tall, wide = photograph.pixels.shape[:2]
    largest = min(tall / height, wide / width)
    zoom = float(np.exp(rng.uniform(np.log(min(1.25, largest)), np.log(min(3.0, largest)))))
    box_height, box_width = min(tall, round(height * zoom)), min(wide, round(width * zoom))
    y = int(rng.integers(0, tall - box_height + 1))
    x = int(rng.integers(0, wide - box_width + 1))
    window = photograph.pixels[y : y + box_height, x : x + box_width]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    shrink = cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(window), (width, height), interpolation=shrink)
    scene: FloatImage = (resized.astype(np.float32) / 255.0) ** np.float32(2.2)
    gains = np.exp(rng.normal(0.0, 0.12, 3) + rng.normal(-0.05, 0.2)).astype(np.float32)
    lit: FloatImage = np.clip(scene * gains, 0.0, 1.0)
    return lit
