"""``afbench restore``: residuals and the user's own originals make the benchmark again, and nothing wrong is stored."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from afbench import load
from afbench.core import AfbenchError, UsageError
from afbench.files import commit_json
from afbench.images import decode_stored, pixel_sha256
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import CLEAN, open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing import restore as workflow
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.restore import restore
from afbench.workflows.request import Options


@pytest.fixture(scope="module")
def residuals(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("archive") / "residuals"
    export(made.folder, out, "hdf5", with_originals=False)
    return out


def published(folder: Path) -> dict[str, bytes]:
    """All that is not a log."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "log"
    }


def rows_of(folder, config):
    return list(read_rows(folder, shard_paths(open_benchmark(folder).configs[config])))


def copy_of(root: Path, out: Path) -> Path:
    return shutil.copytree(root, out / "mine")


def test_residuals_and_the_same_originals_give_the_same_bytes(made, residuals, tmp_path):
    told: list[int] = []
    done = restore(residuals, tmp_path / "out", {"folder": str(made.root)}, start=told.append)
    assert published(tmp_path / "out") == published(made.folder)
    assert (done.images, done.shards, done.identical, done.missing) == (28, 16, 16, [])
    assert told == [28] and verify(tmp_path / "out", level="deep") == []


def test_an_archive_with_its_originals_needs_no_copy(made, tmp_path):
    export(made.folder, tmp_path / "archive", "hdf5")
    restore(tmp_path / "archive", tmp_path / "out", {})
    assert published(tmp_path / "out") == published(made.folder)
    with pytest.raises(UsageError, match="needs no originals of it"):
        restore(tmp_path / "archive", tmp_path / "again", {"folder": str(made.root)})


def test_authentic_images_and_png_come_back_too(tmp_path):
    draw = np.random.default_rng(0)
    root = tmp_path / "columbia"
    green = np.zeros((32, 40, 3), np.uint8)
    green[:, :9] = (0, 255, 0)
    for folder, name in (
        ("4cam_splc", "canong3_nikond70_sub_01.tif"),
        ("4cam_splc", "canong3_nikond70_sub_02.tif"),
        ("4cam_auth", "canong3_02_sub_01.tif"),
    ):
        (root / folder / "edgemask").mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(root / folder / name)
        if folder == "4cam_splc":
            mask = root / folder / "edgemask" / name.replace(".tif", "_edgemask.jpg")
            Image.fromarray(green).save(mask, quality=100)
    spec = SourceSpec("columbia", str(root))
    plan = RunPlan("x", (Block(("reference",), (spec,), expand_attack("fgsm", phi=["2/255"])),))
    generate(plan, tmp_path / "made", Options(checkpoint="random", authentic=True, image_format="png"))
    assert "authentic" in open_benchmark(tmp_path / "made").configs
    export(tmp_path / "made", tmp_path / "archive", "hdf5")  # columbia may not be shared
    assert b"\x89PNG" not in b"".join(path.read_bytes() for path in (tmp_path / "archive").rglob("*.h5"))
    done = restore(tmp_path / "archive", tmp_path / "out", {"columbia": str(root)})
    assert done.images == 5 and published(tmp_path / "out") == published(tmp_path / "made")
    dataset = load(tmp_path / "archive", "authentic", originals={"columbia": str(root)})
    (item,) = dataset
    assert not item["mask"].any() and item["original"].any()


