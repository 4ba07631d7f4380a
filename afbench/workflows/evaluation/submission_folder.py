"""Decide what ``predict`` does with its output folder: begin, resume or extend a submission, or refuse another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, UsageError
from afbench.files import commit_json, sweep
from afbench.scoring.package import BEGUN, MANIFEST
from afbench.scoring.versions import Parts, changed_parts, earlier_parts
from afbench.storage.locks import written_alone
from afbench.storage.manifests import Benchmark, read_json

_LOCK = ".lock"
"""Held while a process fills the folder, then removed: a submission has no other files."""
_MAY_DIFFER = ("files_sha256", "dataset", "configs", "configs_sha256", "date")
"""Keys of a manifest that change when the benchmark grows, or with the day."""


class SubmissionState(NamedTuple):
    """Whether predictions are missing, and the configs, with source, that the benchmark got since the previous call."""

    unfinished: bool
    added: tuple[str, ...] = ()


@contextmanager
def claimed_submission(
    out: Path, manifest: Mapping[str, Any], benchmark: Benchmark
) -> Iterator[SubmissionState]:
    """Hold a folder for the submission of this manifest until the end of the block; predictions that are in it stay.

    Raises:
        UsageError: if it holds something else, or predictions on images that the benchmark no longer holds.
        PartialError: if another process fills it.
    """
    _find_manifest(out)  # before anything is written
    lock_path = out / _LOCK
    with written_alone(out, lock_path):
        try:
            yield _claim(out, manifest, benchmark)
        finally:
            lock_path.unlink(missing_ok=True)


def _find_manifest(out: Path) -> Path | None:
    """Return the manifest that a folder holds, finished or begun; None for a folder that is free."""
    path = next((out / name for name in (MANIFEST, BEGUN) if (out / name).is_file()), None)
    if path is None and out.is_dir() and any(entry.name != _LOCK for entry in out.iterdir()):
        raise UsageError(f"'{out}' is not empty and holds no submission; give another --out")
    return path


def _claim(out: Path, manifest: Mapping[str, Any], benchmark: Benchmark) -> SubmissionState:
    path = _find_manifest(out)
    if path is None:
        commit_json(out / BEGUN, dict(manifest))
        return SubmissionState(True)
    if path.name == BEGUN:
        sweep(out)
    existing = read_json(path)
    _require_same(out, existing, manifest)
    recorded = _recorded(out, existing, manifest, benchmark)
    added = tuple(
        f"{config} on {source}"
        for config, sources in manifest["configs_sha256"].items()
        for source in sources
        if source not in recorded.get(config, {})
    )
    if not added:
        if path.name == MANIFEST:
            (out / BEGUN).unlink(missing_ok=True)
        return SubmissionState(path.name == BEGUN)
    # in this order: after a kill in between, the next call still finds the earlier manifest
    commit_json(out / BEGUN, dict(manifest))
    (out / MANIFEST).unlink(missing_ok=True)
    return SubmissionState(True, added)


def _require_same(out: Path, existing: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    keys = (existing.keys() | manifest.keys()) - set(_MAY_DIFFER)
    if differ := sorted(key for key in keys if existing.get(key) != manifest.get(key)):
        raise UsageError(
            f"'{out}' holds another submission ({existing.get('display_name')}): {', '.join(differ)} "
            f"{'differs' if len(differ) == 1 else 'differ'}; give another --out"
        )


def _recorded(
    out: Path, existing: Mapping[str, Any], manifest: Mapping[str, Any], benchmark: Benchmark
) -> Parts:
    """Return the hashes of the configs and sources that have predictions; all of them must be unchanged in the benchmark."""
    try:
        # submissions of earlier versions record no hashes
        recorded = existing.get("configs_sha256") or _earlier_hashes(existing, manifest, benchmark)
        lost = sorted(recorded.keys() - manifest["configs_sha256"].keys()) if recorded else []
        changes = [f"config '{config}' is no longer in the benchmark" for config in lost]
        changes += changed_parts(recorded or {}, manifest["configs_sha256"])
    except (KeyError, TypeError, AttributeError, IndexError):
        raise AfbenchError(f"the manifest in '{out}' is damaged; give another --out") from None
    if recorded is None:
        raise UsageError(
            f"'{out}' was made for another version of '{benchmark.folder}' and records no configs_sha256 to tell what "
            "changed; give another --out"
        )
    if changes:
        raise UsageError(f"'{out}' cannot go on: {changes[0]}; give another --out")
    return recorded


def _earlier_hashes(
    existing: Mapping[str, Any], manifest: Mapping[str, Any], benchmark: Benchmark
) -> Parts | None:
    """Compute the hashes that an older manifest lacks, if its benchmark has only grown since; else None."""
    current_hashes = manifest["configs_sha256"]
    if existing["dataset"]["manifest_sha256"] == manifest["dataset"]["manifest_sha256"]:
        return {config: current_hashes[config] for config in existing["configs"]}
    sources = {source for parts in current_hashes.values() for source in parts}
    if files := existing.get("files_sha256"):
        sources = {path.split("/")[2] for path in files}
    earlier_hashes = earlier_parts(
        benchmark, existing["dataset"]["manifest_sha256"], configs=existing["configs"], sources=sources
    )
    return earlier_hashes and {config: earlier_hashes[config] for config in existing["configs"]}
