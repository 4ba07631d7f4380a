"""From a release on disk to a benchmark: what is attacked, what is only stored, what is refused."""

import json
import os

import pytest
import yaml
from releases import build_casia_v1, build_columbia, half_mask, photograph, put

from afbench.core import AfbenchError
from afbench.images import decode_stored
from afbench.sources import open_source
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify

ATTACK = ("--localizer", "reference", "--attack", "noise", "--phi", "1/255")


@pytest.fixture
def columbia(tmp_path):
    root = tmp_path / "columbia"
    root.mkdir()
    return root, build_columbia(root)


def rows(folder, config):
    benchmark = open_benchmark(folder)
    return list(read_rows(folder, shard_paths(benchmark.configs[config])))


def ids(folder, config):
    return {row["sample_id"] for row in rows(folder, config)}


def test_a_release_becomes_a_benchmark_with_every_exclusion_and_its_reason(afbench, columbia, tmp_path):
    root, expected = columbia
    ran = afbench("generate", *ATTACK, "--source", f"columbia:{root}", "--out", "out")
    assert ran.code == 0
    assert ids(tmp_path / "out", "reference-noise-1") == set(expected.included)
    manifest = open_benchmark(tmp_path / "out").configs["clean"]
    excluded = {
        one["sample_id"]: one["reason"]
        for shard in manifest.splits["columbia"].shards
        for one in shard.excluded
    }
    assert excluded == dict(expected.excluded)


def test_a_source_that_must_not_be_shared_is_named_once_and_recorded(afbench, columbia, tmp_path):
    root, _ = columbia
    ran = afbench("generate", *ATTACK, "--source", f"columbia:{root}", "--out", "out")
    assert ran.err.count("no redistribution") == 1
    split = open_benchmark(tmp_path / "out").configs["clean"].splits["columbia"]
    assert split.redistribution == "forbidden"
    assert "no redistribution" not in afbench("generate", *ATTACK, "--limit", "1", "--out", "demo").err


def test_authentic_images_are_stored_unattacked_in_a_config_of_their_own(afbench, columbia, tmp_path):
    root, expected = columbia
    asked = ("generate", *ATTACK, "--source", f"columbia:{root}", "--out", "out")
    assert afbench(*asked).code == 0
    assert "authentic" not in open_benchmark(tmp_path / "out").configs
    attacked = rows(tmp_path / "out", "reference-noise-1")
    assert afbench(*asked, "--authentic").code == 0  # asked for later: the forged ones stay as they are
    assert rows(tmp_path / "out", "reference-noise-1") == attacked
    assert ids(tmp_path / "out", "authentic") == set(expected.authentic)
    assert not any(decode_stored(row["mask"]).any() for row in rows(tmp_path / "out", "authentic"))
    assert ids(tmp_path / "out", "clean") == set(expected.included)
    assert verify(tmp_path / "out") == []
    again = json.loads(afbench(*asked, "--authentic", "--json").out)
    assert again["shards_written"] == 0


@pytest.mark.parametrize("at", ["native", "model"])
def test_a_changed_authentic_image_is_noticed_when_a_run_goes_on(afbench, columbia, tmp_path, at):
    root, expected = columbia
    asked = ("generate", *ATTACK, "--source", f"columbia:{root}", "--attack-at", at, "--out", "out")
    assert afbench(*asked, "--authentic").code == 0
    image = next(root.rglob(f"{expected.authentic[0]}.*"))
    put(image.parent, image.name, photograph(99, (64, 48)))
    assert afbench(*asked).code == 0
    ran = afbench(*asked, "--authentic")
    assert ran.code == 2 and "holds other originals of 'columbia' (source_sha256" in ran.err


def test_a_data_folder_without_a_known_source_is_not_taken_for_the_demo(afbench, tmp_path, monkeypatch):
    monkeypatch.setenv("AFBENCH_DATA", str(tmp_path / "dta"))
    ran = afbench("generate", *ATTACK, "--limit", "1", "--out", "out")
    assert ran.code == 2 and "/dta', which has no folder of a known source (columbia, " in ran.err


