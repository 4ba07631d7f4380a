"""Run a localizer behind a defence over a benchmark, into a submission."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from afbench.core import ByteImage, FloatImage, UsageError
from afbench.defences import Purifier, load_defence
from afbench.defences.purifier import require_owner
from afbench.engine import localize
from afbench.engine.io_pool import Submit, default_threads, threads
from afbench.files import commit_bytes, commit_json, sha256_file
from afbench.images import png_bytes
from afbench.localizers import load_localizer
from afbench.localizers.untrained import recorded_checkpoint
from afbench.scoring.package import BEGUN, MANIFEST
from afbench.scoring.truth import require_listed_manifests
from afbench.scoring.versions import part_hashes
from afbench.storage.manifests import (
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    open_benchmark,
    refuse_inside_benchmark,
    safe_path,
    shards_of,
)
from afbench.storage.shards import read_shards
from afbench.storage.stored_pixels import stored_picture
from afbench.version import __version__

from ..adaptive import adaptive_configs, attack_size_warning, require_oblivious
from ..attacked_localizer import require_architecture, require_attacked
from ..request import config_localizer
from .submission_folder import claimed_submission

if TYPE_CHECKING:
    import pandas as pd


_ROWS_AT_ONCE = 64


class Predicted(NamedTuple):
    """Number of images that a call localized, the configs, with source, that the benchmark got since the previous call, and
    what to be warned of.
    """

    images: int
    added: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of one row."""
        import pandas as pd

        return pd.DataFrame([self._asdict()])


def predict(
    data: Path,
    out: Path,
    *,
    localizer: str,
    localizer_name: str | None = None,
    defence: str | Purifier = "none",
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
    """Localize the originals, the authentic images and every attacked image of a localizer, behind a defence.

    ``manifest.json`` is written last. After an interruption, the same call keeps the files it finds and makes the rest. If
    the benchmark got new configs since, only those are localized.

    Args:
        data: a finished benchmark.
        out: the submission's folder: new, empty, or holding this very submission, finished or not.
        localizer: its name in the benchmark's configs, or a user's own ``my_package.my_module:build``.
        localizer_name: its name in the configs, if ``generate`` was given another one, e.g. for hardened weights.
        defence: as ``load_defence`` reads it, or what ``afbench.as_defence`` made.
        adaptive: take the configs whose attacks went through this defence instead of those made against the bare localizer.
        seed: of a random defence.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        display_name: the submission's name on a leaderboard; omitted, localizer and defence.
        authors: of the submission.
        day: the submission's date, ``YYYY-MM-DD``; omitted, today.
        probabilities: write 8-bit probability maps too, for auc and f1_best.
        device: where to compute.
        batch_size: images per batch; None to follow their size.
        start: called once with the number of images to localize.
        advance: called with the number of images just done.
    Raises:
        UsageError: if the benchmark has no config of this localizer or attacked other weights, or the folder holds
            something else.
        PartialError: if another process predicts into the folder.
    """
    refuse_inside_benchmark(out, as_folder=True)
    benchmark = open_benchmark(data)
    require_listed_manifests(benchmark)  # a submission of other ones could not be scored
    purifier = load_defence(defence, localizer=config_localizer(localizer), device=device, seed=seed)
    configs = _configs(benchmark, localizer_name or localizer, str(defence), purifier if adaptive else None)
    attacked_localizer = benchmark.configs[configs[-1]].provenance["localizer"]
    require_architecture(localizer, attacked_localizer, data)
    network = load_localizer(localizer, recorded_checkpoint(attacked_localizer, checkpoint), device=device)
    require_attacked(network, attacked_localizer, data)
    require_owner(purifier, network)
    warning = attack_size_warning(benchmark.configs[configs[-1]], network, purifier)
    warnings = () if warning is None else (warning,)
    label = f"{config_localizer(localizer_name or localizer)}-{purifier.label}{'-adaptive' * adaptive}"
    manifest = {
        **_manifest(benchmark, attacked_localizer, configs, purifier),
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
    with claimed_submission(out, manifest, benchmark) as submission:
        if not submission.unfinished:
            return Predicted(0, warnings=warnings)
        start(sum(count_rows(benchmark.configs[config]) for config in configs))
        image_count = 0
        hashes: dict[str, str] = {}
        write_futures: list[Future[dict[str, str]]] = []
        with threads(default_threads()) as submit:
            for config in configs:
                for split in benchmark.configs[config].splits:

                    def is_missing(sample_id: str, split: str = split, config: str = config) -> bool:
                        return not _is_there(
                            out, _path(attacked_localizer["name"], split, config, sample_id), probabilities
                        )

                    for rows in decoded_batches(benchmark, config, split, submit, is_wanted=is_missing):
                        paths = [
                            _path(attacked_localizer["name"], split, config, sample_id)
                            for sample_id in rows.ids
                        ]
                        maps = localize(
                            network, rows.images, defence=purifier.apply, batch_size=batch_size, device=device
                        )
                        previous_futures, write_futures = write_futures, []
                        for number, probability, _ in maps:
                            write_futures.append(
                                submit(
                                    _write, out, paths[number], probability, network.threshold, probabilities
                                )
                            )
                        for future in previous_futures:  # bounds the memory of images that wait to be written
                            hashes.update(future.result())
                        advance(rows.read)
                        image_count += len(paths)
            for future in write_futures:
                hashes.update(future.result())
        files = {
            # files of an interrupted call are hashed from the disk
            path: hashes.get(path) or sha256_file(out / path)
            for path in sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))
        }
        # last: a folder with this file is a complete submission
        commit_json(out / MANIFEST, {**manifest, "files_sha256": files})
        (out / BEGUN).unlink()
    return Predicted(image_count, submission.added, warnings)


