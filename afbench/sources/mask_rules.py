"""Named rules that say which pixels of a mask are forged; the rule is never guessed from the mask."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from afbench.core import BadSample, ByteImage, ReadOptions, UsageError
from afbench.images import MAX_PIXELS, decode_mask_colours, decode_mask_levels, no_warnings

Polarity = Literal["white", "black", "green", "green or white", "nonzero"]


@dataclass(frozen=True)
class MaskRule:
    """One way to read a mask.

    ``polarity`` says what marks a forged pixel. ``levels`` decodes a file's bytes to uint8 ``(H, W)``, 0 or 255 wherever
    the file is clear, and ``forged`` tells which levels are forged. Pixels of the level ``undecided`` are never forged,
    not even in inverted masks.
    """

    name: str
    polarity: Polarity
    summary: str
    levels: Callable[..., ByteImage]
    forged: Callable[[ByteImage], npt.NDArray[np.bool_]]
    undecided: int | None = None

    def decode(self, data: bytes) -> ByteImage:
        """Decode a mask's bytes to uint8 ``(H, W)``: 255 where forged, else 0.

        Raises:
            BadSample: ``unreadable``, ``too_large``, ``too_costly``, ``animated`` or ``unsupported_mode``, of the mask.
        """
        return np.where(self.forged(self.levels(data)), np.uint8(255), np.uint8(0))


def _is_above(threshold: int, levels: ByteImage) -> npt.NDArray[np.bool_]:
    return levels > threshold


def _is_below(threshold: int, levels: ByteImage) -> npt.NDArray[np.bool_]:
    return levels < threshold


HUE_LEVELS = 64
"""Levels by which the stronger of red and green must exceed blue for a pixel to count as red or green.

The colours of the release are 200 and 255; JPEG moves flat colours by a few levels and grey by fewer than ten.
"""


def hue_levels(data: bytes, *, ignore_alpha: bool = False) -> ByteImage:
    """Decode Columbia's coloured masks to grey: 255 where green, 0 where red, 128 where neither.

    The brightness of a shade says how near the seam lies, not what is forged, and JPEG mixes both colours along the
    seam. The stronger colour decides, which favours neither side; a fixed threshold on green would widen the seam.
    """
    colours = decode_mask_colours(data, ignore_alpha=ignore_alpha)
    red, green, blue = (colours[..., channel] for channel in range(3))
    stronger = np.maximum(red, green)
    coloured = stronger - np.minimum(stronger, blue) >= HUE_LEVELS
    levels = np.full(red.shape, 128, np.uint8)
    levels[coloured & (green > red)] = 255
    levels[coloured & (red > green)] = 0
    return levels


def hue_or_grey_levels(data: bytes, *, ignore_alpha: bool = False) -> ByteImage:
    """Decode like ``hue_levels``, but a mask without any red or green pixel by grey above 127."""
    levels = hue_levels(data, ignore_alpha=ignore_alpha)
    if (levels != 128).any():
        return levels
    grey = decode_mask_levels(data, ignore_alpha=ignore_alpha)
    return np.where(grey > 127, np.uint8(255), np.uint8(0))


def nonzero_levels(data: bytes, *, ignore_alpha: bool = False) -> ByteImage:
    """Decode to 255 where any channel is above 0, else 0: a blue of level 1 is not black, though its grey is 0."""
    colours = decode_mask_colours(data, ignore_alpha=ignore_alpha)
    return np.where(colours.any(axis=-1), np.uint8(255), np.uint8(0))


NPZ_KEY = "arr_0"
MAX_HEADER = 2**14
"""Bytes in which the header of an array must end; numpy writes about a hundred."""


def npz_levels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ByteImage:
    """Decode the array ``arr_0`` of a NumPy archive to 255 where it is above 0, else 0; nothing is unpickled."""
    try:
        with no_warnings():  # of headers written by Python 2
            array = _npz_array(data, max_pixels)
    except BadSample:
        raise
    except KeyError:
        raise BadSample("unreadable", f"mask npz without {NPZ_KEY}") from None
    except Exception as error:  # what a damaged archive provokes has no list
        raise BadSample("unreadable", f"mask npz: {type(error).__name__}") from None
    return np.where(array > 0, np.uint8(255), np.uint8(0))


def _npz_array(data: bytes, max_pixels: int) -> npt.NDArray[Any]:
    """Read the array's header first: it bounds what is unpacked, so that a small file cannot fill the memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.getinfo(f"{NPZ_KEY}.npy")
        # the dictionaries of other methods can be of any size
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadSample("unreadable", "mask npz packed in an uncommon way, expected stored or deflated")
        with archive.open(member) as stream:
            # numpy unpacks a header whole before it judges its length
            start = io.BytesIO(stream.read(MAX_HEADER))
            version = np.lib.format.read_magic(start)
            read_header = np.lib.format.read_array_header_1_0
            if version == (2, 0):
                read_header = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read_header(start)
            sides = tuple(side for side in shape if side != 1) if len(shape) > 2 else shape
            if dtype.kind not in "biuf" or len(sides) != 2 or min(sides) < 1:
                raise BadSample("unsupported_mode", f"mask npz of {dtype} {shape}, expected numbers (H, W)")
            height, width = sides
            if height * width > max_pixels:
                raise BadSample("too_large", f"mask {width}x{height} is above {max_pixels} pixels")
            size = height * width * dtype.itemsize
            content = start.read(size)
            content += stream.read(size - len(content))
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.frombuffer(content, dtype).reshape(sides, order=order)


