"""A simulated camera, which gives each region of a forgery its own history."""

from dataclasses import dataclass

import cv2
import numpy as np

from afbench.core import ByteImage, FloatImage

MARGIN = 8
"""Pixels a scene must have beyond the picture on every side, so that the JPEG grid can start anywhere."""

_BAYER_PATTERNS = ("BG", "GB", "RG", "GR")
_DEMOSAICERS = ("bilinear", "edge_aware", "none")
_FILTERS = ("none", "gaussian", "median", "bilateral")


@dataclass(frozen=True)
class Camera:
    """Sensor and processing of one capture; noise is in units of full scale, linear light."""

    bayer: str
    demosaic: str
    shot_noise: float
    read_noise: float
    gamma: float
    denoise: str
    denoise_strength: float
    sharpen: float
    jpeg_quality: int | None
    grid: tuple[int, int]


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera: noise over two decades, four Bayer patterns, in-camera JPEG three times in four."""
    return Camera(
        bayer=str(rng.choice(_BAYER_PATTERNS)),
        demosaic=str(rng.choice(_DEMOSAICERS, p=(0.45, 0.35, 0.2))),
        shot_noise=float(10 ** rng.uniform(-4.2, -2.5)),
        read_noise=float(10 ** rng.uniform(-3.3, -2.0)),
        gamma=float(rng.uniform(1.9, 2.4)),
        denoise=str(rng.choice(_FILTERS, p=(0.55, 0.2, 0.1, 0.15))),
        denoise_strength=float(rng.uniform(0.4, 0.9)),
        sharpen=float(max(0.0, rng.uniform(-0.8, 1.0))),
        jpeg_quality=int(rng.integers(70, 96)) if rng.random() < 0.7 else None,
        grid=(int(rng.integers(0, 8)), int(rng.integers(0, 8))),
    )


def develop(scene: FloatImage, camera: Camera, rng: np.random.Generator) -> ByteImage:
    """Photograph a linear scene.

    Args:
        scene: float32 ``(H + 2 MARGIN, W + 2 MARGIN, 3)`` in [0, 1], linear light.
        camera: the camera that takes it.
        rng: draws the sensor noise.
    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    raw = scene if camera.demosaic == "none" else _mosaic(scene, camera.bayer)
    sigma = np.sqrt(camera.shot_noise * raw + camera.read_noise**2)
    raw = raw + sigma * rng.standard_normal(raw.shape, dtype=np.float32)
    levels = np.round(np.clip(raw, 0.0, 1.0) * 65535.0).astype(np.uint16)
    if camera.demosaic != "none":
        suffix = "_EA" if camera.demosaic == "edge_aware" else ""
        levels = cv2.cvtColor(levels, getattr(cv2, f"COLOR_Bayer{camera.bayer}2RGB{suffix}"))
    table = (np.arange(65536, dtype=np.float32) / 65535.0) ** np.float32(1.0 / camera.gamma)
    picture = _filter(table[levels] * np.float32(255.0), camera)
    encoded = np.round(np.clip(picture, 0.0, 255.0)).astype(np.uint8)
    offset_y, offset_x = camera.grid
    # cut before and after JPEG, so that the picture's 8x8 grid starts at an offset of its own
    encoded = np.ascontiguousarray(encoded[offset_y:, offset_x:])
    if camera.jpeg_quality is not None:
        encoded = jpeg(encoded, camera.jpeg_quality)
    height, width = scene.shape[0] - 2 * MARGIN, scene.shape[1] - 2 * MARGIN
    return np.ascontiguousarray(encoded[MARGIN - offset_y :, MARGIN - offset_x :][:height, :width])


def jpeg(picture: ByteImage, quality: int) -> ByteImage:
    """Compress and decompress RGB through JPEG (4:2:0, libjpeg's tables)."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # these are bytes OpenCV just wrote
    return np.ascontiguousarray(decoded[..., ::-1])


def _mosaic(scene: FloatImage, bayer: str) -> FloatImage:
    """Keep one colour for each pixel. OpenCV names a pattern by its second row, second and third columns."""
    red_row, red_column = {"BG": (0, 0), "GB": (0, 1), "RG": (1, 1), "GR": (1, 0)}[bayer]
    raw = scene[..., 1].copy()
    raw[red_row::2, red_column::2] = scene[red_row::2, red_column::2, 0]
    raw[1 - red_row :: 2, 1 - red_column :: 2] = scene[1 - red_row :: 2, 1 - red_column :: 2, 2]
    return raw


def _filter(picture: FloatImage, camera: Camera) -> FloatImage:
    if camera.denoise == "gaussian":
        picture = cv2.GaussianBlur(picture, (0, 0), camera.denoise_strength)
    elif camera.denoise == "median":
        picture = cv2.medianBlur(picture, 3)
    elif camera.denoise == "bilateral":
        picture = cv2.bilateralFilter(picture, 5, 30.0 * camera.denoise_strength, 1.5)
    if camera.sharpen > 0:
        picture = picture + np.float32(camera.sharpen) * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
    return picture
