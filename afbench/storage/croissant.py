"""Croissant: the description of a benchmark that dataset search engines and loaders of other frameworks read.

Written from MANIFEST.json and the config manifests alone. Every data file is a FileObject with its sha256; where they
are Parquet, every config is a RecordSet over a FileSet of its shards. Pictures are not listed one by one.

Source: MLCommons Croissant format 1.0, http://mlcommons.org/croissant/1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from afbench.files import commit_if_changed, json_bytes, sha256_file

from .bagit import PAYLOAD
from .config_manifest import SCHEMA_VERSION, ConfigManifest
from .file_list import read_listing
from .manifests import ORIGINALS, TOP, read_configs
from .schema import columns_of

CROISSANT_FILE = "croissant.json"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_ENCODINGS = {
    ".csv": "text/csv",
    ".h5": "application/x-hdf5",
    ".jsonl": "application/jsonlines",
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
}
_PICTURES = {".png": "image/png", ".webp": "image/webp"}
_DATA_TYPES = {
    "image": "sc:ImageObject",
    "mask": "sc:ImageObject",
    "string": "sc:Text",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float64": "cr:Float64",
}


def write_croissant(folder: Path) -> str:
    """Write ``croissant.json`` beside a folder's MANIFEST.json; returns its name.

    Raises:
        AfbenchError: if a manifest is damaged, or the file cannot be written.
    """
    commit_if_changed(folder / CROISSANT_FILE, croissant_bytes(folder))
    return CROISSANT_FILE


def croissant_bytes(folder: Path) -> bytes:
    """Return what ``write_croissant`` writes; the same manifests give the same bytes.

    Raises:
        AfbenchError: if a manifest is damaged.
    """
    listing = read_listing(folder)
    configs = read_configs(folder)
    data = [path for path in listing if path.startswith(PAYLOAD)]
    tables = {
        name: manifest
        for name, manifest in configs.items()
        if any(path.startswith(f"{PAYLOAD}{name}/") and path.endswith(".parquet") for path in data)
    }
    return json_bytes(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": "afbench_benchmark",
            "version": f"{SCHEMA_VERSION}.0.0+{sha256_file(folder / TOP)[:12]}",
            "description": _description(configs),
            "license": "LICENSE.md",
            "citeAs": "afbench: anti-forensics benchmarks for image forgery localization",
            "keywords": ["image forensics", "forgery localization", "adversarial examples"],
            "distribution": [
                *(_file_object(path, entry) for path, entry in listing.items() if _encoding(path)),
                *_picture_sets(data),
                *(_file_set(name) for name in tables),
            ],
            "recordSet": [_record_set(name, manifest) for name, manifest in tables.items()],
        }
    )


def _description(configs: Mapping[str, ConfigManifest]) -> str:
    sources = sorted({source for manifest in configs.values() for source in manifest.splits})
    attacked = sum(name not in ORIGINALS for name in configs)
    of, in_ways = f" of {', '.join(sources)}" * bool(sources), f" in {attacked} ways" * bool(attacked)
    return (
        f"Forged images{of}, attacked{in_ways} so that a forgery localizer no longer marks what is forged, with masks and "
        "the localizer's figures before and after. README.md says more."
    )


def _encoding(path: str) -> str | None:
    return _ENCODINGS.get(PurePosixPath(path).suffix)


def _file_object(path: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{entry['bytes']} B",
        "encodingFormat": _encoding(path),
        "sha256": entry["sha256"],
    }


def _file_set(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"shards-{config}",
        "name": f"shards-{config}",
        "encodingFormat": _ENCODINGS[".parquet"],
        "includes": f"{PAYLOAD}{config}/*.parquet",
    }


def _picture_sets(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Describe loose pictures as one FileSet per folder and format."""
    kinds = sorted({(str(PurePosixPath(path).parent), PurePosixPath(path).suffix) for path in paths})
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"pictures-{parent}-{suffix[1:]}",
            "name": f"pictures-{parent}-{suffix[1:]}",
            "encodingFormat": _PICTURES[suffix],
            "includes": f"{parent}/*{suffix}",
        }
        for parent, suffix in kinds
        if suffix in _PICTURES
    ]


def _record_set(config: str, manifest: ConfigManifest) -> dict[str, Any]:
    content = "originals" if config in ORIGINALS else f"images attacked by {manifest.provenance['attack']}"
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"Config {config}: {content}, one record per image.",
        "key": {"@id": f"{config}/sample_id"},
        "field": [_field(config, column, kind) for column, kind in columns_of(config).items()],
    }


def _field(config: str, column: str, kind: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"shards-{config}"}, "extract": {"column": column}}
    if kind in ("image", "mask"):
        source["transform"] = {"jsonPath": "bytes"}  # Parquet holds a picture as a struct of bytes and path
    return {
        "@type": "cr:Field",
        "@id": f"{config}/{column}",
        "name": column,
        "dataType": _DATA_TYPES[kind],
        "source": source,
    }