def _configs(benchmark: Benchmark, localizer: str, defence: str, through: Purifier | None) -> list[str]:
    """List ``clean`` and ``authentic``, if the benchmark has them, then every config made against the localizer, or
    through the defence.
    """
    name = config_localizer(localizer)
    if through is not None:
        attacked_configs = adaptive_configs(benchmark, name, through)
        if not attacked_configs:
            raise UsageError(
                f"'{benchmark.folder}' has no config attacked through '{defence}' of localizer '{name}'; make them with "
                f"`afbench generate --localizer {localizer} --through-defence {defence}`"
            )
    else:
        attacked_configs = require_oblivious(benchmark, name)
    return [*(name for name in ORIGINALS if name in benchmark.configs), *attacked_configs]


def _manifest(
    benchmark: Benchmark, attacked_localizer: Mapping[str, Any], configs: Sequence[str], purifier: Purifier
) -> dict[str, Any]:
    """Return the keys of a submission's manifest that follow from benchmark and defence."""
    top, hashes = sha256_file(benchmark.folder / TOP), part_hashes(benchmark)
    return {
        "schema_version": 1,
        "paper_url": "",
        "code_url": "",
        "defence": {
            "type": purifier.name,
            "deterministic": purifier.seed is None,
            "seed": purifier.seed,
            "trained_on": list(purifier.trained_on),
            "params": dict(purifier.params),
            "extra_data": "",
        },
        "dataset": {"name": benchmark.folder.resolve().name, "version": top[:12], "manifest_sha256": top},
        "localizers": [
            {"id": attacked_localizer["name"], "weights_sha256": attacked_localizer["weights_sha256"]}
        ],
        "configs": list(configs),
        "configs_sha256": {config: hashes[config] for config in configs},
        "afbench_version": __version__,
    }


class DecodedRows(NamedTuple):
    """Ids and images of the wanted ones among ``read`` rows of a config."""

    ids: list[str]
    images: list[ByteImage]
    read: int


def decoded_batches(
    benchmark: Benchmark,
    config: str,
    split: str,
    submit: Submit,
    *,
    is_wanted: Callable[[str], bool] = lambda sample_id: True,
) -> Iterator[DecodedRows]:
    """Decode the images of a config whose id ``is_wanted``, batch by batch; the next batch is decoded while one is used.

    Raises:
        AfbenchError: if an image is damaged.
    """
    columns = ("sample_id", "image")
    rows = read_shards(benchmark.folder, shards_of(benchmark.configs[config], split), columns)

    def start() -> Callable[[], DecodedRows] | None:
        batch = list(islice(rows, _ROWS_AT_ONCE))
        if not batch:
            return None
        wanted_rows = [row for row in batch if is_wanted(str(row["sample_id"]))]
        decoding = [submit(stored_picture, benchmark.folder, row) for row in wanted_rows]
        ids = [str(row["sample_id"]) for row in wanted_rows]
        return lambda: DecodedRows(ids, [future.result() for future in decoding], len(batch))

    collect_next = start()
    while collect := collect_next:
        collect_next = start()
        yield collect()


def _path(localizer: str, split: str, config: str, sample_id: str) -> str:
    """Return the path of an image's prediction; the names come from a benchmark that anybody may have made.

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
    """Write the mask of an image, and its probability map if asked; return the sha256 of each file by path."""
    mask = Image.fromarray(np.where(probability > threshold, np.uint8(255), np.uint8(0))).convert("1")
    pictures = {f"predictions/{path}": mask}
    if probabilities:
        levels = np.rint(probability * 255).astype(np.uint8)
        pictures = {f"probs/{path}": Image.fromarray(levels), **pictures}
    # they can be made again, so nothing waits for the disk
    return {
        name: commit_bytes(out / name, png_bytes(picture), durable=False)
        for name, picture in pictures.items()
    }
