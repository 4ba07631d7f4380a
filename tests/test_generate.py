"""A whole run, small: what is written, what is refused, what is left out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch import Tensor

from afbench.core import AfbenchError, ByteImage, PartialError, Setting, UsageError
from afbench.engine import judge, originals
from afbench.images import decode_stored, pixel_sha256
from afbench.localizers import load_localizer
from afbench.metrics import f1
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.sources import entry_reader
from afbench.storage.locks import locked
from afbench.storage.manifests import TOP, WORK, open_benchmark, read_json, shard_paths
from afbench.storage.schema import ATTACKED_COLUMNS, CLEAN_COLUMNS, arrow_schema
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify
from afbench.work_progress import Progress
from afbench.workflows.generation import generate as generate_module
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options

RANDOM = Options(checkpoint="random", shard_size=2)
FGSM = expand_attack("fgsm", phi=["1/255", "3/255"])
NOISE = expand_attack("noise", phi=["2/255"])
CW = expand_attack("cw", steps=[2, 4])


def _photographs(root: Path, sides: Sequence[tuple[int, int]] = ((32, 48), (48, 32), (32, 32))) -> Path:
    for number, (height, width) in enumerate(sides):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    return root


def _plan(root: Path | None, settings: Sequence[Setting], **given: Any) -> RunPlan:
    source = SourceSpec("folder", str(root)) if root else SourceSpec("synthetic")
    return RunPlan("test", (Block(("reference",), (source,), tuple(settings)),), **given)


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "deep" / "out"
    outcome = generate(_plan(root, [*FGSM, *NOISE, *CW]), out, RANDOM)
    assert (
        outcome.gradients == 3 * (1 + 4) and outcome.shards_written == 2 * 6 and not outcome.excluded_counts
    )
    return out


def test_a_run_lays_out_files_as_promised_and_closes_the_list(made: Path) -> None:
    configs = [f"reference-{name}" for name in ("fgsm-1", "fgsm-3", "noise-2", "cw-2", "cw-4")]
    shards = {
        f"data/{config}/folder-{number:05d}-of-00002.parquet"
        for config in ("clean", *configs)
        for number in range(2)
    }
    manifests = {f"manifests/{config}.json" for config in ("clean", *configs)}
    files = _tree(made)
    assert files.keys() == {"README.md", "LICENSE.md", TOP, *shards, *manifests}
    assert read_json(made / TOP)["files"].keys() == files.keys() - {TOP}
    assert verify(made) == []
    assert {path.name for path in (made / "log").iterdir()} <= {"lock", "run.jsonl"}
    assert next(json.loads(line)["event"] for line in (made / "log" / "run.jsonl").open()) == "start"


@pytest.mark.reliability("R16")
def test_a_manifest_says_everything_that_decides_the_pixels(made: Path) -> None:
    hashes = set()
    for name, manifest in open_benchmark(made).attacked.items():
        how = manifest.provenance
        assert manifest.config == name and len(manifest.config_hash) == 64
        assert how["localizer"]["untrained"] is True and len(how["localizer"]["weights_sha256"]) == 64
        assert how["seed"] == 0 and how["precision"] == "fp32" and how["rounding"]
        (setting,) = [one for one in (*FGSM, *NOISE, *CW) if name == f"reference-{one.attack}-{one.label}"]
        assert how["params"] == dict(setting.params) and how["steps"] == setting.steps
        assert how["phi"] == (str(setting.phi) if setting.phi else None)
        assert manifest.splits["folder"].software["libraries"]["torch"] != "absent"
        hashes.add(manifest.config_hash)
    assert len(hashes) == 5


@pytest.mark.reliability("R13")
@pytest.mark.reliability("R16")
def test_rows_carry_their_hashes_and_the_scores_of_their_bytes(made: Path) -> None:
    benchmark, localizer = open_benchmark(made), load_localizer("reference", "random")
    clean = {row["sample_id"]: row for row in read_rows(made, shard_paths(benchmark.configs["clean"]))}
    for name, manifest in benchmark.attacked.items():
        rows = list(read_rows(made, shard_paths(manifest)))
        assert [row["sample_id"] for row in rows] == ["photo0", "photo1", "photo2"]
        schema = pq.read_schema(made / shard_paths(manifest)[0])
        assert schema.equals(arrow_schema(ATTACKED_COLUMNS), check_metadata=True)
        for row in rows:
            image, mask = decode_stored(row["image"]), decode_stored(row["mask"])
            original = clean[row["sample_id"]]
            assert pixel_sha256(image) == row["image_sha256"] and pixel_sha256(mask) == row["mask_sha256"]
            assert (row["mask"], row["original_sha256"]) == (original["mask"], original["image_sha256"])
            assert name == f"{row['localizer']}-{row['attack']}-" + name.rsplit("-", 1)[1]
            pair = [decode_stored(original["image"]), image]
            before, after = judge(localizer, pair, [mask, mask], batch_size=1, device="cpu")
            assert tuple(after.counts) == tuple(row[key] for key in ("tp", "fp", "fn", "tn"))
            assert (row["f1_clean"], row["f1_adv"]) == (f1(before.counts), f1(after.counts))
            assert (row["loss_clean"], row["loss_adv"]) == pytest.approx((before.loss, after.loss), rel=1e-5)
    assert all(row.keys() == CLEAN_COLUMNS.keys() for row in clean.values())


def test_configs_and_sources_added_later_leave_the_earlier_shards_alone(root: Path, tmp_path: Path) -> None:
    generate(_plan(root, FGSM, limit=2), tmp_path, RANDOM)
    before = _tree(tmp_path)
    outcome = generate(_plan(root, [*FGSM, *CW], limit=2), tmp_path, RANDOM)
    assert outcome.gradients == 2 * 4 and outcome.shards_written == 2
    slower = expand_attack("cw", steps=[2], params={"lr": 0.01})
    outcome = generate(_plan(root, slower, limit=2), tmp_path, RANDOM)
    assert outcome.configs[0].startswith("reference-cw-2-") and outcome.gradients == 2 * 2
    generate(_plan(None, FGSM, limit=2), tmp_path, RANDOM)
    after = _tree(tmp_path)
    unchanged = [path for path in before if path.startswith("data/")]
    assert len(unchanged) == 3 and all(after[path] == before[path] for path in unchanged)
    assert list(open_benchmark(tmp_path).configs["reference-fgsm-1"].splits) == ["folder", "synthetic"]
    assert verify(tmp_path) == []


@pytest.mark.reliability("R2")
def test_a_finished_run_takes_no_gradient_and_touches_no_file(root: Path, made: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in made.rglob("*")}

    before = state()
    taken: list[int] = []
    outcome = generate(
        _plan(root, [*FGSM, *CW]), made, RANDOM, GenerateHooks(progress=Progress(advance=taken.append))
    )
    assert (outcome.gradients, outcome.shards_written, taken) == (0, 0, [])
    assert state() == before


@pytest.mark.parametrize(
    ("plan", "options", "said"),
    [
        ({"seed": 7}, {}, r"reference-fgsm-1 made differently \(seed: 0 -> 7\)"),
        ({}, {"precision": "bf16"}, r"precision: fp32 -> bf16"),
        (
            {},
            {"checkpoint": None},
            r"localizer.untrained: True -> False; localizer.weights_sha256: \w+ -> \w+",
        ),
        ({"limit": 2}, {}, "holds 3 samples of 'folder', and 2 are asked for"),
        ({}, {"shard_size": 3}, r"shard_size: 2 -> 3"),
    ],
    ids=["seed", "precision", "weights", "limit", "shard size"],
)
def test_the_same_config_made_differently_is_refused_with_the_difference_and_nothing_changes(
    root: Path, made: Path, plan: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    with pytest.raises(UsageError, match=said) as raised:
        generate(_plan(root, FGSM, **plan), made, replace(RANDOM, **options))
    assert raised.value.exit_code == 2
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_originals_that_changed_are_refused(made: Path, tmp_path: Path) -> None:
    other = _photographs(tmp_path, [(32, 48), (48, 32), (48, 48)])
    with pytest.raises(UsageError, match="source_sha256"):
        generate(_plan(other, FGSM), made, RANDOM)


@pytest.mark.parametrize("name", ["../up", "a b", "A", "clean.x", ".", "x/y"])
def test_a_localizer_name_that_is_no_file_name_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="--localizer-name"):
        generate(_plan(root, FGSM), tmp_path / "out", replace(RANDOM, localizer_name=name))
    assert not (tmp_path / "out").exists()


def test_a_plan_that_makes_one_config_in_two_ways_is_refused(root: Path, tmp_path: Path) -> None:
    plan = _plan(root, expand_attack("fgsm", phi=["2/255"]))
    near = Block(("reference",), (SourceSpec("synthetic"),), tuple(expand_attack("fgsm", phi=["0.0078431"])))
    with pytest.raises(UsageError, match="in two ways"):
        generate(replace(plan, blocks=(*plan.blocks, near), limit=1), tmp_path / "out", RANDOM)
    assert not (tmp_path / "out").exists()


@pytest.mark.reliability("R10")
def test_another_writer_of_the_folder_is_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afbench.storage.locks.WAIT_SECONDS", 0.2)
    with locked(tmp_path), pytest.raises(PartialError, match="is being written by process") as raised:
        generate(_plan(root, FGSM), tmp_path, RANDOM)
    assert raised.value.exit_code == 3


def _spoil(root: Path) -> dict[str, str]:
    """Add unusable samples; returns their ids with the reason each is left out for."""
    pixels = np.asarray(Image.open(root / "images" / "photo0.png"))
    grey = pixels[..., 0]
    images = root / "images"
    (images / "cut.png").write_bytes((images / "photo0.png").read_bytes()[:900])
    Image.fromarray(grey.astype(np.uint16) * 256).save(images / "deep.png")
    Image.fromarray(pixels).convert("CMYK").save(images / "print.tif")
    Image.fromarray(np.dstack([pixels, grey])).save(images / "alpha.png")
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    frames[0].save(images / "moving.png", save_all=True, append_images=frames[1:])
    Image.fromarray(pixels[:-3]).save(images / "short.png")
    for name in ("cut", "deep", "print", "alpha", "moving", "short"):
        (root / "masks" / f"{name}.png").write_bytes((root / "masks" / "photo0.png").read_bytes())
    modes = dict.fromkeys(("deep", "print", "alpha"), "unsupported_mode")
    return {"cut": "unreadable", **modes, "moving": "animated", "short": "size_mismatch"}


@pytest.mark.reliability("R6")
def test_unusable_samples_are_left_out_by_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    root, out = _photographs(tmp_path / "photographs"), tmp_path / "out"
    reasons = _spoil(root)
    said: list[str] = []
    outcome = generate(_plan(root, FGSM), out, RANDOM, GenerateHooks(progress=Progress(say=said.append)))
    counts = {reason: list(reasons.values()).count(reason) for reason in reasons.values()}
    assert outcome.excluded_counts == counts and len(said) == len(reasons)
    for manifest in open_benchmark(out).configs.values():
        shards = manifest.splits["folder"].shards
        assert {one["sample_id"]: one["reason"] for shard in shards for one in shard.excluded} == reasons
        assert sum(shard.rows for shard in shards) == 3
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(f"- {reason}: {count}\n" in card for reason, count in counts.items())
    assert verify(out) == [] and generate(_plan(root, FGSM), out, RANDOM).excluded_counts == counts


def test_a_source_without_one_usable_sample_fails_and_says_why(tmp_path: Path) -> None:
    root, out = _photographs(tmp_path / "photographs", [(32, 32)]), tmp_path / "out"
    (root / "images" / "photo0.png").write_bytes(b"no picture")
    with pytest.raises(AfbenchError, match=r"'folder' has no usable sample \(1 unreadable\)"):
        generate(_plan(root, [*FGSM, *CW]), out, RANDOM)
    summary = open_benchmark(out).configs["reference-cw-2"].splits["folder"].summary
    assert summary["n"] == 0 and summary["f1_adv"] is None
    assert verify(out) == [] and not (out / WORK).exists()


@pytest.mark.reliability("R10")
def test_a_run_that_waited_for_another_checks_the_folder_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, theirs = tmp_path / "out", replace(_plan(root, NOISE), seed=1)
    finished = generate_module.is_finished

    def let_another_finish(*asked: Any) -> bool:
        answer = finished(*asked)
        monkeypatch.setattr(generate_module, "is_finished", finished)
        generate(theirs, out, RANDOM)
        return answer

    monkeypatch.setattr(generate_module, "is_finished", let_another_finish)
    with pytest.raises(UsageError, match=r"made differently.*seed: 1 -> 0"):
        generate(_plan(root, NOISE), out, RANDOM)


def test_a_run_that_stored_no_shard_does_not_bind_the_next(root: Path, tmp_path: Path) -> None:
    def stop(gradients: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(_plan(root, FGSM, seed=1), tmp_path, RANDOM, GenerateHooks(progress=Progress(start=stop)))
    generate(_plan(root, FGSM, limit=2), tmp_path, RANDOM)
    how = open_benchmark(tmp_path).configs["reference-fgsm-1"].provenance
    assert how["seed"] == 0 and verify(tmp_path) == []


@pytest.mark.reliability("R4")
@pytest.mark.parametrize("listing", ['{"name": "my site"}', "no json", "[]"])
def test_a_folder_with_the_manifest_of_another_tool_is_left_alone(
    root: Path, tmp_path: Path, listing: str
) -> None:
    out = tmp_path / "site"
    out.mkdir()
    for name, text in (("MANIFEST.json", listing), ("README.md", "mine"), ("a.tmp.bak", "mine")):
        (out / name).write_text(text)
    before = _tree(out)
    with pytest.raises(UsageError, match="is no benchmark"):
        generate(_plan(root, FGSM), out, RANDOM)
    assert _tree(out) == before


def test_the_same_bad_files_give_the_same_manifests(root: Path, tmp_path: Path) -> None:
    bad = _photographs(tmp_path / "bad")
    (bad / "images" / "photo0.png").write_bytes(b"no picture")
    for name in ("one", "two"):
        generate(_plan(bad, NOISE), tmp_path / name, RANDOM)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")


@pytest.mark.reliability("R9")
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_running_out_of_memory_is_said_in_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*asked: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("afbench.workflows.generation.shard_run.start_settings", fail)
    with pytest.raises(AfbenchError, match="out of memory; lower --batch-size"):
        generate(_plan(root, FGSM), tmp_path, RANDOM)


def test_tf32_is_refused_where_there_is_none(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tf32 needs an NVIDIA GPU"):
        generate(_plan(root, FGSM), tmp_path / "out", replace(RANDOM, precision="tf32"))
    assert not (tmp_path / "out").exists()


def test_an_original_is_decoded_once_and_copied_to_the_device_once_for_all_its_attacks(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    copied: list[str] = []
    decode, copy = entry_reader.decode, originals.upload
    monkeypatch.setattr(
        entry_reader, "decode", lambda data, **given: decoded.append(data) or decode(data, **given)
    )

    def counted(levels: Sequence[ByteImage], device: str) -> list[Tensor]:
        copied.extend(pixel_sha256(array) for array in levels)
        return copy(levels, device)

    monkeypatch.setattr(originals, "upload", counted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = [*FGSM, *NOISE, *CW, *expand_attack("pgd", params={"steps": 1})]
    generate(_plan(root, settings), tmp_path / "out", RANDOM)
    assert len(decoded) == 3
    assert len(copied) == len(set(copied)) == 6  # three images and three masks
