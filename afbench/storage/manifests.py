"""Read the manifests of a benchmark, and check the names and paths in them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, ShardFormat, UsageError
from afbench.plans import ATTACKS, stored_phi
from afbench.plans.attack_spec import BUILD
from afbench.untrusted import quoted, require_name
from afbench.user_code import parse_function

from .config_manifest import ConfigManifest, ShardRecord, SplitManifest
from .shard_format import format_of_path

TOP = "MANIFEST.json"
WORK = ".afbench"
"""Headers and records of a run in progress; not part of the benchmark."""
LOG = "log"
CLEAN, AUTHENTIC = "clean", "authentic"
ORIGINALS = (CLEAN, AUTHENTIC)
"""Configs that hold what nobody attacked: the originals of attacked images, and images nobody forged."""

SAME_F1 = 0.005
"""Greatest difference of a mean F1 between two machines that the levels of determinism allow."""
PROMISES = {
    "L0": "the same machine, batch size and threads give the same bytes again",
    "L1": "the same GPU model and versions give the same bytes again",
    "L2": f"mean F1 within {SAME_F1} of this (0.01 with loss=masked-ce), the bound exact; other bytes",
}
"""What holds for an image that is made again, by how it was made; the first includes the third everywhere else."""

MOST_FOLDERS = 16
_PART = re.compile(r"[A-Za-z0-9_.-]{1,255}")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's folder with its config manifests, by config name."""

    folder: Path
    configs: Mapping[str, ConfigManifest] = field(default_factory=dict)

    @property
    def attacked(self) -> dict[str, ConfigManifest]:
        return {name: manifest for name, manifest in self.configs.items() if name not in ORIGINALS}


def open_benchmark(folder: Path) -> Benchmark:
    """Read the manifests of a finished benchmark.

    Raises:
        UsageError: if the folder is none.
        AfbenchError: if a manifest is damaged or names a path outside the folder.
    """
    require_benchmark(folder)
    read_json(folder / TOP)  # damaged, it would be told only by who looks for a file in it
    if not holds_rows(folder):
        raise UsageError(
            f"'{folder}' is an export: plain pictures, without the rows of a benchmark, which this command reads; give "
            f"the benchmark it was made of. `afbench verify {folder}` checks it, `datasets.load_dataset` reads it"
        )
    configs = read_configs(folder)
    if CLEAN not in configs:
        raise AfbenchError(f"'{folder}' is damaged: manifests/clean.json is missing; see `afbench verify`")
    return Benchmark(folder, configs)


def refuse_inside_benchmark(path: Path, option: str = "--out", *, as_folder: bool = False) -> None:
    """Refuse a path below a benchmark, whose list of files is closed, unless it is in its ``log/``.

    Args:
        path: what is to be written.
        option: what gave it.
        as_folder: files are written into it, so it may not be a benchmark either.
    Raises:
        UsageError: with the benchmark.
    """
    target = path.resolve()
    for folder in [target, *target.parents] if as_folder else target.parents:
        # a MANIFEST.json alone may be of anything
        is_listed = (folder / TOP).is_file() and any(
            (folder / name).is_dir() for name in ("manifests", "provenance")
        )
        if is_listed and not target.is_relative_to(folder / LOG):
            place = "is a benchmark" if folder == target else f"lies inside the benchmark '{folder}'"
            raise UsageError(f"{option} '{path}' {place}, which is a closed list; use {folder / LOG}/")


def require_benchmark(folder: Path) -> None:
    """Refuse a folder that is no finished benchmark.

    Raises:
        UsageError: if it is none.
    """
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "it does not exist"
        raise UsageError(f"'{folder}' is no benchmark: {reason}")
    if not (folder / TOP).is_file():
        hint = (
            "; a run there is not finished: run `afbench generate` again" if (folder / WORK).is_dir() else ""
        )
        raise UsageError(f"'{folder}' is no benchmark: {TOP} is missing{hint}")


def holds_rows(folder: Path) -> bool:
    """Return whether a folder holds shards; an export as plain pictures has none."""
    return (folder / "manifests").is_dir() or not (folder / "provenance").is_dir()


def read_configs(folder: Path) -> dict[str, ConfigManifest]:
    """Read ``manifests/*.json``: ``clean`` first, then by localizer, attack and growing strength.

    Raises:
        AfbenchError: if one is damaged.
    """
    configs = {}
    for path in sorted((folder / "manifests").glob("*.json")):
        stored = read_json(path)
        try:
            manifest = ConfigManifest.from_json(stored)
            check_names(manifest)
            # a file that was copied or renamed would stand for another config
            if manifest.config != path.stem:
                raise AfbenchError(f"it says that it is of config {quoted(manifest.config)}")
            # raises here if an attack or its strength cannot be read, not later in a sort
            config_order(manifest)
            configs[manifest.config] = manifest
        # anybody may have written the manifest, so any key may be of any type
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError):
            raise AfbenchError(
                f"manifest '{path}' is damaged: a key is missing or of the wrong type"
            ) from None
        except AfbenchError as error:
            raise AfbenchError(f"manifest '{path}' is damaged: {error}") from None
    return dict(sorted(configs.items(), key=lambda item: config_order(item[1])))


