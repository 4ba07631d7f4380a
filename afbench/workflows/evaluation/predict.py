"""Run a localizer behind a defence over a benchmark, into a submission."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from afbench.core import AfbenchError, BadSample, ByteImage, FloatImage, UsageError
from afbench.defences import Purifier, load_defence
from afbench.defences.purifier import require_owner
from afbench.engine import localize
from afbench.engine.io_pool import Submit, default_threads, threads
from afbench.images import decode_stored
from afbench.localizers import load_localizer
from afbench.scoring.package import BEGUN, MANIFEST
from afbench.scoring.versions import part_hashes
from afbench.storage.commit import commit_json, sha256_file
from afbench.storage.manifests import (
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    open_benchmark,
    safe_path,
    shard_paths,
)
from afbench.storage.shards import read_rows
from afbench.version import __version__

from ..adaptive import adaptive_configs, require_oblivious
from ..attacked_localizer import require_architecture, require_attacked
from ..request import config_localizer
from .submission_folder import claim_submission

_ROWS_AT_ONCE = 64


class Predicted(NamedTuple):
    """Images localized by a call, and the configs, with their source, that were added to the benchmark since the last one."""

    images: int
    added: tuple[str, ...] = ()


def predict(
    data: Path,
    out: Path,
    *,
    localizer: str,
    localizer_name: str | None = None,
    defence: str = "none",
    adaptive: bool = False,
    seed: int = 0,
    checkpoint: str | None = None,
    display_name: str | None = None,
    authors: Sequence[str] = (),
    day: str | None = None,
    probabilities: bool = False,
    device: str = "cpu",
    batch_size: int | None = None,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Predicted:
    """Localize every image of a benchmark made against a localizer, its originals and authentic images, behind a defence.

    Writes ``manifest.json`` last; what is there of an interrupted call is kept and gone on from. Where configs were added to the
    benchmark since, only those are localized.

    Args:
        data: a finished benchmark.
        out: the submission's folder: new, empty, or holding this very submission, finished or not.
        localizer: what the benchmark's configs call it, or a user's own ``my_package.my_module:build``.
        localizer_name: what the configs call it, where ``generate`` was told another name, e.g. of hardened weights.
        defence: as ``load_defence`` reads it.
        adaptive: take the configs whose attacks went through this defence instead of those made against the bare localizer.
        seed: of a random defence.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        display_name: what a leaderboard calls the submission; omitted, localizer and defence.
        authors: whose it is.
        day: its date, ``YYYY-MM-DD``; omitted, today.
        probabilities: write 8-bit probability maps too, for auc and f1_best.
        device: where to compute.
        batch_size: images per launch; None to follow their size.
        start: told how many images there are to localize.
        advance: told how many were just done.
    Raises:
        UsageError: if the benchmark has no config of this localizer, its weights are others, or the folder holds
            something else.
    """
    benchmark = open_benchmark(data)
    purifier = load_defence(defence, localizer=config_localizer(localizer), device=device, seed=seed)
    configs = _configs(benchmark, localizer_name or localizer, defence, purifier if adaptive else None)
    how = benchmark.configs[configs[-1]].provenance["localizer"]
    require_architecture(localizer, how, data)
    network = load_localizer(localizer, checkpoint or ("random" if how["untrained"] else None), device=device)
    require_attacked(network, how, data)
    require_owner(purifier, network)
    label = f"{config_localizer(localizer_name or localizer)}-{purifier.label}{'-adaptive' * adaptive}"
    manifest = {
        **_manifest(benchmark, how, configs, purifier),
        "attack_knowledge": "adaptive" if adaptive else "oblivious",
        "submission_id": label,
        "display_name": display_name or label,
        "authors": list(authors),
        "date": day or date.today().isoformat(),
        "prediction": {
            "kind": "mask+probability" if probabilities else "mask",
            "threshold": network.threshold,
        },
    }
    claimed = claim_submission(out, manifest, benchmark)
    if not claimed.unfinished:
        return Predicted(0)
    start(sum(count_rows(benchmark.configs[config]) for config in configs))
    done = 0
    written: dict[str, str] = {}
    writing: list[Future[dict[str, str]]] = []
    with threads(default_threads()) as submit:
        for config in configs:
            for split in benchmark.configs[config].splits:

                def is_missing(sample_id: str, split: str = split, config: str = config) -> bool:
                    return not _is_there(out, _path(how["name"], split, config, sample_id), probabilities)

                for rows in decoded_batches(benchmark, config, split, submit, wanted=is_missing):
                    paths = [_path(how["name"], split, config, sample_id) for sample_id in rows.ids]
                    maps = localize(
                        network, rows.images, defence=purifier.apply, batch_size=batch_size, device=device
                    )
                    before, writing = writing, []
                    for number, probability in maps:
                        writing.append(
                            submit(_write, out, paths[number], probability, network.threshold, probabilities)
                        )
                    for future in before:  # so that what waits to be written does not grow
                        written.update(future.result())
                    advance(rows.read)
                    done += len(paths)
        for future in writing:
            written.update(future.result())
    files = {
        path: written.get(path) or sha256_file(out / path)
        for path in sorted(found.relative_to(out).as_posix() for found in out.rglob("*.png"))
    }
    commit_json(out / MANIFEST, {**manifest, "files_sha256": files})
    (out / BEGUN).unlink()
    return Predicted(done, claimed.added)


def _configs(benchmark: Benchmark, localizer: str, defence: str, through: Purifier | None) -> list[str]:
    """``clean`` and ``authentic``, as far as they are there, then every config made against a localizer, or through a
    defence of it."""
    wanted = config_localizer(localizer)
    if through is not None:
        chosen = adaptive_configs(benchmark, wanted, through)
        if not chosen:
            raise UsageError(
                f"'{benchmark.folder}' has no config attacked through '{defence}' of localizer '{wanted}'; make them with "
                f"`afbench generate --localizer {localizer} --through-defence {defence}`"
            )
    else:
        chosen = require_oblivious(benchmark, wanted)
    return [*(name for name in ORIGINALS if name in benchmark.configs), *chosen]


def _manifest(
    benchmark: Benchmark, how: Mapping[str, Any], configs: Sequence[str], purifier: Purifier
) -> dict[str, Any]:
    """What benchmark and defence decide of a submission's manifest."""
    top, hashes = sha256_file(benchmark.folder / TOP), part_hashes(benchmark)
    return {
        "schema_version": 1,
        "paper_url": "",
        "code_url": "",
        "defence": {
            "type": purifier.name,
            "deterministic": purifier.deterministic,
            "seed": purifier.seed,
            "trained_on": list(purifier.trained_on),
            "params": dict(purifier.params),
            "extra_data": "",
        },
        "dataset": {"name": benchmark.folder.resolve().name, "version": top[:12], "manifest_sha256": top},
        "localizers": [{"id": how["name"], "weights_sha256": how["weights_sha256"]}],
        "configs": list(configs),
        "configs_sha256": {config: hashes[config] for config in configs},
        "afbench_version": __version__,
    }