def test_missing_and_other_originals_are_listed_and_left_out(made, residuals, tmp_path, afbench):
    root = copy_of(made.root, tmp_path)
    (root / "images/photo.0.png").unlink()
    other = np.asarray(Image.open(root / "images/photo.1.png")).copy()
    other[0, 0, 0] ^= 1
    Image.fromarray(other).save(root / "images/photo.1.png")
    mask = np.asarray(Image.open(root / "masks/photo.2.png")).copy()
    mask[0, 0] = 255
    Image.fromarray(mask).save(root / "masks/photo.2.png")
    arguments = ("restore", str(residuals), "--source", f"folder:{root}", "--out", "out")
    ran = afbench(*arguments, "--json")
    told = json.loads(ran.out)
    assert ran.code == 3
    assert {one["sample_id"]: one["reason"] for one in told["missing"]} == {
        "photo.0": "missing_original",
        "photo.1": "other_original",
        "photo.2": "other_mask",
    }
    out = tmp_path / "out"
    assert verify(out, level="deep") == []
    for config in made.configs:
        expected = {row["sample_id"]: row for row in rows_of(made.folder, config)}
        found = {row["sample_id"]: row for row in rows_of(out, config)}
        assert expected.keys() - found.keys() == {"photo.0", "photo.1", "photo.2"}
        for name, row in found.items():
            assert row == expected[name]
            assert pixel_sha256(decode_stored(row["image"])) == row["image_sha256"]
    excluded = open_benchmark(out).configs[CLEAN].splits["folder"].shards[0].excluded
    assert [one["reason"] for one in excluded] == ["missing_original", "other_original"]
    assert open_benchmark(out).configs["reference-cw-2"].splits["folder"].summary["n"] == 2
    assert (
        "other_original: 1" in (out / "README.md").read_text()
        or "other_original" in (out / "README.md").read_text()
    )
    ran = afbench(*arguments)
    assert ran.code == 3 and "folder photo.1: other_original (its pixels are not those" in ran.out
    assert "missing: 1 missing_original\n" in ran.out

    done = restore(residuals, out, {"folder": str(made.root)})  # the right copy turned up
    assert done.missing == [] and published(out) == published(made.folder)


def test_nothing_is_made_of_a_wrong_copy(made, residuals, tmp_path):
    root = copy_of(made.root, tmp_path)
    for path in (root / "images").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(AfbenchError, match=r"not one image of .* \(5 other_original\); is it the right copy"):
        restore(residuals, tmp_path / "out", {"folder": str(root)}, splits=["folder"])
    assert not (tmp_path / "out/MANIFEST.json").exists()


def test_one_source_can_be_restored_alone(made, residuals, tmp_path):
    done = restore(residuals, tmp_path / "out", {}, splits=["synthetic"])
    assert done.images == 8 and verify(tmp_path / "out", level="deep") == []
    assert list(open_benchmark(tmp_path / "out").configs[CLEAN].splits) == ["synthetic"]


def test_originals_are_fitted_where_the_attack_was_at_the_models_size(made, tmp_path):
    plan = RunPlan(
        "x",
        (
            Block(
                ("reference",), (SourceSpec("folder", str(made.root)),), expand_attack("fgsm", phi=["2/255"])
            ),
        ),
    )
    generate(plan, tmp_path / "made", Options(checkpoint="random", attack_at="model"))
    export(tmp_path / "made", tmp_path / "archive", "hdf5", with_originals=False)
    restore(tmp_path / "archive", tmp_path / "out", {"folder": str(made.root)})
    assert published(tmp_path / "out") == published(tmp_path / "made")


def test_a_changed_residual_is_refused_although_its_hashes_were_made_to_fit(made, residuals, tmp_path):
    archive = shutil.copytree(residuals, tmp_path / "archive")
    (path, *_) = sorted((archive / "data/reference-cw-2").glob("folder-*.h5"))
    with h5py.File(path, "r+") as file:
        for name in ("offset", "length"):
            file[name][:] = file[name][:][::-1]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(AfbenchError, match=rf"{path.name}' is damaged: it has another sha256"):
        restore(archive, tmp_path / "out", {"folder": str(made.root)})
    manifest = json.loads((archive / "manifests/reference-cw-2.json").read_text())
    manifest["splits"]["folder"]["shards"][0]["sha256"] = sha256
    commit_json(archive / "manifests/reference-cw-2.json", manifest)
    with pytest.raises(AfbenchError, match=r"damaged"):
        restore(archive, tmp_path / "out", {"folder": str(made.root)})
    assert not (tmp_path / "out/MANIFEST.json").exists()


