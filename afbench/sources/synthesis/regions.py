"""Shapes of tampered regions."""

import cv2
import numpy as np

from afbench.core import ByteImage

SMALLEST, LARGEST = 0.02, 0.35
"""Share of the image a region covers."""


def draw_region(size: tuple[int, int], rng: np.random.Generator) -> ByteImage:
    """Draw a connected-looking blob, polygon, ellipse or box covering 2 to 35 % of the image.

    Returns:
        uint8 ``(height, width)``, 255 inside.
    """
    height, width = size
    while True:
        # half uniform in radius, half in log area: large regions count, small ones stay common
        if rng.random() < 0.5:
            share = float(rng.uniform(SMALLEST**0.5, LARGEST**0.5) ** 2)
        else:
            share = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        radius = float(np.sqrt(share * height * width / np.pi))
        region = np.zeros(size, np.uint8)
        cv2.fillPoly(region, [_outline(radius, size, rng)], 255)
        if SMALLEST <= float(np.count_nonzero(region)) / region.size <= LARGEST:
            return region


def _outline(
    radius: float, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    height, width = size
    aspect = float(np.exp(rng.uniform(-0.6, 0.6)))
    kind = rng.random()
    if kind < 0.5:  # a wobbly blob
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        wobble = sum(
            rng.uniform(0, 0.28 / k) * np.sin(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)
        )
        distances = radius * (1.0 + wobble)
    elif kind < 0.75:  # a polygon
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
        distances = radius * rng.uniform(0.8, 1.5, len(angles))
    elif kind < 0.9:  # an ellipse
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        distances = np.full(48, radius)
    else:  # a box
        angles = np.pi / 4 + np.arange(4) * np.pi / 2
        distances = np.full(4, radius * 1.25)
    points = np.stack(
        [distances * np.cos(angles) * np.sqrt(aspect), distances * np.sin(angles) / np.sqrt(aspect)], axis=1
    )
    if kind < 0.9:
        turn = rng.uniform(0, np.pi)
        points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = rng.uniform((0.1 * width, 0.1 * height), (0.9 * width, 0.9 * height))
    return np.round(points + centre).astype(np.int32)
