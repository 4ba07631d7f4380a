"""The index of a source: one record for each sample, never pixels, and its JSON form, which other programs may write."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from afbench.core import UsageError
from afbench.resources import resource_json
from afbench.schemas import schema_problem
from afbench.untrusted import is_name
from afbench.version import __version__

from .layouts import LAYOUTS
from .mask_rules import MASK_RULES, split_rule
from .source_entry import Label, SourceEntry, SourceOptions

SCHEMA_VERSION = 1
MAX_INDEX_BYTES = 2**28
"""Largest index file that is read."""

# the same copy has one hash wherever it lies and whichever decoder words the details
_NOT_HASHED = ("image", "mask", "detail")


@dataclass(frozen=True, kw_only=True)
class IndexRecord:
    """What an index says of one sample; an excluded one has a ``reason`` and a ``detail``.

    ``image`` and ``mask`` are relative to the root, with forward slashes. Hashes are of file bytes; several
    masks have the hash of their joined hex digests. ``mask_fraction`` is the share of forged pixels, and
    ``mask_grey_fraction`` that of mask pixels neither black nor white. A value that was not read is "" or None.
    """

    id: str
    image: str | None
    mask: tuple[str, ...]
    status: Literal["included", "excluded"]
    reason: str = ""
    detail: str = ""
    label: Label = "forged"
    width: int | None = None
    height: int | None = None
    mode: str = ""
    mask_rule: str = ""
    polarity: str = ""
    mask_fraction: float | None = None
    mask_grey_fraction: float | None = None
    exif_orientation: int | None = None
    resized: bool = False
    group: str = ""
    kind: str = ""
    image_sha256: str = ""
    mask_sha256: str = ""

    @property
    def included(self) -> bool:
        return self.status == "included"

    def entry(self) -> SourceEntry:
        """Return the entry to read the sample from again."""
        rule = self.mask_rule or "white"
        return SourceEntry(self.id, self.image, self.mask, rule, self.label, self.group, self.kind)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of an index.

    ``included`` and ``authentic`` count the forged and the authentic samples that can be used. ``paired`` counts the forged
    images that have a mask, included or excluded, as the published count ``expected`` does (None if unknown).
    ``mask_shares`` are ``min``, ``median`` and ``max`` of the shares of forged pixels, and how many lie ``above_50`` and
    ``above_95`` per cent; {} without masks.
    """

    included: int
    authentic: int
    excluded: dict[str, int]
    paired: int
    expected: int | None
    mask_shares: dict[str, float]


