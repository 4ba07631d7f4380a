"""Publish a benchmark, or an archive of one, on the Hugging Face Hub, after checking its files and the terms of its sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, UsageError
from afbench.files import sha256_file
from afbench.storage.bagit import PAYLOAD
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.derived import derived_files
from afbench.storage.file_list import read_listing
from afbench.storage.manifests import LOG, TOP, open_benchmark
from afbench.storage.rights import (
    FORBIDDEN,
    RESIDUAL_LEVELS,
    Rights,
    hidden_sources,
    pixel_rights,
    revealing,
)
from afbench.storage.verify import rows_to_check, verify
from afbench.work_progress import OpenProgress, unheard

BATCH_FILES, BATCH_BYTES = 100, 5_000_000_000
"""Limits of one commit, which an interrupted upload has to send again."""

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]+")
_HUB_FILE = ".gitattributes"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A checked upload: the sizes of all ``files`` by path, the ``hashes`` of those in the folder, and the content of the
    ``derived`` ones, which no folder holds.

    ``gated`` means that readers must ask for access, because the terms of some source don't say that it may be shared.
    """

    folder: Path
    repo: str
    private: bool
    gated: bool
    files: Mapping[str, int]
    hashes: Mapping[str, str]
    derived: Mapping[str, bytes]
    rights: Rights

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def prepare(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    residuals: bool = False,
    may_share: bool = False,
    stage: OpenProgress = unheard,
) -> Upload:
    """Check that a folder is complete and may be published; send nothing.

    Args:
        folder: a benchmark, or an archive that ``export --to hdf5`` wrote.
        repo: ``user/name`` on the Hub.
        private: whether only the repository's owner may see it.
        residuals: publish an archive of the residuals instead; it is kept in ``folder/log``.
        may_share: the user states that pixels may be shared whose terms don't say so.
        stage: opens the progress of each stage.
    Raises:
        UsageError: if the folder is no benchmark or archive, ``repo`` is no valid name, or the pixels may not be shared.
        AfbenchError: if the folder is damaged.
    """
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UsageError(f"--to must be user/name, of letters, digits, '-', '_' and '.'; found '{repo}'")
    _require_publishable(folder)
    if residuals:
        # first the benchmark: residuals of a damaged one would be damaged too, with hashes that are right
        _check(folder, stage)
        folder = _archive(folder, stage)
    configs = open_benchmark(folder).configs
    rights = pixel_rights(configs)
    _refuse(folder, rights, may_share)
    _refuse_revealing(folder, configs, may_share)
    _check(folder, stage)
    derived = derived_files(folder)
    listing = read_listing(folder)
    files = {path: record["bytes"] for path, record in listing.items()}
    # the list of files does not list itself
    files[TOP] = (folder / TOP).stat().st_size
    files |= {name: len(data) for name, data in derived.items()}
    hashes = {path: record["sha256"] for path, record in listing.items()} | {TOP: sha256_file(folder / TOP)}
    return Upload(
        folder=folder,
        repo=repo,
        private=private,
        gated=bool(rights.unclear),
        files=dict(sorted(files.items())),
        hashes=hashes,
        derived=derived,
        rights=rights,
    )


def _require_publishable(folder: Path) -> None:
    listing = read_listing(folder)
    if "manifests/clean.json" not in listing and any(path.startswith("provenance/") for path in listing):
        raise UsageError(
            f"'{folder}' is an export for other tools; push takes a benchmark, or what `afbench export --to hdf5` writes"
        )
    open_benchmark(folder)


def _refuse(folder: Path, rights: Rights, may_share: bool) -> None:
    if rights.forbidden:
        source, terms = next(iter(rights.forbidden.items()))
        raise UsageError(
            f"'{folder}' holds pixels of {source}, which may not be shared ({terms}); publish the changes alone: "
            "add --residuals, or push what `afbench export --to hdf5 --residuals-only` writes"
        )
    if rights.unclear and not may_share:
        source, terms = next(iter(rights.unclear.items()))
        raise UsageError(
            f"'{folder}' holds pixels of {source}, and it is unclear whether they may be shared ({terms}); "
            "add --residuals to publish the changes alone, or --i-may-share if you know that you may"
        )


def _refuse_revealing(folder: Path, configs: Mapping[str, ConfigManifest], may_share: bool) -> None:
    """Raise if residuals of an archive are so large that they show the originals it leaves out."""
    sources = hidden_sources(configs)
    hidden = [source for source, word in sources.items() if word == FORBIDDEN or not may_share]
    if above := revealing(folder, configs, hidden):
        first = above[0]
        may = "may not" if sources[first.source] == FORBIDDEN else "perhaps may not"
        raise UsageError(
            f"'{folder}': {first.config} changes pixels of {first.source}, which {may} be shared, by up to {first.levels} "
            f"levels: above {RESIDUAL_LEVELS} residuals show the originals themselves; push an archive of other configs: "
            "afbench export --to hdf5 --residuals-only --config NAME"
        )