_ALL = (
    MaskRule("white", "white", "grey above 127 is forged", decode_mask_levels, partial(_is_above, 127)),
    MaskRule("white_above_0", "white", "grey above 0 is forged", decode_mask_levels, partial(_is_above, 0)),
    # Korus marks three levels; its lowest above black is still forged, and black may carry noise
    MaskRule(
        "white_above_10", "white", "grey above 10 is forged", decode_mask_levels, partial(_is_above, 10)
    ),
    # NIST16 draws forged black on white; 180 is the threshold its users agree on
    MaskRule("black", "black", "grey below 180 is forged", decode_mask_levels, partial(_is_below, 180)),
    # DSO-1 is lossless and black on white: any threshold reads the same, and this one is the mirror of ``white``,
    # so that a copy someone has inverted and read by ``white`` gives the same mask to the pixel
    MaskRule("black_at_0", "black", "grey below 128 is forged", decode_mask_levels, partial(_is_below, 128)),
    MaskRule("green", "green", "green is forged, red is not", hue_levels, partial(_is_above, 128), 128),
    # copies of Columbia whose masks somebody has redrawn in grey
    MaskRule(
        "green_or_white",
        "green or white",
        "green is forged, red is not; without any hue, grey above 127 is",
        hue_or_grey_levels,
        partial(_is_above, 128),
        128,
    ),
    MaskRule("npz", "nonzero", f"{NPZ_KEY} above 0 is forged", npz_levels, partial(_is_above, 127)),
)
MASK_RULES: Mapping[str, MaskRule] = MappingProxyType({rule.name: rule for rule in _ALL})


INVERTED = "_inverted"
"""Ends the rule of a sample whose masks a user named as the other way round than the rest (``mask_exceptions``)."""


def split_rule(name: str) -> tuple[str, bool]:
    """Return the name of a rule without that ending, and whether it had it."""
    return name.removesuffix(INVERTED), name.endswith(INVERTED)


def rule_for(name: str, options: ReadOptions) -> MaskRule:
    """Return a rule by name, changed by the user's options; which side is forged stays as the rule says.

    Raises:
        UsageError: if an option is for grey masks and the rule reads none.
    """
    rule = MASK_RULES[name]
    if (options.mask_threshold is not None or options.mask_nonzero) and not (
        name == "npz" and options.mask_nonzero
    ):
        if rule.levels is not decode_mask_levels:
            option = "--mask-nonzero" if options.mask_nonzero else "--mask-threshold"
            raise UsageError(f"{option} is for grey masks; here {rule.summary}")
        rule = _by_grey(rule, options)
    if options.ignore_alpha and name != "npz":
        rule = replace(rule, levels=partial(rule.levels, ignore_alpha=True))
    return rule


def _by_grey(rule: MaskRule, options: ReadOptions) -> MaskRule:
    white = rule.polarity == "white"
    if options.mask_nonzero:
        side = partial(_is_above, 127) if white else partial(_is_below, 128)
        summary = f"what is {'not ' if white else ''}black is forged"
        return replace(rule, summary=summary, levels=nonzero_levels, forged=side)
    threshold = int(options.mask_threshold or 0)
    side = partial(_is_above, threshold) if white else partial(_is_below, threshold + 1)
    return replace(rule, summary=f"grey {'above' if white else 'up to'} {threshold} is forged", forged=side)


def advice(rule: MaskRule, levels: Sequence[ByteImage]) -> str:
    """Suggest an option for masks that are all forged or all authentic; "" if none would help."""
    lowest = min(int(part.min()) for part in levels)
    highest = max(int(part.max()) for part in levels)
    if rule.name == "green" and lowest == highest == 128:
        return "it has no hue; a grey mask is read from a folder 'mask', named like its image"
    if rule.levels is not decode_mask_levels or lowest == highest:
        return ""
    levels_text = f"its grey levels are {lowest} to {highest}"
    if lowest == 0:
        return f"{levels_text}: --mask-nonzero takes what is not black for white"
    return f"{levels_text}: --mask-threshold {(lowest + highest) // 2} parts them in the middle"
