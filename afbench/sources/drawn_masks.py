"""Tell a mask that somebody drew from a photograph that a user put in its place."""

from __future__ import annotations

from PIL import Image

from afbench.core import BadSample, ByteImage

_NEAR_BLACK, _NEAR_WHITE = 32, 223
_FLAT_LEVELS = 16
"""So many levels of grey hold a mask's flat greys, or colours, with what JPEG adds to them."""
MAX_SCATTERED = 0.2
"""Largest share of scattered greys in a mask. Measured: masks at JPEG quality 5 have 0.02, with greys or colours 0.1, blurred by 4 pixels at
128x128 0.14; of 52 photographs the darkest has 0.23, and 40 have 0.6 or more."""


def require_drawn(levels: ByteImage, advice: str) -> None:
    """Refuse a mask whose greys are scattered like those of a photograph; ``advice`` says what to do with another one.

    Scattered are pixels neither near black nor near white, without the most common 16 of these levels.

    Raises:
        BadSample: ``photograph_as_mask``.
    """
    greys = sorted(Image.fromarray(levels).histogram()[_NEAR_BLACK : _NEAR_WHITE + 1])
    scattered = sum(greys[:-_FLAT_LEVELS]) / levels.size
    if scattered > MAX_SCATTERED:
        share = sum(greys) / levels.size
        raise BadSample(
            "photograph_as_mask",
            f"the mask looks like a photograph: {100 * share:.0f} % of its pixels are neither black nor white; {advice}",
        )
