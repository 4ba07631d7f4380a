"""Choose which measured figures may be compared with the ANSM paper's, and give the reason for those that may not.

The paper's networks are known by the architecture and weights that manifests record, never by what a config calls them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from afbench.resources import resource_json
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.identity import describe_identity, identity_of

from .paper import ATTACKS, LOCALIZERS, POOLED, SOURCES, Measured, PaperCell, settings_of

LEAST_SHARE = 0.95
"""Least share of the images the paper counts in a source: a few that cannot be read move no mean, a ``--limit`` does."""


class Comparable(NamedTuple):
    """Figures that may stand beside the paper's, one mapping per network, and lines on what was left out or differs."""

    figures: list[dict[PaperCell, Measured]]
    notes: list[str]


@dataclass(frozen=True)
class DefendedScore:
    """What the report needs of one score; ``localizers`` are their identities by label."""

    submission_id: str
    defence: Mapping[str, Any]
    per_image: pd.DataFrame
    localizers: Mapping[str, Mapping[str, Any]]
    attack_knowledge: str = "oblivious"


def undefended_figures(measured_by: str, configs: Mapping[str, ConfigManifest]) -> Comparable:
    """Average the summaries of a benchmark's manifests, over the paper's networks, settings and sources alone."""
    left_out: dict[str, list[str]] = defaultdict(list)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    identities: dict[str, Mapping[str, Any]] = {}
    for name, manifest in configs.items():
        if not manifest.provenance:
            continue  # originals
        identity, attack = identity_of(manifest.provenance), str(manifest.provenance["attack"])
        label = manifest.localizer_name
        reason = _why_not(identity) or _why_not_setting(name, label, attack)
        if reason:
            left_out[reason].append(name)
            continue
        key = f"{label} {identity['weights_sha256']}"
        identities[key] = {**identity, "label": label}
        for source, split in manifest.splits.items():
            summary = split.summary or {}
            if summary.get("f1_adv") is None:
                continue
            if reason := _why_not_source(source, summary["n"]):
                left_out[reason].append(name)
                continue
            common = {"source": source, "images": summary["n"] - summary["n_undefined"]}
            common["before"] = summary["f1_clean"]
            rows[key].append({**common, "attack": attack, "setting": name, "f1": summary["f1_adv"]})
            rows[key].append({**common, "attack": "clean", "setting": "", "f1": summary["f1_clean"]})
    figures = []
    for key, summaries in rows.items():
        table = pd.DataFrame(summaries).drop_duplicates(["source", "attack", "setting"])
        table[["f1", "before"]] = table[["f1", "before"]].mul(table["images"], axis=0)
        figures.append(_averages(measured_by, table, identities[key]))
    return Comparable(figures, [*_networks(measured_by, identities, rows), *_left_out(measured_by, left_out)])


def defended_figures(score: DefendedScore) -> Comparable:
    """Average the images of a score: per source, and those of POOLED as one where all three are there."""
    measured_by, left_out = score.submission_id, defaultdict[str, list[str]](list)
    figures, identities = [], {}
    for label, table in score.per_image.groupby("localizer", sort=True):
        identity = score.localizers.get(str(label))
        reason = (
            "the score does not say which network it is of; score the submission again"
            if identity is None
            else _why_not(identity)
        )
        if score.attack_knowledge != "oblivious":
            reason = "its attacks know the defence, the paper's do not"
        if reason or identity is None:
            left_out[reason].append(str(label))
            continue
        tables = []
        for (source, config, attack), images in table.groupby(["source", "config", "attack"], sort=True):
            reason = "" if config == "clean" else _why_not_setting(config, str(label), attack)
            reason = reason or _why_not_source(str(source), len(images))
            if config == "authentic":
                continue
            if reason:
                left_out[reason].append(str(config))
            else:
                tables.append(images)
        if tables:
            identities[str(label)] = {**identity, "label": str(label)}
            figures.append(_of_images(measured_by, pd.concat(tables), identities[str(label)]))
    return Comparable(
        figures, [*_networks(measured_by, identities, identities), *_left_out(measured_by, left_out)]
    )


