"""Read scores without trust: check their shape, their types, and that their figures follow from their images."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError, UsageError
from afbench.schemas import schema_problem
from afbench.storage.probe import probe_tables
from afbench.untrusted import is_name, quoted

from .image_level import image_level, pixel_thresholds
from .output import IMAGE_SCORES
from .problems import printable
from .score_tables import build_tables, score_rows
from .versions import dataset_version

SCORE, PER_IMAGE = "score.json", "per_image.parquet"
KEY = ["localizer", "config", "source", "sample_id"]
"""What makes a row of ``per_image`` one image under one localizer."""

_TYPES = {
    **dict.fromkeys(["localizer", "source", "config", "attack", "sample_id"], pa.string()),
    **dict.fromkeys(["steps", "tp", "fp", "fn", "tn"], pa.int64()),
    **dict.fromkeys(["phi", "f1_original", "f1_undefended", "auc", "f1_best"], pa.float64()),
}
_OPTIONAL = dict.fromkeys(IMAGE_SCORES, pa.float64())
_MAX_JSON, _MAX_TABLE, _MAX_ROWS = 1 << 28, 1 << 32, 50_000_000
_MAX_TEXT, _MAX_DEPTH = 5000, 20
_CLOSE = 1e-9


@dataclass(frozen=True)
class StoredScore:
    """One score: ``record`` is score.json, ``per_image`` its sorted rows with their F1."""

    folder: Path
    record: Mapping[str, Any]
    per_image: pd.DataFrame

    @property
    def seen(self) -> list[str]:
        return list(self.record["defence"]["trained_on"])


def read_score(folder: Path) -> StoredScore:
    """Read what ``afbench score`` wrote, like ``read_scores`` with one folder."""
    (score,) = read_scores([folder])
    return score


def read_scores(folders: Sequence[Path]) -> Iterator[StoredScore]:
    """Yield what ``afbench score`` wrote into each folder; one bounded process examines all tables before the first is read.

    Raises:
        UsageError: if a folder holds no score.
        AfbenchError: if a score is damaged, in one line that says where.
    """
    for folder in folders:
        if not (folder / SCORE).is_file():
            raise UsageError(f"'{folder}' holds no score: {SCORE} is missing; `afbench score` makes one")
    records = [_read_record(folder / SCORE) for folder in folders]
    tables = {str(folder / PER_IMAGE): _MAX_TABLE for folder in folders if (folder / PER_IMAGE).is_file()}
    for problem in probe_tables(Path(), tables, columns=[*_TYPES, *_OPTIONAL], batch_rows=1024):
        raise AfbenchError(f"'{problem.path}' cannot be read: {printable(problem.message, 160)}")
    for folder, record in zip(folders, records, strict=True):
        yield StoredScore(folder, record, _read_rows(folder / PER_IMAGE))


def find_scores(paths: Sequence[Path]) -> list[Path]:
    """Find score folders: each path that is one, or those right inside it, by name; each once.

    Raises:
        UsageError: if a path holds none.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        score_folders = (
            [path]
            if (path / SCORE).is_file()
            else sorted(score_file.parent for score_file in path.glob(f"*/{SCORE}"))
        )
        if not score_folders:
            raise UsageError(
                f"'{path}' holds no score: no {SCORE} there or one folder below; `afbench score` makes one"
            )
        # two paths may lead to one folder
        for folder in score_folders:
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def verified_tables(score: StoredScore) -> dict[str, Any]:
    """Compute every table again from the images, with the board's own draws.

    Raises:
        AfbenchError: if a figure in score.json is another.
    """
    if fault := _unlike_configs(score):
        raise AfbenchError(
            f"'{score.folder}': {SCORE} does not follow from {PER_IMAGE}: {fault}; score it again"
        )
    tables = build_tables(score.per_image, seen_in_training=score.seen)
    orders: dict[str, Callable[[Any], Any]] = {"configs": _by_config, "aggregates": dict}
    if "image_level" in score.record:  # scores of older versions have none
        thresholds = pixel_thresholds(score.record.get("localizers", {}))
        tables["image_level"] = image_level(score.per_image, thresholds)
        orders["image_level"] = list
    for name, order in orders.items():
        if fault := _unlike(order(score.record[name]), order(tables[name]), name):
            raise AfbenchError(
                f"'{score.folder}': {SCORE} does not follow from {PER_IMAGE}: {printable(fault)}; score it again"
            )
    return tables


