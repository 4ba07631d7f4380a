"""The ensemble as a user meets it: made, verified, made again, shown, and through a defence."""

import json
from pathlib import Path
from typing import Any

import pytest

from afbench.plan.ensemble import MEMBERS

CONFIG = "reference-strong-1"


@pytest.fixture
def benchmark(afbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images with two steps for every member: the same code in a tenth of the time."""
    monkeypatch.setattr("afbench.engine.grid.STEPS", 2)
    out = tmp_path / "out"
    made = afbench(*_generate(out, 2))
    assert made.code == 0, made.err
    return out


def _generate(out: Path, limit: int) -> list[Any]:
    attack = ["--attack", "strong", "--phi", "1/255", "--source", "demo", "--limit", limit]
    return ["generate", "--localizer", "reference", *attack, "--out", out]


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


def test_it_takes_no_parameters_in_one_line(afbench: Any, tmp_path: Path) -> None:
    refused = afbench(*_generate(tmp_path / "out", 1), "--param", "steps=30")
    assert refused.code == 2
    assert "none of the attacks strong has a parameter 'steps'; their parameters: none" in refused.err


def test_it_goes_through_a_defence(afbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afbench.engine.grid.STEPS", 2)
    for defence in ("jpeg:75", "gaussian-noise:4/255"):
        out = tmp_path / defence.split(":")[0]
        made = afbench(*_generate(out, 1), "--through-defence", defence)
        assert made.code == 0, made.err
        assert afbench("verify", out).code == 0
