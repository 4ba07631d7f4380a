"""The folder of a submission that ``predict`` writes: new, to be gone on with, to grow, or somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, UsageError
from afbench.scoring.package import BEGUN, MANIFEST
from afbench.scoring.versions import Parts, changed_parts, earlier_parts
from afbench.storage.commit import commit_json
from afbench.storage.manifests import Benchmark, read_json

_MAY_DIFFER = ("files_sha256", "dataset", "configs", "configs_sha256", "date")
"""Keys of a manifest that follow the benchmark, which may have grown, or the day."""


class Claimed(NamedTuple):
    """Whether there is anything left to do, and the configs, with their source, that the benchmark got since the last call."""

    unfinished: bool
    added: tuple[str, ...] = ()


def claim_submission(out: Path, manifest: Mapping[str, Any], benchmark: Benchmark) -> Claimed:
    """Claim a folder for the submission of this manifest; what is there of it is kept.

    Raises:
        UsageError: if it holds something else, or predictions on images that the benchmark no longer holds.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = next((out / name for name in (MANIFEST, BEGUN) if (out / name).is_file()), None)
    if path is None:
        if any(out.iterdir()):
            raise UsageError(f"'{out}' is not empty and holds no submission; give another --out")
        commit_json(out / BEGUN, dict(manifest))
        return Claimed(True)
    there = read_json(path)
    _require_same(out, there, manifest)
    recorded = _recorded(out, there, manifest, benchmark)
    added = tuple(
        f"{config} on {source}"
        for config, sources in manifest["configs_sha256"].items()
        for source in sources
        if source not in recorded.get(config, {})
    )
    if not added:
        if path.name == MANIFEST:
            (out / BEGUN).unlink(missing_ok=True)
        return Claimed(path.name == BEGUN)
    commit_json(out / BEGUN, dict(manifest))
    (out / MANIFEST).unlink(missing_ok=True)
    return Claimed(True, added)


def _require_same(out: Path, there: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    keys = (there.keys() | manifest.keys()) - set(_MAY_DIFFER)
    if differ := sorted(key for key in keys if there.get(key) != manifest.get(key)):
        raise UsageError(
            f"'{out}' holds another submission ({there.get('display_name')}): {', '.join(differ)} "
            f"{'differs' if len(differ) == 1 else 'differ'}; give another --out"
        )


def _recorded(
    out: Path, there: Mapping[str, Any], manifest: Mapping[str, Any], benchmark: Benchmark
) -> Parts:
    """The configs and sources that are predicted on already, all of them as they still are in the benchmark."""
    try:
        recorded = there.get("configs_sha256") or _then(there, manifest, benchmark)
        lost = sorted(recorded.keys() - manifest["configs_sha256"].keys()) if recorded else []
        changed = [f"config '{config}' is no longer in the benchmark" for config in lost]
        changed += changed_parts(recorded or {}, manifest["configs_sha256"])
    except (KeyError, TypeError, AttributeError, IndexError):
        raise AfbenchError(f"the manifest in '{out}' is damaged; give another --out") from None
    if recorded is None:
        raise UsageError(
            f"'{out}' was made for another version of '{benchmark.folder}' and records no configs_sha256 to tell what "
            "changed; give another --out"
        )
    if changed:
        raise UsageError(f"'{out}' cannot go on: {changed[0]}; give another --out")
    return recorded


def _then(there: Mapping[str, Any], manifest: Mapping[str, Any], benchmark: Benchmark) -> Parts | None:
    """What a manifest without hashes covers, if its benchmark has only grown since."""
    now = manifest["configs_sha256"]
    if there["dataset"]["manifest_sha256"] == manifest["dataset"]["manifest_sha256"]:
        return {config: now[config] for config in there["configs"]}
    sources = {source for parts in now.values() for source in parts}
    if files := there.get("files_sha256"):
        sources = {path.split("/")[2] for path in files}
    then = earlier_parts(
        benchmark, there["dataset"]["manifest_sha256"], configs=there["configs"], sources=sources
    )
    return then and {config: then[config] for config in there["configs"]}
