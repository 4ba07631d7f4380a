"""``manifests/<config>.json`` as types: a config, its splits and their shards, read and written in this one place.

What a file does not say is None or empty here and is not written: a manifest that is read and written again has the same bytes.
Keys that this version does not know are kept in ``unknown_keys``; `afbench verify` reports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from afbench.images import ImageFormat

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What a manifest says of one committed shard; ``path`` is relative to the benchmark's folder.

    ``together`` are the configs that were attacked in the same batches, which in float32 decide single levels:
    with it, ``image_format`` and the batch size in ``log/`` the shard can be made again. ``determinism`` is the level promised
    for that: L0, L1 or L2; "" for originals, and where nobody wrote it down. ``files`` are names that images had in their
    source, by sample id, where the id cannot spell them; of originals only. ``members`` say which attack of an ensemble made an image, by sample id. ``software`` is what made it, where that
    is not what made the rest of its split. ``parquet`` or ``hdf5`` are ``bytes`` and ``sha256`` of the shard that an archive was
    made of.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    ids_sha256: str
    first_id: str | None
    last_id: str | None
    excluded: Sequence[Mapping[str, str]]
    together: Sequence[str] | None = ()
    image_format: str | None = "webp"
    determinism: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    software: Mapping[str, Any] | None = None
    parquet: Mapping[str, Any] | None = None
    hdf5: Mapping[str, Any] | None = None
    unknown_keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the record of a shard.

        Raises:
            KeyError, TypeError, AttributeError: if a key is missing or of the wrong type.
        """
        return cls(
            path=_text(value["path"]),
            rows=_count(value["rows"]),
            bytes=_count(value["bytes"]),
            sha256=_text(value["sha256"]),
            ids_sha256=_text(value["ids_sha256"]),
            first_id=_optional_text(value["first_id"]),
            last_id=_optional_text(value["last_id"]),
            excluded=[dict(_mapping(sample)) for sample in _list(value["excluded"])],
            together=[_text(config) for config in _list(value["together"])] if "together" in value else None,
            image_format=_optional_text(value.get("image_format")),
            determinism=_text(value.get("determinism", "")),
            files=_mapping(value.get("files", {})),
            members=_mapping(value.get("members", {})),
            software=_optional_mapping(value.get("software")),
            parquet=_optional_mapping(value.get("parquet")),
            hdf5=_optional_mapping(value.get("hdf5")),
            unknown_keys=_unknown_keys(cls, value),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the record as its file says it."""
        stated: dict[str, Any] = {
            "path": self.path,
            "rows": self.rows,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "ids_sha256": self.ids_sha256,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "excluded": [dict(sample) for sample in self.excluded],
        }
        optional: dict[str, Any] = {
            "together": None if self.together is None else list(self.together),
            "image_format": self.image_format,
            "determinism": self.determinism or None,
            "files": dict(self.files) or None,
            "members": dict(self.members) or None,
            "software": self.software or None,
            "parquet": self.parquet,
            "hdf5": self.hdf5,
        }
        return _in_file_order({**self.unknown_keys, **stated, **_without_none(optional)})

    @property
    def stored_format(self) -> ImageFormat:
        """Return the format of its images; WebP where nobody wrote it down."""
        return "png" if self.image_format == "png" else "webp"


@dataclass(frozen=True, kw_only=True)
class SplitManifest:
    """What a manifest says of one split, which is one source.

    Of originals: the ``samples`` that the source had and what they were read by and cut into, in stages ``grown_from`` where the
    benchmark has grown; ``format`` is ``hdf5``, or empty for Parquet. Of attacked images: the versions that made them, and the ``summary`` of their rows. Of an archive:
    what its HDF5 shards hold.
    """

    shards: Sequence[ShardRecord] = ()
    samples: int = 0
    shard_size: int = 0
    attack_at: str = ""
    ids_sha256: str = ""
    source_sha256: str | None = None
    terms: str | None = None
    redistribution: str | None = None
    layout: str = ""
    format: str = ""
    read: Mapping[str, Any] = field(default_factory=dict)
    grown_from: Sequence[Mapping[str, int]] = ()
    software: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    archive: Mapping[str, Any] | None = None
    unknown_keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a split of a manifest.

        Raises:
            KeyError, TypeError, AttributeError: if a key is missing or of the wrong type.
        """
        return cls(
            shards=[ShardRecord.from_json(shard) for shard in _list(value["shards"])],
            samples=_count(value.get("samples", 0)),
            shard_size=_count(value.get("shard_size", 0)),
            attack_at=_text(value.get("attack_at", "")),
            ids_sha256=_text(value.get("ids_sha256", "")),
            source_sha256=_optional_text(value.get("source_sha256")),
            terms=_optional_text(value.get("terms")),
            redistribution=_optional_text(value.get("redistribution")),
            layout=_text(value.get("layout", "")),
            format=_text(value.get("format", "")),
            read=_mapping(value.get("read", {})),
            grown_from=[_mapping(stage) for stage in _list(value.get("grown_from", []))],
            software=_optional_mapping(value.get("software")),
            summary=_optional_mapping(value.get("summary")),
            archive=_optional_mapping(value.get("archive")),
            unknown_keys=_unknown_keys(cls, value),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the split as its manifest says it."""
        optional: dict[str, Any] = {
            "samples": self.samples or None,
            "shard_size": self.shard_size or None,
            "attack_at": self.attack_at or None,
            "ids_sha256": self.ids_sha256 or None,
            "source_sha256": self.source_sha256,
            "terms": self.terms,
            "redistribution": self.redistribution,
            "layout": self.layout or None,
            "format": self.format or None,
            "read": dict(self.read) or None,
            "grown_from": [dict(stage) for stage in self.grown_from] or None,
            "summary": self.summary,
            "archive": self.archive,
        }
        # null, not absent, where nobody wrote down what made attacked images
        software = {} if self.software is None and self.summary is None else {"software": self.software}
        shards = [shard.as_json() for shard in self.shards]
        return _in_file_order({**self.unknown_keys, **_without_none(optional), **software, "shards": shards})


@dataclass(frozen=True)
class ConfigManifest:
    """What ``manifests/<config>.json`` says.

    ``provenance`` is everything that decides the pixels of an attacked config (``how`` in the file), and ``config_hash`` its
    hash; originals have neither.
    """

    config: str
    splits: Mapping[str, SplitManifest]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    schema_version: int = SCHEMA_VERSION
    unknown_keys: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the manifest of a config.

        Raises:
            KeyError, TypeError, AttributeError: if a key is missing or of the wrong type.
        """
        return cls(
            config=_text(value["config"]),
            splits={split: SplitManifest.from_json(part) for split, part in value["splits"].items()},
            provenance=_mapping(value.get("how", {})),
            config_hash=_text(value.get("config_hash", "")),
            schema_version=_count(value["schema_version"]),
            unknown_keys={key: value[key] for key in value if key not in _CONFIG_KEYS},
        )

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as its file says it."""
        optional = {"how": self.provenance or None, "config_hash": self.config_hash or None}
        splits = {split: part.as_json() for split, part in self.splits.items()}
        stated = {"schema_version": self.schema_version, "config": self.config, "splits": splits}
        return _in_file_order({**self.unknown_keys, **_without_none(optional), **stated})

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self:
        """Begin the manifest of a config, without splits, from what was written before its first shard.

        Raises:
            KeyError, TypeError, AttributeError: if a key is missing or of the wrong type.
        """
        empty = {"schema_version": SCHEMA_VERSION, "splits": {}}
        return cls.from_json({**{key: header[key] for key in header if key != "software"}, **empty})

    def as_header(self, software: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what is written before the first shard: how the config is made, and the versions that make it."""
        provenance = {"config_hash": self.config_hash, "how": self.provenance}
        return {"config": self.config, **provenance, "software": software}

    @property
    def shards(self) -> Iterator[ShardRecord]:
        """Iterate over the shards of all splits, in order."""
        return (shard for part in self.splits.values() for shard in part.shards)

    @property
    def localizer_name(self) -> str:
        """Return what the config calls the localizer it attacked."""
        return str(self.provenance["localizer"]["name"])


_CONFIG_KEYS = ("config", "splits", "how", "config_hash", "schema_version")


def _unknown_keys(record: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(record)} - {"unknown_keys"}
    return {key: value[key] for key in value if key not in names}


def _in_file_order(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the keys as they are stored, so that ``inspect`` shows what the file shows."""
    return dict(sorted(values.items()))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _count(value: object) -> int:
    if type(value) is not int:  # True is no count
        raise TypeError("expected a whole number")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("expected a list")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value


def _optional_mapping(value: object) -> dict[str, Any] | None:
    return None if value is None else _mapping(value)
