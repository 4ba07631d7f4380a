"""Measured figures beside those the ANSM paper prints."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import pandas as pd

from afbench.plan import PAPER_PHI, PAPER_STEPS
from afbench.shipped import shipped

from .tables import figure
from .text import fold_line, text_table

LOCALIZERS = {"mvss": "MVSS-Net", "ifosn": "IF-OSN", "hdfnet": "HDF-Net", "code": "CoDE"}
SOURCES = {"columbia": "Columbia", "casia_v1": "CASIAv1", "imd20": "IMD20", "misd": "MISD"}
ATTACKS = {
    "clean": "Original",
    "fgsm": "FGSM",
    "cw": "C&W",
    "bim": "BIM",
    "pgd": "PGD",
    "mifgsm": "MI-FGSM",
    "pgn": "PGN",
}
POOLED = ("casia_v1", "imd20", "misd")
"""Whose images Tables IV to VI average together; Columbia is not among them (see manifests/paper)."""

_ID = {name: key for names in (LOCALIZERS, SOURCES, ATTACKS) for key, name in names.items()}
_STAGE2 = {"none": "none", "M_gt": "gt", "M_o": "original"}


class Cell(NamedTuple):
    """Where a figure stands: ``source`` is empty where the images of POOLED are averaged together."""

    localizer: str
    source: str
    attack: str


@dataclass(frozen=True)
class Measured:
    """A mean over images and over ``settings`` of the paper's intensities; RP in percent of the same images."""

    by: str
    f1: float
    rp: float | None
    images: int
    settings: int


@dataclass(frozen=True)
class PaperRow:
    """One printed pair of figures; ``f1`` and ``rp`` are the paper's, ``variant`` names the row of Tables IV to VI."""

    table: str
    localizer: str
    source: str
    attack: str
    variant: str
    defended: bool
    f1: float
    rp: float
    contradictory: bool


@dataclass(frozen=True)
class DefendedScore:
    """What the report needs of one score."""

    submission_id: str
    defence: Mapping[str, Any]
    per_image: pd.DataFrame


def settings_of(attack: str) -> tuple[str, ...]:
    """The paper's intensities of an attack, as configs name them; the originals have one, nameless."""
    if attack == "clean":
        return ("",)
    return tuple(map(str, PAPER_STEPS)) if attack == "cw" else tuple(phi.split("/")[0] for phi in PAPER_PHI)


def undefended_figures(by: str, configs: Mapping[str, Mapping[str, Any]]) -> dict[Cell, Measured]:
    """Average the summaries of a benchmark's manifests; other intensities or parameters are not the paper's.

    Figures of untrained weights are left out: they mean nothing.
    """
    rows = []
    for name, manifest in configs.items():
        paper = _paper_config(name)
        if paper is None or manifest["how"]["localizer"]["untrained"]:
            continue
        for source, split in manifest["splits"].items():
            summary = split.get("summary") or {}
            if summary.get("f1_adv") is None or source not in SOURCES:
                continue
            images = summary["n"] - summary["n_undefined"]
            common = {
                "localizer": paper[0],
                "source": source,
                "images": images,
                "before": summary["f1_clean"],
            }
            rows.append({**common, "attack": paper[1], "setting": name, "f1": summary["f1_adv"]})
            rows.append({**common, "attack": "clean", "setting": "", "f1": summary["f1_clean"]})
    if not rows:
        return {}
    table = pd.DataFrame(rows).drop_duplicates(["localizer", "source", "attack", "setting"])
    table["f1"] *= table["images"]
    table["before"] *= table["images"]
    return _averages(by, table, ["localizer", "source", "attack"])


