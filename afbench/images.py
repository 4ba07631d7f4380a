"""The only place pixels change type: decode, uint8 (H, W, 3) <-> float (N, 3, H, W), quantise, encode."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from afbench.core import BadSample, ByteImage
from afbench.costly import refuse_costly, refuse_costly_tags
from afbench.signatures import signature

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_FORMATS = "PNG, JPEG, TIFF, BMP or WebP"
MAX_PIXELS = 64_000_000
"""Largest image that is decoded, in pixels; a header that claims more is refused before decoding."""
WEBP_SIDE = 16_383
"""Longest side WebP can hold."""

TRANSPARENT = "with transparency"
"""What the detail of a picture says that was refused for its alpha alone."""
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")

_ORIENTATION_TAG = 274
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""From upright pixels back to the stored ones, by EXIF orientation."""

ImageFormat = Literal["webp", "png"]

_thread = threading.local()


def leave_warnings() -> None:
    """Leave Python's warning filters alone in this thread: they belong to all threads, and its starter has set them."""
    _thread.leaves_warnings = True


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence what libraries warn of damaged files: this module judges those files itself."""
    if getattr(_thread, "leaves_warnings", False):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Decoded(NamedTuple):
    """Pixels, and what their file said of itself.

    ``pixels`` is uint8 RGB ``(H, W, 3)``, or grey ``(H, W)``; ``mode`` is Pillow's name of the stored mode;
    ``orientation`` is the EXIF orientation from 1 to 8, never applied, or None where the file has none.
    """

    pixels: ByteImage
    mode: str
    orientation: int | None


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, ignore_alpha: bool = False) -> Decoded:
    """Decode an 8-bit grey, palette or RGB picture to uint8 ``(H, W, 3)`` RGB; a fully opaque alpha is dropped.

    EXIF rotation is not applied: masks are drawn on the stored pixels. ``ignore_alpha`` drops any alpha and leaves the
    colours as they are stored.

    Raises:
        BadSample: ``unreadable``, ``unsupported_format``, ``too_large``, ``too_costly``, ``animated`` or
            ``unsupported_mode`` (transparency, CMYK, 16 bits).
    """
    picture, orientation = _open(data, max_pixels)
    if picture.mode not in EIGHT_BIT_MODES:
        raise BadSample("unsupported_mode", f"mode {picture.mode}, expected 8-bit RGB or grey")
    with no_warnings():  # of palettes with transparency
        if not ignore_alpha and (transparency := _transparency(picture)):
            raise BadSample("unsupported_mode", f"mode {picture.mode} {TRANSPARENT} ({transparency})")
        return Decoded(np.asarray(picture.convert("RGB")), picture.mode, orientation)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ByteImage:
    """Decode a picture to its pixels alone, uint8 ``(H, W, 3)`` RGB; see ``decode``."""
    return decode(data, max_pixels=max_pixels).pixels


def decode_mask_colours(
    data: bytes, *, max_pixels: int = MAX_PIXELS, ignore_alpha: bool = False
) -> ByteImage:
    """Decode a mask to uint8 ``(H, W, 3)`` RGB, for masks whose colours mean something.

    Raises:
        BadSample: as ``decode``, with the word mask in its detail.
    """
    try:
        return decode(data, max_pixels=max_pixels, ignore_alpha=ignore_alpha).pixels
    except BadSample as problem:
        raise BadSample(problem.reason, f"mask {problem.detail}") from None


def decode_mask_levels(data: bytes, *, max_pixels: int = MAX_PIXELS, ignore_alpha: bool = False) -> ByteImage:
    """Decode a mask to its grey levels, uint8 ``(H, W)``.

    Raises:
        BadSample: as ``decode``, with the word mask in its detail.
    """
    colours = decode_mask_colours(data, max_pixels=max_pixels, ignore_alpha=ignore_alpha)
    return np.asarray(Image.fromarray(colours).convert("L"))


def decode_mask(data: bytes, *, threshold: int = 127, max_pixels: int = MAX_PIXELS) -> ByteImage:
    """Decode a mask to uint8 ``(H, W)``: 255 where its grey level is above ``threshold``, else 0.

    Raises:
        BadSample: as ``decode``, with the word mask in its detail.
    """
    grey = decode_mask_levels(data, max_pixels=max_pixels)
    return np.where(grey > threshold, np.uint8(255), np.uint8(0))


def _transparency(picture: Image.Image) -> str:
    """Say what part of a picture is transparent; "" if none is."""
    if "A" not in picture.getbands():
        if "transparency" not in picture.info:
            return ""
        picture = picture.convert("RGBA")
    alpha = np.asarray(picture.getchannel("A"))
    if int(alpha.min()) == 255:
        return ""
    return f"alpha down to {alpha.min()} in {np.mean(alpha < 255):.1%} of its pixels, expected 255 in all"


def _exif(picture: Image.Image) -> bytes:
    """Find the EXIF bytes that Pillow would read: in their usual place, or in a PNG's text as ImageMagick writes it."""
    exif, text = picture.info.get("exif"), picture.info.get("Raw profile type exif")
    if exif is None and isinstance(text, str):
        with suppress(ValueError):
            return bytes.fromhex("".join(text.split("\n")[3:]))
    return exif if isinstance(exif, bytes) else b""


