"""What the configs of a folder must agree on: refused when one joins, named by verify, and no obstacle to what is old."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from afbench.core import AfbenchError, UsageError
from afbench.defences import load_defence
from afbench.defences.names import defence_names
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.scoring.truth import open_truth
from afbench.storage.agreement import Fact, bare_name, disagreements
from afbench.storage.run_folder import has_records
from afbench.storage.verify import verify
from afbench.workflows.adaptive import defended_name
from afbench.workflows.generation import prepare as ready
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

RANDOM = Options(checkpoint="random")
FGSM, NOISE = expand_attack("fgsm", phi=["1/255"]), expand_attack("noise", phi=["1/255"])


def plan(root: Path, settings: Any, *, source: str = "folder", **given: Any) -> RunPlan:
    spec = SourceSpec(source, str(root) if source == "folder" else None)
    return RunPlan("test", (Block(("reference",), (spec,), tuple(settings)),), **{"limit": 1, **given})


@pytest.fixture
def made(photographs: Path, tmp_path: Path) -> Path:
    generate(plan(photographs, FGSM), tmp_path / "out", RANDOM)
    return tmp_path / "out"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add a config as versions did that compared nothing."""

    def add(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ready, "disagreements", lambda hows: iter(()))
            generate(*arguments)

    return add


CASES: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"checkpoint": None}, "weights of 'reference' is ", "another --localizer-name or another --out"),
    ({}, {"precision": "bf16"}, "precision of 'reference' is fp32 .* bf16", "--precision fp32 or another --localizer"),
    ({}, {"compile": True}, "compile of 'reference' is false .* true", "no --compile or"),
    ({"seed": 7}, {}, "seed is 0 in config reference-fgsm-1 and 7 in reference-noise-1", "--seed 0 or another --out"),
    ({}, {"checkpoint": None, "through_defence": "jpeg"}, "weights of 'reference'", "another --localizer-name"),
    ({"source": "synthetic"}, {"attack_at": "model"}, "attack-at is native .* model", "--attack-at native or"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "options", "said", "remedy"),
    CASES,
    ids=["weights", "precision", "compile", "seed", "behind", "size"],
)
def test_another_attack_joins_only_if_it_is_made_as_the_folder_is(
    photographs: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    options: dict[str, Any],
    said: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: None)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    with pytest.raises(UsageError, match=said) as raised:
        generate(plan(photographs, NOISE, **asked), made, replace(RANDOM, **options))
    assert remedy in str(raised.value) and raised.value.exit_code == 2
    assert "\n" not in str(raised.value) and "cannot hold config" in str(raised.value)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert verify(made) == []


def test_another_name_may_have_other_weights_and_precision(photographs: Path, made: Path) -> None:
    generate(plan(photographs, NOISE), made, Options(localizer_name="trained", precision="bf16"))
    generate(plan(photographs, NOISE), made, replace(RANDOM, image_format="png", batch_size=1))
    assert verify(made) == [] and set(open_truth(made).weights) == {"reference", "trained"}