def test_names_that_are_no_unicode_become_a_benchmark(afbench, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    put(tmp_path, "auto/Forged_JPEG100/x.png", photograph(1))
    (tmp_path / "auto/Forged_JPEG100/x.png").rename(tmp_path / f"auto/Forged_JPEG100/{name}_0.png")
    put(tmp_path, "auto/Mask/x.png", half_mask()).rename(tmp_path / f"auto/Mask/{name}_mask.png")
    put(tmp_path, "out.png", photograph(2))
    (tmp_path / f"auto/Forged_JPEG100/{name}_1.png").symlink_to(tmp_path / "out.png")
    ran = afbench("generate", *ATTACK, "--source", "autosplice:auto", "--out", "out")
    assert ran.code == 0, ran.err
    assert len(ids(tmp_path / "out", "clean")) == 1


def test_without_a_source_what_the_data_folder_holds_is_used_and_said(
    afbench, columbia, tmp_path, monkeypatch
):
    monkeypatch.setenv("AFBENCH_DATA", str(tmp_path))
    (tmp_path / "CASIA-v1").mkdir()
    expected = build_casia_v1(tmp_path / "CASIA-v1")
    ran = afbench("generate", *ATTACK, "--limit", "1", "--out", "out")
    assert "using columbia, casia_v1 of AFBENCH_DATA" in ran.err
    splits = open_benchmark(tmp_path / "out").configs["clean"].splits
    assert list(splits) == ["casia_v1", "columbia"]
    assert len(ids(tmp_path / "out", "clean") & set(expected.included)) == 1


def plan_of(tmp_path, root, sha256):
    block = {
        "localizers": ["reference"],
        "sources": [{"source": f"columbia:{root}", "sha256": sha256}],
        "attacks": [{"attack": "noise", "phi": ["1/255"]}],
    }
    path = tmp_path / "pinned.yaml"
    path.write_text(yaml.safe_dump({"name": "pinned", "blocks": [block]}))
    return path


def test_a_plan_pins_a_copy_by_the_sha256_of_its_index(afbench, columbia, tmp_path):
    root, expected = columbia
    index = json.loads(afbench("index", "columbia", "--root", root, "--json").out)
    plan = plan_of(tmp_path, root, index["sha256"])
    assert afbench("generate", "--plan", plan, "--out", "out").code == 0
    image = next(root.rglob(f"{expected.included[0]}.tif"))
    image.write_bytes(image.read_bytes() + b"\0")
    ran = afbench("generate", "--plan", plan, "--out", "other")
    assert ran.code == 2 and "is not the copy that is pinned" in ran.err
    assert not (tmp_path / "other").exists()


def test_a_pin_must_be_a_sha256_and_an_embedded_source_takes_none(afbench, columbia, tmp_path):
    root, _ = columbia
    assert afbench("plan", "--plan", plan_of(tmp_path, root, "abc")).code == 2
    path = tmp_path / "demo.yaml"
    path.write_text(plan_of(tmp_path, root, "0" * 64).read_text().replace(f"columbia:{root}", "demo"))
    ran = afbench("generate", "--plan", path, "--out", "out")
    assert ran.code == 2 and "no index to pin" in ran.err


def test_an_index_file_is_read_as_it_lists_and_changed_bytes_stop_the_run(afbench, columbia, tmp_path):
    root, expected = columbia
    assert afbench("index", "columbia", "--root", root, "--out", "columbia.json").code == 0
    asked = ("generate", *ATTACK, "--source", "columbia:columbia.json", "--out")
    assert afbench(*asked, "out").code == 0
    assert ids(tmp_path / "out", "clean") == set(expected.included)
    image = next(root.rglob(f"{expected.included[0]}.tif"))
    image.write_bytes(image.read_bytes() + b"\0")
    ran = afbench(*asked, "other")
    assert ran.code == 1 and "changed since it was indexed" in ran.err
    assert "Traceback" not in ran.err


def test_a_source_opened_in_python_keeps_authentic_images_apart(columbia):
    from afbench.sources import SourceOptions

    root, expected = columbia
    source = open_source("columbia", str(root), options=SourceOptions(authentic=True))
    assert set(source.ids) == {*expected.included, *expected.excluded}
    assert set(source.authentic) == set(expected.authentic)
    assert not source.read(source.authentic[0]).mask.any()
    plain = open_source("columbia", str(root))
    assert plain.sha256 == source.sha256 and plain.authentic == []
    with pytest.raises(AfbenchError, match="pinned"):
        open_source("columbia", str(root), pin="0" * 64)
