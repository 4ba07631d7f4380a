"""Check what a benchmark holds: an adaptive attack against the oblivious one, and more steps against fewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from afbench.scoring.score_tables import CONTROLS, ranking_rows
from afbench.scoring.statistics import difference_interval
from afbench.storage.config_manifest import ConfigManifest

from ..attack_records import ADAPTIVE, Side
from .evaluate import Evaluation
from .gates import TOLERANCE, Gate

MARGIN = 0.005
"""How far above zero the low end of an F1 difference's interval may lie: C&W gives back that much as it shrinks its noise."""
_OF_STEPS = ("steps", "alpha_over_phi")
"""Parameters in which compared attacks may differ: a step's size goes with their number."""


def gates_of_benchmark(evaluation: Evaluation, configs: Mapping[str, ConfigManifest]) -> list[Gate]:
    """Compare configs of the benchmark: adaptive with oblivious ones, and more steps with fewer.

    Only attacks with the same parameters are compared, such as their loss.
    """
    params = _distinct_params(configs)
    sides = {(side.defence, side.knowledge): side for side in evaluation.sides}
    gates: list[Gate] = []
    for (defence, knowledge), side in sides.items():
        through = sides.get((defence, ADAPTIVE))
        if knowledge != ADAPTIVE and defence != "none":
            gates += _never_weaker(side, through, params)
        # a transferred attack may lose by more steps, for it sharpens itself on the wrong network
        if knowledge == ADAPTIVE or defence == "none":
            gates += _more_steps(side, params)
    return gates


def _distinct_params(configs: Mapping[str, ConfigManifest]) -> dict[str, str]:
    """Write for each config the parameters that not all configs of its attack share, such as ``loss=soft-f1``."""
    by_attack: dict[str, dict[str, set[str]]] = {}
    for name, manifest in configs.items():
        params = manifest.provenance.get("params", {})
        pairs = {f"{key}={value}" for key, value in params.items() if key not in _OF_STEPS}
        by_attack.setdefault(str(manifest.provenance.get("attack")), {})[name] = pairs
    return {
        name: " ".join(sorted(pairs - pairs.intersection(*pairs_of_config.values())))
        for pairs_of_config in by_attack.values()
        for name, pairs in pairs_of_config.items()
    }


def _never_weaker(oblivious: Side, adaptive: Side | None, params: Mapping[str, str]) -> Iterator[Gate]:
    """Check that an adaptive attack leaves no more F1 than the oblivious attack of the same setting."""
    name, keys = "adaptive is never weaker", ["attack", "phi", "params", "steps"]
    if adaptive is None:
        yield Gate(
            oblivious.defence, name, None, "no attack went through it: its oblivious figures say little"
        )
        return
    pairs = _by_setting(oblivious, params).merge(
        _by_setting(adaptive, params), on=[*keys, "source", "sample_id"]
    )
    if pairs.empty:
        yield Gate(oblivious.defence, name, None, "no attack of the same setting on both sides")
    for (attack, phi, params_text, steps), group in pairs.groupby(keys):
        passed, figures = _not_above(group, "f1_y", "f1_x")
        setting = f"{_named(attack, phi, params_text)} {steps} steps"
        yield Gate(oblivious.defence, name, passed, f"{setting}: {figures}")


def _more_steps(side: Side, params: Mapping[str, str]) -> Iterator[Gate]:
    table = _by_setting(side, params)
    for (attack, phi, params_text), group in table.groupby(["attack", "phi", "params"]):
        counts = sorted(group["steps"].unique())
        for fewer_steps, more_steps in pairwise(counts):
            pair = group[group["steps"] == fewer_steps].merge(
                group[group["steps"] == more_steps], on=["source", "sample_id"]
            )
            if len(pair):
                passed, figures = _not_above(pair, "f1_y", "f1_x")
                yield Gate(
                    side.defence,
                    "more steps never help the defender",
                    passed,
                    f"{_named(attack, phi, params_text)}, {fewer_steps} to {more_steps} steps: {figures}",
                )


def _named(attack: Any, phi: Any, params_text: Any) -> str:
    name = f"{attack} {255 * phi:g}/255" if phi else str(attack)
    return f"{name} {params_text}" if params_text else name


def _by_setting(side: Side, params: Mapping[str, str]) -> pd.DataFrame:
    """Take F1 per image of every attack, phi, parameters and number of steps."""
    rows = ranking_rows(side.per_image)
    # C&W has no phi, and groupby would drop its rows
    rows = rows[~rows["attack"].isin(CONTROLS)].assign(
        phi=lambda table: table["phi"].fillna(0.0),
        params=lambda table: table["config"].astype(str).map(params).fillna(""),
    )
    keys = ["attack", "phi", "params", "steps", "source", "sample_id"]
    return rows.groupby(keys)["f1"].mean().reset_index()


def _not_above(pairs: pd.DataFrame, column: str, reference_column: str) -> tuple[bool, str]:
    """Say whether mean F1 does not rise over that of a reference column: the paired interval reaches ``MARGIN`` or below.

    The second value states the figures.
    """
    ends = difference_interval(
        pairs[column], pairs[reference_column], pairs["source"].tolist(), pairs["sample_id"].tolist()
    )
    gap = float((pairs[column] - pairs[reference_column]).mean())
    figures = f"F1 {pairs[reference_column].mean():.3f} -> {pairs[column].mean():.3f}"
    if ends is None:
        return gap <= TOLERANCE, f"{figures}, {gap:+.3f} on {len(pairs)} image"
    return ends.low <= MARGIN, f"{figures}, {gap:+.3f} [{ends.low:+.3f}, {ends.high:+.3f}]"
