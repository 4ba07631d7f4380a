"""The card of a benchmark: valid for the Hub, true, and with code that works when pasted."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from afbench.storage.card import dataset_card
from afbench.storage.config_manifest import ConfigManifest, ShardRecord, SplitManifest
from afbench.storage.manifests import open_benchmark
from afbench.storage.summary import summarise

SECTIONS = (
    "What is in it",
    "Figures",
    "How it was made",
    "Intended use",
    "Limits",
    "Ethics",
    "Sources and their terms",
    "Excluded samples",
    "Citation",
)


def test_the_code_in_it_runs_when_pasted(folder: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"synthetic-0-000000 [\d.]+ [\d.]+ \(128, 128\) \(128, 128\)\n", done.stdout), (
        done.stdout
    )


def test_the_hub_s_own_reader_takes_its_yaml(folder: Path) -> None:
    card = DatasetCard.load(folder / "README.md")
    data = card.data
    assert isinstance(data, DatasetCardData)
    assert data.license == "other"  # which the Hub takes with a name and a link alone
    assert re.fullmatch(r"[a-z0-9.-]+", data.license_name) and data.license_link == "LICENSE.md"
    assert (folder / data.license_link).is_file()
    assert data.size_categories == ["n<1K"] and data.task_categories == ["image-segmentation"]
    assert data.pretty_name == "Adversarial forgeries of synthetic against reference"
    assert "extra_gated_prompt" not in data.to_dict()
    infos = datasets.info.DatasetInfosDict.from_dataset_card_data(data)
    assert {name: one.splits["synthetic"].num_examples for name, one in infos.items()} == {
        **dict.fromkeys(("clean", "reference-fgsm-1", "reference-fgsm-2"), 3),
        **dict.fromkeys(("reference-fgsm", "all"), 6),
    }
    assert all(one.download_size == one.dataset_size > 0 for one in infos.values())
    # nothing is lost on the way through the Hub's own writer
    assert yaml.safe_load(data.to_yaml()) == yaml.safe_load(card.content.split("---\n")[1])


@pytest.mark.parametrize(
    ("rows", "size"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (5_000_000, "1M<n<10M"), (10**8, "100M<n<1B")],
)
def test_sizes_are_words_the_hub_knows(rows: int, size: str) -> None:
    shard = ShardRecord(
        path="data/clean/x.parquet",
        rows=rows,
        bytes=1,
        sha256="0",
        ids_sha256="",
        first_id="a",
        last_id="b",
        excluded=[],
    )
    part = SplitManifest(shards=[shard], samples=rows, terms="free", redistribution="allowed")
    card = dataset_card({"clean": ConfigManifest("clean", {"x": part})})
    assert yaml.safe_load(card.split("---\n")[1])["size_categories"] == [size]


def test_it_says_everything_a_reader_of_a_dataset_asks(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert "<!--" not in text and "@software{afbench" in text
    assert "6 attacked images in 2 configs, and their originals: 3 in `clean`." in text
    configs = open_benchmark(folder).configs
    assert configs["reference-fgsm-1"].provenance["localizer"]["weights_sha256"] in text
    assert "| fgsm | - | Goodfellow et al. 2014, arXiv 1412.6572 | 2 |" in text
    assert "| `synthetic` | 3 of 3 | made by afbench; photographs CC0" in text and "> **" not in text


def test_the_table_holds_the_figures_of_the_rows(folder: Path) -> None:
    rows = datasets.load_dataset(
        "parquet", data_files=str(folder / "data/reference-fgsm-2/*.parquet"), split="train", streaming=True
    ).remove_columns(["image", "mask"])
    found = summarise(list(rows))
    (line,) = re.findall(
        r"^\| reference-fgsm-2 \(untrained\) \|.*$", (folder / "README.md").read_text(), re.MULTILINE
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    figures = [f"{found[key]:.3f}" for key in ("f1_clean", "f1_adv")]
    assert cells[1:5] == ["synthetic", "3", *figures] and cells[5] == f"{found['rp']:.1f}!"
    assert cells[7] == f"{found['psnr']:.1f}" and cells[9] == "2"


@pytest.mark.parametrize(("word", "told"), [("forbidden", "Do not pass this on"), ("unclear", "Ask before")])
def test_restricted_pixels_are_named_above_everything_else(
    of_terms: Callable[[str], Path], word: str, told: str
) -> None:
    text = (of_terms(word) / "README.md").read_text()
    first = text.split("\n---\n", 1)[1].split("\n\n")[1]
    assert first.startswith(f"> **{told}") and "synthetic (for research | alone)" in first
    front = yaml.safe_load(text.split("---\n")[1])
    assert "synthetic" in front["extra_gated_prompt"]
    assert f"| for research / alone | {word} |" in text  # a bar would end the cell


def test_sources_are_cited(of_terms: Callable[[str], Path]) -> None:
    configs = dict(open_benchmark(of_terms("forbidden")).configs)
    renamed = {
        name: replace(manifest, splits={"columbia": manifest.splits["synthetic"]})
        for name, manifest in configs.items()
    }
    assert "Y.-F. Hsu, S.-F. Chang" in dataset_card(renamed)
