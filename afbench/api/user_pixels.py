"""Turn pictures as a user holds them into 8-bit arrays: files, Pillow images, arrays and tensors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from afbench.core import BadSample, ByteImage, UsageError
from afbench.images import MAX_PIXELS, decode_image, decode_mask_levels
from afbench.sources.drawn_masks import require_drawn

WHITE_ABOVE = 127
"""Grey level above which a mask's pixel counts as forged, as in most sources."""


def image_pixels(image: Any) -> ByteImage:
    """Return an image as uint8 ``(H, W, 3)`` RGB.

    Args:
        image: a path, a Pillow image, an array ``(H, W, 3)`` or ``(H, W)``, or a tensor ``(3, H, W)`` or ``(1, 3, H, W)``; uint8, or
            float in [0, 1], which is rounded to the nearest of 256 levels.
    Raises:
        UsageError: if it is none of these, cannot be decoded, or leaves its range.
    """
    data = _encoded("image", image)
    if data is not None:
        try:
            return _bounded("image", decode_image(data))
        except BadSample as problem:
            raise UsageError(f"image cannot be used: {problem}") from None
    pixels = _array("image", image)
    if _is_tensor(image):
        pixels = np.moveaxis(pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels, 0, -1)
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(
            f"image must be an array (H, W, 3) or (H, W), or a tensor (3, H, W); found {_described(image)}"
        )
    return _bounded("image", _levels("image", pixels))


def mask_pixels(mask: Any, image: ByteImage) -> ByteImage:
    """Return the mask of an image as uint8 ``(H, W)``, 255 where forged.

    Args:
        mask: a path, a Pillow image, or an array or tensor ``(H, W)`` or ``(1, H, W)``: bool, uint8 of 0 and 255 or of 0 and 1, or
            float in [0, 1], soft or not; forged above the middle of the range.
        image: uint8 ``(H, W, 3)``, whose size it must have.
    Raises:
        UsageError: if it is none of these, has another size, is of whole numbers and looks like a photograph, or marks no pixel or every one.
    """
    data, is_soft = _encoded("mask", mask), False
    if data is not None:
        try:
            levels = decode_mask_levels(data)
        except BadSample as problem:
            raise UsageError(f"mask cannot be used: {problem}") from None
    else:
        pixels = _array("mask", mask)
        pixels = pixels[0] if pixels.ndim == 3 and len(pixels) == 1 else pixels
        if pixels.ndim != 2:
            raise UsageError(f"mask must be (H, W) or (1, H, W); found {_described(mask)}")
        levels = _levels("mask", pixels)
        # a map of probabilities has all values in between, and nobody takes it for a photograph
        is_soft = pixels.dtype.kind == "f"
    if levels.shape != image.shape[:2]:
        (mask_height, mask_width), (height, width) = levels.shape, image.shape[:2]
        raise UsageError(
            f"mask and image differ in size: mask {mask_width}x{mask_height}, image {width}x{height}"
        )
    if not is_soft:
        try:
            require_drawn(levels, "forged pixels must be white and all others black")
        except BadSample as problem:
            raise UsageError(f"mask cannot be used: {problem}") from None
    # 0 and 1 are as common as 0 and 255
    forged = levels > (0 if levels.max() == 1 else WHITE_ABOVE)
    if forged.any() and not forged.all():
        return np.where(forged, np.uint8(255), np.uint8(0))
    quantifier = "every" if forged.any() else "no"
    raise UsageError(
        f"mask marks {quantifier} pixel as forged (its levels: {levels.min()} to {levels.max()}, forged above {WHITE_ABOVE}); "
        "give bool, or 0 and 255"
    )


def _encoded(label: str, picture: Any) -> bytes | None:
    """Return the bytes of a picture's file, of a Pillow image those of a PNG, so that all are decoded and checked alike."""
    if isinstance(picture, Image.Image):
        stream = io.BytesIO()
        try:
            picture.save(stream, "PNG", compress_level=1)
        except (OSError, ValueError) as error:
            raise UsageError(f"{label} of mode {picture.mode} cannot be used: {error}") from None
        return stream.getvalue()
    if isinstance(picture, str | Path):
        try:
            return Path(picture).read_bytes()
        except OSError as error:
            raise UsageError(f"{label} '{picture}' cannot be read: {error.strerror or error}") from None
    return None


def _is_tensor(picture: Any) -> bool:
    return hasattr(picture, "detach")


def _array(label: str, picture: Any) -> npt.NDArray[Any]:
    if _is_tensor(picture):
        tensor = picture.detach().cpu()
        # NumPy knows no bfloat16
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if isinstance(picture, np.ndarray):
        return picture
    raise UsageError(
        f"{label} must be a path, a Pillow image, an array or a tensor; found {type(picture).__name__}"
    )


def _levels(label: str, pixels: npt.NDArray[Any]) -> ByteImage:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == np.bool_:
        return np.where(pixels, np.uint8(255), np.uint8(0))
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UsageError(f"{label} must be uint8, or float in [0, 1]; found {pixels.dtype}")
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise UsageError(
            f"{label} of floats must lie in [0, 1]; found {pixels.min():.4g} to {pixels.max():.4g}"
        )
    return np.floor(pixels.astype(np.float64) * 255 + 0.5).astype(np.uint8)


def _bounded(label: str, pixels: ByteImage) -> ByteImage:
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS:
        raise UsageError(f"{label} is {width}x{height}; at most {MAX_PIXELS} pixels are attacked")
    return pixels


def _described(picture: Any) -> str:
    return f"{picture.dtype} {tuple(picture.shape)}"
