"""Scores read back without trust: their shape, their types, and that their figures follow from their images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from afbench.core import AfbenchError, UsageError
from afbench.shipped import shipped
from afbench.untrusted import is_name, quoted

from .problems import printable
from .tables import build_tables, score_rows
from .versions import dataset_version

SCORE, PER_IMAGE = "score.json", "per_image.parquet"
KEY = ["localizer", "config", "source", "sample_id"]
"""What makes a row of ``per_image`` one image under one localizer."""

_TYPES = {
    **dict.fromkeys(["localizer", "source", "config", "attack", "sample_id"], pa.string()),
    **dict.fromkeys(["steps", "tp", "fp", "fn", "tn"], pa.int64()),
    **dict.fromkeys(["phi", "f1_original", "f1_undefended", "auc", "f1_best"], pa.float64()),
}
_MAX_JSON, _MAX_TABLE, _MAX_ROWS = 1 << 28, 1 << 32, 50_000_000
_MAX_TEXT, _MAX_DEPTH = 5000, 20
_CLOSE = 1e-9


@dataclass(frozen=True)
class Score:
    """One score: ``about`` is score.json, ``per_image`` its rows with their F1, sorted."""

    folder: Path
    about: Mapping[str, Any]
    per_image: pd.DataFrame

    @property
    def seen(self) -> list[str]:
        return list(self.about["defence"]["trained_on"])


def read_score(folder: Path) -> Score:
    """Read what ``afbench score`` wrote.

    Raises:
        UsageError: if the folder holds no score.
        AfbenchError: if the score is damaged, in one line that says where.
    """
    if not (folder / SCORE).is_file():
        raise UsageError(f"'{folder}' holds no score: {SCORE} is missing; `afbench score` makes one")
    about = _read_about(folder / SCORE)
    return Score(folder, about, _read_rows(folder / PER_IMAGE))


def find_scores(paths: Sequence[Path]) -> list[Path]:
    """Score folders: each path that is one, or those right inside it, by name; each once.

    Raises:
        UsageError: if a path holds none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = (
            [path] if (path / SCORE).is_file() else sorted(each.parent for each in path.glob(f"*/{SCORE}"))
        )
        if not inside:
            raise UsageError(
                f"'{path}' holds no score: no {SCORE} there or one folder below; `afbench score` makes one"
            )
        for folder in inside:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def verified_tables(score: Score) -> dict[str, Any]:
    """Make every table anew from the images, with the board's own draws.

    Raises:
        AfbenchError: if a figure in score.json is another.
    """
    if told := _unlike_configs(score):
        raise AfbenchError(
            f"'{score.folder}': {SCORE} does not follow from {PER_IMAGE}: {told}; score it again"
        )
    tables = build_tables(score.per_image, seen=score.seen)
    for name in ("configs", "aggregates"):
        if told := _unlike(score.about[name], tables[name], name):
            raise AfbenchError(
                f"'{score.folder}': {SCORE} does not follow from {PER_IMAGE}: {printable(told)}; score it again"
            )
    return tables


def _unlike_configs(score: Score) -> str | None:
    """Where the configs that a score names the hashes of are not those of its images; None if nowhere."""
    recorded = score.about.get("configs_sha256")
    if recorded is None:
        return None
    named = {
        (localizer, config, source)
        for localizer, parts in recorded.items()
        for config, sources in parts.items()
        for source in sources
    }
    rows = set(score.per_image[["localizer", "config", "source"]].itertuples(index=False, name=None))
    if odd := sorted(named ^ rows if not score.about.get("missing") else rows - named):
        return f"configs_sha256 and the images differ, first in {'/'.join(odd[0])}"
    if score.about["dataset_version"] != dataset_version(recorded):
        return "dataset_version is not that of configs_sha256"
    return None


def _read_about(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError(f"it is larger than {_MAX_JSON} bytes")
        about = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(about, allow_nan=False).encode()  # neither NaN nor half a surrogate pair
        odd = next((text for text in _texts(about) if not _is_plain(text)), None)
    except (OSError, ValueError, RecursionError) as error:
        raise AfbenchError(f"'{path}' cannot be read: {printable(str(error), 120)}") from None
    schema = json.loads(shipped("manifests/schema/score.schema.json").read_text(encoding="utf-8"))
    fault = best_match(Draft202012Validator(schema).iter_errors(about))
    if fault is not None:
        raise AfbenchError(f"'{path}' is no score: {printable(fault.json_path)}: {printable(fault.message)}")
    if odd is not None:
        raise AfbenchError(f"'{path}' is no score: invisible characters, or too long: '{printable(odd, 80)}'")
    return {"date": "", "paper_url": "", "code_url": "", **about}


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
    """No control, bidirectional or otherwise invisible character, save the joiners some scripts need."""
    return len(text) <= _MAX_TEXT and all(one.isprintable() or one in "\u200c\u200d" for one in text)


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
            table = file.read(columns=list(_TYPES), use_threads=False).cast(pa.schema(list(_TYPES.items())))
        rows = table.to_pandas()
        _check_rows(rows)
        return score_rows(rows)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise AfbenchError(f"'{path}' cannot be read: {printable(str(error), 160)}") from None


def _check_rows(rows: pd.DataFrame) -> None:
    text = [name for name, kind in _TYPES.items() if kind == pa.string()]
    whole = [name for name, kind in _TYPES.items() if kind == pa.int64()]
    if not len(rows):
        raise ValueError("it holds no rows")
    if rows[text + whole].isna().any(axis=None):
        raise ValueError("a name or a count is missing")
    # a count that a sum could overflow is no count of pixels
    if (rows[whole] < 0).any(axis=None) or (rows[whole] > 1 << 40).any(axis=None):
        raise ValueError("a count is negative or beyond any image")
    for name in ("f1_original", "f1_undefended", "auc", "f1_best"):
        values = rows[name].dropna()
        if not values.between(0, 1).all():
            raise ValueError(f"{name} leaves [0, 1]")
    if not rows["phi"].dropna().between(0, 1).all():
        raise ValueError("phi leaves [0, 1]")
    odd = next((name for column in text for name in rows[column].unique() if not is_name(name)), None)
    if odd is not None:
        raise ValueError(f"{quoted(odd)} is no name")
    how = rows.groupby("config")[["attack", "phi", "steps"]].nunique(dropna=False)
    if (how > 1).any(axis=None):
        raise ValueError("a config has two settings")


def _unlike(told: Any, found: Any, path: str) -> str | None:
    """Where two tables differ, intervals apart; None if nowhere."""
    if isinstance(found, dict):
        if not isinstance(told, Mapping) or told.keys() != found.keys():
            return f"{path} has other keys"
        pairs = ((told[key], found[key], f"{path}.{key}") for key in found if not str(key).endswith("_ci"))
    elif isinstance(found, list):
        if not isinstance(told, list) or len(told) != len(found):
            return f"{path} has other entries"
        pairs = (
            (one, other, f"{path}[{number}]")
            for number, (one, other) in enumerate(zip(told, found, strict=True))
        )
    else:
        same = told == found
        if isinstance(found, float) and isinstance(told, int | float) and not isinstance(told, bool):
            same = math.isclose(told, found, rel_tol=_CLOSE, abs_tol=_CLOSE)
        return None if same else f"{path} is {told}, the images say {found}"
    return next((unlike for pair in pairs if (unlike := _unlike(*pair))), None)
