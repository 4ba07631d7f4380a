"""The columns of a shard, once for Arrow and for the card.

Written as Hugging Face features into the Arrow schema, so that images stay images without the README.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from afbench.untrusted import require_name

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TYPES: dict[str, pa.DataType] = {
    "image": _IMAGE,
    "mask": _IMAGE,
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
}

CLEAN_COLUMNS = {
    "sample_id": "string",
    "image": "image",
    "mask": "mask",
    "source": "string",
    "kind": "string",
    "group": "string",
    "height": "int32",
    "width": "int32",
    "image_sha256": "string",
    "mask_sha256": "string",
}
"""Columns of config ``clean``, the originals every attack started from, and of ``authentic``, images nobody forged."""

ATTACKED_COLUMNS = {
    "sample_id": "string",
    "image": "image",
    "mask": "mask",
    "localizer": "string",
    "attack": "string",
    "phi": "float64",
    "steps": "int32",
    "source": "string",
    "kind": "string",
    "group": "string",
    "height": "int32",
    "width": "int32",
    "f1_clean": "float64",
    "f1_adv": "float64",
    "iou_clean": "float64",
    "iou_adv": "float64",
    "loss_clean": "float64",
    "loss_adv": "float64",
    "tp": "int64",
    "fp": "int64",
    "fn": "int64",
    "tn": "int64",
    "psnr": "float64",
    "ssim": "float64",
    "linf": "int32",
    "l2": "float64",
    "changed": "float64",
    "zero_gradient_pixels": "int64",
    "unread_pixels": "int64",
    "original_sha256": "string",
    "image_sha256": "string",
    "mask_sha256": "string",
}
"""Columns of an attacked config. ``linf`` in 8-bit levels, ``l2`` over [0, 1] values, ``psnr`` in dB (null when
the image is unchanged), ``zero_gradient_pixels`` null where an attack took no gradient, ``unread_pixels`` those a resize without antialiasing never reads, ``f1``/``iou`` null where undefined, ``tp``..``tn`` of the attacked image."""

NAMES = frozenset({"sample_id", "source", "localizer"})
"""Columns that hold names: they become paths, keys and lines."""
DICTIONARY_COLUMNS = ["localizer", "attack", "source", "kind", "group"]


def columns_of(config: str) -> dict[str, str]:
    """Return the column names and kinds of a config."""
    return CLEAN_COLUMNS if config in ("clean", "authentic") else ATTACKED_COLUMNS


def check_row(row: Mapping[str, Any]) -> None:
    """Refuse a row whose sample, source or localizer is no name.

    Raises:
        AfbenchError: with the first of it.
    """
    for name in NAMES.intersection(row):
        require_name(name, row[name])


def arrow_schema(columns: dict[str, str]) -> pa.Schema:
    """Build the Arrow schema with the features in its metadata, as ``datasets`` writes them."""
    fields = [pa.field(name, _TYPES[kind]) for name, kind in columns.items()]
    features = {name: _feature(kind) for name, kind in columns.items()}
    # the key and form that `datasets` looks for in a Parquet file
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, separators=(",", ":"))}
    return pa.schema(fields, metadata=metadata)


def _feature(kind: str) -> dict[str, Any]:
    if kind == "image":
        return {"_type": "Image"}
    if kind == "mask":
        return {"mode": "L", "_type": "Image"}
    return {"dtype": kind, "_type": "Value"}


def yaml_features(columns: dict[str, str]) -> list[dict[str, Any]]:
    """Return the features as a dataset card's YAML lists them."""
    return [
        {"name": name, "dtype": {"image": {"mode": "L"}} if kind == "mask" else kind}
        for name, kind in columns.items()
    ]