@dataclass(frozen=True)
class Index:
    """All samples of a source in the order of their ids, included or excluded."""

    source: str
    root: str
    options: SourceOptions
    samples: Sequence[IndexRecord]

    @cached_property
    def sha256(self) -> str:
        """Hash source, options and samples; the hash is the same wherever the files lie.

        It leaves out paths, and details, which are prose and differ between versions of a decoder.
        """
        return samples_sha256(self.source, self.options, self.samples)

    @cached_property
    def summary(self) -> Summary:
        published = resource_json("sources").get(self.source)
        labels = [sample.label for sample in self.samples if sample.included]
        return Summary(
            included=labels.count("forged"),
            authentic=labels.count("authentic"),
            excluded=dict(
                sorted(Counter(sample.reason for sample in self.samples if not sample.included).items())
            ),
            paired=sum(
                sample.label == "forged" and bool(sample.image and sample.mask) for sample in self.samples
            ),
            expected=int(published["count"]) if published else None,
            mask_shares=_mask_shares(self.samples),
        )

    def without_authentic(self) -> Index:
        """Return the index as it would be without the option ``authentic``."""
        forged = [sample for sample in self.samples if sample.label == "forged"]
        return Index(self.source, self.root, replace(self.options, authentic=False), forged)

    def to_json(self) -> dict[str, Any]:
        """Return the index as manifests/schema/index.schema.json describes it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "afbench_version": __version__,
            "source": self.source,
            "root": self.root,
            "options": self.options.as_json(),
            "sha256": self.sha256,
            "summary": vars(self.summary),
            "samples": [sample_json(sample) for sample in self.samples],
        }

    @staticmethod
    def from_json(value: Any, name: str = "index") -> Index:
        """Read what ``to_json`` or another program wrote; ``name`` names it in errors.

        Raises:
            UsageError: if it violates its schema, names a path outside the root, or was changed after it was made.
        """
        if message := schema_problem("index", value):
            raise UsageError(f"{name}: {message}")
        samples = [sample_from_json(row) for row in value["samples"]]
        _check_samples(value["source"], samples, name)
        index = Index(value["source"], value["root"], SourceOptions.from_json(value["options"]), samples)
        # an edited index must not pass for the one that was made
        if index.sha256 != value["sha256"]:
            raise UsageError(f"{name} was changed after it was made: its sha256 is another; make it again")
        return index


def _mask_shares(samples: Sequence[IndexRecord]) -> dict[str, float]:
    shares = sorted(
        sample.mask_fraction for sample in samples if sample.included and sample.mask_fraction is not None
    )
    if not shares:
        return {}
    return {
        "min": shares[0],
        "median": shares[len(shares) // 2],
        "max": shares[-1],
        "above_50": sum(share > 0.5 for share in shares),
        "above_95": sum(share > 0.95 for share in shares),
    }


def samples_sha256(source: str, options: SourceOptions, samples: Sequence[IndexRecord]) -> str:
    """Hash the canonical JSON of all that decides the pixels of these samples."""
    rows = [
        {key: fact for key, fact in vars(sample).items() if key not in _NOT_HASHED}
        | {"masks": len(sample.mask)}
        for sample in samples
    ]
    hashed = {"source": source, "options": options.as_json(), "samples": rows}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sample_json(sample: IndexRecord) -> dict[str, Any]:
    """Return a row of the index: one mask is a string, several are a list, no mask is null."""
    mask: Any = list(sample.mask) if len(sample.mask) > 1 else sample.mask[0] if sample.mask else None
    return {**vars(sample), "mask": mask}


def sample_from_json(row: dict[str, Any]) -> IndexRecord:
    """Read what ``sample_json`` returned."""
    mask = row["mask"]
    masks = () if mask is None else (mask,) if isinstance(mask, str) else tuple(mask)
    return IndexRecord(**{**row, "mask": masks})


def index_text(index: Index) -> str:
    """Write an index as JSON, one line for each sample, in ASCII because file names need not be Unicode."""
    value = index.to_json()
    samples = ",\n".join(f"  {json.dumps(row)}" for row in value.pop("samples"))
    head = json.dumps(value, indent=1)
    return f'{head[:-2]},\n "samples": [\n{samples}\n ]\n}}\n'


def read_index(path: Path) -> Index:
    """Read an index file.

    Raises:
        UsageError: if it cannot be read or is no index.
    """
    name = f"index '{path}'"
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise UsageError(f"{name} is larger than {MAX_INDEX_BYTES >> 20} MiB")
        value = json.loads(path.read_bytes(), parse_constant=_no_number)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {ascii(str(error))[1:-1][:160]}") from None
    return Index.from_json(value, name)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check_samples(source: str, samples: Sequence[IndexRecord], name: str) -> None:
    """Check what a schema cannot say."""
    if source not in LAYOUTS:
        raise UsageError(f"{name}: source '{source}' is unknown; known sources: {', '.join(LAYOUTS)}")
    ids: set[str] = set()
    for sample in samples:
        for path in (sample.image, *sample.mask):
            if path is not None and not _below_root(path):
                raise UsageError(f"{name}: sample {sample.id!a}: {path!a} is no path below the root")
        if not is_name(sample.id) or sample.id in ids:
            raise UsageError(f"{name}: sample id {sample.id!a} is not legal, or is there twice")
        if sample.mask_rule and split_rule(sample.mask_rule)[0] not in MASK_RULES:
            raise UsageError(f"{name}: sample {sample.id}: mask rule {sample.mask_rule!a} is unknown")
        # readers rely on these values of an included sample without looking again
        if sample.included != bool(
            sample.image and sample.image_sha256 and sample.width and not sample.reason
        ):
            raise UsageError(
                f"{name}: sample {sample.id} is {sample.status} with the facts of another status"
            )
        ids.add(sample.id)


def _below_root(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path
