"""Notes of an index: usable but suspicious masks, which are reported and never changed, and file names that an id cannot
spell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .index_records import Index, IndexRecord
from .sample_names import stem
from .table_cells import parse_cell

_ROLES = re.compile(
    r"(?<![a-z])(edge)?(masks?|gt|groundtruth|ground_truth|forged|fake|tampered|image|img)\d?(?![a-z])"
)
"""Words that tell a mask from its image, where the rest of both names is the same."""


def index_notes(index: Index) -> list[str]:
    """Return one line for each thing that the user should look at."""
    forged = [sample for sample in index.samples if sample.included and sample.label == "forged"]
    crossing = _crossing_stems(forged) if index.source == "list" else ""
    return [note for note in (crossing, _white_masks(index)) if note]


def _crossing_stems(forged: Sequence[IndexRecord]) -> str:
    """Report a list that may pair an image with its neighbour's mask, which has the same size."""
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
    """Return a stem without case, punctuation and the words that tell an image from a mask."""
    plain = _ROLES.sub("", stem(path).lower())
    return re.sub(r"[\W_]+", "-", plain).strip("-")


def _white_masks(index: Index) -> str:
    """Report masks that are mostly white: they may be inverted, which no single mask proves."""
    included, shares = index.summary.included, index.summary.mask_shares
    # forgeries rarely cover more than half of an image
    if not shares or not (shares["above_95"] or 2 * shares["above_50"] > included):
        return ""
    return (
        f"{shares['above_50']} of {included} masks mark more than half of their image as forged, {shares['above_95']} "
        "of them more than 95 %; where black is forged, `afbench index --invert-masks` swaps the sides"
    )


def original_file_name(sample: IndexRecord) -> str:
    """Return the name of an image's file where the sample's id replaces letters of it; else ""."""
    image = sample.image or ""
    # a cell of a table has no file name of its own
    if re.fullmatch(r"[A-Za-z0-9._/-]*", image) or parse_cell(image):
        return ""
    return image.encode("utf-8", "backslashreplace").decode()
