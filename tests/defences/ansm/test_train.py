"""Training: what it touches, that a stopped run goes on bit by bit, and what it refuses."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from afbench.core import AfbenchError, UsageError
from afbench.defences.ansm.checkpoint import load_ansm
from afbench.defences.ansm.noise_variation import attack_originals
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import AnsmStage, replace_settings
from afbench.defences.ansm.stage_loss import evenly, stage_loss
from afbench.defences.ansm.train import batch_rules
from afbench.defences.training.batches import training_batches
from afbench.defences.training.pairs import Share, split_by_group
from afbench.defences.training.stage import Moment
from afbench.defences.training.weights_file import read_tensors
from afbench.files import commit_bytes
from afbench.work_progress import Progress


def same(first, second):
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", ["pwr", "ffa", "mgr", "ffa+mgr"])
def test_every_loss_trains_and_says_what_it_did(run, tmp_path, loss):
    card = run(tmp_path / "out", loss=loss)
    with (tmp_path / "out" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    wanted = {"pwr": ["pwr"] * 2, "ffa": ["ffa"] * 2, "mgr": ["mgr"], "ffa+mgr": ["ffa", "ffa", "mgr"]}[loss]
    assert [row["stage"] for row in rows] == wanted
    assert all(float(row["loss"]) >= 0 and float(row["validation"]) >= 0 for row in rows)
    assert card["settings"]["loss"] == loss and card["stage"] == wanted[-1]
    assert card["images"] == {"train": 6, "validation": 2}
    assert json.loads((tmp_path / "out" / "best.json").read_text()) == card
    assert not (tmp_path / "out" / "state.safetensors").exists()


@pytest.mark.parametrize(("loss", "ffa_mask"), [("mgr", 0.0), ("ffa", 0.01)])
def test_the_mask_loss_of_a_step_has_the_dice_of_its_settings(localizer, pairs, tiny, loss, ffa_mask):
    (batch,) = list(
        training_batches(
            pairs, [0, 1], batch_rules(tiny(augment=()), 0), epoch=0, share=Share(), first=0, workers=0
        )
    )
    squares, plain = (
        stage_loss(loss, lambda image: image, localizer, batch, tiny(dice=dice, ffa_mask=ffa_mask))
        for dice in ("squares", "plain")
    )
    assert (squares < plain).all(), "P^2 <= P: with squares the coefficient is the larger one"


def test_dice_is_the_papers_in_its_presets_and_plain_in_the_shipped_one():
    assert preset("paper", "mvss").dice == preset("short", "reference").dice == "squares"
    assert preset("shipped", "reference").dice == "plain"


def without_a_setting(path, name):
    """Write a file anew as it was before the setting existed."""
    tensors, header = read_tensors(path)
    del header["settings"][name]
    save_file(tensors, path, metadata={"afbench": json.dumps(header)})


def test_a_training_from_before_dice_was_a_setting_goes_on_with_plain_sums_only(run, tmp_path):
    run(tmp_path / "whole", dice="plain")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", dice="plain", commit=stopping_after(2))
    for path in (tmp_path / "parts").glob("*.safetensors"):
        without_a_setting(path, "dice")
    with pytest.raises(UsageError, match=r"another settings dice \(plain, now squares\)"):
        run(tmp_path / "parts", dice="squares")
    run(tmp_path / "parts", dice="plain")
    assert same(tmp_path / "whole" / "best.safetensors", tmp_path / "parts" / "best.safetensors")


@pytest.mark.parametrize("loss", ["ffa", "mgr"])
def test_training_lowers_the_loss(run, tmp_path, loss):
    given = {"epochs": (5, 5), "lr": (3e-3, 3e-3), "average": 0.0, "augment": (), "validation": 0.0}
    run(tmp_path / "out", loss=loss, **given)
    with (tmp_path / "out" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["loss"]) < 0.95 * float(rows[0]["loss"])


@pytest.mark.parametrize("loss", ["pwr", "ffa", "mgr"])
def test_the_localizer_stays_as_it_is_and_gets_no_gradients(run, localizer, tmp_path, loss):
    before = {name: value.clone() for name, value in localizer.network.state_dict().items()}
    run(tmp_path / "out", loss=loss)
    after = localizer.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in localizer.network.parameters())
    assert not any(part.training for part in localizer.network.modules())


class Stopped(Exception):
    pass


def stopping_after(writes, name="state"):
    """A way to write files that fails at the given state, as a killed process would stop there."""
    seen = []

    def commit(path: Path, data: bytes) -> str:
        if path.stem == name:
            seen.append(path)
            if len(seen) > writes:
                raise Stopped
        return commit_bytes(path, data)

    return commit


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_stopped_run_goes_on_to_the_same_bits(run, tmp_path, schedule):
    given = {"save_every": 1, "schedule": schedule}
    run(tmp_path / "whole", **given)
    for writes in (2, 1, 3, 1):  # in the middle of an epoch, at its end, at the end of a stage, in the next
        with pytest.raises(Stopped):
            run(tmp_path / "parts", commit=stopping_after(writes), **given)
    run(tmp_path / "parts", **given)
    for name in ("best", "last"):
        assert same(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "parts" / f"{name}.safetensors")
    assert (tmp_path / "whole" / "log.csv").read_text() == (tmp_path / "parts" / "log.csv").read_text()
    cards = [json.loads((tmp_path / one / "best.json").read_text()) for one in ("whole", "parts")]
    assert cards[0] == cards[1]


def test_a_finished_run_is_not_done_again(run, tmp_path):
    card = run(tmp_path / "out")
    before = (tmp_path / "out" / "last.safetensors").stat().st_mtime_ns
    started = []
    assert run(tmp_path / "out", hooks=Progress(start=lambda total, done: started.append(total))) == card
    assert started == [] and (tmp_path / "out" / "last.safetensors").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(run, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(tmp_path / name, seed=seed, loss="pwr")
    last = [tmp_path / name / "last.safetensors" for name in "abc"]
    assert same(last[0], last[1]) and not same(last[0], last[2])


def test_readers_beside_the_training_change_nothing(run, tmp_path):
    run(tmp_path / "none", loss="pwr")
    run(tmp_path / "two", loss="pwr", workers=2)
    assert same(tmp_path / "none" / "last.safetensors", tmp_path / "two" / "last.safetensors")


def test_progress_counts_every_image_once_and_goes_on_where_it_stopped(run, tmp_path):
    told = []
    hooks = Progress(start=lambda total, done: told.append((total, done)), advance=told.append)
    with pytest.raises(Stopped):
        run(tmp_path / "out", save_every=1, hooks=hooks, commit=stopping_after(2))
    assert told[0] == (18, 0)
    told.clear()
    run(tmp_path / "out", save_every=1, hooks=hooks)
    assert told[0] == (18, 4) and sum(told[1:]) == 14


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(run, pairs, tmp_path):
    good = {}

    class Poisoned(type(pairs)):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            if "weights" in good:
                item["adversarial"] = item["adversarial"] * float("nan")
            return item

    def commit(path, data):
        if path.name == "last.safetensors":
            good["weights"] = data
        return commit_bytes(path, data)

    told = r"the loss is nan in stage ffa, epoch 2 of 2, step 1 .*last\.safetensors' \(stage ffa, epoch 1\)"
    with pytest.raises(AfbenchError, match=told) as problem:
        run(tmp_path / "out", data=Poisoned(), commit=commit)
    assert "\n" not in str(problem.value) and problem.value.exit_code == 1
    assert (tmp_path / "out" / "last.safetensors").read_bytes() == good["weights"]
    tensors, _ = read_tensors(tmp_path / "out" / "state.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values() if value.is_floating_point())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"batch": 3}, "another settings batch (2, now 3)"),
        ({"seed": 9}, "another settings seed (0, now 9)"),
        ({"card": {"localizer": {"name": "other"}, "data": {}, "processes": 1}}, "another localizer name"),
        (
            {
                "card": {
                    "localizer": {"name": "tiny"},
                    "data": {"configs": ["tiny-fgsm-3"]},
                    "processes": 1,
                    "start": "0" * 64,
                }
            },
            "another start",
        ),
    ],
)
def test_a_folder_of_another_training_is_refused_with_the_difference(run, tmp_path, given, told):
    run(tmp_path / "out", loss="pwr")
    with pytest.raises(UsageError) as problem:
        run(tmp_path / "out", **({"loss": "pwr"} | given))
    assert told in str(problem.value)


def test_a_folder_with_something_else_is_refused(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds something that is no training"):
        run(tmp_path / "out")


def test_a_localizer_without_features_is_told_of_mgr(run, localizer, tmp_path, monkeypatch):
    monkeypatch.setattr(type(localizer), "features", None)
    with pytest.raises(UsageError, match=r"shows no features for FFA.*--loss mgr"):
        run(tmp_path / "out")


def test_mgr_wants_the_mask_of_the_original_or_the_truth(localizer, pairs, tiny):
    (batch,) = list(
        training_batches(
            pairs, [0, 1], batch_rules(tiny(augment=()), 0), epoch=0, share=Share(), first=0, workers=0
        )
    )
    seen = {}
    for mask in ("predicted", "gt"):
        settings = tiny(mgr_mask=mask)
        seen[mask] = stage_loss("mgr", lambda image: image, localizer, batch, settings)
        other = batch._replace(mask=1 - batch.mask)
        changed_by_truth = not torch.equal(
            seen[mask], stage_loss("mgr", lambda image: image, localizer, other, settings)
        )
        assert changed_by_truth == (mask == "gt")


def test_ffa_hands_on_the_direction_and_pulls_attacked_to_original(localizer, pairs, tiny):
    (batch,) = list(
        training_batches(
            pairs, [0, 1], batch_rules(tiny(augment=()), 0), epoch=0, share=Share(), first=0, workers=0
        )
    )
    forward, back = (
        stage_loss("ffa", lambda image: image, localizer, batch, tiny(reverse=reverse))
        for reverse in (False, True)
    )
    assert (forward > 0).all() and (back > 0).all() and not torch.equal(forward, back)
    perfect = stage_loss("ffa", lambda image: batch.original, localizer, batch, tiny())
    assert perfect.abs().max() < 1e-9


def test_batches_do_not_depend_on_how_many_processes_share_them(pairs, tiny):
    rules = batch_rules(tiny(batch=4), 0)
    arguments = {"epoch": 1, "workers": 0}
    whole = list(training_batches(pairs, range(8), rules, share=Share(), first=0, **arguments))
    parts = [
        list(training_batches(pairs, range(8), rules, share=Share(rank, 2), first=1, **arguments))
        for rank in (0, 1)
    ]
    assert len(whole) == 2 and len(parts[0]) == 1
    for rank in (0, 1):
        assert torch.equal(whole[1].attacked[rank::2], parts[rank][0].attacked)


def test_crops_of_original_attacked_and_mask_are_the_same_place(pairs, tiny):
    for pair in (0, 3):
        pairs.masks[pair] = pairs.originals[pair, :1] > 0.5
    pairs.noise.zero_()
    settings = tiny(augment=("flip",))
    batches = training_batches(
        pairs, [0, 3], batch_rules(settings, 0), epoch=0, share=Share(), first=0, workers=0
    )
    for batch in batches:
        assert batch.original.shape == (2, 3, 32, 32)
        assert torch.equal(batch.mask, (batch.original[:, :1] > 0.5).float())
        assert torch.allclose(batch.attacked, batch.original)


@pytest.mark.parametrize(("fit", "side"), [("crop", 64), ("resize", 64), ("resize", 32)])
def test_images_of_any_size_come_to_the_training_size(pairs, tiny, fit, side):
    settings = tiny(fit=fit, side=side)
    (batch,) = list(
        training_batches(pairs, [0, 1], batch_rules(settings, 0), epoch=0, share=Share(), first=0, workers=0)
    )
    assert [tuple(one.shape[1:]) for one in batch] == [(3, side, side), (3, side, side), (1, side, side)]
    assert set(batch.mask.unique().tolist()) <= {0.0, 1.0}


def test_a_group_is_on_one_side_of_the_split():
    groups = [f"scene{index % 7}" for index in range(70)]
    parts = split_by_group(groups, 0.2, seed=0)
    assert not {groups[i] for i in parts.train} & {groups[i] for i in parts.validation}
    assert len(parts.validation) == 20 and sorted(parts.train + parts.validation) == list(range(70))
    assert split_by_group(groups, 0.2, seed=1) != parts
    assert split_by_group(groups, 0.0, seed=1).validation == []


def test_one_large_group_stays_in_training():
    groups = ["procedural"] * 50 + [f"photo{index // 5}" for index in range(50)]
    for seed in range(5):
        parts = split_by_group(groups, 0.1, seed)
        assert len(parts.validation) == 10 and "procedural" not in {groups[i] for i in parts.validation}


def test_one_group_cannot_be_split():
    with pytest.raises(UsageError, match=r"leaves nothing to train on.*--validation 0"):
        split_by_group(["scene"] * 4, 0.1, seed=0)


def test_layers_are_at_most_five_and_evenly_spaced():
    assert evenly(2, 5) == [0, 1]
    assert evenly(9, 5) == [0, 2, 4, 6, 8]


def test_the_presets_are_those_of_table_ii():
    table = {"ifosn": ("crop", 256, 1000, 20), "mvss": ("resize", 512, 200, 30)}
    table |= {"hdfnet": ("resize-antialiased", 256, 200, 10), "code": ("resize", 512, 200, 30)}
    for name, row in table.items():
        settings = preset("paper", name)
        assert (settings.fit, settings.side, *settings.epochs) == row
        assert settings.stages == (AnsmStage("ffa", row[2], 5e-4), AnsmStage("mgr", row[3], 1e-5))
        assert settings.encoder == "efficientnet_b4" and settings.augment == ()
        assert preset("short", name).epochs < settings.epochs
    assert preset("paper", "reference").encoder == "small"


@pytest.mark.parametrize(
    "given",
    [{"side": 8}, {"batch": 0}, {"epochs": (0, 1)}, {"lr": (1e-3, 2.0)}, {"loss": "x"}, {"augment": ("x",)}],
)
def test_settings_that_cannot_be_are_refused(given):
    with pytest.raises(UsageError, match=next(iter(given))):
        replace_settings(preset("paper", "mvss"), given)


def brighten(seen=None):
    """An attack that adds 8 levels, and one of random numbers."""

    def attack(image, truth, draws):
        assert image.shape[-2:] == truth.shape[-2:]
        if seen is not None:
            seen.append(image)
        jitter = torch.randint(0, 2, image.shape, generator=draws)
        return ((255 * image).round() + 8 + jitter).clamp(0, 255) / 255

    return attack


@pytest.mark.parametrize("recipe", ["paper", "find-write"])
def test_an_attack_made_at_every_step_goes_on_to_the_same_bits(run, tmp_path, recipe):
    given = {"recipe": recipe, "attack": "fgsm-3", "save_every": 1, "online": brighten()}
    run(tmp_path / "whole", **given)
    for writes in (2, 1):
        with pytest.raises(Stopped):
            run(tmp_path / "parts", commit=stopping_after(writes), **given)
    run(tmp_path / "parts", **given)
    assert same(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")
    assert load_ansm(tmp_path / "whole", localizer="tiny").trained_on == ("tiny-fgsm-3",)
    run(tmp_path / "stored", **given | {"attack": "", "online": None})
    assert not same(tmp_path / "whole" / "last.safetensors", tmp_path / "stored" / "last.safetensors")


def test_an_attack_made_at_every_step_meets_images_as_they_are_trained_on(pairs, tiny):
    settings = tiny(attack="fgsm-3", augment=("flip",))
    batches = training_batches(
        pairs, [0, 3], batch_rules(settings, 0), epoch=0, share=Share(), first=0, workers=0
    )
    for batch in batches:
        seen = []
        varied = attack_originals(batch, brighten(seen), settings, "mgr", Moment(0, 0, 0))
        assert torch.equal(seen[0], batch.original) and torch.equal(varied.original, batch.original)
        assert ((varied.attacked - batch.original) * 255 >= -0.51).all()


@pytest.mark.reliability("R17")
@pytest.mark.slow
def test_two_processes_train_and_resume_to_the_same_bits(tmp_path):
    script = Path(__file__).with_name("two_processes.py")
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    for arguments in ([tmp_path / "whole", "0"], [tmp_path / "parts", "3"], [tmp_path / "parts", "0"]):
        done = subprocess.run(
            [*launch, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.returncode == 0) == (arguments[1] == "0"), done.stderr[-3000:]
    for name in ("best", "last"):
        assert same(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "parts" / f"{name}.safetensors")
