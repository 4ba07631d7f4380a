"""Turn the records of finished shards into manifests, a card and the closed list of files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from afbench.shipped import shipped
from afbench.storage.card import dataset_card
from afbench.storage.commit import commit_if_changed, json_bytes
from afbench.storage.folder import read_header
from afbench.storage.manifests import SCHEMA_VERSION, TOP, WORK, read_configs, read_json
from afbench.storage.shards import read_rows
from afbench.storage.summary import SUMMARY_COLUMNS, summarise


def finalise(out: Path) -> dict[str, dict[str, Any]]:
    """Publish every config and split whose shards are all there; leave the others for a later run.

    Idempotent: the same records give the same bytes, and files that hold them already are not touched.

    Returns:
        The manifests now in the folder, by config name.
    """
    configs = read_configs(out)
    done: list[Path] = []
    for config, split, records, folder in _complete(out):
        manifest = configs.setdefault(config, _manifest(out, config))
        manifest["splits"][split] = _split(out, config, split, records)
        done.append(folder)
    configs = {name: configs[name] for name in sorted(configs, key=_order)}
    if "clean" not in configs:
        return configs
    files: dict[str, dict[str, Any]] = {}
    for name, manifest in configs.items():
        manifest["splits"] = dict(sorted(manifest["splits"].items()))
        _publish(out, f"manifests/{name}.json", json_bytes(manifest), files)
        for part in manifest["splits"].values():
            for shard in part["shards"]:
                files[shard["path"]] = {"bytes": shard["bytes"], "sha256": shard["sha256"]}
    _publish(out, "README.md", dataset_card(configs).encode(), files)
    _publish(out, "LICENSE.md", shipped("manifests/LICENSE_OF_BENCHMARKS.md").read_bytes(), files)
    listing = {"schema_version": SCHEMA_VERSION, "files": dict(sorted(files.items()))}
    commit_if_changed(out / TOP, json_bytes(listing))
    _forget(out, done)
    return configs


def _complete(out: Path) -> list[tuple[str, str, list[dict[str, Any]], Path]]:
    """(config, split, records in order, their folder) of everything that lacks no shard."""
    found = []
    for folder in sorted(path for path in (out / WORK).glob("*") if path.is_dir()):
        by_split: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(folder.glob("*-[0-9][0-9][0-9][0-9][0-9].json")):
            by_split.setdefault(path.stem.rsplit("-", 1)[0], []).append(read_json(path))
        for split, records in by_split.items():
            count = int(records[0]["path"].rsplit("-of-", 1)[1].split(".")[0])
            if len(records) == count:
                found.append((folder.name, split, records, folder))
    return found


def _manifest(out: Path, config: str) -> dict[str, Any]:
    header = {"config": "clean"} if config == "clean" else (read_header(out, config) or {"config": config})
    return {"schema_version": SCHEMA_VERSION, **header, "splits": {}}


def _split(out: Path, config: str, split: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"shards": records}
    if config == "clean":
        found = {**(read_header(out, f"clean.{split}") or {}), **found}
    else:
        found["summary"] = summarise(read_rows(out, [record["path"] for record in records], SUMMARY_COLUMNS))
    return found


def _order(name: str) -> tuple[bool, str]:
    return name != "clean", name


def _publish(out: Path, path: str, data: bytes, files: dict[str, dict[str, Any]]) -> None:
    commit_if_changed(out / path, data)
    files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _forget(out: Path, done: list[Path]) -> None:
    """Drop the records of what is published; what is unfinished keeps its own."""
    for folder in done:
        shutil.rmtree(folder, ignore_errors=True)
    work = out / WORK
    unfinished = (
        [path for path in work.glob("*") if not path.name.startswith("clean.")] if work.is_dir() else []
    )
    if not unfinished:
        shutil.rmtree(work, ignore_errors=True)