def defended_figures(score: DefendedScore) -> dict[Cell, Measured]:
    """Average the images of a score: per source, and those of POOLED together where all three are there."""
    table = score.per_image.copy()
    paper = [_paper_config(name) for name in table["config"]]
    wanted = [
        source in SOURCES and localizer in LOCALIZERS and (config == "clean" or found is not None)
        for found, localizer, source, config in zip(
            paper, table["localizer"], table["source"], table["config"], strict=True
        )
    ]
    table = table[wanted]
    below = 2 * table["tp"] + table["fp"] + table["fn"]
    table = table.assign(f1=(2 * table["tp"]).where(below > 0) / below, before=table["f1_original"], images=1)
    table = table.assign(setting=table["config"]).dropna(subset=["f1", "before"])
    found = _averages(score.submission_id, table, ["localizer", "source", "attack"])
    pooled = table[table["source"].isin(POOLED)]
    sources = pooled.groupby(["localizer", "attack"])["source"].nunique()
    whole = {key for key, count in sources.items() if count == len(POOLED)}
    keep = [key in whole for key in zip(pooled["localizer"], pooled["attack"], strict=True)]
    return found | _averages(score.submission_id, pooled[keep].assign(source=""), list(Cell._fields))


def _averages(by: str, table: pd.DataFrame, keys: Sequence[str]) -> dict[Cell, Measured]:
    if table.empty:
        return {}
    sums = table.groupby(list(keys)).agg(
        f1=("f1", "sum"), before=("before", "sum"), rows=("images", "sum"), settings=("setting", "nunique")
    )
    found = {}
    for key, row in sums[sums["rows"] > 0].iterrows():
        rp = 100.0 * row["f1"] / row["before"] if row["before"] else None
        settings = int(row["settings"])
        images = round(row["rows"] / settings)
        found[Cell(*map(str, key))] = Measured(by, float(row["f1"] / row["rows"]), rp, images, settings)
    return found


def _paper_config(name: str) -> tuple[str, str] | None:
    """(localizer, attack) of a config of the paper's grid; None for other intensities or parameters."""
    localizer, _, rest = name.partition("-")
    attack, _, setting = rest.partition("-")
    known = localizer in LOCALIZERS and attack in ATTACKS and attack != "clean"
    return (localizer, attack) if known and setting in settings_of(attack) else None


def paper_rows() -> list[PaperRow]:
    """Tables III to VI as printed, in the paper's order; those that contradict themselves are flagged."""
    flagged = {
        (row["model"], row["dataset"], row["attack"], defended)
        for row in _read("contradictions")
        if row["class"] == "contradiction"
        for defended in ((True,) if row["field"] == "rp" else (True, False))
    }
    rows = []
    for row in _read("table3"):
        defended = row["ansm"] == "true"
        # The undefended originals are what every RP of their block refers to, and those agree with them.
        doubtful = (row["model"], row["dataset"], row["attack"], defended) in flagged
        doubtful = doubtful and (defended or row["attack"] != "Original")
        rows.append(_row("III", row, "", defended=defended, contradictory=doubtful))
    variants: dict[str, Callable[[Mapping[str, str]], str]] = {
        "table4": lambda row: row["depth"].lower(),
        "table5": lambda row: row["strategy"],
        "table6": lambda row: f"{'FFA' if row['ffa'] == 'true' else 'no FFA'}, {row['mgr_mask']}",
    }
    for number, (name, variant) in zip(("IV", "V", "VI"), variants.items(), strict=True):
        rows += [_row(number, row, variant(row), defended=True, contradictory=False) for row in _read(name)]
    return rows


def _row(
    table: str, row: Mapping[str, str], variant: str, *, defended: bool, contradictory: bool
) -> PaperRow:
    source = _ID[row["dataset"]] if "dataset" in row else ""
    place = Cell(_ID[row["model"]], source, _ID[row["attack"]])
    return PaperRow(table, *place, variant, defended, float(row["f1"]), float(row["rp"]), contradictory)


