"""Match measured figures with those that the ANSM paper prints."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from afbench.plans import PAPER_PHI, PAPER_STEPS
from afbench.resources import resource_path

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


class PaperCell(NamedTuple):
    """Where a figure stands: ``source`` is empty where the images of POOLED are averaged together."""

    localizer: str
    source: str
    attack: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A mean over images and over ``settings`` of the paper's intensities; RP in percent of the same images.

    ``by`` names the benchmark or the submission, and what it calls the network where that is another name.
    """

    by: str
    f1: float
    rp: float | None
    images: int
    settings: int
    weights_sha256: str
    attack_at: str


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


def settings_of(attack: str) -> tuple[str, ...]:
    """Return the paper's intensities of an attack, as configs name them; the originals have one, nameless."""
    if attack == "clean":
        return ("",)
    return tuple(map(str, PAPER_STEPS)) if attack == "cw" else tuple(phi.split("/")[0] for phi in PAPER_PHI)


def paper_rows() -> list[PaperRow]:
    """Read Tables III to VI as printed, in the paper's order; flag those that contradict themselves."""
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
    cell = PaperCell(_ID[row["model"]], source, _ID[row["attack"]])
    return PaperRow(table, *cell, variant, defended, float(row["f1"]), float(row["rp"]), contradictory)


def _read(name: str) -> list[dict[str, str]]:
    with resource_path(f"manifests/paper/{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ansm_variants(defence: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the (table, variant) of Tables IV to VI a defence stands for, by its parameters.

    They are those of type ``ansm`` whose ``params`` hold ``features`` (shallow, middle, topmost), ``stage1``
    (ffa, pwr, none) and ``stage2`` (none, gt, original: the mask that guides the refinement).
    """
    params = defence.get("params")
    if defence.get("type") != "ansm" or not isinstance(params, Mapping):
        return set()
    depth, stage1, stage2 = (str(params.get(key, "")) for key in ("features", "stage1", "stage2"))
    variants = set()
    if (stage1, stage2) == ("ffa", "none"):
        variants.add(("IV", depth))
    if depth == "middle" or stage1 != "ffa":
        if stage2 == "none" and stage1 in ("ffa", "pwr"):
            variants.add(("V", {"ffa": "FFA", "pwr": "PwR"}[stage1]))
        for printed, mask in _STAGE2.items():
            if mask == stage2 and stage1 in ("ffa", "none") and (stage1, stage2) != ("none", "none"):
                variants.add(("VI", f"{'FFA' if stage1 == 'ffa' else 'no FFA'}, {printed}"))
    return variants


def compare_with_paper(
    undefended: Sequence[Mapping[PaperCell, Measured]],
    defended: Sequence[tuple[Mapping[PaperCell, Measured], set[tuple[str, str]]]],
) -> list[dict[str, Any]]:
    """Make one record per printed pair and measurement; ``measured`` is None where nobody measured.

    ``difference`` is measured minus printed, None where either is missing or the paper contradicts itself.

    Args:
        undefended: figures of bare networks.
        defended: figures behind a defence, and the rows of Tables IV to VI it stands for, as ``ansm_variants`` gives them.
    """
    records = []
    for row in paper_rows():
        cell = PaperCell(row.localizer, row.source, row.attack)
        measurements: list[Measured | None]
        if not row.defended:
            measurements = [figures[cell] for figures in undefended if cell in figures]
        else:
            measurements = [
                figures[cell]
                for figures, variants in defended
                if cell in figures and (row.table == "III" or (row.table, row.variant) in variants)
            ]
        records += [_record(row, measured) for measured in measurements or [None]]
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
