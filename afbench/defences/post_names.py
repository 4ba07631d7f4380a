"""List the steps of posting with their setting, and read them. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from afbench.core import UsageError
from afbench.naming import did_you_mean, resolve_name

from .names import Number, Transform

POST, CHAIN = "post-", "chain"
STEPS: Mapping[str, Transform] = {
    "jpeg": Transform(Number("quality", 75, 1, 100, integer=True), "75", "save as JPEG, 4:2:0 chroma"),
    "webp": Transform(Number("quality", 80, 1, 100, integer=True), "80", "save as lossy WebP"),
    "resize": Transform(
        Number("factor", 0.75, 0.05, 1),
        "0.75",
        "shrink both sides by a factor, antialiased, and keep that size",
    ),
    "blur": Transform(Number("sigma", 1, 0.1, 20), "1", "blur by a Gaussian of sigma pixels"),
}
CHAINS: Mapping[str, str] = {
    "social": "shrink to a longest side of at most 2048, antialiased; save as JPEG 85, 4:2:0 chroma"
}
"""Documented recipes; none is a claim about any company."""


def list_steps() -> dict[str, str]:
    """Return the known steps as they are written, and what they do."""
    steps = {f"{name}:{step.number.name.upper()}": step.summary for name, step in STEPS.items()}
    return {**steps, **{f"{CHAIN}:{name}": recipe for name, recipe in CHAINS.items()}}


def read_step(text: str) -> tuple[str, float | str]:
    """Read ``jpeg:90`` or ``chain:social``: the step and its setting, a number or the name of a chain.

    Raises:
        UsageError: if the step or chain is unknown, or its setting missing or out of range.
    """
    name_text, _, setting = text.partition(":")
    name = resolve_name("posting step", name_text, [*STEPS, CHAIN])
    if name is None:
        hint = did_you_mean("posting step", name_text, [*STEPS, CHAIN])
        raise UsageError(f"posting step '{text}' is unknown; {hint}known steps: {', '.join(list_steps())}")
    if name == CHAIN:
        if setting not in CHAINS:
            raise UsageError(
                f"posting chain '{text}' is unknown; known chains: {', '.join(f'{CHAIN}:{chain}' for chain in CHAINS)}"
            )
        return name, setting
    number = STEPS[name].number
    return name, number.parse(f"posting step {name}", setting or STEPS[name].default)


def step_text(text: str) -> str:
    """Write a step in its canonical form: ``JPG:90.0`` is ``jpeg:90``.

    Raises:
        UsageError: as ``read_step``.
    """
    name, value = read_step(text)
    return f"{name}:{value}" if isinstance(value, str) else f"{name}:{value:.6g}"
