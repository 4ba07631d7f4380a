"""The weights that are kept stand in for those that are trained only while they are judged."""

from types import SimpleNamespace

import torch
from torch import nn

from afbench.defences.training.pairs import Share
from afbench.defences.training.processes import Processes
from afbench.defences.training.training_run import kept_weights_in_place


def test_averaged_weights_are_judged_and_the_trained_ones_come_back():
    network = nn.Linear(2, 1)
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    average = [value + 1 for value in trained.values()]
    files = SimpleNamespace(processes=Processes(torch.device("cpu"), Share(), None))
    run = SimpleNamespace(network=network, averaged=average, files=files)
    with kept_weights_in_place(run):
        judged = [value.clone() for value in network.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(judged, average, strict=True))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in trained.items())
