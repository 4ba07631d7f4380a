"""The manifest of a submission: read without trust, checked against its schema and the benchmark."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonschema import Draft202012Validator

from afbench.shipped import shipped

from .archive import BEGUN, MANIFEST, Package
from .problems import Problems, Refused, printable
from .truth import Truth

ABOUT = (
    "submission_id",
    "display_name",
    "authors",
    "date",
    "paper_url",
    "code_url",
    "defence",
    "attack_knowledge",
)
"""What a manifest says of its submission, kept in the score and on the board."""
MAX_VALUES = 50_000
"""Values a manifest may hold beside its list of files."""
_TOO_DEEP = object()
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOINERS = "\u200c\u200d"
"""Invisible letters that some scripts need; every other one could make a name look like another."""


@dataclass(frozen=True)
class Claims:
    """What could be read of a manifest, sound or not: enough to go on and name every problem at once.

    ``files`` is None where the list of files could not be read.
    """

    manifest: Mapping[str, Any]
    localizers: tuple[str, ...]
    configs: frozenset[str]
    files: Mapping[str, str] | None


def read_claims(package: Package, limit: int, truth: Truth, problems: Problems) -> Claims:
    """Read and check ``manifest.json``.

    Args:
        package: the submission.
        limit: bytes the manifest may take.
        truth: the benchmark it must be made for.
        problems: noted here: AF001, AF002, AF003 and AF017.
    """
    nothing = Claims({}, tuple(truth.weights), frozenset(truth.facts), None)
    try:
        found = _parse(_read(package, limit))
    except Refused as refused:
        problems.add(refused.code, MANIFEST, refused.what)
        return nothing
    files = found.get("files_sha256")
    if isinstance(files, dict):
        problems.extend("AF001", ((MANIFEST, told) for told in _wrong_files(files)))
    faults = list(_faults({**found, "files_sha256": {}} if isinstance(files, dict) else found))
    problems.extend("AF001", ((MANIFEST, told) for told in faults))
    _check_dataset(found, truth, problems)
    localizers = _check_localizers(found, truth, problems)
    configs = _names(found.get("configs"))
    problems.extend(
        "AF003",
        (
            (MANIFEST, f"config '{name}' is not in this benchmark")
            for name in configs
            if name not in truth.facts
        ),
    )
    return Claims(
        found,
        localizers or nothing.localizers,
        frozenset(configs) or nothing.configs,
        files if isinstance(files, dict) else None,
    )


def _read(package: Package, limit: int) -> bytes:
    for member in package.walk() if MANIFEST in package.sizes else ():
        if member.path == MANIFEST:
            return member.read(limit)
    unfinished = "; `afbench predict` has not ended here: give it the same command again"
    raise Refused("AF001", "is missing" + unfinished * (BEGUN in package.sizes))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except Refused:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused("AF001", f"is no JSON ({type(error).__name__}: {error})") from None
    if not isinstance(found, dict):
        raise Refused("AF001", "holds no JSON object")
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("AF001", "names a key twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Refused("AF001", f"holds {name}, which is no JSON")


def _wrong_files(files: Mapping[str, Any]) -> Iterator[str]:
    for path, digest in files.items():
        if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            yield f"files_sha256: '{path}' has no sha256 of 64 hex digits in lower case"


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a manifest by itself, the values that no schema can express first."""
    for number, (path, value) in enumerate(_walk(found, "", 0)):
        if number >= MAX_VALUES:
            yield f"holds more than {MAX_VALUES} values"
            return
        if value is _TOO_DEEP:
            yield f"{path}: nested too deep"
            return
        if isinstance(value, str) and not all(one.isprintable() or one in _JOINERS for one in value):
            yield f"{path}: invisible or control characters"
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{path}: a number too large to keep"
    schema = json.loads(shipped("manifests/schema/submission.schema.json").read_text(encoding="utf-8"))
    for error in Draft202012Validator(schema).iter_errors(found):
        yield f"{error.json_path}: {printable(error.message)}"


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > 20:
        yield path, _TOO_DEEP
        return
    yield path or "$", value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"a key of {path or '$'}", key
            yield from _walk(inner, f"{path}.{key[:40]}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]", depth + 1)


def _check_dataset(found: Mapping[str, Any], truth: Truth, problems: Problems) -> None:
    dataset = found.get("dataset")
    if not isinstance(dataset, dict):
        return
    for key, wanted in (("version", truth.version), ("manifest_sha256", truth.manifest_sha256)):
        if dataset.get(key) != wanted:
            problems.add("AF002", MANIFEST, f"{key} is '{dataset.get(key)}', this benchmark's is '{wanted}'")


def _check_localizers(found: Mapping[str, Any], truth: Truth, problems: Problems) -> tuple[str, ...]:
    """The known localizers a manifest names, once each."""
    listed = found.get("localizers")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    known: list[str] = []
    for entry in entries:
        name, weights = entry.get("id"), entry.get("weights_sha256")
        if not isinstance(name, str):
            continue
        if name not in truth.weights:
            problems.add("AF003", MANIFEST, f"localizer '{name}' attacked nothing in this benchmark")
        elif name in known:
            problems.add("AF001", MANIFEST, f"localizers: '{name}' is there twice")
        else:
            known.append(name)
            if weights != truth.weights[name]:
                problems.add(
                    "AF017",
                    MANIFEST,
                    f"{name}: weights {str(weights)[:12]}, the benchmark attacked {truth.weights[name][:12]}",
                )
    return tuple(sorted(known))


def _names(listed: Any) -> list[str]:
    return sorted({one for one in listed if isinstance(one, str)}) if isinstance(listed, list) else []
