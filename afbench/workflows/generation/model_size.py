"""Resize the originals to what the localizer sees, as the ANSM paper does: ``--attack-at model``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from afbench.core import BadSample, Localizer, Sample, Source, UsageError

NATIVE, MODEL = "native", "model"


def fit_source(source: Source, localizers: Sequence[Localizer]) -> Source:
    """Return the source with its samples resized to the input size of the localizers; unchanged if they resize nothing.

    The mask is resized like the image and is forged above 127, so that both are as the network sees them.

    Raises:
        UsageError: if the localizers resize to different sizes, since a benchmark has one set of originals.
    """
    rules = {_rule(localizer): localizer for localizer in localizers}
    if len(rules) > 1:
        input_sizes = ", ".join(f"{localizer.name} at {rule}" for rule, localizer in rules.items())
        raise UsageError(
            f"--attack-at {MODEL} needs localizers of one input size ({input_sizes}); make one benchmark of each"
        )
    rule, localizer = next(iter(rules.items()))

    def fitted_sha256(sha256: str) -> str:
        # resized samples are other samples, so they need another fingerprint
        return hashlib.sha256(f"{sha256} at {rule}".encode()).hexdigest()

    sha256_of, authentic_sha256_of = source.sha256_of, source.authentic_sha256_of
    return replace(
        source,
        read=partial(_read, source, localizer),
        sha256=fitted_sha256(source.sha256),
        authentic_sha256=fitted_sha256(source.authentic_sha256),
        sha256_of=None if sha256_of is None else lambda count: fitted_sha256(sha256_of(count)),
        authentic_sha256_of=None
        if authentic_sha256_of is None
        else lambda count: fitted_sha256(authentic_sha256_of(count)),
    )


def _rule(localizer: Localizer) -> str:
    return str(getattr(localizer, "resize", "")) or "its own size"


def _read(source: Source, localizer: Localizer, sample_id: str) -> Sample:
    sample = source.read(sample_id)
    if not getattr(localizer, "resize", ""):
        return sample
    image, grey = localizer.fit(sample.image), localizer.fit(sample.mask)  # type: ignore[attr-defined]
    mask = np.where(grey > 127, np.uint8(255), np.uint8(0))
    if sample.mask.any() and not mask.any():
        raise BadSample("empty_mask", f"nothing of it is left at {image.shape[1]}x{image.shape[0]}")
    return replace(sample, image=image, mask=mask)
