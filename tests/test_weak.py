"""A localizer that finds nothing in the originals is named wherever its figures are shown, and its RP is not shown as if fine."""

import json
from typing import Any

import pandas as pd
import pytest

from afbench.reports.tables import rp_figure, stats_rows, stats_table
from afbench.reports.weak import weak_configs, weak_images
from afbench.scoring.statistics import few_images
from afbench.storage.card import figures_table
from afbench.storage.config_manifest import ConfigManifest, SplitManifest
from afbench.storage.summary import finds_nothing

FEW = "reference: 2 images: intervals of fewer than 30 are rough; use more"
WORDS = "it finds nothing here: check weights, masks, polarity"


def manifest(
    f1: float | None, all_ones: float | None, *, name: str = "mvss", defence: Any = None
) -> ConfigManifest:
    summary = {
        "n": 4, "n_undefined": 0, "unchanged": 0, "f1_clean": f1, "f1_adv": 0.0001, "rp": 50.0, "f1_all_ones": all_ones,
        "psnr": 40.0, "ssim": 0.9, "linf": 1, "zero_gradient_pixels": 0,
    }  # fmt: skip
    network = {"name": name, "architecture": name, "weights_sha256": "0" * 64, "untrained": False}
    how: dict[str, Any] = {"attack": "fgsm", "phi": "1/255", "steps": 1, "params": {}, "localizer": network}
    provenance = how | ({"defence": defence} if defence else {})
    return ConfigManifest("mvss-fgsm-1", {"columbia": SplitManifest(summary=summary)}, provenance)


@pytest.mark.parametrize(
    ("f1", "all_ones", "nothing", "shown"),
    [
        (0.0, 0.3, True, "-"),
        (0.0004, None, True, "-"),
        (0.0006, 0.0, False, "50.0"),
        (0.29, 0.3, True, "50.0!"),
        (0.3, 0.3, False, "50.0"),
        (None, 0.3, False, "50.0"),
    ],
)
def test_it_is_0_000_or_below_all_ones(
    f1: float | None, all_ones: float | None, nothing: bool, shown: str
) -> None:
    assert finds_nothing(f1, all_ones) is nothing and rp_figure(50.0, f1, all_ones) == shown
    configs = {"mvss-fgsm-1": manifest(f1, all_ones)}
    assert len(weak_configs(configs)) == nothing and stats_rows(configs)[0]["finds_nothing"] is nothing
    assert f" {shown} " in stats_table(configs)
    assert f"| {shown} |" in figures_table(configs)
    assert ("finds nothing there" in figures_table(configs)) == shown.endswith("!")


def test_a_localizer_is_named_once_a_source_and_with_the_figures() -> None:
    through = manifest(0.1, 0.3, name="mvss_jpeg_75", defence={"name": "jpeg"})
    configs = {
        "clean": ConfigManifest("clean", {"columbia": SplitManifest()}),
        "authentic": ConfigManifest("authentic", {"columbia": SplitManifest()}),
        "mvss-fgsm-1": manifest(0.1, 0.3),
        "mvss-fgsm-2": manifest(0.1, 0.3),
        "mvss_jpeg_75-fgsm-1": through,
        "code-fgsm-1": manifest(0.0, 0.3, name="code"),
    }
    assert weak_configs(configs) == [
        f"mvss on columbia: F1 on originals 0.100, of an all-ones mask 0.300: {WORDS}",
        f"code on columbia: F1 on originals 0.000, of an all-ones mask 0.300: {WORDS}",
    ]


def test_images_of_each_localizer_are_counted_once_and_authentic_ones_not_at_all() -> None:
    row = {"localizer": "l", "source": "s", "tp": 5, "fn": 20}
    authentic = row | {"sample_id": "none", "tp": 0, "fn": 0}
    rows = [row | {"sample_id": f"s{number}", "config": config} for number in range(29) for config in "ab"]
    many = [row | {"localizer": "m", "sample_id": f"s{number}"} for number in range(30)]
    lines = few_images(pd.DataFrame([*rows, authentic, *many]))
    assert lines == ["l: 29 images: intervals of fewer than 30 are rough; use more"]


def test_images_of_a_score_say_the_same_and_authentic_ones_say_nothing() -> None:
    row = {"localizer": "l", "source": "s", "sample_id": "a", "tp": 5, "fp": 0, "fn": 20, "tn": 75}
    authentic = row | {"sample_id": "b", "tp": 0, "fn": 0, "fp": 25, "f1_original": 0.0}
    for f1, weak in (
        (0.39, True),
        (0.41, False),
    ):  # a quarter is forged: all ones score 2 * 0.25 / 1.25 = 0.4
        rows = [row | {"f1_original": f1}, row | {"f1_original": f1}, authentic]
        lines = weak_images(pd.DataFrame(rows))
        assert lines == [f"l on s: F1 on originals {f1:.3f}, of an all-ones mask 0.400: {WORDS}"] * weak


def test_generate_stats_score_and_evaluate_warn_in_one_line(
    afbench: Any, photographs: Any, tmp_path: Any
) -> None:
    """On pictures of noise the trained localizer finds nothing."""
    source = f"folder:{photographs}"
    ran = afbench(
        "generate", "--localizer", "reference", "--attack", "fgsm", "--phi", "1/255", "--source", source,
        "--limit", "2", "--out", "B", "--json",
    )  # fmt: skip
    assert ran.code == 0
    (line,) = json.loads(ran.out)["warnings"]
    assert line.startswith("reference on folder: F1 on originals 0.") and line.endswith(WORDS)
    said = [text for text in ran.err.splitlines() if text.startswith("warning: ")]
    assert said == [f"warning: {line}"]
    assert afbench("stats", "B").err.splitlines() == [f"warning: {line}"]
    assert afbench("predict", "--data", "B", "--localizer", "reference", "--out", "S").code == 0
    scored = afbench("score", "S", "--data", "B", "--out", "scored")
    assert scored.code == 0 and f"warning: {line}" in scored.err
    judged = afbench("evaluate", "--data", "B", "--localizer", "reference", "--json")
    assert judged.code == 0 and f"warning: {line}" in judged.err
    assert json.loads(judged.out)["warnings"] == [line, FEW]
    assert f"warning: {FEW}" in scored.err and f"warning: {FEW}" in afbench("compare", "scored", "scored").err


def test_evaluate_and_score_say_where_an_attack_averages_over_parameters(afbench, tmp_path):
    out, submission = tmp_path / "out", tmp_path / "submission"
    common = ("--localizer", "reference", "--source", "demo", "--limit", "1", "--phi", "1/255", "--out", out)
    for params in ("steps=1",), ("steps=1", "loss=soft-f1"), ("steps=2", "loss=soft-f1"):
        options = [text for param in params for text in ("--param", param)]
        assert afbench("generate", *common, "--attack", "bim", *options).code == 0
    assert afbench("generate", *common, "--attack", "fgsm").code == 0
    warning = (
        "reference: BIM averages over loss bce and soft-f1, steps 1 and 2; `afbench stats` shows each config"
    )
    evaluation = afbench("evaluate", "--data", out, "--localizer", "reference", "--json")
    assert json.loads(evaluation.out)["warnings"].count(warning) == 1
    assert "FGSM averages" not in evaluation.out
    predicted = (
        "predict",
        "--data",
        out,
        "--localizer",
        "reference",
        "--defence",
        "none",
        "--out",
        submission,
    )
    assert afbench(*predicted).code == 0
    assert (
        f"warning: {warning}" in afbench("score", submission, "--data", out, "--out", tmp_path / "score").err
    )
