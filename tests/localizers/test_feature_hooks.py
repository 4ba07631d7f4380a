"""Features are copies in the order they are computed, and reading them leaves nothing behind."""

import pytest
import torch
from torch import nn

from afbench.localizers.feature_hooks import collect_outputs


@pytest.fixture
def network():
    torch.manual_seed(0)
    branches = nn.ModuleDict({"late": nn.Conv2d(4, 2, 1), "early": nn.Conv2d(3, 4, 3), "idle": nn.Identity()})
    branches["act"] = nn.ReLU(inplace=True)

    def forward(image):
        return branches["act"](branches["late"](branches["act"](branches["early"](image))))

    branches.forward = forward
    return branches


@pytest.fixture
def image():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_outputs_come_in_the_order_they_are_computed_not_named(network, image):
    maps = collect_outputs(network, ("late", "act", "early"), lambda: network(image))
    assert [one.shape[1] for one in maps] == [4, 4, 2, 2]  # act is called twice


def test_outputs_are_as_they_were_before_what_works_in_place(network, image):
    (found,) = collect_outputs(network, ("early",), lambda: network(image))
    assert torch.equal(found, network["early"](image)) and found.min() < 0


def test_gradients_reach_the_image(network, image):
    for found in collect_outputs(network, ("early", "act", "late"), lambda: network(image)):
        (slope,) = torch.autograd.grad(found.sum(), image, retain_graph=True)
        assert slope.abs().sum() > 0


def test_every_part_of_a_list_is_given():
    class Pair(nn.Module):
        def forward(self, image):
            return [image, 2 * image]

    network = nn.Sequential(Pair())
    assert len(collect_outputs(network, ("0",), lambda: network(torch.zeros(1)))) == 2


def test_no_hook_stays_even_after_an_error(network, image):
    with pytest.raises(RuntimeError):
        collect_outputs(network, ("early", "late"), lambda: network(image[:, :2]))
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(AttributeError, match="nowhere"):
        collect_outputs(network, ("early", "nowhere"), lambda: network(image))
    assert not any(module._forward_hooks for module in network.modules())
