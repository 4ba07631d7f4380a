"""Read the manifest of a submission without trust; check it against its schema and the benchmark."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from afbench.schemas import schema_problems
from afbench.storage.manifests import AUTHENTIC, CLEAN

from .package import BEGUN, MANIFEST, Package
from .problems import Problems, Refusal
from .truth import Cell, Truth
from .versions import Parts, changed_parts, earlier_parts, named

SUBMISSION_FIELDS = (
    "submission_id",
    "display_name",
    "authors",
    "date",
    "paper_url",
    "code_url",
    "defence",
    "attack_knowledge",
)
"""Fields of a manifest that describe its submission, kept in the score and on the board."""
MAX_VALUES = 50_000
"""Values a manifest may hold beside its list of files."""
_BENCHMARK_FIELDS = ("dataset", "localizers", "configs", "configs_sha256")
_TOO_DEEP = object()
_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOINERS = "\u200c\u200d"
"""Invisible letters that some scripts need; every other one could make a name look like another."""


@dataclass(frozen=True)
class Claims:
    """What could be read of a manifest, even of a faulty one: enough to go on and name every problem at once.

    ``files`` is None where the list of files could not be read. ``covered_parts`` are the configs and sources of a submission
    that is older than parts of the benchmark; None if it is to cover all of its localizers.
    """

    manifest: Mapping[str, Any]
    localizers: tuple[str, ...]
    configs: frozenset[str]
    files: Mapping[str, str] | None
    covered_parts: Parts | None = None

    def covers(self, cell: Cell) -> bool:
        """Return whether a complete submission has predictions of this cell of its localizers."""
        return self.covered_parts is None or cell.source in self.covered_parts.get(cell.config, {})


def read_claims(package: Package, limit: int, truth: Truth, problems: Problems) -> Claims:
    """Read and check ``manifest.json``.

    Args:
        package: the submission.
        limit: bytes the manifest may take.
        truth: the benchmark it must be made for.
        problems: noted here: AF001, AF002, AF003 and AF017.
    """
    unread_claims = Claims({}, tuple(truth.weights), frozenset(truth.settings), None)
    try:
        manifest = _parse(_read(package, limit))
    except Refusal as refusal:
        problems.add(refusal.code, MANIFEST, refusal.message)
        return unread_claims
    files = manifest.get("files_sha256")
    if isinstance(files, dict):
        problems.extend("AF001", ((MANIFEST, fault) for fault in _wrong_files(files)))
    faults = list(_faults({**manifest, "files_sha256": {}} if isinstance(files, dict) else manifest))
    problems.extend("AF001", ((MANIFEST, fault) for fault in faults))
    localizers = _check_localizers(manifest, truth, problems)
    configs = _names(manifest.get("configs"))
    covered_parts = (
        _check_dataset(manifest, truth, problems) if not faults or _describes_benchmark(manifest) else None
    )
    problems.extend(
        "AF003",
        (
            (MANIFEST, f"config '{name}' is not in this benchmark")
            for name in configs
            if name not in truth.settings
        ),
    )
    return Claims(
        manifest,
        localizers or unread_claims.localizers,
        frozenset(configs) or unread_claims.configs,
        files if isinstance(files, dict) else None,
        covered_parts,
    )


def _read(package: Package, limit: int) -> bytes:
    for member in package.walk() if MANIFEST in package.sizes else ():
        if member.path == MANIFEST:
            return member.read(limit)
    unfinished = "; `afbench predict` has not ended here: give it the same command again"
    raise Refusal("AF001", "is missing" + unfinished * (BEGUN in package.sizes))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        raise Refusal("AF001", f"is no JSON ({type(error).__name__}: {error})") from None
    if not isinstance(manifest, dict):
        raise Refusal("AF001", "holds no JSON object")
    return manifest


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    # Python keeps the last of two equal keys, other readers may keep the first
    if len(mapping) != len(pairs):
        raise Refusal("AF001", "names a key twice")
    return mapping


def _no_constant(name: str) -> NoReturn:
    raise Refusal("AF001", f"holds {name}, which is no JSON")


def _wrong_files(files: Mapping[str, Any]) -> Iterator[str]:
    for path, digest in files.items():
        if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            yield f"files_sha256: '{path}' has no sha256 of 64 hex digits in lower case"


def _faults(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a manifest by itself, first those that no schema can express."""
    for number, (path, value) in enumerate(_walk(manifest, "", 0)):
        if number >= MAX_VALUES:
            yield f"holds more than {MAX_VALUES} values"
            return
        if value is _TOO_DEEP:
            yield f"{path}: nested too deep"
            return
        if isinstance(value, str) and not all(
            character.isprintable() or character in _JOINERS for character in value
        ):
            yield f"{path}: invisible or control characters"
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{path}: a number too large to keep"
    yield from schema_problems("submission", manifest)


