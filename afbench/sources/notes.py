"""What an index tells beside its samples: names that an id cannot spell, and what is suspicious though it can be used, said aloud and
never acted on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .index_records import Index, IndexRecord
from .sample_names import stem

_ROLES = re.compile(
    r"(?<![a-z])(edge)?(masks?|gt|groundtruth|ground_truth|forged|fake|tampered|image|img)\d?(?![a-z])"
)
"""Words that tell a mask from its image, where the rest of both names is the same."""


def index_notes(index: Index) -> list[str]:
    """One line for each thing to look at."""
    forged = [sample for sample in index.samples if sample.included and sample.label == "forged"]
    crossing = _crossing_stems(forged) if index.source == "list" else ""
    return [note for note in (crossing, _white_masks(index)) if note]


def _crossing_stems(forged: Sequence[IndexRecord]) -> str:
    """A list may pair an image with its neighbour's mask, which has the same size."""
    pairs = [(sample, _plain(str(sample.image)), _plain(sample.mask[0])) for sample in forged]
    differing = [(sample, mask) for sample, image, mask in pairs if image != mask]
    if not differing:
        return ""
    images = {image for _, image, _ in pairs}
    crossed = sum(mask in images for _, mask in differing)
    first = differing[0][0]
    return (
        f"{len(differing)} of {len(pairs)} masks of the list are not named like their image, and {crossed} are named like "
        f"another image of the list (first: {first.image!a} with {first.mask[0]!a}); check its lines"
    )


def _plain(path: str) -> str:
    """A stem without case, punctuation and what says whether it is an image or a mask."""
    plain = _ROLES.sub("", stem(path).lower())
    return re.sub(r"[\W_]+", "-", plain).strip("-")


def _white_masks(index: Index) -> str:
    """Masks whose sides are the other way round are nearly white, and no single one proves it."""
    included, shares = index.summary.included, index.summary.mask_shares
    if not shares or not (shares["above_95"] or 2 * shares["above_50"] > included):
        return ""
    return (
        f"{shares['above_50']} of {included} masks mark more than half of their image as forged, {shares['above_95']} "
        "of them more than 95 %; where black is forged, `afbench index --invert-masks` swaps the sides"
    )


def original_file_name(sample: IndexRecord) -> str:
    """The file of an image as the user named it, where the sample's id has other letters instead; else ""."""
    image = sample.image or ""
    if re.fullmatch(r"[A-Za-z0-9._/-]*", image):
        return ""
    return image.encode("utf-8", "backslashreplace").decode()
