"""Build the rows of a benchmark as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from afbench.core import Localizer, Sample, Setting
from afbench.engine import AttackedRow
from afbench.images import ImageFormat, encode_image, pixel_sha256
from afbench.metrics import f1, iou


class PixelHashes(NamedTuple):
    """The sha256 of a decoded original and of its mask, and the encoded mask that every row of the sample stores."""

    image: str
    mask: str
    stored_mask: bytes


def hash_sample(sample: Sample) -> PixelHashes:
    """Hash a sample's pixels."""
    return PixelHashes(pixel_sha256(sample.image), pixel_sha256(sample.mask), encode_image(sample.mask))


def clean_row(
    sample: Sample, source: str, image_format: ImageFormat, hashes: PixelHashes | None = None
) -> dict[str, Any]:
    """Build a row of config ``clean``."""
    hashes = hashes or hash_sample(sample)
    return {
        **_common(sample, source, hashes),
        "image": encode_image(sample.image, image_format),
        "image_sha256": hashes.image,
        "mask_sha256": hashes.mask,
    }


def attacked_row(
    row: AttackedRow,
    setting: Setting,
    localizer: Localizer,
    name: str,
    source: str,
    hashes: Mapping[str, PixelHashes],
) -> dict[str, Any]:
    """Build a row of an attacked config; ``name`` is the localizer's name in the config."""
    original_result, attacked_result = row.original_result, row.attacked_result
    original = hashes[row.sample.sample_id]
    return {
        **_common(row.sample, source, original),
        "image": row.encoded,
        "localizer": name,
        "attack": setting.attack,
        "phi": None if setting.phi is None else float(setting.phi),
        "steps": setting.steps,
        "f1_clean": f1(original_result.counts),
        "f1_adv": f1(attacked_result.counts),
        "iou_clean": iou(original_result.counts),
        "iou_adv": iou(attacked_result.counts),
        "loss_clean": original_result.loss,
        "loss_adv": attacked_result.loss,
        **attacked_result.counts._asdict(),
        **row.distance._asdict(),
        "zero_gradient_pixels": row.zero_gradient_pixels,
        "unread_pixels": unread_pixels(localizer, *row.image.shape[:2]),
        "original_sha256": original.image,
        # of decoded pixels, so that PNG, WebP and residuals have the same hash
        "image_sha256": pixel_sha256(row.image),
        "mask_sha256": original.mask,
    }


def unread_pixels(localizer: Localizer, height: int, width: int) -> int:
    """Count the pixels of an image that the localizer never reads, because it resizes without antialiasing."""
    count = getattr(localizer, "unread_pixels", None)
    return int(count(height, width)) if count else 0


def _common(sample: Sample, source: str, hashes: PixelHashes) -> dict[str, Any]:
    height, width = sample.image.shape[:2]
    return {
        "sample_id": sample.sample_id,
        "mask": hashes.stored_mask,
        "source": source,
        "kind": sample.kind,
        "group": sample.group,
        "height": height,
        "width": width,
    }
