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
from afbench.storage.manifests import AUTHENTIC, CLEAN

from .archive import BEGUN, MANIFEST, Package
from .problems import Problems, Refused, printable
from .truth import Cell, Truth
from .versions import Parts, changed_parts, named, parts_then

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
_OF_WHAT = ("dataset", "localizers", "configs", "configs_sha256")
_TOO_DEEP = object()
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOINERS = "\u200c\u200d"
"""Invisible letters that some scripts need; every other one could make a name look like another."""


@dataclass(frozen=True)
class Claims:
    """What could be read of a manifest, sound or not: enough to go on and name every problem at once.

    ``files`` is None where the list of files could not be read. ``covered`` are the configs and sources of a submission that was
    made before others were added to the benchmark; None if it is to cover all of its localizers.
    """

    manifest: Mapping[str, Any]
    localizers: tuple[str, ...]
    configs: frozenset[str]
    files: Mapping[str, str] | None
    covered: Parts | None = None

    def wants(self, cell: Cell) -> bool:
        """Whether a whole submission has predictions of this cell of its localizers."""
        return self.covered is None or cell.source in self.covered.get(cell.config, {})


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
    localizers = _check_localizers(found, truth, problems)
    configs = _names(found.get("configs"))
    covered = _check_dataset(found, truth, problems) if not faults or _says_what_it_is_of(found) else None
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
        covered,
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
    for error in Draft202012Validator(_schema()).iter_errors(found):
        yield f"{error.json_path}: {printable(error.message)}"


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(shipped("manifests/schema/submission.schema.json").read_text("utf-8"))
    return schema


def _says_what_it_is_of(found: Mapping[str, Any]) -> bool:
    """Whether the keys that tell what a submission is of are sound, whatever is wrong with the others."""
    about = {key: found[key] for key in _OF_WHAT if key in found}
    if not isinstance(found.get("files_sha256"), dict) or sum(1 for _ in _walk(about, "", 0)) > MAX_VALUES:
        return False
    schema = _schema()
    needed = [key for key in _OF_WHAT if key in schema["required"]]
    return Draft202012Validator({**schema, "required": needed}).is_valid(about)


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


def _check_dataset(found: Mapping[str, Any], truth: Truth, problems: Problems) -> Parts | None:
    """Hold what a sound manifest was made for against the benchmark: the configs and sources it covers, None for all."""
    dataset, recorded = found["dataset"], found.get("configs_sha256")
    if dataset["version"] != dataset["manifest_sha256"][:12]:
        problems.add(
            "AF002",
            MANIFEST,
            f"version is '{dataset['version']}', manifest_sha256 begins with '{dataset['manifest_sha256'][:12]}'",
        )
    if recorded is not None and recorded.keys() != set(found["configs"]):
        problems.add("AF001", MANIFEST, "configs_sha256 and configs name different configs")
        return None
    grown = dataset["manifest_sha256"] != truth.manifest_sha256
    covered: Parts | None = recorded
    if grown and recorded is None:
        covered = parts_then(
            truth.benchmark,
            dataset["manifest_sha256"],
            configs=found["configs"],
            sources={parts[2] for path in found["files_sha256"] if len(parts := path.split("/")) > 3},
        )
        if covered is None:
            problems.add("AF002", MANIFEST, _unlike(found, truth))
            return {config: truth.parts[config] for config in found["configs"] if config in truth.parts}
    problems.extend("AF002", ((MANIFEST, told) for told in changed_parts(covered or {}, truth.parts)))
    if not grown or covered is None:
        return None
    attacked = {source for sources in covered.values() for source in sources}
    if lacking := sorted(attacked - covered.get(CLEAN, {}).keys()):
        problems.add("AF004", MANIFEST, f"covers no originals (config '{CLEAN}') of {', '.join(lacking)}")
    return covered


def _unlike(found: Mapping[str, Any], truth: Truth) -> str:
    """Why a submission that records no hash of its configs is of no use here, and how to mend it."""
    names = {entry["id"] for entry in found["localizers"]}
    added = {cell.config for cell in truth.cells if cell.localizer in names} - {*found["configs"], AUTHENTIC}
    return (
        f"manifest_sha256 is '{found['dataset']['manifest_sha256'][:12]}...', this benchmark's is "
        f"'{truth.manifest_sha256[:12]}...'"
        + (f"; configs it does not cover: {named(added)}" if added else "")
        + "; it records no configs_sha256 to tell whether the configs it covers are as they were: predict again into a new folder"
    )


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