def _check(folder: Path, stage: OpenProgress) -> None:
    progress = stage("verify", "row")
    progress.start(rows_to_check(folder))
    if problems := verify(folder, progress.advance):
        first = problems[0]
        raise AfbenchError(
            f"'{folder}' is not as its manifests say ({len(problems)} problems, first: {first.path} {first.message}); "
            "nothing was sent; see `afbench verify`"
        )


def _archive(folder: Path, stage: OpenProgress) -> Path:
    """Export the archive of a benchmark's residuals, once; an interrupted export goes on."""
    from .export import export

    configs = open_benchmark(folder).configs
    out = folder / LOG / f"residuals-{sha256_file(folder / TOP)[:12]}"
    keep = None if pixel_rights(configs) == Rights({}, {}) else False
    progress = stage("export", "img")
    export(folder, out, "hdf5", with_originals=keep, start=progress.start, advance=progress.advance)
    return out


def send(upload: Upload, *, api: Any = None, stage: OpenProgress = unheard) -> str:
    """Upload the data first and the manifests last, so that half an upload is no dataset.

    Run again, it sends what is missing. Nothing on the Hub is deleted.

    Args:
        upload: from ``prepare``.
        api: a ``huggingface_hub.HfApi``; by default one with this machine's token.
        stage: opens the progress of each stage.
    Returns:
        The address of the dataset.
    Raises:
        UsageError: if there is no token, or the repository holds something else or is public and should not be.
        AfbenchError: if the Hub cannot be reached or refuses.
    """
    with _one_line():
        if api is None:
            from huggingface_hub import HfApi

            api = HfApi(library_name="afbench")
        api.whoami()
        _check_remote(api, upload)
        url = api.create_repo(upload.repo, repo_type="dataset", private=upload.private, exist_ok=True)
        if upload.gated:  # before the first image is there
            api.update_repo_settings(upload.repo, repo_type="dataset", gated="manual")
        progress = stage("push", "B")
        progress.start(upload.bytes)
        batches = list(_batches(upload))
        for number, paths in enumerate(batches, 1):
            api.create_commit(
                upload.repo,
                repo_type="dataset",
                operations=[_operation(upload, path) for path in paths],
                commit_message=f"Add benchmark made with afbench, part {number} of {len(batches)}",
            )
            progress.advance(sum(upload.files[path] for path in paths))
    return str(url)


def _check_remote(api: Any, upload: Upload) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(upload.repo, repo_type="dataset")
    except RepositoryNotFoundError:
        return
    if upload.private and not info.private:
        raise UsageError(
            f"dataset {upload.repo} exists and is public; make it private there, or give another --to"
        )
    remote_files = api.list_repo_files(upload.repo, repo_type="dataset")
    foreign_files = sorted({*remote_files} - {*upload.files, _HUB_FILE})
    if foreign_files:
        raise UsageError(
            f"dataset {upload.repo} holds {len(foreign_files)} files that are not of this benchmark (first: {foreign_files[0]}); "
            "remove them there, or give another --to"
        )


def _batches(upload: Upload) -> Iterator[Sequence[str]]:
    batch_bytes = 0
    batch: list[str] = []
    for path in (path for path in upload.files if path.startswith(PAYLOAD)):
        if batch and (len(batch) == BATCH_FILES or batch_bytes + upload.files[path] > BATCH_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(path)
        batch_bytes += upload.files[path]
    if batch:
        yield batch
    yield [path for path in upload.files if not path.startswith(PAYLOAD)]


def _operation(upload: Upload, path: str) -> Any:
    """Return the addition of a file to a commit; check its hash again, for hours may have passed since ``prepare``."""
    from huggingface_hub import CommitOperationAdd

    if path in upload.derived:
        return CommitOperationAdd(path, upload.derived[path])
    operation = CommitOperationAdd(path, str(upload.folder / path))
    if operation.upload_info.sha256.hex() != upload.hashes[path]:
        raise AfbenchError(f"'{upload.folder / path}' changed while it was sent; see `afbench verify`")
    return operation


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn an error of the Hub's client into a one-line error without any token."""
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError  # type: ignore[attr-defined]

    try:
        yield
    except AfbenchError:
        raise
    except LocalTokenNotFoundError:
        raise UsageError(
            "no Hugging Face token on this machine; run `hf auth login`, or set HF_TOKEN"
        ) from None
    # HTTPError is that of the HTTP library that this version of the client uses; its own errors are of the other classes
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        message = _TOKEN.sub("hf_***", " ".join(str(error).split()))[:300]
        raise AfbenchError(
            f"the Hugging Face Hub could not be used ({type(error).__name__}: {message}); run again to go on"
        ) from None
