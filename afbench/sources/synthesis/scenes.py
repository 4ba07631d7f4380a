"""Procedural scenes: occluding textured leaves under smooth light, unlimited and free of anyone's rights."""

import cv2
import numpy as np

from afbench.core import FloatImage


def procedural_scene(size: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Draw a dead-leaves scene: occluding shapes with power-law sizes, each with its own texture.

    Occlusion and scale invariance are what give natural images their edge statistics
    (Lee, Mumford and Huang 2001, "Occlusion models for natural images").

    Returns:
        float32 ``(height, width, 3)`` in [0, 1], linear light.
    """
    height, width = size
    palette = _palette(rng)
    textures = [_texture(size, rng) for _ in range(4)]
    scene = _shade(textures[0], palette[0], palette[1])
    smallest, largest = 3.0, 0.45 * min(height, width)
    count = int(rng.integers(15, 110))
    radii = smallest * (largest / smallest) ** (rng.random(count) ** rng.uniform(1.0, 2.5))
    # large leaves first, or they would hide the small ones
    for radius in np.sort(radii)[::-1]:
        leaf = np.zeros((height, width), np.uint8)
        cv2.fillPoly(leaf, [_outline(float(radius), size, rng)], 255, cv2.LINE_AA)
        y0, x0, y1, x1 = _bounds(leaf)
        # the leaf lies outside the picture
        if y1 <= y0:
            continue
        cover = leaf[y0:y1, x0:x1, None].astype(np.float32) / 255.0
        texture = textures[int(rng.integers(0, len(textures)))][y0:y1, x0:x1]
        dark, bright = palette[rng.integers(0, len(palette), 2)]
        patch = _shade(texture, dark, bright)
        scene[y0:y1, x0:x1] += cover * (patch - scene[y0:y1, x0:x1])
    blur = float(rng.uniform(0.0, 0.9))
    if blur > 0.3:
        scene = cv2.GaussianBlur(scene, (0, 0), blur)
    lit: FloatImage = np.clip(scene * _light(size, rng)[..., None], 0.0, 1.0).astype(np.float32)
    return lit


def _palette(rng: np.random.Generator) -> FloatImage:
    tint = rng.uniform(0.2, 1.0, 3)
    colours = rng.uniform(0.02, 0.9, (8, 1)) * (tint + rng.normal(0.0, 0.35, (8, 3)))
    return np.clip(colours, 0.01, 0.95).astype(np.float32)


def _texture(size: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Noise with a power-law spectrum, optionally folded into stripes; float32 ``(H, W)`` in [0, 1]."""
    height, width = size
    total = np.zeros((height, width), np.float32)
    slope = rng.uniform(0.35, 0.95)
    cells, weight = 3, 1.0
    while cells < max(size) // 2:
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        total += np.float32(weight) * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * slope
    if rng.random() < 0.35:
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(3.0, 25.0)
        phase = (np.cos(angle) * columns + np.sin(angle) * rows) * (2 * np.pi / pitch)
        total = np.sin(phase.astype(np.float32) + np.float32(rng.uniform(0, 2)) * total)
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _shade(texture: FloatImage, dark: FloatImage, bright: FloatImage) -> FloatImage:
    return dark + texture[..., None] * (bright - dark)


def _outline(
    radius: float, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    height, width = size
    centre = rng.uniform((0, 0), (width, height))
    kind = rng.random()
    corners = int(rng.integers(3, 7)) if kind < 0.5 else 24
    angles = (
        np.sort(rng.uniform(0, 2 * np.pi, corners))
        if kind < 0.5
        else np.linspace(0, 2 * np.pi, 24, endpoint=False)
    )
    stretch = rng.uniform(0.4, 1.0)
    turn = rng.uniform(0, np.pi)
    x, y = radius * np.cos(angles), radius * stretch * np.sin(angles)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return np.round(points + centre).astype(np.int32)


def _bounds(leaf: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(leaf)
    return y, x, y + height, x + width


def _light(size: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    coarse = rng.uniform(0.45, 1.15, (3, 3)).astype(np.float32)
    light: FloatImage = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return light