def _read(name: str) -> list[dict[str, str]]:
    with shipped(f"manifests/paper/{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ansm_variants(defence: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The (table, variant) of Tables IV to VI a defence stands for, by its parameters.

    They are those of type ``ansm`` whose ``params`` hold ``features`` (shallow, middle, topmost), ``stage1``
    (ffa, pwr, none) and ``stage2`` (none, gt, original: the mask that guides the refinement).
    """
    params = defence.get("params")
    if defence.get("type") != "ansm" or not isinstance(params, Mapping):
        return set()
    depth, stage1, stage2 = (str(params.get(key, "")) for key in ("features", "stage1", "stage2"))
    found = set()
    if (stage1, stage2) == ("ffa", "none"):
        found.add(("IV", depth))
    if depth == "middle" or stage1 != "ffa":
        if stage2 == "none" and stage1 in ("ffa", "pwr"):
            found.add(("V", {"ffa": "FFA", "pwr": "PwR"}[stage1]))
        for printed, mask in _STAGE2.items():
            if mask == stage2 and stage1 in ("ffa", "none") and (stage1, stage2) != ("none", "none"):
                found.add(("VI", f"{'FFA' if stage1 == 'ffa' else 'no FFA'}, {printed}"))
    return found


def compare_with_paper(
    benchmarks: Iterable[Mapping[Cell, Measured]], scores: Iterable[DefendedScore]
) -> list[dict[str, Any]]:
    """One record per printed pair and measurement; ``measured`` is None where nobody measured.

    ``difference`` is measured minus printed, None where either is missing or the paper contradicts itself.
    """
    undefended = list(benchmarks)
    defended = [(defended_figures(score), ansm_variants(score.defence)) for score in scores]
    records = []
    for row in paper_rows():
        place = Cell(row.localizer, row.source, row.attack)
        found: list[Measured | None]
        if not row.defended:
            found = [figures[place] for figures in undefended if place in figures]
        else:
            found = [
                figures[place]
                for figures, variants in defended
                if place in figures and (row.table == "III" or (row.table, row.variant) in variants)
            ]
        records += [_record(row, measured) for measured in found or [None]]
    return records


def _record(row: PaperRow, measured: Measured | None) -> dict[str, Any]:
    difference = None
    if measured is not None and not row.contradictory:
        rp = None if measured.rp is None else measured.rp - row.rp
        difference = {"f1": measured.f1 - row.f1, "rp": rp}
    return {
        **asdict(row),
        "settings_of_paper": len(settings_of(row.attack)),
        "measured": None if measured is None else asdict(measured),
        "difference": difference,
    }


def paper_table(records: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """The records as aligned text, one block per table of the paper."""
    blocks = []
    for table in ("III", "IV", "V", "VI"):
        body = [_cells(record) for record in records if record["table"] == table]
        where = "per source" if table == "III" else f"all images of {', '.join(POOLED)}"
        title = fold_line(f"Table {table}: {where}, mean over intensities", width)
        blocks.append(f"{title}\n{text_table(_HEAD, body, together=(3, 3, 1, 1, 1), width=width)}")
    flagged = sum(record["contradictory"] for record in records)
    note = f"! {flagged} pairs where the paper contradicts itself; no difference is taken" if flagged else ""
    return "\n\n".join([*blocks, fold_line(note, width)]).rstrip()


_HEAD = (
    "row",
    "noise",
    "F1 paper",
    "F1",
    "diff",
    "RP paper",
    "RP",
    "diff",
    "settings",
    "images",
    "measured by",
)


def _cells(record: Mapping[str, Any]) -> list[str]:
    measured, difference = record["measured"] or {}, record["difference"] or {}
    what = record["variant"] or ("with ANSM" if record["defended"] else "without")
    mark = "!" if record["contradictory"] else ""
    return [
        " ".join(filter(None, (record["localizer"], record["source"], what))),
        record["attack"],
        figure(record["f1"], 3) + mark,
        figure(measured.get("f1"), 3),
        _signed(difference.get("f1"), 3),
        figure(record["rp"], 1) + mark,
        figure(measured.get("rp"), 1),
        _signed(difference.get("rp"), 1),
        f"{measured['settings']}/{record['settings_of_paper']}" if measured else "-",
        figure(measured.get("images"), 0),
        measured.get("by", "-"),
    ]


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"
