"""What an index makes suspicious though every sample of it can be used: said aloud, never acted on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .facts import Index, SampleFacts
from .names import stem

_ROLES = re.compile(
    r"(?<![a-z])(edge)?(masks?|gt|groundtruth|ground_truth|forged|fake|tampered|image|img)\d?(?![a-z])"
)
"""Words that tell a mask from its image, where the rest of both names is the same."""


def index_notes(index: Index) -> list[str]:
    """One line for each thing to look at."""
    forged = [one for one in index.samples if one.included and one.label == "forged"]
    crossing = _crossing_stems(forged) if index.source == "list" else ""
    return [note for note in (crossing, _white_masks(forged)) if note]


def _crossing_stems(forged: Sequence[SampleFacts]) -> str:
    """A list may pair an image with its neighbour's mask, which has the same size."""
    pairs = [(one, _plain(str(one.image)), _plain(one.mask[0])) for one in forged]
    others = [(one, mask) for one, image, mask in pairs if image != mask]
    if not others:
        return ""
    images = {image for _, image, _ in pairs}
    crossed = sum(mask in images for _, mask in others)
    first = others[0][0]
    return (
        f"{len(others)} of {len(pairs)} masks of the list are not named like their image, and {crossed} are named like "
        f"another image of the list (first: {first.image!a} with {first.mask[0]!a}); check its lines"
    )


def _plain(path: str) -> str:
    """A stem without case, punctuation and what says whether it is an image or a mask."""
    plain = _ROLES.sub("", stem(path).lower())
    return re.sub(r"[\W_]+", "-", plain).strip("-")


def _white_masks(forged: Sequence[SampleFacts]) -> str:
    """Masks whose sides are the other way round are nearly white, and no single one proves it."""
    shares = index_shares(forged)
    if shares is None or not (shares["above_95"] or 2 * shares["above_50"] > len(forged)):
        return ""
    return (
        f"{shares['above_50']} of {len(forged)} masks mark more than half of their image as forged, {shares['above_95']} "
        "of them more than 95 %; where black is forged, --invert-masks of `afbench index` swaps the sides"
    )


def index_shares(samples: Sequence[SampleFacts]) -> dict[str, float] | None:
    """Least, middle and largest share of forged pixels among forged samples that can be used, and how many lie above
    50 % and 95 %; None without any."""
    shares = sorted(one.mask_fraction for one in samples if one.included and one.mask_fraction is not None)
    if not shares:
        return None
    return {
        "min": shares[0],
        "median": shares[len(shares) // 2],
        "max": shares[-1],
        "above_50": sum(share > 0.5 for share in shares),
        "above_95": sum(share > 0.95 for share in shares),
    }