class DecodedRows(NamedTuple):
    """Ids and images of some rows of a config, out of ``read`` that were looked at."""

    ids: list[str]
    images: list[ByteImage]
    read: int


def decoded_batches(
    benchmark: Benchmark,
    config: str,
    split: str,
    submit: Submit,
    *,
    wanted: Callable[[str], bool] = lambda sample_id: True,
) -> Iterator[DecodedRows]:
    """Decode a config's rows, those whose id is ``wanted``, some at a time; the next are decoded while these are looked at.

    Raises:
        AfbenchError: if an image is damaged.
    """
    columns = ("sample_id", "image")
    rows = read_rows(benchmark.folder, shard_paths(benchmark.configs[config], split), columns)

    def start() -> Callable[[], DecodedRows] | None:
        batch = list(islice(rows, _ROWS_AT_ONCE))
        if not batch:
            return None
        chosen = [row for row in batch if wanted(str(row["sample_id"]))]
        decoding = [submit(_decoded, benchmark.folder, row["image"]) for row in chosen]
        ids = [str(row["sample_id"]) for row in chosen]
        return lambda: DecodedRows(ids, [future.result() for future in decoding], len(batch))

    following = start()
    while current := following:
        following = start()
        yield current()


def _decoded(data: Path, image: bytes) -> ByteImage:
    try:
        return decode_stored(image)
    except BadSample as problem:
        raise AfbenchError(f"'{data}' is damaged: {problem}; see `afbench verify {data}`") from None


def _path(localizer: str, split: str, config: str, sample_id: str) -> str:
    """Where an image's prediction lies; the names come from a benchmark that anybody may have made.

    Raises:
        AfbenchError: if they lead out of the submission.
    """
    return safe_path(f"{localizer}/{split}/{config}/{sample_id}.png")


def _is_there(out: Path, path: str, probabilities: bool) -> bool:
    kinds = ("predictions", "probs") if probabilities else ("predictions",)
    return all((out / kind / path).is_file() for kind in kinds)


def _write(
    out: Path, path: str, probability: FloatImage, threshold: float, probabilities: bool
) -> dict[str, str]:
    """Write what a localizer found in an image; gives the sha256 of every file, by its path in the submission."""
    mask = Image.fromarray(np.where(probability > threshold, np.uint8(255), np.uint8(0))).convert("1")
    pictures = {f"predictions/{path}": mask}
    if probabilities:
        levels = np.rint(probability * 255).astype(np.uint8)
        pictures = {f"probs/{path}": Image.fromarray(levels), **pictures}
    return {name: _save(picture, out / name) for name, picture in pictures.items()}


def _save(picture: Image.Image, path: Path) -> str:
    """Write a PNG that is there whole or not at all, and give its sha256; it can be made again, so nothing waits for the disk."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=False)
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(stream.getvalue())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AfbenchError(
            f"cannot write '{path}': {error.strerror or error}; run again to go on from here"
        ) from None
    return hashlib.sha256(stream.getvalue()).hexdigest()