def is_archive(manifest: ConfigManifest) -> bool:
    """Return whether a config's manifest is of an archive."""
    return any(part.archive is not None for part in manifest.splits.values())


def stored_format(configs: Mapping[str, ConfigManifest]) -> ShardFormat:
    """Return the format of the shards of a folder, by its configs."""
    paths = shard_paths(configs[CLEAN])
    return format_of_path(paths[0]) if paths else "parquet"


def splits_of(configs: Mapping[str, ConfigManifest], name: str) -> Mapping[str, SplitManifest]:
    """Return the splits of a config; none where there is no such config."""
    return configs[name].splits if name in configs else {}


def check_names(manifest: ConfigManifest) -> None:
    """Refuse a manifest in which a config, localizer, split or sample has a name that cannot become a path or a line.

    Raises:
        AfbenchError: with the first of it.
        KeyError, TypeError, AttributeError: if a key is missing or of the wrong type.
    """
    require_name("config", manifest.config)
    if manifest.config not in ORIGINALS:
        require_name("localizer", manifest.provenance["localizer"]["name"])
    for split in manifest.splits:
        require_name("split", split)
    for shard in manifest.shards:
        check_shard(shard)


def check_shard(shard: ShardRecord) -> None:
    """Refuse a shard's record in which a path, a sample or a reason is none.

    Raises:
        AfbenchError: with the first of it.
        KeyError: if a key of an excluded sample is missing.
    """
    safe_path(shard.path)
    for key, sample_id in (("first_id", shard.first_id), ("last_id", shard.last_id)):
        if sample_id is not None:
            require_name(key, sample_id)
    for config in shard.together or ():
        require_name("config", config)
    for sample in shard.excluded:
        require_name("sample", sample["sample_id"])
        require_name("reason", sample["reason"])


def config_order(manifest: ConfigManifest) -> tuple[Any, ...]:
    """Return the sort key of a config: ``clean``, ``authentic``, then by localizer, attack, phi and steps."""
    if manifest.config in ORIGINALS:
        return 0, ORIGINALS.index(manifest.config)
    provenance = manifest.provenance
    attack = str(provenance["attack"])
    if attack not in ATTACKS:  # the maker's own
        require_name("attack", attack)
        if parse_function(str(provenance["params"][BUILD])) is None:
            raise ValueError(f"attack '{attack}' is no attack, and no function built it")
    order = list(ATTACKS).index(attack) if attack in ATTACKS else len(ATTACKS)
    strength = float(stored_phi(provenance["phi"]) or 0), int(provenance["steps"])
    return 1, manifest.localizer_name, order, attack, *strength, manifest.config


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        AfbenchError: if it is missing, no JSON, or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    # RecursionError: JSON nested deeper than Python's stack
    except (OSError, ValueError, RecursionError) as error:
        raise AfbenchError(f"'{path}' cannot be read: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(value, dict):
        raise AfbenchError(f"'{path}' holds no JSON object")
    return value


def safe_path(path: str) -> str:
    """Return a relative path of plain names; refuse everything else.

    Raises:
        AfbenchError: for ``..``, absolute paths and odd characters.
    """
    parts = path.split("/") if isinstance(path, str) else [""]
    if len(parts) > MOST_FOLDERS or not all(map(_is_part, parts)):
        raise AfbenchError(f"path {quoted(path)} in a manifest leaves its folder or holds odd characters")
    return path


def _is_part(name: str) -> bool:
    # a path may be longer than a name by its suffix
    return bool(_PART.fullmatch(name)) and name not in (".", "..")


def ids_sha256(ids: Sequence[str]) -> str:
    """Hash a list of sample ids, in order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def shards_of(manifest: ConfigManifest, split: str | None = None) -> list[ShardRecord]:
    """List the records of a config's shards, in order; of one split where it is named."""
    parts = (part for name, part in manifest.splits.items() if split in (None, name))
    return [shard for part in parts for shard in part.shards]


def shard_paths(manifest: ConfigManifest, split: str | None = None) -> list[str]:
    """List the paths of a config's shards, as ``shards_of``."""
    return [shard.path for shard in shards_of(manifest, split)]


def file_patterns(manifest: ConfigManifest, config: str, split: str) -> list[str]:
    """Return the patterns that find the shards of one split: one for its first shards, and one for each time that it grew."""
    patterns = (re.sub(r"-[0-9]{5}-of-[0-9]{5}\.", "-*.", path) for path in shard_paths(manifest, split))
    return list(dict.fromkeys(patterns)) or [f"data/{config}/{split}-*.parquet"]


def count_rows(manifest: ConfigManifest) -> int:
    """Count the images of a config."""
    return sum(shard.rows for shard in manifest.shards)


def promised_levels(manifest: ConfigManifest) -> list[str]:
    """Return the levels of determinism of a config's shards, each once; empty for originals and where nobody wrote them down."""
    return sorted({shard.determinism for shard in manifest.shards if shard.determinism})


def excluded_samples(manifest: ConfigManifest) -> list[Mapping[str, str]]:
    """List the samples a config does not hold, each with ``sample_id``, ``reason`` and ``detail``."""
    return [sample for shard in manifest.shards for sample in shard.excluded]
