"""``afbench.results``: a row per image and config, without decoding one."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import afbench as library
from afbench.core import AfbenchError, UsageError
from afbench.files import commit_json
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.workflows.publishing.export import export


@pytest.fixture(scope="module", params=["parquet", "residuals"])
def stored(request, made, tmp_path_factory) -> Path:
    if request.param == "parquet":
        return made.folder
    out = tmp_path_factory.mktemp("archive") / "residuals"
    export(made.folder, out, "hdf5", with_originals=False)
    return out


@pytest.fixture
def writable(made, tmp_path) -> Path:
    """A copy of the benchmark, to be changed."""
    shutil.copytree(made.folder, tmp_path / "writable")
    return tmp_path / "writable"


def test_the_table_holds_what_the_shards_say_of_every_image(made, stored):
    table = library.results(stored)
    expected = [
        {"config": name, **row}
        for name, manifest in open_benchmark(made.folder).attacked.items()
        for row in read_rows(made.folder, shard_paths(manifest))
    ]
    assert len(table) == len(expected) == 3 * 7
    # an archive without originals has no pixels to decode
    assert not {"image", "mask"} & set(table.columns)
    for name in ("config", "sample_id", "f1_clean", "f1_adv", "psnr", "phi", "tp", "linf", "image_sha256"):
        stored_values = [np.nan if row[name] is None else row[name] for row in expected]
        assert table[name].equals(table[name].__class__(stored_values, dtype=table[name].dtype, name=name))
    assert sorted(set(table.phi_255.dropna())) == [1.0, 3.0]
    assert table[table.attack == "cw"].phi.isna().all()
    assert table.defence.isna().all()


def test_means_of_the_table_are_those_that_stats_prints(made):
    table = library.results(made.folder, split="folder")
    means = table.groupby("config").f1_adv.mean()
    for name, manifest in open_benchmark(made.folder).attacked.items():
        assert means[name] == pytest.approx(manifest.splits["folder"].summary["f1_adv"], abs=1e-12)


def test_configs_are_chosen_by_name_and_by_family(made):
    assert set(library.results(made.folder, "reference-fgsm").config) == {
        "reference-fgsm-1",
        "reference-fgsm-3",
    }
    both = library.results(made.folder, ["clean", "reference-cw-2"], split="synthetic")
    assert list(both.config) == ["clean"] * 2 + ["reference-cw-2"] * 2
    assert both.f1_adv.isna().sum() == 2
    assert list(library.results(made.folder, "clean").columns)[:3] == ["config", "sample_id", "source"]
    with pytest.raises(UsageError, match=r"config 'fgsm-9' is not in .*reference-fgsm-1"):
        library.results(made.folder, "fgsm-9")


def test_a_folder_that_is_being_written_says_what_the_table_covers(writable):
    (writable / ".afbench").mkdir()
    with pytest.warns(
        UserWarning, match="a run that is not finished; this table covers what is published: reference-f"
    ):
        assert len(library.results(writable)) == 21
    (writable / "MANIFEST.json").unlink()
    with pytest.raises(UsageError, match="a run there is not finished: run `afbench generate` again"):
        library.results(writable)


def test_a_shard_of_another_length_is_no_table(writable):
    manifest = open_benchmark(writable).configs["reference-fgsm-1"]
    part = manifest.splits["folder"]
    shards = [replace(shard, rows=shard.rows + 1) for shard in part.shards]
    grown = replace(manifest, splits={**manifest.splits, "folder": replace(part, shards=shards)})
    commit_json(writable / "manifests" / "reference-fgsm-1.json", grown.as_json())
    with pytest.raises(AfbenchError, match=r"holds 5 rows of folder, expected 8; `afbench verify .*damaged"):
        library.results(writable)


def test_figures_are_read_without_torch(made):
    code = "import sys, afbench; afbench.results(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, made.folder], check=False).returncode == 0
