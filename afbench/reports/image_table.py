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


def image_table(
    records: Sequence[Record], score: str, sources: Collection[str], width: int | None = None
) -> str:
    """Draw the figures of one score as an aligned table for each localizer, folded to ``width``.

    ``records`` are those of ``scoring.image_level``, perhaps with ``defence`` and ``knowledge``; ``sources`` are all that were
    localized, of which those without authentic images are named.
    """
    if not records:
        return fold_line(NO_AUTHENTIC, width)
    tables = []
    of_score = [record for record in records if record["score"] == score]
    for localizer in dict.fromkeys(record["localizer"] for record in of_score):
        rows = [record for record in of_score if record["localizer"] == localizer]
        sided = "defence" in rows[0]
        head, *body = image_cells(rows)
        line = (
            f"images as a whole, {localizer}: an image counts as forged if the {SCORE_NAMES[score].removeprefix('the ')} is "
            f"above {rows[0]['threshold']:g}; authentic images are never attacked"
        )
        groups = (2, 2, 1, 2)
        table = text_table(head, body, labels=2 + sided, column_groups=groups, width=width)
        tables.append(f"{fold_line(line, width)}\n{table}")
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
    """Write the records of one score as a booktabs ``tabular``, a block for every localizer and source."""
    sided = "defence" in records[0]
    blocks: dict[tuple[str, str], list[list[str]]] = {}
    for record in records:
        block = blocks.setdefault((record["localizer"], record["source"]), [])
        cells = [record["localizer"], *_row(record, sided)]
        block.append([escape(cell).replace(" to ", "--") for cell in cells])
    head = image_cells(records)[0]
    comments = [
        f"images as a whole, by the {SCORE_NAMES[records[0]['score']].removeprefix('the ')}; an image counts as forged above "
        f"{records[0]['threshold']:g}",
        "95 % intervals; needs \\usepackage{booktabs}",
    ]
    spec = "l" * (3 + sided) + "r" * (len(head) - 2 - sided)
    titles = " & ".join(escape(title) for title in ["localizer", *head])
    return booktabs(spec, [f"{titles} \\\\"], list(blocks.values()), comments)


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