def _of_images(
    measured_by: str, table: pd.DataFrame, identity: Mapping[str, Any]
) -> dict[PaperCell, Measured]:
    denominator = 2 * table["tp"] + table["fp"] + table["fn"]
    table = table.assign(
        f1=(2 * table["tp"]).where(denominator > 0) / denominator, before=table["f1_original"], images=1
    )
    table = table.assign(setting=table["config"]).dropna(subset=["f1", "before"])
    pooled = table[table["source"].isin(POOLED)]
    sources = pooled.groupby("attack")["source"].nunique()
    complete = pooled[pooled["attack"].isin(sources[sources == len(POOLED)].index)]
    return _averages(measured_by, table, identity) | _averages(
        measured_by, complete.assign(source=""), identity
    )


def _averages(
    measured_by: str, table: pd.DataFrame, identity: Mapping[str, Any]
) -> dict[PaperCell, Measured]:
    if table.empty:
        return {}
    sums = table.groupby(["source", "attack"]).agg(
        f1=("f1", "sum"), before=("before", "sum"), rows=("images", "sum"), settings=("setting", "nunique")
    )
    figures = {}
    for (source, attack), row in sums[sums["rows"] > 0].iterrows():
        rp = 100.0 * row["f1"] / row["before"] if row["before"] else None
        settings = int(row["settings"])
        figures[PaperCell(identity["architecture"], str(source), str(attack))] = Measured(
            by=_called(measured_by, identity),
            f1=float(row["f1"] / row["rows"]),
            rp=rp,
            images=round(row["rows"] / settings),
            settings=settings,
            weights_sha256=identity["weights_sha256"],
            attack_at=identity["attack_at"],
        )
    return figures


def _called(measured_by: str, identity: Mapping[str, Any]) -> str:
    return (
        measured_by
        if identity["label"] == identity["architecture"]
        else f"{measured_by} '{identity['label']}'"
    )


def _why_not(identity: Mapping[str, Any]) -> str:
    """Say why figures of a network are none of the paper's; "" if they may be."""
    if identity["architecture"] not in LOCALIZERS:
        return f"the network is {identity['architecture']}, which the paper does not have"
    if identity["untrained"]:
        return "the weights are untrained"
    if identity["resolution"] != "official":
        return f"the network's own resize is left out (resolution {identity['resolution']})"
    return "the attacks went through a defence" if identity["through_defence"] else ""


def _why_not_setting(config: str, label: str, attack: str) -> str:
    if attack not in ATTACKS or attack == "clean":
        return f"attack {attack} is not in the paper"
    paper = {f"{label}-{attack}-{setting}" for setting in settings_of(attack)}
    return "" if config in paper else "not the paper's intensities and parameters"


def _why_not_source(source: str, images: int) -> str:
    if source not in SOURCES:
        return f"source {source} is not in the paper"
    count = int(resource_json("sources")[source]["count_in_paper"])
    return "" if images >= LEAST_SHARE * count else f"{source} has {images} images, the paper {count}"


def _networks(
    measured_by: str, identities: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Any]
) -> list[str]:
    lines = []
    for identity in (identity for key, identity in identities.items() if key in figures):
        line = f"{measured_by}: '{identity['label']}' is {LOCALIZERS[identity['architecture']]}, {describe_identity(identity)}"
        if identity["attack_at"] != "model":
            line += f"; attacked at {identity['attack_at']} size, in the paper at the network's"
        lines.append(line)
    return lines


def _left_out(measured_by: str, reasons: Mapping[str, Sequence[str]]) -> list[str]:
    """Write one line per reason, with the first of what it left out."""
    lines = []
    for reason, names in reasons.items():
        different = list(dict.fromkeys(names))
        remainder = f" and {len(different) - 2} more" if len(different) > 2 else ""
        lines.append(f"left out of {measured_by}: {', '.join(different[:2])}{remainder}: {reason}")
    return lines
