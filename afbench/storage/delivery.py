"""Fill a new folder unit by unit, so that a killed job can be resumed and no other job's folder is touched."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, UsageError
from afbench.files import commit_bytes, commit_if_changed, commit_json, json_bytes, sweep

from .config_manifest import SCHEMA_VERSION
from .locks import written_alone
from .manifests import LOG, TOP, read_json, safe_path
from .run_folder import check_folder

WORK_FOLDER = ".export"
"""What is asked for and what is done of it, while a job runs."""
DONE = f"{LOG}/delivery.json"
"""The same once it is finished; outside of what is hashed."""
_REQUEST = "request.json"


@dataclass
class Delivery:
    """A folder that is being filled. ``units`` are the records of what is done, by name; ``finished``: all of it was."""

    folder: Path
    request: Mapping[str, Any]
    finished: bool
    units: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def delivering(folder: Path, request: Mapping[str, Any]) -> Iterator[Delivery]:
    """Open a folder for one request, and hold it until the end of the block; killed runs of the same one are resumed.

    Raises:
        UsageError: before anything is written, if the folder holds something else or cannot be written.
        PartialError: if another process fills it.
    """
    work_folder = folder / WORK_FOLDER
    _check(folder, request)
    with written_alone(folder, work_folder / "lock"):
        # again: another process may have ended while this one looked
        delivery = Delivery(folder, request, _check(folder, request) == DONE)
        if delivery.finished:
            units = read_json(folder / DONE)["units"]
            delivery.units.update(
                {name: record for name, record in units.items() if _is_whole(folder, record)}
            )
            # a finished delivery has lost a file: make it again
            if len(delivery.units) < len(units):
                reopen(delivery, set())
        else:
            sweep(folder)
            commit_json(work_folder / _REQUEST, {"request": dict(request)})
            for path in sorted(work_folder.glob("unit-*.json")):
                record = read_json(path)
                if _is_whole(folder, record):
                    delivery.units[record["unit"]] = record
        try:
            yield delivery
        finally:
            if (folder / DONE).is_file() and not (work_folder / _REQUEST).is_file():
                shutil.rmtree(work_folder, ignore_errors=True)


def _check(folder: Path, request: Mapping[str, Any]) -> str | None:
    """Find the file that says that this request was begun or finished here; None for a folder that is free."""
    begun = (folder / WORK_FOLDER / _REQUEST).is_file()
    if begun or ((folder / DONE).is_file() and (folder / TOP).is_file()):
        request_path = f"{WORK_FOLDER}/{_REQUEST}" if begun else DONE
        if read_json(folder / request_path).get("request") != request:
            raise UsageError(f"--out '{folder}' holds what another command made; give a new or empty folder")
        return request_path
    if folder.is_dir() and [path.name for path in folder.iterdir()] == [
        WORK_FOLDER
    ]:  # killed at its first file
        return None
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"--out '{folder}' is not empty; give a new or empty folder")
    return None


def reopen(delivery: Delivery, redo: set[str]) -> None:
    """Take units of a finished delivery back to work; the folder is no benchmark until it is finished again."""
    work_folder = delivery.folder / WORK_FOLDER
    for name in redo:
        delivery.units.pop(name, None)
    for name, record in delivery.units.items():
        commit_json(work_folder / _unit(name), record)
    commit_json(work_folder / _REQUEST, {"request": dict(delivery.request)})
    # without its list the folder is no benchmark, so nobody reads a half of it
    (delivery.folder / TOP).unlink(missing_ok=True)
    delivery.finished = False


def _is_whole(folder: Path, record: Mapping[str, Any]) -> bool:
    try:
        return all(
            (folder / safe_path(path)).stat().st_size == entry["bytes"]
            for path, entry in record["files"].items()
        )
    except (OSError, KeyError, TypeError, AttributeError, AfbenchError):
        return False


def deliver(delivery: Delivery, name: str, files: Mapping[str, bytes], **details: Any) -> dict[str, Any]:
    """Commit the files of a unit and then its record, which is returned.

    Raises:
        AfbenchError: if a file cannot be written, or a path leaves the folder.
    """
    # the files come before their record: a kill in between costs this unit alone
    entries = {}
    for path, data in files.items():
        sha256 = commit_bytes(delivery.folder / safe_path(path), data)
        entries[path] = {"bytes": len(data), "sha256": sha256}
    return note(delivery, name, entries, **details)


def note(
    delivery: Delivery, name: str, files: Mapping[str, Mapping[str, Any]], **details: Any
) -> dict[str, Any]:
    """Commit the record of a unit whose files are there, each with its ``bytes`` and ``sha256``."""
    record = {"unit": name, "files": dict(files), **details}
    commit_json(delivery.folder / WORK_FOLDER / _unit(name), record)
    delivery.units[name] = record
    return record


def _unit(name: str) -> str:
    return f"unit-{name.replace('/', '--')}.json"


def publish(delivery: Delivery, closing: Mapping[str, bytes]) -> None:
    """Commit the files that describe all units, and the closed list of files last."""
    files = {path: entry for record in delivery.units.values() for path, entry in record["files"].items()}
    for path, data in closing.items():
        commit_if_changed(delivery.folder / safe_path(path), data)
        files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    listing = {"schema_version": SCHEMA_VERSION, "files": dict(sorted(files.items()))}
    commit_if_changed(delivery.folder / TOP, json_bytes(listing))


def finish(delivery: Delivery) -> None:
    """Record that everything was delivered, and remove the request."""
    units = {name: dict(record) for name, record in delivery.units.items()}
    commit_json(delivery.folder / DONE, {"request": dict(delivery.request), "units": units})
    # after the record of the whole: a kill in between repeats this step alone
    (delivery.folder / WORK_FOLDER / _REQUEST).unlink(missing_ok=True)
    delivery.finished = True