def _describes_benchmark(manifest: Mapping[str, Any]) -> bool:
    """Return whether the keys that name the benchmark of a submission are sound, whatever is wrong with the other keys."""
    benchmark_claims = {key: manifest[key] for key in _BENCHMARK_FIELDS if key in manifest}
    if (
        not isinstance(manifest.get("files_sha256"), dict)
        or sum(1 for _ in _walk(benchmark_claims, "", 0)) > MAX_VALUES
    ):
        return False
    return not any(schema_problems("submission", benchmark_claims, required=_BENCHMARK_FIELDS))


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


def _check_dataset(manifest: Mapping[str, Any], truth: Truth, problems: Problems) -> Parts | None:
    """Compare a sound manifest with the benchmark; return the configs and sources it covers, None for all."""
    dataset, recorded = manifest["dataset"], manifest.get("configs_sha256")
    if dataset["version"] != dataset["manifest_sha256"][:12]:
        problems.add(
            "AF002",
            MANIFEST,
            f"version is '{dataset['version']}', manifest_sha256 begins with '{dataset['manifest_sha256'][:12]}'",
        )
    if recorded is not None and recorded.keys() != set(manifest["configs"]):
        problems.add("AF001", MANIFEST, "configs_sha256 and configs name different configs")
        return None
    grown = dataset["manifest_sha256"] != truth.manifest_sha256
    covered_parts: Parts | None = recorded
    if grown and recorded is None:
        covered_parts = earlier_parts(
            truth.benchmark,
            dataset["manifest_sha256"],
            configs=manifest["configs"],
            sources={parts[2] for path in manifest["files_sha256"] if len(parts := path.split("/")) > 3},
        )
        if covered_parts is None:
            problems.add("AF002", MANIFEST, _unlike(manifest, truth))
            return {config: truth.parts[config] for config in manifest["configs"] if config in truth.parts}
    problems.extend(
        "AF002", ((MANIFEST, change) for change in changed_parts(covered_parts or {}, truth.parts))
    )
    if not grown or covered_parts is None:
        return None
    attacked = {source for sources in covered_parts.values() for source in sources}
    if lacking := sorted(attacked - covered_parts.get(CLEAN, {}).keys()):
        problems.add("AF004", MANIFEST, f"covers no originals (config '{CLEAN}') of {', '.join(lacking)}")
    return covered_parts


def _unlike(manifest: Mapping[str, Any], truth: Truth) -> str:
    """Explain why a submission without hashes of its configs cannot be scored here, and how to mend it."""
    names = {entry["id"] for entry in manifest["localizers"]}
    added = {cell.config for cell in truth.cells if cell.localizer in names} - {
        *manifest["configs"],
        AUTHENTIC,
    }
    return (
        f"manifest_sha256 is '{manifest['dataset']['manifest_sha256'][:12]}...', this benchmark's is "
        f"'{truth.manifest_sha256[:12]}...'"
        + (f"; configs it does not cover: {named(added)}" if added else "")
        + "; it records no configs_sha256 to tell whether the configs it covers are as they were: predict again into a new folder"
    )


def _check_localizers(manifest: Mapping[str, Any], truth: Truth, problems: Problems) -> tuple[str, ...]:
    """Return the localizers of the benchmark that a manifest names, once each."""
    localizers = manifest.get("localizers")
    entries = [item for item in localizers if isinstance(item, dict)] if isinstance(localizers, list) else []
    known_names: list[str] = []
    for entry in entries:
        name, weights = entry.get("id"), entry.get("weights_sha256")
        if not isinstance(name, str):
            continue
        if name not in truth.weights:
            problems.add("AF003", MANIFEST, f"localizer '{name}' attacked nothing in this benchmark")
        elif name in known_names:
            problems.add("AF001", MANIFEST, f"localizers: '{name}' is there twice")
        else:
            known_names.append(name)
            if weights != truth.weights[name]:
                problems.add(
                    "AF017",
                    MANIFEST,
                    f"{name}: weights {str(weights)[:12]}, the benchmark attacked {truth.weights[name][:12]}",
                )
    return tuple(sorted(known_names))


def _names(values: Any) -> list[str]:
    return sorted({value for value in values if isinstance(value, str)}) if isinstance(values, list) else []