def test_a_swapped_or_linked_shard_is_refused(made, residuals, tmp_path):
    archive = shutil.copytree(residuals, tmp_path / "archive")
    first, second = sorted((archive / "data/reference-cw-2").glob("*.h5"))[:2]
    manifest = json.loads((archive / "manifests/reference-cw-2.json").read_text())
    shards = manifest["splits"]["folder"]["shards"]
    shards[0], shards[1] = (
        {**shards[0], "path": shards[1]["path"], "sha256": shards[1]["sha256"]},
        {**shards[1], "path": shards[0]["path"], "sha256": shards[0]["sha256"]},
    )
    commit_json(archive / "manifests/reference-cw-2.json", manifest)
    with pytest.raises(AfbenchError, match="is not among the originals of its shard"):
        restore(archive, tmp_path / "a", {"folder": str(made.root)})
    shutil.copytree(residuals, archive, dirs_exist_ok=True)
    outside = tmp_path / "outside.h5"
    shutil.move(first, outside)
    first.symlink_to(outside)
    with pytest.raises(AfbenchError, match="is a link out of the archive"):
        restore(archive, tmp_path / "b", {"folder": str(made.root)})
    first.unlink()
    shutil.copy(second, first)
    with pytest.raises(AfbenchError, match="another sha256"):
        restore(archive, tmp_path / "c", {"folder": str(made.root)})


def test_a_path_that_leaves_the_archive_is_refused(residuals, tmp_path, made):
    archive = shutil.copytree(residuals, tmp_path / "archive")
    for path in ("../x.h5", "/etc/passwd"):
        manifest = json.loads((residuals / "manifests/clean.json").read_text())
        manifest["splits"]["folder"]["shards"][0]["path"] = path
        commit_json(archive / "manifests/clean.json", manifest)
        with pytest.raises(AfbenchError, match="leaves its folder"):
            restore(archive, tmp_path / "out", {"folder": str(made.root)})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--out", "x"), "source 'folder' needs its root"),
        (("--out", "x", "--source", "mvss"), "source 'mvss' is unknown"),
        (("--out", "x", "--source", "casia_v1:."), "--source casia_v1: .* needs no originals of it"),
        (("--out", "x", "--source", "folder:nowhere"), "source folder: 'nowhere' is no folder"),
        (("--out", "x", "--split", "casia_v1"), "--split 'casia_v1' is not in"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(residuals, afbench, tmp_path, arguments, told):
    ran = afbench("restore", str(residuals), *arguments)
    assert ran.code == 2 and len(ran.err.splitlines()) == 1, ran.err
    assert not list(tmp_path.iterdir())
    assert re.search(told, ran.err), ran.err


def test_a_benchmark_is_no_archive(made, tmp_path):
    with pytest.raises(UsageError, match="is no archive"):
        restore(made.folder, tmp_path / "out", {})


def test_a_stopped_restoration_goes_on_and_ends_with_the_same_bytes(made, residuals, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    real, shards = workflow.write_shard, []

    def some(*arguments, **options):
        if len(shards) in (0, 3, 8):
            shards.append("stopped")
            raise StoppedError
        shards.append("written")
        return real(*arguments, **options)

    monkeypatch.setattr(workflow, "write_shard", some)
    for _ in range(3):
        with pytest.raises(StoppedError):
            restore(residuals, tmp_path / "out", {"folder": str(made.root)})
        assert not (tmp_path / "out/MANIFEST.json").exists()
    restore(residuals, tmp_path / "out", {"folder": str(made.root)})
    assert shards.count("written") == 16 and published(tmp_path / "out") == published(made.folder)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert restore(residuals, tmp_path / "out", {"folder": str(made.root)}).images == 28
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()
    } == stamps
