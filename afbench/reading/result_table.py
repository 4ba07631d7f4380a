"""``afbench.results``: what the shards say of every image, as a DataFrame; no pixel is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import AfbenchError
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import ORIGINALS, WORK, open_benchmark, shards_of
from afbench.storage.schema import columns_of
from afbench.storage.shards import read_shards

from .choose import choose_configs, choose_splits

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {"string": "string", "int32": "int64", "int64": "int64", "float64": "float64"}
_NULLABLE = {"int32": "Int64", "int64": "Int64"}
_MAY_BE_NULL = ("zero_gradient_pixels", "unread_pixels")


@checks_arguments
def results(
    folder: str | Path, config: str | Sequence[str] | None = None, *, split: str | None = None
) -> pd.DataFrame:
    """Read a benchmark's figures: one row per image and config, in the order of the shards.

    Args:
        folder: a folder that ``afbench generate`` made, or an HDF5 archive, also one without originals.
        config: a config, ``<localizer>-<attack>`` for all its settings, or several of these; omitted, every attacked config.
            ``clean`` and ``authentic`` have no figures, but sizes, kinds and hashes.
        split: one source; omitted, all of them.
    Returns:
        A ``pandas.DataFrame`` with ``config``, ``sample_id``, ``localizer``, ``attack``, ``phi`` (of the [0, 1] range;
        NaN for C&W), ``phi_255`` (the same in 255ths), ``steps``, ``defence`` (what the attack went through),
        ``source``, ``kind``, ``group``, ``height``, ``width``, ``f1_clean`` and ``f1_adv`` (F1 before and after the
        attack), ``iou_*``, ``loss_*``, ``tp``, ``fp``, ``fn``, ``tn`` (pixels of the attacked image), ``psnr`` (dB; NaN
        where nothing changed), ``ssim``, ``linf`` (8-bit levels), ``l2``, ``changed`` (share of values) and hashes.
        F1 and IoU are NaN where they are undefined.
    Raises:
        UsageError: if there is no finished benchmark, or no config or split of this name.
        AfbenchError: if a shard is damaged.

    While a run adds configs to the folder, or after one was stopped, only what is published is read, and a warning names it.
    """
    import pandas as pd

    folder = Path(folder)
    configs = open_benchmark(folder).configs
    names = _chosen_configs(configs, config, folder)
    splits = choose_splits(configs, names, split, folder)
    if (folder / WORK).is_dir():
        warnings.warn(
            f"'{folder}' has a run that is not finished; this table covers what is published: {', '.join(names)}",
            stacklevel=2,
        )
    rows = [row for name in names for row in _rows_of(folder, configs[name], splits)]
    columns = _columns(names)
    # originals lack most columns of attacked configs
    mixed = len({name in ORIGINALS for name in names}) > 1
    types = {
        column: (_TYPES | _NULLABLE if mixed or column in _MAY_BE_NULL else _TYPES)[kind]
        for column, kind in columns.items()
    }
    return pd.DataFrame.from_records(rows, columns=list(columns)).astype(types)


def _chosen_configs(
    configs: Mapping[str, ConfigManifest], config: str | Sequence[str] | None, folder: Path
) -> list[str]:
    if config is None:
        attacked = [name for name in configs if name not in ORIGINALS]
        return attacked or choose_configs(configs, None, folder)
    requested = [config] if isinstance(config, str) else config
    chosen = [name for text in requested for name in choose_configs(configs, text, folder)]
    return list(dict.fromkeys(chosen))


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Return the columns of the table with their kinds: those of the shards but for the pictures, and what a manifest adds."""
    kinds: dict[str, str] = {"config": "string"}
    # attacked configs first: they have every column that originals have
    for name in sorted(names, key=lambda name: name in ORIGINALS):
        for column, kind in columns_of(name).items():
            if kind not in ("image", "mask"):
                kinds.setdefault(column, kind)
            if column == "phi":
                kinds["phi_255"] = "float64"
            if column == "steps":
                kinds["defence"] = "string"
    return kinds


def _rows_of(folder: Path, manifest: ConfigManifest, splits: Sequence[str]) -> list[dict[str, Any]]:
    scalars = [
        column for column, kind in columns_of(manifest.config).items() if kind not in ("image", "mask")
    ]
    stated: dict[str, Any] = {"config": manifest.config}
    if manifest.provenance:
        phi = manifest.provenance["phi"]
        stated["phi_255"] = None if phi is None else float(255 * Fraction(phi))
        stated["defence"] = manifest.provenance.get("defence", {}).get("name")
    rows = []
    for split in splits:
        if split not in manifest.splits:
            continue
        split_rows = list(read_shards(folder, shards_of(manifest, split), scalars))
        expected = sum(shard.rows for shard in manifest.splits[split].shards)
        if len(split_rows) != expected:
            raise AfbenchError(
                f"config {manifest.config} of '{folder}' holds {len(split_rows)} rows of {split}, expected {expected}; "
                f"`afbench verify {folder}` says what is damaged"
            )
        rows += [{**stated, **row} for row in split_rows]
    return rows
