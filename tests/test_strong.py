"""The ensemble as a user meets it: made, verified, made again, shown, and through a defence."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from afbench.engine import grid
from afbench.plans.ensemble import MEMBERS

CONFIG = "reference-strong-1"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the first test's benchmark is made in, to be copied."""
    return tmp_path_factory.mktemp("strong") / "out"


@pytest.fixture
def benchmark(afbench: Any, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images with two steps for every member: the same code in a tenth of the time."""
    monkeypatch.setattr("afbench.engine.grid.STEPS", 2)
    if not original.exists():
        made = afbench(*_generate(original, 2))
        assert made.code == 0, made.err
    return Path(shutil.copytree(original, tmp_path / "out"))


def _generate(out: Path, limit: int) -> list[Any]:
    attacks = ["--attack", "fgsm", "--attack", "strong", "--phi", "1/255"]
    return [
        *("generate", "--localizer", "reference", *attacks),
        *("--source", "demo", "--limit", limit, "--out", out),
    ]


def test_every_image_has_its_member_in_the_manifest_and_verify_counts_them(
    afbench: Any, benchmark: Path
) -> None:
    path = benchmark / "manifests" / f"{CONFIG}.json"
    (shard,) = json.loads(path.read_text())["splits"]["demo"]["shards"]
    assert len(shard["members"]) == shard["rows"] == 2 and set(shard["members"].values()) <= set(MEMBERS)
    assert afbench("verify", benchmark, "--deep").code == 0
    (name, member) = next(iter(shard["members"].items()))
    (row,) = json.loads(afbench("inspect", benchmark, "--config", CONFIG, "--sample", name, "--json").out)[
        "rows"
    ].values()
    assert row["member"] == member and "members" not in row["shard"]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_ending_once_f1_is_0_stores_the_bytes_of_the_whole_run(
    afbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Float32 sums depend on the batch size, so images that are done stay in their batch."""
    command = ["generate", "--localizer", "reference", "--attack", "strong", "--batch-size", batch_size]
    source = ["--phi", "1/255", "--phi", "3/255", "--source", "demo", "--limit", 3]
    whole_run = grid.attacks.strong
    outs = [tmp_path / "early", tmp_path / "whole"]
    for out, lowest in zip(outs, (0.0, -math.inf), strict=True):
        monkeypatch.setattr(
            grid.attacks,
            "strong",
            lambda *given, lowest=lowest, **named: whole_run(*given, **named | {"lowest": lowest}),
        )
        assert afbench(*command, *source, "--out", out).code == 0
    early, whole = (
        {path.relative_to(out): path.read_bytes() for path in out.glob("data/*/*")} for out in outs
    )
    assert early == whole and len(early) == 3
    early_members, whole_members = (
        {
            path.name: [
                shard["members"] for shard in json.loads(path.read_text())["splits"]["demo"]["shards"]
            ]
            for path in out.glob("manifests/*strong*")
        }
        for out in outs
    )
    assert early_members == whole_members and early_members


def test_it_is_made_again_to_the_same_bytes_and_grows(afbench: Any, benchmark: Path) -> None:
    data = benchmark / "data" / CONFIG
    first = {path.name: path.read_bytes() for path in data.iterdir()}
    (shard,) = json.loads((benchmark / "manifests" / f"{CONFIG}.json").read_text())["splits"]["demo"][
        "shards"
    ]
    row = f"{CONFIG}/demo/{shard['first_id']}"
    assert "identical" in afbench("reproduce", benchmark, "--row", row).out
    again = afbench(*_generate(benchmark, 2))
    assert again.code == 0 and {path.name: path.read_bytes() for path in data.iterdir()} == first
    assert afbench(*_generate(benchmark, 3)).code == 0
    assert afbench("verify", benchmark).code == 0


def test_tables_show_it_before_the_attacks_of_the_paper(afbench: Any, benchmark: Path) -> None:
    rows = json.loads(afbench("stats", benchmark, "--json").out)
    assert [row["config"] for row in rows if row["config"].startswith("reference")] == [
        CONFIG,
        "reference-fgsm-1",
    ]
    evaluated = afbench("evaluate", "--localizer", "reference", "--data", benchmark, "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.out.index('"strong"') < evaluated.out.index('"fgsm"')
    records = json.loads(evaluated.out)["figures"]
    worst = {record["attack"]: record["f1"] for record in records if record["defence"] == "none"}
    assert worst["worst-case"] <= min(worst["strong"], worst["fgsm"])
    card = (benchmark / "README.md").read_text()
    assert card.index(f"config_name: {CONFIG}") < card.index("config_name: reference-fgsm-1")
    assert "The rows of `strong` say how robust the localizer is" in card


def test_stats_take_of_each_image_the_lowest_f1_of_all_configs(afbench: Any, benchmark: Path) -> None:
    lowest: dict[str, float] = {}
    originals: dict[str, float] = {}
    for config in (CONFIG, "reference-fgsm-1"):
        for path in (benchmark / "data" / config).iterdir():
            for row in pq.read_table(path, columns=["sample_id", "f1_clean", "f1_adv"]).to_pylist():
                lowest[row["sample_id"]] = min(lowest.get(row["sample_id"], 1.0), row["f1_adv"])
                originals[row["sample_id"]] = row["f1_clean"]
    f1_clean, f1_worst = (sum(scores.values()) / len(scores) for scores in (originals, lowest))
    head, row = afbench("stats", benchmark, "--wide").out.strip().splitlines()[-2:]
    assert head.split()[:4] == ["worst", "case", "per", "image"]
    assert row.split() == [
        *("reference", "demo", "2", "2"),
        *(f"{f1_clean:.3f}", f"{f1_worst:.3f}", f"{100 * f1_worst / f1_clean:.1f}"),
    ]


def test_stats_show_manifests_where_a_shard_is_gone(afbench: Any, benchmark: Path) -> None:
    next((benchmark / "data" / CONFIG).iterdir()).unlink()
    shown = afbench("stats", benchmark)
    assert shown.code == 0 and CONFIG in shown.out
    assert "warning: no worst case per image" in shown.err and "worst case per image" not in shown.out


def test_it_takes_no_parameters_in_one_line(afbench: Any, tmp_path: Path) -> None:
    refused = afbench("generate", "--localizer", "reference", "--attack", "strong", "--param", "steps=30")
    assert refused.code == 2
    assert "none of the attacks strong has a parameter 'steps'; their parameters: none" in refused.err


def test_it_goes_through_a_defence(afbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afbench.engine.grid.STEPS", 1)
    for defence in ("jpeg:75", "gaussian-noise:4/255"):
        out = tmp_path / defence.split(":")[0]
        made = afbench(*_generate(out, 1), "--through-defence", defence)
        assert made.code == 0, made.err
        assert afbench("verify", out).code == 0