def _orientation(picture: Image.Image) -> int | None:
    refuse_costly_tags(_exif(picture))
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata of any kind says nothing, and is no reason to lose the pixels
        return None
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None


def _load(picture: Image.Image) -> tuple[Image.Image, int | None]:
    """Read the pixels as stored, and the EXIF orientation that they are not turned by."""
    if picture.format != "TIFF":
        picture.load()
        return picture, _orientation(picture)
    orientation = _orientation(picture)
    picture.load()
    # Pillow turns TIFF, and TIFF alone, while it loads, and then forgets the tag
    if orientation in _UNDO and _orientation(picture) is None:
        picture = picture.transpose(_UNDO[orientation])
    return picture, orientation


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, int | None]:
    with _readable():
        refuse_costly(data)
        picture = _identify(data)
        if picture.width * picture.height > max_pixels:
            raise BadSample("too_large", f"{picture.width}x{picture.height} is above {max_pixels} pixels")
        # a phone's JPEG may carry a depth map or preview behind the photograph; that is no animation
        if picture.format != "MPO" and (frames := _frames(picture)):
            raise BadSample("animated", f"{frames} frames, expected 1")
        # Pillow reads 16-bit colour as 8-bit without a word; only the raw mode of its decoder tells
        if any("16" in str(part) for tile in picture.tile for part in _raw_modes(tile)):
            raise BadSample("unsupported_mode", "16 bits a channel, expected 8")
        return _load(picture)


def _identify(data: bytes) -> ImageFile.ImageFile:
    """Open a picture, or say what the file is instead."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        format_name, file_kind = signature(data)
        if format_name:
            detail = f"{format_name}, expected {_FORMATS}; convert it to PNG in its own size"
            raise BadSample("unsupported_format", detail) from None
        if file_kind:
            raise BadSample("unreadable", f"{file_kind}, expected {_FORMATS}") from None
        raise


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what damaged bytes make Pillow raise into a reason."""
    try:
        with no_warnings():  # of damaged metadata, and of a size our own limit is for
            yield
    except UnidentifiedImageError:
        raise BadSample("unreadable", f"no {_FORMATS}") from None
    except Image.DecompressionBombError:
        raise BadSample("too_large", "above the pixels that are decoded") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        OverflowError,
        MemoryError,
        RuntimeError,
    ) as error:
        raise BadSample("unreadable", _stable(error)) from None


def stated_size(data: bytes) -> tuple[int, int]:
    """Read from its header the sides of a picture, (height, width) as they are stored; decode nothing.

    Raises:
        BadSample: ``unreadable``, ``too_large`` or ``too_costly``.
    """
    with _readable():
        refuse_costly(data)
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        return picture.height, picture.width


def _frames(picture: Image.Image) -> str:
    """Say how many frames a picture has, "" for one; a TIFF's are not counted: that takes the square of their number."""
    if picture.format != "TIFF":
        frames = getattr(picture, "n_frames", 1)
        return str(frames) if frames > 1 else ""
    try:
        picture.seek(1)
    except EOFError:
        return ""
    return "2 or more"


def _stable(error: Exception) -> str:
    """Say what went wrong without addresses in memory, which would differ from run to run."""
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    return re.sub(r"<[^>]* at 0x[0-9a-f]+>", "<data>", first)[:120]


def _raw_modes(tile: tuple[object, ...]) -> tuple[object, ...]:
    args = tile[3]
    return tuple(part for part in args if isinstance(part, str)) if isinstance(args, tuple) else (args,)


