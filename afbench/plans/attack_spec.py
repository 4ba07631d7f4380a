"""The entry of one attack in the table that plans use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Default = float | int | bool | str | None


BUILD, SOURCE = "build", "source_sha256"
"""Recorded parameters of a user's own attack: the path of the function that builds it, and the hash of its file."""


@dataclass(frozen=True)
class Attack:
    """One attack as plans see it.

    ``sweeps`` says what a list of settings varies: ``phi`` or ``steps``. Settings of one ``group`` share
    gradients and are run together. ``defaults`` are the paper's or, where it is silent, the attack's own; they are
    recorded with every config. ``optional`` are parameters that are recorded only where they are given, so that configs
    made before there was such a parameter keep their hashes; ``fixed`` are recorded, but have one value;
    ``asked_as`` is what a user writes. A user's own attack brings its ``function``, and its cost per image as functions of its
    parameters: ``gradients``, and ``queries``, passes without one; a ``random`` one takes ``uniform``.
    """

    name: str
    sweeps: str
    group: str
    summary: str
    source: str
    defaults: Mapping[str, Default] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    asked_as: str = ""
    fixed: tuple[str, ...] = ()
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    gradients: Callable[[Mapping[str, Any]], int] | None = field(default=None, compare=False, repr=False)
    queries: Callable[[Mapping[str, Any]], int] | None = field(default=None, compare=False, repr=False)
    random: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters that ``--param`` may set."""
        return (*self.defaults, *self.optional)

    @property
    def choices(self) -> tuple[str, ...]:
        """All that a user may choose."""
        return tuple(name for name in self.parameters if name not in self.fixed)

    def built_by(self, path: str, source_sha256: str) -> Attack:
        """Return a user's own attack with the path of the function that built it, and the hash of both files."""
        return replace(self, asked_as=path, defaults={**self.defaults, BUILD: path, SOURCE: source_sha256})