def test_two_localizers_of_one_plan_that_configs_call_alike_are_refused(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from afbench.localizers.reference import build as make\n\ndef build(checkpoint, device):\n    return make({}, device)\n"
    for name, checkpoint in (("own_net", "'random'"), ("own__net", "None")):
        (tmp_path / f"{name}.py").write_text(text.format(checkpoint))
    monkeypatch.syspath_prepend(tmp_path)
    blocks = tuple(
        Block((f"{name}:build",), (SourceSpec("folder", str(photographs)),), tuple(settings))
        for name, settings in (("own_net", FGSM), ("own__net", NOISE))
    )
    with pytest.raises(UsageError, match="weights of 'own_net_build'"):
        generate(RunPlan("test", blocks, limit=1), tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_not_finished_binds_as_a_finished_one(
    photographs: Path, tmp_path: Path, on_gradients: Callable[..., None]
) -> None:
    options = replace(RANDOM, shard_size=1)

    def stop(gradients: int) -> None:
        if has_records(tmp_path, config="reference-fgsm-1"):
            raise KeyboardInterrupt

    on_gradients(stop)
    with pytest.raises(KeyboardInterrupt):
        generate(plan(photographs, FGSM, limit=3), tmp_path, options)
    on_gradients(lambda images: None)
    with pytest.raises(UsageError, match=r"seed is 0 in config reference-fgsm-1 and 1 in reference-noise-1"):
        generate(plan(photographs, NOISE, limit=3, seed=1), tmp_path, options)
    generate(plan(photographs, NOISE, limit=3), tmp_path, options)


def test_verify_names_what_disagrees_and_an_old_folder_goes_on(
    afbench: Any, photographs: Path, made: Path, unchecked: Callable[..., None]
) -> None:
    unchecked(plan(photographs, NOISE, seed=7), made, RANDOM)
    (problem,) = verify(made, level="deep")
    assert problem.path == "manifests/reference-noise-1.json" and "seed is 0" in problem.message
    ran = afbench("verify", made)
    assert ran.code == 1 and "seed is 0 in config reference-fgsm-1 and 7 in reference-noise-1" in ran.out
    assert afbench("stats", made).code == 0
    open_truth(made)
    # either seed may go on; a third may not
    for seed in (0, 7):
        asked = plan(photographs, expand_attack("fgsm", phi=[f"{2 + seed % 2}/255"]), seed=seed)
        assert generate(asked, made, RANDOM).gradients == 1
    with pytest.raises(UsageError, match="seed is 0"):
        generate(plan(photographs, expand_attack("bim", phi=["1/255"]), seed=3), made, RANDOM)


def test_two_networks_under_one_name_are_parted_by_an_export(
    afbench: Any, photographs: Path, made: Path, unchecked: Callable[..., None], tmp_path: Path
) -> None:
    unchecked(plan(photographs, NOISE), made, Options())
    assert {"weights", "manifests/reference-noise-1.json"} <= {
        word for problem in verify(made) for word in (problem.message.split()[1], problem.path)
    }
    with pytest.raises(AfbenchError, match=r"two networks as .reference.*afbench export"):
        open_truth(made)
    ran = afbench("export", made, "--to", "parquet", "--config", "reference-noise-1", "--out", "apart")
    assert ran.code == 0, ran.err
    assert verify(tmp_path / "apart") == [] and set(open_truth(tmp_path / "apart").weights) == {"reference"}


def test_a_damaged_manifest_is_one_line(afbench: Any, photographs: Path, made: Path) -> None:
    path = made / "manifests" / "reference-fgsm-1.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"how": manifest["how"] | {"defence": "jpeg"}}))
    ran = afbench(
        "generate", "--localizer", "reference", "--attack", "noise", "--source", f"folder:{photographs}",
        "--limit", "1", "--checkpoint", "random", "--out", made,
    )  # fmt: skip
    assert ran.code == 1 and "reference-fgsm-1 is damaged" in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("text", [name for name in defence_names() if name != "nrp"])
def test_the_bare_localizer_of_a_composite_name_is_found(text: str) -> None:
    defence = load_defence(text, localizer="reference")
    how = {"localizer": {"name": defended_name("mvss_jpeg_75", defence)}, "defence": defence.describe()}
    assert bare_name(how) == "mvss_jpeg_75"
    assert bare_name({"localizer": {"name": "mvss_jpeg_75"}}) == "mvss_jpeg_75"


def test_the_first_value_stands_and_each_other_is_named_once() -> None:
    hows = {f"c{number}": {"localizer": {"name": "a"}, "seed": seed} for number, seed in enumerate("00121")}
    found = [(one.fact, one.config, one.value, one.first_config) for one in disagreements(hows)]
    assert found == [(Fact("", "seed"), "c2", "1", "c0"), (Fact("", "seed"), "c3", "2", "c0")]