def encode_image(image: ByteImage, image_format: ImageFormat = "webp") -> bytes:
    """Encode uint8 RGB ``(H, W, 3)`` or grey ``(H, W)`` without loss.

    WebP holds sides up to 16,383 pixels; longer ones become PNG. Masks are always PNG: WebP has no grey mode.
    """
    stream = io.BytesIO()
    if image_format == "webp" and image.ndim == 3 and max(image.shape[:2]) <= WEBP_SIDE:
        Image.fromarray(image).save(stream, "WEBP", lossless=True, method=0, quality=0, exact=True)
    else:
        Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def png_bytes(picture: Image.Image) -> bytes:
    """Encode a Pillow image of any mode as PNG."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def decode_stored(data: bytes, size: tuple[int, int] | None = None) -> ByteImage:
    """Decode what ``encode_image`` wrote, in its own mode: ``(H, W, 3)`` or ``(H, W)``.

    ``size`` is the (H, W) that it must have; what claims more is refused before decoding.

    Raises:
        BadSample: if the bytes are damaged, or of another size.
    """
    picture, _ = _open(data, max_pixels=size[0] * size[1] if size else 2**31)
    if size and picture.size != (size[1], size[0]):
        raise BadSample("unreadable", f"{picture.width}x{picture.height}, expected {size[1]}x{size[0]}")
    return np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def pixel_sha256(image: ByteImage) -> str:
    """Hash decoded pixels, so that PNG, WebP and residual storage agree (STORAGE: afpx1)."""
    shape = np.asarray(image.shape, "<u4").tobytes()
    digest = hashlib.sha256(b"afpx1\0" + image.dtype.name.encode() + shape)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def upload(levels: Sequence[ByteImage], device: str = "cpu") -> list[Tensor]:
    """Copy 8-bit images or masks to a device, each as it is; ``to_tensor`` and ``masks_to_tensor`` stack them there."""
    import torch

    return [_to_device(torch.tensor(array), device) for array in levels]


def to_tensor(images: Sequence[ByteImage | Tensor], device: str = "cpu") -> Tensor:
    """Stack uint8 RGB ``(H, W, 3)``, which may be on the device already, into float32 ``(N, 3, H, W)`` in [0, 1]."""
    import torch

    return _stacked(images, device).permute(0, 3, 1, 2).to(torch.float32).div_(255.0).contiguous()


def masks_to_tensor(masks: Sequence[ByteImage | Tensor], device: str = "cpu") -> Tensor:
    """Stack uint8 masks ``(H, W)``, which may be on the device already, into float32 ``(N, 1, H, W)`` of 0 and 1."""
    import torch

    return (_stacked(masks, device) > 127)[:, None].to(torch.float32)


def _stacked(levels: Sequence[ByteImage | Tensor], device: str) -> Tensor:
    import torch

    if isinstance(levels[0], torch.Tensor):
        return torch.stack(cast("list[Tensor]", levels))
    return _to_device(torch.from_numpy(np.stack(cast("list[ByteImage]", levels))), device)


def resize(image: Tensor, size: Sequence[int], *, antialias: bool = False) -> Tensor:
    """Resize ``(N, C, H, W)`` to ``size`` (height, width), bilinear with half-pixel centres; as it is where it has that size.

    What OpenCV does, and with ``antialias`` what Pillow does, before rounding.
    """
    from torch.nn import functional

    height, width = size
    if image.shape[-2:] == (height, width):
        return image
    if antialias and image.is_cuda:
        # torch's own gradient of this differs from run to run on a GPU
        return resize_by_products(image, height, width)
    return functional.interpolate(
        image, (height, width), mode="bilinear", align_corners=False, antialias=antialias
    )


def resize_by_products(image: Tensor, height: int, width: int) -> Tensor:
    """Resize with antialiasing by matrix products, whose gradients repeat on a GPU; in float64, which no lower precision cuts."""
    rows, columns = (
        _antialias_weights(length, target, image)
        for length, target in zip(image.shape[-2:], (height, width), strict=True)
    )
    return (rows @ image.double() @ columns.mT).to(image.dtype)


def _antialias_weights(length: int, target: int, like: Tensor) -> Tensor:
    """Compute the weights ``(target, length)`` of the old lines in the new ones."""
    import torch
    from torch.nn import functional

    lines = torch.eye(length, dtype=torch.float64, device=like.device)[None, None]
    return functional.interpolate(
        lines, (target, length), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]


def _to_device(levels: Tensor, device: str) -> Tensor:
    """Copy bytes; to a GPU from pinned memory, so that nothing waits for the copy."""
    if not device.startswith("cuda"):
        return levels.to(device)
    return levels.pin_memory().to(device, non_blocking=True)


def quantise(attacked: Tensor, original: Tensor, max_levels: int | Tensor | None) -> Tensor:
    """Round an attacked image to the 8 bits a forger would publish.

    The difference to the original is rounded to nearest in levels, half levels away from zero with a slack of
    1e-3 so that float32 and float64 agree, then held within ``max_levels``. Rounding down would cost the attack
    up to 0.23 F1.

    Args:
        attacked: float ``(N, 3, H, W)`` in [0, 1].
        original: float ``(N, 3, H, W)``, whole levels over 255.
        max_levels: the L-inf bound in whole levels, of all or of each ``(N, 1, 1, 1)``, or None.
    Returns:
        uint8 ``(N, H, W, 3)``.
    """
    import torch

    # in place: a new tensor for each operation took twice as long
    base = torch.round(original.double() * 255.0)
    delta = (attacked.double() * 255.0).sub_(base)
    levels = delta.abs().add_(0.5).add_(1e-3).floor_().copysign_(delta)
    if isinstance(max_levels, torch.Tensor):
        levels = levels.minimum(max_levels).maximum(-max_levels)
    elif max_levels is not None:
        levels.clamp_(-max_levels, max_levels)
    return levels.add_(base).clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
