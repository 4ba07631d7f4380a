"""``afbench.load``: a benchmark as a torch Dataset of (original, adversarial, mask)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.argument_types import checks_arguments
from afbench.core import AfbenchError, UsageError
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, open_benchmark, stored_format

from .choose import choose_configs, choose_splits
from .copies import CopyStore
from .dataset import Item, Pair, PairDataset
from .hdf5_store import Hdf5Store
from .parquet_store import ParquetStore
from .store import Row, Store


@checks_arguments
def load(
    path: str | Path,
    config: str | None = None,
    *,
    split: str | None = None,
    originals: str | Path | Mapping[str, str] | None = None,
    transform: Callable[[Item], Any] | None = None,
) -> PairDataset:
    """Open a benchmark, or one of its archives, for training and evaluation.

    No image is read yet. The dataset may be indexed in any order and given to a ``DataLoader`` whose workers are
    forked or spawned; images of different sizes cannot be stacked, so use ``batch_size=None`` or a collate function
    of your own where ``dataset.sizes`` differ.

    Args:
        path: a folder that ``afbench generate`` made, or a folder of ``afbench export --to hdf5``.
        config: a config, ``<localizer>-<attack>`` for all its settings, or ``all``; omitted, the default of its card.
            ``clean`` and ``authentic`` give adversarial = original.
        split: one source; omitted, all of them, one behind the other.
        originals: where the originals are, if the archive has been made without them: a benchmark that holds them, or
            ``{source: root of your own copy}``. Their pixels are checked by hash.
        transform: called with each item when it is read, in the worker that reads it; what it returns takes the item's
            place. It gets original, adversarial image and mask at once, so that one crop or flip fits all three. With
            workers that are spawned it must be a function that can be pickled.
    Returns:
        A torch ``Dataset``; an item is ``{"sample_id", "group", "source", "config": str, "original", "adversarial":
        float32 (3, H, W) in [0, 1], "mask": float32 (1, H, W) of 0 and 1}``, or what ``transform`` returns for it.
    Raises:
        UsageError: if ``transform`` cannot be called, or there is no benchmark, config or split of this name, or its originals are nowhere.
        AfbenchError: if the benchmark is damaged.
    """
    store = open_store(Path(path))
    config_names = choose_configs(store.configs, config, Path(path))
    splits = choose_splits(store.configs, config_names, split, Path(path))
    bases = _originals(store, Path(path), originals, splits)
    pairs: list[Pair] = []
    for name in splits:
        original_rows: dict[str, dict[str, Row]] = {}
        for config_name in config_names:
            kind = config_name if config_name in ORIGINALS else CLEAN
            # all attacked configs of a split share their originals: list them once
            if kind not in original_rows:
                original_rows[kind] = {row.sample_id: row for row in bases[name].rows(kind, name)}
            rows = store.rows(config_name, name)
            holder = f"'{path}'" if bases[name] is store else f"originals '{originals}'"
            pairs += [Pair(row, _original_of(row, original_rows[kind], holder)) for row in rows]
    return PairDataset(store, bases, pairs, transform)


def open_store(path: Path) -> Store:
    """Open the benchmark or archive at a path.

    Raises:
        UsageError: if it is neither a finished benchmark nor a finished archive.
    """
    if path.is_file():
        raise UsageError(f"'{path}' is a file; give the folder of a benchmark or of an archive")
    return Hdf5Store(path) if stored_format(open_benchmark(path).configs) == "hdf5" else ParquetStore(path)


def _originals(
    store: Store, path: Path, originals: str | Path | Mapping[str, str] | None, splits: Sequence[str]
) -> dict[str, Store]:
    """Find the store that holds the originals, for every split.

    Raises:
        UsageError: if neither the benchmark nor ``originals`` holds those of a split.
    """
    lacking = [split for split in splits if not store.holds_images(CLEAN, split)]
    stores = dict.fromkeys(splits, store)
    if not lacking:
        return stores
    if originals is None:
        raise UsageError(
            f"'{path}' holds no originals of {', '.join(lacking)}, only what was changed in them; give originals= a "
            "benchmark that has them or {source: root of your own copy}, or run `afbench restore`"
        )
    if isinstance(originals, Mapping):
        fallback: Store = CopyStore(
            store, {name: root for name, root in originals.items() if name in lacking}
        )
    else:
        fallback = open_store(Path(originals))
    for split in lacking:
        if CLEAN not in fallback.configs or not fallback.holds_images(CLEAN, split):
            raise UsageError(f"originals '{originals}' holds none of source '{split}'")
        stores[split] = fallback
    return stores


def _original_of(row: Row, original_rows: Mapping[str, Row], holder: str) -> Row:
    kind = AUTHENTIC if row.config == AUTHENTIC else CLEAN
    original = original_rows.get(row.sample_id)
    if original is None:
        raise AfbenchError(
            f"{row.sample_id} of {row.source}: its original is not in config {kind} of {holder}"
        )
    # the name alone proves nothing: another benchmark may hold other pixels under it
    if original.image_sha256 != row.original_sha256 or original.mask_sha256 != row.mask_sha256:
        raise AfbenchError(
            f"{row.sample_id} of {row.source}: config {row.config} was made from another original or mask than {holder} holds"
        )
    return original
