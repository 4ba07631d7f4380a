"""Read what ``afbench evaluate --localizer`` takes: a network, its weights, and what to call them. Needs no torch."""

from __future__ import annotations

import re
from typing import NamedTuple

from afbench.core import UsageError

from .load import require_known

FORM = "[LABEL=]NAME[@CHECKPOINT]"


class LocalizerChoice(NamedTuple):
    """A localizer by name; ``checkpoint`` None for its embedded or registered weights, ``label`` None for its usual name."""

    name: str
    checkpoint: str | None = None
    label: str | None = None


def parse_choice(text: str) -> LocalizerChoice:
    """Read ``reference``, ``reference@weights.safetensors``, ``second=reference@weights.safetensors``.

    A path may hold ``=`` and ``@``: the label ends at a ``=`` before the first ``@``, and the checkpoint begins behind that ``@``.

    Raises:
        UsageError: for an unknown localizer, an empty part, or a label that configs could not have.
    """
    network, at_sign, checkpoint = text.partition("@")
    label, equals_sign, name = network.rpartition("=")
    if equals_sign and not re.fullmatch(r"[a-z0-9_]+", label):
        raise UsageError(f"--localizer '{text}': the label must match [a-z0-9_]+; found '{label}'")
    if not name or (at_sign and not checkpoint):
        raise UsageError(f"--localizer '{text}' must be {FORM}, as in second=reference@second.safetensors")
    return LocalizerChoice(require_known(name), checkpoint or None, label or None)
