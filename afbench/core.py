"""The types every room shares; no behaviour beyond small derived values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if (
    TYPE_CHECKING
):  # the command line says what NumPy's libraries read when they are loaded, and imports this before
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

ByteImage: TypeAlias = "npt.NDArray[np.uint8]"
"""uint8 ``(H, W, 3)`` RGB, or uint8 ``(H, W)`` for a mask of 0 and 255."""
FloatImage: TypeAlias = "npt.NDArray[np.float32]"
ShardFormat: TypeAlias = Literal["parquet", "hdf5"]
"""The file format of a benchmark's shards; a folder has one."""


class AfbenchError(Exception):
    """What a user can mend; the command line prints it as one line and exits with ``exit_code``."""

    exit_code = 1


class UsageError(AfbenchError):
    """A wrong option, plan, checkpoint, source root or output folder."""

    exit_code = 2


class PartialError(AfbenchError):
    """The run ended before it was complete, or another process holds the folder."""

    exit_code = 3


class Stopped(KeyboardInterrupt):
    """A Ctrl-C or SIGTERM, with what it leaves behind and what it costs."""


class BadSample(Exception):
    """A sample that cannot be used: a reason from a fixed vocabulary, and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Sample:
    """A forged (or authentic) image with its mask.

    ``image`` is uint8 ``(H, W, 3)`` RGB; ``mask`` is uint8 ``(H, W)``, 255 where forged.
    ``group`` names what must stay on one side of a split (a photograph, a scene).
    """

    sample_id: str
    image: ByteImage
    mask: ByteImage
    group: str = ""
    kind: str = ""


LEAST_MAX_SIDE, MOST_MAX_SIDE = 64, 16_383
"""Smaller images say nothing of forgeries, and a larger side is beyond what WebP can store."""


@dataclass(frozen=True)
class ReadOptions:
    """How pixels of a user's copy are read where its files need it; the defaults leave every hash as it is.

    ``mask_threshold``: the grey level (0 to 254) above which a mask counts as white. ``mask_nonzero``: whatever is not
    black counts as white. ``ignore_alpha``: drop transparency instead of refusing it. ``max_side``: make images whose longer
    side is above it smaller, antialiased, and their masks by nearest pixel.

    Raises:
        UsageError: if two of them contradict each other, or one is out of range.
    """

    mask_threshold: int | None = None
    mask_nonzero: bool = False
    ignore_alpha: bool = False
    max_side: int | None = None

    def __post_init__(self) -> None:
        if self.mask_threshold is not None and self.mask_nonzero:
            raise UsageError(
                "--mask-threshold and --mask-nonzero are two ways to read a mask; give one of them"
            )
        for option, number in (("--mask-threshold", self.mask_threshold), ("--max-side", self.max_side)):
            if number is not None and type(number) is not int:
                raise UsageError(f"{option} must be a whole number; found {number!r}")
        if self.mask_threshold is not None and not 0 <= self.mask_threshold <= 254:
            raise UsageError(f"--mask-threshold must be from 0 to 254; found {self.mask_threshold}")
        if self.max_side is not None and not LEAST_MAX_SIDE <= self.max_side <= MOST_MAX_SIDE:
            raise UsageError(
                f"--max-side must be from {LEAST_MAX_SIDE} to {MOST_MAX_SIDE} pixels; found {self.max_side}"
            )

    def as_json(self) -> dict[str, Any]:
        """Return the options that differ from the defaults."""
        return {key: value for key, value in vars(self).items() if value is not None and value is not False}

    @staticmethod
    def from_json(value: Any) -> ReadOptions:
        """Read what ``as_json`` wrote into a manifest or an index.

        Raises:
            AfbenchError: if it holds anything else.
        """
        kinds = {"mask_threshold": int, "mask_nonzero": bool, "ignore_alpha": bool, "max_side": int}
        if not isinstance(value, Mapping) or any(
            type(option) is not kinds.get(name) for name, option in value.items()
        ):
            raise AfbenchError(f"how pixels are read is said in no known way: {ascii(value)[:120]}")
        return ReadOptions(**value)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A list of sample ids and a way to read one; ``read`` raises ``BadSample``.

    ``sha256`` fingerprints everything the samples are made from, ``authentic_sha256`` the same of the authentic ones.
    ``terms`` says who may share the pixels;
    ``redistribution`` the same in one word: ``allowed``, ``unclear`` or ``forbidden``. ``authentic`` are ids of images
    nobody forged, for false-positive rates; they are not among ``ids``. ``pixels`` says how large the images are, by id,
    where that is known before they are read; it decides only where shards are cut. ``layout`` is the source that the
    user's copy is read as, where ``name`` is the user's own; ``files`` are names of images, by id, that their id cannot
    spell; ``notes`` are lines to tell the user. ``sha256_of`` is the fingerprint that
    the first so many samples would have by themselves, ``authentic_sha256_of`` that of authentic ones; None if always the same.
    """

    name: str
    ids: Sequence[str]
    read: Callable[[str], Sample]
    sha256: str
    terms: str
    citation: str = ""
    redistribution: str = "unclear"
    authentic: Sequence[str] = ()
    authentic_sha256: str = ""
    pixels: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""
    read_options: ReadOptions = ReadOptions()
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sha256_of: Callable[[int], str] | None = None
    authentic_sha256_of: Callable[[int], str] | None = None


@dataclass(frozen=True)
class Setting:
    """An attack with all its parameters: ``phi`` (of the [0, 1] range) or, for C&W, ``steps``.

    ``user_attack`` is the attack itself, as ``afbench.plans`` describes it, where it is a user's own.
    """

    attack: str
    label: str
    phi: Fraction | None
    steps: int
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    user_attack: Any = field(default=None, compare=False, repr=False)


Defence: TypeAlias = "Callable[[Tensor], Tensor]"
"""Images ``(N, 3, H, W)`` in [0, 1] to purified ones of the same shape."""


class Localizer(Protocol):
    """Finds forged pixels; resizing and normalisation live inside.

    ``logits``: ``(N, 3, H, W)`` in [0, 1] (attacks may leave it) to ``(N, 1, H, W)``, differentiable.
    ``probability``: the same sizes, in [0, 1], what is scored. ``threshold``: forged where probability is above.
    """

    @property
    def name(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def weights_sha256(self) -> str: ...
    def logits(self, image: Tensor) -> Tensor: ...
    def probability(self, image: Tensor) -> Tensor: ...


class FeatureLocalizer(Localizer, Protocol):
    """A localizer that shows intermediate features: of its ``shallow``, ``middle`` or ``topmost`` third."""

    def features(self, image: Tensor, third: str = "middle") -> list[Tensor]: ...
