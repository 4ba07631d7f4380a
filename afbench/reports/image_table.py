"""Image-level figures as text and CSV: how well forged images are told from authentic ones, before and after an attack."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .evaluation import attack_title
from .latex import booktabs, escape
from .tables import figure
from .text import fold_line, text_table

Record = Mapping[str, Any]

SCORE_NAMES = {
    "share": "share of pixels called forged",
    "max": "highest probability of a pixel",
    "top1": "mean of the highest 1 % of probabilities",
    "own": "the localizer's own score",
}
_PREFERRED = ("own", "top1", "share")
_HEAD = [
    "source",
    "attack",
    "forged",
    "authentic",
    "AUC",
    "95 % of AUC",
    "bal. acc. %",
    "FPR %",
    "95 % of FPR",
]
_CSV = [
    "localizer",
    "source",
    "attack",
    "score",
    "threshold",
    "images",
    "authentic",
    "auc",
    "auc_low",
    "auc_high",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "tpr",
    "fpr",
    "fpr_low",
    "fpr_high",
]
NO_AUTHENTIC = (
    "images as a whole: no figures, for no authentic images were localized; `afbench generate --authentic` adds those of its "
    "sources"
)


def shown_score(records: Sequence[Record]) -> str:
    """Return the score of images that a table shows if none is asked for; "" without records."""
    scores = {record["score"] for record in records}
    return next((score for score in _PREFERRED if score in scores), "")


def shown_records(records: Sequence[Record], score: str | None = None) -> list[Record]:
    """Return the records that a table shows: of the score that was asked for, or of each localizer's ``shown_score``."""
    localizers = dict.fromkeys(record["localizer"] for record in records)
    scores = {
        name: score or shown_score([record for record in records if record["localizer"] == name])
        for name in localizers
    }
    return [record for record in records if record["score"] == scores[record["localizer"]]]


def image_table(
    records: Sequence[Record], score: str | None, sources: Collection[str], width: int | None = None
) -> str:
    """Draw the figures of one score as an aligned table for each localizer, folded to ``width``; None for each one's ``shown_score``.

    ``records`` are those of ``scoring.image_level``, perhaps with ``defence`` and ``knowledge``; ``sources`` are all that were
    localized, of which those without authentic images are named.
    """
    if not records:
        return fold_line(NO_AUTHENTIC, width)
    tables = []
    of_score = shown_records(records, score)
    for localizer in dict.fromkeys(record["localizer"] for record in of_score):
        rows = [record for record in of_score if record["localizer"] == localizer]
        sided = "defence" in rows[0]
        head, *body = image_cells(rows)
        line = (
            f"images as a whole, {localizer}: an image counts as forged if the {score_name(rows[0])} is "
            f"above {rows[0]['threshold']:g}; authentic images are never attacked"
        )
        groups = (2, 2, 1, 2)
        table = text_table(head, body, labels=2 + sided, column_groups=groups, width=width)
        tables.append(f"{fold_line(line, width)}\n{table}")
    if others := sorted({record["localizer"] for record in records} - {row["localizer"] for row in of_score}):
        tables.append(fold_line(f"no images as a whole by this score: {', '.join(others)}", width))
    lacking = sorted(set(sources) - {record["source"] for record in records} - {"all"})
    if lacking:
        tables.append(fold_line(f"no authentic images, so no such figures: {', '.join(lacking)}", width))
    return "\n\n".join(tables)


def image_cells(records: Sequence[Record]) -> list[list[str]]:
    """Return the table of one localizer and score as rows of texts, the head first; with a column for defences where records have one."""
    sided = "defence" in records[0]
    return [
        _HEAD[:2] + ["defence"] * sided + _HEAD[2:],
        *(_row(record, sided) for record in records),
    ]


def image_latex(records: Sequence[Record]) -> str:
    """Write the records of one score a localizer as a booktabs ``tabular``, a block for every localizer and source."""
    sided = "defence" in records[0]
    blocks: dict[tuple[str, str], list[list[str]]] = {}
    for record in records:
        block = blocks.setdefault((record["localizer"], record["source"]), [])
        cells = [record["localizer"], *_row(record, sided)]
        block.append([escape(cell).replace(" to ", "--") for cell in cells])
    head = image_cells(records)[0]
    comments = [
        f"images as a whole: {score_notes(records)}",
        "95 % intervals; needs \\usepackage{booktabs}",
    ]
    spec = "l" * (3 + sided) + "r" * (len(head) - 2 - sided)
    titles = " & ".join(escape(title) for title in ["localizer", *head])
    return booktabs(spec, [f"{titles} \\\\"], list(blocks.values()), comments)


def score_name(record: Record) -> str:
    """Return the score of a record in words, without an article."""
    return SCORE_NAMES[record["score"]].removeprefix("the ")


def score_notes(records: Sequence[Record]) -> str:
    """Say by which score each image is judged, for each localizer where these differ."""
    first = {record["localizer"]: record for record in reversed(records)}
    notes = {
        name: f"the {score_name(record)}, forged above {record['threshold']:g}"
        for name, record in first.items()
    }
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return "; ".join(f"{name} by {note}" for name, note in reversed(notes.items()))


def image_attack_title(attack: str) -> str:
    """Return what tables of whole images call the attack on the forged ones."""
    return "before attack" if attack == "clean" else attack_title(attack)


def image_side(record: Record) -> str:
    """Return the defence that images went through, and whether the attack knew it."""
    return f"{record['defence']}{' (adaptive)' if record['knowledge'] == 'adaptive' else ''}"


def _row(record: Record, sided: bool) -> list[str]:
    return [
        str(record["source"]),
        image_attack_title(record["attack"]),
        *([image_side(record)] if sided else []),
        str(record["images"]),
        str(record["authentic"]),
        figure(record["auc"], 3),
        _interval(record["auc_ci"], 1, 3),
        figure(100 * record["balanced_accuracy"], 1),
        figure(100 * record["fpr"], 1),
        _interval(record["fpr_ci"], 100, 1),
    ]


def _interval(ends: Sequence[float], scale: float, digits: int) -> str:
    return f"{scale * ends[0]:.{digits}f} to {scale * ends[1]:.{digits}f}"


def image_csv(records: Sequence[Record]) -> str:
    """Write one row per record, of every score."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_CSV, "defence", "knowledge"])
    for record in records:
        ends = {
            f"{name}_{end}": record[f"{name}_ci"][number]
            for name in ("auc", "balanced_accuracy", "fpr")
            for number, end in enumerate(("low", "high"))
        }
        values = {**record, **ends}
        plain = [values[name] for name in _CSV]
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in plain]
        writer.writerow([*cells, record.get("defence", ""), record.get("knowledge", "")])
    return stream.getvalue()
