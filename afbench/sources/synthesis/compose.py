"""Splicing, copy-move and removal: one forged image with its mask from one (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from afbench.core import ByteImage, FloatImage

from .camera import MARGIN, develop, draw_camera, jpeg
from .photographs import Photograph, crop_scene
from .regions import draw_region
from .scenes import procedural_scene

FORGERY_KINDS = {"splice": 0.45, "copy_move": 0.30, "removal": 0.25}
"""Kinds of tampering and how often each is drawn."""

_Alpha = FloatImage


@dataclass(frozen=True)
class Forgery:
    """A finished forgery: uint8 RGB ``image``, uint8 0/255 ``mask``, ``kind`` of tampering, and the ``scene`` it shows."""

    image: ByteImage
    mask: ByteImage
    kind: str
    scene: str


def synthesize(
    seed: int,
    index: int,
    *,
    size: tuple[int, int] = (128, 128),
    photographs: Sequence[Photograph] = (),
    photograph_share: float = 1.0,
    authentic: bool = False,
) -> Forgery:
    """Make forgery number ``index`` of the stream ``seed``; the same arguments give the same picture.

    Every region has its own simulated camera; masks cover 2 to 35 % of the image, 60 % of the edges
    are soft, and the result is saved half the time as JPEG (quality 85 to 99).

    Args:
        seed: names the stream; non-negative.
        index: position in the stream; each forgery can be made without the others.
        size: ``(height, width)`` in pixels, both at least 64.
        photographs: where scenes are cut from; without any, all scenes are procedural.
        photograph_share: share of the images made from photographs, where there are any.
        authentic: leave the picture untouched (an all-zero mask).
    """
    rng = np.random.default_rng([seed, index])
    from_photographs = bool(photographs) and rng.random() < photograph_share
    pool = photographs if from_photographs else ()
    scene, name = _draw_scene(size, pool, rng)
    host = develop(scene, draw_camera(rng), rng)
    if authentic:
        return Forgery(_save(host, rng), np.zeros(size, np.uint8), "authentic", name)
    kind = str(rng.choice(list(FORGERY_KINDS), p=list(FORGERY_KINDS.values())))
    region = draw_region(size, rng)
    alpha = _soften(region, rng)
    if kind == "splice":
        # the donor gets a camera of its own: noise, demosaicing and JPEG grid differ inside the region
        donor, _ = _draw_scene(size, pool, rng)
        forged = _splice(host, develop(donor, draw_camera(rng), rng), alpha, rng)
    elif kind == "copy_move":
        forged = _copy_move(host, region, alpha, rng)
    else:
        forged = _remove(host, region, alpha, rng)
    # a soft edge is forged where more than half of a pixel comes from elsewhere
    mask = np.where(alpha > 0.5, np.uint8(255), np.uint8(0))
    return Forgery(_save(forged, rng), mask, kind, name)


def _draw_scene(
    size: tuple[int, int], photographs: Sequence[Photograph], rng: np.random.Generator
) -> tuple[FloatImage, str]:
    padded = (size[0] + 2 * MARGIN, size[1] + 2 * MARGIN)
    if not photographs:
        return procedural_scene(padded, rng), "procedural"
    photograph = photographs[int(rng.integers(0, len(photographs)))]
    return crop_scene(photograph, padded, rng), photograph.name


def _soften(region: ByteImage, rng: np.random.Generator) -> _Alpha:
    alpha = region.astype(np.float32) / np.float32(255.0)
    if rng.random() < 0.6:
        alpha = cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.6, 2.0)))
    return alpha


def _blend(host: ByteImage, patch: FloatImage | ByteImage, alpha: _Alpha) -> ByteImage:
    background = host.astype(np.float32)
    mixed = background + alpha[..., None] * (patch.astype(np.float32) - background)
    return np.round(np.clip(mixed, 0.0, 255.0)).astype(np.uint8)


def _warp(
    picture: ByteImage, centre: tuple[float, float], angle: float, scale: float, shift: tuple[float, float]
) -> ByteImage:
    matrix = cv2.getRotationMatrix2D(centre, angle, scale)
    matrix[:, 2] += shift
    height, width = picture.shape[:2]
    flags = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_LINEAR
    warped: ByteImage = cv2.warpAffine(
        picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    return warped


def _splice(host: ByteImage, donor: ByteImage, alpha: _Alpha, rng: np.random.Generator) -> ByteImage:
    patch = donor
    if rng.random() < 0.5:
        height, width = host.shape[:2]
        angle = float(rng.uniform(-25, 25)) if rng.random() < 0.5 else 0.0
        patch = _warp(patch, (width / 2, height / 2), angle, float(rng.uniform(0.75, 1.35)), (0.0, 0.0))
    if rng.random() < 0.5:
        # a forger may match the colours of the pasted part to those it covers
        is_forged = alpha > 0.5
        strength = float(rng.uniform(0.3, 1.0))
        difference = host[is_forged].mean(axis=0) - patch[is_forged].mean(axis=0)
        matched = patch.astype(np.float32) + (strength * difference).astype(np.float32)
        patch = np.round(np.clip(matched, 0, 255)).astype(np.uint8)
    return _blend(host, patch, alpha)


def _copy_move(host: ByteImage, region: ByteImage, alpha: _Alpha, rng: np.random.Generator) -> ByteImage:
    """Cover the region with another part of the same picture, rotated and scaled; the truth is the target."""
    height, width = host.shape[:2]
    rows, columns = np.nonzero(region)
    target = (float(columns.mean()), float(rows.mean()))
    origin = target
    # the copy should not lie on its own source; after eight tries any place will do
    for _ in range(8):
        origin = (float(rng.uniform(0.2, 0.8) * width), float(rng.uniform(0.2, 0.8) * height))
        if np.hypot(origin[0] - target[0], origin[1] - target[1]) > 0.2 * min(height, width):
            break
    shift = (target[0] - origin[0], target[1] - origin[1])
    angle, scale = float(rng.uniform(-25, 25)), float(rng.uniform(0.75, 1.35))
    return _blend(host, _warp(host, origin, angle, scale, shift), alpha)


def _remove(host: ByteImage, region: ByteImage, alpha: _Alpha, rng: np.random.Generator) -> ByteImage:
    """Fill the region from its surroundings: Telea, Navier-Stokes, or a blurred fill, at times with noise on top."""
    hole = cv2.dilate(region, np.ones((3, 3), np.uint8))
    method = rng.random()
    filled = cv2.inpaint(host, hole, 3, cv2.INPAINT_TELEA if method < 0.65 else cv2.INPAINT_NS)
    if method > 0.4 and rng.random() < 0.5:
        filled = cv2.GaussianBlur(filled, (0, 0), float(rng.uniform(1.0, 4.0)))
    patch = filled.astype(np.float32)
    if rng.random() < 0.4:
        sigma = np.float32(rng.uniform(0.5, 4.0))
        patch = patch + sigma * rng.standard_normal(patch.shape, dtype=np.float32)
    return _blend(host, patch, alpha)


def _save(picture: ByteImage, rng: np.random.Generator) -> ByteImage:
    return jpeg(picture, int(rng.integers(85, 100))) if rng.random() < 0.5 else picture
