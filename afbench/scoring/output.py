"""Write score.json and per_image.parquet, the same bytes for the same counts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError, UsageError
from afbench.files import commit_bytes, json_bytes
from afbench.schemas import schema_problem
from afbench.storage.manifests import read_json, refuse_inside_benchmark

IMAGE_SCORES = ("image_max", "image_top1", "image_own")
"""Columns of whole images; each is stored only where a submission tells it."""
SCORE = "score.json"
PER_IMAGE = "per_image.parquet"
_PER_IMAGE = pa.schema(
    [
        *[(name, pa.string()) for name in ("localizer", "source", "config", "attack")],
        ("phi", pa.float64()),
        ("steps", pa.int64()),
        ("sample_id", pa.string()),
        *[(name, pa.int64()) for name in ("tp", "fp", "fn", "tn")],
        *[(name, pa.float64()) for name in ("f1_original", "f1_undefended", "auc", "f1_best", *IMAGE_SCORES)],
    ]
)
COLUMNS = tuple(_PER_IMAGE.names)


def check_score(record: Mapping[str, Any]) -> None:
    """Check a score against its own schema.

    Raises:
        AfbenchError: if it breaks it.
    """
    if message := schema_problem("score", record):
        raise AfbenchError(f"the score breaks its own schema: {message}")


def check_out(out: Path, submission: Path, data: Path) -> None:
    """Refuse a folder that cannot take the score, before anything is read.

    Raises:
        UsageError: if it is a file, or lies in the submission or the benchmark.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    refuse_inside_benchmark(out, as_folder=True)
    for input_path in (submission, data):
        if out.resolve().is_relative_to(input_path.resolve()):
            raise UsageError(
                f"--out '{out}' lies in '{input_path}', which must stay as it is; give another folder"
            )


def write_score(out: Path, record: Mapping[str, Any], per_image: pd.DataFrame) -> None:
    """Write per_image.parquet, then score.json, each atomically.

    Raises:
        UsageError: if another submission's score is there.
        AfbenchError: if they cannot be written.
    """
    if (out / SCORE).is_file():
        stored_id = read_json(out / SCORE).get("submission_id")
        if stored_id != record["submission_id"]:
            raise UsageError(f"--out '{out}' holds the score of '{stored_id}'; give another folder")
    stream = io.BytesIO()
    fields = [
        field for field in _PER_IMAGE if field.name not in IMAGE_SCORES or per_image[field.name].notna().any()
    ]
    columns = [pa.array(per_image[field.name], type=field.type, from_pandas=True) for field in fields]
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), stream, compression="zstd")
    # score.json comes last, because commands take a folder that has it for a complete score
    commit_bytes(out / PER_IMAGE, stream.getvalue())
    commit_bytes(out / SCORE, json_bytes(record))