def _by_config(figures: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort rows of configs by name: versions of afbench list attacks in different orders."""
    return sorted(figures, key=lambda row: (row["localizer"], row["config"], row["source"]))


def _unlike_configs(score: StoredScore) -> str | None:
    """Describe where the configs that a score hashes differ from those of its images; None if nowhere."""
    recorded = score.record.get("configs_sha256")
    if recorded is None:
        return None
    named = {
        (localizer, config, source)
        for localizer, parts in recorded.items()
        for config, sources in parts.items()
        for source in sources
    }
    rows = set(score.per_image[["localizer", "config", "source"]].itertuples(index=False, name=None))
    if odd := sorted(named ^ rows if not score.record.get("missing") else rows - named):
        return f"configs_sha256 and the images differ, first in {'/'.join(odd[0])}"
    if score.record["dataset_version"] != dataset_version(recorded):
        return "dataset_version is not that of configs_sha256"
    return None


def _read_record(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it is larger than {_MAX_JSON} bytes")
        record = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(record, allow_nan=False).encode()  # neither NaN nor half a surrogate pair
        odd = next((text for text in _texts(record) if not _is_plain(text)), None)
    except (OSError, ValueError, RecursionError) as error:
        raise AfbenchError(f"'{path}' cannot be read: {printable(str(error), 120)}") from None
    if message := schema_problem("score", record):
        raise AfbenchError(f"'{path}' is no score: {message}")
    if odd is not None:
        raise AfbenchError(f"'{path}' is no score: invisible characters, or too long: '{printable(odd, 80)}'")
    return {"date": "", "paper_url": "", "code_url": "", **record}


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner, depth + 1)


def _is_plain(text: str) -> bool:
    """Return whether a text has no invisible character, such as control ones, except the joiners that some scripts need."""
    return len(text) <= _MAX_TEXT and all(
        character.isprintable() or character in "\u200c\u200d" for character in text
    )


def _read_rows(path: Path) -> pd.DataFrame:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            if (
                file.metadata.num_rows > _MAX_ROWS
                or sum(group.total_byte_size for group in groups) > _MAX_TABLE
            ):
                raise ValueError(f"it claims {file.metadata.num_rows} rows")
            if missing := sorted(_TYPES.keys() - set(file.schema_arrow.names)):
                raise ValueError(f"it lacks the columns {', '.join(missing)}")
            optional = {name: kind for name, kind in _OPTIONAL.items() if name in file.schema_arrow.names}
            types = pa.schema(list((_TYPES | optional).items()))
            table = file.read(columns=types.names, use_threads=False).select(types.names).cast(types)
        rows = table.to_pandas()
        _check_rows(rows)
        return score_rows(rows)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise AfbenchError(f"'{path}' cannot be read: {printable(str(error), 160)}") from None


def _check_rows(rows: pd.DataFrame) -> None:
    text_columns = [name for name, kind in _TYPES.items() if kind == pa.string()]
    count_columns = [name for name, kind in _TYPES.items() if kind == pa.int64()]
    if not len(rows):
        raise ValueError("it holds no rows")
    if rows[text_columns + count_columns].isna().any(axis=None):
        raise ValueError("a name or a count is missing")
    # a count that a sum could overflow is no count of pixels
    if (rows[count_columns] < 0).any(axis=None) or (rows[count_columns] > 1 << 40).any(axis=None):
        raise ValueError("a count is negative or beyond any image")
    for name in ("f1_original", "f1_undefended", "auc", "f1_best", *_OPTIONAL.keys() & set(rows.columns)):
        values = rows[name].dropna()
        if not values.between(0, 1).all():
            raise ValueError(f"{name} leaves [0, 1]")
    if not rows["phi"].dropna().between(0, 1).all():
        raise ValueError("phi leaves [0, 1]")
    odd = next((name for column in text_columns for name in rows[column].unique() if not is_name(name)), None)
    if odd is not None:
        raise ValueError(f"{quoted(odd)} is no name")
    setting_counts = rows.groupby("config")[["attack", "phi", "steps"]].nunique(dropna=False)
    if (setting_counts > 1).any(axis=None):
        raise ValueError("a config has two settings")


def _unlike(stated: Any, computed: Any, path: str) -> str | None:
    """Describe where two tables differ, without their intervals and ``seen_in_training``; None if nowhere."""
    if isinstance(computed, dict):
        if not isinstance(stated, Mapping) or stated.keys() != computed.keys():
            return f"{path} has other keys"
        pairs = (
            (stated[key], computed[key], f"{path}.{key}")
            for key in computed
            # versions of afbench mark a seen attack by different rules; a board marks it by its own
            if not str(key).endswith("_ci") and key != "seen_in_training"
        )
    elif isinstance(computed, list):
        if not isinstance(stated, list) or len(stated) != len(computed):
            return f"{path} has other entries"
        pairs = (
            (stated_item, computed_item, f"{path}[{number}]")
            for number, (stated_item, computed_item) in enumerate(zip(stated, computed, strict=True))
        )
    else:
        is_equal = stated == computed
        # True is 1 in Python, but no figure
        if isinstance(computed, float) and isinstance(stated, int | float) and not isinstance(stated, bool):
            is_equal = math.isclose(stated, computed, rel_tol=_CLOSE, abs_tol=_CLOSE)
        return None if is_equal else f"{path} is {stated}, the images say {computed}"
    return next((unlike for pair in pairs if (unlike := _unlike(*pair))), None)
