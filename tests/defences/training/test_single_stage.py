"""Training in one stage: what it touches, that a stopped run goes on bit by bit, and what it refuses."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from afbench.core import AfbenchError, UsageError
from afbench.defences.hardening.hardening_loss import Hardening, hardening_loss
from afbench.defences.training.pairs import Share
from afbench.defences.training.processes import Processes, join_processes
from afbench.defences.training.run_files import RunFiles
from afbench.defences.training.single_stage import Schedule, train_single_stage
from afbench.defences.training.stage import TrainingOptions
from afbench.defences.training.weights_file import read_tensors
from afbench.files import commit_bytes
from afbench.work_progress import Progress


class RandomPairs:
    """Eight pairs in groups of two, attacked by random noise."""

    def __init__(self):
        draw = torch.Generator().manual_seed(1)
        self.images = torch.rand(8, 3, 40, 36, generator=draw)
        self.groups = [f"scene{index // 2}" for index in range(8)]

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = self.images[index]
        return {
            "original": image,
            "adversarial": (image + 0.02).clamp(0, 1),
            "mask": (image[:1] > 0.6).float(),
        }


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))


SCHEDULE = Schedule(epochs=3, lr=1e-2, batch=2, side=32, validation=0.25)
CARD = {
    "format": "test-1",
    "settings": {"seed": 0},
    "localizer": {"name": "tiny"},
    "data": {},
    "processes": 1,
}


def run(
    out,
    *,
    net=None,
    loss=None,
    schedule=SCHEDULE,
    commit=commit_bytes,
    card=CARD,
    processes=None,
    batch_statistics=False,
    **options,
):
    net = net or network().eval()
    settings = Hardening(penalty=0.1)

    def hardening(batch, draws):
        noise = torch.rand(batch.attacked.shape, generator=draws) / 100
        return hardening_loss(net, batch._replace(attacked=batch.attacked + noise), settings)

    return train_single_stage(
        RandomPairs(),
        net,
        loss or hardening,
        schedule,
        RunFiles(out, card, commit, processes or join_processes("cpu")),
        TrainingOptions(**options),
        name="both",
        batch_statistics=batch_statistics,
    )


def same(first, second):
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Stopped(Exception):
    pass


def stopping_after(writes):
    seen = []

    def commit(path: Path, data: bytes) -> str:
        if path.stem == "state":
            seen.append(path)
            if len(seen) > writes:
                raise Stopped
        return commit_bytes(path, data)

    return commit


def rows(out):
    with (out / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_training_lowers_the_loss_and_leaves_normalisation_alone(tmp_path):
    card = run(tmp_path)
    found = [float(row["validation"]) for row in rows(tmp_path)]
    assert found[-1] < found[0] and card["validation_loss"] == min(found)
    assert card["images"] == {"train": 6, "validation": 2} and card["format"] == "test-1"
    before, after = network().state_dict(), load_file(tmp_path / "last.safetensors")
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert not (tmp_path / "state.safetensors").exists()


def test_a_new_network_learns_its_normalisation(tmp_path):
    net = network()
    loss = lambda batch, draws: net(batch.original).mean((1, 2, 3)) ** 2  # noqa: E731
    run(tmp_path, net=net, loss=loss, batch_statistics=True)
    assert int(load_file(tmp_path / "last.safetensors")["1.num_batches_tracked"]) == 9


@pytest.mark.reliability("R17")
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    run(tmp_path / "whole", save_every=1)
    for writes in (2, 1, 3):  # in the middle of an epoch and at its end
        with pytest.raises(Stopped):
            run(tmp_path / "parts", save_every=1, commit=stopping_after(writes))
    run(tmp_path / "parts", save_every=1)
    for name in ("best", "last"):
        assert same(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "parts" / f"{name}.safetensors")
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_a_run_that_an_earlier_version_left_after_its_last_epoch_is_finished_without_another(tmp_path):
    run(tmp_path / "whole")

    def commit(path, data):
        if path.name == "last.json" and b'"finished"' in data:
            raise Stopped
        return commit_bytes(path, data)

    with pytest.raises(Stopped):
        run(tmp_path / "parts", commit=commit)
    path = tmp_path / "parts" / "state.safetensors"
    tensors, header = read_tensors(path)
    header["progress"] |= {"stage": 0, "epoch": SCHEDULE.epochs}
    save_file(tensors, path, metadata={"afbench": json.dumps(header)})
    advanced = []
    card = run(tmp_path / "parts", hooks=Progress(advance=advanced.append))
    assert not advanced and card["epoch"] <= SCHEDULE.epochs and not path.exists()
    assert same(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")


def test_a_state_that_cannot_be_gone_on_from_is_refused_in_one_line(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, save_every=1, commit=stopping_after(2))
    path = tmp_path / "state.safetensors"
    tensors, header = read_tensors(path)
    del tensors["network.0.weight"]
    save_file(tensors, path, metadata={"afbench": json.dumps(header)})
    with pytest.raises(
        UsageError, match=r"state.safetensors' is damaged .*; remove it to train anew$"
    ) as damaged:
        run(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"^training checkpoint '.*state.safetensors' cannot be read") as cut:
        run(tmp_path)
    assert "\n" not in str(damaged.value) + str(cut.value)


def test_a_finished_run_is_not_done_again(tmp_path):
    card = run(tmp_path)
    started = []
    assert run(tmp_path, hooks=Progress(start=lambda total, done: started.append(total))) == card
    assert started == []


def test_progress_counts_every_image_once(tmp_path):
    told = []
    run(
        tmp_path,
        hooks=Progress(start=lambda total, done: told.append((total, done)), advance=told.append),
    )
    assert told[0] == (18, 0) and sum(told[1:]) == 18


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    net, count = network().eval(), []

    def loss(batch, draws):
        count.append(1)
        return net(batch.original).mean((1, 2, 3)) * (float("nan") if len(count) > 5 else 1.0)

    told = r"the loss is nan in stage both, epoch 2 of 3, step 2 .*last\.safetensors' \(stage both, epoch 1\)"
    with pytest.raises(AfbenchError, match=told) as problem:
        run(tmp_path, net=net, loss=loss)
    assert "\n" not in str(problem.value) and problem.value.exit_code == 1
    assert all(torch.isfinite(one).all() for one in load_file(tmp_path / "last.safetensors").values())


def test_another_training_or_several_processes_are_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(UsageError, match="holds a training with another settings seed"):
        run(tmp_path, card={**CARD, "settings": {"seed": 1}})
    accelerator = SimpleNamespace(wait_for_everyone=lambda: None)
    two = Processes(torch.device("cpu"), Share(0, 2), accelerator)
    with pytest.raises(UsageError, match="runs on one device"):
        run(tmp_path / "new", processes=two)
