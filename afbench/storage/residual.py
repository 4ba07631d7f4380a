"""Store what an attack changed as a picture, which compresses far better than the attacked image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from afbench.core import ByteImage
from afbench.images import WEBP_SIDE, encode_image


def residual(adversarial: ByteImage, original: ByteImage) -> ByteImage:
    """Return (adversarial - original + 128) mod 256, uint8 ``(H, W, 3)``: 128 where nothing changed.

    Raises:
        ValueError: if the two are not of one size.
    """
    if adversarial.shape != original.shape:
        raise ValueError(f"an image of {adversarial.shape} has no residual to one of {original.shape}")
    return adversarial - original + np.uint8(128)  # uint8 wraps


def add_residual(difference: ByteImage, original: ByteImage) -> ByteImage:
    """Rebuild the attacked image: the inverse of ``residual``, for any change.

    Raises:
        ValueError: if the two are not of one size.
    """
    if difference.shape != original.shape:
        raise ValueError(f"a residual of {difference.shape} does not fit an original of {original.shape}")
    return difference + original - np.uint8(128)


def encode_residual(difference: ByteImage) -> bytes:
    """Encode without loss: WebP where it can hold the sides, else PNG.

    Method 1 at quality 50 gave 0.13 of the raw size for FGSM and 0.31 to 0.34 for PGD and C&W; methods that try harder
    save a few percent more at many times the time.
    """
    if max(difference.shape[:2]) > WEBP_SIDE:
        return encode_image(difference, "png")
    stream = io.BytesIO()
    Image.fromarray(difference).save(stream, "WEBP", lossless=True, method=1, quality=50, exact=True)
    return stream.getvalue()
