"""What a plan will take: published counts, what is done already, and a short measurement."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afbench.core import ReadOptions, UsageError
from afbench.engine.measure import GPU_KIB_AT_ONCE, PIXELS_AT_ONCE, batch_size_for
from afbench.localizers import load_localizer
from afbench.localizers.load import known_localizers, recipe
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack, read_plan
from afbench.plans.cost import (
    CPU_PIXELS_AT_ONCE,
    PEAK_TERAFLOPS,
    SHARD_PIXELS,
    Speed,
    batch_bytes,
    gigaflops,
    gpu_hours,
    host_bytes,
    localizer_cost,
    measured_seconds,
    suggested_batch,
    workloads,
)
from afbench.plans.cost import GPU_KIB_AT_ONCE as PLANNED_KIB
from afbench.storage.shards import MAX_SHARD_BYTES
from afbench.workflows.planning import calibrate as module
from afbench.workflows.planning.calibrate import calibrate
from afbench.workflows.planning.forecast import forecast_plan, remaining_workloads

MEASURED_PEAKS = [
    (128 * 128, 64, 1.13e9),
    (512 * 512, 8, 1.37e9),
    (2000 * 1500, 1, 4.08e9),
    (4000 * 3000, 1, 13.13e9),
]
"""Pixels, images, and the peak of `afbench generate --localizer reference --attack fgsm` on two cores, in bytes; torch 2.14.1,
an AMD EPYC, 2026-11-26."""


def small(*settings, limit=2, localizer="reference", source="demo"):
    return RunPlan("small", (Block((localizer,), (SourceSpec(source, None),), settings),), limit=limit)


PLAN = small(*expand_attack("fgsm"), *expand_attack("pgd", phi=["1/255"]), *expand_attack("cw", steps=[3, 5]))


@pytest.mark.parametrize("name", known_localizers())
def test_published_costs_agree_with_the_localizers(name):
    cost = localizer_cost(name)
    if name == "reference":
        network = load_localizer(name).network
        assert cost.parameters == sum(one.numel() for one in network.parameters())
        assert not cost.resizes
        return
    found = recipe(name)
    assert (cost.side if cost.resizes else None) == (found.side or found.canvas)
    assert cost.kib_per_pixel == found.kib_per_pixel


@pytest.mark.parametrize("side", [64, 128, 200, 256, 1024])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_suggested_batch_is_the_engine_s_own_rule(side, device):
    assert (CPU_PIXELS_AT_ONCE, PLANNED_KIB) == (PIXELS_AT_ONCE, GPU_KIB_AT_ONCE)
    expected = batch_size_for(load_localizer("reference"), (side, side), device, None)
    assert suggested_batch(localizer_cost("reference"), side * side, device) == expected


def test_arithmetic_grows_with_the_image_only_where_the_network_does_not_resize():
    mvss, ifosn = localizer_cost("mvss"), localizer_cost("ifosn")
    once = {"gradients": 1, "forwards": 0}
    assert mvss.gigaflops(100 * 100, **once) == mvss.gigaflops(2000 * 2000, **once) == 671.5
    assert ifosn.gigaflops(512 * 512, **once) == pytest.approx(641, rel=0.01)
    assert ifosn.gigaflops(896 * 896, **once) == pytest.approx(1962, rel=0.01)


def test_a_load_counts_gradients_and_scoring_of_every_image():
    (load,) = workloads(PLAN)
    assert (load.images, load.pixels, load.settings) == (2, 128 * 128, 6)
    assert (load.gradients_naive, load.gradients_shared, load.forwards) == (3 + 10 + 8, 1 + 10 + 5, 7)
    assert gigaflops(load) == pytest.approx(2 * (16 * 2.4 + 7 * 1.2) / 4)


def test_hours_of_a_gpu_are_a_range_that_falls_with_precision():
    hours = gpu_hours(67_000 * 3600)
    assert hours["fp32"] == pytest.approx((2, 10))
    assert list(hours) == list(PEAK_TERAFLOPS)
    assert hours["fp32"][0] > hours["tf32"][0] > hours["bf16"][0]


def test_the_paper_s_grid_takes_gpu_days_in_fp32_as_its_arithmetic_says():
    only_mvss = [load for load in workloads(read_plan("ansm-table3")) if load.localizer == "mvss"]
    total = sum(gigaflops(load) for load in only_mvss)
    assert total == pytest.approx(3410 * (1535 * 671.5 + 21 * 332.4) + 5123 * (671.5 + 2 * 332.4))
    low, high = gpu_hours(total)["tf32"]
    assert low < 6 < high


def test_measured_seconds_scale_with_images_gradients_and_pixels():
    (load,) = workloads(PLAN)
    speed = Speed("reference", 64 * 64, 0.01, 0.002, 0.001, 1.0, 10, False)
    found = measured_seconds(load, speed)
    assert found.network == pytest.approx(4 * 2 * (16 * 0.01 + 7 * 0.002))
    assert found.keep == pytest.approx(4 * 2 * 7 * 0.001)


def test_a_network_that_resizes_costs_the_same_for_any_image():
    (load,) = workloads(small(*expand_attack("fgsm", phi=["1/255"]), localizer="mvss"))
    speed = Speed("mvss", 64 * 64, 1.0, 0.5, 0.001, 1.0, 10, True)
    assert measured_seconds(load, speed).network == pytest.approx(2 * (1.0 + 2 * 0.5))


def test_nothing_is_made_up_for_a_localizer_of_ones_own(tmp_path):
    plan = small(*expand_attack("fgsm"), localizer="mine:build")
    forecast = forecast_plan(plan, tmp_path / "out")
    assert (
        forecast.gigaflops is None
        and forecast.gpu_hours is None
        and set(forecast.limited_by.values()) == {None}
    )
    assert forecast.blocks[0].gradients_total == 2


def test_what_is_published_is_not_counted_again(made, tmp_path):
    settings = (*expand_attack("fgsm", phi=["1/255", "2/255", "3/255"]), *expand_attack("cw", steps=[2]))
    spec = SourceSpec("folder", str(made.root))
    plan = RunPlan("again", (Block(("reference",), (spec,), settings),))
    before = sorted(made.folder.rglob("*"))
    forecast = forecast_plan(plan, made.folder)
    assert (forecast.done.configs_done, forecast.done.configs_left, forecast.done.gradients_left) == (3, 1, 5)
    (load,) = forecast.workloads
    assert (load.images, load.settings, load.gradients_shared) == (5, 1, 1)
    assert forecast.blocks[0].gradients_total == 15  # the whole plan, as before
    assert sorted(made.folder.rglob("*")) == before
    assert forecast_plan(plan, tmp_path / "new").done is None and not list(tmp_path.iterdir())
    finished = RunPlan("again", (Block(("reference",), (spec,), settings[::2]),))
    assert forecast_plan(finished, made.folder).gigaflops == 0


def test_the_size_of_images_is_read_from_the_headers_of_a_copy(tmp_path):
    for folder, shape in (("images", (120, 180, 3)), ("masks", (120, 180))):
        (tmp_path / folder).mkdir()
        for name in "abc":
            Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / folder / f"{name}.png")
    for max_side, pixels in ((None, 120 * 180), (180, 120 * 180), (90, 60 * 90)):
        spec = SourceSpec("folder", str(tmp_path), read=ReadOptions(max_side=max_side))
        (load,) = forecast_plan(
            RunPlan("sizes", (Block(("reference",), (spec,), expand_attack("fgsm")),)), tmp_path / "out"
        ).workloads
        assert (load.images, load.pixels) == (3, pixels)


def test_an_image_that_was_not_seen_has_no_more_pixels_than_its_longer_side_allows(tmp_path):
    spec = SourceSpec("columbia", read=ReadOptions(max_side=90))
    plan = RunPlan("sizes", (Block(("reference",), (spec,), expand_attack("fgsm")),))
    (load,) = forecast_plan(plan, tmp_path / "out").workloads
    assert load.pixels == 90 * 90


def test_a_disk_that_is_too_small_is_what_limits(tmp_path, monkeypatch):
    assert forecast_plan(PLAN, tmp_path).limited_by == {"cpu": "gradients", "cuda": "encoding"}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert set(forecast_plan(PLAN, tmp_path).limited_by.values()) == {"disk"}


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="no benchmark"):
        forecast_plan(PLAN, tmp_path)


def test_a_calibration_times_every_localizer_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    speeds = calibrate(PLAN, remaining_workloads(PLAN, tmp_path / "out"), seconds=0.3, say=said.append)
    (speed,) = speeds.values()
    assert speed.localizer == "reference" and speed.pixels == 128 * 128 and not speed.untrained
    assert min(speed.gradient_seconds, speed.score_seconds, speed.keep_seconds) > 0
    assert speed.gradients_timed >= 1 and "measuring reference on 128x128 images" in said[0]
    forecast = forecast_plan(PLAN, tmp_path / "out", speeds=speeds)
    seconds = measured_seconds(forecast.workloads[0], speed).total + speed.start_seconds
    assert forecast.hours == pytest.approx(seconds / 3600) and not list(tmp_path.iterdir())


def test_a_plan_without_gradients_can_be_calibrated(tmp_path):
    plan = small(*expand_attack("noise"))
    (speed,) = calibrate(plan, remaining_workloads(plan, tmp_path / "out"), seconds=0.1).values()
    assert speed.gradient_seconds == 0 and speed.gradients_timed == 0
    assert forecast_plan(plan, tmp_path / "out", speeds={"reference": speed}).hours > 0


def test_random_weights_stand_in_and_are_said_aloud(tmp_path, monkeypatch):
    reference = load_localizer("reference")

    def load(name, checkpoint=None, *, device):
        if checkpoint is None:
            raise UsageError("needs the weights")
        return reference

    monkeypatch.setattr(module, "load_localizer", load)
    plan = small(*expand_attack("fgsm", phi=["1/255"]), localizer="mvss")
    said = []
    calibrate(plan, remaining_workloads(plan, tmp_path / "out"), seconds=0.05, say=said.append)
    assert said[0] == "no weights of mvss here: measuring with random ones, which cost the same"


def test_what_is_done_is_not_measured(made):
    spec = SourceSpec("folder", str(made.root))
    plan = RunPlan("again", (Block(("reference",), (spec,), expand_attack("cw", steps=[2])),))
    assert calibrate(plan, remaining_workloads(plan, made.folder)) == {}


def test_main_memory_grows_with_the_images_held_and_the_settings_made_of_them():
    def host(number, *settings):
        return host_bytes(workloads(small(*settings, limit=number, source="synthetic"))[0])

    fgsm, bim = expand_attack("fgsm"), expand_attack("bim")
    few, many, both = host(8, *fgsm), host(64, *fgsm), host(64, *fgsm, *bim)
    assert few < many < both and host(6400, *fgsm) == many
    assert host(64, *fgsm, *bim, *expand_attack("pgd")) == both, "another group is made after it"


@pytest.mark.parametrize(("pixels", "images", "peak"), MEASURED_PEAKS)
def test_planned_memory_is_within_half_as_much_again_of_what_runs_took(pixels, images, peak):
    (load,) = workloads(
        small(*expand_attack("fgsm"), limit=images, source="synthetic"), pixels={"synthetic": pixels}
    )
    planned = host_bytes(load) + batch_bytes(localizer_cost("reference"), pixels, "cpu")
    assert peak / 1.5 <= planned <= peak * 1.5


def test_main_memory_grows_no_further_than_a_shard():
    def host(number):
        plan = small(*expand_attack("fgsm"), limit=number, source="synthetic")
        return host_bytes(workloads(plan, pixels={"synthetic": 12_000_000})[0])

    assert 4 * SHARD_PIXELS == MAX_SHARD_BYTES
    assert host(5) < host(10) == host(64)


@pytest.mark.parametrize("shortened", [expand_attack("cw"), expand_attack("pgn"), expand_attack("mifgsm")])
def test_probes_are_short_and_legal(shortened):
    probes = module._shortened(shortened)
    assert all(one.steps <= 2 for one in probes)
    assert len(probes) == (1 if shortened[0].attack == "cw" else 3)


def test_the_command_tells_programs_everything(afbench, made, tmp_path):
    arguments = ("plan", "--localizer", "reference", "--attack", "fgsm", "--source", f"folder:{made.root}")
    found = json.loads(afbench(*arguments, "--out", made.folder, "--json").out)
    assert found["gradients_per_image"] == {"naive": 3, "shared": 1}
    assert found["done"] == {"configs_done": 2, "configs_left": 1, "gradients_left": 5}
    assert found["loads"][0]["suggested_batch"]["cpu"] >= 1
    assert found["hours_calibrated"] is None and set(found["limited_by"]) == {"cpu", "cuda"}
    assert set(found["gpu_hours_uncalibrated"]) == {"fp32", "tf32", "bf16"}
    assert {"disk_bytes", "memory_bytes", "gigaflops"} <= found.keys()
    assert "2 configs done, 1 left (5 gradients)" in afbench(*arguments, "--out", made.folder).out
    grid = json.loads(afbench("plan", "--plan", "ansm-table3", "--json").out)
    per_image = [block["gradients_per_image"] for block in grid["blocks"]]
    assert per_image == [{"naive": 2043, "shared": 1535}, {"naive": 1, "shared": 1}]


def test_the_command_calibrates_on_request(afbench, monkeypatch, tmp_path):
    calls = []

    def stand_in(plan, left, *, device, precision, say):
        calls.append((device, precision))
        say("measuring")
        return {"reference": Speed("reference", 128 * 128, 0.5, 0.1, 0.01, 2.0, 10, False)}

    monkeypatch.setattr(module, "calibrate", stand_in)
    ran = afbench("plan", "--localizer", "reference", "--attack", "fgsm", "--limit", "1", "--calibrate")
    assert ran.code == 0 and calls == [("cpu", "fp32")] and "measuring" in ran.err
    line = next(line for line in ran.out.splitlines() if line.startswith("on cpu"))
    assert line.split()[2:] == ["3", "s", "(calibrated)"]
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.slow
def test_a_calibrated_plan_comes_close_to_the_truth(tmp_path):
    import time

    from afbench.workflows.generation.generate import generate
    from afbench.workflows.request import Options

    plan = small(*expand_attack("pgd"), *expand_attack("cw", steps=[50]), limit=6)
    estimates = []
    for _ in range(2):  # around the run, so that a busy machine is busy for both
        speeds = calibrate(plan, remaining_workloads(plan, tmp_path / "none"), seconds=10)
        estimates.append(3600 * forecast_plan(plan, tmp_path / "none", speeds=speeds).hours)
        if len(estimates) == 1:
            started = time.perf_counter()
            generate(plan, tmp_path / "out", Options())
            truth = time.perf_counter() - started
    assert 0.7 < sum(estimates) / 2 / truth < 1.4
