"""``--attack-at model``: the originals themselves are resized to what the localizer sees, as the ANSM paper does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from afbench.core import BadSample, Localizer, Sample, Source, UsageError

NATIVE, MODEL = "native", "model"


def fit_source(source: Source, localizers: Sequence[Localizer]) -> Source:
    """A source whose samples have the size the localizers resize to; as it is where they resize nothing.

    The mask is resized like the image and is forged above 127, so that both are what the network is given.

    Raises:
        UsageError: if the localizers resize to different sizes, since a benchmark has one set of originals.
    """
    rules = {_rule(localizer): localizer for localizer in localizers}
    if len(rules) > 1:
        told = ", ".join(f"{one.name} at {rule}" for rule, one in rules.items())
        raise UsageError(
            f"--attack-at {MODEL} needs localizers of one input size ({told}); make one benchmark of each"
        )
    rule, localizer = next(iter(rules.items()))

    def fitted(sha256: str) -> str:
        return hashlib.sha256(f"{sha256} at {rule}".encode()).hexdigest()

    first, first_authentic = source.sha256_of, source.authentic_sha256_of
    return replace(
        source,
        read=partial(_read, source, localizer),
        sha256=fitted(source.sha256),
        authentic_sha256=fitted(source.authentic_sha256),
        sha256_of=None if first is None else lambda count: fitted(first(count)),
        authentic_sha256_of=None if first_authentic is None else lambda count: fitted(first_authentic(count)),
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
